"""Attention x gradient, GlobEnc and value zeroing against their equations written out the slow way."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    ConvBertConfig,
    ConvBertForSequenceClassification,
    MobileBertConfig,
    MobileBertForSequenceClassification,
    NystromformerConfig,
    NystromformerForSequenceClassification,
    YosoConfig,
    YosoForSequenceClassification,
)

from adapler.backbones.families import layers_of
from adapler.errors import ArgumentError
from analysis.scores import get_method
from tests.analysis.scores.score_helpers import LENGTHS, Bag, batch_for, every_family
from tests.analysis.scores.test_scores import eager_heads
from tests.conftest import CLASSIFIERS, LAYERS, VOCABULARY, WIDTH, tiny_classifier


@every_family
def test_attention_gradient_equals_explicit_products(family: str) -> None:
    model, batch = tiny_classifier(family), batch_for(family)
    result = get_method("attention_gradient")(model, batch).scores
    for row, n in enumerate(LENGTHS):
        ids = batch.input_ids[row : row + 1, :n]
        twin = tiny_classifier(family)
        twin.set_attn_implementation("eager")
        output = twin(input_ids=ids, output_attentions=True)
        gradients = torch.autograd.grad(output.logits.max(), output.attentions)
        steps = [
            torch.eye(n) + (g * a).clamp_min(0).mean(1)[0] for g, a in zip(gradients, output.attentions, strict=True)
        ]
        for layer in range(LAYERS):
            product = torch.eye(n)
            for step in steps[layer:]:
                product = step @ product
            relevance = (product - torch.eye(n))[0].detach()
            torch.testing.assert_close(result[row, layer, :n], relevance / relevance.sum(), atol=1e-5, rtol=1e-4)


def parts_of(model: Any, layer: int) -> tuple[Any, Any, Any, Any]:
    """value, output projection and both norms of a layer."""
    block = layers_of(model)[layer]
    if hasattr(block, "sa_layer_norm"):
        return block.attention.v_lin, block.attention.out_lin, block.sa_layer_norm, block.output_layer_norm
    if hasattr(block, "attn"):
        return block.attn.Wqkv, block.attn.Wo, block.attn_norm, block.mlp_norm
    if hasattr(block.attention, "attn"):
        return block.attention.attn.v, block.attention.attn.o, block.attention.LayerNorm, block.output.LayerNorm
    return (
        block.attention.self.value,
        block.attention.output.dense,
        block.attention.output.LayerNorm,
        block.output.LayerNorm,
    )


@pytest.mark.parametrize("family", sorted(set(CLASSIFIERS) - {"modernbert"}))
def test_globenc_equals_the_decomposition_written_out(family: str) -> None:
    """Every N x N x D vector is formed, with the norms' own divisors, which the method does without."""
    model, batch = tiny_classifier(family, seed=3), batch_for(family)
    torch.manual_seed(5)
    for layer in range(LAYERS):  # norms of weight 1 would hide a wrong order
        for norm in parts_of(model, layer)[2:]:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    result = get_method("globenc")(model, batch).scores
    with torch.no_grad():
        states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states
    heads = eager_heads(model, batch)
    for row, n in enumerate(LENGTHS):
        product = torch.eye(n)
        for layer in range(LAYERS):
            value, output, norm_1, norm_2 = parts_of(model, layer)
            x, alpha = states[layer][row, :n], heads[layer][row, :, :n, :n]
            n_heads, size = alpha.shape[0], x.shape[-1] // alpha.shape[0]
            with torch.no_grad():
                f = [
                    value(x)[:, h * size : (h + 1) * size] @ output.weight[:, h * size : (h + 1) * size].T
                    for h in range(n_heads)
                ]  # H times (n, D)
                z = sum(alpha[h][:, :, None] * f[h][None] for h in range(n_heads)) + torch.eye(n)[..., None] * x
                whole_1 = z.sum(1) + output.bias  # (n, D), what norm_1 sees
                deviation_1 = (whole_1.var(-1, correction=0) + norm_1.eps).sqrt()[:, None, None]
                z = norm_1.weight * (z - z.mean(-1, keepdim=True)) / deviation_1
                # any divisor will do for the second: rows are normalised
                z = norm_2.weight * (z - z.mean(-1, keepdim=True))
                step = z.norm(dim=-1)
                step = step / step.sum(-1, keepdim=True)
            product = step @ product
            torch.testing.assert_close(result[row, layer, :n], product[0], atol=1e-5, rtol=1e-3)


@every_family
def test_value_zeroing_equals_one_run_a_token(family: str) -> None:
    model, batch = tiny_classifier(family), batch_for(family)
    result = get_method("value_zeroing")(model, batch).scores
    for row, layer in itertools.product((0, 1), range(LAYERS)):
        n = LENGTHS[row]
        ids = batch.input_ids[row : row + 1, :n]

        def output(zeroed: int | None, ids: Tensor = ids, layer: int = layer) -> Tensor:
            def zero(module: Any, inputs: Any, values: Tensor) -> Tensor:
                changed = values.clone()
                if zeroed is not None:
                    changed[:, zeroed, -WIDTH:] = 0  # ModernBERT's query, key and value are one projection
                return changed

            handle = parts_of(model, layer)[0].register_forward_hook(zero)
            found: list[Tensor] = []  # the layer's own output: ModernBERT's last hidden state has one more norm
            taken = layers_of(model)[layer].register_forward_hook(lambda _, inputs, output: found.append(output))
            with torch.no_grad():
                model(input_ids=ids)
            handle.remove()
            taken.remove()
            state = found[0][0] if isinstance(found[0], tuple) else found[0]
            return state[0, 0].double()  # type: ignore[no-any-return]

        plain = output(None)
        distances = torch.stack(
            [1 - torch.cosine_similarity(plain, output(token), dim=0) for token in range(n)]
        ).float()
        torch.testing.assert_close(result[row, layer, :n], distances / distances.sum(), atol=1e-4, rtol=1e-3)


def test_methods_that_take_layers_apart_refuse_other_layouts() -> None:
    for name in ("globenc", "value_zeroing"):
        with pytest.raises(ArgumentError, match="layers of Bag are not laid out as in BERT, DistilBERT, MPNet or Mod"):
            get_method(name)(Bag(), batch_for("bert"))


@pytest.mark.parametrize("name", ["globenc", "alti", "value_zeroing"])
def test_layers_with_bert_s_names_and_other_parts_are_refused(name: str) -> None:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    narrow = MobileBertConfig(**sizes, intermediate_size=24, embedding_size=16, true_hidden_size=8)
    mixed = ConvBertConfig(**sizes, intermediate_size=24, embedding_size=16)
    for model in (MobileBertForSequenceClassification(narrow), ConvBertForSequenceClassification(mixed)):
        with pytest.raises(ArgumentError, match=f"layers of {type(model).__name__} are not laid out as in BERT"):
            get_method(name)(model.eval(), batch_for("bert"))


@pytest.mark.parametrize("name", ["globenc", "alti", "value_zeroing"])
def test_layers_that_do_not_mix_by_the_weights_they_return_are_refused(name: str) -> None:
    """Nystromformer's attention is a softmax of all pairs with as many landmarks as tokens, and a convolution."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = NystromformerConfig(**sizes, intermediate_size=24, num_landmarks=12, segment_means_seq_len=12)
    torch.manual_seed(0)
    model = NystromformerForSequenceClassification(config).eval()
    with pytest.raises(ArgumentError, match="layer 0 of Nystromformer.* does not mix its values by the attention wei"):
        get_method(name)(model, batch_for("bert"))
    for layer in model.nystromformer.encoder.layer:
        nn.init.zeros_(layer.attention.self.conv.weight)
    assert get_method(name)(model, batch_for("bert")).scores.shape == (len(LENGTHS), 2, max(LENGTHS))


@pytest.mark.parametrize("name", ["attention", "attention_gradient", "value_zeroing"])
def test_attention_weights_that_are_states_are_refused(name: str) -> None:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": max(LENGTHS), "num_hidden_layers": 2, "num_attention_heads": 2}
    model = YosoForSequenceClassification(YosoConfig(**sizes, intermediate_size=24, max_position_embeddings=64)).eval()
    with pytest.raises(ArgumentError, match=r"YosoFor.* returned attention weights of shape \(4, 12, 12\), must be"):
        get_method(name)(model, batch_for("bert"))


@pytest.mark.parametrize("name", ["globenc", "alti"])
def test_norms_before_the_blocks_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"layers of 'modernbert' have their norms before the blocks; {name} is"):
        get_method(name)(tiny_classifier("modernbert"), batch_for("modernbert"))


class Adapted(nn.Module):
    """A dense layer with an adapter that is not merged, as peft makes one: `weight` is the dense layer's own."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, WIDTH, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, states: Tensor) -> Tensor:
        result: Tensor = self.base(states) + self.up(self.down(states))
        return result


@pytest.mark.parametrize("name", ["globenc", "alti", "value_zeroing"])
def test_an_adapter_counts_as_it_does_when_it_is_merged(name: str) -> None:
    adapted, merged, batch = tiny_classifier("bert"), tiny_classifier("bert"), batch_for("bert")
    torch.manual_seed(1)
    for layer, other in zip(layers_of(adapted), layers_of(merged), strict=True):
        layer.attention.output.dense = made = Adapted(layer.attention.output.dense)
        with torch.no_grad():
            other.attention.output.dense.weight += made.up.weight @ made.down.weight
    plain = get_method(name)(tiny_classifier("bert"), batch).scores
    expected, found = (get_method(name)(model, batch).scores for model in (merged, adapted))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (plain - expected).abs().max() > 0.01
