"""A checkpoint with another removal policy: the views show it, and its tokens drop there too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from adapler import AdapLeRForSequenceClassification
from adapler.policies import policy_names
from analysis.tokens import ratios
from app.markup import export, render, render_methods, strip
from app.markup import player as drawing
from app.markup.terms import RULES
from app.model import comparing, faithful, tracing
from app.server import state
from app.sources.documents import Document
from tests.adapler.policies.policy_models import tiny_policy
from tests.app.pages import played

OPTIONS: dict[str, dict[str, Any]] = {
    "cls_topk": {"keep": 0.6},
    "ltp": {"theta_final": 0.25},
    "power": {"lengths": [6, 4, 4]},
    "random_topk": {"keep": 0.6},
    "transkimmer": {},
    "trbert": {},
}
TEXT = "the film is not good and the plot was dull"


@pytest.fixture(params=sorted(OPTIONS))
def other(request: pytest.FixtureRequest, tmp_path: Path, tiny_classifier_folder: Path, tiny_tokenizer: Any) -> Any:
    """A model with the policy, saved in `tmp_path/checkpoints` under its name."""
    name = str(request.param)
    model = AdapLeRForSequenceClassification.from_backbone(
        tiny_classifier_folder, policy=name, policy_options=OPTIONS[name]
    ).eval()
    model.save_pretrained(tmp_path / "checkpoints" / name)
    tiny_tokenizer.save_pretrained(tmp_path / "checkpoints" / name)
    return model


def test_a_trace_says_who_enters_each_layer_and_why(other: Any, tiny_tokenizer: Any) -> None:
    words = tuple(TEXT.split())
    found = tracing.trace(other, tiny_tokenizer, words, rationale=np.zeros(len(words), dtype=np.bool_))
    assert np.isfinite(found.thresholds).all()
    before = np.vstack([np.ones((1, len(found)), dtype=np.bool_), found.enters[:-1]])
    decided = (found.scores >= found.thresholds[:, None]) & before
    decided[:, 0] = True
    assert (decided == found.enters).all()
    assert found.layer_flops.sum() == pytest.approx(found.flops, rel=0.05)
    if other.config.policy == "power":
        assert found.lengths.tolist() == [12, 6, 4]


def test_tokens_that_cls_does_not_see_are_drawn(tiny_tokenizer: Any) -> None:
    """ModernBERT's attention is local in most layers: the scores of the others are negative, and so is the bar."""
    model = tiny_policy("cls_topk", "modernbert").eval()
    words = tuple("good film".split() * 8)
    found = tracing.trace(model, tiny_tokenizer, words, rationale=np.zeros(len(words), dtype=np.bool_))
    assert (found.scores < 0).any() and (found.ratios >= 0).all() and (found.totals > 0).all()
    before = np.vstack([np.ones((1, len(found)), dtype=np.bool_), found.enters[:-1]])
    decided = (found.scores >= found.thresholds[:, None]) & before
    decided[:, 0] = True
    assert (decided == found.enters).all(), "whoever stays has the bar at least"
    assert render.layer_grid(found).count("al-layer") == found.layers
    shaded = ratios(export.record(found, Document("x", " ".join(words))), "cp")
    np.testing.assert_allclose(shaded, found.ratios, atol=1e-4, err_msg="the figure has the page's shades")


@pytest.mark.parametrize("other", ["cls_topk", "power", "random_topk"], indirect=True)
def test_a_scale_that_leaves_cls_alone_is_drawn(other: Any, tiny_tokenizer: Any) -> None:
    words = tuple(TEXT.split())
    marked = np.zeros(len(words), dtype=np.bool_)
    found = tracing.trace(other, tiny_tokenizer, words, rationale=marked, threshold_scale=50.0)
    assert found.lengths.tolist()[-2:] == [1, 1]
    assert np.isfinite(found.thresholds).all(), "JSON, which the browser reads, has no infinity"
    before = np.vstack([np.ones((1, len(found)), dtype=np.bool_), found.enters[:-1]])
    assert (found.scores < found.thresholds[:, None])[before & ~found.enters].all()


def test_its_scores_stand_where_those_of_adapler_would(other: Any, tiny_tokenizer: Any) -> None:
    document = Document("x", TEXT)
    found = comparing.compare(other, tiny_tokenizer, document, "cp")
    assert found.title == "Removal policy" and found.retained is not None


def test_its_scores_are_not_called_those_of_adapler(other: Any, tiny_tokenizer: Any) -> None:
    words = tuple(TEXT.split())
    found = tracing.trace(other, tiny_tokenizer, words, rationale=np.zeros(len(words), dtype=np.bool_))
    said = render.legend(found) + strip.strip(found)
    assert f"<code>{other.config.policy}</code>" in said
    assert "contribution score" not in said and "small network" not in said and "learned" not in said


def test_no_bar_stands_beside_scores_that_it_is_not_for(other: Any, tiny_tokenizer: Any) -> None:
    """Those of the comparison add up to 1, and are of the layer in which the policy decides."""
    document = Document("x", TEXT)
    found = tracing.trace(other, tiny_tokenizer, document.words, rationale=document.rationale)
    panel = render_methods.panel(found, comparing.compare(other, tiny_tokenizer, document, "cp"))
    assert panel["thresholds"] is None and panel["depth"] == found.depth.tolist()


def test_scores_that_do_not_add_up_to_1_are_no_multiples_of_1_n(other: Any, tiny_tokenizer: Any) -> None:
    """A token with the mean score has the shade of 1/n; the score itself is said beside the policy's bar."""
    words = tuple(TEXT.split())
    found = tracing.trace(other, tiny_tokenizer, words, rationale=np.zeros(len(words), dtype=np.bool_))
    for layer in set(range(found.layers)) - set(found.undecided):
        assert found.ratios[layer].sum() == pytest.approx(found.present[layer])
    told = (
        render.legend(found) + strip.strip(found) + "".join(render.layer_row(found, at) for at in range(found.layers))
    )
    assert "/n" not in told.replace("</", "<") and "times the mean of the tokens present" in told
    assert "threshold" not in told and "| bar 0" in told
    panel = drawing.layers_panel(found)
    assert panel["raw"] and panel["total"] == pytest.approx(found.totals.tolist())


@pytest.mark.parametrize("other", ["trbert"], indirect=True)
def test_nothing_follows_from_scores_that_there_are_not(other: Any, tiny_tokenizer: Any) -> None:
    """TR-BERT decides nothing before layer 0: an order of its tokens there would be one of chance."""
    document = Document("x", TEXT)
    found = tracing.trace(other, tiny_tokenizer, document.words, rationale=document.rationale)
    methods = {name: comparing.compare(other, tiny_tokenizer, document, name) for name in ("cp", "rollout")}
    ranks = comparing.rank_table(methods, [3], layers=found.layers)
    assert ranks["layer 0"].isna().tolist() == [True, False], "of equal scores none is the first"
    assert "nothing is decided at this layer" in render_methods.notes(methods["cp"], 0)[-1]
    assert np.isnan(methods["cp"].metrics[0]).all()
    table, _, _ = faithful.table(other, tiny_tokenizer, document, found, methods)
    assert table["comprehensiveness"].isna().tolist() == [True, False, True]
    assert not any("AdapLeR" in name for name in table["method"])


@pytest.mark.parametrize("other", ["ltp", "power", "trbert"], indirect=True)
def test_where_nothing_is_decided_there_is_no_score_and_no_bar(other: Any, tiny_tokenizer: Any) -> None:
    document = Document("x", TEXT)
    found = tracing.trace(other, tiny_tokenizer, document.words, rationale=document.rationale)
    assert 0 in found.undecided and found.enters[0].all()
    told = strip.strip(found)
    assert told or other.config.policy != "power"
    assert not told or "Layer 0</span> nothing is decided: <b>kept</b>" in told
    assert "nothing is decided" in render.layer_row(found, 0) and "score 0.0" not in render.layer_row(found, 0)
    assert drawing.layers_panel(found)["undecided"] == list(found.undecided)
    table, tokens = export.layer_table(found), export.token_table(found)
    assert table["threshold"].isna().tolist() == [layer in found.undecided for layer in range(found.layers)]
    assert tokens[tokens["layer"] == 0][["score", "threshold"]].isna().all(axis=None)


@pytest.mark.parametrize("other", ["power", "transkimmer"], indirect=True)
def test_a_comparison_says_whose_scores_they_are_and_of_which_layer(
    other: Any, page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path
) -> None:
    folder = str(tmp_path / "checkpoints")
    monkeypatch.setattr(sys, "argv", [folder if word == str(app_checkpoints) else word for word in sys.argv])
    page.session_state["checkpoint"] = name = other.config.policy
    page.session_state["view"] = state.COMPARE
    page.run()
    said = next(one.value for one in page.caption if "another policy" in one.value)
    assert f"`{name}`" in said and "AdapLeR CP" in said and "Removal policy" in said
    assert ("layer *l* + 1" in said) == (name == "power")


@pytest.mark.parametrize("other", ["power"], indirect=True)
def test_two_names_of_the_same_scores_are_one_card(
    other: Any, page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path
) -> None:
    folder = str(tmp_path / "checkpoints")
    monkeypatch.setattr(sys, "argv", [folder if word == str(app_checkpoints) else word for word in sys.argv])
    page.session_state["checkpoint"], page.session_state["view"] = "power", state.COMPARE
    page.session_state["methods"] = ["cp", "saliency", "policy"]
    page.run()
    assert [panel["title"] for panel in played(page)["panels"]] == ["Removal policy", "Saliency"]
    assert any("Both are chosen, and are one card." in one.value for one in page.caption)
    assert comparing.distinct(other, ["policy", "saliency", "cp"]) == ["policy", "saliency"]


def test_adaplers_scores_keep_both_their_names(app_model: Any) -> None:
    assert comparing.distinct(app_model, ["cp", "policy"]) == ["cp", "policy"]


def test_all_of_them_are_here() -> None:
    assert sorted(OPTIONS) == sorted(set(policy_names()) - {"adapler"})
    assert sorted(RULES) == sorted(OPTIONS), "How it works explains each"


def test_how_it_works_has_the_policys_own_equations(
    other: Any, page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path
) -> None:
    folder = str(tmp_path / "checkpoints")
    monkeypatch.setattr(sys, "argv", [folder if word == str(app_checkpoints) else word for word in sys.argv])
    page.session_state["checkpoint"], page.session_state["view"] = name, _ = other.config.policy, state.HOW
    page.run()
    assert not page.exception
    shown = [one.value.strip().strip("$").strip() for one in page.get("latex")]
    assert shown == [*RULES[name].score, *RULES[name].bar]
    said = " ".join(one.value for one in page.markdown)
    assert "Contribution" not in said and "\\eta" not in said
    assert ("decides after a layer's attention" in said) == (name not in ("transkimmer", "trbert"))
    assert "bar" in page.dataframe[0].value


@pytest.mark.parametrize("other", ["power", "transkimmer"], indirect=True)
@pytest.mark.parametrize("view", [state.LAYERS, state.TAKE_AWAY, state.HOW])
def test_nothing_is_said_of_a_predictor_that_it_does_not_have(
    other: Any, page: AppTest, view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path
) -> None:
    folder = str(tmp_path / "checkpoints")
    monkeypatch.setattr(sys, "argv", [folder if word == str(app_checkpoints) else word for word in sys.argv])
    page.session_state["checkpoint"], page.session_state["view"] = other.config.policy, view
    page.session_state["show"] = state.NUMBERS
    page.run()
    assert not page.exception
    texts = [one.value for one in (*page.markdown, *page.caption, *page.header)]
    said = " ".join(
        [*texts, *(one.proto.columns for one in page.dataframe), *(one.body for one in page.get("html")[1:])]
    )
    assert "predictor" not in said.lower() and "below the threshold" not in said
    assert view != state.LAYERS or '"label": "bar"' in said
    assert view != state.TAKE_AWAY or "8 times the mean" in said


@pytest.mark.parametrize("other", ["power", "transkimmer"], indirect=True)
@pytest.mark.parametrize("view", state.VIEWS)
def test_every_view_runs(
    other: Any, page: AppTest, view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path
) -> None:
    folder = str(tmp_path / "checkpoints")
    monkeypatch.setattr(sys, "argv", [folder if word == str(app_checkpoints) else word for word in sys.argv])
    page.session_state["checkpoint"] = other.config.policy
    page.session_state["view"] = view
    page.run()
    assert not page.exception and page.session_state["checkpoint"] == other.config.policy
    if view == state.LAYERS:
        assert played(page)["tokens"]


def test_another_predictor_than_the_papers_is_told(
    page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_classifier_folder: Path, tiny_tokenizer: Any
) -> None:
    model = AdapLeRForSequenceClassification.from_backbone(tiny_classifier_folder, predictor="contextual")
    model.save_pretrained(tmp_path / "ours")
    tiny_tokenizer.save_pretrained(tmp_path / "ours")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--checkpoints", str(tmp_path)])
    page.session_state["view"], page.session_state["checkpoint"] = state.HOW, "ours"
    page.run()
    assert not page.exception
    assert any("+ r_i" in one.value for one in page.get("latex"))
    assert any("two neighbours on either side" in one.value for one in page.markdown)


def test_flops_of_the_layers_and_the_head_are_all(other: Any, tiny_tokenizer: Any) -> None:
    words = tuple(TEXT.split())
    found = tracing.trace(other, tiny_tokenizer, words, rationale=np.zeros(len(words), dtype=np.bool_))
    head = found.plain_flops - found.layers * found.plain_layer_flops
    assert found.layer_flops.sum() + head == pytest.approx(found.flops)
