"""Scores of one method -> what the comparison shows of it. Pure functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adapler.policies import policy_class
from analysis.scores.perturbation import UNSTABLE
from analysis.scores.registry import AT_INPUT, FROM_INPUT, IN_LAYER, TO_OUTPUT
from app.markup import player, render
from app.markup.terms import term
from app.model.comparing import Comparison
from app.model.joining import SENTENCES
from app.model.tracing import ADAPLER, Trace

DOT = " \N{MIDDLE DOT} "
# What one layer's score is about, see `ScoringMethod.scope`.
SCOPES = {
    IN_LAYER: "about this layer alone",
    TO_OUTPUT: "what the token's state before this layer weighs in the output",
    FROM_INPUT: "what the token of the input weighs in what this layer gives out",
    AT_INPUT: "one score a token, the same at every layer",
}


def legend(trace: Trace, *, signed: bool) -> str:
    """What the signs of the comparison mean; `signed`: one of the methods has scores that may be negative."""
    outlined = (
        '<span class="on sel" style="--a:0.3">outlined</span>: selected, a score of at least 1/n. Only the '
        "text's own tokens are selected and judged, special tokens are not"
    )
    shared = "n: the tokens that share out the scores, on each card"
    if trace.unit == SENTENCES:
        shared = "n: the sentences and special tokens that share out the scores; on the cards, tokens"
    parts = [
        f"score: {render.shades()} ({shared})",
        *([outlined] if trace.unit != SENTENCES else []),
        " ".join(term(name) for name in ("AP", "chance", "FPR", "TPR")) + ": how well the scores find the marked words",
    ]
    if signed:
        parts.append(
            '<span class="on neg" style="--a:0.3">dotted</span>, of '
            + term("signed")
            + " scores: speaks against the prediction"
        )
    return render.legend_of(*parts, *render.signs_of_the_text(trace))


def panel(trace: Trace, one: Comparison) -> dict[str, Any]:
    """A method for the player, see `app.markup.player.layers_panel`. `trace`: of tokens, or of whole words: a word has
    the sum of its wordpieces' scores, and is selected where one of them is; n stays the number of tokens. Of sentences,
    too, but none is selected, and n is their number.

    Thresholds are AdapLeR's only: another policy's bars are for its own scores, and those shown here are shared out, so
    that a layer's add up to 1."""
    scores = one.scores.astype(np.float64)
    selected, present, late = one.selected, one.present, decides_late(trace, one)
    ranked = present
    if trace.tokens is not None:
        ranked = np.stack([present[:, list(group)].any(1) for group in trace.groups], axis=1)
        scores = np.stack([scores[:, list(group)].sum(1) for group in trace.groups], axis=1)
        if selected is not None:
            selected = np.stack([selected[:, list(group)].any(1) for group in trace.groups], axis=1)
        if trace.unit == SENTENCES:  # of a sentence something is nearly always selected: no outlines
            selected = None
            present = ranked
    total = np.abs(one.scores.astype(np.float64)).sum(1)
    return {
        "title": one.title,
        "notes": [notes(one, layer, late=late) for layer in range(len(scores))],
        "scores": player.rounded(scores),
        "n": present.sum(1).tolist(),
        "ranked": ranked.sum(1).tolist(),
        "late": late,
        "total": player.rounded(np.where(total > 0, total, 1.0)),
        "raw": one.signed,
        "depth": None if one.retained is None else trace.depth.tolist(),
        "layers": trace.layers,
        "thresholds": player.rounded(trace.thresholds)
        if one.retained is not None and trace.policy == ADAPLER
        else None,
        "selected": None if selected is None else selected.astype(int).tolist(),
    }


def decides_late(trace: Trace, one: Comparison) -> bool:
    """Whether the scores of a layer decide who enters the next one: those of a policy that drops between a layer's
    attention and its feed-forward network."""
    return one.retained is not None and policy_class(trace.policy).place == "between"


def notes(one: Comparison, layer: int, *, late: bool = False) -> list[str]:
    """What a card says above its text, three lines. late: see `decides_late`."""
    return [_subject(one, layer), _meaning(one, layer), _judgement(one, layer, late=late)]


def _subject(one: Comparison, layer: int) -> str:
    """Of what the scores are, and their n."""
    n = int(one.present[one.row(layer)].sum())
    if one.retained is not None:
        parts = ["with removal", f"n = {n}, the tokens present at layer {layer}"]
    else:
        parts = ["without removal", f"n = {n}, all tokens of the input"]
    return DOT.join(parts)


def _meaning(one: Comparison, layer: int) -> str:
    """What a score at this layer is about, whose logit it explains, and what the method says of its own result."""
    parts = [one.scope + (f": {meaning}" if (meaning := SCOPES.get(one.scope)) else "")]
    if one.target is not None:
        parts.append(f"explains {one.target}")
    parts += [_diagnostic(name, float(values[one.row(layer)])) for name, values in one.diagnostics.items()]
    return DOT.join(parts)


def _diagnostic(name: str, value: float) -> str:
    if name == "stability":
        doubt = ": other samples would rank the tokens differently" if value < UNSTABLE else ""
        return f"stability {value:.2f}, the rank correlation between the halves of its samples{doubt}"
    if name == "completeness_gap":
        return f"completeness gap {100 * value:.1f}% of what the scores should add up to"
    return f"{name} {value:.3g}"


def _judgement(one: Comparison, layer: int, *, late: bool) -> str:
    """This document's numbers at the layer."""
    if not one.is_scored(layer):
        return "nothing is decided at this layer: no token has a score"
    row, parts = one.row(layer), []
    precision, fpr, tpr = one.metrics[row]
    if one.unjudged is not None:
        parts.append(one.unjudged)
    if not math.isnan(precision):
        parts.append(f"AP {precision:.2f} (chance {one.chance:.2f})")
    if not math.isnan(fpr):
        level = "1/n present" if one.retained is not None else "1/n"
        parts.append(f"FPR {fpr:.2f}, TPR {tpr:.2f} ({level})")
    parts.append("signed: no selection at 1/n" if one.selected is None else _selection(one, layer, late=late))
    return DOT.join(parts)


def _selection(one: Comparison, layer: int, *, late: bool) -> str:
    """How many are selected, among the tokens that AP, FPR and TPR are of."""
    selected = np.zeros(0, dtype=np.bool_) if one.selected is None else one.selected[one.row(layer)]
    said = f"{int(selected.sum())} of the text's {int(one.content.sum())} tokens selected"
    after = layer + late  # the layer that these scores let tokens enter
    if one.retained is not None and after < len(one.retained):
        dropped = int((selected & ~one.retained[after]).sum())
        said += f", {dropped} of them dropped here" if dropped else ""
    return said
