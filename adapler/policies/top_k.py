"""A fixed share of the tokens stays in each layer: controls for policies that learn, and what fixed lengths share.

Dimensions: B sequences, T tokens of a packed row.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapler.backbones.attention import Reads, Segments, to_padded
from adapler.contribution import Cost
from adapler.options import Checked, option
from adapler.policies.base import LayerView, Place, Policy, Training, TrainingOptions, policy, policy_class

DEFAULT_KEEP = 0.7


@dataclass(frozen=True, kw_only=True)
class KeepOptions(Checked):
    """Share of the tokens to keep."""

    keep: float = option("share of the tokens present that stays in each layer", default=DEFAULT_KEEP, above=0, most=1)


@dataclass(kw_only=True)
class KeepTrainingOptions(TrainingOptions):
    """Training with a fixed share of tokens."""

    keep: list[float] = option(
        "share kept in each layer; a model for each", default=[DEFAULT_KEEP], basic=True, above=0, most=1
    )


class KeepTraining(Training):
    """One stage of fine-tuning with tokens really removed."""

    Settings, budget = KeepTrainingOptions, "keep"

    @classmethod
    def point_name(cls, policy: str, options: Any) -> str:
        return f"{policy}-keep-{options.keep[0]:g}"

    def model_options(self) -> dict[str, Any]:
        """`keep`, and `seed` where the policy has one."""
        known = {one.name for one in fields(policy_class(self.config.policy).Options)}
        values = {"keep": self.options.keep[0], "seed": self.config.optimisation.seed}
        return {name: value for name, value in values.items() if name in known}


class TopK(Policy):
    """The tokens with the highest scores stay; a subclass says what the score is, and perhaps how many."""

    place: ClassVar[Place] = "between"
    Options: ClassVar[type] = KeepOptions
    Training: ClassVar[type[Training]] = KeepTraining

    def count(self, view: LayerView) -> Tensor:
        """(B,) how many tokens stay at scale 1, [CLS] among them; any number, it is rounded up. On the CPU: not every
        device has float64."""
        share = float(self.options.keep)
        return share * view.row.segments.lengths.cpu().double()

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """The k-th highest score, k = count / scale rounded up. Of tokens with equal scores all stay or none."""
        segments = view.row.segments
        # A share of .7 of 10 tokens is 7 and not the 8 that 7.000000000000001 would give.
        wanted = (self.count(view).cpu() / scale - 1e-9).ceil().clamp(min=1, max=2**31)
        count = wanted.long().to(scores.device).minimum(segments.lengths.long())
        return kth_highest(scores, segments, count=count)


def kth_highest(scores: Tensor, segments: Segments, *, count: Tensor) -> Tensor:
    """(B,) the count-th highest score of each sequence, where [CLS] counts as the highest.

    `scores` are (T,), `count` is (B,) long, each between 1 and the sequence's length.
    """
    ordered = cls_first(scores, segments).sort(dim=1, descending=True).values  # (B, N)
    return ordered.gather(1, count[:, None] - 1)[:, 0]


def cls_first(scores: Tensor, segments: Segments) -> Tensor:
    """(B, N) scores (T,) as rows to be ranked: infinity for [CLS], minus infinity for padding."""
    ranked = scores.index_fill(0, segments.first, torch.inf)
    real = to_padded(torch.ones_like(ranked), segments) > 0
    return to_padded(ranked, segments).masked_fill(~real, -torch.inf)


@policy("cls_topk")
class ClsTopK(TopK):
    """After a layer's attention the tokens stay to which [CLS] attends most in it, on the mean of the heads.

    Where attention is local, [CLS] gives exactly 0 to tokens outside its window. Without an order among them all would
    stay as soon as one has to, so of those the earlier ones come first.
    """

    reads: ClassVar[Reads] = "cls"

    def score(self, view: LayerView) -> Tensor:
        """(T,) attention of [CLS]; where that is 0, minus the token's place in its text, from 0."""
        given, segments, place = view.attention.from_cls, view.row.segments, view.row.place
        at = place - place[segments.first][segments.owner]
        return torch.where(given > 0, given, -at.to(given.dtype))

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        """FLOPs of recomputing the query of [CLS] times all keys, which a fused kernel hides."""
        return Cost(token=2.0 * config.hidden_size)


@dataclass(frozen=True, kw_only=True)
class RandomOptions(KeepOptions):
    """Share of the tokens to keep, and the seed of their choice."""

    seed: int = 0


@policy("random_topk")
class RandomTopK(TopK):
    """After a layer's attention random tokens stay, which the seed, the layer and their places in the text decide."""

    reads: ClassVar[Reads] = "nothing"
    Options: ClassVar[type] = RandomOptions

    def score(self, view: LayerView) -> Tensor:
        """(T,) in [0, 1): the same for a token whatever else is in the batch."""
        segments, place = view.row.segments, view.row.place
        at = place - place[segments.first][segments.owner]  # (T,) place in the text, from 0
        return _scrambled(at + _STRIDE * (view.index + 1) + (_STRIDE**2 * self.options.seed & _MASK))


_STRIDE = 1_000_003
_MASK = 0xFFFFFFFF


def _scrambled(numbers: Tensor) -> Tensor:
    """Whole numbers to numbers in [0, 1) that look random (the finaliser of MurmurHash3), float32."""
    x = numbers & _MASK
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK
    x = x ^ (x >> 16)
    return (x >> 8).float() / (1 << 24)
