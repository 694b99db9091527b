"""An explanation: its table, its metrics, what a terminal shows, its figures and files (its page: test_page)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapler.errors import ArgumentError
from analysis import explain
from analysis.explanation import Explanation
from analysis.scores import Batch, LayerScores
from tests.adapler.policies.policy_models import tiny_policy
from tests.analysis.conftest import BAD

METHODS = ["cp", "saliency", "saliency_signed", "integrated_gradients(n_steps=4)"]


@pytest.fixture
def e(reducer: Any, tiny_tokenizer: Any) -> Explanation:
    return explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=METHODS, rationale=[1, 3], gold="neg")


def test_the_frame_says_what_the_arrays_say(e: Explanation) -> None:
    frame = e.to_frame()
    columns = ["position", "method", "layer", "token", "word", "score", "threshold", "kept"]
    assert list(frame.columns) == columns and len(frame) == (3 + 3 + 3 + 1) * e.n
    for name in METHODS:
        rows = frame[frame["method"] == name]
        np.testing.assert_array_equal(rows["score"].to_numpy().reshape(-1, e.n), e.scores[name])
    cp, saliency, _, gradients = (frame[frame["method"] == name] for name in METHODS)
    assert e.kept is not None and e.thresholds is not None and e.methods["cp"].present is not None
    assert cp["kept"].astype(bool).to_numpy().reshape(3, -1).tolist() == e.kept.tolist()
    thresholds = cp["threshold"].to_numpy().reshape(3, -1)
    assert (~np.isnan(thresholds) == e.methods["cp"].present).all() and thresholds[
        :, 0
    ].tolist() == e.thresholds.tolist()
    assert saliency["kept"].tolist() == cp["kept"].tolist() and saliency["threshold"].isna().all()
    assert gradients["kept"].isna().all() and gradients["threshold"].isna().all()
    pieces = cp[cp["layer"] == 0]
    assert pieces["token"].tolist()[3:7] == ["and", "ted", "##ious", "film"]
    assert pieces["word"].tolist()[3:7] == ["and", "tedious", "tedious", "film"]
    assert pieces["word"].isna().tolist() == [True, *[False] * (e.n - 2), True]


def test_metrics_take_the_rationale_that_was_given_or_another(e: Explanation) -> None:
    pd.testing.assert_frame_equal(e.metrics(), e.metrics([(1, 2), (3, 4)]))
    judged = e.metrics(metrics=["average_precision", "fpr_present"], aggregation="max")
    assert list(judged.columns) == ["method", "layer", "average_precision", "fpr_present", "chance", "n", "n_present"]
    assert set(judged["n"]) == {8 + 2} and judged.loc[judged["method"] == "saliency_signed", "fpr_present"].isna().all()
    assert e.metrics([])["average_precision"].isna().all()
    with pytest.raises(ArgumentError, match="metrics: 'aopc_sufficiency' needs the model again"):
        e.metrics(metrics="aopc_sufficiency")


def test_a_token_that_is_gone_is_not_among_the_highest(e: Explanation) -> None:
    lines = repr(e).splitlines()
    assert "without removal" in lines[0] and "gold label NEG" in lines[0] and max(map(len, lines)) < 160
    assert lines[1].startswith("n = 12 tokens, 8 words") and len(lines) == 3 + len(METHODS) + 1
    cp = e.methods["cp"]
    assert cp.present is not None and not cp.present[-1].all()
    assert lines[3].startswith("cp ") and lines[3].count(", ") + 1 == min(4, int(cp.present[-1].sum()))
    gap = e.methods[METHODS[3]].diagnostics["completeness_gap"][0]
    assert lines[-1] == f"check {METHODS[3]}: completeness gap {gap:.2g}"


def test_every_layer_is_a_heat_map_of_two_colours(e: Explanation) -> None:
    panels = [ax for ax in e.plot().axes if ax.images]
    assert [ax.get_title(loc="left") for ax in panels][:2] == ["AdapLeR CP", "Saliency"] and len(panels) == 4
    assert (panels[2].images[0].get_array() < 0).any(), "a signed score keeps its sign"
    assert len(e.plot(methods=["cp", "saliency"]).axes) == 3


@pytest.mark.parametrize("layer", [0, 2])
def test_one_layer_is_bars_of_the_scores(layer: int, e: Explanation, tmp_path: Path) -> None:
    figure = e.plot(layer=layer)
    for ax, (name, method) in zip(figure.axes, e.methods.items(), strict=True):
        heights = [bar.get_height() for bar in ax.patches]
        np.testing.assert_allclose(heights, e.scores[name][method.row(layer)], rtol=1e-6)
        levels = {text.get_text(): float(text.xy[1]) for text in ax.texts}
        n = int(method.n_present[method.row(layer)])
        assert levels.get(f"1/n, n = {n}") == (None if method.signed else pytest.approx(1 / n))
    assert e.thresholds is not None
    threshold = {text.get_text(): text.xy[1] for text in figure.axes[0].texts}["threshold"]
    assert threshold == pytest.approx(e.thresholds[layer])
    labels = figure.axes[-1].get_xticklabels()
    assert [label.get_text() for label in labels][:6] == ["[CLS]", "a", "dull", "and", "ted", "ious"]
    assert [label.get_fontweight() == "bold" for label in labels] == e.document().rationale.tolist()
    e.save(tmp_path / "bars.png", layer=layer)  # matplotlib warns when it cannot lay it out, and warnings are errors


def test_a_long_text_is_drawn_as_an_excerpt(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD * 5, model=reducer, tokenizer=tiny_tokenizer, methods=["cp", "attention"])
    assert [ax.get_title(loc="left") for ax in e.plot(layer=1).axes] == ["AdapLeR CP", "[CLS] attention"]
    with pytest.raises(ArgumentError, match="layer: got 3, 'cp' has 0 to 2"):
        e.plot(layer=3)
    with pytest.raises(ArgumentError, match="methods: 'lime' is not in this explanation, which has cp, attention"):
        e.plot(methods="lime")


def test_files(e: Explanation, tmp_path: Path) -> None:
    for suffix in ("pdf", "png", "svg", "html", "csv", "json"):
        assert e.save(tmp_path / f"e.{suffix}") == tmp_path / f"e.{suffix}"
    pdf = (tmp_path / "e.pdf").read_bytes()
    assert b"/Type3" not in pdf and b"/FontFile2" in pdf, "fonts are embedded, as TrueType"
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and e._repr_html_() in page and not re.search("<script", page)
    assert len(pd.read_csv(tmp_path / "e.csv")) == len(e.to_frame())
    read = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(read["methods"]["cp"]["scores"], e.scores["cp"])
    assert e.kept is not None and e.methods["cp"].present is not None
    assert read["kept"] == e.kept.astype(int).tolist() and read["tokens"] == list(e.tokens)
    assert read["methods"]["cp"]["n_present"] == e.methods["cp"].present.sum(1).tolist()
    with pytest.raises(ArgumentError, match=r"save: 'e.docx' must end in one of .pdf, .png, .svg, .html, .csv, .json"):
        e.save(tmp_path / "e.docx")
    with pytest.raises(ArgumentError, match="layer and methods are for figures, e.csv holds everything"):
        e.save(tmp_path / "e.csv", layer=1)


def test_scores_of_some_tokens_are_not_taken_for_those_by_which_the_model_drops(
    reducer: Any, tiny_tokenizer: Any
) -> None:
    def of_text(model: Any, batch: Batch) -> LayerScores:
        """Shares of the tokens of the text alone."""
        assert batch.special is not None
        there = ~batch.special[:, None].expand(-1, model.config.num_hidden_layers, -1)
        return LayerScores(there / there.sum(-1, keepdim=True), present=there)

    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=[of_text])
    assert e.kept is not None and not e.kept.all() and e.to_frame()["threshold"].isna().all()
    page = e.to_html()
    assert 'class="x"' not in page and "threshold" not in page
    assert page.count("not among the tokens scored here") == 2 * len(e.kept)
    bars = e.plot(layer=len(e.kept) - 1).axes[0]
    assert all(bar.get_facecolor()[3] > 0 for bar in bars.patches) and len(bars.lines) == 1, "1/n alone, no cross"


def test_bars_say_what_another_policy_drops(tiny_tokenizer: Any) -> None:
    e = explain(
        "the film is not good and the plot was dull", model=tiny_policy("transkimmer"), tokenizer=tiny_tokenizer
    )
    (policy, *_), (panel, *_) = e.methods.values(), e.plot(layer=2).axes
    assert e.kept is not None and policy.present is not None and e.thresholds is None
    assert [bar.get_facecolor()[3] > 0 for bar in panel.patches] == e.kept[2].tolist()


def test_what_is_no_number_is_null_in_json(classifier: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    def unsure(model: Any, batch: Batch) -> LayerScores:
        scores = torch.ones(1, 3, batch.input_ids.shape[1]) / batch.input_ids.shape[1]
        return LayerScores(scores, diagnostics={"ratio": torch.tensor([[0.5, float("nan"), float("inf")]])})

    path = explain(BAD, model=classifier, tokenizer=tiny_tokenizer, methods=unsure).save(tmp_path / "e.json")
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["methods"]["unsure"]["diagnostics"] == {"ratio": [0.5, None, None]}
