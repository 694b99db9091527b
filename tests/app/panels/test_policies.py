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
from app.markup import render, strip
from app.model import comparing, tracing
from app.server import state
from app.sources.documents import Document
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


def test_all_of_them_are_here() -> None:
    assert sorted(OPTIONS) == sorted(set(policy_names()) - {"adapler"})


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
