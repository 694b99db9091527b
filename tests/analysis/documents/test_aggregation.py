from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis.documents.aggregation import aggregate
from analysis.documents.alignment import align
from analysis.documents.units import (
    WindowScores,
    group,
    layer_units,
    marked_units,
    unit_labels,
    why_skipped,
    word_scores,
)
from tests.analysis.conftest import Document


def test_against_a_loop() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        words = generator.integers(0, 6, generator.integers(1, 15))
        scores = generator.normal(size=(3, len(words)))
        for how, function in (("max", np.max), ("mean", np.mean), ("sum", np.sum)):
            values, kept = aggregate(scores, words, how=how)
            assert kept.tolist() == list(dict.fromkeys(words.tolist()))
            for k, word in enumerate(kept):
                np.testing.assert_allclose(values[:, k], function(scores[:, words == word], axis=1))


def test_none_changes_nothing_and_empty_is_empty() -> None:
    scores, words = aggregate(np.array([0.1, 0.2]), np.array([5, 5]), how="none")
    assert scores.tolist() == [0.1, 0.2] and words.tolist() == [5, 5]
    assert aggregate(np.zeros((2, 0)), np.zeros(0, dtype=np.int64), how="max")[0].shape == (2, 0)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="aggregation: got 'min', allowed are none, max, mean, sum"):
        aggregate(np.zeros(2), np.zeros(2, dtype=np.int64), how="min")
    with pytest.raises(ArgumentError, match="words: 3 of them, scores have 2 wordpieces"):
        aggregate(np.zeros(2), np.zeros(3, dtype=np.int64), how="max")


def scored(*rows: list[float], present: list[list[bool]] | None = None, signed: bool = False) -> WindowScores:
    mask = None if present is None else np.array(present)
    return WindowScores(np.array(rows, dtype=np.float32), mask, signed)


def test_a_word_unit_by_hand(tiny_tokenizer: Any) -> None:
    # [CLS] film un ##forgettable [SEP]
    (window,) = align(Document("d", ["film", "unforgettable"], [1]), tiny_tokenizer).windows
    assert unit_labels([window], aggregation="none").tolist() == [False, True, True]
    assert unit_labels([window], aggregation="max").tolist() == [False, True]
    given = scored([0.5, 0.1, 0.1, 0.2, 0.1], present=[[True, True, False, True, False]])
    (pieces,) = units([window], [given], "none")
    np.testing.assert_allclose(pieces.scores, [0.1, 0.1, 0.2], rtol=1e-6)
    assert (pieces.n_input, pieces.n_present, pieces.units) == (5, 3, "token") and pieces.present_scores is None
    (summed,) = units([window], [given], "sum")
    np.testing.assert_allclose(summed.scores, [0.1, 0.3], rtol=1e-6)
    assert (summed.n_input, summed.n_present, summed.units) == (4, 3, "word")  # two words, [CLS]; [SEP] is gone
    # the max of the pieces leaves .5 + .1 + .1 + .2 = .9 to share out
    (best,) = units([window], [given], "max")
    np.testing.assert_allclose(best.scores, [0.1 / 0.9, 0.2 / 0.9], rtol=1e-6)
    mask = np.array([True, False])
    assert marked_units([window], mask, aggregation="none").tolist() == [True, False, False]
    assert marked_units([window], ~mask, aggregation="mean").tolist() == [False, True]


def units(windows: Any, given: Any, aggregation: str) -> Any:
    labels = unit_labels(windows, aggregation=aggregation)
    return layer_units(windows, given, labels, aggregation=aggregation)


def test_tokens_present_weigh_the_windows_of_the_level_of_tokens_present(tiny_tokenizer: Any) -> None:
    windows = align(Document("d", ["film"] * 8, [0]), tiny_tokenizer, max_length=6, policy="all-windows").windows
    assert [len(window) for window in windows] == [6, 6]
    few = [True, False, True, True, False, False]  # three of six are there, each with a third of the scores
    given = [scored([1 / 6] * 6), scored([x / 3 for x in few], present=[few])]
    (unit,) = units(windows, given, "none")
    assert (unit.n_input, unit.n_present) == (12, 9)
    # uniform over the tokens that are there in both windows: all of them are at the level, none is over it
    present = np.concatenate([np.ones(4, dtype=bool), np.array(few)[1:5]])
    np.testing.assert_allclose(unit.present_scores, present / 9, rtol=1e-6)
    np.testing.assert_allclose(unit.scores, np.where(present, [1 / 12] * 4 + [1 / 6] * 4, 0), rtol=1e-6)
    from analysis.metrics.registry import PRESENT

    assert (unit.selected(PRESENT) == present).all()
    # of two layers each has its own weights: in the first one nothing is gone yet
    every = [1 / 6] * 6
    given = [scored(every, every), scored(every, [x / 3 for x in few], present=[[True] * 6, few])]
    first, second = units(windows, given, "none")
    np.testing.assert_allclose(first.present_scores, np.full(8, 1 / 12), rtol=1e-6)
    np.testing.assert_allclose(second.present_scores, present / 9, rtol=1e-6)


@pytest.mark.parametrize("lowest", [-2.0, 0.5])
def test_a_word_out_of_view_is_below_all_others(lowest: float, tiny_tokenizer: Any) -> None:
    windows = align(Document("d", ["film"] * 6, [0]), tiny_tokenizer, max_length=6).windows
    given = scored([9.0, 1.0, lowest, 3.0, 2.0, 9.0], signed=True)
    found = word_scores(windows, [given], n_words=6, aggregation="none")
    assert found.tolist() == [[1.0, lowest, 3.0, 2.0, *[min(lowest, 0.0)] * 2]], "the lowest score, at most 0"


def test_uniform_windows_are_stitched_to_a_uniform_document(tiny_tokenizer: Any) -> None:
    document = Document("d", ["film"] * 11, [0])
    windows = align(document, tiny_tokenizer, max_length=6, policy="all-windows").windows
    lengths = [len(window) for window in windows]
    assert lengths == [6, 6, 5]
    uniform = [scored([1 / n] * n) for n in lengths]
    (stitched,) = units(windows, uniform, "none")
    np.testing.assert_allclose(stitched.scores, np.full(11, 1 / 17), rtol=1e-6)
    assert stitched.n_input == stitched.n_present == 17
    (raw,) = units(windows, [scored([-2.0] * n, signed=True) for n in lengths], "none")
    assert raw.signed and (raw.scores == -2).all()  # signed scores are no shares of a window


def test_units_of_a_policy(tiny_tokenizer: Any) -> None:
    windows = align(Document("d", ["film"] * 11, [0]), tiny_tokenizer, max_length=6, policy="all-windows").windows
    assert [len(unit) for unit in group(windows, policy="all-windows")] == [3]
    assert [len(unit) for unit in group(windows, policy="rationale-windows")] == [1, 1, 1]


def test_why_skipped() -> None:
    yes, no, both = np.array([True]), np.array([False]), np.array([True, False])
    assert why_skipped([no, both]) is None
    assert why_skipped([no]) == "no rationale in view"
    assert why_skipped([no, yes]) == "nothing but rationale in view"
    assert why_skipped([no, yes], all_rationale=True) is None and why_skipped([no], all_rationale=True) is not None
