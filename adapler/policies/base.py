"""What a removal policy is: it scores the tokens of a packed row and says how high a score has to be.

A policy of one's own is a subclass of `Policy` with the decorator `@policy("name")`, imported before a model that uses
it is built or loaded. CONTRIBUTING.md shows one.

Dimensions: B sequences, T tokens of a packed row, D hidden size, L layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor, nn

from adapler.backbones.received import Reads, Received
from adapler.contribution import retention
from adapler.errors import ArgumentError
from adapler.predictors import Cost, PackedRow
from adapler.registry import Registry

Place = Literal["before", "between"]
Fades = Literal["attention", "feed_forward", "output"]


@dataclass(frozen=True)
class LayerView:
    """What a policy sees when it decides in a layer.

    Attributes:
        index: of the layer, from 0.
        hidden: (T, D) the tokens' states: at the layer's input, or after its attention for a policy "between".
        row: where the sequences begin and end, and where their tokens stood in the input.
        received: the attention that each token got in this layer, as far as the policy reads it; None for a policy
            that decides before it.
    """

    index: int
    hidden: Tensor
    row: PackedRow
    received: Received | None = None

    @property
    def attention(self) -> Received:
        """The attention that each token got.

        Raises:
            ArgumentError: the policy decides before the layer.
        """
        if self.received is None:
            raise ArgumentError('policy: attention is known only to a policy with place = "between"')
        return self.received


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Of a policy that has none."""


class Policy(nn.Module, ABC):
    """Which tokens a layer drops: those whose score is below a bar. [CLS] always stays.

    What it says of a token may depend on the tokens of the same sequence only, and not on padding, on the other
    sequences of a batch, or on their order. Scores and bars are in float32 or better (use `ExactLinear`).

    Attributes:
        name: in the registry; set by @policy.
        place: "before" a layer's attention, or "between" its attention and its feed-forward network. A policy
            "between" does nothing in the last layer, which runs for [CLS] only.
        reads: what a policy "between" reads of its layer's attention: "all" that each token received, "cls" for what
            [CLS] gives, or "nothing". Weights that it does not read are not computed: fused kernels hold none.
        fades: what a token's gate multiplies in soft training (`gate`): its weight in the attention of others, with its
            state carried past the layer; the input of the feed-forward network; or the layer's output.
        last_scale: the threshold scale at which its bar is the highest score there can be, so that hardly a token
            stays: 2 for a probability that has to reach half the scale; infinite where scores have no such end.
        Options: numbers of the policy, a frozen dataclass with defaults; `config.policy_options` holds them.
        options: those of this model.

    Args:
        config: the AdapLeRConfig.
    """

    name: ClassVar[str]
    place: ClassVar[Place] = "before"
    reads: ClassVar[Reads] = "all"
    fades: ClassVar[Fades] = "attention"
    last_scale: ClassVar[float] = math.inf
    Options: ClassVar[type] = NoOptions

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.options: Any = options_of(type(self), config.policy_options)

    def reset_parameters(self) -> None:
        """Set all parameters to where training starts, with the functions of `transformers.initialization`."""

    @classmethod
    def decides(cls, index: int, *, layers: int) -> bool:
        """Whether it may drop tokens in a layer; default: in every one that `place` allows."""
        return cls.place == "before" or index < layers - 1

    @abstractmethod
    def score(self, view: LayerView) -> Tensor:
        """(T,) scores; higher ones stay."""

    @abstractmethod
    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """The lowest score that stays.

        Args:
            view: the layer.
            scores: (T,).
            scale: above 0 (at 0 nothing is dropped, and this is not called); below 1 the bar is lower and more tokens
                stay, above 1 it is higher.

        Returns:
            (B,) a bar for each sequence.
        """

    def gate(self, view: LayerView, scores: Tensor) -> Tensor:
        """(T,) in [0, 1], differentiable: how much of each token is there after the decision, in soft training.

        Raises:
            ArgumentError: a policy without soft training.
        """
        raise ArgumentError(f"policy: {self.name!r} has no soft removal; it trains with tokens really removed")

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        """FLOPs of the scores of one layer beyond what the layer computes anyway; default: none."""
        return Cost(token=0.0)


Made = TypeVar("Made", bound=type[Policy])
POLICIES = Registry[Policy]("policy")


def policy(name: str) -> Callable[[Made], Made]:
    """Registers a policy class under the name that `config.policy` and `--policy` call it by.

    Raises:
        ArgumentError: the name is taken, see `Registry.entry`.
    """
    return POLICIES.entry(name)


def policy_names() -> list[str]:
    """The names of all policies that are registered."""
    return POLICIES.names()


def policy_class(name: str, *, others: Iterable[str] = ()) -> type[Policy]:
    """The policy of a name; arguments and errors as of `Registry.get`."""
    return POLICIES.get(name, others=others)


def options_of(kind: type[Policy], values: dict[str, Any] | None) -> Any:
    """The `Options` of a policy, from a configuration's dictionary.

    Raises:
        ArgumentError: a name that the policy does not have, or a value that its Options refuse.
    """
    known = [one.name for one in fields(kind.Options)]
    for name in values or {}:
        if name not in known:
            raise ArgumentError(
                f"policy_options: {name!r} is none of policy {kind.name!r}; it has {', '.join(known) or 'none'}"
            )
    return kind.Options(**(values or {}))


def stays(scores: Tensor, bar: Tensor, *, row: PackedRow) -> Tensor:
    """Hard removal: which tokens stay, (T,) bool.

    Args:
        scores: (T,).
        bar: (B,).
        row: of the tokens.
    """
    reached = retention(scores, row.segments.spread(bar))
    return reached.index_fill_(0, row.segments.first, True)
