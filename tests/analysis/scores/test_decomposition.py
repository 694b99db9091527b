"""DecompX, AttnLRP, ALTI, GlobEnc and value zeroing against the same equations written out token by token."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import (
    ConvBertConfig,
    ConvBertForSequenceClassification,
    NystromformerConfig,
    NystromformerForSequenceClassification,
)

from adapler.backbones.families import view
from adapler.errors import ArgumentError
from analysis.scores import Batch, decomposition, get_method
from analysis.scores.base import detached_pass
from tests.analysis.scores.score_helpers import LENGTHS, batch_for, eager_heads, every_family, logits_of
from tests.conftest import CLASSIFIERS, HEADS, LAYERS, VOCABULARY, WIDTH, tiny_classifier


def with_biases(family: str = "bert") -> Any:
    """A tiny classifier in which every bias and norm weight is something else than 0 and 1."""
    model = tiny_classifier(family)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.3)
            elif weight.dim() == 1:
                weight.uniform_(0.5, 1.5)
    return model


def attentions_of(model: Any, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """States (n, D) and weights (H, n, n) of one document, from transformers."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**batch.model_inputs(), output_hidden_states=True, output_attentions=True)
    return [state[0] for state in output.hidden_states], [weights[0] for weights in output.attentions]


class Parts:
    """A state written as a sum: parts (n, K, D), part k of position i; the last of the K is that of the biases."""

    def __init__(self, parts: Tensor) -> None:
        self.parts = parts

    def linear(self, layer: nn.Linear) -> Parts:
        parts = self.parts @ layer.weight.T
        parts[:, -1] += layer.bias
        return Parts(parts)

    def norm(self, layer: nn.LayerNorm) -> Parts:
        deviation = (self.parts.sum(1).var(-1, unbiased=False) + layer.eps).sqrt()  # (n,) of the whole state
        centred = self.parts - self.parts.mean(-1, keepdim=True)
        parts = centred / deviation[:, None, None] * layer.weight
        parts[:, -1] += layer.bias
        return Parts(parts)

    def activation(self, function: Any) -> Parts:
        whole = self.parts.sum(1)
        return Parts(self.parts * (function(whole) / whole)[:, None])

    def attention(self, weights: Tensor, layer: Any) -> Parts:
        values = self.linear(layer.attention.self.value).parts.unflatten(-1, (HEADS, -1))  # (n, K, H, d)
        n = len(values)
        mixed = [sum(weights[None, :, i, j, None] * values[j] for j in range(n)) for i in range(n)]  # n times (K, H, d)
        return Parts(torch.stack(mixed).flatten(2)).linear(layer.attention.output.dense)

    def __add__(self, other: Parts) -> Parts:
        return Parts(self.parts + other.parts)


def explicit(model: Any, batch: Batch, start: int) -> Tensor:
    """(K, C) the logits of one document, token by token and the biases last, from the states that enter a layer."""
    states, attentions = attentions_of(model, batch)
    n = len(states[start])
    begin = torch.zeros(n, n + 1, WIDTH)
    begin[torch.arange(n), torch.arange(n)] = states[start]
    state = Parts(begin)
    with torch.no_grad():
        for layer, weights in list(zip(model.bert.encoder.layer, attentions, strict=True))[start:]:
            state = (state.attention(weights, layer) + state).norm(layer.attention.output.LayerNorm)
            inner = state.linear(layer.intermediate.dense).activation(gelu)
            state = (inner.linear(layer.output.dense) + state).norm(layer.output.LayerNorm)
        pooled = Parts(state.parts[:1]).linear(model.bert.pooler.dense).activation(torch.tanh)
        return pooled.linear(model.classifier).parts[0]


@pytest.mark.parametrize("start", [0, 1, 2])
def test_decompx_is_the_decomposition_token_by_token(start: int) -> None:
    model, batch = with_biases(), batch_for("bert", [0])
    parts = explicit(model, batch, start)  # (n + 1, C)
    torch.testing.assert_close(parts.sum(0), logits_of(model, batch)[0], atol=1e-4, rtol=0)
    for kind in range(3):
        found = get_method("decompx", target=kind)(model, batch).scores[0, start]
        torch.testing.assert_close(found, parts[:-1, kind], atol=1e-5, rtol=1e-4)
        bias = detached_pass(model, batch, kind, softmax=False).bias[0, start]
        torch.testing.assert_close(bias, parts[-1, kind], atol=1e-5, rtol=1e-4)
    order = logits_of(model, batch)[0].argsort(descending=True)
    contrast = get_method("decompx", target="contrast")(model, batch).scores[0, start]
    torch.testing.assert_close(contrast, parts[:-1, order[0]] - parts[:-1, order[1]], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
def test_decompx_adds_up_and_changes_no_value(family: str) -> None:
    model, batch = with_biases(family), batch_for(family)
    result = get_method("decompx", target=1)(model, batch)
    found = detached_pass(model, batch, 1, softmax=False)
    torch.testing.assert_close(found.value, logits_of(model, batch)[:, 1], atol=1e-5, rtol=1e-5)
    total = result.scores.sum(-1) + found.bias
    torch.testing.assert_close(total, found.value[:, None].expand_as(total), atol=1e-4, rtol=1e-4)
    assert result.diagnostics["completeness_gap"].max() < 1e-3
    sizes = torch.cat([result.scores, found.bias[..., None]], dim=-1).abs()  # (B, L, N + 1)
    torch.testing.assert_close(result.diagnostics["bias_share"], sizes[..., -1] / sizes.sum(-1))
    assert (result.diagnostics["bias_share"] > 0.001).all()


def test_an_activation_in_several_steps_is_held_as_one() -> None:
    model, batch = tiny_classifier(hidden_act="gelu_new"), batch_for("bert")
    assert get_method("decompx")(model, batch).diagnostics["completeness_gap"].max() < 1e-3


def half(values: Tensor) -> Tensor:
    return values / 2 + values.detach() / 2


def test_attnlrp_is_a_gradient_of_changed_parts() -> None:
    """The rules written into a forward pass of BERT by hand."""
    model, batch = with_biases(), batch_for("bert", [0])
    states, _ = attentions_of(model, batch)

    def norm(layer: nn.LayerNorm, values: Tensor) -> Tensor:
        deviation = (values.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt().detach()
        return (values - values.mean(-1, keepdim=True)) / deviation * layer.weight + layer.bias

    for start in range(3):
        first = states[start].clone().requires_grad_()
        state = first
        for layer in model.bert.encoder.layer[start:]:
            own = layer.attention.self
            query, key, value = (
                part(state).unflatten(-1, (HEADS, -1)).transpose(0, 1) for part in (own.query, own.key, own.value)
            )
            weights = (half(query @ key.transpose(1, 2)) / (WIDTH / HEADS) ** 0.5).softmax(-1)
            mixed = half(weights @ value).transpose(0, 1).flatten(1)
            state = norm(layer.attention.output.LayerNorm, layer.attention.output.dense(mixed) + state)
            inner = layer.intermediate.dense(state)
            inner = inner * (gelu(inner) / inner).detach()
            state = norm(layer.output.LayerNorm, layer.output.dense(inner) + state)
        pooled = model.bert.pooler.dense(state[0])
        logit = model.classifier(pooled * (pooled.tanh() / pooled).detach())[2]
        (gradient,) = torch.autograd.grad(logit, first)
        found = get_method("attnlrp", target=2)(model, batch).scores[0, start]
        torch.testing.assert_close(found, (gradient * first).sum(-1).detach(), atol=1e-5, rtol=1e-4)


# the encoder's layers; of a layer: value and output projection of the attention, and the norm after it
BERT = ("encoder.layer", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm")
POST_NORM = {
    "bert": BERT,
    "roberta": BERT,
    "electra": BERT,
    "distilbert": ("transformer.layer", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
    "mpnet": ("encoder.layer", "attention.attn.v", "attention.attn.o", "attention.LayerNorm"),
}


@pytest.mark.parametrize("family", sorted(POST_NORM))
def test_alti_is_its_equation(family: str) -> None:
    model, batch = with_biases(family), batch_for(family, [0])
    found = get_method("alti")(model, batch).scores[0]
    stack, *paths = POST_NORM[family]
    layers = [[layer.get_submodule(path) for path in paths] for layer in model.base_model.get_submodule(stack)]
    seen: list[tuple[Tensor, Tensor]] = []  # what enters and leaves each layer's norm in transformers' own pass
    for *_, norm in layers:
        norm.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0][0], output[0])))
    states, attentions = attentions_of(model, batch)
    product = torch.eye(len(states[0]))
    for number, (value_of, dense, norm) in enumerate(layers):
        x, (wholes, outputs), n = states[number], seen[number], len(states[number])
        with torch.no_grad():
            rows = torch.zeros(n, n)
            for i in range(n):
                deviation = (wholes[i].var(unbiased=False) + norm.eps).sqrt()
                for j in range(n):
                    part = torch.zeros(WIDTH)
                    for head in range(HEADS):
                        cut = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                        value = value_of.weight[cut] @ x[j]
                        part += attentions[number][head, i, j] * dense.weight[:, cut] @ value
                    part += x[i] * (i == j)
                    part = (part - part.mean()) / deviation * norm.weight
                    rows[i, j] = (outputs[i].abs().sum() - (outputs[i] - part).abs().sum()).clamp_min(0)
            rows /= rows.sum(-1, keepdim=True).clamp_min(1e-30)
            product = rows @ product
        torch.testing.assert_close(found[number], product[0] / product[0].sum(), atol=1e-5, rtol=1e-4)


def test_alti_in_blocks_of_rows_is_alti(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = with_biases(), batch_for("bert")
    whole = get_method("alti")(model, batch).scores
    monkeypatch.setattr(decomposition, "_ENTRIES", 3 * batch.input_ids.numel() * WIDTH)
    torch.testing.assert_close(get_method("alti")(model, batch).scores, whole)


def parts_of(model: Any, layer: int) -> tuple[Any, Any, Any, Any]:
    """value, output projection and both norms of a layer."""
    block = view(model).layers[layer]
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
            taken = view(model).layers[layer].register_forward_hook(lambda _, inputs, output: found.append(output))
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


@pytest.mark.parametrize("name", ["globenc", "alti", "value_zeroing"])
def test_layers_with_bert_s_names_and_other_parts_are_refused(name: str) -> None:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    mixed = ConvBertConfig(**sizes, intermediate_size=24, embedding_size=16)
    with pytest.raises(ArgumentError, match="layer 0 of ConvBertForSequenceClassification does not mix its values by"):
        get_method(name)(ConvBertForSequenceClassification(mixed).eval(), batch_for("bert"))


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
    for layer, other in zip(view(adapted).layers, view(merged).layers, strict=True):
        layer.attention.output.dense = made = Adapted(layer.attention.output.dense)
        with torch.no_grad():
            other.attention.output.dense.weight += made.up.weight @ made.down.weight
    plain = get_method(name)(tiny_classifier("bert"), batch).scores
    expected, found = (get_method(name)(model, batch).scores for model in (merged, adapted))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (plain - expected).abs().max() > 0.01
