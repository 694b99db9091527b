"""A model for inference in bfloat16: what is in which format, what it shares, and how near its results are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from adapler.backbones.attention import Segments
from adapler.backbones.families import first_position, view
from adapler.errors import ArgumentError
from adapler.inference import evaluating
from tests.adapler.backbones.test_backbones import FAMILIES
from tests.conftest import random_batch, tiny_adapler


def batch_for(family: str) -> dict[str, torch.Tensor]:
    return random_batch([9, 4, 12, 1], pad=1 if family == "roberta" else 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_layers_are_in_bfloat16_and_nothing_else(family: str) -> None:
    model = tiny_adapler(family).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = model.for_inference(dtype="bfloat16")
    for name, parameter in fast.named_parameters():
        product = isinstance(fast.get_submodule(name.rpartition(".")[0]), nn.Linear)
        inside = product and (".layer." in name or ".layers." in name)
        assert parameter.dtype == (torch.bfloat16 if inside else torch.float32), name
        assert not parameter.requires_grad
        if not inside:
            assert parameter.data_ptr() == model.get_parameter(name).data_ptr()
    assert model.training and not fast.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) and value.dtype == before[name].dtype
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("removal", ["none", "hard"])
def test_results_are_close(family: str, removal: Any) -> None:
    model, batch = tiny_adapler(family), batch_for(family)
    fast = model.for_inference(dtype="bfloat16")
    with torch.no_grad():
        expected, out = model(**batch, removal=removal), fast(**batch, removal=removal)
    assert out.logits.dtype == torch.float32
    assert_close(out.logits, expected.logits, atol=0.1, rtol=0.05)
    assert float((out.retention_mask != expected.retention_mask).float().mean()) <= 0.05
    if removal == "hard":
        assert out.contribution_scores.dtype == torch.float32
        # layer 0 reads the embeddings, which are in float32
        assert_close(out.contribution_scores[:, 0], expected.contribution_scores[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("removal", ["none", "hard", "soft"])
def test_transformers_own_layers_run_a_copy_too(family: str, removal: Any) -> None:
    """As they do where something is hooked into a layer, and in soft removal."""
    model, batch = tiny_adapler(family), batch_for(family)
    fast = model.for_inference(dtype="bfloat16")
    with torch.no_grad():
        expected = fast(**batch, removal=removal)
        for layer in view(fast.backbone).layers:
            layer.register_forward_hook(lambda *_: None)
        out, exact = fast(**batch, removal=removal), model(**batch, removal=removal)
    assert_close(out.logits, expected.logits, atol=0.05, rtol=0.02)
    assert_close(out.logits, exact.logits, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_between_layers_keep_their_digits(family: str) -> None:
    """Half the error of bfloat16 would be in them: each layer would round them anew."""
    model, batch = tiny_adapler(family), batch_for(family)
    fast = model.for_inference(dtype="bfloat16")
    ids = batch["input_ids"][:1]
    positions = torch.arange(ids.shape[1])[None] + first_position(model.backbone.config)
    segments = Segments(torch.tensor([ids.shape[1]]))
    with torch.no_grad():
        hidden = view(fast.backbone).embed(ids, positions=positions, token_type_ids=None)
        states = view(fast.backbone).layer(0, hidden, positions=positions, segments=segments)
        expected = view(model.backbone).layer(0, hidden, positions=positions, segments=segments)
    assert hidden.dtype == states.dtype == torch.float32
    assert_close(states, expected, atol=0.04, rtol=0.02)  # .034 at most over twenty draws of weights
    assert not torch.equal(states, states.bfloat16().float())


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_gives_the_same_results(family: str) -> None:
    model, batch = tiny_adapler(family), batch_for(family)
    with torch.no_grad():
        expected, out = model(**batch), model.for_inference(dtype="float32")(**batch)
    assert_close(out.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(out.retention_mask, expected.retention_mask)


def test_a_copy_in_bfloat16_goes_back_to_float32() -> None:
    again = tiny_adapler().for_inference(dtype="bfloat16").for_inference(dtype="float32")
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())


def test_predict_computes_in_the_dtype_that_it_is_given(tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    texts = ["the film was great", "dull and boring"]
    plain = model.predict(texts, tokenizer=tiny_tokenizer)
    assert model.predict(texts, tokenizer=tiny_tokenizer, dtype="float32") == plain
    rough = model.predict(texts, tokenizer=tiny_tokenizer, dtype="bfloat16")
    assert [one.score for one in rough] != [one.score for one in plain]
    assert [one.score for one in rough] == pytest.approx([one.score for one in plain], abs=0.05)
    with pytest.raises(ArgumentError, match="^dtype: 'half' is not one of auto, float32, bfloat16$"):
        model.predict(texts, tokenizer=tiny_tokenizer, dtype="half")


def test_each_part_is_in_its_own_mode_afterwards() -> None:
    model = tiny_adapler().train()
    model.backbone.classifier.eval()
    before = [part.training for part in model.modules()]
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == before and sum(before) > 1
