"""Documents of an evaluation, aligned once: windows, units with their labels, and how long rationales are.

D documents; U tokens or words of a unit; W words of a document
"""

from __future__ import annotations

import math
import platform
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from numpy.typing import NDArray

import adapler
from adapler.eraser import EraserCorpus, EraserExample, misquoted_note, queries_differ
from adapler.options import record
from analysis.alignment import Window, WordTokens, align, is_judged, unit_labels, unit_slices, why_skipped
from analysis.corpus import annotator_facts, documents_of
from analysis.metrics import plausibility as pl
from analysis.metrics.plausibility import density_size, get_metric, select_top_k
from analysis.report import few_documents
from analysis.settings import Settings

MODERATE = (5, 80)  # rationale wordpieces of a document that is good to look at
CHUNK_TOKENS = 16384  # wordpieces that are scored before they are judged: what is in memory at a time
MEASURED = 200  # documents of another split that are looked at to learn how long its rationales are


@dataclass(eq=False)
class Document:
    """One document, aligned once.

    gold: the model's index of its label; windows: its model inputs; units: which windows are judged together, and the
    labels (U,) of their tokens or words; skipped: why it has no metrics, or None.
    """

    index: int
    example: EraserExample
    gold: int
    windows: tuple[Window, ...]
    coverage: dict[str, int]
    units: list[tuple[slice, NDArray[np.bool_]]]
    skipped: str | None = None

    @property
    def id(self) -> str:
        return self.example.id

    @property
    def tokens(self) -> int:
        return sum(len(window) for window in self.windows)

    @property
    def rationale_tokens(self) -> int:
        return sum(int(window.rationale.sum()) for window in self.windows)


class Plan:
    """The documents of an evaluation, aligned, and how long their rationales are.

    selection: size of a hard rationale of the k best tokens, k = ceil(density * n): mean share (density) and number
        (size) of rationale tokens, share of words of whole documents (word_density), and the split they are measured on
        (source): validation, else training, and the evaluated split itself only where no other has rationales; "given"
        for the option `density`.
    """

    def __init__(
        self,
        corpus: EraserCorpus,
        examples: Sequence[EraserExample],
        gold: Sequence[int],
        tokenizer: Any,
        settings: Settings,
    ) -> None:
        self.corpus, self.tokenizer, self.settings = corpus, tokenizer, settings
        self.with_query = queries_differ(corpus) if settings.queries == "auto" else settings.queries == "yes"
        self.documents = [self._document(i, *one) for i, one in enumerate(zip(examples, gold, strict=True))]
        self.n_windows = sum(len(document.windows) for document in self.documents)
        self.unscored = {d.index: self._why_skipped(d) for d in self.documents}
        for document in self.documents:
            document.skipped = self.unscored[document.index] if settings.needs_rationale else None
        judged = [self._judged(document) for document in self.documents]
        self.own = _sizes(self.documents, judged, source=settings.split)
        # AP is not defined where every token is rationale
        both = [[pl.expected_average_precision(int(u.sum()), len(u)) for u in units if not u.all()] for units in judged]
        self.chances = np.array([np.mean(one) if one else math.nan for one in both])  # (D,) AP of random scores
        scored = [document for document in self.documents if document.skipped is None]
        moderate = [d for d in scored if MODERATE[0] <= d.rationale_tokens <= MODERATE[1]]
        self.shown = {d.index for d in [*moderate, *(d for d in scored if d not in moderate)][: settings.examples]}

    def chunks(self) -> list[list[Document]]:
        """The documents, as many together as CHUNK_TOKENS hold."""
        chunks: list[list[Document]] = [[]]
        for document in self.documents:
            if chunks[-1] and sum(one.tokens for one in chunks[-1]) + document.tokens > CHUNK_TOKENS:
                chunks.append([])
            chunks[-1].append(document)
        return chunks

    def _document(self, index: int, example: EraserExample, gold: int) -> Document:
        how, length = self.settings, self.settings.max_length or 0
        found = align(example, self.tokenizer, max_length=length, truncation=how.truncation, with_query=self.with_query)
        parts = unit_slices(found.windows, truncation=how.truncation)
        units = [(part, unit_labels(found.windows[part], aggregation=how.aggregation)) for part in parts]
        return Document(index, example, gold, found.windows, found.coverage, units)

    def _why_skipped(self, document: Document) -> str | None:
        return why_skipped([labels for _, labels in document.units], all_rationale=self.settings.all_rationale)

    def _judged(self, document: Document) -> list[NDArray[np.bool_]]:
        """The labels of the units that have a rationale."""
        return [one for _, one in document.units if is_judged(one, all_rationale=self.settings.all_rationale)]

    @cached_property
    def measured(self) -> dict[str, Any]:
        """The size of rationales as it is measured, whatever density is given."""
        for split in ("val", "train"):
            if split in self.corpus.splits and split != self.settings.split:
                examples = documents_of(self.corpus, split, MEASURED)  # the same ones whatever the seed
                documents = [self._document(0, example, 0) for example in examples]
                sizes = _sizes(documents, [self._judged(document) for document in documents], source=split)
                if not math.isnan(sizes["density"]):
                    return sizes
        return self.own

    @property
    def selection(self) -> dict[str, Any]:
        given = self.settings.density
        return self.measured | ({} if given is None else {"density": given, "word_density": given, "source": "given"})

    @cached_property
    def unit_options(self) -> dict[str, float]:
        """Density and size of rationales, where a metric needs them; other splits are read only then."""
        if not any(get_metric(name).uses_density for name in self.settings.plain_metrics):
            return {}
        density = self.selection["density"]
        return {"density": 0.0 if math.isnan(density) else density, "size": self.selection["size"]}

    @cached_property
    def faithfulness_density(self) -> float | None:
        """Density for faithfulness at it, if requested and known."""
        asked = any(get_metric(name).uses_density for name in self.settings.faithfulness_metrics)
        return None if not asked or math.isnan(self.selection["density"]) else self.selection["density"]

    def hard_rationale(
        self, scores: NDArray[np.float64], document: str, share: float | None = None
    ) -> NDArray[np.bool_]:
        """(W,) the k best words of a document, k = share * W, the selection's density when none is given. Equal words
        are taken in a random order that depends on the seed and the document's id."""
        density = self.selection["word_density"] if share is None else share
        size = density_size(0.0 if math.isnan(density) else density, len(scores))
        return select_top_k(scores, size, seed=[self.settings.seed, zlib.crc32(document.encode())])

    def meta(self, notes: Sequence[str], *, writes: bool) -> dict[str, Any]:
        """The data and the settings; writes: whether rationales are written."""
        how, examples = self.settings, [document.example for document in self.documents]
        scored = sum(document.skipped is None for document in self.documents)
        whole, reasons = len(self.corpus.splits[how.split]), {str(d.skipped) for d in self.documents}
        limited = f"random sample of {len(examples)} of {whole} documents, labels balanced, seed {how.seed}"
        nothing = f"no document is scored, so that every value is undefined: {' or '.join(sorted(reasons))}"
        said = [limited if len(examples) < whole else None, few_documents(scored) if scored else nothing]
        said += [misquoted_note(self.corpus, how.split), *notes]
        if how.truncation == "rationale-windows":
            said.append("accuracy is of windows chosen by the gold rationale: no accuracy of documents")
        metrics = [get_metric(name) for name in how.metrics]
        by_density = how.as_eraser or writes or any(one.uses_density and not one.uses_size for one in metrics)
        own_size = {self.selection["source"]} if by_density else set()
        own_size |= {self.measured["source"]} if any(one.uses_size for one in metrics) else set()
        if how.split in own_size:
            said.append("the size of hard rationales is that of the evaluated split itself: no other has rationales")
        skipped = [len(d.units) - len(self._judged(d)) for d in self.documents if self.unscored[d.index] is None]
        people = annotator_facts(examples, how.annotators)
        hidden = ("metrics", "methods", "device", "token_budget", "examples", "rationale_layer", "speedup")
        coverage = pd.DataFrame([document.coverage for document in self.documents]).sum().astype(int)
        for name in ("", "rationale_"):
            seen = coverage[f"{name}words_in_view"] + coverage[f"{name}words_without_pieces"]
            coverage[f"{name}words_lost"] = coverage[f"{name}words"] - seen
        return {
            **{name: value for name, value in record(how).items() if name not in hidden},
            "data": {"name": self.corpus.name, "checksum": self.corpus.checksum},
            "tokens": "words" if isinstance(self.tokenizer, WordTokens) else "wordpieces",
            "coverage": {name: int(value) for name, value in coverage.items()},
            **({} if people is None else {"people": people}),
            "windows": {"total": self.n_windows, "skipped_in_scored_documents": sum(skipped)},
            "density": number_or_none(self.own["density"]),
            "chance_average_precision": number_or_none(mean_of(self.chances)),
            "selection": {name: number_or_none(value) for name, value in self.selection.items()} | {"split": how.split}
            if how.as_eraser or any(one.uses_density for one in metrics)
            else None,
            "notes": [note for note in said if note],
            "versions": {
                "adapler": adapler.__version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "python": platform.python_version(),
            },
        }


def _sizes(documents: Sequence[Document], judged: Sequence[list[NDArray[np.bool_]]], *, source: str) -> dict[str, Any]:
    """Mean share and number of rationale units, and share of words of whole documents, where there is a rationale."""
    rows = [
        (
            np.mean([unit.mean() for unit in units]),
            np.mean([unit.sum() for unit in units]),
            document.example.rationale().mean(),
        )
        for document, units in zip(documents, judged, strict=True)
        if units
    ]
    means = np.mean(rows, axis=0).tolist() if rows else [math.nan] * 3
    return dict(zip(("density", "size", "word_density"), means, strict=True)) | {"source": source}


def mean_of(values: NDArray[np.float64]) -> Any:
    """Mean over the first axis, NaN left out cell by cell; NaN where there is nothing."""
    total, n = np.nansum(values, axis=0), (~np.isnan(values)).sum(0)
    mean = np.divide(total, n, out=np.full(np.shape(total), np.nan), where=n > 0)
    return mean if mean.ndim else float(mean)


def number_or_none(value: Any) -> Any:
    """None for NaN, as JSON has it."""
    return None if isinstance(value, float) and math.isnan(value) else value
