"""Slow references, written from the equations: one sequence at a time, plain masks, no packing.

They share no code with adapler: weights are read out of the model, and attention is transformers' "eager".
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

BASE = {"bert": "bert", "roberta": "roberta", "electra": "electra", "distilbert": "distilbert"}


@dataclass
class Trace:
    """One sequence's way through the layers; lists have an entry a layer."""

    logits: Tensor  # (C,)
    kept: list[list[int]]  # positions that enter the layer
    scores: list[Tensor]  # of the n input tokens, 0 where the token was dropped before
    lengths: Tensor  # (L,)
    margin: float  # how close a score came to its threshold, relative to the threshold


def plain_backbone(model: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A copy of the classifier inside an AdapLeR model, with textbook attention (its softmax rounds to float32)."""
    backbone = copy.deepcopy(model.backbone).to(dtype)
    backbone.set_attn_implementation("eager" if dtype == torch.float32 else "sdpa")
    return backbone.eval()


def embeddings(backbone: Any, ids: Tensor, *, types: Tensor | None = None) -> Tensor:
    """(n, D) embedding output of one sequence."""
    encoder = getattr(backbone, BASE[backbone.config.model_type])
    positions = torch.arange(len(ids))
    if backbone.config.model_type == "roberta":
        positions = torch.arange(len(ids)) + backbone.config.pad_token_id + 1
    options = {} if backbone.config.model_type == "distilbert" else {"token_type_ids": types}
    if types is not None:
        options["token_type_ids"] = types[None]
    hidden = encoder.embeddings(input_ids=ids[None], position_ids=positions[None], **options)
    if hasattr(encoder, "embeddings_project"):
        hidden = encoder.embeddings_project(hidden)
    return hidden[0]


def layers(backbone: Any) -> Any:
    encoder = getattr(backbone, BASE[backbone.config.model_type])
    return encoder.transformer.layer if backbone.config.model_type == "distilbert" else encoder.encoder.layer


def head(backbone: Any, cls: Tensor) -> Tensor:
    """(C,) logits from [CLS]'s last hidden state (D,), weights by name."""
    match backbone.config.model_type:
        case "bert":
            return backbone.classifier(torch.tanh(backbone.bert.pooler.dense(cls)))
        case "roberta":
            return backbone.classifier.out_proj(torch.tanh(backbone.classifier.dense(cls)))
        case "electra":
            return backbone.classifier.out_proj(gelu(backbone.classifier.dense(cls)))
        case _:
            return backbone.classifier(torch.relu(backbone.pre_classifier(cls)))


def predictor(model: Any, layer: int, hidden: Tensor) -> Tensor:
    """W2 . gelu(W1 . h + b1) + b2: (n, D) -> (n,)."""
    cp = model.contribution_predictors[layer]
    weights = [x.detach().to(hidden.dtype) for x in (cp.dense.weight, cp.dense.bias, cp.score.weight, cp.score.bias)]
    return (gelu(hidden @ weights[0].T + weights[1]) @ weights[2].T + weights[3])[:, 0]


@torch.no_grad()
def hard(model: Any, ids: Tensor, *, types: Tensor | None = None, scale: float = 1.0, bare: Any = None) -> Trace:
    """Hard removal of one unpadded sequence: delete rows of the hidden states, then call the layer."""
    backbone = plain_backbone(model) if bare is None else bare
    hidden = embeddings(backbone, ids, types=types)
    alive = list(range(len(ids)))
    kept, scores, margin = [], [], float("inf")
    for index, layer in enumerate(layers(backbone)):
        score = predictor(model, index, hidden).softmax(0)
        delta = scale * float(model.eta[index]) / len(alive)
        row = torch.zeros(len(ids))
        row[alive] = score
        scores.append(row)
        stay = [j for j in range(len(alive)) if j == 0 or float(score[j]) >= delta]
        if delta > 0 and len(alive) > 1:
            margin = min(margin, float((score[1:] / delta - 1).abs().min()))
        hidden, alive = hidden[stay], [alive[j] for j in stay]
        kept.append(list(alive))
        hidden = layer(hidden[None], None)[0]
    return Trace(head(backbone, hidden[0]), kept, scores, torch.tensor([len(k) for k in kept]), margin)


def soft(
    model: Any, ids: Tensor, *, slope: float, beta: float, probe: Tensor | None = None, eta: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Soft removal of one unpadded sequence in float64 (logits, scores (L, n), presence (L, n), lengths (L,)).

    presence is that of the layers before l; lengths are after layer l's own mask.
    """
    backbone = plain_backbone(model, torch.float64)
    eta = model.eta.detach().double() if eta is None else eta
    hidden = embeddings(backbone, ids)
    presence = torch.ones(len(ids), dtype=torch.float64)
    total = torch.zeros(len(ids), dtype=torch.float64)
    all_scores, all_presence, all_lengths = [], [], []
    for index, layer in enumerate(layers(backbone)):
        score = predictor(model, index, hidden).softmax(0) * presence
        if probe is not None:
            score = torch.cat([score[:1] * probe[index], score[1:]])
        score = score / score.sum()
        delta = eta[index] / (1 + presence[1:].sum())
        all_scores.append(score)
        all_presence.append(presence)
        steep = (slope / delta) * (score - delta) - beta / slope
        flat = (score - 1) * (beta / slope) / (1 - delta).clamp(min=1e-2)
        m = torch.minimum(steep, flat).clamp(-1e4, 0)
        m = torch.cat([m[:1] * 0, m[1:]])
        total = total + m
        presence = presence * m.exp()
        all_lengths.append(1 + presence[1:].sum())
        hidden = layer(hidden[None], total[None, None, None, :])[0]
    return (
        head(backbone, hidden[0]),
        torch.stack(all_scores),
        torch.stack(all_presence),
        torch.stack(all_lengths),
    )
