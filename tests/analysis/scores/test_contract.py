"""The promises of every registered method, on every backbone family."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from analysis.scores import SCOPES, LayerScores, get_method
from analysis.scores.base import SECTIONS
from tests.analysis.scores.score_helpers import LENGTHS, NAMES, batch_for, every_family, method_of, model_of
from tests.conftest import LAYERS, tiny_classifier

# the few samples of these tests make LIME and KernelSHAP say that they are unstable
pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")
every_method = pytest.mark.parametrize("name", NAMES)
shared_batch, shared_model = cache(batch_for), cache(model_of)  # methods share the passes of one batch


def scores_of(name: str, family: str) -> LayerScores:
    return method_of(name)(shared_model(name, family), shared_batch(family))


@every_family
@every_method
def test_scores_are_of_the_text_alone(name: str, family: str) -> None:
    """Shape, sums, padding; neither the batch, nor its order, nor padding changes a score."""
    method, batch, result = method_of(name), shared_batch(family), scores_of(name, family)
    layers = LAYERS if method.layerwise else 1
    assert result.scores.shape == (4, layers, 12) and result.scores.dtype == torch.float32
    assert not result.scores.requires_grad and torch.isfinite(result.scores).all()
    assert not result.scores[(batch.attention_mask == 0)[:, None].expand_as(result.scores)].any()
    if not result.signed:
        sums = result.scores.sum(-1)  # a layer may say nothing: then it is 0 everywhere
        torch.testing.assert_close(sums, (sums != 0).float())
        assert (result.scores >= 0).all() and (sums != 0).float().mean() > 0.9
    for value in result.diagnostics.values():
        assert value.shape == (4, layers) and torch.isfinite(value).all()
    spread = result.scores.amax(-1) - result.scores.amin(-1)
    assert ((spread > 1e-4) | (result.scores == 0).all(-1)).all()
    few = [3, 1]  # in another order, and padded to another length
    turned = method(shared_model(name, family), batch_for(family, few)).scores
    for place, row in enumerate(few):
        n = LENGTHS[row]
        torch.testing.assert_close(turned[place, :, :n], result.scores[row, :, :n], atol=1e-5, rtol=1e-5)


def state_of(model: Any) -> list[Any]:
    modules = list(model.modules())
    return [
        [module.training for module in modules],
        [parameter.requires_grad for parameter in model.parameters()],
        [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()],
        [parameter.detach().clone() for parameter in model.parameters()],
        [module.config._attn_implementation for module in modules if hasattr(module, "config")],
        [
            {name: list(value) for name, value in vars(module).items() if name.endswith("hooks") and value is not None}
            for module in modules
        ],
        [sorted(vars(module)) for module in modules],
        torch.get_rng_state(),
        np.random.get_state()[1].tolist(),
        torch.is_grad_enabled(),
    ]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@every_method
def test_the_model_is_left_as_found(name: str, family: str) -> None:
    """After scores, and after an error in the last of the method's own calls of the head."""
    model = model_of(name, family)
    model.train()  # with one module in evaluation, a frozen weight, a weight with a gradient
    next(module for module in model.modules() if isinstance(module, torch.nn.Dropout)).eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    calls: list[int] = []
    fatal: list[int] = []

    def fail(module: Any, inputs: Any, output: Any) -> None:
        calls.append(1)
        if fatal and len(calls) == fatal[0]:
            raise RuntimeError("the head failed")

    (model.backbone if hasattr(model, "backbone") else model).classifier.register_forward_hook(fail)
    before = state_of(model)
    method_of(name)(model, batch_for(family))
    if calls:
        fatal.append(len(calls))
        calls.clear()
        with pytest.raises(RuntimeError, match="the head failed"):
            method_of(name)(model, batch_for(family))
    for one, other in zip(before, state_of(model), strict=True):
        assert same(one, other)


@every_method
def test_a_frozen_model_in_another_precision_and_in_training_mode(name: str) -> None:
    model = model_of(name, "bert").double().requires_grad_(False).train()
    with torch.no_grad():
        found = method_of(name)(model, batch_for("bert")).scores
    expected = scores_of(name, "bert").scores
    if name not in ("smoothgrad", "vargrad", "gradient_shap"):  # they draw noise in the precision of the weights
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["rollout", "globenc", "value_zeroing", "attention_received"])
def test_sums_after_the_pass_are_in_float32(name: str) -> None:
    """Under autocast to bfloat16 no two scores become equal, as they would in bfloat16 sums."""
    expected = scores_of(name, "bert").scores
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = method_of(name)(tiny_classifier(), batch_for("bert")).scores
    for row, n in enumerate(LENGTHS):
        for layer in range(LAYERS):
            scores = low[row, layer, :n].tolist()
            assert len(set(scores)) == n
            assert n < 9 or spearmanr(scores, expected[row, layer, :n]).statistic > 0.8


@pytest.mark.parametrize(
    "name", ["random", "gradient_shap", "lime", "kernel_shap", "shapley_sampling", "smoothgrad", "vargrad"]
)
def test_draws_follow_the_seed_of_the_batch(name: str) -> None:
    model, method = tiny_classifier(), method_of(name)
    first = method(model, batch_for("bert", seed=1)).scores
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(first, method(model, batch_for("bert", seed=1)).scores)
    assert not torch.allclose(first, method(model, batch_for("bert", seed=2)).scores)


@every_method
def test_the_docstring_is_the_page(name: str) -> None:
    method = get_method(name)
    description = method.description
    assert list(description) == ["Summary", *SECTIONS] and all(description.values())
    assert "\n" not in description["Summary"] and method.scope in SCOPES and len(method.title) < 40
    assert method.title != name and method.cost and len(method.cost) < 50
    assert method.paper == "none" or re.match(r"https://\S+$", method.paper)


def test_titles_of_published_tables() -> None:
    titles = {"cp": "AdapLeR CP", "attention": "[CLS] attention", "saliency_gold": "Saliency (gold)", "lime": "LIME"}
    assert {name: get_method(name).title for name in titles} == titles
    assert get_method("saliency").cost == "1 forward + backward" and get_method("random").cost == "none"


def test_int8_layers_have_no_weight_to_read_but_an_output() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that the function will move to another package
        model = torch.ao.quantization.quantize_dynamic(tiny_classifier(), {torch.nn.Linear}, dtype=torch.qint8)
    for name in ("globenc", "alti"):
        found = method_of(name)(model, batch_for("bert")).scores
        torch.testing.assert_close(found, scores_of(name, "bert").scores, atol=0.1, rtol=0.1)
