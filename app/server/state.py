"""What a session remembers: the keys of the page's widgets, and the link that restores them.

Every interactive widget has one of these keys, which is also its class `.st-key-KEY` in the browser:

    everywhere      view checkpoint source corpus split document scale part; without any checkpoint: stop make
    Layer by layer  show layer play joined
    Compare         layer methods run-METHOD
    Budget          scale measure
    Corpus          report figure metric method other at order documents open open-document save-report
                    limit evaluate stop use-checkpoint
    Your text       text upload row
    Take away       save-png save-svg save-pdf save-csv save-html save-scores lines link-text

REMEMBERED says which of them outlive another view, with what they start, and which stand in a link.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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
BEST, WORST, DISAGREEMENT = ORDERS = "Best first", "Worst first", "Largest disagreement"
DEFAULT_METHODS = ("cp", "saliency", "attention", "rollout")
MAX_METHODS = 6
MAX_SCALE = 2.0
LINK_CHARACTERS = 1500  # of a text, percent-encoded: longer addresses are cut by mail programs and proxies
NAME_CHARACTERS = 200
EXAMPLE = (
    "The first half hour is slow , and the plot could be told on a postcard . Then the two sisters meet on the ferry , "
    "nobody says a word for four minutes , and everything works : the acting is superb , the music is beautiful , and "
    "the film becomes one of the most moving things I have seen this year ."
)

Menus = Mapping[str, Collection[str]]
Reader = Callable[[str, str, Menus], Any]  # (key, text in the link, menus) -> the value, None for what makes no sense


def _of_menu(key: str, text: str, menus: Menus) -> str | None:
    return text if text in menus[key] else None


def _name(key: str, text: str, menus: Menus) -> str:
    return text[:NAME_CHARACTERS]  # compared with the corpus's names when the menu is drawn


def _index(key: str, text: str, menus: Menus) -> int | None:
    number = _number(text)
    return min(int(number), 10**4) if number is not None and number == int(number) else None


def _scale(key: str, text: str, menus: Menus) -> float | None:
    number = _number(text)
    return None if number is None else min(MAX_SCALE, round(20 * number) / 20)


def _flag(key: str, text: str, menus: Menus) -> bool | None:
    return True if text in ("1", "true") else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


@dataclass(frozen=True)
class Remembered:
    """A key of the session that outlives a look at another view.

    start: its first value, None where a menu gives it; read: how a link's parameter of this name becomes the value,
    None where no link has it; of_corpus: means nothing for a text of one's own.
    """

    key: str
    start: Any = None
    read: Reader | None = None
    of_corpus: bool = False


REMEMBERED = (
    Remembered("view", LAYERS, _of_menu),
    Remembered("checkpoint", None, _of_menu),
    Remembered("source", REVIEW, _of_menu),
    Remembered("corpus", None, _of_menu, of_corpus=True),
    Remembered("split", None, _name, of_corpus=True),
    Remembered("document", None, _name, of_corpus=True),
    Remembered("part", 0, _index),
    Remembered("layer", 0, _index),
    Remembered("scale", 1.0, _scale),
    Remembered("joined", False, _flag),
    Remembered("show", ALL_LAYERS, _of_menu),
    *(Remembered(key) for key in ("report", "figure", "metric", "method", "other", "at", "limit")),
    Remembered("order", BEST),
    Remembered("lines", 3),
    Remembered("methods", list(DEFAULT_METHODS)),
    Remembered("text", EXAMPLE),
)


def begin(*, checkpoints: Collection[str], corpora: Collection[str], methods: Collection[str]) -> None:
    """A session's first run takes what its link says; every run keeps what widgets out of view hold.

    Streamlit forgets a widget that is not drawn; assigned again at every run, it outlives a look at another view.
    """
    state = st.session_state
    if "begun" not in state:
        asked = {name: st.query_params.get_all(name) for name in st.query_params}
        found, lost = read_link(asked, checkpoints=checkpoints, corpora=corpora, methods=methods)
        starts = {one.key: one.start for one in REMEMBERED if one.start is not None}
        for name, value in {**starts, "playing": False, **found}.items():
            state.setdefault(name, list(value) if isinstance(value, list) else value)
        state.update(begun=True, lost=lost)
    for one in REMEMBERED:
        if one.key in state:
            state[one.key] = state[one.key]


def read_link(
    asked: Mapping[str, Sequence[str]],
    *,
    checkpoints: Collection[str],
    corpora: Collection[str],
    methods: Collection[str],
) -> tuple[dict[str, Any], list[str]]:
    """(the parameters that make sense, those that ask for what is not there); all others are ignored.

    Nothing in them is ever a path: a name counts if it is in a menu, and those of a split and of a document are
    compared with the corpus's when their menus are drawn.
    """
    menus: Menus = {
        "view": VIEWS, "source": SOURCES, "show": SHOWS, "checkpoint": checkpoints, "corpus": corpora
    }  # fmt: skip
    one = {name: values[-1] for name, values in asked.items() if values}
    found: dict[str, Any] = {}
    lost: list[str] = []
    for remembered in REMEMBERED:
        key = remembered.key
        if remembered.read is None or key not in one:
            continue
        if (value := remembered.read(key, one[key], menus)) is not None:
            found[key] = value
        elif key in ("checkpoint", "corpus"):
            lost.append(_asked(key, one[key]))
    named = dict.fromkeys(asked.get("method", ()))
    if chosen := [name for name in named if name in methods]:
        found["methods"] = chosen[:MAX_METHODS]
    lost += [_asked("method", name) for name in named if name not in methods]
    if text := one.get("text", "")[:LINK_CHARACTERS]:
        found |= {"text": text, "source": OWN_TEXT}
    return found, lost


def link_parameters() -> dict[str, Any]:
    """What a link needs to show this again, without a text of one's own."""
    state = st.session_state
    own = state.source == OWN_TEXT
    parameters: dict[str, Any] = {}
    for one in REMEMBERED:
        value = state.get(one.key)
        if one.read is None or value is None or (one.of_corpus and own):
            continue
        if one.read is _flag or one.key == "part":  # left out where they say nothing
            if value:
                parameters[one.key] = int(value)
        else:
            parameters[one.key] = value
    return {**parameters, "method": list(state.methods)}


def link(base: str, parameters: Mapping[str, Any]) -> str:
    """An address with these parameters, whatever parameters `base` has."""
    return f"{base.partition('?')[0]}?{urlencode(parameters, doseq=True)}"


def fit(key: str, options: Sequence[Any], *, default: Any = None) -> None:
    """A menu's value must be one of its options: where it is not any more, `default`, or else the first.

    At the session's beginning the value came from the link, which is then told of, see `lost`.
    """
    state = st.session_state
    value = state.get(key)
    if not options or value in options:
        return
    if key in ("split", "document") and value is not None and "opened" not in state:
        state.lost.append(_asked(key, value))
    state[key] = default if default in options else options[0]


def _asked(key: str, value: str) -> str:
    """What a link asked for, to be shown: a stranger has written it, so only what looks like a name is repeated."""
    return f"{key} {value}" if re.fullmatch(r"[\w.() -]{1,60}", value) else f"a {key} of another name"


def lost() -> list[str]:
    """What the session's link asks for and this server does not have, while the page shows what it opened on.

    Call it where the menus of the sidebar are drawn.
    """
    state = st.session_state
    shown = tuple(state.get(one.key) for one in REMEMBERED if one.read in (_of_menu, _name))
    if state.setdefault("opened", shown) != shown:
        state.lost = []
    return list(state.lost)
