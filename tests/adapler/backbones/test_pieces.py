"""On a CPU without gradients a layer, and the embeddings, run in pieces of a few tokens: nothing may change by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapler.backbones import attention
from adapler.backbones.attention import Segments
from adapler.backbones.families import first_position, view
from tests.adapler.backbones.test_backbones import FAMILIES
from tests.conftest import WIDTH, tiny_adapler

SIZES = [5, 3, 3, 1]


def run(classifier: Any, hidden: Tensor) -> Tensor:
    positions = torch.cat([torch.arange(size) for size in SIZES])[None] + first_position(classifier.config)
    return view(classifier).layer(0, hidden, positions=positions, segments=Segments(torch.tensor(SIZES)))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_a_layer_equals_transformers_own(name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = tiny_adapler(name).backbone
    torch.manual_seed(0)
    hidden = torch.randn(1, sum(SIZES), WIDTH)
    whole = run(classifier, hidden)  # with gradients: transformers' own code, in one piece
    monkeypatch.setattr(attention, "ROWS", rows)
    with torch.no_grad():
        assert_close(run(classifier, hidden), whole.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_embeddings_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = tiny_adapler(name).backbone
    ids = torch.arange(5, 16)[None]  # (1, T)
    positions = torch.arange(11)[None] + first_position(classifier.config)
    types = torch.tensor([[0] * 6 + [1] * 5])
    types = types if getattr(classifier.config, "type_vocab_size", 0) > 1 else torch.zeros_like(types)
    whole = view(classifier).embed(ids, positions=positions, token_type_ids=types)
    monkeypatch.setattr(attention, "ROWS", 4)
    with torch.no_grad():
        found = view(classifier).embed(ids, positions=positions, token_type_ids=types)
    assert_close(found, whole, atol=1e-6, rtol=1e-5)  # a product of fewer rows may be another kernel's


def test_only_a_layer_of_two_formats_runs_under_autocast() -> None:
    """Autocast to float32 is none: entering it would end the one that a training is in."""
    states, layer = torch.randn(1, 3, WIDTH), torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH))
    with torch.autocast("cpu", torch.bfloat16), attention.own_formats(layer, states.bfloat16()):
        assert layer(states).dtype == torch.bfloat16
    with attention.own_formats(layer, states):
        assert layer(states).dtype == torch.float32
    with attention.own_formats(layer.bfloat16(), states):
        assert layer(states).dtype == torch.bfloat16
    with attention.own_formats(layer, states.bfloat16()):
        assert not torch.is_autocast_enabled("cpu")


def test_a_hook_in_a_layer_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "ROWS", 2)
    classifier = tiny_adapler("bert").backbone
    seen = []
    layer = view(classifier).layers[0]
    handle = layer.register_forward_hook(lambda module, arguments, output: seen.append(output.shape))
    with torch.no_grad():
        run(classifier, torch.randn(1, sum(SIZES), WIDTH))
    handle.remove()
    assert seen == [(1, sum(SIZES), WIDTH)]


def test_a_hook_in_a_part_of_a_layer_is_called_too() -> None:
    """Projections that are called one by one would miss a hook of the module around them."""
    classifier = tiny_adapler("bert").backbone
    seen = []
    attention = view(classifier).layers[0].attention.self
    handle = attention.register_forward_hook(lambda module, arguments, output: seen.append(output[0].shape))
    with torch.no_grad():
        run(classifier, torch.randn(1, sum(SIZES), WIDTH))
    handle.remove()
    assert seen == [(1, sum(SIZES), WIDTH)]


@pytest.mark.parametrize("short", [0, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_short_sequences_that_learn_are_attended_to_in_float32(
    short: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast too, which would take SDPA back to bfloat16; without a gradient it stays in bfloat16."""
    monkeypatch.setattr(attention, "SHORT", short)
    seen, plain = [], attention.scaled_dot_product_attention

    def noted(query: Tensor, *args: Any, **options: Any) -> Tensor:
        found: Tensor = plain(query, *args, **options)
        seen.append(found.dtype)
        return found

    monkeypatch.setattr(attention, "scaled_dot_product_attention", noted)
    torch.manual_seed(0)
    given = [torch.randn(2, 3, 6, 4, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    mask = torch.randn(2, 1, 6, 6, dtype=torch.bfloat16) if masked else None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention.sdpa(*given, mask=mask, scale=0.5)
        with torch.no_grad():
            attention.sdpa(*(one.detach() for one in given), mask=mask, scale=0.5)
    assert seen == [torch.float32 if short else torch.bfloat16, torch.bfloat16]
    assert out.dtype == torch.bfloat16
    exact = [one.detach().float().requires_grad_() for one in given]
    expected = plain(*exact, attn_mask=None if mask is None else mask.float(), scale=0.5)
    assert_close(out.float(), expected, atol=0.02, rtol=0.02)
    weights = torch.randn(out.shape)
    (out.float() * weights).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(given, exact, strict=True):
        assert one.grad is not None and other.grad is not None
        assert_close(one.grad.float(), other.grad, atol=0.05, rtol=0.05)


def test_a_training_step_attends_to_short_texts_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's own forward pass under autocast: with a gradient in float32, without one in bfloat16."""
    seen, plain = [], torch.nn.functional.scaled_dot_product_attention

    def noted(query: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append(query.dtype)
        return plain(query, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    model = tiny_adapler("bert").backbone.eval()
    ids = torch.randint(5, 20, (2, 6))  # (B, N)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=ids).logits.float().sum().backward()
        with torch.no_grad():
            model(input_ids=ids)
    layers = model.config.num_hidden_layers
    assert seen == [torch.float32] * layers + [torch.bfloat16] * layers
