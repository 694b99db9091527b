"""Everything that can be known before a model runs: which documents, cut how, with which labels, how dense.

D documents; W windows of a chunk of documents
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.data import balanced_indices
from adapler.eraser import misquoted_note, queries_differ
from adapler.errors import ArgumentError
from analysis.documents.alignment import Account, Alignment, align
from analysis.documents.units import group, is_judged, unit_labels, why_skipped
from analysis.documents.windows import Window
from analysis.documents.words import WordTokens
from analysis.evaluation.fit import gold_indices, input_length
from analysis.evaluation.protocols import get_protocol
from analysis.evaluation.settings import MAX_LENGTH, Settings
from analysis.metrics import plausibility as pl

CHUNK_TOKENS = 16384  # wordpieces of a chunk: what is in memory at a time, and what a killed run loses at most
MODERATE = (5, 80)  # rationale wordpieces of a document that is good to look at
MEASURED = 200  # documents of another split that are looked at to learn how long its rationales are
MEASURED_SEED = 0  # they are the same ones whatever the evaluation's seed, so that its runs can be merged


@dataclass(frozen=True)
class Outline:
    """What is kept of one document's alignment: numbers, no tokens. Wordpieces are those of all its windows."""

    windows: int
    tokens: int
    content_tokens: int
    rationale_tokens: int
    account: Account
    skipped: str | None


@dataclass(frozen=True)
class RationaleSize:
    """How long a hard rationale is, where its size is not the method's own: k = ceil(density · n).

    density       mean share of rationale units (wordpieces, or words)
    size          mean number of rationale units; word_density: share of the words of the whole documents
    source        where they come from: "given", "val", "train", or the evaluated split, when there is no other; then
                  the size of the selection was read off the very rationales that it is compared with

    A number is NaN where no document has a rationale.
    """

    density: float
    size: float
    word_density: float
    source: str


class Plan:
    """Aligns every document once, so that whatever is wrong with the data is said before a model runs.

    Chunks of documents are aligned again when they are asked for: tokenizing is cheap, keeping it is not.

    settings                  with the length of an input filled in, where none was asked for
    shortened                 whether that length is the model's, which takes less than MAX_LENGTH
    all_rationale             whether documents (windows) are judged whose every token is rationale, as ERASER does
    misquoted                 what to say of evidences that quote other texts than their words; None without any
    density                   mean share of rationale units (wordpieces, or words) over the scored documents
    rationale_size            mean number of rationale units over the scored documents
    word_density              the same share over the words of the whole documents
    chance_average_precision  mean expected AP of random scores; each None when no document can be scored
    chances                   (D,) the same, and densities (D,), of each document; NaN where it is not scored

    Without a model (None, and `WordTokens` for a tokenizer) tokens are words and documents are whole.

    Raises ArgumentError for an unknown split, a label outside the model's and windows beyond the model's length.
    """

    def __init__(self, *, model: Any, tokenizer: Any, corpus: Any, split: str, settings: Settings) -> None:
        self.tokenizer, self.split, self._corpus = tokenizer, split, corpus
        self.examples = documents_of(corpus, split, settings.limit, seed=settings.seed)
        self.all_rationale = get_protocol(settings.protocol).all_rationale
        self.with_query = _with_query(corpus, settings.queries)
        self.misquoted = misquoted_note(corpus, split)
        if model is None:
            self.gold = [0] * len(self.examples)
            self.max_length = max(len(example.words) for example in self.examples)
        else:
            self.gold = gold_indices(model, corpus, self.examples)
            self.max_length = input_length(model, settings.max_length)
        self.shortened = settings.max_length is None and self.max_length < MAX_LENGTH
        self.settings = settings = replace(settings, max_length=self.max_length)
        self.account = Account()
        self.windows_skipped = 0
        self.chances, self.densities = (np.full(len(self.examples), np.nan) for _ in range(2))
        outlines, sizes, word_densities = [], [], []
        for i, example in enumerate(self.examples):
            alignment = self._align(example)
            self.account += alignment.account
            units = self._units(alignment)
            unjudged = why_skipped(units, all_rationale=self.all_rationale)
            outline = _outline(alignment, unjudged if settings.needs_rationale else None)
            outlines.append(outline)
            if unjudged is None:
                judged = self._judged(units)
                self.windows_skipped += len(units) - len(judged)
                self.densities[i] = np.mean([pl.density(labels) for labels in judged])
                sizes.append(np.mean([labels.sum() for labels in judged]))
                # AP is not defined where every token is rationale
                both = [pl.expected_average_precision(int(one.sum()), len(one)) for one in judged if not one.all()]
                self.chances[i] = np.mean(both) if both else np.nan
                word_densities.append(example.rationale().mean())
        self.outlines = tuple(outlines)
        self.density = _mean(self.densities)
        self.rationale_size = _mean(sizes)
        self.word_density = _mean(word_densities)
        self.chance_average_precision = _mean(self.chances)

    @cached_property
    def selection(self) -> RationaleSize:
        """The size of hard rationales: `measured`, with the density that `settings.density` gives."""
        given = self.settings.density
        return (
            self.measured
            if given is None
            else replace(self.measured, density=given, word_density=given, source="given")
        )

    @cached_property
    def measured(self) -> RationaleSize:
        """The size of rationales on validation, else on training, and on the evaluated split itself only when the
        corpus has no other with rationales."""
        found = None
        for split in ("val", "train"):
            if found is None and split in self._corpus.splits and split != self.split:
                found = self._measure(split)
        if found is None:
            own = [np.nan if x is None else x for x in (self.density, self.rationale_size, self.word_density)]
            found = RationaleSize(density=own[0], size=own[1], word_density=own[2], source=self.split)
        return found

    def _measure(self, split: str) -> RationaleSize | None:
        """From at most MEASURED documents of a split; None when none of them has a rationale."""
        densities, sizes, word_densities = [], [], []
        for example in documents_of(self._corpus, split, MEASURED, seed=MEASURED_SEED):
            judged = self._judged(self._units(self._align(example)))
            if judged:
                densities.append(np.mean([pl.density(labels) for labels in judged]))
                sizes.append(np.mean([labels.sum() for labels in judged]))
                word_densities.append(example.rationale().mean())
        if not densities:
            return None
        means = [float(np.mean(one)) for one in (densities, sizes, word_densities)]
        return RationaleSize(density=means[0], size=means[1], word_density=means[2], source=split)

    def _units(self, alignment: Alignment) -> list[NDArray[np.bool_]]:
        """The labels of each unit of a document."""
        groups = group(alignment.windows, policy=self.settings.policy)
        return [unit_labels(windows, aggregation=self.settings.aggregation) for windows in groups]

    def _judged(self, units: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
        return [labels for labels in units if is_judged(labels, all_rationale=self.all_rationale)]

    @property
    def accuracy_of(self) -> str | None:
        """What the accuracy is of, where it is not of the document as the model would get it."""
        if self.settings.policy == "rationale-windows":
            return "windows chosen by the gold rationale: no accuracy of documents"
        return None

    @property
    def sample(self) -> str | None:
        """How the documents were chosen, None for the whole split."""
        whole = len(self._corpus.splits[self.split])
        if len(self.examples) == whole:
            return None
        return f"random sample of {len(self.examples)} of {whole} documents, labels balanced, seed {self.settings.seed}"

    @property
    def why_none_is_scored(self) -> str:
        """Why every document is skipped, and what that makes of the values; of a plan that scores none."""
        reasons = sorted({str(outline.skipped) for outline in self.outlines})
        return f"no document is scored, so that every value is undefined: {' or '.join(reasons)}"

    def __len__(self) -> int:
        return len(self.examples)

    def chunks(self) -> Iterator[tuple[list[int], list[Alignment]]]:
        """Documents, by their index, with their windows: as many at a time as CHUNK_TOKENS hold, at least one."""
        chosen: list[int] = []
        tokens = 0
        for i, outline in enumerate(self.outlines):
            if chosen and tokens + outline.tokens > CHUNK_TOKENS:
                yield chosen, [self._align(self.examples[k]) for k in chosen]
                chosen, tokens = [], 0
            chosen.append(i)
            tokens += outline.tokens
        yield chosen, [self._align(self.examples[k]) for k in chosen]

    def example_documents(self) -> list[int]:
        """The first scored documents with a rationale of moderate length; others when there are too few."""
        scored = [i for i, outline in enumerate(self.outlines) if outline.skipped is None]
        moderate = [i for i in scored if MODERATE[0] <= self.outlines[i].rationale_tokens <= MODERATE[1]]
        return sorted([*moderate, *(i for i in scored if i not in set(moderate))][: self.settings.examples])

    def _align(self, example: Any) -> Alignment:
        if isinstance(self.tokenizer, WordTokens):
            return self.tokenizer.align(example)
        settings = self.settings
        return align(
            example,
            self.tokenizer,
            max_length=self.max_length,
            policy=settings.policy,
            with_query=self.with_query,
        )


def example_window(windows: Sequence[Window]) -> int:
    """Index of the window that stands for a document in a drawing: the first with a rationale."""
    return next((i for i, window in enumerate(windows) if window.rationale.any()), 0)


def _outline(alignment: Alignment, skipped: str | None) -> Outline:
    windows = alignment.windows
    return Outline(
        windows=len(windows),
        tokens=sum(len(window) for window in windows),
        content_tokens=sum(int((~window.special).sum()) for window in windows),
        rationale_tokens=sum(int(window.rationale.sum()) for window in windows),
        account=alignment.account,
        skipped=skipped,
    )


def documents_of(corpus: Any, split: str, limit: int | None, *, seed: int = 0) -> list[Any]:
    """The split's documents, or a random sample of `limit` of them with as many of one label as of another, in order.

    The first ones would not do: the movies come sorted by label. Raises ArgumentError for a split that is not there.
    """
    if split not in corpus.splits:
        raise ArgumentError(f"split: got {split!r}, {corpus.name} has {', '.join(corpus.splits)}")
    examples = list(corpus.splits[split])
    if not examples:
        raise ArgumentError(f"split: {split!r} of {corpus.name} has no documents")
    if limit is None:
        return examples
    return [examples[i] for i in balanced_indices([example.label for example in examples], limit, seed=seed)]


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    """None without any that is defined."""
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else None


def _with_query(corpus: Any, wanted: bool | None) -> bool:
    """Whether the model reads the queries: as asked, or where two of the corpus differ, as in training."""
    return queries_differ(corpus) if wanted is None else wanted
