"""A corpus with human rationales in memory: what `adapler.data.eraser` reads and the analysis works on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["EraserCorpus", "EraserExample", "merge_spans", "misquoted_note", "queries_differ"]


@dataclass(frozen=True)
class EraserExample:
    """One annotated document.

    Attributes:
        id: the annotation id, unique in its split.
        words: the words of the document. A word may be empty, see `adapler.data.eraser`.
        label: the name of the class.
        spans: half-open word ranges of the rationale, sorted, disjoint and not touching, so they say the same as
            `rationale()`. An example without evidence has none.
        query: the question that the label answers, as plain text.
        documents: id and number of words of each document that `words` joins, in order. Without any, the example
            is one document with the example's own id.
        evidences: (document id, start, end) of every annotation as it stands in the file: ranges may touch, overlap,
            come twice or be empty. ERASER's own scorer counts them so. None where the source has no such list; then
            `spans` are all there is to know.
        annotators: the spans of each annotator who annotated the text, where the source tells them apart.
        places: the number in the source of each of them, where some annotators in between did not annotate the text;
            empty: 0, 1, 2, ...
        annotated: False where nobody whose marks count annotated the text, so that having no spans says nothing of it.
        misquoted: of each evidence that quotes a text which is not the words of its range, both.
    """

    id: str
    words: tuple[str, ...]
    label: str
    spans: tuple[tuple[int, int], ...]
    query: str = ""
    documents: tuple[tuple[str, int], ...] = ()
    evidences: tuple[tuple[str, int, int], ...] | None = None
    annotators: tuple[tuple[tuple[int, int], ...], ...] = ()
    places: tuple[int, ...] = ()
    annotated: bool = True
    misquoted: tuple[str, ...] = field(default=(), compare=False)

    def rationale(self) -> NDArray[np.bool_]:
        """(n_words,) True where a human marked the word."""
        mask = np.zeros(len(self.words), dtype=np.bool_)
        for start, end in self.spans:
            mask[start:end] = True
        return mask


@dataclass(frozen=True)
class EraserCorpus:
    """A corpus in memory.

    Attributes:
        name: of its folder or archive.
        source: the path it was read from.
        checksum: sha256 over the examples themselves. A folder and an archive of one corpus share it; docs/ and
            docs.jsonl share it where no space is doubled and no line is blank.
        labels: names, sorted (NEG, POS).
        splits: the examples by split; its keys are those of train, val, test that exist, in that order.
        annotators: which of several annotators' words count: majority, union, one's number; auto: as the source says.
    """

    name: str
    source: str
    checksum: str
    labels: tuple[str, ...]
    splits: dict[str, tuple[EraserExample, ...]]
    annotators: str = field(default="auto", compare=False)


def queries_differ(corpus: EraserCorpus) -> bool:
    """Whether two examples of a corpus have different queries.

    A query that is the same everywhere ("What is the sentiment of this review?") says nothing, and is not shown to
    a model. Where queries differ, as in MultiRC and BoolQ, the label cannot be told without them.
    """
    return len({example.query for examples in corpus.splits.values() for example in examples}) > 1


def misquoted_note(corpus: EraserCorpus, split: str) -> str | None:
    """What to say of a split whose evidences quote other texts than the words of their ranges; None if none does."""
    wrong = [(example.id, found) for example in corpus.splits[split] for found in example.misquoted]
    if not wrong:
        return None
    total = sum(len(example.evidences or ()) for example in corpus.splits[split])
    return (
        f"{split}: {len(wrong)} of {total} evidences quote another text than the words of their range, so either "
        f"may be wrong; the ranges count. First: {wrong[0][0]}, {wrong[0][1]}"
    )


def merge_spans(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted union of half-open ranges; overlapping and touching ones become one.

    >>> merge_spans([(7, 9), (1, 3), (3, 5), (2, 4)])
    ((1, 5), (7, 9))
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
