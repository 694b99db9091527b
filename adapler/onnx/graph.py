"""Hard removal as modules that torch.onnx can export: the number of tokens between two layers depends on the data.

Each layer's Contribution Predictor is followed by NonZero and Gather, so a dropped token costs nothing afterwards.

Dimensions: B texts, N tokens of a text (in a batch: of the longest), T tokens of a batch, n tokens that are left,
L layers, D hidden size, H heads, E head size, C labels.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from adapler.backbones import first_position, view
from adapler.backbones.packing import Segments
from adapler.contribution import MASKED, retention, threshold
from adapler.predictors import PackedRow, members

ATTENTION = "adapler_onnx"
# torch.export wants an upper bound of every size that depends on the data. No batch comes near this one.
MOST_TOKENS = 1 << 24


def _bounded(size: Any) -> None:
    """Tells the exporter in which range a size lies that depends on the data."""
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    torch._check(size <= MOST_TOKENS)  # type: ignore[no-untyped-call]


def plain_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float, bias: Tensor | None = None) -> Tensor:
    """Softmax attention in the two products that every runtime has; (B, H, N, E) each, `bias` (B, 1, 1, N)."""
    logits = (query * scale) @ key.transpose(-1, -2)  # (B, H, N, N)
    return (logits if bias is None else logits + bias).softmax(-1) @ value


def exported_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cell: Tensor | None = None,
    bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer of a model that is exported.

    Without `cell`, attention between all tokens of the one text. With it, the texts of a batch lie one after the other:
    they are spread to a padded form for the two products of attention only, and packed again after it.

    Args:
        module, attention_mask, kwargs: as transformers hands them over; not used.
        query, key, value: (1, H, n, E).
        scaling: factor on q . k.
        cell: (n,) where each token stands in the padded form, flattened to (B * N,).
        bias: (B, N) what is added to the logits of each key: 0, and MASKED at padding.

    Returns:
        (1, n, H, E), None.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if cell is None or bias is None:
        return plain_attention(query, key, value, scale=scale).transpose(1, 2), None
    heads, size = query.shape[1], query.shape[3]
    rows, width = bias.shape

    def spread(packed: Tensor) -> Tensor:
        flat = packed[0].transpose(0, 1).reshape(-1, heads * size)  # (n, H * E)
        padded = flat.new_zeros(rows * width, heads * size).index_copy(0, cell, flat)  # (B * N, H * E)
        return padded.view(rows, width, heads, size).transpose(1, 2)  # (B, H, N, E)

    out = plain_attention(spread(query), spread(key), spread(value), scale=scale, bias=bias[:, None, None, :])
    flat = out.transpose(1, 2).reshape(rows * width, heads * size)  # (B * N, H * E)
    return flat.index_select(0, cell).view(1, -1, heads, size), None


AttentionInterface.register(ATTENTION, exported_attention)


class _Graph(nn.Module):
    """The parts of an AdapLeR model that a graph is made of; its attention must be ATTENTION by now."""

    eta: Tensor

    def __init__(self, adapler: Any) -> None:
        super().__init__()
        self.backbone = adapler.backbone
        self.predictors = adapler.contribution_predictors
        self.register_buffer("eta", adapler.removal_policy.factors.detach())  # 0 where a layer drops nothing

    def embed(self, input_ids: Tensor, positions: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """(1, T) ids and positions counted from 0 -> (1, T, D)."""
        first = first_position(self.backbone.config)
        return view(self.backbone).embed(input_ids, positions=positions + first, token_type_ids=token_type_ids)


class OneText(_Graph):
    """A single text: no padding, no borders between texts."""

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, threshold_scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Classify one text.

        Args:
            input_ids, token_type_ids: (1, N), special tokens included; types for backbones that have them.
            threshold_scale: scalar, factor on every eta.

        Returns:
            logits (1, C), lengths (1, L), retention (1, L, N) bool.
        """
        number = input_ids.shape[1]
        place = torch.arange(number)  # (n,) where each token stood in the input
        hidden = self.embed(input_ids, place[None], token_type_ids)
        owner = torch.zeros_like(place)
        lengths, retained = [], []
        for index, predictor in enumerate(self.predictors):
            present = torch.full((1,), 1.0) * place.shape[0]
            row = PackedRow(Segments(present, owners=owner), place)
            scores = predictor(hidden[0], row).softmax(-1)  # (n,)
            delta = threshold(self.eta[index], present, scale=cast(float, threshold_scale))  # (1,)
            keep = retention(scores, delta, is_cls=place == 0)
            kept = keep.nonzero()[:, 0]
            _bounded(kept.shape[0])
            hidden, place = hidden.index_select(1, kept), place.index_select(0, kept)
            owner = torch.zeros_like(place)
            lengths.append(keep.sum())
            retained.append(torch.zeros(number, dtype=torch.bool).index_fill(0, place, True))
            hidden = view(self.backbone).layer(index, hidden, positions=place[None])  # (1, n, D)
        logits = view(self.backbone).head(hidden[:, 0])
        return logits, torch.stack(lengths)[None], torch.stack(retained)[None]


class PackedTexts(_Graph):
    """Several texts, one after the other in one row."""

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, lengths: Tensor, threshold_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Classify the texts of a row.

        Args:
            input_ids, token_type_ids: (T,), each text with its special tokens; types for backbones that have them.
            lengths: (B,) long, tokens of each text; their sum is T.
            threshold_scale: scalar, factor on every eta.

        Returns:
            logits (B, C), lengths (B, L) tokens that enter each layer.
        """
        ends = lengths.cumsum(0)  # (B,)
        place = torch.arange(input_ids.shape[0])  # (T,)
        owner = (place[:, None] >= ends).sum(1)  # (T,) the text of each token
        offset = place - (ends - lengths).index_select(0, owner)  # (T,) its place in the text
        hidden = self.embed(input_ids[None], offset[None], None if token_type_ids is None else token_type_ids[None])
        is_cls = offset == 0
        entered = []
        for index, predictor in enumerate(self.predictors):
            row = PackedRow(Segments(lengths, owners=owner), place)
            scores = self._softmax(predictor(hidden[0], row), owner, lengths)  # (n,)
            delta = threshold(self.eta[index], lengths.to(scores.dtype), scale=cast(float, threshold_scale))  # (B,)
            keep = retention(scores, delta.index_select(0, owner), is_cls=is_cls)
            kept = keep.nonzero()[:, 0]
            _bounded(kept.shape[0])
            lengths = (members(owner, lengths.shape[0]) & keep).sum(1)
            hidden, place = hidden.index_select(1, kept), place.index_select(0, kept)
            owner, is_cls = owner.index_select(0, kept), is_cls.index_select(0, kept)
            entered.append(lengths)
            longest = cast(int, lengths.max().item())
            _bounded(longest)
            first = lengths.cumsum(0) - lengths  # (B,) where each text begins now
            column = torch.arange(kept.shape[0]) - first.index_select(0, owner)  # (n,)
            padding = torch.arange(longest) >= lengths[:, None]  # (B, N)
            hidden = view(self.backbone).layer(
                index,
                hidden,
                positions=column[None],
                cell=owner * longest + column,
                bias=padding.to(hidden.dtype) * MASKED,
            )  # (1, n, D)
        first = lengths.cumsum(0) - lengths
        return view(self.backbone).head(hidden[0].index_select(0, first)), torch.stack(entered, dim=1)

    @staticmethod
    def _softmax(scores: Tensor, owner: Tensor, lengths: Tensor) -> Tensor:
        """Softmax of (n,) scores within each text."""
        own = members(owner, lengths.shape[0])  # (B, n)
        top = scores.masked_fill(~own, torch.finfo(scores.dtype).min).amax(1)  # (B,)
        weights = (scores - top.index_select(0, owner)).exp()
        total = own.to(weights.dtype) @ weights  # (B,)
        return weights / total.index_select(0, owner)
