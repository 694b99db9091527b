"""Facts and texts -> HTML, and plain text -> Markdown. Every piece of text that comes in is escaped here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapler.options import counted
from analysis.figures.paper import FULL_SHADE
from app.documents import Document
from app.tracing import ADAPLER, SPECIAL, Trace

STATIC = Path(__file__).parent / "static"
FEW_WORDS = 5  # a shorter text says too little
MANY_PIECES, ENOUGH_PIECES = 1.7, 8  # wordpieces a word, in a text of so many: English reviews have up to 1.3
# Characters that reorder what stands around them; U+200E, U+200F and U+061C only concern their neighbours.
_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_PAGE = """
:root { color-scheme: light dark; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; font-family: system-ui, sans-serif;
       background: light-dark(#fff, #171614); color: light-dark(#31333f, #fafafa); }
a { color: light-dark(#0057a8, #6cb6ff); } nav a { margin-right: 1rem; }
.al-cards { grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); }
.al-cards a { color: inherit; text-decoration: none; }
"""


def style() -> str:
    return f"<style>{(STATIC / 'style.css').read_text(encoding='utf-8')}</style>"


def seen(text: str) -> str:
    """Control characters and bidirectional overrides spelled out; not escaped."""
    return "".join(
        f"[U+{ord(char):04X}]" if unicodedata.category(char) == "Cc" or ord(char) in _BIDI else char for char in text
    )


def visible(text: str) -> str:
    """`seen`, and escaped."""
    return escape(seen(text))


def literal(text: str) -> str:
    """Text in Markdown that shows as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def percent(probability: float) -> str:
    """93%, 99.8%, 0.4%; never 100% or 0%, which a softmax does not say: &gt;99.9%, &lt;0.1%."""
    if probability >= 0.9995:
        return "&gt;99.9%"
    if probability < 0.0005:
        return "&lt;0.1%"
    return f"{probability:.0%}" if 0.015 <= probability < 0.985 else f"{probability:.1%}"


def headline(trace: Trace, document: Document) -> str:
    """Headline of a text: its result in one sentence."""
    same = trace.label == trace.full_label
    cost = f"{trace.speedup:.1f}x less compute" if trace.speedup >= 1.05 else f"{1 / trace.speedup:.2f}x the compute"
    verdict = "same verdict" if same else '<span class="no">another verdict</span>'
    with_removal, without = (float(one.max()) for one in (trace.probabilities, trace.full_probabilities))
    gold = document.gold_index(trace.labels)
    right = "" if gold is None else ", which is right" if trace.labels[gold] == trace.label else ", which is wrong"
    if trace.policy == ADAPLER:
        how = "a small network scores every token that is left; those below the layer's threshold are dropped"
    else:
        how = f"the policy {escape(trace.policy)} scores every token that is left; those below its bar are dropped"
    read = f"{trace.lengths[-1]} of {len(trace)} tokens"
    return (
        f'<div class="al-head-line"><h1>The model read {read} to the end: {verdict}, {cost}.</h1>'
        f"<p><b>{escape(trace.label)} {percent(with_removal)}</b>{right}; {escape(trace.full_label)} "
        f"{percent(without)} with all tokens. Before each layer {how}, and no later layer reads them.</p></div>"
    )


def title(text: str, said: str = "") -> str:
    """A view's own head, of plain text."""
    return f'<div class="al-head-line"><h1>{escape(text)}</h1><p>{escape(said)}</p></div>'


def cards(rows: Sequence[tuple[str, str, str]]) -> str:
    """Cards in a row: what, value and note of each, as HTML."""
    return '<div class="al-cards">' + "".join(
        f'<div class="al-card"><div class="al-what">{what}</div><div class="al-value">{value}</div>'
        f'<div class="al-note">{note}</div></div>'
        for what, value, note in rows
    ) + "</div>"  # fmt: skip


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text as a table; a row whose second and third cell differ is bold."""
    body = "".join(
        f"<tr{' class=al-changed' if len(row) == 3 and row[1] != row[2] else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    return f'<div class="al-tables"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def before_after(before: Trace, after: Trace, *, names: tuple[str, str]) -> str:
    """The facts of two traces of tokens side by side; the probability is that of the first one's verdict in both."""
    sides = (before, after)

    def probability(one: Trace) -> str:
        if before.label not in one.labels:
            return "none"
        return f"{100 * float(one.probabilities[one.labels.index(before.label)]):.1f}%"

    rows = (
        ("Verdict", *(one.label for one in sides)),
        (f"Probability of {before.label}", *map(probability, sides)),
        ("Without removal", *(one.full_label for one in sides)),
        ("Tokens to the end", *(f"{one.lengths[-1]} of {len(one)}" for one in sides)),
        ("FLOPs", *(flops(one.flops) for one in sides)),
        ("Speedup", *(f"{one.speedup:.2f}x" for one in sides)),
    )
    return table(("", *names), rows)


def unit(count: float) -> tuple[str, float]:
    """The letter that stands before FLOPs, and how many one of them is."""
    return next(((name, size) for name, size in (("G", 1e9), ("M", 1e6)) if count >= size), ("k", 1e3))


def flops(count: float) -> str:
    name, size = unit(count)
    return f"{count / size:.2f} {name}FLOPs"


def shade(ratio: float) -> float:
    """Opacity of a token whose score is `ratio` times the uniform one, as player.js paints it."""
    return float(0.06 + 0.66 * min(1.0, np.log1p(max(0.0, ratio)) / np.log1p(FULL_SHADE)))


def legend(trace: Trace, *more: str) -> str:
    """Legend of the marks that occur in the text. more: HTML of further marks."""
    samples = "".join(
        f'<span class="on" style="--a:{shade(ratio):.2f}">&nbsp;{ratio}{"/n" if ratio else ""}&nbsp;</span>'
        for ratio in (0, 1, 3, FULL_SHADE)
    )
    parts = [f"amber: its score, {samples}, n tokens left", '<span class="gone">grey</span>: dropped', *more]
    if trace.gold.any():
        parts.append('<u class="gold">blue line</u>: marked by people')
    if trace.tokens is not None:
        parts.append("a word has the sum of its wordpieces' scores, and goes with the last of them")
    if trace.unknown.any():
        parts.append('<span class="unk">word</span>: not in the vocabulary')
    return '<div class="al-text al-legend">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def text_at(trace: Trace, layer: int) -> str:
    """The text before a layer, static."""
    return "".join(
        (" " if space_before(trace.words, token) else "")
        + ("<u class=gold>" if trace.gold[token] else "")
        + (
            f'<span class="on" style="--a:{shade(float(trace.ratios[layer, token])):.2f}">'
            if trace.enters[layer, token]
            else '<span class="gone">'
        )
        + visible(trace.pieces[token] if trace.words[token] == SPECIAL else trace.surfaces[token])
        + ("</span></u>" if trace.gold[token] else "</span>")
        for token in range(len(trace))
    )


def layer_grid(trace: Trace) -> str:
    """All layers under each other, static."""
    return "".join(
        f'<section class="al-layer"><div class="al-head"><div class="al-name">Layer {layer}</div>'
        f'<div class="al-count">{trace.lengths[layer]} of {len(trace)} {trace.unit}</div></div>'
        f'<div class="al-text" dir="auto">{text_at(trace, layer)}</div></section>'
        for layer in range(trace.layers)
    )


def space_before(words: NDArray[np.int64], token: int) -> bool:
    """Whether a new word starts here, behind another."""
    return token > 0 and not (words[token] == words[token - 1] and words[token] != SPECIAL)


def doubts(trace: Trace) -> list[str]:
    """Reasons to doubt the verdict on this text. `trace` has tokens, not words."""
    content = trace.words >= 0
    spelled = content & np.array([any(map(str.isalnum, surface)) for surface in trace.surfaces])  # (n,)
    words, unknown = len(np.unique(trace.words[content])), int(trace.unknown.sum())
    ideographs = any(unicodedata.name(char, "").startswith("CJK ") for surface in trace.surfaces for char in surface)
    pieces = float(spelled.sum()) / max(1, len(np.unique(trace.words[spelled])))
    found = []
    if trace.unread_words or trace.cut_short:
        found.append(f"The model reads {trace.limit} tokens; what stands behind them is not seen")
    if unknown:
        name = trace.pieces[int(trace.unknown.argmax())]
        found.append(f"{unknown} of {len(trace)} tokens unknown: the model reads {name} in their place")
    if trace.typed is not None and trace.typed.any():
        names = ", ".join(dict.fromkeys(trace.pieces[token] for token in np.flatnonzero(trace.typed)))
        found.append(f"The text has {names}: the model reads its own special token there, and not a word")
    if pieces > MANY_PIECES and spelled.sum() >= ENOUGH_PIECES and not ideographs:
        found.append(f"{pieces:.1f} wordpieces a word: probably a language that this model was not made for")
    elif 0 < words < FEW_WORDS and not ideographs:
        found.append(f"Very short, {counted(words, 'word')}: the verdict may mean little")
    return found


def page(title: str, body: str, *, data: str | None = None) -> str:
    """A page that needs no other file. data: JSON of players; without it the page runs nothing."""
    scripts = ""
    if data is not None:
        player, start = ((STATIC / name).read_text(encoding="utf-8") for name in ("player.js", "page.js"))
        code = player.replace("export default function", "function") + start
        inside = data.replace("<", "\\u003c")
        scripts = f'<script type="application/json" id="al-data">{inside}</script><script>{code}</script>'
    allowed = "'unsafe-inline'" if data is not None else "'none'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="'
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}\">"
        f"<title>{escape(seen(title))}</title>{style()}<style>{_PAGE}</style></head><body>{body}{scripts}</body></html>"
    )
