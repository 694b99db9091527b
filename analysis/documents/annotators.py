"""Several annotators of one text: which of them counts, and how well one of them does against the others.

A annotators of a document, W words
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.eraser import EraserExample
from adapler.errors import ArgumentError
from analysis.metrics.plausibility import average_precision, f1_score, token_iou

AUTO, MAJORITY, UNION = "auto", "majority", "union"
_AGREEMENTS: dict[str, Callable[[Any, Any], float]] = {
    "average_precision": average_precision,
    "f1": f1_score,
    "iou": token_iou,
}


def check_rule(rule: str) -> str:
    """`rule`; ArgumentError unless it is auto, majority, union or the number of an annotator, from 0."""
    if rule not in (AUTO, MAJORITY, UNION) and not rule.isdecimal():
        raise ArgumentError(
            f"annotators: got {rule!r}, allowed are {AUTO}, {MAJORITY}, {UNION}, or an annotator's number from 0"
        )
    return rule


def combine(masks: NDArray[np.bool_], rule: str, places: Sequence[int] = ()) -> NDArray[np.bool_]:
    """(A, W) -> (W,) the words that count: marked by more than half of the annotators (auto too), by any, or by one.

    places: the annotators' numbers; empty: 0, 1, 2, ... One whom this document does not have marked nothing in it.

    >>> marks = np.array([[1, 1, 0], [1, 0, 0]], dtype=bool)
    >>> combine(marks, "majority").tolist(), combine(marks, "union").tolist(), combine(marks, "1").tolist()
    ([True, False, False], [True, True, False], [True, False, False])
    """
    if rule in (AUTO, MAJORITY):
        return np.asarray(masks.mean(0) > 0.5) if len(masks) else np.zeros(masks.shape[1], dtype=bool)
    if rule == UNION:
        return np.asarray(masks.any(0))
    number = int(check_rule(rule))
    numbers = list(places) or list(range(len(masks)))
    return masks[numbers.index(number)] if number in numbers else np.zeros(masks.shape[1], dtype=bool)


def is_annotated(numbers: Sequence[int], rule: str) -> bool:
    """Whether a text has marks that count: those of its annotator of that number, else anybody's.

    numbers: of the annotators who annotated the text.

    >>> is_annotated([0, 2], "1"), is_annotated([0, 2], "2"), is_annotated([], "union")
    (False, True, False)
    """
    return int(rule) in numbers if check_rule(rule).isdecimal() else bool(numbers)


def check_followed(rule: str, examples: Sequence[EraserExample]) -> None:
    """ArgumentError for a rule that changes nothing, as no document tells its annotators apart, and for the number of
    an annotator whom no document has: all would be unmarked."""
    if rule == AUTO:
        return
    numbers = {number for example in examples for number in annotator_numbers(example)}
    if not numbers:
        raise ArgumentError(f"annotators: got {rule!r}, but none of the {len(examples)} documents tells them apart")
    if rule.isdecimal() and int(rule) not in numbers:
        raise ArgumentError(
            f"annotators: got {rule!r}, an annotator of none of the {len(examples)} documents, "
            f"whose numbers go from {min(numbers)} to {max(numbers)}"
        )


def annotator_numbers(example: EraserExample) -> Sequence[int]:
    """The number in the source of each annotator of a document."""
    return example.places or range(len(example.annotators))


def annotator_masks(example: EraserExample) -> NDArray[np.bool_]:
    """(A, W) what each annotator of a document marked."""
    masks = np.zeros((len(example.annotators), len(example.words)), dtype=bool)
    for row, spans in zip(masks, example.annotators, strict=True):
        for start, end in spans:
            row[start:end] = True
    return masks


def krippendorff_alpha(documents: Sequence[NDArray[np.bool_]]) -> float | None:
    """Krippendorff's alpha of marks, nominal: 1 where annotators always agree, 0 where they do as by chance.

        alpha = 1 - (n - 1) sum_w 2 m_w u_w / (a_w - 1) / (2 M U)

    m_w and u_w annotators marked word w and did not, a_w = m_w + u_w; M and U are their sums over all words, n = M + U.

    Args:
        documents: (A, W) of each, where A and W may differ; words with one annotator do not count.

    Returns:
        None where all marks are the same, so that chance cannot be told from agreement, and where nobody is beside
        another.

    Source: Krippendorff, Content Analysis (2004), 11.3.

    >>> krippendorff_alpha([np.array([[1, 0, 0], [1, 0, 1]], dtype=bool)])
    0.4444444444444444
    """
    several = [masks for masks in documents if len(masks) > 1]
    if not several:
        return None
    marked = np.concatenate([masks.sum(0) for masks in several]).astype(float)  # (words,)
    unmarked = np.concatenate([(~masks).sum(0) for masks in several]).astype(float)
    pairs, total = float(2 * marked.sum() * unmarked.sum()), float(marked.sum() + unmarked.sum())
    if not pairs:
        return None
    observed = float((2 * marked * unmarked / (marked + unmarked - 1)).sum())
    return 1 - (total - 1) * observed / pairs


def annotator_facts(examples: Sequence[EraserExample], rule: str) -> dict[str, Any] | None:
    """What a report says of the annotators; None where no document tells them apart.

    rule, documents: how many have several annotators; fewest, most: annotators of one document.
    ceiling: what a human reaches: each annotator's 0 and 1 as scores of the words, judged against the others' marks,
        combined by the rule (the majority for auto and for a single annotator's number). The mean over a document's
        annotators, then over documents, of average precision, F1 and IOU of words; whole documents, whatever a model
        sees. A value is left out where the others marked nothing or everything.
        Marks of 0 and 1 have ties, so that their average precision is below that of a ranking as good: compare F1 with
        a method's `f1_at_k` instead.
    alpha: see krippendorff_alpha.
    each: the same means, one for every annotator by place; the place is a person only where the source keeps it so.
    """
    several = [example for example in examples if len(example.annotators) > 1]
    if not several:
        return None
    judge = UNION if rule == UNION else MAJORITY
    most = max(len(example.annotators) for example in several)
    numbered = 1 + max(max(annotator_numbers(example)) for example in several)
    found = {name: np.full((len(several), numbered), np.nan) for name in _AGREEMENTS}
    for row, example in enumerate(several):
        masks = annotator_masks(example)
        for place, (number, own) in enumerate(zip(annotator_numbers(example), masks, strict=True)):
            others = combine(np.delete(masks, place, axis=0), judge)
            if others.any() and not others.all():
                for name, agreement in _AGREEMENTS.items():
                    found[name][row, number] = agreement(others, own)
    return {
        "rule": rule,
        "documents": len(several),
        "fewest": min(len(example.annotators) for example in several),
        "most": most,
        "alpha": krippendorff_alpha([annotator_masks(example) for example in several]),
        "ceiling": {name: _mean([_mean(row) for row in values]) for name, values in found.items()},
        "each": {name: [_mean(column) for column in values.T] for name, values in found.items()},
    }


def _mean(values: Sequence[float | None] | NDArray[np.float64]) -> float | None:
    known = [float(value) for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None
