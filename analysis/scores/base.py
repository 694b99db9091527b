"""What every scoring method takes and gives, and the registry that finds it by name.

    B batch, N padded length, L encoder layers; layer 0 is the first

A method of one's own takes one decorator:

    @scoring_method("hidden_norm", paper="ours")
    def hidden_norm(model, batch):
        with as_found(model), torch.no_grad():
            states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states[:-1]
        norms = torch.stack([h.norm(dim=-1) for h in states], dim=1)   # (B, L, N)
        return LayerScores(normalise(norms, batch.attention_mask))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapler.errors import ArgumentError

NEEDS = ("attention", "gradient", "labels", "adapler")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch:
    """Right-padded model inputs, with what a method may ask about them.

    ids              the B windows' ids
    input_ids        (B, N) long; position 0 is the classification token
    attention_mask   (B, N) long, 1 for real tokens
    token_type_ids   (B, N) long or None
    labels           (B,) long, the model's index of the gold class, or None
    seed             seed of the methods that draw
    threshold_scale  multiplies every eta of an AdapLeR model
    """

    ids: tuple[str, ...]
    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    labels: Tensor | None = None
    seed: int = 0
    threshold_scale: float = 1.0
    _memo: dict[tuple[int, str], Any] = field(default_factory=dict, repr=False)

    def model_inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for a classifier."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return inputs if self.token_type_ids is None else inputs | {"token_type_ids": self.token_type_ids}

    def gold(self) -> Tensor:
        """(B,) labels; ArgumentError when the batch has none."""
        if self.labels is None:
            raise ArgumentError("batch: a method that needs the gold labels got a batch without them")
        return self.labels

    def shared(self, model: Any, name: str, compute: Callable[[], T]) -> T:
        """`compute()` once per model and name for this batch: methods that need the same pass share it."""
        key = (id(model), name)
        if key not in self._memo:
            self._memo[key] = compute()
        value: T = self._memo[key]
        return value

    def has_shared(self, model: Any, name: str) -> bool:
        return (id(model), name) in self._memo


@dataclass(frozen=True, eq=False)
class LayerScores:
    """scores (B, L, N) float32: 0 at padding, each layer sums to 1 over the real tokens.

    present: (B, L, N) bool, the tokens among which layer l's scores are shared out; None when that is every
        real token
        (for every method but `cp`, where a dropped token is not there any more and scores 0).
    """

    scores: Tensor
    present: Tensor | None = None


def normalise(values: Tensor, attention_mask: Tensor) -> Tensor:
    """Non-negative values (B, L, N) -> float32, 0 at padding, sum 1 over each layer's real tokens.

    A layer whose values are all 0 says nothing about any token: it becomes uniform.
    """
    mask = attention_mask[:, None, :].to(torch.float32)  # (B, 1, N)
    masked = values.to(torch.float32) * mask
    total = masked.sum(-1, keepdim=True)  # (B, L, 1)
    uniform = mask / mask.sum(-1, keepdim=True)
    return torch.where(total > 0, masked / total.clamp_min(torch.finfo(torch.float32).tiny), uniform)


ScoreFunction = Callable[[Any, Batch], LayerScores]


@dataclass(frozen=True)
class ScoringMethod:
    """A registered method; call it as `(model, batch)` and the result is checked.

    needs: any of "attention" (weights of an eager pass), "gradient", "labels" (gold classes in the batch),
        "adapler" (the model is the AdapLeR model, not the plain classifier).
    """

    name: str
    function: ScoreFunction
    paper: str
    title: str
    needs: frozenset[str]

    def __call__(self, model: Any, batch: Batch) -> LayerScores:
        result = self.function(model, batch)
        _check(self.name, result, batch)
        return result


_REGISTRY: dict[str, ScoringMethod] = {}


def scoring_method(
    name: str, *, paper: str, needs: Iterable[str] = (), title: str | None = None
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register a function `(model, batch) -> LayerScores` under `name`; `title` is its name in figures."""
    needs = frozenset([needs] if isinstance(needs, str) else needs)
    if unknown := needs - set(NEEDS):
        raise ArgumentError(f"needs: got {sorted(unknown)}, allowed are {', '.join(NEEDS)}")
    if name in _REGISTRY:
        raise ArgumentError(f"method {name!r} is registered already, by {_REGISTRY[name].function.__module__}")

    def register(function: ScoreFunction) -> ScoreFunction:
        _REGISTRY[name] = ScoringMethod(name, function, paper, title or name, needs)
        return function

    return register


def method_names() -> tuple[str, ...]:
    """Every registered name, sorted."""
    return tuple(sorted(_REGISTRY))


def get_method(name: str) -> ScoringMethod:
    """The method of that name; ArgumentError lists the names there are."""
    if name not in _REGISTRY:
        raise ArgumentError(f"method {name!r} is not known; the registry has {', '.join(method_names())}")
    return _REGISTRY[name]


def _check(name: str, result: LayerScores, batch: Batch) -> None:
    scores = result.scores
    n_batch, n_tokens = batch.attention_mask.shape
    if scores.dim() != 3 or scores.shape[0] != n_batch or scores.shape[2] != n_tokens:
        raise ArgumentError(
            f"method {name!r}: scores must be (batch {n_batch}, layers, tokens {n_tokens}), got {tuple(scores.shape)}"
        )
    if not bool(torch.isfinite(scores).all()):
        where = batch.ids[int((~torch.isfinite(scores)).flatten(1).any(1).nonzero()[0])]
        raise ArgumentError(f"method {name!r}: a score of document {where} is NaN or infinite")
    if bool((scores < 0).any()):
        raise ArgumentError(f"method {name!r}: scores must not be negative, the lowest is {float(scores.min()):.3g}")
    if bool(((scores != 0) & (batch.attention_mask == 0)[:, None, :]).any()):
        raise ArgumentError(f"method {name!r}: scores at padding must be 0")
    sums = scores.sum(-1)
    if bool(((sums - 1).abs() > 1e-3).any()):
        raise ArgumentError(
            f"method {name!r}: each layer's scores must sum to 1 over the real tokens, "
            f"got sums from {float(sums.min()):.4g} to {float(sums.max()):.4g}"
        )
