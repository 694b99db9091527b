"""The Contribution Predictors that a model can have, by name.

A predictor of one's own is a subclass of `Predictor` with the decorator `@predictor("name")`, imported before a model
that uses it is built or loaded. CONTRIBUTING.md shows one.

Dimensions: T tokens of a packed row, D hidden size, H hidden units of a predictor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from adapler.model.predictors.row import PackedRow
from adapler.registry import Registry


class Cost(NamedTuple):
    """FLOPs of a predictor's matrix products: for each token that it reads, and once for each sequence."""

    token: float
    sequence: float = 0.0


class Predictor(nn.Module, ABC):
    """Scores the tokens of a packed row; every layer has one of its own.

    It computes in float32 or better (use `ExactLinear`), because thresholds lie near 1/n. The softmax over a
    sequence's tokens comes after it, so a constant added to all scores changes nothing. What it says of a token must
    depend on the tokens of the same sequence only, on each by its presence, and not on padding.

    Args:
        hidden_size: D.
        contribution_hidden_size: H.
        activation: name of the backbone's activation.
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


Made = TypeVar("Made", bound=type[Predictor])
PREDICTORS = Registry[Predictor]("predictor")


def predictor(name: str) -> Callable[[Made], Made]:
    """Registers a predictor class under the name that `config.predictor` and `--predictor` call it by.

    Raises:
        ArgumentError: the name is taken, see `Registry.entry`.
    """
    return PREDICTORS.entry(name)


def predictor_names() -> list[str]:
    """The names of all predictors that are registered."""
    return PREDICTORS.names()


def predictor_class(name: str) -> type[Predictor]:
    """The predictor of a name.

    Raises:
        ArgumentError: none has this name; says which there are.
    """
    return PREDICTORS.get(name)
