"""Changed inputs: tokens replaced or deleted, reference embeddings, the target's value of them, seeds.

A token is taken out by putting the mask token, or the padding token, in its place; positions, segments and special
tokens stay. Replaced inputs go in as embeddings: a model that counts positions over the ids that are not padding
(RoBERTa) would move every later token otherwise.

Texts with deleted tokens are of many lengths. They run as one packed row where the classifier is of a family that can,
and padded where it is not. The logits are equal to rounding.

    B batch, N padded length, n tokens of one document, D embedding size, C classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from adapler.backbones.decomposition import Target
from adapler.backbones.families import check_config, ready
from adapler.errors import ArgumentError
from adapler.passes import plain_pass
from analysis.scores.base import Batch, LayerScores, classifier_logits, normalise, target_value, weights_of

Token = Literal["mask", "pad"]
Removal = Literal["mask", "pad", "delete"]
Baseline = Literal["mask", "pad", "zero"]
Reduction = Literal["signed", "absolute", "positive", "l2"]
Sign = Literal["signed", "absolute", "positive"]  # for scores that have no width to take a norm over
PASS_TOKENS = 8192  # padded tokens of one forward pass over changed inputs


def content(batch: Batch) -> Tensor:
    """(B, N) bool, the tokens of the text: real and not special."""
    real = batch.attention_mask.bool()
    if batch.special is not None:
        return real & ~batch.special
    only_first = torch.zeros_like(real)
    only_first[:, 0] = True
    return real & ~only_first


def replaced_ids(model: Any, batch: Batch, baseline: Baseline | Removal = "mask") -> Tensor:
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


@dataclass(frozen=True, eq=False)
class Presence:
    """One document as a function of the content tokens that are present.

    positions: (n_content,) where they are; value: (K, n_content) of 0 and 1 -> (K,) the target's value;
    per_pass: inputs that fit one forward pass.
    """

    positions: Tensor
    value: Callable[[Tensor], Tensor]
    per_pass: int


def presence(twin: Any, single: Batch, target: Target, replacement: Removal) -> Presence:
    """twin: a working copy of the model, which "delete" makes ready for packed rows; single: a batch of one document
    without padding.

    replacement: what stands in a token's place; "delete": nothing, later tokens move up.
    """
    positions = content(single)[0].nonzero()[:, 0]
    blank = single.input_ids if replacement == "delete" else replaced_ids(twin, single, replacement)
    function = TargetValue(twin)
    weights, mask, *types = forward_arguments(twin, single, target)
    packs = replacement == "delete" and runs_packed(twin)
    if packs:
        ready(twin)

    def value(kept: Tensor) -> Tensor:
        there = torch.ones(len(kept), single.input_ids.shape[1], dtype=torch.bool, device=kept.device)
        there[:, positions] = kept.bool()
        ids = torch.where(there, single.input_ids, blank)  # (K, n)
        others = [one.expand(len(kept), *one.shape[1:]) for one in (mask, *types)]
        if replacement == "delete":
            ids, *others = _without(there, ids, others)  # (K, n'), n' the longest that is left
        wanted = weights.expand(len(kept), -1)  # (K, C)
        with torch.no_grad():
            if packs:
                segments = others[1] if types else None
                logits = plain_pass(twin, input_ids=ids, mask=others[0], token_type_ids=segments)
                return target_value(logits.float(), wanted.to(logits.device))
            result: Tensor = function(embeddings(twin, ids), wanted, *others)
        return result

    return Presence(positions, value, max(1, PASS_TOKENS // single.input_ids.shape[1]))


def runs_packed(model: Any) -> bool:
    """Whether `adapler.passes.plain_pass` on the model, made ready, gives the logits of its own forward pass.

    So it is for transformers' own classifiers of the families of `adapler.backbones`. A class of somebody's own may
    have another head, and what hangs on a module (a hook, a forward pass in the place of its own) may not run there.
    """
    kind = type(model)
    if not kind.__module__.startswith("transformers.") or not kind.__name__.endswith("ForSequenceClassification"):
        return False
    for module in model.modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return False
    try:
        check_config(model.config)
    except ArgumentError:
        return False
    return True


def _without(there: Tensor, ids: Tensor, others: list[Tensor]) -> list[Tensor]:
    """Each (K, n) with the tokens of `there` only, moved to the left; others[0] is the attention mask."""
    order = (~there).long().argsort(dim=1, stable=True)[:, : int(there.sum(1).max())]  # (K, n')
    real = there.gather(1, order)
    mask, *rest = (one.gather(1, order) for one in others)
    return [ids.gather(1, order), mask * real, *rest]
