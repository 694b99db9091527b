"""Take away: what a link and a file hold of the text, and what they say of what they do not hold."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.markup.export import Origin
from app.panels import common
from app.server import state
from tests.app.conftest import DOCUMENTS


@pytest.fixture
def origins(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> list[Origin]:
    """What the files of the page say of themselves, the latest last; the view is open."""
    made: list[Origin] = []

    def note(*facts: Any) -> Origin:
        made.append(Origin(*facts))
        return made[-1]

    monkeypatch.setattr(common, "Origin", note)
    page.session_state["view"] = state.TAKE_AWAY
    return made


def test_a_part_of_a_long_text_says_which(page: AppTest, origins: list[Origin]) -> None:
    page.session_state["document"] = "long_1"
    page.run()
    page.slider(key="part").set_value(2).run()
    assert not page.exception
    words = len(DOCUMENTS["long_1"][0].split())
    assert origins[-1].text == f"tiny-films, test: long_1, part 2 of 2, words 39 to {words}"
    page.selectbox(key="document").set_value("pos_1").run()
    assert origins[-1].text == "tiny-films, test: pos_1"


def test_a_second_text_that_is_too_long_for_an_address_is_missed(page: AppTest, origins: list[Origin]) -> None:
    page.session_state["source"] = state.OWN_TEXT
    page.session_state["text"] = "a good film"
    page.run()
    assert not page.exception and "with the same" not in origins[-1].again and not page.info
    page.text_input(key="query").set_value("never " + " " * state.ADDRESS_CHARACTERS + "dull").run()
    assert not page.exception and "query=" not in page.code[0].value and "text=" in page.code[0].value
    said = "Your second text is too long for a link: it shows the page with these settings, without the second text."
    assert [one.value for one in page.info] == [said]
    assert origins[-1].again.endswith(" with the same second text, which is no part of the address")
    page.text_area(key="text").set_value("film " * 400).run()
    assert "Your text and second text are too long for a link" in page.info[-1].value
    assert origins[-1].again.endswith(" with the same text and second text, which are no part of the address")
