"""Changed inputs: tokens replaced, reference embeddings, the target's value of them, seeds.

A token is taken out by putting the mask token, or the padding token, in its place; positions, segments and special
tokens stay. Replaced inputs go in as embeddings: a model that counts positions over the ids that are not padding
(RoBERTa) would move every later token otherwise.

    B batch, N padded length, n tokens of one document, D embedding size, C classes
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from adapler.backbones.families import Target
from adapler.errors import ArgumentError
from analysis.scores.base import Batch, LayerScores, classifier_logits, normalise, target_value, weights_of

Token = Literal["mask", "pad"]
Baseline = Literal["mask", "pad", "zero"]
Reduction = Literal["signed", "absolute", "positive", "l2"]
Sign = Literal["signed", "absolute", "positive"]  # for scores that have no width to take a norm over
PASS_TOKENS = 8192  # padded tokens of one forward pass over changed inputs


def content(batch: Batch) -> Tensor:
    """(B, N) bool, the tokens of the text: real and not special."""
    first = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device) == 0  # (N,)
    return batch.attention_mask.bool() & ~(first if batch.special is None else batch.special)


def replaced_ids(model: Any, batch: Batch, baseline: Baseline = "mask") -> Tensor:
    """(B, N) ids with every content token replaced. Raises ArgumentError when there is no token to put there."""
    # The tokenizer's first: a configuration may say 0 where the tokenizer pads with another token.
    token = batch.mask_token_id if baseline == "mask" else batch.pad_token_id
    if token is None and baseline == "pad":
        token = getattr(model.config, "pad_token_id", None)
    if token is None:
        other = "pad" if baseline == "mask" else "mask"
        option = f"choose the option {other!r} (baseline={other} or replacement={other})"
        raise ArgumentError(f"a token is to be replaced by the {baseline} token, which the tokenizer lacks; {option}")
    return torch.where(content(batch), token, batch.input_ids)


def embeddings(model: Any, ids: Tensor) -> Tensor:
    """ids (B, N) -> (B, N, D) word embeddings, without gradient."""
    with torch.no_grad():
        vectors: Tensor = model.get_input_embeddings()(ids)
    return vectors.detach()


def input_reference(model: Any, batch: Batch, baseline: Baseline) -> Tensor:
    """(B, N, D) word embeddings of the input that says nothing: all zero, or of the replaced ids."""
    if baseline == "zero":
        return torch.zeros_like(embeddings(model, batch.input_ids))
    return embeddings(model, replaced_ids(model, batch, baseline))


class TargetValue(torch.nn.Module):
    """word embeddings (B, N, D) and the batch's other inputs -> the target's value (B,); captum calls it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, vectors: Tensor, weights: Tensor, mask: Tensor, types: Tensor | None = None) -> Tensor:
        inputs = {} if types is None else {"token_type_ids": types}
        logits = self.model(inputs_embeds=vectors, attention_mask=mask, **inputs).logits.float()
        return target_value(logits, weights.to(logits.device))


def forward_arguments(model: Any, batch: Batch, target: Target) -> tuple[Tensor, ...]:
    """Arguments of TargetValue after the embeddings: the target's weights (B, C), mask and, if any, types (B, N)."""
    weights = weights_of(model, batch, target, classifier_logits(model, batch))
    types = () if batch.token_type_ids is None else (batch.token_type_ids,)
    return (weights, batch.attention_mask, *types)


def reduced(attributions: Tensor, batch: Batch, reduction: Reduction) -> LayerScores:
    """Attributions (B, L', N, D), or (B, L', N) when there is no width -> scores.

    signed    the sum over the width, evidence for the target > 0 > evidence against it
    absolute  its absolute value, positive: its positive part, l2: the norm over the width; each normalised
    """
    values = attributions.detach().float()
    if values.dim() == 4:
        values = values.norm(dim=-1) if reduction == "l2" else values.sum(-1)
    real = batch.attention_mask[:, None, :]
    if reduction == "signed":
        return LayerScores(values * real, signed=True)
    return LayerScores(normalise(values.clamp_min(0) if reduction == "positive" else values.abs(), real[:, 0]))


def with_gap(scores: LayerScores, total: Tensor, expected: Tensor) -> LayerScores:
    """Scores with their completeness gap, |sum of attributions - (F(x) - F(baseline))| / |F(x) - F(baseline)|.

    total and expected: (B, L').
    """
    gap = (total - expected).abs() / expected.abs().clamp_min(torch.finfo(torch.float32).eps)
    return replace(scores, diagnostics={"completeness_gap": gap.detach().float()})


@contextmanager
def seeded(batch: Batch, row: int) -> Iterator[None]:
    """The global generators that captum draws from, seeded for one document, and as they were afterwards."""
    device = batch.input_ids.device
    state = np.random.get_state()
    words = np.random.SeedSequence(batch.entropy(row)).generate_state(2)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(words[0]))
        np.random.seed(int(words[1]))
        try:
            yield
        finally:
            np.random.set_state(state)


class Presence:
    """One document as a function of the content tokens that are present; the others are replaced.

    twin: a working copy of the model; single: a batch of one document without padding. positions: (n_content,) where
    they are; per_pass: inputs that fit one forward pass.
    """

    def __init__(self, twin: Any, single: Batch, target: Target, replacement: Token) -> None:
        self.positions = content(single)[0].nonzero()[:, 0]
        self.per_pass = max(1, PASS_TOKENS // single.input_ids.shape[1])
        self._twin, self._ids, self._blank = twin, single.input_ids, replaced_ids(twin, single, replacement)
        self._arguments = forward_arguments(twin, single, target)

    def value(self, kept: Tensor) -> Tensor:
        """(K, n_content) of 0 and 1 -> (K,) the target's value."""
        there = torch.ones(len(kept), self._ids.shape[1], dtype=torch.bool, device=kept.device)
        there[:, self.positions] = kept.bool()
        ids = torch.where(there, self._ids, self._blank)  # (K, n)
        with torch.no_grad():
            arguments = (one.expand(len(kept), *one.shape[1:]) for one in self._arguments)
            result: Tensor = TargetValue(self._twin)(embeddings(self._twin, ids), *arguments)
        return result
