"""What training targets are made of: against the sums that define them, and by kind."""

from __future__ import annotations

import gc
import re
from typing import Any, get_args

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from adapler.backbones.decomposition import Kind, _Rules, decompose, token_relevance
from adapler.backbones.families import target_weights
from adapler.errors import ArgumentError
from tests.adapler.backbones.test_backbones import FAMILIES, batch_for
from tests.conftest import LAYERS, random_batch, tiny_classifier

KINDS = get_args(Kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decomposition_adds_up_to_the_value_in_every_layer(family: str) -> None:
    """Tokens and biases together, for a contrast, in a batch with padding; the model is left as found."""
    model, batch = tiny_classifier(family), batch_for(family, [9, 5])
    labels = torch.tensor([2, 0])
    with torch.no_grad():
        logits = model(**batch).logits
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    value = logits[[0, 1], labels] - others
    found = decompose(model, batch, weigh=lambda x: target_weights("contrast:gold", x, labels=labels))
    assert_close(found.value, value, atol=1e-5, rtol=1e-5)
    total = found.relevance.sum(-1) + found.bias  # (B, L)
    assert_close(total, value[:, None].expand(-1, LAYERS), atol=1e-4, rtol=1e-4)
    assert (found.relevance[1, :, 5:] == 0).all()
    assert_close(model(**batch).logits, logits)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_shares_of_a_batch_are_those_of_its_rows(family: str, kind: Any) -> None:
    model, batch = tiny_classifier(family), batch_for(family, [9, 5])
    batch["labels"] = torch.tensor([2, 0])
    asked: dict[str, Any] = {"kind": kind, "target": "contrast:gold"}
    shares = token_relevance(model, batch, **asked)
    assert shares.shape == (2, LAYERS, 9) and (shares >= 0).all() and (shares[1, :, 5:] == 0).all()
    sums = shares.sum(-1)  # (B, L); 0 where no token speaks for the value
    assert_close(sums[sums > 0], torch.ones_like(sums[sums > 0]))
    assert (sums > 0).any() and ((sums > 0).all() or kind != "saliency")
    for row, n in enumerate([9, 5]):
        single = {name: value[row : row + 1, :n] if value.dim() == 2 else value[row : row + 1]
                  for name, value in batch.items()}  # fmt: skip
        assert_close(token_relevance(model, single, **asked)[0], shares[row, :, :n], atol=1e-5, rtol=1e-4)
    assert torch.equal(token_relevance(model, batch, **asked, layers=[1])[:, 0], shares[:, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [[LAYERS], [-1], [], [1, 1]])
def test_layers_that_a_model_does_not_have(kind: Any, layers: list[int]) -> None:
    message = rf"^layers: {re.escape(str(layers))} are not distinct layers from 0 to {LAYERS - 1}$"
    with pytest.raises(ArgumentError, match=message):
        token_relevance(tiny_classifier(), batch_for("bert", [9]), kind=kind, target="predicted", layers=layers)


def test_kinds_differ() -> None:
    model, batch = tiny_classifier(), batch_for("bert", [9])
    found = [token_relevance(model, batch, kind=kind, target="predicted") for kind in KINDS]
    assert (found[0] - found[1]).abs().max() > 0.01 < (found[1] - found[2]).abs().max()
    part = decompose(model, batch, weigh=lambda x: target_weights("predicted", x)).relevance.clamp_min(0)
    assert_close(found[2], part / part.sum(-1, keepdim=True))


def test_a_layer_norm_under_autocast_computes_in_float32() -> None:
    """bfloat16 has three digits: of states around 100 a deviation of .3 in it would be nothing but rounding."""
    torch.manual_seed(0)
    states = (100 + torch.randn(2, 5, 16)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _Rules(softmax=False, n_batch=2)._layer_norm(states, (16,))
    assert found.dtype == torch.float32
    assert_close(found, functional.layer_norm(states.float(), (16,)), atol=1e-5, rtol=1e-5)
    model, batch = tiny_classifier(), batch_for("bert", [9])
    exact = token_relevance(model, batch, kind="decomposition", target="predicted")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = token_relevance(model, batch, kind="decomposition", target="predicted")
    assert (rounded - exact).abs().max() < 0.05


@pytest.mark.parametrize("softmax", [False, True])
def test_a_pass_leaves_no_states_behind(softmax: bool) -> None:
    """Python collects garbage seldom, and the states of thousands of texts do not fit the memory until then."""
    model, batch = tiny_classifier(), random_batch([9, 5])

    def alive() -> int:
        return sum(1 for one in gc.get_objects() if type(one) is torch.Tensor and one.shape[:2] == (2, 9))

    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(3):
            decompose(model, batch, weigh=lambda x: target_weights("predicted", x), softmax=softmax)
        assert alive() == before
    finally:
        gc.enable()


def test_what_a_bias_adds_lies_where_its_layer_does() -> None:
    """A bias without a gradient keeps its zeros: on the CPU they could not be added to a GPU's."""
    rules = _Rules(softmax=False, n_batch=2)
    states = torch.zeros(2, 3, 4, device="meta", requires_grad=True)
    rules._watched(states * 1, torch.zeros(4, device="meta"))
    assert [bias.device.type for bias in rules.bias] == ["meta"]
