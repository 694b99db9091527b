"""DistilBERT: layers with other names, and a pre-classifier with a ReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adapler.backbones.family import Family
from adapler.backbones.packing import narrowed


class DistilBert(Family):
    """See the top of this file."""

    base = "distilbert"
    layers_path = "transformer.layer"
    pooler_path = "pre_classifier"
    attention_dropout = "attention_dropout"
    inner_size = "hidden_dim"
    activation = "activation"
    projections = ("attention.q_lin", "attention.k_lin", "attention.v_lin")

    def labels(self, cls: Tensor) -> Tensor:
        """See Family.labels."""
        hidden = torch.relu(self.classifier.pre_classifier(cls))
        logits: Tensor = self.classifier.classifier(self.classifier.dropout(hidden))
        return logits

    def attention_output(self, layer: Any, context: Tensor, states: Tensor) -> Tensor:
        """See Family.attention_output."""
        output: Tensor = layer.sa_layer_norm(layer.attention.out_lin(context) + states)
        return output

    def feed_forward(self, layer: Any, states: Tensor) -> Tensor:
        """See Family.feed_forward."""
        output: Tensor = layer.output_layer_norm(layer.ffn(narrowed(states, layer.ffn.lin1)) + states)
        return output
