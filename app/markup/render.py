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

from app.markup.terms import term
from app.model.joining import SENTENCES
from app.model.tracing import ADAPLER, QUERY, SPECIAL, Trace

STYLE = Path(__file__).parent / "static" / "style.css"
# Characters that reorder what stands around them; U+200E, U+200F and U+061C only concern their neighbours.
_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
SMALL = 0.01  # a score below it is said with four digits, and not with four decimals
FULL_SHADE = 8  # times the uniform score 1/n at which the shade is darkest


def style() -> str:
    """The style sheet in a <style> element; colours work on light and dark, see the comments there."""
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>"


def seen(text: str) -> str:
    """Control characters and bidirectional overrides spelled out; not escaped."""
    return "".join(
        f"[U+{ord(char):04X}]" if unicodedata.category(char) == "Cc" or ord(char) in _BIDI else char for char in text
    )


def visible(text: str) -> str:
    """`seen`, and escaped."""
    return escape(seen(text))


def state(trace: Trace, token: int, layer: int) -> str:
    """on: the token enters the layer; cut: it is dropped just before; gone: it was dropped before."""
    depth = int(trace.depth[token])
    return "on" if depth > layer else "cut" if depth == layer else "gone"


def shade(ratio: float) -> float:
    """Opacity of a token whose score is `ratio` times the uniform one: 0.06 at none, 0.72 from FULL_SHADE on."""
    return 0.06 + 0.66 * min(1.0, math.log1p(max(0.0, ratio)) / math.log1p(FULL_SHADE))


def token_text(trace: Trace, layer: int) -> str:
    """The whole text as it stands before `layer` runs."""
    tokens = [_token(trace, token, layer) for token in range(len(trace))]
    return joined_text(tokens, trace.words, trace.gold, label=f"Tokens at layer {layer}")


def plain_text(words: Sequence[str], gold: NDArray[np.bool_]) -> str:
    """The text alone with its rationale, for when there is no model."""
    tokens = [f"<span>{visible(word)}</span>" for word in words]
    return joined_text(tokens, np.arange(len(words)), gold, label="Text")


def layer_grid(trace: Trace) -> str:
    """All layers under each other."""
    return f'<div class="al-grid">{"".join(layer_row(trace, layer) for layer in range(trace.layers))}</div>'


def layer_row(trace: Trace, layer: int) -> str:
    """One layer: its head, and the text."""
    return f'<section class="al-layer">{layer_head(trace, layer)}{token_text(trace, layer)}</section>'


def layer_head(trace: Trace, layer: int) -> str:
    """Number of the layer, tokens (or words) that enter it, a bar of their share of the text, and the n of 1/n."""
    length, present = int(trace.lengths[layer]), int(trace.present[layer])
    share = 100 * length / len(trace)
    return (
        f'<div class="al-head"><div class="al-name">Layer {layer}</div>'
        f'<div class="al-count"><b>{length}</b> of {len(trace)} {trace.unit}</div>'
        f'<div class="al-bar"><i style="width:{share:.1f}%"></i></div>'
        f'<div class="al-count">{present - length or "none"} dropped here, n = {present}</div></div>'
    )


def shades(unit: str = "/n") -> str:
    """Samples of the shades, with the scores that have them. unit: what stands behind a number."""
    return "".join(
        f'<span class="on" style="--a:{shade(ratio):.2f}">&nbsp;{ratio}{unit if ratio else ""}&nbsp;</span>'
        for ratio in (0, 1, 3, FULL_SHADE)
    )


def legend(trace: Trace, other: Trace | None = None) -> str:
    """What the signs mean, of those that the text has; other: the trace on the right of it, where there is one, in the
    same unit."""
    counted = trace.unit if trace.tokens is None else f"{trace.unit} and special tokens"
    one = trace.unit.removesuffix("s")
    shown = [trace] if other is None else [trace, other]
    own = all(side.policy == ADAPLER for side in shown)
    score, limit = _of_sides([_score_of(side) for side in shown]), _of_sides([_limit_of(side) for side in shown])
    if own:
        scale = f"{shades()} ({term('n')}: the {counted} present when the layer decides)"
    else:  # scores of another policy do not add up to 1: of AdapLeR's, on the other side, 1/n is the mean
        scale = f"{shades('')} times the mean of the {counted} present when the layer decides"
    return legend_of(
        f"enters the {term('layer')}, shaded by {score}: {scale}",
        f'<s class="cut">dropped</s> just before it, below the {limit}',
        '<span class="gone">gone</span> since an earlier layer',
        *([f"a {one} has the sum of its wordpieces' scores, and goes with the last of them"] if trace.tokens else []),
        *(
            ['<span class="apart">dashed</span>: not so on the other side, or not there at all']
            if other is not None
            else []
        ),
        *signs_of_the_text(*shown),
    )


def _score_of(trace: Trace) -> str:
    return (
        term("contribution score") if trace.policy == ADAPLER else f"the score of <code>{escape(trace.policy)}</code>"
    )


def _limit_of(trace: Trace) -> str:
    return term("threshold") if trace.policy == ADAPLER else "bar"


def _of_sides(said: Sequence[str]) -> str:
    """What holds on the left and on the right, once where it is the same."""
    return said[0] if len(set(said)) == 1 else f"{said[0]} on the left, {said[1]} on the right"


def legend_of(*parts: str) -> str:
    """HTML of each sign with its meaning -> the legend."""
    return '<div class="al-text al-legend">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def signs_of_the_text(trace: Trace, *others: Trace) -> list[str]:
    """The legend's parts on rationale, unknown tokens and query, where there are any in one of the texts."""
    shown, parts = (trace, *others), []
    if any(one.gold.any() for one in shown):
        parts.append(
            '<u class="gold">marked</u> as '
            + term("evidence")
            + " by the annotator (of several: by more than half of them)"
            + (", on more than half of the sentence" if trace.unit == SENTENCES else "")
        )
    if unknown := [one for one in shown if one.unknown.any()]:
        first = unknown[0]
        name = escape(first.pieces[int(first.unknown.argmax())] if first.tokens is None else "the unknown token")
        parts.append(f'<span class="unk">word</span> not in the vocabulary: the model reads {name}')
    if any((one.words <= QUERY).any() for one in shown):
        parts.append("after the text: the query, which is read with it and never judged")
    return parts


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
    return " " if not first and space_before(words, token) else ""


def space_before(words: NDArray[np.int64], token: int) -> bool:
    """Whether a new word starts here, behind another."""
    return token > 0 and not (words[token] == words[token - 1] and words[token] != SPECIAL)


def _token(trace: Trace, token: int, layer: int) -> str:
    kind = state(trace, token, layer)
    ratio = trace.ratios[layer, token] if kind == "on" else None
    return element(trace, token, kind=kind, facts=" | ".join(_facts(trace, token, layer)), ratio=ratio)


def element(trace: Trace, token: int, *, kind: str, facts: str, ratio: float | None) -> str:
    """A token: its class, what hovering over it says, and its score as a multiple of the uniform one, if shaded."""
    tag = "s" if kind.startswith("cut") else "span"
    tint = "" if ratio is None else f' style="--a:{shade(ratio):.2f}"'
    kind = f"{kind} unk" if trace.unknown[token] else kind
    if trace.words[token] == SPECIAL:  # <bdi>: its letters do not decide the direction of the text
        shown = f"<bdi>{escape(trace.pieces[token])}</bdi>"
    else:
        shown = visible(trace.surfaces[token]) or "&middot;"
    return f'<{tag} class="{kind}" title="{escape(facts)}"{tint}>{shown}</{tag}>'


def _facts(trace: Trace, token: int, layer: int) -> Iterator[str]:
    """What hovering over a token says."""
    depth = int(trace.depth[token])
    yield visible_piece(trace.pieces[token])
    if trace.unknown[token]:
        yield "not in the vocabulary"
    if depth < layer:
        yield f"dropped before layer {depth}"
        return
    if layer in trace.undecided:
        yield "nothing is decided here"
        yield "never dropped" if depth == trace.layers else f"dropped before layer {depth}"
        return
    score, n = float(trace.scores[layer, token]), int(trace.present[layer])
    own = trace.policy == ADAPLER
    yield f"score {_exact(trace, score)}" + (f" = {score * n:.2f}/n, n = {n}" if own else "")
    several = trace.tokens is not None and len(trace.groups[token]) > 1
    if trace.tokens is not None and several:
        group = trace.groups[token]
        if trace.unit == SENTENCES:
            left = int(trace.tokens.enters[layer, list(group)].sum())
            yield f"{left} of its {len(group)} wordpieces kept"
        else:
            yield "kept while one of its wordpieces is: " + ", ".join(_pieces(trace.tokens, group, layer))
    if not (several and trace.unit == SENTENCES):
        yield f"{'threshold' if own else 'bar'} {_exact(trace, trace.thresholds[layer])}"
    yield "never dropped" if depth == trace.layers else f"dropped before layer {depth}"


def _exact(trace: Trace, value: float) -> str:
    """Scores of another policy than AdapLeR's do not add up to 1, and may be small: they are said as they are. So are
    small ones of AdapLeR's: at four decimals many would be equal to the threshold that drops them."""
    decimals = trace.policy == ADAPLER and not 0 < value < SMALL
    return f"{value:.4f}" if decimals else f"{value:.4g}"


def _pieces(tokens: Trace, group: Sequence[int], layer: int) -> Iterator[str]:
    """Each wordpiece of a word with its own score, which is what the threshold is compared with."""
    for token in group:
        depth = int(tokens.depth[token])
        value = _exact(tokens, tokens.scores[layer, token]) if depth >= layer else f"dropped before layer {depth}"
        yield f"{visible_piece(tokens.pieces[token])} {value}"


def visible_piece(piece: str) -> str:
    """A wordpiece for a tooltip, which is plain text and escaped as a whole afterwards."""
    return "".join(char if char.isprintable() else f"[U+{ord(char):04X}]" for char in piece)
