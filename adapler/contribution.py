"""Contribution Predictors, which score the tokens of a packed row before each layer, and what removes tokens by them:
thresholds, hard and soft removal. `config.predictor` names a model's kind of predictor.

A predictor of one's own is a subclass of `Predictor` with the decorator `@predictor("name")`, imported before a model
that uses it is built or loaded. CONTRIBUTING.md shows one.

Dimensions: B sequences, T tokens of a packed row, D hidden size, H hidden units, K neighbours. Source: Modarressi,
Mohebbi and Pilehvar, "AdapLeR: Speeding up Inference by Adaptive Length Reduction", ACL 2022, section 3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from transformers import initialization as init
from transformers.activations import ACT2FN

from adapler.backbones.attention import Segments, joined, pieces, segment_sum
from adapler.errors import ArgumentError
from adapler.options import Registry

# The attention weight of a key with this bias is exactly zero in every floating point format we use.
MASKED = -1e4
# Keeps the slope of soft removal finite when a threshold reaches 1, in inputs of one or two tokens.
MIN_HEADROOM = 1e-2
# Keeps it finite when threshold_scale is 0.
MIN_DELTA = 1e-12


def threshold(eta: Tensor, lengths: Tensor, *, scale: float = 1.0) -> Tensor:
    """Thresholds delta = scale * eta / n, (B,), of one layer's eta and the tokens present when its Contribution
    Predictor runs, (B,), or soft lengths; scale 0 keeps every token."""
    return scale * eta / lengths


def retention(scores: Tensor, delta: Tensor, *, is_cls: Tensor | None = None) -> Tensor:
    """Hard removal: the keep mask of scores against thresholds delta, broadcastable to them, in float32 or better.
    [CLS] always stays (AdapLeR, section 3.2); without `is_cls`, a bool for each score, the caller sees to it.
    """
    exact = torch.promote_types(scores.dtype, torch.float32)
    reached = scores.to(exact) >= delta.to(exact)
    return reached if is_cls is None else reached | is_cls


def soft_removal(
    scores: Tensor, delta: Tensor, *, slope: float, beta: float = 0.1, gradient_slope: float = math.inf
) -> Tensor:
    """Soft removal function (AdapLeR, eq. 5): what is added to the attention logits of each key.

        M = clip(min((slope/delta)(S - delta) - beta/slope, (S - 1)(beta/slope)/(1 - delta)), -1e4, 0)

    Steep below the threshold, nearly flat above it; -beta/slope at the threshold and 0 at S = 1.

    At the slopes of the last epochs the few tokens at the threshold have gradients in the hundreds, which drown
    everything else once gradients are clipped. `gradient_slope` bounds that (our choice, not the paper's): M is as
    above, its gradient is that of a slope of at most gradient_slope.

    Scores S and thresholds delta, broadcastable to them, are in [0, 1]; delta 0 removes nothing. `slope` is lambda > 0.
    """
    for name, value in (("slope", slope), ("beta", beta), ("gradient_slope", gradient_slope)):
        if not value > 0:
            raise ArgumentError(f"{name}: {value} is not above 0")
    if slope > gradient_slope:
        steep = soft_removal(scores.detach(), delta.detach(), slope=slope, beta=beta)
        gentle = soft_removal(scores, delta, slope=gradient_slope, beta=beta)
        return steep + (gentle - gentle.detach())  # the value of one, the gradient of the other
    below = slope / delta.clamp(min=MIN_DELTA) * (scores - delta) - beta / slope
    above = (scores - 1) * (beta / slope) / (1 - delta).clamp(min=MIN_HEADROOM)
    return torch.minimum(below, above).clamp(MASKED, 0)


# Sequences are this far apart when places are compared: no batch has so many cells.
_APART = 1 << 32


def exact_dtype(values: Tensor) -> torch.dtype:
    """The precision that predictors compute in: float32, or the values' own if that is better."""
    return torch.promote_types(values.dtype, torch.float32)


@dataclass(frozen=True, eq=False)
class PackedRow:
    """The tokens that are present when a layer's predictor runs.

    Attributes:
        place: (T,) long, where each token stood in the padded input, counted over the whole batch. In a sequence
            these grow, and their differences are distances in the input, whatever was dropped in between.
        presence: (T,) weight of each token in soft removal, above 0 and at most 1, 1 for [CLS]. None: all tokens are
            there in full, as in hard removal.
    """

    segments: Segments
    place: Tensor
    presence: Tensor | None = None
    _found: dict[tuple[int, ...], Tensor] = field(default_factory=dict, init=False, repr=False)

    def select(self, kept: Tensor, segments: Segments) -> PackedRow:
        """The row of the tokens at `kept`, (n,) long, which lie in `segments`; it knows the same neighbours."""
        presence = None if self.presence is None else self.presence.index_select(0, kept)
        row = PackedRow(segments, self.place.index_select(0, kept), presence)
        if self._found:
            left = kept.shape[0]
            number = kept.new_full((self.place.shape[0] + 1,), left)  # of each token in the new row; of none: n
            number.index_copy_(0, kept, torch.arange(left, device=kept.device))
            for distances, found in self._found.items():
                row._found[distances] = number[found.index_select(0, kept)]  # (n, K); MPS has no take
        return row

    def weighted(self, values: Tensor) -> Tensor:
        """(T, ...) values times each token's presence."""
        if self.presence is None:
            return values
        return values * self.presence.to(values.dtype).view(-1, *(1,) * (values.dim() - 1))

    def neighbours(self, distances: Sequence[int]) -> Tensor:
        """(T, K) index of the token at each of K distances (below 0: before) in the same sequence of the input; T if
        there is none, or where it was dropped.

        A token at distance d of another is at most d tokens from it in the row, so few need to be looked at.
        """
        if tuple(distances) not in self._found:
            self._found[tuple(distances)] = self._search(distances)
        return self._found[tuple(distances)]

    def _search(self, distances: Sequence[int]) -> Tensor:
        count, reach = self.place.shape[0], max(abs(distance) for distance in distances)
        tokens = torch.arange(count, device=self.place.device)
        key = self.place + self.segments.owner * _APART  # (T,) equal differences within a sequence, large ones between
        steps = torch.arange(-reach, reach + 1, device=self.place.device)
        there = (tokens[:, None] + steps).clamp(min=0, max=count - 1)  # (T, 2 reach + 1) the tokens around each one
        # Column `middle + d` is for the token at distance d, and the outermost two for all that are too far.
        middle = reach + 1
        column = (key[there] - key[:, None]).clamp(min=-middle, max=middle) + middle  # (T, 2 reach + 1)
        nobody = torch.ones(count, 2 * middle + 1, dtype=there.dtype, device=there.device) * count
        found = nobody.scatter(1, column, there)  # (T, 2 reach + 3)
        return torch.stack([found[:, middle + distance] for distance in distances], dim=1)


def members(owner: Tensor, sequences: int) -> Tensor:
    """(B, T) bool: which tokens are a sequence's, from (T,) the sequence of each.

    For sums in an exported graph: onnxruntime adds to one place from several threads at a time (its ScatterND with a
    reduction), and some of what they add is lost.
    """
    return owner == torch.arange(sequences, device=owner.device)[:, None]


class Cost(NamedTuple):
    """FLOPs of a predictor's matrix products: for each token that it reads, and once for each sequence."""

    token: float
    sequence: float = 0.0


class Predictor(nn.Module, ABC):
    """Scores the tokens of a packed row; every layer has one of its own.

    It computes in float32 or better (use `ExactLinear`), because thresholds lie near 1/n. The softmax over a
    sequence's tokens comes after it, so a constant added to all scores changes nothing. What it says of a token must
    depend on the tokens of the same sequence only, on each by its presence, and not on padding.
    """

    name: str  # in the registry; set by @predictor

    def __init__(self, hidden_size: int, *, contribution_hidden_size: int = 32, activation: str = "gelu") -> None:
        super().__init__()

    @abstractmethod
    def reset_parameters(self) -> None:
        """Set all parameters to where training starts, with the functions of `transformers.initialization`."""

    @abstractmethod
    def forward(self, hidden: Tensor, row: PackedRow) -> Tensor:
        """Scores before the softmax: states (T, D) of the tokens of `row` -> (T,)."""

    @staticmethod
    @abstractmethod
    def cost(hidden_size: int, contribution_hidden_size: int) -> Cost:
        """FLOPs of one predictor of this size; one multiply-add is two."""


PREDICTORS = Registry[Predictor]("predictor")
predictor = PREDICTORS.entry  # decorator: registers a class under the name that `config.predictor` calls it by
predictor_class = PREDICTORS.get  # the class of a name


class ExactLinear(nn.Linear):
    """A dense layer that computes in float32 or better, whatever its weights are stored in and under autocast. It is no
    nn.Linear for `torch.ao.quantization.quantize_dynamic`, which goes by the type itself."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the input's precision, at least float32."""
        exact = exact_dtype(input)
        if torch.is_autocast_enabled(input.device.type):  # entering a context takes as long as a small product
            with torch.autocast(input.device.type, enabled=False):
                return self.forward(input)
        if self.weight.dtype == exact:  # as a rule; a conversion that changes nothing takes its time too
            return linear(input.to(exact), self.weight, self.bias)
        return linear(input.to(exact), self.weight.to(exact), None if self.bias is None else self.bias.to(exact))


@predictor("mlp")
class ContributionPredictor(Predictor):
    """Two-layer perceptron that scores each token from its hidden state (AdapLeR, section 3.1).

        score_i = w . act(W h_i + b) + c

    It starts at equal scores for all tokens (zero output weights), so an untrained model drops nothing.
    """

    def __init__(self, hidden_size: int, *, contribution_hidden_size: int = 32, activation: str = "gelu") -> None:
        super().__init__(hidden_size)
        self.dense = ExactLinear(hidden_size, contribution_hidden_size)
        self.activation = ACT2FN[activation]
        self.score = ExactLinear(contribution_hidden_size, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first layer's weights, set all others to 0 (transformers' functions spare loaded weights)."""
        init.xavier_uniform_(self.dense.weight)
        for parameter in (self.dense.bias, self.score.weight, self.score.bias):
            init.zeros_(parameter)

    def forward(self, hidden: Tensor, row: PackedRow | None = None) -> Tensor:
        """Scores before the softmax: (..., D) -> (...); nothing else of the row counts."""
        scores: Tensor = self.score(self.activation(self.dense(hidden)))  # (..., D) -> (..., H) -> (..., 1)
        return scores.squeeze(-1)

    @staticmethod
    def cost(hidden_size: int, contribution_hidden_size: int) -> Cost:
        return Cost(token=2 * (hidden_size * contribution_hidden_size + contribution_hidden_size))


NEIGHBOURS = (-2, -1, 1, 2)  # distances in the input; a convolution of width 5 together with the token itself


@predictor("contextual")
class ContextualPredictor(Predictor):
    """The perceptron of the paper, whose hidden units also get the mean of the present tokens and the near neighbours.

        u_i     = W h_i + b                                                      H units
        z_i     = u_i + M (sum_j m_j h_j / sum_j m_j) + sum_d C_d m_(i+d) u_(i+d)    d = -2, -1, 1, 2
        score_i = w . act(z_i) + c

    m is a token's presence: 1 where it is there in full, 0 where it was dropped or where the text ends, between them in
    soft removal. A neighbour is one in the input: tokens that were dropped leave a gap, and nobody moves into it. So
    soft removal has hard removal as its limit, and both are the same where nothing is dropped.

    M and C start at 0, where it is the paper's predictor. In layer 0 that one sees a word without its sentence.
    """

    def __init__(self, hidden_size: int, *, contribution_hidden_size: int = 32, activation: str = "gelu") -> None:
        super().__init__(hidden_size)
        units = contribution_hidden_size
        self.dense = ExactLinear(hidden_size, units)
        self.mean = ExactLinear(hidden_size, units, bias=False)
        self.near = ExactLinear(len(NEIGHBOURS) * units, units, bias=False)
        self.activation = ACT2FN[activation]
        self.score = ExactLinear(units, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first layer's weights, set all others to 0, those of the context too."""
        init.xavier_uniform_(self.dense.weight)
        for parameter in (self.dense.bias, self.mean.weight, self.near.weight, self.score.weight, self.score.bias):
            init.zeros_(parameter)

    def forward(self, hidden: Tensor, row: PackedRow) -> Tensor:
        """Scores before the softmax: (T, D) -> (T,)."""
        units, whole = self._read(hidden, row)  # (T, H), (B, H)
        # Where there is no neighbour, the index is that of a row of zeros.
        around = pad(row.weighted(units), (0, 0, 0, 1))  # (T + 1, H)
        near = row.neighbours(NEIGHBOURS)  # (T, K)
        # `index_select` takes rows in half the time of an index, and its gradient in a tenth of `embedding`'s.
        neighbours = around.index_select(0, near.flatten()).view(-1, near.shape[1] * around.shape[1])  # (T, K H)
        seen = units + row.segments.spread(whole) + self.near(neighbours)  # (T, H)
        return self.score(self.activation(seen)).squeeze(-1)  # (T,)

    def _read(self, hidden: Tensor, row: PackedRow) -> tuple[Tensor, Tensor]:
        """Projections of the states: u (T, H) of each token, and (B, H) of each text's mean.

        Each piece is converted once, and read twice while it is in the cache.
        """
        segments, presence, exact = row.segments, row.presence, exact_dtype(hidden)
        total = hidden.new_zeros(segments.lengths.shape[0], hidden.shape[1], dtype=exact)  # (B, D)
        count = segments.lengths if presence is None else segment_sum(presence, segments)  # (B,)
        rows = (hidden, segments.owner) if presence is None else (hidden, segments.owner, presence)
        units = []
        for states, owner, *weight in zip(*map(pieces, rows), strict=True):
            states = states.to(exact)  # (t, D)
            units.append(self.dense(states))
            states = states * weight[0].to(exact)[:, None] if weight else states
            if torch.compiler.is_exporting():
                total = total + members(owner, total.shape[0]).to(exact) @ states
            else:
                total.index_add_(0, owner, states)
        return joined(units), self.mean(total / count[:, None])

    @staticmethod
    def cost(hidden_size: int, contribution_hidden_size: int) -> Cost:
        alone = ContributionPredictor.cost(hidden_size, contribution_hidden_size)
        near = 2 * len(NEIGHBOURS) * contribution_hidden_size**2
        return Cost(token=alone.token + near, sequence=2 * hidden_size * contribution_hidden_size)
