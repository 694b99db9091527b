"""Slow references, written from the equations: one sequence at a time, plain masks, no packing.

They share no code with adapler: weights are read out of the model, and attention is transformers' "eager". Families
with relative or rotary positions run their layers on the whole sequence, dropped tokens masked: so the positions are
the input's, by transformers' own code.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

BASE = {
    "bert": "bert",
    "roberta": "roberta",
    "electra": "electra",
    "distilbert": "distilbert",
    "mpnet": "mpnet",
    "modernbert": "model",
}


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
    kind = backbone.config.model_type
    if kind == "modernbert":
        return encoder.embeddings(input_ids=ids[None])[0]
    positions = torch.arange(len(ids))
    if kind in ("roberta", "mpnet"):
        positions = torch.arange(len(ids)) + backbone.config.pad_token_id + 1
    options = {} if kind in ("distilbert", "mpnet") else {"token_type_ids": types}
    if types is not None:
        options["token_type_ids"] = types[None]
    hidden = encoder.embeddings(input_ids=ids[None], position_ids=positions[None], **options)
    if hasattr(encoder, "embeddings_project"):
        hidden = encoder.embeddings_project(hidden)
    return hidden[0]


def layers(backbone: Any) -> Any:
    encoder = getattr(backbone, BASE[backbone.config.model_type])
    match backbone.config.model_type:
        case "distilbert":
            return encoder.transformer.layer
        case "modernbert":
            return encoder.layers
        case _:
            return encoder.encoder.layer


def run_layer(backbone: Any, index: int, hidden: Tensor, alive: list[int], n: int, bias: Tensor | None) -> Tensor:
    """(len(alive), D): a layer on the tokens of n that are left; bias (len(alive),) is added to the keys' logits."""
    layer, kind = layers(backbone)[index], backbone.config.model_type
    if kind not in ("mpnet", "modernbert"):
        return layer(hidden[None], None if bias is None else bias[None, None, None, :])[0]
    encoder = getattr(backbone, BASE[kind])
    whole = torch.zeros(1, n, hidden.shape[-1], dtype=hidden.dtype).index_copy(1, torch.tensor(alive), hidden[None])
    keys = torch.full((n,), -torch.inf, dtype=hidden.dtype)
    keys = keys.index_copy(0, torch.tensor(alive), torch.zeros_like(hidden[:, 0]) if bias is None else bias)
    mask = keys[None, None, None, :].expand(1, 1, n, n)
    if kind == "mpnet":
        return layer(whole, mask, encoder.encoder.compute_position_bias(whole))[0][0, alive]
    if layer.attention_type == "sliding_attention":
        far = (torch.arange(n)[:, None] - torch.arange(n)).abs() > backbone.config.local_attention // 2
        mask = mask.masked_fill(far, -torch.inf)
        mask = torch.where(mask.isneginf().all(-1, keepdim=True), 0.0, mask)  # rows of dropped tokens, which none reads
    rotary = encoder.rotary_emb(whole, torch.arange(n)[None], layer.attention_type)
    return layer(whole, attention_mask=mask, position_embeddings=rotary)[0, alive]


def pooled(backbone: Any, hidden: Tensor, presence: Tensor | None = None) -> Tensor:
    """(D,) what the head reads of the last layer's output (n, D)."""
    if backbone.config.model_type != "modernbert":
        return hidden[0]
    hidden = backbone.model.final_norm(hidden)
    if backbone.config.classifier_pooling == "cls":
        return hidden[0]
    weights = torch.ones_like(hidden[:, 0]) if presence is None else presence
    return (weights[:, None] * hidden).sum(0) / weights.sum()


def head(backbone: Any, cls: Tensor) -> Tensor:
    """(C,) logits from [CLS]'s last hidden state, or what stands for it, (D,), weights by name."""
    match backbone.config.model_type:
        case "bert":
            return backbone.classifier(torch.tanh(backbone.bert.pooler.dense(cls)))
        case "roberta" | "mpnet":
            return backbone.classifier.out_proj(torch.tanh(backbone.classifier.dense(cls)))
        case "electra":
            return backbone.classifier.out_proj(gelu(backbone.classifier.dense(cls)))
        case "modernbert":
            return backbone.classifier(backbone.head.norm(gelu(backbone.head.dense(cls))))
        case _:
            return backbone.classifier(torch.relu(backbone.pre_classifier(cls)))


def predictor(model: Any, layer: int, hidden: Tensor, places: list[int], presence: Tensor | None = None) -> Tensor:
    """(n,) scores of tokens that stood at these places of the input, by the equations; presence (n,), default 1."""
    cp = model.contribution_predictors[layer]
    weights = {name: value.detach().to(hidden.dtype) for name, value in cp.state_dict().items()}
    units = hidden @ weights["dense.weight"].T + weights["dense.bias"]  # (n, H)
    if model.config.predictor == "contextual":
        units = _with_context(weights, units, hidden, places, torch.ones(len(places)) if presence is None else presence)
    return (gelu(units) @ weights["score.weight"].T + weights["score.bias"])[:, 0]


def _with_context(
    weights: dict[str, Tensor], units: Tensor, hidden: Tensor, places: list[int], presence: Tensor
) -> Tensor:
    """(n, H) units, the map of the weighted mean state, and a map of each neighbour's units for each distance."""
    presence = presence.to(hidden.dtype)
    mean = sum(m * h for m, h in zip(presence, hidden, strict=True)) / presence.sum()
    maps = weights["near.weight"].split(units.shape[1], dim=1)  # of the distances -2, -1, 1, 2
    rows = []
    for i, place in enumerate(places):
        row = units[i] + weights["mean.weight"] @ mean
        for distance, matrix in zip((-2, -1, 1, 2), maps, strict=True):
            if place + distance in places:
                j = places.index(place + distance)
                row = row + presence[j] * (matrix @ units[j])
        rows.append(row)
    return torch.stack(rows)


@torch.no_grad()
def hard(model: Any, ids: Tensor, *, types: Tensor | None = None, scale: float = 1.0, bare: Any = None) -> Trace:
    """Hard removal of one unpadded sequence: delete rows of the hidden states, then call the layer."""
    backbone = plain_backbone(model) if bare is None else bare
    hidden = embeddings(backbone, ids, types=types)
    alive = list(range(len(ids)))
    kept, scores, margin = [], [], float("inf")
    for index in range(len(layers(backbone))):
        score = predictor(model, index, hidden, alive).softmax(0)
        delta = scale * float(model.eta[index]) / len(alive)
        row = torch.zeros(len(ids))
        row[alive] = score
        scores.append(row)
        stay = [j for j in range(len(alive)) if j == 0 or float(score[j]) >= delta]
        if delta > 0 and len(alive) > 1:
            margin = min(margin, float((score[1:] / delta - 1).abs().min()))
        hidden, alive = hidden[stay], [alive[j] for j in stay]
        kept.append(list(alive))
        hidden = run_layer(backbone, index, hidden, alive, len(ids), None)
    return Trace(head(backbone, pooled(backbone, hidden)), kept, scores, torch.tensor([len(k) for k in kept]), margin)


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
    for index in range(len(layers(backbone))):
        score = predictor(model, index, hidden, list(range(len(ids))), presence).softmax(0) * presence
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
        hidden = run_layer(backbone, index, hidden, list(range(len(ids))), len(ids), total)
    return (
        head(backbone, pooled(backbone, hidden, presence)),
        torch.stack(all_scores),
        torch.stack(all_presence),
        torch.stack(all_lengths),
    )
