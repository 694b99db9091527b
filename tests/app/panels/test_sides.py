"""Side by side, and where else a word stands."""

from __future__ import annotations

import shutil
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.markup import player as drawing
from app.panels import player
from app.server import state
from app.work import surveys
from tests.app.conftest import DOCUMENTS
from tests.app.pages import lengths_shown, plain, played


def text_of(panel: dict[str, Any]) -> str:
    return "".join(" " * token["space"] + token["text"] for token in panel["tokens"])


def marks(panel: dict[str, Any], layer: int) -> list[str]:
    return [token["text"] for token, mark in zip(panel["tokens"], panel["marks"][layer], strict=True) if mark]


@pytest.mark.parametrize(
    ("differs", "key"), [(state.BY_CHECKPOINT, "checkpoint2"), (state.BY_TEXT, "document2"), ("foo", "checkpoint2")]
)
def test_a_right_side_that_there_is_not_is_said(page: AppTest, differs: str, key: str) -> None:
    page.query_params.update({"view": state.SIDES, "differs": differs, key: "nowhere"})
    page.run()
    assert any(f"{key} nowhere" in plain(one.value) for one in page.warning)


def test_a_layer_that_neither_side_has_is_said(page: AppTest) -> None:
    page.query_params.update({"view": state.SIDES, "layer": "99"})
    page.run()
    assert any("layer 99" in plain(one.value) for one in page.warning)


def test_two_scales_of_one_text(page: AppTest) -> None:
    page.session_state["view"] = state.SIDES
    page.run()
    assert not page.exception
    assert page.slider(key="scale2").proto.format == "%.6g", "a scale between two steps is said as it is computed with"
    page.slider(key="scale2").set_value(0.0).run()
    left, right = played(page)["panels"]
    assert (left["title"], right["title"]) == ("Scale 1", "Scale 0") and text_of(left) == text_of(right)
    last = len(left["marks"]) - 1
    dropped = [token["text"] for token, depth in zip(left["tokens"], left["depth"], strict=True) if depth <= last]
    assert dropped and marks(left, last) == marks(right, last) == dropped, "at scale 0 nothing is dropped"
    assert left["match"] == list(range(len(left["tokens"])))
    said = [one.value for one in page.markdown]
    assert "**Read to the end only with Scale 1:** no word" in said
    page.slider(key="scale2").set_value(1.0).run()
    assert not any(map(any, played(page)["panels"][0]["marks"])), "one scale differs from itself in nothing"


def test_text_and_edited_text(page: AppTest) -> None:
    page.session_state["view"] = state.SIDES
    page.session_state["differs"] = state.BY_EDIT
    page.run()
    text = DOCUMENTS["neg_1"][0]
    assert page.text_area(key="text2").value == text
    page.text_area(key="text2").set_value(text.replace("not good", "great")).run()
    left, right = played(page)["panels"]
    assert not page.exception and "great" in text_of(right) and "not good" in text_of(left)
    assert {"not", "good"} <= set(marks(left, 0)) and "great" in marks(right, 0)
    page.text_area(key="text2").set_value(" ").run()
    assert not page.exception and any("No word is left" in one.value for one in page.info)
    page.selectbox(key="document").set_value("pos_1").run()
    assert page.text_area(key="text2").value == DOCUMENTS["pos_1"][0], "another text starts anew"


def test_two_texts(page: AppTest) -> None:
    page.session_state["view"] = state.SIDES
    page.session_state["differs"] = state.BY_TEXT
    page.run()
    page.selectbox(key="document2").set_value("long_1").run()
    left, right = played(page)["panels"]
    assert not page.exception and (left["title"], right["title"]) == ("neg_1", "long_1")
    assert any("the model reads no more" in one.value for one in page.caption)
    assert {number for number in left["match"] if number is not None} == {
        number for number, back in enumerate(right["match"]) if back is not None
    }


def test_two_checkpoints(page: AppTest, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(app_checkpoints / "tiny", tmp_path / "more" / "copy")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--checkpoints", str(tmp_path / "more")])
    page.session_state["view"] = state.SIDES
    page.session_state["differs"] = state.BY_CHECKPOINT
    page.run()
    page.selectbox(key="checkpoint2").set_value("copy").run()
    assert not page.exception and not any(map(any, played(page)["panels"][1]["marks"]))
    page.selectbox(key="checkpoint2").set_value("damaged").run()
    assert not page.exception and page.error, "a damaged one is said, and the page goes on"


def test_where_else_a_word_is_read(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveys, "_kept", OrderedDict())
    page.session_state["view"] = state.LAYERS
    monkeypatch.setattr(player, "picked", lambda result, data: 2 if data["mode"] == drawing.ONE else None)
    page.run()  # as if "film" were clicked
    assert not page.exception and "**film** elsewhere" in [one.value for one in page.markdown]
    page.button(key="survey").click().run()
    assert not page.exception
    table = page.dataframe[-1].value
    others = {name: text.split() for name, (text, _, _) in DOCUMENTS.items() if name != "neg_1"}
    assert len(table) == sum(words.count("film") for words in others.values())
    row = table[table["document"] == "pos_1"].iloc[0]
    assert row["at"] == 3 and row["context"] == "a great [film] , never boring , very"
    page.selectbox(key="document").set_value("pos_1").run()
    depth, layers = played(page)["panels"][0]["depth"][3], len(lengths_shown(page))
    assert row["read until"] == ("the end" if depth == layers else f"layer {depth - 1}" if depth else "no layer")
    page.selectbox(key="document").set_value("neg_1").run()
    assert any("2 other documents" in one.value and "behind what the model reads" in one.value for one in page.caption)


def test_a_word_of_ones_own_text_is_looked_for_in_the_first_corpus(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveys, "_kept", OrderedDict())
    monkeypatch.setattr(player, "picked", lambda result, data: 1)
    page.session_state["source"] = state.OWN_TEXT
    page.session_state["text"] = "zebra film"
    page.run()
    page.button(key="survey").click().run()
    assert not page.exception and "None of 3 other documents has this word." in [
        one.value.replace("\\", "") for one in page.caption
    ]
