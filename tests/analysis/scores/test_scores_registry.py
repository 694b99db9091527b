"""What every registered method promises, on every backbone family."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from adapler.errors import ArgumentError
from analysis.scores import Batch, get_method
from tests.analysis.scores.score_helpers import (
    LENGTHS,
    NAMES,
    batch_for,
    every_family,
    every_method,
    method_of,
    model_of,
)
from tests.conftest import LAYERS, tiny_classifier

# the few samples of these tests make LIME and KernelSHAP say that they are unstable
pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")


def test_the_methods_of_the_contract_are_registered() -> None:
    assert set(NAMES) >= set(
        "attention attention_received rollout saliency saliency_gold saliency_signed gradient_l1 gradient_l2 "
        "integrated_gradients layer_integrated_gradients deeplift gradient_shap lime kernel_shap occlusion "
        "attention_gradient globenc value_zeroing cp random".split()
    )


@every_family
@every_method
def test_shape_sum_and_padding(name: str, family: str) -> None:
    method, batch = method_of(name), batch_for(family)
    result = method(model_of(name, family), batch)
    layers = LAYERS if method.layerwise else 1
    assert result.scores.shape == (4, layers, 12) and result.scores.dtype == torch.float32
    assert not result.scores.requires_grad and torch.isfinite(result.scores).all()
    assert not result.scores[(batch.attention_mask == 0)[:, None].expand_as(result.scores)].any()
    if not result.signed:
        assert (result.scores >= 0).all()
        sums = result.scores.sum(-1)  # a layer may say nothing: then it is 0 everywhere
        torch.testing.assert_close(sums, (sums != 0).float())
        assert (sums != 0).float().mean() > 0.9
    for value in result.diagnostics.values():
        assert value.shape == (4, layers) and torch.isfinite(value).all()
    # it says something: no document's scores are all the same
    spread = result.scores.amax(-1) - result.scores.amin(-1)
    assert ((spread > 1e-4) | (result.scores == 0).all(-1)).all()


@every_family
@every_method
def test_scores_do_not_depend_on_batch_padding_or_order(name: str, family: str) -> None:
    method, model = method_of(name), model_of(name, family)
    together = method(model, batch_for(family)).scores
    order = [2, 0, 3, 1]
    turned = method(model, batch_for(family, order)).scores
    for place, row in enumerate(order):
        torch.testing.assert_close(turned[place], together[row], atol=1e-5, rtol=1e-5)
    for row, n in enumerate(LENGTHS):
        alone = method(model, batch_for(family, [row])).scores
        torch.testing.assert_close(alone[0], together[row, :, :n], atol=1e-5, rtol=1e-5)


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


def unusual(model: Any) -> Any:
    """Training mode with one module in evaluation, a frozen weight, a weight with a gradient."""
    model.train()
    next(module for module in model.modules() if isinstance(module, torch.nn.Dropout)).eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    return model


@every_family
@every_method
def test_the_model_is_left_as_found(name: str, family: str) -> None:
    model = unusual(model_of(name, family))
    before = state_of(model)
    method_of(name)(model, batch_for(family))
    for one, other in zip(before, state_of(model), strict=True):
        assert same(one, other)


@every_family
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("random", "position")])
def test_the_model_is_left_as_found_after_an_error(name: str, family: str) -> None:
    """The last of the method's own calls of the head fails: by then it has set up all that it sets up."""
    model = unusual(model_of(name, family))
    head = (model.backbone if hasattr(model, "backbone") else model).classifier
    calls: list[int] = []
    fatal: list[int] = []

    def fail(module: Any, inputs: Any, output: Any) -> None:
        calls.append(1)
        if fatal and len(calls) == fatal[0]:
            raise RuntimeError("the head failed")

    head.register_forward_hook(fail)
    method_of(name)(model, batch_for(family))
    fatal.append(len(calls))
    calls.clear()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="the head failed"):
        method_of(name)(model, batch_for(family))
    for one, other in zip(before, state_of(model), strict=True):
        assert same(one, other)


@every_method
def test_a_frozen_model_under_no_grad(name: str) -> None:
    model, batch = model_of(name, "bert"), batch_for("bert")
    expected = method_of(name)(model, batch).scores
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(method_of(name)(model, batch_for("bert")).scores, expected)


@pytest.mark.parametrize(
    "name", ["random", "gradient_shap", "lime", "kernel_shap", "shapley_sampling", "smoothgrad", "vargrad"]
)
def test_draws_follow_the_seed(name: str) -> None:
    model, method = tiny_classifier(), method_of(name)
    first = method(model, batch_for("bert", seed=1)).scores
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(first, method(model, batch_for("bert", seed=1)).scores)
    assert not torch.allclose(first, method(model, batch_for("bert", seed=2)).scores)


@pytest.mark.parametrize("name", ["lime", "kernel_shap", "occlusion"])
def test_only_content_tokens_are_taken_out(name: str) -> None:
    batch = batch_for("bert")
    result = method_of(name)(tiny_classifier(), batch)
    assert batch.special is not None
    assert not result.scores[:, 0][batch.special].any()
    assert (result.scores[:, 0][batch.attention_mask.bool() & ~batch.special] != 0).all()


def test_a_document_without_content_scores_nothing() -> None:
    batch = Batch(
        ("empty",), torch.tensor([[5, 6]]), torch.ones(1, 2).long(), special=torch.ones(1, 2).bool(), mask_token_id=4
    )
    for name in ("lime", "kernel_shap", "occlusion"):
        assert not method_of(name)(tiny_classifier(), batch).scores.any()


def test_int8_layers_have_no_gradient() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that the function will move to another package
        model = torch.ao.quantization.quantize_dynamic(tiny_classifier(), {torch.nn.Linear}, dtype=torch.qint8)
    batch, message = batch_for("bert"), "needs gradients, and none goes through the model's int8 layer bert.encoder"
    for name in ("saliency", "decompx", "integrated_gradients", "attention_gradient"):
        with pytest.raises(ArgumentError, match=f"^method '{name}': {message}"):
            get_method(name)(model, batch)
    for name in ("globenc", "alti"):  # int8 layers have no weight to read, but what they compute
        exact = get_method(name)(tiny_classifier(), batch).scores
        torch.testing.assert_close(get_method(name)(model, batch).scores, exact, atol=0.1, rtol=0.1)
