from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from app.server import state

METHODS = {"cp": "AdapLeR CP", "saliency": "Saliency", "rollout": "Rollout"}


class Params(dict[str, list[str]]):
    """`st.query_params`, as far as it is read."""

    get_all = dict.__getitem__


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`session(**address)`: a session's state after its first run has begun."""

    class State(dict[str, Any]):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__

    def begin(**asked: str | list[str]) -> Any:
        monkeypatch.setattr(st, "session_state", State())
        params = Params({name: [value] if isinstance(value, str) else value for name, value in asked.items()})
        monkeypatch.setattr(st, "query_params", params)
        state.begin(METHODS)
        return st.session_state

    return begin


def test_a_link_has_the_parameters_and_no_others() -> None:
    address = state.link("http://host:1/app?old=1", {"view": "Budget", "methods": ["a b", "c"]})
    assert address == "http://host:1/app?view=Budget&methods=a+b&methods=c"


def test_a_scale_of_nothing_dropped_is_in_the_link(session: Any) -> None:
    began = session(view="Budget")
    began.update(source=state.REVIEW, scale=0.0)
    assert state.link_parameters(defaultdict(str), view="Budget")["scale"] == 0


def test_a_link_beside_a_file_has_no_text_that_is_not_shown(session: Any) -> None:
    session().update(source=state.OWN_TEXT, text="typed before", query="and asked", upload=None)
    assert state.link_parameters(defaultdict(str), view="Budget").keys() >= {"text", "query"}
    st.session_state.upload = object()
    assert not state.link_parameters(defaultdict(str), view="Budget").keys() & {"text", "query"}


def test_a_text_after_one_that_was_too_long_stands_in_the_address(session: Any) -> None:
    """The browser has heard nothing of it: it changed while it was not bound."""
    began = session(source=state.OWN_TEXT)
    began["text"] = "a joy"
    assert state.bind_text("text") and "text" not in st.query_params
    began["text"] = "long " * state.ADDRESS_CHARACTERS
    assert not state.bind_text("text") and "text" not in st.query_params
    began["text"] = "dull"
    assert state.bind_text("text") and st.query_params["text"] == "dull"
    began["text"] = "dull, typed while it is bound"
    assert state.bind_text("text") and st.query_params["text"] == "dull"
    began["query"] = "why " * state.ADDRESS_CHARACTERS
    assert not state.bind_text("query") and state.too_long() == ["second text"]
    st.query_params["long-query"] = "1"  # the browser has written it
    began["query"] = ""
    assert state.bind_text("query") and not {"query", "long-query"} & set(st.query_params)


def test_addresses_of_earlier_versions_are_understood(session: Any) -> None:
    assert session(view="Your text").source == state.OWN_TEXT
    assert session(text="<b>dull</b>").source == state.OWN_TEXT
    assert session(method=["cp"] * 9 + ["rollout", "x"]).methods == ["cp", "rollout"]
    assert "source" not in session(view="Budget")


def test_what_is_not_here_is_said(session: Any) -> None:
    began = session(checkpoint="bert-large", corpus="../../etc/passwd", document="x.txt", split="test", methods="magic")
    state.found("checkpoint", ["tiny"])
    state.found("corpus", ["films"])
    state.found("split", ["test"])
    state.found("document", {"x.txt": 1})
    assert state.lost() == ["method magic", "checkpoint bert-large", "a corpus of another name"]
    began.document = "y.txt"
    assert state.lost() == [], "something else has been chosen since"
    session(view="Nope", dtype="float8", source="foo", show=state.NUMBERS, units="Bar", differs=state.BY_TEXT)
    assert state.lost() == ["view Nope", "dtype float8", "source foo", "units Bar"]
    session(text="short", long="1")
    assert state.lost() == ["a text that was too long for an address"]
    session(**{"text": "short", "long-query": "1"})
    assert state.lost() == ["a second text that was too long for an address"]
    began = session(source=state.OWN_TEXT, long="1")
    assert state.lost() == ["a text that was too long for an address"]
    began.text = "typed since"
    assert state.lost() == [], "another text has been written since"


@pytest.mark.parametrize(("asked", "said"), [("3", "3"), ("-1", "-1"), ("nan", "nan"), ("2", None), ("0", None)])
def test_a_scale_that_no_slider_has_is_said(session: Any, asked: str, said: str | None) -> None:
    began = session(scale=asked)
    assert state.lost() == ([] if said is None else [f"threshold scale {said}"])
    began.scale = 0.5
    assert state.lost() == [], "another one has been chosen since"


def test_what_is_no_part_and_no_switch_is_said_and_goes_out_of_the_address(session: Any) -> None:
    session(part="abc", talk="maybe")
    assert state.lost() == ["talk maybe", "part abc"] and not st.query_params
    session(part="2", talk="true")
    state.part_of(3)
    assert state.lost() == [] and set(st.query_params) == {"part", "talk"}
    session(part="7")
    state.part_of(1)
    assert state.lost() == ["part 7"] and not st.query_params
    state.part_of(1)
    assert state.lost() == ["part 7"], "it is said once"


def test_a_layer_that_the_model_does_not_have_is_said(session: Any) -> None:
    for asked in ("abc", "-1", "1.5"):
        session(layer=asked)
        assert state.lost() == [f"layer {asked}"] and not st.query_params
    session(layer="5")
    state.layer_of(6)
    assert state.lost() == [] and set(st.query_params) == {"layer"}
    session(layer="6")
    state.layer_of(6)
    assert state.lost() == ["layer 6"] and not st.query_params
    began = session(layer="99", view=state.TRUST)
    assert state.lost() == [], "no layer is shown there"
    began.view = state.LAYERS
    assert state.lost() == []
    state.layer_of(6)
    assert state.lost() == ["layer 99"] and "layer" not in st.query_params
    began.view = state.BUDGET
    assert state.lost() == [], "another view has been chosen since"
    began = session(layer="99")
    assert state.lost() == []
    began.document = "y.txt"
    state.lost()
    state.layer_of(6)
    assert state.lost() == [], "another text has been chosen before any layer was shown"


def test_settings_hold_in_views_without_their_menus(session: Any) -> None:
    began = session(view=state.TAKE_AWAY, units=state.WORDS, methods=["Rollout", "AdapLeR CP"], show="Nothing")
    assert began.units == state.WORDS and state.chosen_methods() == ["rollout", "cp"] and "show" not in began


def test_more_methods_than_are_compared_are_said(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_METHODS", 2)
    for asked in (
        {"methods": ["Rollout", "AdapLeR CP", "Rollout", "Saliency"]},
        {"method": ["rollout", "cp", "saliency"]},
    ):
        assert session(**asked).methods == ["rollout", "cp"]
        assert state.lost() == ["method Saliency, beyond the 2 that are compared"]


def test_a_name_that_another_menu_does_not_have_is_forgotten(session: Any) -> None:
    began = session()
    began.document = "of_another_corpus"
    state.found("document", ["a", "b"])
    assert "document" not in began and began.lost == []


def test_every_widget_has_a_key_that_is_listed() -> None:
    listed = set(re.findall(r"[a-z-]+", str(state.__doc__).partition("Those of ADDRESS")[0]))
    names = (
        "button download_button selectbox slider radio toggle checkbox multiselect segmented_control pills text_area"
    )
    widgets = rf"\.(?:{names.replace(' ', '|')}|file_uploader)\("
    folder = Path(state.__file__).parents[1]
    for path in (*(folder / "panels").glob("*.py"), *(folder / "views").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        keys = re.findall(r"""\bkey=f?"([a-z{}-]+)""", text)
        assert len(keys) + text.count("key=key") >= len(re.findall(widgets, text)), path.name
        assert {key for key in keys if "{" not in key} <= listed, path.name


def test_what_stands_in_an_address_is_bound() -> None:
    """By Streamlit's own binding, or the address and the page would say different things."""
    folder = Path(state.__file__).parents[1]
    text = "".join(
        path.read_text(encoding="utf-8") for room in ("panels", "views") for path in (folder / room).glob("*.py")
    )
    bound = set(re.findall(r'key="(\w+)"[^)]*?bind="query-params"', text))
    assert bound == set(state.ADDRESS)


def test_the_script_of_the_address_knows_the_views_by_their_names() -> None:
    source = (Path(state.__file__).parents[1] / "markup" / "static" / "address.js").read_text(encoding="utf-8")
    found = dict(re.findall(r'(LAYERS|COMPARE|SIDES) = "([^"]+)"', source))
    assert found == {"LAYERS": state.LAYERS, "COMPARE": state.COMPARE, "SIDES": state.SIDES}
    (marks,) = re.findall(r"const LONG = {(.*)};", source)
    assert dict(re.findall(r'(\w+): "([^"]+)"', marks)) == state.LONG and state.LONG.keys() == state.OWN_TEXTS.keys()
    assert f"const LONGEST = {state.ADDRESS_CHARACTERS};" in source
