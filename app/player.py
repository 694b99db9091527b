"""A trace and the scores of methods -> what `player.js` draws, as plain lists for JSON; and the component that draws.

n tokens (or words) of the text, L layers, R rows of a panel: L, or 1 for scores of the input
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from adapler.policies import policy_class
from app import markup
from app.joining import SENTENCES
from app.methods import Scored
from app.tracing import ADAPLER, SPECIAL, Trace

ONE, ALL, STORY = "one", "all", "story"
_SPECIAL, _GOLD, _UNKNOWN = 1, 2, 4  # the same in player.js


def drawn(trace: Trace, panels: list[dict[str, Any]], *, mode: str = ONE, plays: bool = False) -> dict[str, Any]:
    """Everything that the player needs.

    text     tells this text, split into these tokens, from every other
    tokens   n of {text, space (one stands before it), flags, name (the wordpiece)}
    pieces   token -> its wordpieces' {name, depth}, for words of several
    plays    whether it plays once when a text is first seen
    panels   see `layers_panel`
    """
    return {
        "text": identity(trace),
        "tokens": [_token(trace, token) for token in range(len(trace))],
        "pieces": _pieces(trace),
        "layers": trace.layers,
        "unit": trace.unit,
        "mode": mode,
        "plays": plays,
        "panels": panels,
    }


def identity(trace: Trace) -> str:
    """Identity of the tokens and their places, independent of the model."""
    told = "\0".join((trace.unit, *trace.pieces, *trace.surfaces))
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


def layers_panel(trace: Trace) -> dict[str, Any]:
    """The scores by which tokens are dropped.

    A panel has: title ("": none is shown) and notes (R lists of lines); scores (R, n); n (R,), the n of 1/n; total
    (R,), the sum of the scores' sizes; depth (n,), layers that a token enters, None where nothing is dropped; layers;
    thresholds (L,) or None; undecided, the layers before which nothing is decided; selected (R, n) or None; raw: scores
    are said as they are and not in multiples of 1/n. It may have late: the scores of a layer decide who enters the next
    one; forced (n,): 1 for a token that stays whatever it scores, -1 for one that goes.
    """
    return {
        "title": "",
        "notes": [],
        "scores": rounded(trace.scores),
        "n": trace.present.tolist(),
        "total": rounded(trace.totals),
        "raw": trace.policy != ADAPLER,
        "depth": trace.depth.tolist(),
        "layers": trace.layers,
        "thresholds": rounded(trace.thresholds),
        "undecided": list(trace.undecided),
        "selected": None,
    }


def side_panel(trace: Trace, *, title: str, match: NDArray[np.int64], marks: NDArray[np.bool_]) -> dict[str, Any]:
    """A trace beside another one, with a text of its own. match: (n,) the same token on the other side, -1 for none;
    marks: (L, n) what differs there."""
    notes = [
        [f"layer {layer}: {trace.lengths[layer]} of {len(trace)} {trace.unit}, {int(marks[layer].sum())} differ"]
        for layer in range(trace.layers)
    ]
    return {
        **layers_panel(trace),
        "title": title,
        "notes": notes,
        "side": True,
        "tokens": [_token(trace, token) for token in range(len(trace))],
        "pieces": _pieces(trace),
        "match": [int(token) if token >= 0 else None for token in match],
        "marks": marks.astype(int).tolist(),
    }


def beside(first: dict[str, Any], second: dict[str, Any], trace: Trace, other: Trace) -> dict[str, Any]:
    """Two sides with one slider; the panels are those of `trace` and `other`."""
    data = drawn(trace, [first, second])
    layers = max(trace.layers, other.layers)
    return {**data, "text": identity(trace) + identity(other), "layers": layers, "tokens": [], "pieces": {}}


def story_panel(trace: Trace, one: Scored, *, means: Sequence[float] = (), of: str = "") -> dict[str, Any]:
    """A method's scores. A word has the sum of its wordpieces' scores, and is selected where one of them is.

    means: average precision over a corpus, by layer; of: what it is a mean of.
    """
    scores, present, selected = one.scores.astype(np.float64), one.present, one.selected
    if trace.tokens is not None:
        scores = np.stack([scores[:, list(group)].sum(1) for group in trace.groups], axis=1)
        if selected is not None:
            selected = np.stack([selected[:, list(group)].any(1) for group in trace.groups], axis=1)
        if trace.unit == SENTENCES:
            selected, present = None, np.stack([present[:, list(group)].any(1) for group in trace.groups], axis=1)
    total = np.abs(one.scores.astype(np.float64)).sum(1)
    precision = [None if math.isnan(value) else round(float(value), 4) for value in one.metrics[:, 0]]
    return {
        "title": one.title,
        "notes": [one.said(row) for row in range(len(scores))],
        "scores": rounded(scores),
        "n": present.sum(1).tolist(),
        "late": one.retained is not None and policy_class(trace.policy).place == "between",
        "total": rounded(np.where(total > 0, total, 1.0)),
        "raw": one.selected is None,
        "depth": None if one.retained is None else trace.depth.tolist(),
        "layers": trace.layers,
        "thresholds": None,
        "selected": None if selected is None else selected.astype(int).tolist(),
        "ap": precision,
        "chance": 0.0 if math.isnan(one.chance) else round(one.chance, 4),
        "means": list(means) or None,
        "of": of,
    }


def rounded(values: NDArray[Any]) -> list[Any]:
    """Values as lists, rounded to float32 precision."""
    found: list[Any] = np.round(values.astype(np.float64), 9).tolist()
    return found


def _token(trace: Trace, token: int) -> dict[str, Any]:
    special = bool(trace.words[token] == SPECIAL)
    shown = trace.pieces[token] if special else markup.seen(trace.surfaces[token]) or "\N{MIDDLE DOT}"
    return {
        "text": shown,
        "space": markup.space_before(trace.words, token),
        "flags": special * _SPECIAL + bool(trace.gold[token]) * _GOLD + bool(trace.unknown[token]) * _UNKNOWN,
        "name": markup.seen(trace.pieces[token]),
    }


def _pieces(trace: Trace) -> dict[str, list[dict[str, Any]]]:
    single = trace.tokens
    if single is None:
        return {}
    return {
        str(word): [{"name": markup.seen(single.pieces[one]), "depth": int(single.depth[one])} for one in group]
        for word, group in enumerate(trace.groups)
        if len(group) > 1
    }


@cache
def _source() -> str:
    return (markup.STATIC / "player.js").read_text(encoding="utf-8")


def show(data: dict[str, Any], *, key: str) -> int | None:
    """Draw what `drawn` made; the token that is picked, None for none."""
    component = st.components.v2.component("adapler_player", js=_source(), isolate_styles=False)
    return picked(component(key=key, data=data, on_picked_change=_nothing), data)


def picked(result: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """The token; what comes from a browser may be another text's, or nothing at all."""
    told = result.get("picked")
    if not isinstance(told, dict) or told.get("text") != data["text"]:
        return None
    token = told.get("token")
    return token if isinstance(token, int) and 0 <= token < len(data["tokens"]) else None


def _nothing() -> None:
    """Callback that does nothing: the browser's answer is read from the result."""
