"""Everything that can be known before a model runs: which documents, cut how, with which labels, how dense.

D documents; W windows of a chunk of documents
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adapler.data import queries_differ
from adapler.errors import ArgumentError
from analysis.documents.alignment import Account, Alignment, align
from analysis.documents.units import group, unit_labels, why_skipped
from analysis.documents.windows import Window
from analysis.documents.words import WordTokens
from analysis.evaluation.settings import MAX_LENGTH, Settings
from analysis.metrics import plausibility as pl

CHUNK_TOKENS = 16384  # wordpieces of a chunk: what is in memory at a time, and what a killed run loses at most
MODERATE = (5, 80)  # rationale wordpieces of a document that is good to look at


@dataclass(frozen=True)
class Outline:
    """What is kept of one document's alignment: numbers, no tokens. Wordpieces are those of all its windows."""

    windows: int
    tokens: int
    content_tokens: int
    rationale_tokens: int
    account: Account
    skipped: str | None


class Plan:
    """Aligns every document once, so that whatever is wrong with the data is said before a model runs.

    Chunks of documents are aligned again when they are asked for: tokenizing is cheap, keeping it is not.

    settings                  with the length of an input filled in, where none was asked for
    shortened                 whether that length is the model's, which takes less than MAX_LENGTH
    density                   mean share of rationale units (wordpieces, or words) over the scored documents
    rationale_size            mean number of rationale units over the scored documents
    word_density              the same share over the words of the whole documents
    chance_average_precision  mean expected AP of random scores; each None when no document can be scored

    Without a model (None, and `WordTokens` for a tokenizer) tokens are words and documents are whole.

    Raises ArgumentError for an unknown split, a label outside the model's and windows beyond the model's length.
    """

    def __init__(self, *, model: Any, tokenizer: Any, corpus: Any, split: str, settings: Settings) -> None:
        self.tokenizer = tokenizer
        self.examples = documents_of(corpus, split, settings.limit)
        self.with_query = _with_query(corpus, settings.queries)
        if model is None:
            self.gold = [0] * len(self.examples)
            self.max_length = max(len(example.words) for example in self.examples)
        else:
            self.gold = _gold_indices(model, corpus, self.examples)
            self.max_length = input_length(model, settings.max_length)
        self.shortened = settings.max_length is None and self.max_length < MAX_LENGTH
        self.settings = settings = replace(settings, max_length=self.max_length)
        self.account = Account()
        self.windows_skipped = 0
        outlines, densities, sizes, chances, word_densities = [], [], [], [], []
        for example in self.examples:
            alignment = self._align(example)
            self.account += alignment.account
            units = [
                unit_labels(windows, aggregation=settings.aggregation)
                for windows in group(alignment.windows, policy=settings.policy)
            ]
            outline = _outline(alignment, why_skipped(units))
            outlines.append(outline)
            if outline.skipped is None:
                judged = [labels for labels in units if why_skipped([labels]) is None]
                self.windows_skipped += len(units) - len(judged)
                densities.append(np.mean([pl.density(labels) for labels in judged]))
                sizes.append(np.mean([labels.sum() for labels in judged]))
                chances.append(np.mean([pl.expected_average_precision(int(one.sum()), len(one)) for one in judged]))
                word_densities.append(example.rationale().mean())
        self.outlines = tuple(outlines)
        self.density = float(np.mean(densities)) if densities else None
        self.rationale_size = float(np.mean(sizes)) if sizes else None
        self.word_density = float(np.mean(word_densities)) if word_densities else None
        self.chance_average_precision = float(np.mean(chances)) if chances else None

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


def documents_of(corpus: Any, split: str, limit: int | None) -> list[Any]:
    """The split's documents, the first `limit` of them; ArgumentError for a split that is not there."""
    if split not in corpus.splits:
        raise ArgumentError(f"split: got {split!r}, {corpus.name} has {', '.join(corpus.splits)}")
    examples = list(corpus.splits[split])[:limit]
    if not examples:
        raise ArgumentError(f"split: {split!r} of {corpus.name} has no documents")
    return examples


def _with_query(corpus: Any, wanted: bool | None) -> bool:
    """Whether the model reads the queries: as asked, or where two of the corpus differ, as in training."""
    return queries_differ(corpus) if wanted is None else wanted


def _gold_indices(model: Any, corpus: Any, examples: Sequence[Any]) -> list[int]:
    """The model's index of each document's label.

    A corpus without names has indices for labels: they are the model's, whatever it calls them. A model without
    names (LABEL_i) has the corpus's, in their order.
    """
    known = {str(name): int(index) for name, index in model.config.label2id.items()}
    if not known.keys() & set(corpus.labels):
        if all(name.isdecimal() for name in corpus.labels):
            known = {str(index): index for index in sorted(known.values())}
        elif len(known) == len(corpus.labels) and all(name.startswith("LABEL_") for name in known):
            known = {name: index for index, name in enumerate(corpus.labels)}
    for example in examples:
        if example.label not in known:
            raise ArgumentError(
                f"document {example.id}: label {example.label!r} is not among the model's labels, {', '.join(known)}"
            )
    return [known[example.label] for example in examples]


def input_length(model: Any, wanted: int | None) -> int:
    """`wanted`, or MAX_LENGTH as far as the model goes; ArgumentError for more than it takes."""
    positions = _positions(model)
    if wanted is None:
        return MAX_LENGTH if positions is None else min(MAX_LENGTH, positions)
    if positions is not None and wanted > positions:
        raise ArgumentError(f"max_length: got {wanted}, {type(model).__name__} takes at most {positions} tokens")
    return wanted


def _positions(model: Any) -> int | None:
    """The longest input that the model takes, None where its configuration says nothing about that."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return None
    for name, module in model.named_modules():
        # RoBERTa counts positions from padding_idx + 1
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(positions - module.padding_idx - 1)
    return int(positions)
