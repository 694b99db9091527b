"""Attribution scores compared with human rationales: `evaluate`, and the command `python -m analysis.rationale_eval`.

M methods, L layers (L' of one method), D documents, K metrics; n wordpieces of a window, W words of a document, U
tokens or words of a unit
"""

from __future__ import annotations

import logging
import math
import platform
import shlex
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from numpy.typing import NDArray
from scipy.stats import rankdata
from tqdm import tqdm
from transformers import logging as transformers_logging

import adapler
from adapler.embedded import SAMPLE
from adapler.eraser import EraserCorpus, EraserExample, misquoted_note, queries_differ
from adapler.errors import ArgumentError
from adapler.flops import adapler_flops, backbone_flops
from adapler.inference import weights_checksum
from adapler.options import counted, load_plugins, option, parse, record, user_errors
from adapler.passes import check_finite
from adapler.system import check_writable_folder, is_main
from adapler.text import check_splits_words
from analysis import eraser, scoring
from analysis.corpus import (
    Window,
    WindowScores,
    WordTokens,
    align,
    default_data,
    documents_of,
    is_judged,
    layer_units,
    load_corpus,
    marked_units,
    readable_tokens,
    unit_labels,
    why_skipped,
)
from analysis.faithfulness import faithfulness_values
from analysis.figures.tokens import DocumentScores
from analysis.marks import annotator_facts, annotator_masks
from analysis.metrics import plausibility as pl
from analysis.report import RationaleReport, few_documents, header, write_text
from analysis.scores import ScoringMethod, get_methods
from analysis.scores.base import AT_INPUT, check_target
from analysis.scores.contribution import scores_of_removal
from analysis.scoring import ScoredWindow, Scorer, Settings, file_name

# ---- Documents, aligned

MODERATE = (5, 80)  # rationale wordpieces of a document that is good to look at
CHUNK_TOKENS = 16384  # wordpieces that are scored before they are judged: what is in memory at a time
MEASURED = 200  # documents of another split that are looked at to learn how long its rationales are


@dataclass(eq=False)
class Document:
    """One document, aligned once.

    gold: the model's index of its label; windows: its model inputs; units: which windows are judged together, and the
    labels (U,) of their tokens or words; judged: those that have a rationale; skipped: why it has no metrics, or None.
    """

    index: int
    example: EraserExample
    gold: int
    windows: tuple[Window, ...]
    coverage: dict[str, int]
    units: list[tuple[slice, NDArray[np.bool_]]]
    judged: list[NDArray[np.bool_]]
    skipped: str | None

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
    """The documents of an evaluation, aligned, how long their rationales are, and what scores them: methods by the
    scorer, and given ones.

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
        scorer: Scorer,
        given: Sequence[eraser.Given] = (),
    ) -> None:
        self.corpus, self.scorer, self.settings = corpus, scorer, (settings := scorer.settings)
        self.given = {one.name: one for one in given}
        self.with_query = queries_differ(corpus) if settings.queries == "auto" else settings.queries == "yes"
        self.documents = [self._document(i, *one) for i, one in enumerate(zip(examples, gold, strict=True))]
        self.n_windows = sum(len(document.windows) for document in self.documents)
        self.own = _sizes(self.documents, source=settings.split)
        # AP is not defined where every token is rationale
        chance = pl.expected_average_precision
        both = [[chance(int(u.sum()), len(u)) for u in d.judged if not u.all()] for d in self.documents]
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
        options: dict[str, Any] = {"max_length": length, "truncation": how.truncation, "with_query": self.with_query}
        windows, coverage = align(example, self.scorer.tokenizer, **options)
        together = len(windows) if how.truncation == "all-windows" else 1  # windows that are judged as one unit
        parts = [slice(i, i + together) for i in range(0, len(windows), together)]
        units = [(part, unit_labels(windows[part], aggregation=how.aggregation)) for part in parts]
        judged = [one for _, one in units if is_judged(one, all_rationale=how.all_rationale)]
        reason = why_skipped([one for _, one in units], all_rationale=how.all_rationale)
        skipped = reason if how.needs_rationale else None
        return Document(index, example, gold, windows, coverage, units, judged, skipped)

    @cached_property
    def measured(self) -> dict[str, Any]:
        """The size of rationales as it is measured, whatever density is given."""
        for split in ("val", "train"):
            if split in self.corpus.splits and split != self.settings.split:
                examples = documents_of(self.corpus, split, MEASURED)  # the same ones whatever the seed
                sizes = _sizes([self._document(0, example, 0) for example in examples], source=split)
                if not math.isnan(sizes["density"]):
                    return sizes
        return self.own

    @property
    def selection(self) -> dict[str, Any]:
        given = self.settings.density
        return self.measured | ({} if given is None else {"density": given, "word_density": given, "source": "given"})

    @cached_property
    def unit_options(self) -> dict[str, Any]:
        """Of `layer_units`. Density and size of rationales only where a metric needs them: other splits are read."""
        options: dict[str, Any] = {"aggregation": self.settings.aggregation, "seed": self.settings.seed}
        if any(pl.get_metric(name).uses_density for name in self.settings.plain_metrics):
            density = self.selection["density"]
            options |= {"density": 0.0 if math.isnan(density) else density, "size": self.selection["size"]}
        return options

    @cached_property
    def faithfulness_density(self) -> float | None:
        """Density for faithfulness at it, if requested and known."""
        asked = any(pl.get_metric(name).uses_density for name in self.settings.faithfulness_metrics)
        return None if not asked or math.isnan(self.selection["density"]) else self.selection["density"]

    def hard_rationale(
        self, scores: NDArray[np.float64], document: str, share: float | None = None
    ) -> NDArray[np.bool_]:
        """(W,) the k best words of a document, k = share * W, the selection's density when none is given. Equal words
        are taken in a random order that depends on the seed and the document's id."""
        density = self.selection["word_density"] if share is None else share
        size = pl.density_size(0.0 if math.isnan(density) else density, len(scores))
        return pl.select_top_k(scores, size, seed=[self.settings.seed, zlib.crc32(document.encode())])

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
        metrics = [pl.get_metric(name) for name in how.metrics]
        by_density = how.as_eraser or writes or any(one.uses_density and not one.uses_size for one in metrics)
        own_size = {self.selection["source"]} if by_density else set()
        own_size |= {self.measured["source"]} if any(one.uses_size for one in metrics) else set()
        if how.split in own_size:
            said.append("the size of hard rationales is that of the evaluated split itself: no other has rationales")
        skipped = [len(d.units) - len(d.judged) for d in self.documents if d.judged]
        several = any(len(example.annotators) > 1 for example in examples)
        selects = how.as_eraser or any(one.uses_density for one in metrics)
        versions = {library.__name__: library.__version__ for library in (adapler, torch, transformers)}
        hidden = ("metrics", "methods", "device", "token_budget", "examples", "rationale_layer", "speedup")
        coverage = pd.DataFrame([document.coverage for document in self.documents]).sum().astype(int)
        for name in ("", "rationale_"):
            seen = coverage[f"{name}words_in_view"] + coverage[f"{name}words_without_pieces"]
            coverage[f"{name}words_lost"] = coverage[f"{name}words"] - seen
        return {
            **{name: value for name, value in record(how).items() if name not in hidden},
            "data": {"name": self.corpus.name, "checksum": self.corpus.checksum},
            "tokens": "words" if isinstance(self.scorer.tokenizer, WordTokens) else "wordpieces",
            "coverage": {name: int(value) for name, value in coverage.items()},
            **({"people": annotator_facts(examples, how.annotators)} if several else {}),
            "windows": {"total": self.n_windows, "skipped_in_scored_documents": sum(skipped)},
            "density": self.own["density"],
            "chance_average_precision": None if np.isnan(self.chances).all() else mean_of(self.chances),
            "selection": self.selection | {"split": how.split} if selects else None,
            "notes": [note for note in said if note],
            "versions": versions | {"python": platform.python_version()},
        }


def _sizes(documents: Sequence[Document], *, source: str) -> dict[str, Any]:
    """Mean share and number of rationale units, and share of words of whole documents, where there is a rationale."""
    rows = [
        (np.mean([u.mean() for u in d.judged]), np.mean([u.sum() for u in d.judged]), d.example.rationale().mean())
        for d in documents
        if d.judged
    ]
    means = np.mean(rows, axis=0).tolist() if rows else [math.nan] * 3
    return dict(zip(("density", "size", "word_density"), means, strict=True)) | {"source": source}


def mean_of(values: NDArray[np.float64]) -> Any:
    """Mean over the first axis, NaN left out cell by cell; NaN where there is nothing."""
    total, n = np.nansum(values, axis=0), (~np.isnan(values)).sum(0)
    mean = np.divide(total, n, out=np.full(np.shape(total), np.nan), where=n > 0)
    return mean if mean.ndim else float(mean)


# ---- Methods x layers x documents -> one tidy frame

PAPER_METHODS = ("attention", "attention_received", "rollout", "saliency")  # beside the model's own, and random


@torch.inference_mode(False)  # methods take gradients, which a caller's inference mode forbids
def evaluate(
    model: Any = None,
    data: Any = None,
    methods: Any = None,
    metrics: Any = None,
    *,
    adapler: Any = None,
    tokenizer: Any = None,
    predictions: Any = None,
    human: Any = None,
    rationales: str | Path | None = None,
    rationale_layers: str | Path | Mapping[str, int] | None = None,
    cache: str | Path | bool | None = None,
    settings: Settings | None = None,
    progress: bool = True,
    command: str | None = None,
    **options: Any,
) -> RationaleReport:
    """Compare attribution scores with human rationales, layer by layer.

    Args:
        model, adapler: an object, a folder or a hub name. Neither: the embedded checkpoint; adapler alone: its own
            backbone is the classifier; model alone: no AdapLeR, hence no `cp`.
        data: a corpus, a pandas frame, a folder or archive in ERASER layout, or JSON lines (`analysis.marks`); default
            data/eraser/movies if there, else the sample.
        methods, metrics: names, see `python -m analysis.scores` and `analysis.metrics.METRICS`; a method may be a
            function of your own, `(model, batch) -> scores`.
        predictions, human: saved scores, each one more method (`analysis.eraser.read_given`). With methods=[] no model
            is loaded unless it is named or a metric asks one: tokens are then words of whole documents.
        rationales: a folder for every method's rationales in ERASER's format, at the option `rationale_layer` or at
            rationale_layers: {method: layer}, or a report of the validation split, whose best layers are taken.
        cache: a folder where scores are kept for the next run, True for the default one; None or False: none.
        settings, options: the fields of `analysis.scoring.Settings`; None leaves a field at its default.
        progress: show bars; command: the command line, for the report.

    Returns a `RationaleReport`: `.frame` (document, method, layer, unit, metric, value) and `.meta`. Documents without
    a rationale token, or without any other, in view are classified, but skipped in the metrics, and counted; where no
    metric compares with a rationale, none is skipped. Models are left as found.

    Raises AdapLeRError (one line) for an argument, a checkpoint or data that cannot be used.
    """
    options = {"methods": methods, "metrics": metrics} | options
    options = {name: value for name, value in options.items() if value is not None}
    settings = replace(settings or Settings(**options), **options)
    corpus = load_corpus(data, split=settings.split, annotators=settings.annotators)
    settings = replace(settings, annotators=corpus.annotators)
    examples = documents_of(corpus, settings.split, settings.limit, seed=settings.seed)
    saved = predictions is not None or human is not None
    given = eraser.read_given(predictions, human, examples=examples, corpus=corpus) if saved else []
    notes = [f"{one.name}: {one.others} documents of other splits, not evaluated" for one in given if one.others]

    facts: dict[str, Any] = {} if command is None else {"command": command}
    asks_model = bool(settings.faithfulness_metrics) and not all(one.answers for one in given)
    named = any(one is not None for one in (model, adapler, tokenizer, rationales))
    if named or not given or settings.methods != [] or asks_model:
        classifier, reducer, tokenizer = scoring.load_models(model, adapler, tokenizer, device=settings.device)
        check_splits_words(tokenizer)
        if adapler is None and model is not None and scoring.is_adapler(model):
            notes.append("model: an AdapLeR checkpoint, whose backbone is evaluated; --adapler adds its removal and cp")
        facts |= _names(model, adapler, classifier, reducer)
        settings, remarks = scoring.decided(settings, classifier, reducer)
        notes += remarks
        n_layers = int(classifier.config.num_hidden_layers)
    else:
        classifier, reducer, tokenizer = None, None, WordTokens()
        settings = replace(settings, max_length=max(len(example.words) for example in examples))
        facts |= {"model": None, "adapler": None}
        n_layers = max(one.layers or 1 for one in given)
    scorer = Scorer(classifier, reducer, tokenizer, settings)
    scorer.methods = _methods(settings.methods, scorer, given=given, n_layers=n_layers)
    layers: dict[str, int] = {}
    if rationales or rationale_layers is not None or settings.rationale_layer is not None:
        layers = eraser.layers_to_write(rationales, rationale_layers, scorer, corpus=corpus, facts=facts)
    gold = [0] * len(examples) if classifier is None else scoring.gold_indices(classifier, corpus, examples)
    plan = Plan(corpus, examples, gold, scorer, given)
    scorer.open_files(cache, [one.name for one in given])

    names = [*scorer.methods, *(one.name for one in given)]
    rows: list[tuple[Any, ...]] = []  # of the frame
    records, lengths, shown = [], [], []  # type: list[dict[str, Any]], list[tuple[int, Any]], list[dict[str, Any]]
    pictures, diagnostics = Pictures(names, n_layers), {}  # type: Pictures, dict[tuple[str, str], list[Any]]
    kinds: dict[str, set[tuple[int, bool]]] = {}  # method -> layers that it scores, and whether with a sign
    official: dict[str, list[list[Any]]] = {name: [] for name in names} if settings.as_eraser else {}
    lines: dict[str, list[Any]] = {key: [] for key in layers}  # of files of rationales
    with tqdm(total=plan.n_windows, desc=f"scoring {settings.split}", unit="window", disable=not progress) as bar:
        try:
            for chunk in plan.chunks():
                windows = [window for document in chunk for window in document.windows]
                golds = [document.gold for document in chunk for _ in document.windows]
                results = iter(scorer.score(windows, golds, tick=bar.update))
                for document in chunk:
                    scored = [next(results) for _ in document.windows]
                    records.append(record_of(document, scored, classifier))
                    lengths += [(len(one.window), one.lengths) for one in scored]
                    scores = {key: [one.scores[key] for one in scored] for key in scorer.methods}
                    for one in given:
                        if there := one.windows(document.id, document.windows, settings.truncation):
                            scores[one.name] = there
                    if document.skipped is None:
                        values, units = judge(document, scores, plan)
                        pictures.add(units)
                        rows += values
                        rows += judge_faithfulness(document, scored, scores, plan)
                    for name, by_layer in official.items():
                        eraser.judge_as_eraser(by_layer, document, scores.get(name), plan.given.get(name), plan)
                    for key, layer in layers.items():
                        lines[key].append(eraser.line_of(document, scored, scorer.methods[key], layer, plan))
                    for key, of_windows in scores.items():
                        kinds.setdefault(key, set()).update((len(one.scores), one.signed) for one in of_windows)
                        for name in of_windows[0].diagnostics:
                            diagnostics.setdefault((key, name), []).extend(one.diagnostics[name] for one in of_windows)
                    if document.index in plan.shown:
                        shown.append(example_of(document, scored, scores, records[-1], tokenizer))
        finally:  # what is there is kept, also when the run is stopped
            scorer.save_files()
    for key, written in lines.items():
        eraser.write_lines(Path(str(rationales)) / f"{file_name(key)}.jsonl", written)
    # a function of one's own may be signed in some texts only: a selection at 1/n then means nothing in the others
    mixed = {key for key, found in kinds.items() if len({signed for _, signed in found}) > 1}
    uniform = {name for name in settings.metrics if pl.get_metric(name).level in (pl.INPUT, pl.PRESENT, pl.CONTENT)}
    rows = [row for row in rows if row[1] not in mixed or row[4] not in uniform]
    frame = pd.DataFrame(rows, columns=["document", "method", "layer", "unit", "metric", "value"]).dropna()
    meta = {"methods": names, "metrics": settings.metrics, "n_layers": n_layers, "examples": shown, **facts}
    meta = plan.meta(notes, writes=bool(lines)) | methods_meta(plan, kinds, diagnostics) | meta
    meta |= outcome(records, lengths, reducer) | pictures.meta()
    if official:
        meta |= eraser.eraser_meta(official, given, examples)
    return RationaleReport(frame.reset_index(drop=True), meta, scorer.counts)


def rows_of(document: str, method: str, unit: int, metrics: Sequence[str], table: Any) -> Iterator[tuple[Any, ...]]:
    """Rows of the frame from a table of values (L', K)."""
    for layer, values in enumerate(table):
        yield from ((document, method, layer, unit, *one) for one in zip(metrics, map(float, values), strict=True))


class Pictures:
    """Precision-recall curves of each method and layer, and rank correlations of the methods at each layer: means over
    documents, of each the mean over its units."""

    def __init__(self, methods: Sequence[str], n_layers: int) -> None:
        self.methods = list(methods)
        self.shapes = (len(methods), n_layers, len(pl.RECALL_GRID)), (n_layers, len(methods), len(methods))
        self.documents: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []  # curves and correlations

    def add(self, units: Sequence[tuple[NDArray[np.bool_], Mapping[str, NDArray[np.float64]]]]) -> None:
        """One document: its units' labels (U,) and each method's scores (L', U)."""
        found = []
        for labels, scores in units:
            if labels.all() or not labels.any():
                continue
            curves, rho = (np.full(shape, np.nan) for shape in self.shapes)
            for m, method in enumerate(self.methods):
                for layer, row in enumerate(scores.get(method, ())):
                    curves[m, layer] = pl.precision_at_recall(labels, row)
            for layer in range(len(rho)):
                there = [m for m, name in enumerate(self.methods) if layer < len(scores.get(name, ()))]
                if there:
                    rows = np.stack([scores[self.methods[m]][layer] for m in there])
                    with np.errstate(divide="ignore", invalid="ignore"):  # constant scores have no correlation
                        rho[layer][np.ix_(there, there)] = np.corrcoef(rankdata(rows, axis=1))
            found.append((curves, rho))
        if found:
            curve, rho = (mean_of(np.stack(one)) for one in zip(*found, strict=True))
            self.documents.append((curve, rho))

    def meta(self) -> dict[str, Any]:
        nothing = (np.full((1, *shape), np.nan) for shape in self.shapes)
        curves, rho = (np.stack(one) for one in zip(*self.documents, strict=True)) if self.documents else nothing
        n = (~np.isnan(curves)).sum(0)
        error = np.ma.masked_invalid(curves).std(0, ddof=1).filled(np.nan) / np.sqrt(np.maximum(n, 1))
        return {
            "curves": dict(zip(self.methods, mean_of(curves).tolist(), strict=True)),
            "curve_errors": dict(zip(self.methods, error.tolist(), strict=True)),
            "correlations": mean_of(rho).tolist(),
        }


def record_of(document: Document, scored: Sequence[ScoredWindow], model: Any) -> dict[str, Any]:
    """Record of a document for the report. Its logits are the mean over its windows."""
    names = {} if model is None else {int(i): str(name) for i, name in model.config.id2label.items()}

    def label(logits: Sequence[Any]) -> str | None:
        if not names or not logits:
            return None
        check_finite(torch.from_numpy(np.stack(logits)))
        return names[int(np.mean(logits, axis=0).argmax())]

    entered = [one.lengths for one in scored if one.lengths is not None]  # of each window (L,)
    return {
        "id": document.id,
        "label": names.get(document.gold, document.example.label),
        "prediction": label([one.logits for one in scored]),
        "adapler_prediction": label([one.adapler_logits for one in scored if one.adapler_logits is not None]),
        "tokens": document.tokens,
        "content_tokens": sum(int((~window.special).sum()) for window in document.windows),
        "rationale_tokens": document.rationale_tokens,
        "lengths": np.sum(entered, axis=0).tolist() if entered else None,
        "skipped": document.skipped,
    }


def outcome(records: Sequence[dict[str, Any]], windows: Sequence[tuple[Any, Any]], adapler: Any) -> dict[str, Any]:
    """Scores of the two models and AdapLeR's speedup. windows: (tokens, lengths (L,)) of every window."""
    frame = pd.DataFrame(records)
    found: dict[str, Any] = {"documents": records, "skipped": int(frame["skipped"].notna().sum())}
    if frame["prediction"].notna().all():
        found["accuracy"] = float((frame["prediction"] == frame["label"]).mean())
    if adapler is not None:
        tokens, entered = (torch.from_numpy(np.stack(column)) for column in zip(*windows, strict=True))
        whole, short = backbone_flops(adapler.config, tokens), adapler_flops(adapler.config, tokens, entered)
        found["adapler_accuracy"] = float((frame["adapler_prediction"] == frame["label"]).mean())
        found["agreement"] = float((frame["adapler_prediction"] == frame["prediction"]).mean())
        found["mean_lengths"] = np.mean(frame["lengths"].tolist(), axis=0).tolist()
        found["speedup"] = float(whole.double().sum() / short.double().sum())
    return found


def judge(
    document: Document, scores: Mapping[str, Sequence[WindowScores]], plan: Plan
) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """The metrics of a document that need no model, unit by unit: rows of the frame; and of every unit that was judged
    the labels (U,) and each method's scores (L', U)."""
    how, found, units = plan.settings, [], []  # type: Settings, list[tuple[Any, ...]], list[Any]
    hards = {name: one.hard(document.example) for name, one in plan.given.items()}
    people = annotator_masks(document.example)  # (A, W)
    for number, (part, labels) in enumerate(document.units):
        if how.needs_rationale and not is_judged(labels, all_rationale=how.all_rationale):
            continue
        by_method, windows = {}, document.windows[part]
        marks = [marked_units(windows, one, aggregation=how.aggregation) for one in people]
        options = plan.unit_options | {"shares": np.mean(marks, axis=0) if marks else None}
        for name, rows in scores.items():
            hard = hards.get(name)
            marked = None if hard is None else marked_units(windows, hard, aggregation=how.aggregation)
            layers = layer_units(windows, rows[part], labels, hard=marked, **options)
            by_method[name] = np.stack([unit.scores for unit in layers])
            if how.plain_metrics:
                table = [pl.compute(how.plain_metrics, unit) for unit in layers]  # (L', K)
                found += rows_of(document.id, name, number, how.plain_metrics, table)
        units.append((labels, by_method))
    return found, units


def judge_faithfulness(
    document: Document, scored: Sequence[ScoredWindow], scores: Mapping[str, Sequence[WindowScores]], plan: Plan
) -> list[tuple[Any, ...]]:
    """The metrics that ask the model again, of each window, since each is an input of its own; of a file that brings
    its own classifications, by those."""
    metrics, asked, found = plan.settings.faithfulness_metrics, dict(scores), []  # type: Any, Any, list[Any]
    for name, one in plan.given.items() if metrics else ():
        if own := one.faithfulness(document.id):
            found += rows_of(document.id, name, 0, metrics, [[own.get(metric, math.nan) for metric in metrics]])
            asked.pop(name, None)
    for number, read in enumerate(scored if metrics and asked and plan.scorer.model is not None else ()):
        there, target = {name: rows[number] for name, rows in asked.items()}, int(read.logits.argmax())
        tables = faithfulness_values(read.window, there, plan.scorer, target=target, density=plan.faithfulness_density)
        for name, table in tables.items():
            found += rows_of(document.id, name, number, metrics, table)
    return found


def example_of(
    document: Document,
    scored: Sequence[ScoredWindow],
    scores: Mapping[str, Sequence[WindowScores]],
    seen: Mapping[str, Any],
    tokenizer: Any,
) -> dict[str, Any]:
    """The first window with a rationale, token by token."""
    k = next((i for i, window in enumerate(document.windows) if window.rationale.any()), 0)
    window, retention = document.windows[k], scored[k].retention
    found = {name: np.asarray(rows[k].scores, dtype=np.float32) for name, rows in scores.items()}
    tokens, answer = readable_tokens(tokenizer, window.input_ids.tolist()), seen["adapler_prediction"]
    shown = (window.words, window.rationale, found, retention, answer or seen["prediction"], seen["label"])
    return DocumentScores(window.id, tokens, *shown).to_dict()


def methods_meta(
    plan: Plan,
    kinds: Mapping[str, set[tuple[int, bool]]],
    diagnostics: Mapping[tuple[str, str], Sequence[NDArray[Any]]],
) -> dict[str, Any]:
    """Metadata of the methods for the report: titles, scopes, options, diagnostics."""
    methods, given = plan.scorer.methods, plan.given
    layered = {key: max(layers for layers, _ in found) > 1 for key, found in kinds.items()}
    found: dict[str, dict[str, Any]] = {}
    for (key, name), rows in diagnostics.items():
        values = np.stack(rows).astype(np.float64)
        numbers = {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
        found.setdefault(key, {})[name] = numbers
    return {
        "titles": {key: m.title + key.removeprefix(m.name) for key, m in methods.items()}
        | {name: "Human" if name == eraser.HUMAN else name for name in given},
        "options": {key: dict(m.options) for key, m in methods.items() if m.options},
        "layerwise": {key: layered[key] if m.layerwise is None else m.layerwise for key, m in methods.items()}
        | {name: one.layers is not None for name, one in given.items()},
        "scopes": {key: m.scope for key, m in methods.items()} | dict.fromkeys(given, AT_INPUT),
        "missing": {key: sum(one.id not in m.scores for one in plan.documents) for key, m in given.items()},
        "diagnostics": found,
    }


def _methods(
    wanted: Sequence[Any] | None, scorer: Scorer, *, given: Sequence[eraser.Given], n_layers: int
) -> dict[str, ScoringMethod]:
    """The methods by key; ArgumentError for what cannot be evaluated together."""
    if wanted is None:
        removal = [] if scorer.adapler is None else [scores_of_removal(scorer.adapler)]
        wanted = [*PAPER_METHODS, *removal, *(["cp_carried"] if removal == ["cp"] else []), "random"]
    if not wanted and not given:
        raise ArgumentError("methods: got none, at least one is needed")
    chosen = {method.key: method for method in get_methods(wanted)}
    for method in chosen.values():
        if "adapler" in method.needs and scorer.adapler is None:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and none was given (--adapler)")
        target = method.options.get("target")
        if scorer.model is not None and method.has_target and isinstance(target, str | int):
            check_target(target, scorer.model.config)
    for one in given:
        if one.name in chosen:
            raise ArgumentError(f"predictions: {one.name!r} is a method that is evaluated too; rename the file")
        if one.layers not in (None, n_layers):
            raise ArgumentError(f"predictions: {one.name!r} has {counted(one.layers, 'layer')}, others {n_layers}")
    how = scorer.settings
    for name, layers in (("faithfulness_layers", how.faithfulness_layers), ("rationale_layer", [how.rationale_layer])):
        for layer in layers or ():
            if layer is not None and not 0 <= layer < n_layers:
                raise ArgumentError(f"{name}: got {layer}, the model has layers 0 to {n_layers - 1}")
    return chosen


def _names(model: Any, adapler: Any, classifier: Any, reducer: Any) -> dict[str, Any]:
    """Names of the models as given, without folders above the working directory."""
    if model is None and adapler is None:
        adapler = scoring.DEFAULT_ADAPLER

    def name(given: Any, loaded: Any) -> str | None:
        own = str(given if isinstance(given, str | Path) else getattr(loaded, "name_or_path", ""))
        if own and (Path(own).is_absolute() or Path(own).expanduser().exists()):
            return scoring.short_path(own, public=True)
        return own or (None if loaded is None else type(loaded).__name__)

    ours = name(adapler, reducer)
    backbone = f"backbone of {ours}" if model is None and isinstance(adapler, str | Path) else name(model, classifier)
    device = next(classifier.parameters()).device.type
    models = {"model": classifier, "adapler": reducer}  # folders of one name are told apart by their weights
    checksums = {key: weights_checksum(one) for key, one in models.items() if one is not None}
    return {"adapler": ours, "model": backbone, "checksums": checksums, "device": device}


# ---- The command

EXAMPLE = """python -m analysis.rationale_eval --adapler checkpoints/movies-minilm --data data/eraser/movies
             python -m analysis.rationale_eval --model DIR_OR_HUB --protocol eraser --methods attention \\
                 "integrated_gradients(n_steps=20)" --human human.jsonl --faithfulness-layers 0 5
Without arguments: the embedded checkpoint on data/eraser/movies if that is there, else on the embedded sample.
Against truth that nobody marked (edited and planted words, Shapley values): python -m analysis.truth"""
SUMMARY = "summary.txt"  # in the output's folder: all tables as text


@dataclass
class Options:
    """Evaluate scoring methods, layer by layer, against human rationales and for faithfulness."""

    adapler: str | None = option("AdapLeR model; default: the embedded one", default=None, basic=True)
    model: str | None = option(
        "classifier, folder or hub name; default: the AdapLeR model's backbone", default=None, basic=True
    )
    data: str | None = option(
        "ERASER folder or archive, or JSON lines; default: the movies, or else the sample", default=None, basic=True
    )
    predictions: list[str] = option("rationales in ERASER's format, each a method", default_factory=list, basic=True)
    human: str | None = option("human rationales in the same format, drawn as the ceiling", default=None, basic=True)
    output: str | None = option("folder of the report; default: reports/DATA-SPLIT", default=None, basic=True)
    all_tables: bool = option("print the tables of all metrics", default=False, basic=True)
    no_figures: bool = option("draw no figures (later: python -m analysis.figures)", default=False, basic=True)
    cache: str | None = option("folder of the score cache; default: $ADAPLER_CACHE or ~/.cache/adapler", default=None)
    no_cache: bool = option("do not cache scores", default=False)
    rationales: str | None = option("folder to write every method's rationales to, in ERASER's format", default=None)
    rationale_layers: str | None = option("report of validation, whose best layers --rationales writes", default=None)
    settings: Settings = field(default_factory=Settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    load_plugins()  # before methods and metrics are looked up
    given = parse(Options, argv, prog="python -m analysis.rationale_eval", example=EXAMPLE)
    if not is_main():  # of several processes of a launcher one evaluates
        return 0
    quiet: Any = transformers_logging  # its functions carry no types
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    logging.getLogger("adapler").setLevel(logging.ERROR)
    started = time.perf_counter()
    if given.data == "":  # of a variable that is not set; as a path it would be the working directory
        raise ArgumentError("--data: got an empty name; leave it out for the default data")
    data = default_data() if given.data is None else Path(given.data)
    corpus = load_corpus(data, split=given.settings.split, annotators=given.settings.annotators)
    output = Path(given.output or f"reports/{corpus.name}-{given.settings.split}")
    for name, folder in (("--output", output), ("--rationales", given.rationales)):
        if folder:
            check_writable_folder(Path(folder), name=name)
    report = evaluate(
        given.model,
        corpus,
        adapler=given.adapler,
        settings=given.settings,
        predictions=given.predictions or None,
        human=given.human,
        rationales=given.rationales,
        rationale_layers=given.rationale_layers,
        cache=None if given.no_cache else given.cache or True,
        command=public_command(sys.argv[1:] if argv is None else argv),
    )
    is_sample = data.resolve() == SAMPLE.resolve()
    remark = " (the embedded sample; the real reviews are not in data/eraser/movies)" if is_sample else ""
    top = header(report, scoring.short_path(data), remark)
    has_reader = False
    try:
        print(f"{top}\n\n{report.text() if given.all_tables else report.screen()}", flush=True)
        has_reader = True
    finally:  # also when the reader of the tables has left (`| head`), who may be that of the bars
        report.save(output, progress=has_reader, draw=not given.no_figures)
        top = header(report, scoring.short_path(data, public=True), remark)
        write_text(f"{top}\n\n{report.text()}\n", output / SUMMARY)
    here, found = scoring.short_path(output), report.run_facts
    reused = f", {100 * found['from_cache'] // sum(found.values())} % from the cache" if found["from_cache"] else ""
    print(f"\n{time.perf_counter() - started:.0f} s{reused}; all tables: {here}/{SUMMARY}; page: {here}/report.html")
    if given.rationales:
        print(f"rationales in ERASER's format: {scoring.short_path(given.rationales)}/METHOD.jsonl")
    print(f"next: streamlit run app/main.py -- --reports {shlex.quote(here)}   (the same scores, document by document)")
    return 0


def public_command(argv: Sequence[str]) -> str:
    """The command as a report keeps it: absolute paths become relative ones, or their last part."""
    words = []
    for word in argv:
        option_, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(option_ + sign + (scoring.short_path(value, public=True) if Path(value).is_absolute() else value))
    return shlex.join(["python", "-m", "analysis.rationale_eval", *words])


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
