"""Integrated gradients of the word embeddings; through captum."""

from __future__ import annotations

from typing import Annotated, Any

from analysis.scores.base import Batch, LayerScores
from analysis.scores.registry import AT_INPUT, scoring_method
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import (
    Baseline,
    Reduction,
    TargetValue,
    embeddings,
    forward_arguments,
    input_reference,
    reduced,
    with_gap,
)
from analysis.scores.shared.integration import integrate
from analysis.scores.shared.targets import Target
from analysis.scores.specs import AtLeast


@scoring_method(
    "integrated_gradients",
    paper="https://arxiv.org/abs/1703.01365",
    needs="gradient",
    title="Integrated gradients",
    cost="n_steps forwards + backwards",
    reads=(),
    scope=AT_INPUT,
)
def integrated_gradients(
    model: Any,
    batch: Batch,
    *,
    n_steps: Annotated[int, AtLeast(1)] = 50,
    baseline: Baseline = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Integrated gradients: gradients of the word embeddings, integrated on the way from a masked text to the text.

    Formula: score = (x - b) * integral over a in [0, 1] of dF(b + a (x - b)) / dx, summed over the width.
        F: the target's value, x: the word embeddings, b: those of the text with every content token replaced.
    Layer: at the input. There is one score a token.
    Cost: n_steps forwards + backwards.
    Misleads: the baseline is part of the answer: "mask", "pad" and "zero" give other scores. Scores add up to
        F(x) - F(b) only when n_steps is large enough; `completeness_gap` says how nearly. They have a sign by default:
        for FPR, TPR and the headline figure take reduction=absolute, positive or l2, each a share without a sign.
    Reference: Sundararajan, Taly and Yan (2017), Axiomatic Attribution for Deep Networks, https://arxiv.org/abs/1703.01365
    """
    twin = working_copy(model)
    values, total, expected = integrate(
        TargetValue(twin),
        embeddings(twin, batch.input_ids),
        input_reference(twin, batch, baseline),
        arguments=forward_arguments(model, batch, target),
        real=batch.attention_mask,
        n_steps=n_steps,
    )
    return with_gap(reduced(values[:, None], batch, reduction), total[:, None], expected[:, None])
