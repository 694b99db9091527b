"""Scores of one method -> HTML, for the comparison. Pure functions; text is escaped in `render`."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from app.html import render
from app.model.comparing import Comparison
from app.model.tracing import Trace


def legend(*, rationale: bool) -> str:
    """What the signs of the comparison mean."""
    parts = [
        f"score: {render.shades()}",
        '<span class="on sel" style="--a:0.3">outlined</span>: selected, a score of at least 1/n',
        '<span class="on neg" style="--a:0.3">dotted</span>: speaks against the prediction (signed methods only)',
    ]
    if rationale:
        parts.append('<u class="gold">marked</u> as evidence by the annotator')
    return '<div class="al-text al-legend">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


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
        f'<div class="al-count">{_judgement(one, layer)}</div>{text(trace, one, layer)}</section>'
    )


def _judgement(one: Comparison, layer: int) -> str:
    """This document's numbers at the layer."""
    row = one.row(layer)
    parts = [] if len(one.scores) > 1 else ["scores of the input, the same at every layer"]
    precision, fpr, tpr = one.metrics[row]
    if math.isnan(precision):
        parts.append("no rationale to judge by")
    else:
        parts.append(f"AP <b>{precision:.2f}</b> (chance {one.chance:.2f})")
        if not math.isnan(fpr):
            parts.append(f"FPR <b>{fpr:.2f}</b>, TPR <b>{tpr:.2f}</b>")
    if one.selected is None:
        parts.append("signed: no selection at 1/n")
    else:
        parts.append(f"{int(one.selected[row].sum())} of {one.scores.shape[1]} selected")
    return " &middot; ".join(parts)


def text(trace: Trace, one: Comparison, layer: int) -> str:
    """The whole text with the method's scores at a layer; `trace` has the tokens."""
    row = one.row(layer)
    values = one.scores[row].astype(np.float64)
    size = len(values)
    total = float(np.abs(values).sum())
    tokens = []
    for token in range(size):
        share = size * values[token] / total if total else 0.0
        kinds, dropped = ["on"], ""
        if one.retained is not None:
            depth = int(one.retained[:, token].sum())
            dropped = "" if depth > layer else f" | dropped before layer {depth}"
            kinds = ["on" if depth > layer else "cut" if depth == layer else "gone"]
        if one.selected is not None and one.selected[row, token]:
            kinds.append("sel")
        if share < 0:
            kinds.append("neg")
        facts = f"{render.visible_piece(trace.pieces[token])} | score {values[token]:.4f} = {share:.2f}/n{dropped}"
        ratio = abs(share) if kinds[0] == "on" else None
        tokens.append(render.element(trace, token, kind=" ".join(kinds), facts=facts, ratio=ratio))
    return render.joined_text(tokens, trace.words, trace.gold, label=f"{one.title} at layer {layer}")
