"""Soft removal of a padded batch, written for reading: nothing is packed, nothing leaves the batch.

The slow reference of `adapler.passes`, in values and gradients. Attention is PyTorch's own with an additive
mask, not a bias that travels as a feature of the keys. Padding is on the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapler.backbones.families import position_ids, view
from adapler.contribution import MASKED, retention, soft_removal, threshold
from adapler.passes import AdapLeROutput


def soft(
    model: Any,
    batch: Mapping[str, Tensor],
    *,
    slope: float,
    gradient_slope: float = float("inf"),
    probe: Tensor | None = None,
) -> AdapLeROutput:
    """What `model(**batch, removal="soft", ...)` returns, without a loss."""
    backbone, mask = model.backbone, batch["attention_mask"]
    hidden = view(backbone).embed(
        batch["input_ids"],
        positions=position_ids(backbone.config, mask),
        token_type_ids=batch.get("token_type_ids"),
    )  # (B, N, D)
    presence = torch.where(mask.bool(), 0.0, MASKED).to(hidden.dtype)  # (B, N) logarithm
    kept, is_cls = mask.bool(), torch.zeros_like(mask, dtype=torch.bool)
    is_cls[:, 0] = True
    rows: dict[str, list[Tensor]] = {"scores": [], "presence": [], "lengths": [], "kept": []}
    for index in range(len(view(backbone).layers)):
        logits = _scores(model, index, hidden, presence) + presence  # (B, N)
        if probe is not None:
            logits = torch.cat([logits[:, :1] + probe[index].log(), logits[:, 1:]], dim=1)
        log_scores = logits.log_softmax(-1)
        delta = threshold(model.eta[index], 1 + presence[:, 1:].exp().sum(-1, keepdim=True))
        kept = kept & retention(log_scores.exp(), delta, is_cls=is_cls)
        rows["scores"].append(log_scores)
        rows["presence"].append(presence)
        rows["kept"].append(kept)
        faded = soft_removal(
            log_scores.exp(), delta, slope=slope, beta=model.config.beta, gradient_slope=gradient_slope
        )
        presence = (presence + faded.masked_fill(is_cls, 0.0)).clamp(min=MASKED)
        rows["lengths"].append(1 + presence[:, 1:].exp().sum(-1))
        bias = presence[:, None, None, :].expand(-1, 1, hidden.shape[1], -1)  # (B, 1, N, N)
        hidden = _layer(backbone, index, hidden, bias)
    stacked = {name: torch.stack(values, dim=1) for name, values in rows.items()}
    return AdapLeROutput(
        logits=view(backbone).head(_pooled(backbone, hidden, presence)),
        lengths=stacked["lengths"],
        contribution_scores=stacked["scores"].exp(),
        retention_mask=stacked["kept"],
        log_scores=stacked["scores"],
        log_presence=stacked["presence"],
    )


def _scores(model: Any, index: int, hidden: Tensor, presence: Tensor) -> Tensor:
    """(B, N) of layer `index`'s predictor; the contextual one's neighbours by a convolution over the padded batch."""
    cp, weights = model.contribution_predictors[index], presence.exp()[..., None]  # (B, N, 1)
    if model.config.predictor == "mlp":
        return cp(hidden)  # type: ignore[no-any-return]
    units = cp.dense(hidden)  # (B, N, H)
    mean = (weights * hidden).sum(1, keepdim=True) / weights.sum(1, keepdim=True)  # (B, 1, D)
    before_2, before_1, after_1, after_2 = cp.near.weight.split(units.shape[-1], dim=1)
    kernel = torch.stack([before_2, before_1, torch.zeros_like(before_1), after_1, after_2], dim=-1)  # (H, H, 5)
    near = torch.nn.functional.conv1d((weights * units).transpose(1, 2), kernel, padding=2).transpose(1, 2)
    return cp.score(cp.activation(units + cp.mean(mean) + near))[..., 0]  # type: ignore[no-any-return]


def _layer(backbone: Any, index: int, hidden: Tensor, bias: Tensor) -> Tensor:
    """(B, N, D): one layer by transformers' own code; no token has left, so places are positions."""
    layer, kind = view(backbone).layers[index], backbone.config.model_type
    if kind == "mpnet":
        relative = backbone.mpnet.encoder.compute_position_bias(hidden)
        return layer(hidden, bias, relative)[0]  # type: ignore[no-any-return]
    if kind != "modernbert":
        return layer(hidden, attention_mask=bias)  # type: ignore[no-any-return]
    places = torch.arange(hidden.shape[1])
    if layer.attention_type == "sliding_attention":
        far = (places[:, None] - places).abs() > backbone.config.local_attention // 2
        bias = bias.masked_fill(far, -torch.inf)
    rotary = backbone.model.rotary_emb(hidden, places[None], layer.attention_type)
    return layer(hidden, attention_mask=bias, position_embeddings=rotary)  # type: ignore[no-any-return]


def _pooled(backbone: Any, hidden: Tensor, presence: Tensor) -> Tensor:
    """(B, D) what the head reads."""
    if backbone.config.model_type != "modernbert":
        return hidden[:, 0]
    weights = presence.exp()[..., None]
    return (backbone.model.final_norm(hidden) * weights).sum(1) / weights.sum(1)
