"""Attention methods against explicit matrix products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification, LongformerConfig, LongformerForSequenceClassification

from adapler.errors import ArgumentError
from analysis.scores import get_method
from tests.analysis.scores.score_helpers import LENGTHS, batch_for, eager_heads, every_family
from tests.conftest import LAYERS, VOCABULARY, tiny_classifier


def test_raw_attention_rows_and_columns() -> None:
    classifier, batch = tiny_classifier(), batch_for("bert")
    heads = eager_heads(classifier, batch)
    row = get_method("attention")(classifier, batch).scores
    received = get_method("attention_received")(classifier, batch).scores
    for document, n in enumerate(batch.attention_mask.sum(-1).tolist()):
        for layer in range(3):
            weights = heads[layer][document, :, :n, :n].mean(0)  # (n, n)
            torch.testing.assert_close(row[document, layer, :n], weights[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(received[document, layer, :n], weights.mean(0), atol=1e-5, rtol=0)


def test_rollout_equals_explicit_matrix_products() -> None:
    classifier, batch = tiny_classifier(), batch_for("bert")
    heads = eager_heads(classifier, batch)
    result = get_method("rollout")(classifier, batch).scores
    for document, n in enumerate(batch.attention_mask.sum(-1).tolist()):
        product = torch.eye(n)
        for layer in range(3):
            step = (heads[layer][document, :, :n, :n].mean(0) + torch.eye(n)) / 2
            product = step @ product  # A~^l ... A~^0
            torch.testing.assert_close(product.sum(-1), torch.ones(n))
            torch.testing.assert_close(result[document, layer, :n], product[0], atol=1e-5, rtol=0)


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


def test_missing_weights_and_weights_of_other_tokens_are_refused() -> None:
    class Mute(BertForSequenceClassification):  # type: ignore[misc]
        def forward(self, *args: Any, output_attentions: bool = False, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    mute = Mute(tiny_classifier().config).train()
    with pytest.raises(ArgumentError, match="Mute returned attention weights of shape None"):
        get_method("attention")(mute, batch_for("bert"))
    assert mute.training
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
    config = LongformerConfig(vocab_size=VOCABULARY, max_position_embeddings=64, attention_window=8, **sizes)
    windowed = LongformerForSequenceClassification(config).eval()
    for name, message in (
        ("attention", "attention weights of shape"),
        ("saliency", "the hidden states that Longformer"),
    ):
        with pytest.raises(ArgumentError, match=message):
            get_method(name)(windowed, batch_for("bert"))
