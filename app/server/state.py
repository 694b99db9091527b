"""What a session remembers: the keys of the page's widgets, and the link that restores them.

Every interactive widget has one of these keys, which is also its class `.st-key-KEY` in the browser:

    everywhere      view checkpoint source corpus split document scale part; without any checkpoint: stop make
    Layer by layer  show layer play joined
    Compare         layer methods run-METHOD
    Budget          scale
    Corpus          report figure metric method other at order documents open open-document save-report
                    limit evaluate stop
    Your text       text upload row
    Take away       save-png save-svg save-pdf save-csv save-html save-scores lines link-text

A link's parameters: view checkpoint source corpus split document part layer scale joined show method (several), text.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import streamlit as st

LAYERS, COMPARE, BUDGET, CORPUS, TEXT, TAKE_AWAY = VIEWS = (
    "Layer by layer",
    "Compare methods",
    "Budget",
    "Corpus",
    "Your text",
    "Take away",
)
OWN_TEXT, REVIEW = SOURCES = "Your own text", "A review"
ALL_LAYERS, ONE_LAYER, NUMBERS = SHOWS = "All layers", "One layer", "Numbers"
DEFAULT_METHODS = ("cp", "saliency", "attention", "rollout")
MAX_METHODS = 6
MAX_SCALE = 2.0
LINK_CHARACTERS = 1500  # of a text, percent-encoded: longer addresses are cut by mail programs and proxies
EXAMPLE = (
    "For the first half hour I was ready to leave . The plot is borrowed , the jokes are older than the cast , and "
    "somebody should have hidden the synthesiser . Then the two sisters meet on the ferry , nobody says a word for "
    "four minutes , and the film becomes one of the most moving things I have seen this year ."
)
_START = {
    "view": LAYERS,
    "source": REVIEW,
    "scale": 1.0,
    "layer": 0,
    "show": ALL_LAYERS,
    "joined": False,
    "part": 0,
    "methods": list(DEFAULT_METHODS),
    "text": EXAMPLE,
    "playing": False,
}
# Streamlit forgets a widget that is not drawn; assigned again at every run, it outlives a look at another view.
_KEPT = (
    *("view", "checkpoint", "source", "corpus", "split", "document", "scale", "part", "layer", "show", "joined"),
    *("methods", "text", "report", "figure", "metric", "method", "other", "at", "order", "limit", "lines"),
)


def begin(*, checkpoints: Collection[str], corpora: Collection[str], methods: Collection[str]) -> None:
    """A session's first run takes what its link says; every run keeps what widgets out of view hold."""
    state = st.session_state
    if "begun" not in state:
        asked = {name: st.query_params.get_all(name) for name in st.query_params}
        found = read_link(asked, checkpoints=checkpoints, corpora=corpora, methods=methods)
        for name, value in {**_START, **found}.items():
            state.setdefault(name, list(value) if isinstance(value, list) else value)
        state.begun = True
    for name in _KEPT:
        if name in state:
            state[name] = state[name]


def read_link(
    asked: Mapping[str, Sequence[str]],
    *,
    checkpoints: Collection[str],
    corpora: Collection[str],
    methods: Collection[str],
) -> dict[str, Any]:
    """The parameters that make sense; all others are ignored.

    Nothing in them is ever a path: a name counts if it is in a menu, and those of a split and of a document are
    compared with the corpus's when their menus are drawn.
    """
    menus: dict[str, Collection[str]] = {
        "view": VIEWS, "source": SOURCES, "show": SHOWS, "checkpoint": checkpoints, "corpus": corpora
    }  # fmt: skip
    one = {name: values[-1] for name, values in asked.items() if values}
    found: dict[str, Any] = {name: one[name] for name, menu in menus.items() if one.get(name) in menu}
    found |= {name: one[name][:200] for name in ("split", "document") if name in one}
    for name, most in (("layer", 10**4), ("part", 10**4)):
        if (number := _number(one.get(name))) is not None and number == int(number):
            found[name] = min(int(number), most)
    if (scale := _number(one.get("scale"))) is not None:
        found["scale"] = min(MAX_SCALE, round(20 * scale) / 20)
    if one.get("joined") in ("1", "true"):
        found["joined"] = True
    if chosen := [name for name in dict.fromkeys(asked.get("method", ())) if name in methods]:
        found["methods"] = chosen[:MAX_METHODS]
    if text := one.get("text", "")[:LINK_CHARACTERS]:
        found |= {"text": text, "source": OWN_TEXT}
    return found


def link_parameters() -> dict[str, Any]:
    """What a link needs to show this again, without a text of one's own."""
    state = st.session_state
    names = ("view", "checkpoint", "source", "corpus", "split", "document", "part", "layer", "scale", "joined", "show")
    return {
        **{name: int(state[name]) if state[name] is True else state[name] for name in names if _worth(name)},
        "method": list(state.methods),
    }


def link(base: str, parameters: Mapping[str, Any]) -> str:
    """An address with these parameters, whatever parameters `base` has."""
    return f"{base.partition('?')[0]}?{urlencode(parameters, doseq=True)}"


def fit(key: str, options: Sequence[Any]) -> None:
    """A menu's value must be one of its options: where it is not any more, the first."""
    if options and st.session_state.get(key) not in options:
        st.session_state[key] = options[0]


def _worth(name: str) -> bool:
    own = st.session_state.source == OWN_TEXT
    if name in ("corpus", "split", "document") and own:
        return False
    return name in st.session_state and (name not in ("part", "joined") or bool(st.session_state[name]))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
