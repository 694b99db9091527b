"""Tokens, scores and masks -> HTML. Pure functions; every piece of text that comes in is escaped here.

A text is laid out the same at every layer: a token only changes its class, never its width or its place.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.model.tracing import SPECIAL, Trace

STYLE = Path(__file__).with_name("style.css")
# Characters that reorder what stands around them; U+200E, U+200F and U+061C only concern their neighbours.
_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
FULL_SHADE = 8  # times the uniform score 1/n at which the shade is darkest


def style() -> str:
    """The style sheet in a <style> element; colours work on light and dark, see the comments there."""
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>"


def visible(text: str) -> str:
    """Escaped, with control characters and bidirectional overrides spelled out."""
    return escape(
        "".join(
            f"[U+{ord(char):04X}]" if unicodedata.category(char) == "Cc" or ord(char) in _BIDI else char
            for char in text
        )
    )


def state(trace: Trace, token: int, layer: int) -> str:
    """on: the token enters the layer; cut: this layer's predictor drops it; gone: it was dropped before."""
    depth = int(trace.depth[token])
    return "on" if depth > layer else "cut" if depth == layer else "gone"


def shade(ratio: float) -> float:
    """Opacity of a token whose score is `ratio` times the uniform one: 0.06 at none, 0.72 from FULL_SHADE on."""
    return 0.06 + 0.66 * min(1.0, math.log1p(ratio) / math.log1p(FULL_SHADE))


def token_text(trace: Trace, layer: int, *, label: str = "") -> str:
    """The whole text as it stands before `layer` runs."""
    tokens = [_token(trace, token, layer) for token in range(len(trace))]
    return joined_text(tokens, trace.words, trace.gold, label=label or f"Tokens at layer {layer}")


def plain_text(words: Sequence[str], gold: NDArray[np.bool_]) -> str:
    """The text alone with its rationale, for when there is no model."""
    tokens = [f"<span>{visible(word)}</span>" for word in words]
    return joined_text(tokens, np.arange(len(words)), gold, label="Text")


def layer_grid(trace: Trace, *, tokens: Trace | None = None) -> str:
    """All layers under each other."""
    rows = "".join(layer_row(trace, layer, tokens=tokens) for layer in range(trace.layers))
    return f'<div class="al-grid">{rows}</div>'


def layer_row(trace: Trace, layer: int, *, tokens: Trace | None = None) -> str:
    """`tokens`: what is counted, where `trace` has its wordpieces joined to words."""
    return f'<section class="al-layer">{layer_head(tokens or trace, layer)}{token_text(trace, layer)}</section>'


def layer_head(trace: Trace, layer: int) -> str:
    """Number of the layer, tokens that enter it, and a bar of their share of the text."""
    length, dropped = int(trace.lengths[layer]), int(trace.present[layer] - trace.lengths[layer])
    share = 100 * length / len(trace)
    return (
        f'<div class="al-head"><div class="al-name">Layer {layer}</div>'
        f'<div class="al-count"><b>{length}</b> of {len(trace)} tokens</div>'
        f'<div class="al-bar"><i style="width:{share:.1f}%"></i></div>'
        f'<div class="al-count">{dropped or "none"} dropped here</div></div>'
    )


def verdict(trace: Trace, gold: str | None) -> str:
    """The four facts at the top: the prediction, what it cost, how many tokens are left, what changed."""
    probability = float(trace.probabilities.max())
    if gold is None:
        judged = "no gold label"
    else:
        judged = f"gold label {escape(gold)}: {'right' if gold == trace.label else 'wrong'}"
    same = trace.label == trace.full_label
    full = float(trace.full_probabilities.max())
    cards = (
        ("Verdict", f"{escape(trace.label)} {probability:.0%}", judged),
        (
            "Compute",
            cheaper(trace.speedup),
            _flops(trace.flops, trace.plain_flops),
        ),
        ("Tokens", f"{trace.lengths[-1]} of {len(trace)} tokens", "reach the last layer"),
        (
            "Without removal",
            "same verdict" if same else "different verdict",
            f"{escape(trace.full_label)} {full:.0%} with all tokens",
        ),
    )
    return (
        '<div class="al-cards">'
        + "".join(
            f'<div class="al-card"><div class="al-what">{what}</div><div class="al-value">{value}</div>'
            f'<div class="al-note">{note}</div></div>'
            for what, value, note in cards
        )
        + "</div>"
    )


def cheaper(speedup: float) -> str:
    """3.4x fewer FLOPs; near or below 1, where the predictors cost what they save, it says so."""
    return f"{speedup:.1f}x fewer FLOPs" if speedup >= 1.05 else f"{1 / speedup:.2f}x the FLOPs"


def length_bars(trace: Trace) -> str:
    """How many tokens enter each layer, as bars under the whole text's."""
    rows = [("text", len(trace)), *((f"layer {layer}", int(length)) for layer, length in enumerate(trace.lengths))]
    bars = "".join(
        f'<div class="al-what">{name}</div>'
        f'<div class="al-bar"><i style="width:{100 * length / len(trace):.1f}%"></i></div><div>{length}</div>'
        for name, length in rows
    )
    return f'<div class="al-bars">{bars}</div>'


def timing(removal: float, plain: float, *, repeats: int) -> str:
    """Measured milliseconds, and what they say."""
    ratio = plain / removal
    said = f"{ratio:.2f}x as fast" if ratio >= 1 else f"{1 / ratio:.2f}x as slow"
    return (
        f'<p class="al-timing"><b>{removal:.0f} ms</b> with removal, <b>{plain:.0f} ms</b> without: {said}. '
        f"<small>Measured on this server, one text at a time, median of {repeats}.</small></p>"
    )


def shades() -> str:
    """Samples of the shades, with the scores that have them."""
    return "".join(
        f'<span class="on" style="--a:{shade(ratio):.2f}">&nbsp;{name}&nbsp;</span>'
        for ratio, name in ((0, "0"), (1, "1/n"), (3, "3/n"), (FULL_SHADE, f"{FULL_SHADE}/n"))
    )


def legend(*, rationale: bool) -> str:
    """What the signs mean."""
    parts = [
        f"enters the layer, shaded by contribution score: {shades()}",
        '<s class="cut">dropped</s> just before it',
        '<span class="gone">gone</span> since an earlier layer',
    ]
    if rationale:
        parts.append('<u class="gold">marked</u> as evidence by the annotator')
    return '<div class="al-text al-legend">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def joined_text(tokens: Sequence[str], words: NDArray[np.int64], gold: NDArray[np.bool_], *, label: str) -> str:
    """Tokens joined, a space where a new word starts, one <u> around each run of the rationale."""
    runs = []
    for marked, run in groupby(range(len(tokens)), key=lambda token: bool(gold[token])):
        members = list(run)
        inside = "".join(_space(words, token, first=token == members[0]) + tokens[token] for token in members)
        before = _space(words, members[0], first=False)
        runs.append(before + (f'<u class="gold">{inside}</u>' if marked else inside))
    looks = 'class="al-text" dir="auto" role="group" tabindex="0"'  # it scrolls when it is long, also by keyboard
    return f'<div {looks} aria-label="{escape(label)}">{"".join(runs)}</div>'


def _space(words: NDArray[np.int64], token: int, *, first: bool) -> str:
    same_word = token > 0 and words[token] == words[token - 1] and words[token] != SPECIAL
    return "" if first or token == 0 or same_word else " "


def _token(trace: Trace, token: int, layer: int) -> str:
    kind = state(trace, token, layer)
    ratio = trace.scores[layer, token] * trace.present[layer] if kind == "on" else None
    return element(trace, token, kind=kind, facts=" | ".join(_facts(trace, token, layer)), ratio=ratio)


def element(trace: Trace, token: int, *, kind: str, facts: str, ratio: float | None) -> str:
    """A token: its class, what hovering over it says, and its score as a multiple of the uniform one, if shaded."""
    tag = "s" if kind.startswith("cut") else "span"
    tint = "" if ratio is None else f' style="--a:{shade(ratio):.2f}"'
    if trace.words[token] == SPECIAL:  # <bdi>: its letters do not decide the direction of the text
        shown = f"<bdi>{escape(trace.pieces[token])}</bdi>"
    else:
        shown = visible(trace.surfaces[token]) or "&middot;"
    return f'<{tag} class="{kind}" title="{escape(facts)}"{tint}>{shown}</{tag}>'


def _facts(trace: Trace, token: int, layer: int) -> Iterator[str]:
    """What hovering over a token says."""
    depth = int(trace.depth[token])
    yield visible_piece(trace.pieces[token])
    if depth < layer:
        yield f"dropped before layer {depth}"
        return
    score = float(trace.scores[layer, token])
    yield f"score {score:.4f} = {score * trace.present[layer]:.2f}/n"
    yield f"threshold {trace.thresholds[layer]:.4f}"
    yield "never dropped" if depth == trace.layers else f"dropped before layer {depth}"


def visible_piece(piece: str) -> str:
    """A wordpiece for a tooltip, which is plain text and escaped as a whole afterwards."""
    return "".join(char if char.isprintable() else f"[U+{ord(char):04X}]" for char in piece)


def _flops(flops: float, plain: float) -> str:
    """Both counts in the unit that suits the larger."""
    unit, size = next(((u, s) for u, s in (("G", 1e9), ("M", 1e6)) if plain >= s), ("k", 1e3))
    return f"{flops / size:.2f} instead of {plain / size:.2f} {unit}FLOPs"
