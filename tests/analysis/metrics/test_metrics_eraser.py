from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

from adapler.errors import ArgumentError, DataError
from analysis.metrics import eraser_scorer
from analysis.metrics.eraser_scorer import SpanDocument

tied = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5])), min_size=1, max_size=30)


# Slow reference: the paper's definitions, with sets of token positions and fractions, one document at a time.


def _iou(one: tuple[int, int], two: tuple[int, int]) -> Fraction:
    first, second = set(range(*one)), set(range(*two))
    return Fraction(len(first & second), len(first | second))


def _f1(p: Fraction, r: Fraction) -> Fraction:
    return Fraction(0) if p == 0 or r == 0 else 2 * p * r / (p + r)


def _slow_iou(documents: list[SpanDocument], threshold: float) -> tuple[float, ...]:
    """Micro p, r, f1 and macro p, r, f1."""
    tp = n_pred = n_true = 0
    ps, rs = [], []
    for document in documents:
        truth, predicted = set(document.truth), set(document.predicted)
        here = sum(any(_iou(p, t) >= threshold for t in truth) for p in predicted)
        tp, n_pred, n_true = tp + here, n_pred + len(predicted), n_true + len(truth)
        if predicted:
            ps.append(Fraction(here, len(predicted)))
        if truth:
            rs.append(Fraction(here, len(truth)))
    p, r = Fraction(tp, n_pred), Fraction(tp, n_true)
    mp, mr = sum(ps, Fraction(0)) / len(ps), sum(rs, Fraction(0)) / len(rs)
    return tuple(map(float, (p, r, _f1(p, r), mp, mr, _f1(mp, mr))))


def _slow_sets(documents: list[SpanDocument], tokens: bool) -> tuple[float, ...]:
    def elements(spans: tuple[tuple[int, int], ...]) -> set[object]:
        return {t for span in spans for t in range(*span)} if tokens else set(spans)

    tp = n_pred = n_true = 0
    rows = []
    for document in documents:
        truth, predicted = elements(document.truth), elements(document.predicted)
        here = len([x for x in predicted if x in truth])
        tp, n_pred, n_true = tp + here, n_pred + len(predicted), n_true + len(truth)
        if truth or predicted:
            p = Fraction(here, len(predicted)) if predicted else Fraction(0)
            r = Fraction(here, len(truth)) if truth else Fraction(0)
            rows.append((p, r, _f1(p, r)))
    p, r = Fraction(tp, n_pred), Fraction(tp, n_true)
    macro = [sum(column, Fraction(0)) / len(rows) for column in zip(*rows, strict=True)]
    return tuple(map(float, (p, r, _f1(p, r), *macro)))


def _slow_auprc(labels: list[bool], scores: list[float]) -> float:
    if not any(labels):
        return 0.5
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores), reverse=True):
        hits = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        points.append((sum(hits) / sum(labels), sum(hits) / len(hits)))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(points, points[1:], strict=False))


def _slow_roc_auc(labels: list[bool], scores: list[float]) -> float:
    inside = [s for s, label in zip(scores, labels, strict=True) if label]
    outside = [s for s, label in zip(scores, labels, strict=True) if not label]
    won = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    return sum(won) / len(won)


def test_two_halves_of_one_rationale_count_twice_as_in_eraser() -> None:
    # precision 2/2, recall 2/1 (see the docstring)
    halves = SpanDocument("a", 4, truth=((0, 4),), predicted=((0, 2), (2, 4)))
    micro = eraser_scorer.eraser_scores([halves])["iou_scores"][0]["micro"]
    assert (micro["p"], micro["r"], micro["f1"]) == pytest.approx((1, 2, 4 / 3))


def _spans(rng: np.random.Generator, length: int, *, apart: bool) -> tuple[tuple[int, int], ...]:
    cuts = sorted(rng.choice(length + 1, size=min(length + 1, int(rng.integers(0, 8))), replace=False).tolist())
    spans = (
        list(zip(cuts[::2], cuts[1::2], strict=False))
        if rng.random() < 0.7
        else list(zip(cuts, cuts[1:], strict=False))
    )  # apart from one another, or touching
    if not apart and spans and rng.random() < 0.4:  # annotations may overlap, and come twice
        start, end = spans[0]
        spans += [(start, min(length, end + 1)), spans[-1]]
    return tuple(spans)


def _documents(rng: np.random.Generator) -> list[SpanDocument]:
    documents = []
    for i in range(int(rng.integers(1, 6))):
        length = int(rng.integers(1, 15))
        kind = rng.random()
        truth = ((0, length),) if kind < 0.15 else () if kind < 0.3 else _spans(rng, length, apart=False)
        predicted = ((0, length),) if rng.random() < 0.15 else _spans(rng, length, apart=True)
        scores = tuple(rng.choice([0.0, 0.1, 0.3, 0.7], size=length).tolist())
        documents.append(SpanDocument(str(i), length, truth, predicted, scores))
    return documents


@pytest.mark.parametrize("seed", range(150))
def test_eraser_scores_equal_a_slow_reference(seed: int) -> None:
    documents = _documents(np.random.default_rng(seed))
    if not any(document.truth for document in documents):
        with pytest.raises(ArgumentError, match="none has a rationale"):
            eraser_scorer.eraser_scores(documents)
        return
    thresholds = (0.25, 0.5, 1.0)  # exact in binary: the reference compares fractions with them
    result = eraser_scorer.eraser_scores(documents, thresholds=thresholds)
    if any(document.predicted for document in documents):
        for threshold, scores in zip(thresholds, result["iou_scores"], strict=True):
            assert scores["threshold"] == threshold
            flat = [scores[kind][x] for kind in ("micro", "macro") for x in ("p", "r", "f1")]
            assert flat == pytest.approx(_slow_iou(documents, threshold), abs=1e-12)
        for name, tokens in (("rationale_prf", False), ("token_prf", True)):
            flat = [result[name][f"instance_{kind}"][x] for kind in ("micro", "macro") for x in ("p", "r", "f1")]
            assert flat == pytest.approx(_slow_sets(documents, tokens), abs=1e-12)
    else:
        assert set(result) == {"token_soft_metrics"}
    soft = [(document.labels.tolist(), list(document.scores or ())) for document in documents]
    assert result["token_soft_metrics"]["auprc"] == pytest.approx(np.mean([_slow_auprc(*pair) for pair in soft]))
    both = [pair for pair in soft if any(pair[0]) and not all(pair[0])]
    expected = np.mean([_slow_roc_auc(*pair) for pair in both]) if both else math.nan
    assert result["token_soft_metrics"]["roc_auc_score"] == pytest.approx(expected, nan_ok=True)


def test_eraser_scores_by_hand() -> None:
    documents = [
        SpanDocument("a", 6, truth=((0, 3),), predicted=((0, 2), (4, 6))),  # IOU 2/3 and 0
        SpanDocument("b", 4, truth=((1, 2), (3, 4)), predicted=()),
        SpanDocument("c", 4, truth=(), predicted=((0, 1),)),
    ]
    result = eraser_scorer.eraser_scores(documents)
    assert set(result) == {"iou_scores", "rationale_prf", "token_prf"}  # no scores, no soft metrics
    (iou,) = result["iou_scores"]
    assert iou["micro"] == pytest.approx({"p": 1 / 3, "r": 1 / 3, "f1": 1 / 3})
    # precision over a and c: (1/2 + 0)/2; recall over a and b: (1 + 0)/2
    assert iou["macro"] == pytest.approx({"p": 1 / 4, "r": 1 / 2, "f1": 1 / 3})
    assert result["rationale_prf"]["instance_micro"] == {"p": 0, "r": 0, "f1": 0}
    # tokens: 2 right of 5 predicted and of 5 true; document a: p 2/4, r 2/3, f1 4/7
    assert result["token_prf"]["instance_micro"] == pytest.approx({"p": 2 / 5, "r": 2 / 5, "f1": 2 / 5})
    assert result["token_prf"]["instance_macro"] == pytest.approx({"p": 1 / 6, "r": 2 / 9, "f1": 4 / 21})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpanDocument("a", 4, truth=((2, 5),)), r"a: truth span \[2, 5\) outside the document of 4 tokens"),
        (lambda: SpanDocument("a", 4, truth=(), predicted=((2, 2),)), r"a: predicted span \[2, 2\) outside"),
        (lambda: SpanDocument("a", 4, (), ((0, 2), (1, 3))), r"a: predicted spans overlap at token 1, after \[0, 2\)"),
        (lambda: SpanDocument("a", 4, (), (), (0.1,)), "a: 1 scores for a document of 4 tokens"),
    ],
)
def test_bad_documents(make: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()  # type: ignore[operator]


def test_bad_data_sets() -> None:
    one, scored = SpanDocument("a", 2, ((0, 1),)), SpanDocument("b", 2, ((0, 1),), (), (0.1, 0.2))
    for documents, message in (
        ([], "documents: got none"),
        ([one, one], "'a' comes twice"),
        ([one, scored], "'b' and 'a': one has scores, one has none"),
    ):
        with pytest.raises(ArgumentError, match=message):
            eraser_scorer.eraser_scores(documents)
