"""Scores of one method -> HTML, for the comparison. Pure functions; text is escaped in `render`."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from analysis.scores.registry import AT_INPUT, FROM_INPUT, IN_LAYER, TO_OUTPUT
from analysis.scores.shared.surrogates import UNSTABLE
from app.markup import render
from app.model.comparing import Comparison
from app.model.tracing import Trace

# What one layer's score is about, see `ScoringMethod.scope`.
SCOPES = {
    IN_LAYER: "about this layer alone",
    TO_OUTPUT: "what the token's state before this layer weighs in the output",
    FROM_INPUT: "what the token of the input weighs in what this layer gives out",
    AT_INPUT: "one score a token, the same at every layer",
}


def legend(trace: Trace, *, signed: bool) -> str:
    """What the signs of the comparison mean; `signed`: one of the methods has scores that may be negative."""
    parts = [
        f"score: {render.shades()} (n: the tokens that share out the scores, on each card)",
        '<span class="on sel" style="--a:0.3">outlined</span>: selected, a score of at least 1/n. Only the '
        "text's own tokens are selected and judged, special tokens are not",
    ]
    if signed:
        parts.append('<span class="on neg" style="--a:0.3">dotted</span>: speaks against the prediction')
    return render.legend_of(*parts, *render.signs_of_the_text(trace))


def cards(trace: Trace, found: dict[str, Comparison | str], *, layer: int) -> str:
    """The methods side by side; a string stands for a method without scores, and says why."""
    return f'<div class="al-methods">{"".join(_card(trace, name, one, layer) for name, one in found.items())}</div>'


def _card(trace: Trace, name: str, one: Comparison | str, layer: int) -> str:
    if isinstance(one, str):
        return (
            f'<section class="al-method"><div class="al-name">{escape(name)}</div>'
            f'<div class="al-count">{escape(one)}</div></section>'
        )
    return (
        f'<section class="al-method"><div class="al-name">{escape(one.title)}</div>'
        f'<div class="al-count">{_subject(one, layer)}</div>'
        f'<div class="al-count">{_meaning(one, layer)}</div>'
        f'<div class="al-count">{_judgement(one, layer)}</div>{text(trace, one, layer)}</section>'
    )


def _subject(one: Comparison, layer: int) -> str:
    """Of what the scores are, and their n."""
    n = int(one.present[one.row(layer)].sum())
    if one.retained is not None:
        parts = ["with removal", f"n = {n}, the tokens present at layer {layer}"]
    else:
        parts = ["without removal", f"n = {n}, all tokens of the input"]
    return " &middot; ".join(parts)


def _meaning(one: Comparison, layer: int) -> str:
    """What a score at this layer is about, whose logit it explains, and what the method says of its own result."""
    parts = [f"<b>{escape(one.scope)}</b>" + (f": {meaning}" if (meaning := SCOPES.get(one.scope)) else "")]
    if one.target is not None:
        parts.append(f"explains {escape(one.target)}")
    parts += [_diagnostic(name, float(values[one.row(layer)])) for name, values in one.diagnostics.items()]
    return " &middot; ".join(parts)


def _diagnostic(name: str, value: float) -> str:
    if name == "stability":
        doubt = ": other samples would rank the tokens differently" if value < UNSTABLE else ""
        return f"stability {value:.2f}, the rank correlation between the halves of its samples{doubt}"
    if name == "completeness_gap":
        return f"completeness gap {100 * value:.1f}% of what the scores should add up to"
    return f"{escape(name)} {value:.3g}"


def _judgement(one: Comparison, layer: int) -> str:
    """This document's numbers at the layer."""
    row, parts = one.row(layer), []
    precision, fpr, tpr = one.metrics[row]
    if one.unjudged is not None:
        parts.append(escape(one.unjudged))
    if not math.isnan(precision):
        parts.append(f"AP <b>{precision:.2f}</b> (chance {one.chance:.2f})")
    if not math.isnan(fpr):
        level = "1/n present" if one.retained is not None else "1/n"
        parts.append(f"FPR <b>{fpr:.2f}</b>, TPR <b>{tpr:.2f}</b> ({level})")
    parts.append("signed: no selection at 1/n" if one.selected is None else _selection(one, layer))
    return " &middot; ".join(parts)


def _selection(one: Comparison, layer: int) -> str:
    """How many are selected, among the tokens that AP, FPR and TPR are of."""
    selected = np.zeros(0, dtype=np.bool_) if one.selected is None else one.selected[one.row(layer)]
    said = f"{int(selected.sum())} of the text's {int(one.content.sum())} tokens selected"
    if one.retained is not None and (dropped := int((selected & ~one.retained[layer]).sum())):
        said += f", {dropped} of them dropped here"
    return said


def text(trace: Trace, one: Comparison, layer: int) -> str:
    """The whole text with the method's scores at a layer; `trace` has the tokens."""
    row = one.row(layer)
    values = one.scores[row].astype(np.float64)
    n = int(one.present[row].sum())
    total = float(np.abs(values).sum())
    tokens = []
    for token in range(len(values)):
        share = n * values[token] / total if total else 0.0
        kinds, dropped = ["on"], ""
        if one.retained is not None:
            depth = int(one.retained[:, token].sum())
            dropped = "" if depth > layer else f" | dropped before layer {depth}"
            kinds = ["on" if depth > layer else "cut" if depth == layer else "gone"]
        on = kinds == ["on"]
        if on and one.selected is not None and one.selected[row, token]:
            kinds.append("sel")
        if share < 0:
            kinds.append("neg")
        score = "" if kinds[0] == "gone" else f" | score {values[token]:.4f} = {share:.2f}/n, n = {n}"
        facts = f"{render.visible_piece(trace.pieces[token])}{score}{dropped}"
        tokens.append(render.element(trace, token, kind=" ".join(kinds), facts=facts, ratio=abs(share) if on else None))
    return render.joined_text(tokens, trace.words, trace.gold, label=f"{one.title} at layer {layer}")
