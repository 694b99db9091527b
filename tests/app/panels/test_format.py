"""The number format of the page's model: what is computed in it, and where it is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from analysis.loading import checksums
from app.markup.export import Origin
from app.model import comparing, tracing
from app.panels import common
from app.server import state
from app.sources import loading
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.pages import check, plain, played


def captions(page: AppTest) -> str:
    return "\n".join(plain(one.value) for one in page.caption)


def test_the_page_computes_in_what_is_chosen(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    assert page.selectbox(key="dtype").value == "float32" and "\N{MIDDLE DOT} float32 \N{MIDDLE DOT}" in captions(page)
    exact = played(page)["panels"][0]["scores"]
    page.selectbox(key="dtype").set_value("bfloat16").run()
    assert "\N{MIDDLE DOT} bfloat16 \N{MIDDLE DOT}" in captions(page)
    check(page, app_model.for_inference(dtype="bfloat16"), tiny_tokenizer, DOCUMENTS["neg_1"][0])
    rough = played(page)["panels"][0]["scores"]
    assert rough != exact and np.allclose(rough[0], exact[0], atol=0.05)
    page.selectbox(key="dtype").set_value("float32").run()
    assert played(page)["panels"][0]["scores"] == exact


@pytest.mark.parametrize("view", [one for one in state.VIEWS if one != state.HOW])
def test_every_view_runs_in_bfloat16(page: AppTest, view: str) -> None:
    page.session_state["dtype"] = "bfloat16"
    page.session_state["view"] = view
    page.run()
    assert not page.exception and not page.error
    if view == state.CORPUS:
        assert "in bfloat16" in captions(page) and "\N{MIDDLE DOT} float32 \N{MIDDLE DOT}" in captions(page)
    else:
        assert "bfloat16" in captions(page)


def test_methods_without_removal_stay_in_float32(app_model: Any, tiny_tokenizer: Any) -> None:
    text, label, span = DOCUMENTS["neg_1"]
    document = Document("neg_1", text, label, (span,))
    for method, changes in (("saliency", False), ("attention", False), ("cp", True)):
        exact, rough = (
            comparing.compare(app_model, tiny_tokenizer, document, method, dtype=dtype).scores
            for dtype in ("float32", "bfloat16")
        )
        assert np.array_equal(exact, rough) != changes, method
    fast = app_model.for_inference(dtype="bfloat16")
    trace = tracing.trace(fast, tiny_tokenizer, document.words, rationale=document.rationale)
    assert np.array_equal(rough, trace.scores.astype(np.float32)), "both views show the same"


def test_files_and_links_say_the_format(app_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class State(dict[str, Any]):
        __getattr__ = dict.__getitem__

    monkeypatch.setattr(st, "query_params", {})
    checkpoint = loading.Checkpoint(
        app_model.for_inference(dtype="bfloat16"), tiny_tokenizer, "x", "bfloat16", app_model
    )
    for dtype, stands in (("float32", False), ("bfloat16", True), ("auto", True)):
        session = State(source=state.REVIEW, view=state.LAYERS, checkpoint="tiny", dtype=dtype, scale=1.0, command="x")
        monkeypatch.setattr(st, "session_state", session)
        assert (
            state.link_parameters({name: name for name in state.DEFAULT_METHODS}, view="Trust").get("dtype") == dtype
        ) is stands
        said = common.origin(None, checkpoint, name="tiny", scale=1.0)
        assert "threshold scale 1 \N{MIDDLE DOT} bfloat16" in said.line()
        assert (f"dtype={dtype}" in said.again) is stands


def test_a_file_says_whose_weights_and_how_to_start_the_page(
    page: AppTest, app_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(common, "Origin", lambda *facts: made.append(Origin(*facts)) or made[-1])
    page.session_state["view"] = state.TAKE_AWAY
    page.run()
    page.selectbox(key="dtype").set_value("bfloat16").run()
    assert not page.exception and {origin.dtype for origin in made} == {"float32", "bfloat16"}
    for origin in made:
        assert origin.weights == f"sha256:{checksums(None, app_model)['adapler'][:16]}", "in both formats, as a report"
        said = "streamlit run app/main.py -- --checkpoints DIR --reports DIR --data DIR_OR_TAR, and open ?view="
        assert origin.again.startswith(said), "the folders of the server are not named"
