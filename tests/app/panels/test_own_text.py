"""A file of one's own with several lines."""

from __future__ import annotations

import json

from streamlit.testing.v1 import AppTest

from app.server import state
from tests.app.pages import plain


def upload(page: AppTest, *rows: dict[str, str]) -> None:
    page.session_state["source"] = state.OWN_TEXT
    page.run()
    content = "\n".join(map(json.dumps, rows)).encode()
    page.file_uploader(key="upload").set_value(("lines.jsonl", content, "text/plain")).run()
    assert not page.exception


def test_lines_of_equal_names_stand_side_by_side(page: AppTest) -> None:
    page.session_state["view"] = state.SIDES
    page.session_state["differs"] = state.BY_TEXT
    upload(page, {"id": "a", "text": "a good film"}, {"id": "a", "text": "a dull film"})
    assert page.selectbox(key="document2").options == ["a (2)"]


def test_lines_that_are_cut_are_counted(page: AppTest) -> None:
    page.session_state["verdicts-open"] = True
    upload(page, {"text": "good film " * 40}, {"text": "\u200b"}, {"text": "a dull film"})
    said = [plain(one.value) for one in page.info]
    assert (
        "1 of 3 lines are longer than the 40 tokens that the model reads: their verdicts are on the beginning." in said
    )
    assert page.dataframe[0].value["cut"].tolist()[::2] == [True, False]
    page.session_state["verdicts-open"] = True
    upload(page, {"text": "good film"}, {"text": "a dull film"})
    assert not page.info and not page.dataframe[0].value["cut"].any()


def test_the_table_stands_where_the_chosen_line_cannot_be_read(page: AppTest) -> None:
    page.session_state["verdicts-open"] = True
    upload(page, {"text": "\u200b"}, {"text": "a good film"}, {"text": "a dull film"})
    table = page.dataframe[0].value
    assert table["verdict"].isna().tolist() == [True, False, False]
    assert any("wordpieces" in one.value for one in page.error)


def test_a_file_of_which_no_line_can_be_read(page: AppTest) -> None:
    page.session_state["verdicts-open"] = True
    upload(page, {"text": "\u200b"}, {"text": "\u200d"})
    assert any("No verdict on 2 of 2" in plain(one.value) for one in page.warning)
