"""Gradients: at the layers' inputs, at noisy word embeddings, and integrated on the way from a baseline; by captum
but for the one pass that all layers share.

B batch, L layers, N padded length, D hidden size, n tokens of one document
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from captum.attr import DeepLift, GradientShap, IntegratedGradients, NoiseTunnel, Saliency
from torch import Tensor

from adapler.backbones.families import Target
from adapler.inference import working_copy
from analysis.scores.base import AtLeast, Batch, LayerScores, gradient_pass, normalise, register_variant, scoring_method
from analysis.scores.inputs import (
    PASS_TOKENS,
    Baseline,
    Reduction,
    TargetValue,
    embeddings,
    forward_arguments,
    input_reference,
    reduced,
    seeded,
    with_gap,
)

Samples = Annotated[int, AtLeast(2)]
Noise = Annotated[float, AtLeast(0)]


@scoring_method("saliency", needs="gradient", reads=())
def saliency(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Saliency: norm of gradient x input at the input of every layer.

    Formula: score_i^l = || (d value / d h_i^l) * h_i^l ||_2, divided by the sum over the real tokens.
    Layer: from the layer to the output. Layer 0 has the embeddings' saliency, AdapLeR's training target.
    Cost: 1 forward + backward, for all layers, shared with the other gradient methods.
    Misleads: it has no sign. Above layer 0 a position's state is a mix of tokens, and its score is the mix's.
    Reference: Kindermans et al. (2016), Investigating the Influence of Noise and Distractors,
        https://arxiv.org/abs/1611.07270; as AdapLeR's target: Modarressi et al. (2022), section 3.3, https://aclanthology.org/2022.acl-long.1
    """
    return LayerScores(normalise(gradient_pass(model, batch, target)["product_norm"], batch.attention_mask))


register_variant("saliency_gold", "saliency", title="Saliency (gold)", target="gold")


@scoring_method("saliency_signed", needs="gradient", reads=())
def saliency_signed(model: Any, batch: Batch, *, target: Target = "predicted") -> LayerScores:
    """Saliency (signed): gradient times input, summed over the width, at the input of every layer.

    Formula: score_i^l = (d value / d h_i^l) . h_i^l. Not normalised: above 0 speaks for the target, below against it.
    Layer: from the layer to the output.
    Cost: 1 forward + backward, for all layers, shared with the other gradient methods.
    Misleads: positive and negative parts of one token cancel. A score with a sign has no selection at 1/n, FPR or TPR.
    Reference: Kindermans et al. (2016), Investigating the Influence of Noise and Distractors,
        https://arxiv.org/abs/1611.07270
    """
    return LayerScores(gradient_pass(model, batch, target)["product_sum"], signed=True)


@scoring_method("gradient_l2", needs="gradient", reads=())
def gradient_l2(model: Any, batch: Batch, *, norm: Literal[1, 2] = 2, target: Target = "predicted") -> LayerScores:
    """Gradient (L2): how strongly the target reacts to a small change of a token's state.

    Formula: score_i^l = || d value / d h_i^l ||_norm, divided by the sum over the real tokens.
    Layer: from the layer to the output.
    Cost: 1 forward + backward, for all layers, shared with the other gradient methods.
    Misleads: it says how sensitive the target is, not what the token gave to it; it has no sign.
    Reference: Simonyan, Vedaldi and Zisserman (2014), Deep Inside Convolutional Networks, https://arxiv.org/abs/1312.6034
    """
    return LayerScores(normalise(gradient_pass(model, batch, target)[f"norm_{norm}"], batch.attention_mask))


register_variant("gradient_l1", "gradient_l2", title="Gradient (L1)", norm=1)


@scoring_method("smoothgrad", needs="gradient", reads="seed")
def smoothgrad(
    model: Any, batch: Batch, *, n_samples: Samples = 50, noise: Noise = 0.1, target: Target = "predicted"
) -> LayerScores:
    """SmoothGrad: the gradient at the input, as a mean over inputs with noise on them.

    Formula: score_i = || mean over s of dF/de_i (e + z_s) ||_2, divided by the sum over the real tokens. e: the word
        embeddings; z_s: n_samples normal draws, their deviation noise * (largest - smallest entry of e).
    Layer: at the input.
    Cost: n_samples forwards + backwards.
    Misleads: the neighbourhood of the vectors is averaged, not that of texts. Like every plain gradient it is a
        sensitivity, without a sign.
    Reference: Smilkov, Thorat, Kim, Viegas and Wattenberg (2017), SmoothGrad, https://arxiv.org/abs/1706.03825
    """
    return _noisy_gradients("smoothgrad", model, batch, n_samples, noise, target)


@scoring_method("vargrad", needs="gradient", reads="seed")
def vargrad(
    model: Any, batch: Batch, *, n_samples: Samples = 50, noise: Noise = 0.1, target: Target = "predicted"
) -> LayerScores:
    """VarGrad: the variance of the gradient at the input over inputs with noise on them.

    Formula: score_i = || variance over s of dF/de_i (e + z_s) ||_2, divided by the sum over the real tokens; e and z_s
        as in SmoothGrad.
    Layer: at the input.
    Cost: n_samples forwards + backwards.
    Misleads: a token with a large and steady gradient scores low. With few samples a variance is known badly.
    Reference: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim (2018), Sanity Checks for Saliency Maps, https://arxiv.org/abs/1810.03292
    """
    return _noisy_gradients("vargrad", model, batch, n_samples, noise, target)


def _noisy_gradients(
    statistic: str, model: Any, batch: Batch, n_samples: int, noise: float, target: Target
) -> LayerScores:
    """The norm over the width of the mean, or variance, of the gradients at `n_samples` noisy word embeddings."""
    twin = working_copy(model)
    function = NoiseTunnel(Saliency(TargetValue(twin)))
    values = torch.zeros(batch.input_ids.shape, device=batch.input_ids.device)  # (B, N)
    for row, single in enumerate(batch.singles()):
        vectors = embeddings(twin, single.input_ids)  # (1, n, D)
        deviation = noise * float(vectors.max() - vectors.min())
        with seeded(batch, row):
            found = function.attribute(
                vectors.requires_grad_(),
                nt_type=statistic,
                nt_samples=n_samples,
                nt_samples_batch_size=min(n_samples, max(1, PASS_TOKENS // vectors.shape[1])),
                stdevs=deviation,
                abs=False,
                additional_forward_args=forward_arguments(twin, single, target),
            )
        values[row, : vectors.shape[1]] = found.detach().float().norm(dim=-1)[0]
    return LayerScores(normalise(values[:, None], batch.attention_mask))


@scoring_method("integrated_gradients", needs="gradient", reads=())
def integrated_gradients(
    model: Any,
    batch: Batch,
    *,
    n_steps: Annotated[int, AtLeast(1)] = 50,
    baseline: Baseline = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """Integrated gradients: gradients of the word embeddings, integrated along the path from a masked text to the text.

    Formula: score = (x - b) * integral over a in [0, 1] of dF(b + a (x - b)) / dx, summed over the width.
        F: the target's value, x: the word embeddings, b: those of the text with every content token replaced.
    Layer: at the input.
    Cost: n_steps forwards + backwards.
    Misleads: the baselines "mask", "pad" and "zero" give different scores. They add up to F(x) - F(b) only when n_steps
        is large enough; `completeness_gap` says how nearly.
    Reference: Sundararajan, Taly and Yan (2017), Axiomatic Attribution for Deep Networks, https://arxiv.org/abs/1703.01365
    """

    def explain(function: TargetValue, inputs: Tensor, **given: Any) -> Tensor:  # by Gauss-Legendre
        size = max(len(inputs), PASS_TOKENS // inputs.shape[1])
        return IntegratedGradients(function).attribute(inputs, n_steps=n_steps, internal_batch_size=size, **given)

    return _from_baseline(explain, model, batch, baseline, reduction, target)


def _from_baseline(
    explain: Callable[..., Tensor], model: Any, batch: Batch, baseline: Baseline, reduction: Reduction, target: Target
) -> LayerScores:
    """Scores of attributions (B, N, D) that should add up to F(x) - F(b); `explain` calls captum."""
    twin = working_copy(model)
    function, arguments = TargetValue(twin), forward_arguments(model, batch, target)
    inputs, reference = embeddings(twin, batch.input_ids), input_reference(twin, batch, baseline)
    values = explain(function, inputs, baselines=reference, additional_forward_args=arguments)
    values = values.detach() * batch.attention_mask[..., None]
    with torch.no_grad():
        expected = function(inputs, *arguments) - function(reference, *arguments)  # (B,)
    total = values.float().sum((1, 2))  # (B,)
    return with_gap(reduced(values[:, None], batch, reduction), total[:, None], expected[:, None])


@scoring_method("deeplift", needs="gradient", reads=())
def deeplift(
    model: Any,
    batch: Batch,
    *,
    baseline: Baseline = "mask",
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """DeepLIFT: differences from a masked text, passed back through the network by the rescale rule.

    Formula: score = (x - b) * multiplier, summed over the width. x: the word embeddings, b: those of the baseline;
        the multiplier of a non-linear unit is its difference in output over its difference in input.
    Layer: at the input.
    Cost: 2 forwards + backwards.
    Misleads: captum applies the rule to the activations that it knows as modules (the tanh of BERT's pooler, for one).
        Softmax, GELU and layer norm pass the plain gradient on; `completeness_gap` says what that costs.
    Reference: Shrikumar, Greenside and Kundaje (2017), Learning Important Features Through Propagating Activation
        Differences, https://arxiv.org/abs/1704.02685
    """

    def explain(function: TargetValue, inputs: Tensor, **given: Any) -> Tensor:
        with warnings.catch_warnings():  # that it sets hooks and takes them away: they are on the working copy
            warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
            return DeepLift(function).attribute(inputs.requires_grad_(), **given)

    return _from_baseline(explain, model, batch, baseline, reduction, target)


@scoring_method("gradient_shap", needs="gradient", reads="seed")
def gradient_shap(
    model: Any,
    batch: Batch,
    *,
    n_samples: Annotated[int, AtLeast(1)] = 20,
    noise: Noise = 0.1,
    reduction: Reduction = "signed",
    target: Target = "predicted",
) -> LayerScores:
    """GradientSHAP: expected gradients of the word embeddings over random baselines and random points on the way.

    Formula: score = mean over samples of (x - b) * dF(b + a (x - b)) / dx, summed over the width; a drawn evenly from
        [0, 1], b from the zero vectors and the embeddings of the masked text, and x carries Gaussian noise of
        `noise` standard deviations of the document's embeddings.
    Layer: at the input.
    Cost: n_samples forwards + backwards.
    Misleads: scores add up to F(x) - E F(b) in expectation only; `completeness_gap` says how nearly.
    Reference: Lundberg and Lee (2017), A Unified Approach to Interpreting Model Predictions,
        https://arxiv.org/abs/1705.07874
    """
    twin = working_copy(model)
    function = TargetValue(twin)
    values = torch.zeros_like(embeddings(twin, batch.input_ids))  # (B, N, D)
    expected = values.new_zeros(len(values), dtype=torch.float32)  # (B,)
    for row, single in enumerate(batch.singles()):
        with seeded(batch, row):
            arguments = forward_arguments(twin, single, target)
            inputs = embeddings(twin, single.input_ids).requires_grad_()  # (1, n, D)
            references = torch.cat([input_reference(twin, single, kind) for kind in ("zero", "mask")])
            drawn = GradientShap(function).attribute(
                inputs,
                references,
                n_samples=n_samples,
                stdevs=noise * float(inputs.detach().std()),
                additional_forward_args=arguments,
            )
            with torch.no_grad():
                pairs = tuple(argument.expand(2, *argument.shape[1:]) for argument in arguments)
                expected[row] = (function(inputs, *arguments) - function(references, *pairs).mean())[0]
        values[row, : drawn.shape[1]] = drawn[0].detach()
    total = values.float().sum((1, 2))  # (B,)
    return with_gap(reduced(values[:, None], batch, reduction), total[:, None], expected[:, None])
