"""Scoring methods by name; options in a name; a function of one's own as a method.

A method of one's own is a function `(model, batch)`. It can be given wherever a method's name can:

    def hidden_norm(model, batch):
        states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states[:-1]
        return torch.stack([state.norm(dim=-1) for state in states], dim=1)   # (B, L, N)

    rationale_eval.evaluate(methods=["saliency", hidden_norm])
    explain(text, methods=[lambda model, batch: -np.log(frequency[batch.input_ids.numpy()])])

It returns a tensor, an array or a list: a score a layer and token (B, L, N), a score a token (B, N) or (B, 1, N), or
(N,): then it is asked one text at a time. Padding is ignored. Scores without a negative one are divided by their sum
over the text, so that they can be selected at 1/n; scores with a sign are taken as they are. `LayerScores` say more.

With the decorator it gets a name and options, and its docstring is its page:

    @scoring_method("hidden_norm")
    def hidden_norm(model, batch, *, order: int = 2): ...

Keyword-only parameters with a default are the method's options: `get_method("hidden_norm", order=1)` or, in one
string, `get_method("hidden_norm(order=1)")`. `order: Annotated[int, AtLeast(1)] = 2` refuses what is below 1.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

from adapler.backbones.decomposition import evaluating
from adapler.backbones.targets import GOLD, PREDICTED, needs_labels
from adapler.errors import ArgumentError
from adapler.registry import load_plugins
from analysis.scores.base import Batch, LayerScores, normalise

NEEDS = ("attention", "gradient", "labels", "adapler")
READS = ("labels", "seed", "threshold_scale")  # what a method may read of a batch beside the model's input
SECTIONS = ("Formula", "Layer", "Cost", "Misleads", "Reference")  # of a method's docstring
IN_LAYER, TO_OUTPUT, FROM_INPUT, AT_INPUT = SCOPES = (
    "in the layer",
    "from the layer to the output",
    "from the input to the layer",
    "at the input",
)
NOT_STATED = "not stated"  # scope and cost of a method of one's own that does not say

Option = bool | int | float | str
ScoreFunction = Callable[..., Any]


@dataclass(frozen=True)
class AtLeast:
    """The lowest value of an option, in its annotation: `n_samples: Annotated[int, AtLeast(2)] = 50`."""

    value: float


@dataclass(frozen=True)
class ScoringMethod:
    """A scoring method; call it as `(model, batch)` and the result is checked.

    needs: any of NEEDS: "attention" (weights of an eager pass), "gradient", "labels" (gold classes in the batch),
        "adapler" (the model is the AdapLeR model, not the plain classifier).
    reads: which of READS its scores depend on. Saved scores are found again by these, so that another seed does not
        drop scores that have nothing to do with it. A method that does not say has all of them.
    options: every option with its value; `defaults` are the values it has when none is asked for.
    stated: title, of a method whose docstring does not say it.
    """

    name: str
    function: ScoreFunction
    needs: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset(READS)
    options: Mapping[str, Option] = field(default_factory=dict)
    defaults: Mapping[str, Option] = field(default_factory=dict)
    stated: str | None = None

    @property
    def key(self) -> str:
        """The name, with the options that are not at their default: `integrated_gradients(n_steps=20)`."""
        changed = [f"{k}={v!r}" for k, v in sorted(self.options.items()) if v != self.defaults[k]]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @cached_property
    def description(self) -> dict[str, str]:
        """The docstring's parts: "Summary", and one for each of SECTIONS."""
        text = inspect.getdoc(self.function) or ""
        parts = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.MULTILINE)
        return {"Summary": parts[0].strip()} | {
            name: inspect.cleandoc(body).strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)
        }

    @property
    def title(self) -> str:
        """In tables and figures: what stands before the colon in the docstring's first line."""
        head, colon, _ = self.description["Summary"].partition(": ")
        return self.stated or (head if colon and "Formula" in self.description else self.name)

    @property
    def cost(self) -> str:
        """Passes of a document: the beginning of "Cost:", down to a comma, colon, bracket or full stop."""
        return re.split(r"[,.:(]", self.description.get("Cost", NOT_STATED))[0].strip()

    @property
    def paper(self) -> str:
        """The first address in "Reference:"."""
        found = re.search(r"https?://\S+[^\s.,;)]", self.description.get("Reference", ""))
        return found.group() if found else "none"

    @property
    def scope(self) -> str:
        """What one layer's score means, one of SCOPES: the beginning of "Layer:".

        "in the layer": what this layer alone does with the token. "from the layer to the output": what the token's
        state that enters this layer weighs in the output. "from the input to the layer": what the input token weighs
        in what this layer gives out. "at the input": there is one score a token, not one a layer.
        """
        said = self.description.get("Layer", "")
        return next((scope for scope in SCOPES if said.startswith(scope)), NOT_STATED)

    @property
    def layerwise(self) -> bool | None:
        """Whether it scores every layer, or the input only; None: known when it has run."""
        return None if self.scope == NOT_STATED else self.scope != AT_INPUT

    @property
    def has_target(self) -> bool:
        """Whether its option `target` is a class: one of that name of a method of one's own may mean something else."""
        return self.defaults.get("target") in (PREDICTED, GOLD)

    @property
    def needs_labels(self) -> bool:
        """Whether the batch must have gold labels, with these options."""
        return "labels" in self.needs or needs_labels(self.options.get("target"))

    def depends_on(self, name: str) -> bool:
        """Whether the scores depend on this one of READS, with these options."""
        return name in self.reads or (name == "labels" and self.needs_labels)

    def with_options(self, **options: Any) -> ScoringMethod:
        """This method with other options; ArgumentError for one it does not have or a value not allowed."""
        changed = dict(self.options)
        for option, value in options.items():
            if option not in self.defaults:
                there = f"it has {', '.join(self.defaults)}" if self.defaults else "it has none"
                raise ArgumentError(f"method {self.name!r}: no option {option!r}; {there}")
            changed[option] = _checked_option(self.name, self.function, option, value, default=self.defaults[option])
        return replace(self, options=changed)

    def __call__(self, model: Any, batch: Batch) -> LayerScores:
        """Scores of a batch, on the batch's device; the model is left as found.

        Raises ArgumentError for a model or batch that the method cannot use, and for scores that are none.
        """
        self._check_needs(model, batch)
        device, home = _device_of(model), batch.input_ids.device
        if device not in (None, home):  # kept with the batch, so that methods go on sharing their passes
            memo = batch.memo(None)
            memo[f"on {device}"] = batch = memo.get(f"on {device}") or batch.to(device)
        with evaluating(model):
            result = self.function(model, batch, **self.options)
            if not isinstance(result, LayerScores):
                result = self._own_scores(model, batch, result)
        self._check_scores(result, model, batch)
        return replace(
            result,
            scores=result.scores.to(home),
            present=None if result.present is None else result.present.to(home),
            diagnostics={name: values.to(home) for name, values in result.diagnostics.items()},
        )

    def _check_needs(self, model: Any, batch: Batch) -> None:
        reduces = hasattr(model, "removal_policy")
        if "adapler" in self.needs and not reduces:
            raise ArgumentError(f"method {self.name!r}: needs an AdapLeR model, got {type(model).__name__}")
        if reduces and self.needs & {"attention", "gradient"}:
            raise ArgumentError(f"method {self.name!r}: needs the plain classifier; give it model.backbone")
        if "gradient" in self.needs and isinstance(model, torch.nn.Module):
            int8 = [n for n, one in model.named_modules() if type(one).__module__.startswith("torch.ao.nn.quantized")]
            if int8:
                raise ArgumentError(f"method {self.name!r}: no gradient goes through the model's int8 layer {int8[0]}")
        if self.needs_labels and batch.labels is None:
            raise ArgumentError(f"method {self.name!r}: needs the gold labels, and the batch has none")

    def _own_scores(self, model: Any, batch: Batch, result: Any) -> LayerScores:
        """A tensor, array or list of one of the shapes that the module names as LayerScores."""
        n_batch, n_tokens = batch.attention_mask.shape
        values = _as_tensor(result)
        if values is not None and values.dim() == 1 and n_batch > 1:  # it knows one text only
            rows = [_as_tensor(self.function(model, one, **self.options)) for one in batch.singles()]
            if all(row is not None and row.dim() == 1 for row in rows):
                lengths = batch.attention_mask.sum(-1).tolist()
                if [len(row) for row in rows if row is not None] == lengths:
                    padded = [torch.nn.functional.pad(row, (0, n_tokens - len(row))) for row in rows if row is not None]
                    values = torch.stack(padded)
        if values is not None and values.dim() == 1 and n_batch == 1:
            values = values[None]
        if values is not None and values.dim() == 2:
            values = values[:, None]
        if values is None or values.dim() != 3 or (values.shape[0], values.shape[2]) != (n_batch, n_tokens):
            got = type(result).__name__ if values is None else tuple(_as_tensor(result).shape)  # type: ignore[union-attr]
            raise ArgumentError(
                f"method {self.name!r}: must return numbers of shape (tokens {n_tokens},), (texts {n_batch}, tokens), "
                f"(texts, 1, tokens) or (texts, layers, tokens), got {got}"
            )
        mask = batch.attention_mask.to(values.device)
        values = values.float().masked_fill(~mask.bool()[:, None], 0)
        if bool((values < 0).any()):
            return LayerScores(values, signed=True)
        return LayerScores(normalise(values, mask) if bool(torch.isfinite(values).all()) else values)

    def _check_scores(self, result: LayerScores, model: Any, batch: Batch) -> None:
        """Raises ArgumentError for scores of another shape, that are not numbers, negative, or no shares."""
        scores, where = result.scores, f"method {self.name!r}:"
        n_batch, n_tokens = batch.attention_mask.shape
        n_layers = getattr(getattr(model, "config", None), "num_hidden_layers", None)
        allowed = {None: (1, n_layers), True: (n_layers,), False: (1,)}[self.layerwise]
        fits = scores.dim() == 3 and (scores.shape[0], scores.shape[2]) == (n_batch, n_tokens)
        if not fits or (scores.shape[1] not in allowed and None not in allowed):
            layers = " or ".join(map(str, allowed))
            raise ArgumentError(
                f"{where} scores must be (texts {n_batch}, layers {layers}, tokens {n_tokens}), "
                f"got {tuple(scores.shape)}"
            )
        if not bool(torch.isfinite(scores).all()):
            row = int((~torch.isfinite(scores)).flatten(1).any(1).nonzero()[0])
            raise ArgumentError(f"{where} a score of document {batch.ids[row]} is NaN or infinite")
        padding = (batch.attention_mask == 0)[:, None, :].to(scores.device)
        if bool(((scores != 0) & padding).any()):
            raise ArgumentError(f"{where} scores at padding must be 0")
        if (present := result.present) is not None and (
            present.shape != scores.shape
            or present.dtype != torch.bool
            or bool((present & padding).any())
            or bool((scores.masked_fill(present, 0) != 0).any())
        ):
            raise ArgumentError(f"{where} present must be bool {tuple(scores.shape)}, and tokens not present score 0")
        if not result.signed:
            sums = scores.sum(-1)
            if bool((scores < 0).any()) or bool((((sums - 1).abs() > 1e-3) & (sums != 0)).any()):
                found = f"lowest {float(scores.min()):.3g}, sums {float(sums.min()):.4g} to {float(sums.max()):.4g}"
                raise ArgumentError(
                    f"{where} unsigned scores must not be negative, and sum to 1 over the real tokens or be 0: {found}"
                )


_REGISTRY: dict[str, ScoringMethod] = {}
MethodSpec = str | ScoringMethod | ScoreFunction


def scoring_method(
    name: str, *, needs: Iterable[str] = (), reads: Iterable[str] = READS, title: str | None = None
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register a function `(model, batch, *, options)` under `name`; the arguments are those of ScoringMethod.

    Title, scope, cost and paper are read from the docstring. A method that is defined once more, in a notebook or by
    a reloaded module, takes the place of the old one, with a warning. Raises ArgumentError for a name that another
    method has, and for arguments that are not allowed.
    """
    sets = {}
    for argument, given, allowed in (("needs", needs, NEEDS), ("reads", reads, READS)):
        sets[argument] = frozenset([given] if isinstance(given, str) else given)
        if unknown := sets[argument] - set(allowed):
            raise ArgumentError(f"{argument}: got {sorted(unknown)}, allowed are {', '.join(allowed)}")

    def register(function: ScoreFunction) -> ScoreFunction:
        old = _REGISTRY.get(name)
        if old is not None:
            mine, theirs = (
                (getattr(one, "__module__", ""), getattr(one, "__qualname__", "")) for one in (function, old.function)
            )
            if not (mine == theirs or mine[0] == theirs[0] == "__main__"):
                raise ArgumentError(f"method {name!r} is registered already, by {theirs[0]}; choose another name")
            warnings.warn(f"method {name!r} was registered before and is replaced", UserWarning, stacklevel=2)
        defaults = _defaults(name, function)
        _REGISTRY[name] = ScoringMethod(name, function, **sets, options=defaults, defaults=defaults, stated=title)
        return function

    return register


def register_variant(name: str, of: str, *, title: str, **options: Any) -> None:
    """Register a second name for a method with other options, which are the variant's defaults."""
    method = _REGISTRY[of].with_options(**options)
    more = frozenset({"labels"} if method.needs_labels else ())
    _REGISTRY[name] = replace(
        method,
        name=name,
        stated=title,
        needs=method.needs | more,
        reads=method.reads | more,
        defaults=method.options,
    )


def method_names() -> tuple[str, ...]:
    """Every registered name, sorted."""
    return tuple(sorted(_REGISTRY))


def get_method(spec: MethodSpec, **options: Any) -> ScoringMethod:
    """The method of that name, or `name(option=value, ...)`, or a function `(model, batch)` as a method.

    Raises ArgumentError for an unknown name (it lists the names there are), for an option or value that is not
    allowed, and for a function that has the name of another method.
    """
    if isinstance(spec, ScoringMethod):
        return spec.with_options(**options)
    if not isinstance(spec, str):
        return _from_function(spec).with_options(**options)
    name, written = (spec, {}) if spec in _REGISTRY else parse_spec(spec)
    if name not in _REGISTRY:
        load_plugins()
    if name not in _REGISTRY:
        raise ArgumentError(f"method {name!r} is not known; the registry has {', '.join(method_names())}")
    return _REGISTRY[name].with_options(**(written | options))


def get_methods(specs: Sequence[MethodSpec]) -> list[ScoringMethod]:
    """Several methods, each once, in order. Raises ArgumentError for two different functions of one name."""
    found: dict[str, ScoringMethod] = {}
    for method in map(get_method, specs):
        if method.key in found and found[method.key] != method:
            raise ArgumentError(f"methods: two functions are named {method.key!r}; rename one")
        found[method.key] = method
    return list(found.values())


_SPEC = re.compile(r"\s*([\w.-]+)\s*\((.*)\)\s*", re.DOTALL)
_ITEM = re.compile(r"""\s*([A-Za-z_]\w*)\s*=\s*('[^']*'|"[^"]*"|[^'"(),=\[\]{}*]+?)\s*(?:,|$)""")


def parse_spec(spec: str) -> tuple[str, dict[str, Option]]:
    """`name(option=value)` -> its parts. Values are numbers, True or False, quoted strings or words.

    Nothing is run.

    >>> parse_spec("saliency(target=contrast:NEG)")
    ('saliency', {'target': 'contrast:NEG'})

    Raises ArgumentError for anything else.
    """
    wrong = ArgumentError(f"method {spec!r} must be NAME or NAME(OPTION=VALUE, ...) with plain values")
    if "(" not in spec:
        return spec.strip(), {}
    whole = _SPEC.fullmatch(spec)
    if whole is None:
        raise wrong
    name, rest = whole.groups()
    values: dict[str, Option] = {}
    while rest.strip():
        item = _ITEM.match(rest)
        if item is None or item[1] in values:
            raise wrong
        try:
            value = ast.literal_eval(item[2])
        except (ValueError, SyntaxError):
            value = item[2]
        values[item[1]] = value if isinstance(value, Option) else item[2]
        rest = rest[item.end() :]
    return name, values


def _from_function(function: Any) -> ScoringMethod:
    if not callable(function):
        raise ArgumentError(
            f"method: got {type(function).__name__}, must be a name, a function (model, batch) or a ScoringMethod"
        )
    registered = next((one for one in _REGISTRY.values() if one.function is function), None)
    if registered is not None:
        return registered
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    if name in _REGISTRY:
        raise ArgumentError(f"method: the function {name!r} is named like a registered method; rename it")
    defaults = _defaults(name, function)
    return ScoringMethod(name, function, options=defaults, defaults=defaults)


def _defaults(name: str, function: ScoreFunction) -> dict[str, Option]:
    """The keyword-only parameters of a function with their defaults."""
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option, value in defaults.items():
        if not isinstance(value, Option):
            raise ArgumentError(f"method {name!r}: option {option!r} needs a default that is a number or a string")
    return defaults


def _checked_option(method: str, function: ScoreFunction, option: str, value: Any, *, default: Option) -> Option:
    """`value` when the option's annotation (or, without one, the type of its default) allows it.

    Raises ArgumentError with what is allowed: types and words, or the lowest value (see AtLeast).
    """
    try:
        annotation = inspect.signature(function, eval_str=True).parameters[option].annotation
    except NameError:  # an annotation that cannot be resolved outside the function's own scope says nothing here
        annotation = inspect.Parameter.empty
    types, words, lowest = _allowed(annotation)
    types = types or ([] if words else [type(default)])
    if any(type(one) is type(value) and one == value for one in words):
        return value  # type: ignore[no-any-return]
    fitting = next((one for one in types if type(value) is one or (one is float and type(value) is int)), None)
    where = f"method {method!r}: {option} got {value!r}"
    if fitting is None:
        names = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}
        choices = [*(names[one] for one in types), *map(repr, words)]
        raise ArgumentError(f"{where}, must be {' or '.join(choices)} (default {default!r})")
    found: Option = fitting(value)
    if isinstance(found, float) and not math.isfinite(found):
        raise ArgumentError(f"{where}, must be a finite number")
    if lowest is not None and not isinstance(found, str) and found < lowest:
        raise ArgumentError(f"{where}, must be at least {lowest:g}")
    return found


def _allowed(annotation: Any) -> tuple[list[Any], list[Any], float | None]:
    """The plain types, the words and the lowest number that an annotation allows."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        types, words, _ = _allowed(parts[0])
        return types, words, next((one.value for one in parts[1:] if isinstance(one, AtLeast)), None)
    if origin in (Union, UnionType):
        found = [_allowed(one) for one in parts]
        lowest = next((one for *_, one in found if one is not None), None)
        return [t for types, *_ in found for t in types], [w for _, words, _ in found for w in words], lowest
    if origin is Literal:
        return [], list(parts), None
    return ([annotation] if annotation in (bool, int, float, str) else []), [], None


def _as_tensor(result: Any) -> Tensor | None:
    """Numbers as a tensor; lists of tensors, arrays or numbers too; None for anything else."""
    if isinstance(result, Tensor):
        return result.detach()
    if isinstance(result, list | tuple) and result and all(isinstance(one, Tensor) for one in result):
        same = len({one.shape for one in result}) == 1
        return torch.stack(list(result)).detach() if same else None
    try:
        array = np.asarray(result)
    except ValueError:  # rows of different lengths
        return None
    return torch.from_numpy(array.astype(np.float64)) if array.dtype.kind in "biuf" else None


def _device_of(model: Any) -> torch.device | None:
    """Where the inputs of a model have to be; None for a model without weights."""
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    weights = next(embeddings.parameters(), None) if isinstance(embeddings, torch.nn.Module) else None
    if weights is None and isinstance(model, torch.nn.Module):
        weights = next(model.parameters(), None)
    return None if weights is None else weights.device
