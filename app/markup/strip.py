"""One real word of the text on its way through the layers, as a strip of HTML and as numbers."""

from __future__ import annotations

from html import escape

import numpy as np

from app.markup import render
from app.markup.terms import term
from app.model.tracing import ADAPLER, Trace

LEAST_LETTERS = 3
CLEAR = 0.9  # of the threshold: rounded, the two numbers differ


def followed(trace: Trace) -> int | None:
    """The token that shows the method best: a whole word that some layers read and a later one drops, clearly below its
    threshold; of these the one with the highest score where it is first decided. None where every word is kept, or
    dropped at once. `trace` has tokens."""
    counts = np.bincount(trace.words[trace.words >= 0], minlength=1)
    whole = [
        token
        for token in range(len(trace))
        if trace.words[token] >= 0
        and counts[trace.words[token]] == 1
        and trace.surfaces[token].isalpha()
        and len(trace.surfaces[token]) >= LEAST_LETTERS
        and 0 < trace.depth[token] < trace.layers
    ]
    late = [token for token in whole if trace.depth[token] > 1]
    clear = [
        token
        for token in late
        if trace.scores[trace.depth[token], token] < CLEAR * trace.thresholds[trace.depth[token]]
    ]
    first = next((layer for layer in range(trace.layers) if layer not in trace.undecided), 0)
    return max(clear or late or whole, key=lambda token: float(trace.scores[first, token]), default=None)


def strip(trace: Trace) -> str:
    """The followed word's score and threshold at each layer that it reaches; "" where there is no such word."""
    token = followed(trace)
    if token is None:
        return ""
    word = render.visible(trace.surfaces[token])
    steps = "".join(_step(trace, token, layer) for layer in range(int(trace.depth[token]) + 1))
    return (
        f'<section class="al-strip" aria-label="One word on its way"><p><b>Follow \N{LEFT DOUBLE QUOTATION MARK}{word}'
        f"\N{RIGHT DOUBLE QUOTATION MARK}.</b> Before each {term('layer')} {_judge(trace)} "
        f"it is {term('dropped')}, and no later layer reads it.</p>"
        f"<ol>{steps}</ol></section>"
    )


def _judge(trace: Trace) -> str:
    """Who gives a score, and below what; words whose meaning is AdapLeR's are terms for AdapLeR only."""
    if trace.policy != ADAPLER:
        return (
            f"the policy <code>{escape(trace.policy)}</code> gives every {term('token')} that is left a score. Below "
            "the layer's bar"
        )
    return (
        f"a small network gives every {term('token')} that is left a {term('contribution score', 'score')}, in "
        f"multiples of {term('n', '1/n')}. Below the layer's {term('threshold')}"
    )


def _step(trace: Trace, token: int, layer: int) -> str:
    if layer in trace.undecided:
        return f'<li><span class="al-what">Layer {layer}</span> nothing is decided: <b>kept</b></li>'
    n = int(trace.present[layer])
    score, limit = float(trace.scores[layer, token]), float(trace.thresholds[layer])
    own = trace.policy == ADAPLER
    said, bar = (f"{one * n:.2f}/n" if own else f"{one:.4g}" for one in (score, limit))
    kept = bool(trace.enters[layer, token])
    sign = "\N{GREATER-THAN OR EQUAL TO}" if kept else "&lt;"
    tint = f' style="--a:{render.shade(float(trace.ratios[layer, token])):.2f}"' if kept else ""
    fate = "kept" if kept else "dropped"
    return (
        f'<li><span class="al-what">Layer {layer}</span> <span class="{"on" if kept else "cut"}"{tint}>'
        f"{said}</span> {sign} {bar}: <b>{fate}</b></li>"
    )
