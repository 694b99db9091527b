"""What every scoring method takes and gives, and the registry that finds it by name.

    B batch, N padded length, L encoder layers; layer 0 is the first

A method of one's own takes one decorator:

    @scoring_method("hidden_norm", paper="ours")
    def hidden_norm(model, batch):
        with as_found(model), torch.no_grad():
            states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states[:-1]
        norms = torch.stack([h.norm(dim=-1) for h in states], dim=1)   # (B, L, N)
        return LayerScores(normalise(norms, batch.attention_mask))

Keyword-only parameters with a default are the method's options: `get_method("integrated_gradients", n_steps=20)`
or, in one string, `get_method("integrated_gradients(n_steps=20)")`.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args, get_origin

import torch
from torch import Tensor

from adapler.errors import ArgumentError

NEEDS = ("attention", "gradient", "labels", "adapler")
READS = ("labels", "seed", "threshold_scale")  # what a method may read of a batch beside the model's input
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch:
    """Right-padded model inputs, with what a method may ask about them.

    ids              the B windows' ids
    input_ids        (B, N) long; position 0 is the classification token
    attention_mask   (B, N) long, 1 for real tokens
    token_type_ids   (B, N) long or None
    labels           (B,) long, the model's index of the gold class, or None
    special          (B, N) bool, tokens that are no part of the text ([CLS], [SEP], a query), or None: then
                     only the classification token is known to be one
    mask_token_id    what stands for a token that is taken out, or None: the model's padding token
    seed             seed of the methods that draw
    threshold_scale  multiplies every eta of an AdapLeR model
    """

    ids: tuple[str, ...]
    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    labels: Tensor | None = None
    special: Tensor | None = None
    mask_token_id: int | None = None
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

    def entropy(self, row: int) -> list[int]:
        """Seed words of one document: the batch's seed and the document's id, whatever else is in the batch."""
        digest = hashlib.sha256(self.ids[row].encode()).digest()
        return [self.seed, *(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4))]


@dataclass(frozen=True, eq=False)
class LayerScores:
    """scores (B, L', N) float32, 0 at padding; L' = L, or 1 for a method with a meaning at the input only.

    present: (B, L', N) bool, the tokens among which layer l's scores are shared out; None when that is every
        real token (for every method but `cp`, where a dropped token is not there any more and scores 0).
    signed: False: not negative, each layer sums to 1 over the real tokens. True: raw values of either sign;
        a selection at 1/n is then undefined, a ranking is not.
    diagnostics: name -> (B, L'), what the method says about its own result (e.g. a completeness gap).
    """

    scores: Tensor
    present: Tensor | None = None
    signed: bool = False
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


def normalise(values: Tensor, attention_mask: Tensor) -> Tensor:
    """Non-negative values (B, L, N) -> float32, 0 at padding, sum 1 over each layer's real tokens.

    A layer whose values are all 0 says nothing about any token: it becomes uniform.
    """
    mask = attention_mask[:, None, :].to(torch.float32)  # (B, 1, N)
    masked = values.to(torch.float32) * mask
    total = masked.sum(-1, keepdim=True)  # (B, L, 1)
    uniform = mask / mask.sum(-1, keepdim=True)
    return torch.where(total > 0, masked / total.clamp_min(torch.finfo(torch.float32).tiny), uniform)


ScoreFunction = Callable[..., LayerScores]
Option = bool | int | float | str


@dataclass(frozen=True)
class ScoringMethod:
    """A registered method; call it as `(model, batch)` and the result is checked.

    needs: any of "attention" (weights of an eager pass), "gradient", "labels" (gold classes in the batch),
        "adapler" (the model is the AdapLeR model, not the plain classifier).
    layerwise: whether it scores every layer, or the input only.
    cost: for people, per document.
    reads: which of READS its scores depend on. Scores on disk are found again by these, so that another seed does
        not drop scores that have nothing to do with it. A method that does not say has all of them.
    options: every option with its value; `defaults` are the values it has when none is asked for.
    """

    name: str
    function: ScoreFunction
    paper: str
    title: str
    needs: frozenset[str]
    layerwise: bool = True
    cost: str = "1 forward"
    reads: frozenset[str] = frozenset(READS)
    options: Mapping[str, Option] = field(default_factory=dict)
    defaults: Mapping[str, Option] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name, with the options that are not at their default: `integrated_gradients(n_steps=20)`."""
        changed = [f"{k}={v!r}" for k, v in sorted(self.options.items()) if v != self.defaults[k]]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    def with_options(self, **options: Any) -> ScoringMethod:
        """This method with other options; ArgumentError for one it does not have or a value not allowed."""
        changed = dict(self.options)
        for option, value in options.items():
            if option not in self.defaults:
                there = f"it has {', '.join(self.defaults)}" if self.defaults else "it has none"
                raise ArgumentError(f"method {self.name!r}: no option {option!r}; {there}")
            changed[option] = _checked_option(self, option, value)
        return replace(self, options=changed)

    def depends_on(self, name: str) -> bool:
        """Whether the scores depend on this one of READS, with these options."""
        gold = name == "labels" and "gold" in str(self.options.get("target", ""))
        return name in self.reads or gold

    def __call__(self, model: Any, batch: Batch) -> LayerScores:
        result = self.function(model, batch, **self.options)
        _check(self, result, model, batch)
        return result


_REGISTRY: dict[str, ScoringMethod] = {}


def scoring_method(
    name: str,
    *,
    paper: str,
    needs: Iterable[str] = (),
    title: str | None = None,
    layerwise: bool = True,
    cost: str = "1 forward",
    reads: Iterable[str] = READS,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register a function `(model, batch, *, options) -> LayerScores` under `name`.

    title: its name in figures; the other arguments are those of ScoringMethod.
    """
    needs, reads = _names("needs", needs, NEEDS), _names("reads", reads, READS)
    if name in _REGISTRY:
        raise ArgumentError(f"method {name!r} is registered already, by {_REGISTRY[name].function.__module__}")

    def register(function: ScoreFunction) -> ScoreFunction:
        defaults = {
            parameter.name: parameter.default
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        for option, value in defaults.items():
            if not isinstance(value, Option):
                raise ArgumentError(f"method {name!r}: option {option!r} needs a default that is a number or a string")
        _REGISTRY[name] = ScoringMethod(
            name, function, paper, title or name, needs, layerwise, cost, reads, defaults, defaults
        )
        return function

    return register


def _names(argument: str, given: Iterable[str], allowed: tuple[str, ...]) -> frozenset[str]:
    names = frozenset([given] if isinstance(given, str) else given)
    if unknown := names - set(allowed):
        raise ArgumentError(f"{argument}: got {sorted(unknown)}, allowed are {', '.join(allowed)}")
    return names


def method_names() -> tuple[str, ...]:
    """Every registered name, sorted."""
    return tuple(sorted(_REGISTRY))


def get_method(spec: str, **options: Any) -> ScoringMethod:
    """The method of that name, or `name(option=value, ...)`; ArgumentError lists the names there are."""
    name, written = (spec, {}) if spec in _REGISTRY else _parse(spec)
    if name not in _REGISTRY:
        raise ArgumentError(f"method {name!r} is not known; the registry has {', '.join(method_names())}")
    return _REGISTRY[name].with_options(**(written | options))


def _parse(spec: str) -> tuple[str, dict[str, Any]]:
    """`name(option=value)` -> its parts; values are literals, and a bare word is a string. Nothing is run."""
    wrong = ArgumentError(f"method {spec!r} must be NAME or NAME(OPTION=VALUE, ...) with plain values")
    if "(" not in spec:
        return spec, {}
    try:
        call = ast.parse(spec.strip(), mode="eval").body
    except SyntaxError:
        raise wrong from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise wrong
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in values:
            raise wrong
        try:
            bare = isinstance(keyword.value, ast.Name)
            values[keyword.arg] = keyword.value.id if bare else ast.literal_eval(keyword.value)  # type: ignore[attr-defined]
        except ValueError:
            raise wrong from None
    return call.func.id, values


def _checked_option(method: ScoringMethod, option: str, value: Any) -> Option:
    """`value` when it has the type of the default and is among the choices a Literal annotation names."""
    default = method.defaults[option]
    if type(default) is float and type(value) is int:
        value = float(value)
    where = f"method {method.name!r}: {option}"
    if type(value) is not type(default):
        raise ArgumentError(f"{where} got {value!r}, must be a {type(default).__name__} (default {default!r})")
    try:
        annotation = inspect.signature(method.function, eval_str=True).parameters[option].annotation
    except NameError:  # an annotation that cannot be resolved outside the function's own scope says nothing here
        annotation = None
    if get_origin(annotation) is Literal and value not in get_args(annotation):
        raise ArgumentError(f"{where} got {value!r}, allowed are {', '.join(map(str, get_args(annotation)))}")
    return value


def _check(method: ScoringMethod, result: LayerScores, model: Any, batch: Batch) -> None:
    name = method.name
    if not isinstance(result, LayerScores):
        raise ArgumentError(f"method {name!r}: must return LayerScores, got {type(result).__name__}")
    scores = result.scores
    n_batch, n_tokens = batch.attention_mask.shape
    layers = getattr(getattr(model, "config", None), "num_hidden_layers", None) if method.layerwise else 1
    if (
        scores.dim() != 3
        or (scores.shape[0], scores.shape[2]) != (n_batch, n_tokens)
        or layers not in (None, scores.shape[1])
    ):
        expected = "layers" if layers is None else f"layers {layers}"
        raise ArgumentError(
            f"method {name!r}: scores must be (batch {n_batch}, {expected}, tokens {n_tokens}), "
            f"got {tuple(scores.shape)}"
        )
    if not bool(torch.isfinite(scores).all()):
        where = batch.ids[int((~torch.isfinite(scores)).flatten(1).any(1).nonzero()[0])]
        raise ArgumentError(f"method {name!r}: a score of document {where} is NaN or infinite")
    if not result.signed and bool((scores < 0).any()):
        raise ArgumentError(f"method {name!r}: scores must not be negative, the lowest is {float(scores.min()):.3g}")
    if bool(((scores != 0) & (batch.attention_mask == 0)[:, None, :]).any()):
        raise ArgumentError(f"method {name!r}: scores at padding must be 0")
    for key, value in result.diagnostics.items():
        if value.shape != scores.shape[:2]:
            raise ArgumentError(
                f"method {name!r}: diagnostic {key!r} must be {tuple(scores.shape[:2])}, got {tuple(value.shape)}"
            )
    if result.signed:
        return
    sums = scores.sum(-1)
    if bool(((sums - 1).abs() > 1e-3).any()):
        raise ArgumentError(
            f"method {name!r}: each layer's scores must sum to 1 over the real tokens, "
            f"got sums from {float(sums.min()):.4g} to {float(sums.max()):.4g}"
        )
