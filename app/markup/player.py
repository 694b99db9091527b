"""A trace and the scores of methods -> what `player.js` draws, as plain lists for JSON.

n tokens (or words) of the text, L layers, R rows of a panel: L, or 1 for scores of the input
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.markup import render
from app.model.tracing import ADAPLER, SPECIAL, Trace

ONE, ALL = "one", "all"
DIGITS = 9  # of a score: more than a float32 holds
_SPECIAL, _GOLD, _UNKNOWN = 1, 2, 4  # the same in player.js


def drawn(trace: Trace, panels: list[dict[str, Any]], *, mode: str = ONE, talk: bool = False) -> dict[str, Any]:
    """Everything that the player needs.

    text     tells this text, split into these tokens, from every other
    tokens   n of {text, space (one stands before it), flags, name (the wordpiece)}
    pieces   token -> its wordpieces' {name, depth, scores (L,)}, for words of several
    layers, unit, mode, talk
    panels   see `layers_panel`
    """
    return {
        "text": identity(trace),
        "tokens": [_token(trace, token) for token in range(len(trace))],
        "pieces": _pieces(trace),
        "layers": trace.layers,
        "unit": trace.unit,
        "mode": mode,
        "talk": talk,
        "panels": panels,
    }


def identity(trace: Trace) -> str:
    """Of the tokens and their places, whatever model scored them."""
    told = "\0".join((trace.unit, *trace.pieces, *trace.surfaces))
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


def layers_panel(trace: Trace) -> dict[str, Any]:
    """The scores by which tokens are dropped.

    A panel has: title ("": none is shown) and notes (R lists of lines); scores (R, n); n (R,), the n of 1/n; total
    (R,), the sum of the scores' sizes; depth (n,), layers that a token enters, None where nothing is dropped; layers;
    thresholds (L,) or None; undecided, the layers before which nothing is decided; selected (R, n) or None; raw:
    scores are said as they are and not in multiples of 1/n, as those of another policy than AdapLeR's and signed ones,
    whose sum is not 1. It may have ranked (R,), how many have a rank where that is not n; late: the scores of a layer
    decide who enters the next one; forced (n,): 1 for a token that stays whatever it scores, -1 for one that goes.
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
    """A trace beside another one: a panel with a text of its own, see `layers_panel`. match: (n,) the token that is the
    same on the other side, -1 for none; marks: (L, n) what differs there."""
    notes = []
    for layer in range(trace.layers):
        gone = int(trace.present[layer] - trace.lengths[layer])
        notes.append(
            [
                f"layer {layer}: {trace.lengths[layer]} of {len(trace)} {trace.unit}, {gone or 'none'} dropped here",
                f"{int(marks[layer].sum())} differ from the other side",
            ]
        )
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
    """What the player needs for two sides with one slider; the panels are those of `trace` and `other`."""
    data = drawn(trace, [first, second])
    text = f"{identity(trace)}{identity(other)}"
    return {**data, "text": text, "layers": max(trace.layers, other.layers), "tokens": [], "pieces": {}}


def rounded(values: NDArray[Any]) -> list[Any]:
    """As lists; float32 has no more digits than this."""
    found: list[Any] = np.round(values.astype(np.float64), DIGITS).tolist()
    return found


def _token(trace: Trace, token: int) -> dict[str, Any]:
    special = bool(trace.words[token] == SPECIAL)
    shown = trace.pieces[token] if special else render.seen(trace.surfaces[token]) or "\N{MIDDLE DOT}"
    flags = special * _SPECIAL + bool(trace.gold[token]) * _GOLD + bool(trace.unknown[token]) * _UNKNOWN
    return {
        "text": shown,
        "space": render.space_before(trace.words, token),
        "flags": flags,
        "name": render.visible_piece(trace.pieces[token]),
    }


def _pieces(trace: Trace) -> dict[str, list[dict[str, Any]]]:
    if trace.tokens is None:
        return {}
    single = trace.tokens
    return {
        str(word): [
            {
                "name": render.visible_piece(single.pieces[token]),
                "depth": int(single.depth[token]),
                "scores": rounded(single.scores[:, token]),
            }
            for token in group
        ]
        for word, group in enumerate(trace.groups)
        if len(group) > 1
    }
