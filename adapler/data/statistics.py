"""What a corpus holds, split by split, and what its splits share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from adapler.data.eraser import EraserCorpus

__all__ = ["Leak", "corpus_statistics", "find_leaks", "find_shared"]


@dataclass(frozen=True)
class Leak:
    """One example that two splits share: by its id, or by its text under two ids."""

    kind: str  # "id" or "text"
    splits: tuple[str, str]
    ids: tuple[str, str]

    def __str__(self) -> str:
        what = "the same id" if self.kind == "id" else "the same text"
        return f"{self.splits[0]} {self.ids[0]} and {self.splits[1]} {self.ids[1]} have {what}"


def corpus_statistics(corpus: EraserCorpus) -> list[dict[str, Any]]:
    """One dict per split, in words of the whole documents.

    `density_mean` is the mean over documents of the share of rationale words, `density_pooled` the share over
    all their words; both over documents with evidence only, as is `spans_per_document` (spans that touch count
    as one). None where no document has evidence.
    """
    rows = []
    for split, examples in corpus.splits.items():
        lengths = [len(example.words) for example in examples]
        labels = Counter(example.label for example in examples)
        marked = [example for example in examples if example.spans]
        rationale = np.array([sum(end - start for start, end in example.spans) for example in marked])
        words = np.array([len(example.words) for example in marked])
        rows.append(
            {
                "split": split,
                "documents": len(examples),
                "labels": {label: labels[label] for label in corpus.labels},
                "words_min": min(lengths),
                "words_median": float(np.median(lengths)),
                "words_max": max(lengths),
                "density_mean": float((rationale / words).mean()) if marked else None,
                "density_pooled": int(rationale.sum()) / int(words.sum()) if marked else None,
                "spans_per_document": sum(len(e.spans) for e in marked) / len(marked) if marked else None,
                "without_evidence": len(examples) - len(marked),
            }
        )
    return rows


def find_leaks(corpus: EraserCorpus) -> list[Leak]:
    """Examples that two splits share: the same annotation id, or else the same words."""
    return find_shared(
        {split: [(e.id, " ".join(e.words)) for e in examples] for split, examples in corpus.splits.items()}
    )


def find_shared(splits: Mapping[str, Iterable[tuple[str, str]]]) -> list[Leak]:
    """Leaks between any splits, given as (id, text) pairs; an example that shares both counts once, by id."""
    leaks = []
    listed = {split: list(rows) for split, rows in splits.items()}
    for first, second in combinations(listed, 2):
        ids = {identifier for identifier, _ in listed[first]}
        texts = {text: identifier for identifier, text in reversed(listed[first])}
        for identifier, text in listed[second]:
            if identifier in ids:
                leaks.append(Leak("id", (first, second), (identifier, identifier)))
            elif text in texts:
                leaks.append(Leak("text", (first, second), (texts[text], identifier)))
    return leaks
