"""Numbers in tables, cards and the player."""

from __future__ import annotations

import numpy as np
import pytest

from app.markup import cards, export, player, render, render_methods
from app.model import comparing
from tests.app.markup.test_render import Reader, make_trace


def test_thresholds_by_token() -> None:
    trace = make_trace(["a", "b"], [1, 3], thresholds=np.array([0.1, 0.2, 0.3]), layer_flops=np.array([1e6, 2e6, 5e6]))
    tokens = export.token_table(trace)
    assert tokens["threshold"].tolist() == [0.1] * 4 + [0.2] * 4 + [0.3] * 4


def test_shares_of_flops() -> None:
    trace = make_trace(["a", "b"], [1, 3], layer_flops=np.array([1e6, 2e6, 5e6]))
    layers = export.layer_table(trace)
    assert layers["FLOPs share"].tolist() == [0.125, 0.25, 0.625]


def test_speedup_by_layer() -> None:
    trace = make_trace(["a", "b"], [1, 3], layer_flops=np.array([1e6, 2e6, 5e6]))
    assert export.layer_table(trace)["speedup"].tolist() == pytest.approx([3.4, 1.7, 0.68])


def test_the_probability_is_of_the_label_before() -> None:
    before, after = make_trace(["a"], [3]), make_trace(["a"], [3], probabilities=np.array([0.9, 0.1]))
    assert "Probability of POS75%10%" in Reader(cards.before_after(before, after)).text


def test_flags_of_the_player() -> None:
    marks = [np.array(row, dtype=bool) for row in ([0, 1, 0, 0], [0, 0, 1, 0])]
    data = player.drawn(make_trace(["a", "b"], [3, 3], gold=marks[0], unknown=marks[1]), [])
    assert [one["flags"] for one in data["tokens"]] == [1, 2, 4, 1], "special, rationale, unknown: as in player.js"


def test_the_bar_of_a_layer() -> None:
    html = render.layer_head(make_trace(["a", "b", "c"], [0, 1, 3]), 1)
    assert "width:60.0%" in html and "<b>3</b> of 5 tokens" in html


def test_tokens_that_go_here() -> None:
    trace = make_trace(["one", "two"], [1, 3])  # `one` enters layer 0 and goes before layer 1
    one = comparing.Comparison(
        title="x", scope="in the layer", target=None, scores=np.full((3, 4), 0.25, dtype=np.float32),
        present=np.ones((3, 4), dtype=bool), content=trace.words >= 0, selected=np.tile(trace.words >= 0, (3, 1)),
        retained=trace.enters, layerwise=True, metrics=np.full((3, 3), 0.5), unjudged=None, chance=0.5,
    )  # fmt: skip
    assert "1 of them dropped here" in render_methods.notes(one, 0, late=True)[-1], "its scores decide on layer 1"
    assert "dropped here" not in render_methods.notes(one, 0)[-1]
