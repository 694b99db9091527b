"""On a bag-of-words model whose every answer is known: p(class 1) = 1/2 + the sum of the tokens' weights."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from adapler.errors import ArgumentError
from analysis.metrics import faithfulness as fa


def faithfulness(
    predict: Any, ids: Any, content: Any, scores: Any, *, target: int, mask_id: int | None = None, **options: Any
) -> dict[str, float]:
    rows = np.asarray(scores, dtype=float)[None]
    return fa.faithfulness_rows(versions(predict, ids, content, target=target, mask_id=mask_id, **options), rows)[0]


def versions(
    predict: Any, ids: Any, content: Any, *, target: int = 1, mask_id: int | None = None, **options: Any
) -> fa.Versions:
    settings = fa.FaithfulnessSettings(**options)
    return fa.Versions(predict, ids, content, target=target, settings=settings, mask_id=mask_id)


CLS, SEP, MASK = 101, 102, 103
# ten content tokens with ids 1..10; id -> weight, everything else weighs nothing
WEIGHTS = {1: 0.2, 2: 0.1, 3: 0.05, 4: -0.1, 5: 0.02}
IDS = np.array([CLS, 4, 6, 1, 7, 2, 8, 3, 9, 5, 10, SEP])
CONTENT = np.array([False] + [True] * 10 + [False])
TRUE_WEIGHTS = np.array([WEIGHTS.get(int(i), 0.0) for i in IDS[CONTENT]])
WHOLE = 0.5 + 0.27


class BagOfWords:
    """Records every call."""

    def __init__(self) -> None:
        self.calls: list[list[list[int]]] = []

    def __call__(self, inputs: list[np.ndarray]) -> np.ndarray:
        self.calls.append([one.tolist() for one in inputs])
        p = np.array([0.5 + sum(WEIGHTS.get(int(i), 0.0) for i in one) for one in inputs])
        return np.stack([1 - p, p], axis=1)


def test_comprehensiveness_and_sufficiency_by_hand() -> None:
    model = BagOfWords()
    result = faithfulness(model, IDS, CONTENT, TRUE_WEIGHTS, target=1)
    # 1, 5 and 10 % of ten tokens are one (id 1), 20 % are two (1, 2), 50 % five (1, 2, 3, 5 and one of weight 0)
    gone = {1: 0.2, 5: 0.2, 10: 0.2, 20: 0.3, 50: 0.37}
    expected = {f"comprehensiveness_{b}": value for b, value in gone.items()}
    expected |= {f"sufficiency_{b}": WHOLE - (0.5 + value) for b, value in gone.items()}
    expected["aopc_comprehensiveness"] = (3 * 0.2 + 0.3 + 0.37) / 5
    expected["aopc_sufficiency"] = (3 * 0.07 - 0.03 - 0.1) / 5
    undefined = ("comprehensiveness_at_density", "sufficiency_at_density")  # nobody said how dense rationales are
    assert result == pytest.approx(expected | dict.fromkeys(undefined, math.nan), nan_ok=True)


def test_at_the_data_set_s_density() -> None:
    result = faithfulness(BagOfWords(), IDS, CONTENT, TRUE_WEIGHTS, target=1, density=0.25)  # ceil(2.5) = 3 tokens
    assert result["comprehensiveness_at_density"] == pytest.approx(0.35)
    assert result["sufficiency_at_density"] == pytest.approx(WHOLE - 0.85)
    without = faithfulness(BagOfWords(), IDS, CONTENT, TRUE_WEIGHTS, target=1)
    assert result["aopc_comprehensiveness"] == without["aopc_comprehensiveness"]  # it is no bin


def test_equal_scores_are_taken_at_random_never_by_position() -> None:
    def taken(seed: int, ids: np.ndarray = IDS) -> list[int]:
        model = BagOfWords()
        faithfulness(model, ids, CONTENT, np.zeros(10), target=1, bins=(30,), seed=seed)
        return model.calls[0][2][1:-1]

    every = [taken(seed) for seed in range(200)]
    counts = np.array([sum(int(token) in one for one in every) for token in IDS[CONTENT]])
    assert counts.sum() == 600 and counts.min() > 35 and counts.max() < 90  # 60 each on average
    assert taken(3) == taken(3) and len({tuple(one) for one in every}) > 50
    # another text of the same length has another order: not one lucky order for all documents of 512 tokens
    moved = np.concatenate([IDS[:1], IDS[1:-1][::-1], IDS[-1:]])
    places = [[sorted(list(ids).index(one) for one in taken(seed, ids)) for ids in (IDS, moved)] for seed in range(5)]
    assert any(here != there for here, there in places)


def test_the_tokens_of_a_word_stay_together_among_equal_scores() -> None:
    words = np.repeat(np.arange(5), 2)
    for seed in range(20):
        model = BagOfWords()
        asked = versions(model, IDS, CONTENT, bins=(40,), seed=seed)
        fa.faithfulness_rows(asked, np.zeros((1, 10)), words=words)
        taken = [IDS[CONTENT].tolist().index(token) for token in model.calls[0][2][1:-1]]
        assert {i ^ 1 for i in taken} == set(taken), "whole words of two tokens"


def test_the_inputs_are_what_they_should_be_and_come_in_one_call() -> None:
    model = BagOfWords()
    faithfulness(model, IDS, CONTENT, TRUE_WEIGHTS, target=1, bins=(20,))
    assert model.calls == [[IDS.tolist(), [CLS, 4, 6, 7, 8, 3, 9, 5, 10, SEP], [CLS, 1, 2, SEP]]]
    masked = BagOfWords()
    faithfulness(masked, IDS, CONTENT, TRUE_WEIGHTS, target=1, bins=(20,), variant="mask", mask_id=MASK)
    assert masked.calls[0][1:] == [
        [CLS, 4, 6, MASK, 7, MASK, 8, 3, 9, 5, 10, SEP],
        [CLS, MASK, MASK, 1, MASK, 2, MASK, MASK, MASK, MASK, MASK, SEP],
    ]


def test_special_and_query_tokens_always_stay() -> None:
    ids, content = np.array([CLS, 1, 2, SEP, 3, SEP]), np.array([0, 1, 1, 0, 0, 0])  # 3 is the query
    model = BagOfWords()
    result = faithfulness(model, ids, content, [0.1, 0.9], target=1, bins=(50, 100))
    assert model.calls == [
        [ids.tolist(), [CLS, 1, SEP, 3, SEP], [CLS, 2, SEP, 3, SEP], [CLS, SEP, 3, SEP]],
    ]  # all but everything is nothing and the other way round: each asked once
    assert result["comprehensiveness_100"] == pytest.approx(0.3)
    assert result["sufficiency_100"] == pytest.approx(0)


def test_mask_and_delete_agree_where_a_mask_weighs_nothing_and_the_other_class_is_the_negative() -> None:
    deleted = faithfulness(BagOfWords(), IDS, CONTENT, TRUE_WEIGHTS, target=1)
    masked = faithfulness(BagOfWords(), IDS, CONTENT, TRUE_WEIGHTS, target=1, variant="mask", mask_id=MASK)
    other = faithfulness(BagOfWords(), IDS, CONTENT, TRUE_WEIGHTS, target=0)
    assert deleted == pytest.approx(masked, nan_ok=True)
    assert {name: -value for name, value in deleted.items()} == pytest.approx(other, nan_ok=True)


def test_rows_share_one_call_and_equal_each_row_alone() -> None:
    rng = np.random.default_rng(1)
    rows = np.stack([TRUE_WEIGHTS, rng.random(10), TRUE_WEIGHTS, np.zeros(10)])
    model = BagOfWords()
    together = fa.faithfulness_rows(versions(model, IDS, CONTENT), rows)
    assert len(model.calls) == 1
    inputs = [tuple(one) for one in model.calls[0]]
    assert len(inputs) == len(set(inputs)) < 1 + len(rows) * 2 * len(fa.BINS)
    for row, result in zip(rows, together, strict=True):
        assert result == pytest.approx(faithfulness(BagOfWords(), IDS, CONTENT, row, target=1), nan_ok=True)


def test_ferret_leaves_out_empty_and_equal_bins_and_scores_that_are_not_positive() -> None:
    model = BagOfWords()
    scores = [-0.5, 0.0, 0.9, 0.0, 0.4, 0.0, 0.3, 0.0, 0.0, 0.0]  # ids 1, 2, 3 are positive
    bins = tuple(range(5, 101, 5))
    result = faithfulness(model, IDS, CONTENT, scores, target=1, bins=bins, rounding="down", positive_only=True)
    assert math.isnan(result["comprehensiveness_5"])  # half a token
    assert result["comprehensiveness_10"] == pytest.approx(0.2)
    assert math.isnan(result["comprehensiveness_15"])  # the same token once more
    assert math.isnan(result["comprehensiveness_100"])  # no more than three are positive
    assert result["aopc_comprehensiveness"] == pytest.approx((0.2 + 0.3 + 0.35) / 3)
    nothing = faithfulness(model, IDS, CONTENT, [0.0] * 10, target=1, positive_only=True)
    assert all(math.isnan(value) for value in nothing.values())


def test_leave_one_out_finds_the_weights() -> None:
    model = BagOfWords()
    drops = fa.leave_one_out(versions(model, IDS, CONTENT))
    assert drops == pytest.approx(TRUE_WEIGHTS)
    assert len(model.calls) == 1 and model.calls[0][1] == [CLS, 6, 1, 7, 2, 8, 3, 9, 5, 10, SEP]
    assert fa.leave_one_out(versions(model, IDS, CONTENT, variant="mask", mask_id=MASK)) == pytest.approx(drops)


def test_loo_kendall() -> None:
    assert fa.loo_kendall([0.1, 0.2, 0.3], [1, 2, 3]) == pytest.approx(1)
    assert fa.loo_kendall([0.1, 0.2, 0.3], [3, 2, 1]) == pytest.approx(-1)
    # pairs: (1,2) agree, (1,3) tied in the second, (2,3) disagree -> (1 - 1) / sqrt(3 · 2)
    assert fa.loo_kendall([0.1, 0.2, 0.3], [1, 2, 1]) == pytest.approx(0)
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 4, 30), rng.integers(0, 4, 30)
    concordant = sum(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i in range(30) for j in range(i))
    untied = [sum(x[i] != x[j] for i in range(30) for j in range(i)) for x in (a, b)]
    assert fa.loo_kendall(a, b) == pytest.approx(concordant / math.sqrt(untied[0] * untied[1]))
    assert fa.loo_kendall(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert math.isnan(fa.loo_kendall([0.1, 0.2], [0.5, 0.5])) and math.isnan(fa.loo_kendall([0.1], [0.5]))


def test_no_content_is_undefined() -> None:
    model = BagOfWords()
    result = faithfulness(model, [CLS, SEP], [0, 0], [], target=0)
    assert len(result) == 14 and all(math.isnan(value) for value in result.values()) and not model.calls
    assert fa.leave_one_out(versions(model, [CLS, SEP], [0, 0])).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "mask"}, "mask_id: got None, variant 'mask' needs"),
        ({"scores": [0.1] * 9}, r"scores: got shape \(1, 9\), must be \(rows, 10 tokens\)"),
        ({"scores": [math.nan] * 10}, "and finite"),
    ],
)
def test_bad_input(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "predict": BagOfWords(),
        "window_ids": IDS,
        "content": CONTENT,
        "scores": np.arange(10) / 10,
        "target": 1,
        "bins": (10, 20, 30, 40, 50),
    } | options
    with pytest.raises(ArgumentError, match=message):
        faithfulness(arguments.pop("predict"), arguments.pop("window_ids"), **arguments)  # type: ignore[arg-type]


def interacting(inputs: list[np.ndarray]) -> np.ndarray:
    """p(class 1) of a model in which pairs of tokens matter: no order by single tokens is the best one."""
    p = []
    for ids in inputs:
        there = set(ids.tolist())
        p.append(0.5 + 0.2 * ({1, 2} <= there) + 0.1 * ({3, 4} <= there) - 0.15 * (5 in there) + 0.05 * (2 in there))
    return np.stack([1 - np.array(p), np.array(p)], axis=1)


@pytest.mark.parametrize("kind", ["comprehensiveness", "sufficiency"])
def test_exact_limits_are_those_of_all_orders(kind: str) -> None:
    ids, content = np.array([101, 1, 2, 3, 4, 5, 102]), np.array([False, *[True] * 5, False])
    bins = (20, 40, 60, 80)
    every = [
        faithfulness(interacting, ids, content, order, target=1, bins=bins)[f"aopc_{kind}"]
        for order in permutations(range(5))
    ]
    low, high = fa.aopc_bounds(versions(interacting, ids, content, bins=bins), kind)
    assert (low, high) == pytest.approx((min(every), max(every)))
    assert low < high


@pytest.mark.parametrize("search", ["_beam", "_in_blocks"])
def test_searches_find_the_limits_of_an_additive_model(monkeypatch: pytest.MonkeyPatch, search: str) -> None:
    monkeypatch.setattr(fa, "EXACT", 0)
    if search == "_in_blocks":
        monkeypatch.setattr(fa, "SINGLE_STEPS", 0)
    for kind, sign in (("comprehensiveness", 1), ("sufficiency", -1)):
        found = fa.aopc_bounds(versions(BagOfWords(), IDS, CONTENT), kind)
        ends = [
            faithfulness(BagOfWords(), IDS, CONTENT, order * TRUE_WEIGHTS, target=1)[f"aopc_{kind}"]
            for order in (-sign, sign)
        ]
        assert found == pytest.approx(tuple(ends))


def test_limits_of_as_many_tokens_as_may_be_taken() -> None:
    """ferret: only tokens with a positive score; then the AOPC is the mean over fewer sizes."""
    ids, content = np.array([101, 1, 2, 3, 4, 5, 102]), np.array([False, *[True] * 5, False])
    asked = versions(interacting, ids, content, bins=(20, 40, 60, 80), rounding="down", positive_only=True)
    every = []
    for order in permutations(range(5)):
        scores = np.where(np.array(order) >= 3, order, 0)  # two are positive
        [one] = fa.faithfulness_rows(asked, scores[None])
        every.append(one["aopc_comprehensiveness"])
    low, high = fa.aopc_bounds(asked, "comprehensiveness", usable=2)
    assert (low, high) == pytest.approx((min(every), max(every)))
    assert (low, high) != pytest.approx(fa.aopc_bounds(asked, "comprehensiveness"))
    assert all(map(math.isnan, fa.aopc_bounds(asked, "comprehensiveness", usable=0)))


def test_soft_metrics_of_certain_tokens_by_hand() -> None:
    scores = (TRUE_WEIGHTS > 0.06).astype(float)  # ids 1 and 2 stay, or go, for sure: nothing is left to chance
    (found,) = fa.soft_rows(versions(BagOfWords(), IDS, CONTENT), [scores])
    scale = WHOLE - 0.5  # without any content token
    assert found["soft_comprehensiveness"] == pytest.approx(0.3 / scale)
    assert found["soft_sufficiency"] == pytest.approx(1.0)  # 0.8 is above the whole


def test_soft_metrics_are_means_over_draws() -> None:
    asked = versions(BagOfWords(), IDS, CONTENT, seed=3)
    rows = np.array([TRUE_WEIGHTS, -TRUE_WEIGHTS, np.ones(10)])
    found = fa.soft_rows(asked, rows)
    again = fa.soft_rows(asked, rows[:1])
    assert again[0] == found[0]  # other rows change nothing
    assert fa.soft_rows(versions(BagOfWords(), IDS, CONTENT, seed=4), rows[:1])[0] != found[0]
    for name in fa.SOFT:
        assert found[0][name] > found[2][name] > found[1][name]
    assert fa.keep_chances([1, 3, 2]).tolist() == [0, 1, 0.5] and fa.keep_chances([2, 2]).tolist() == [0.5, 0.5]
    assert math.isnan(fa.soft_comprehensiveness(0.5, 0.4, 0.6)) and math.isnan(fa.soft_sufficiency(0.5, 0.4, 0.6))
    with pytest.raises(ArgumentError, match="must be \\(rows, 10 tokens\\)"):
        fa.soft_rows(asked, [[1.0]])
