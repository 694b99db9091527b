from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.server import state

MENUS: dict[str, Any] = {"checkpoints": ["tiny"], "corpora": ["films"], "methods": ["cp", "saliency", "rollout"]}


def read(**asked: str | list[str]) -> dict[str, Any]:
    return state.read_link(
        {name: [value] if isinstance(value, str) else value for name, value in asked.items()}, **MENUS
    )[0]


def lost(**asked: str) -> list[str]:
    return state.read_link({name: [value] for name, value in asked.items()}, **MENUS)[1]


def test_a_link_gives_back_what_it_was_made_of() -> None:
    parameters = {"view": "Budget", "checkpoint": "tiny", "source": "A review", "corpus": "films", "split": "test",
                  "document": "a/b?&.txt", "layer": 3, "scale": 1.35, "joined": 1, "show": "One layer", "part": 2,
                  "method": ["cp", "rollout"]}  # fmt: skip
    from urllib.parse import parse_qs, urlsplit

    address = state.link("http://host:1/app?old=1", parameters)
    assert address.startswith("http://host:1/app?view=Budget&")
    found = read(**parse_qs(urlsplit(address).query))
    assert found == {**{key: value for key, value in parameters.items() if key != "method"},
                     "joined": True, "methods": ["cp", "rollout"]}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("view", "Admin"),
        ("checkpoint", "../../etc"),
        ("corpus", "/etc/passwd"),
        ("source", "http://example.org"),
        ("scale", "nan"),
        ("scale", "-1"),
        ("scale", "inf"),
        ("layer", "1.5"),
        ("layer", "-1"),
        ("layer", "x"),
        ("method", "saliency(target='gold')"),
        ("method", "__import__"),
        ("joined", "maybe"),
        ("data", "/etc"),
        ("text", ""),
    ],
)
def test_what_makes_no_sense_is_ignored(name: str, value: str) -> None:
    assert read(**{name: value}) == {}


def test_numbers_are_brought_into_range() -> None:
    assert read(scale="7") == {"scale": 2.0}
    assert read(scale="0.333") == {"scale": 0.35}
    assert read(layer="99999999") == {"layer": 10_000}, "the page takes the last layer there is"
    assert read(method=["cp"] * 9 + ["rollout"]) == {"methods": ["cp", "rollout"]}


def test_a_text_in_a_link_is_only_a_text() -> None:
    assert read(text="<b>dull</b>") == {"text": "<b>dull</b>", "source": state.OWN_TEXT}
    assert len(read(text="x" * 9000)["text"]) == state.LINK_CHARACTERS


def test_every_widget_has_a_key_that_is_listed() -> None:
    listed = set(re.findall(r"[a-z-]+", str(state.__doc__).partition("REMEMBERED")[0]))
    names = "button download_button selectbox slider radio toggle checkbox multiselect segmented_control text_area"
    widgets = rf"\.(?:{names.replace(' ', '|')}|file_uploader)\("
    for path in (Path(state.__file__).parents[1] / "panels").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        keys = re.findall(r"""\bkey=f?"([a-z{}-]+)""", text)
        assert len(keys) + text.count("key=key") >= len(re.findall(widgets, text)), path.name
        assert {key for key in keys if "{" not in key} <= listed, path.name


def test_a_link_that_cannot_be_restored_says_what_is_not_there() -> None:
    assert lost(checkpoint="bert-large", corpus="MultiRC", method="magic") == [
        "checkpoint bert-large", "corpus MultiRC", "method magic",
    ]  # fmt: skip
    assert lost(checkpoint="../../etc/passwd") == ["a checkpoint of another name"], "a stranger's text is not repeated"
    assert lost(checkpoint="tiny", view="Admin", layer="x") == []


def test_what_a_session_remembers_is_listed_once() -> None:
    keys = [one.key for one in state.REMEMBERED]
    assert len(keys) == len(set(keys))
    listed = set(re.findall(r"[a-z-]+", str(state.__doc__).partition("REMEMBERED")[0]))
    assert set(keys) <= listed
