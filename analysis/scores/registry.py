"""The registry that finds scoring methods by name, and what is said about each of them.

A method of one's own is a function from a model and a `Batch` to a tensor (B, L, N) of values that are not negative,
or to `LayerScores`. It can be given wherever a method's name can:

    def hidden_norm(model, batch):
        states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states[:-1]
        return torch.stack([state.norm(dim=-1) for state in states], dim=1)   # (B, L, N)

    rationale_eval.evaluate(methods=["saliency", hidden_norm])

With the decorator it gets a name, options and a place on the command line's list:

    @scoring_method("hidden_norm", paper="ours", scope="in the layer")
    def hidden_norm(model, batch, *, order: int = 2): ...

Keyword-only parameters with a default are the method's options: `get_method("hidden_norm", order=1)` or, in one
string, `get_method("hidden_norm(order=1)")`. `order: Annotated[int, AtLeast(1)] = 2` refuses what is below 1.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapler.backbones.attribution.modes import evaluating
from adapler.backbones.targets import GOLD, PREDICTED, needs_labels
from adapler.errors import ArgumentError
from adapler.registry import load_plugins
from analysis.scores.base import READS, Batch, LayerScores
from analysis.scores.checks import as_layer_scores, check_needs, check_scores, on_device_of
from analysis.scores.specs import Option, check_option, parse_spec

NEEDS = ("attention", "gradient", "labels", "adapler")
IN_LAYER, TO_OUTPUT, FROM_INPUT, AT_INPUT = SCOPES = (
    "in the layer",
    "from the layer to the output",
    "from the input to the layer",
    "at the input",
)
NOT_STATED = "not stated"  # the scope of a method of one's own that does not say

ScoreFunction = Callable[..., Any]


@dataclass(frozen=True)
class ScoringMethod:
    """A scoring method; call it as `(model, batch)` and the result is checked.

    name, title: in the registry and in figures; paper: its address.
    needs: any of NEEDS: "attention" (weights of an eager pass), "gradient", "labels" (gold classes in the batch),
        "adapler" (the model is the AdapLeR model, not the plain classifier).
    scope: what one layer's score means, one of SCOPES. "in the layer": what this layer alone does with the token.
        "from the layer to the output": what the token's state that enters this layer weighs in the output. "from the
        input to the layer": what the input token weighs in what this layer gives out. "at the input": there is one
        score a token, not one a layer.
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
    needs: frozenset[str] = frozenset()
    layerwise: bool = True
    cost: str = "1 forward"
    reads: frozenset[str] = frozenset(READS)
    options: Mapping[str, Option] = field(default_factory=dict)
    defaults: Mapping[str, Option] = field(default_factory=dict)
    scope: str = NOT_STATED

    @property
    def key(self) -> str:
        """The name, with the options that are not at their default: `integrated_gradients(n_steps=20)`."""
        changed = [f"{k}={v!r}" for k, v in sorted(self.options.items()) if v != self.defaults[k]]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @property
    def description(self) -> dict[str, str]:
        """The docstring's parts: "Summary", and what stands behind "Formula:", "Layer:", "Cost:", "Misleads:" and
        "Reference:"."""
        text = inspect.getdoc(self.function) or ""
        parts = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.MULTILINE)
        return {"Summary": parts[0].strip()} | {
            name: inspect.cleandoc(body).strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)
        }

    @property
    def has_target(self) -> bool:
        """Whether its option `target` is a class: one of that name of a method of one's own may mean something else."""
        return self.defaults.get("target") in (PREDICTED, GOLD)

    def with_options(self, **options: Any) -> ScoringMethod:
        """This method with other options; ArgumentError for one it does not have or a value not allowed."""
        changed = dict(self.options)
        for option, value in options.items():
            if option not in self.defaults:
                there = f"it has {', '.join(self.defaults)}" if self.defaults else "it has none"
                raise ArgumentError(f"method {self.name!r}: no option {option!r}; {there}")
            changed[option] = check_option(self.name, self.function, option, value, default=self.defaults[option])
        return replace(self, options=changed)

    def depends_on(self, name: str) -> bool:
        """Whether the scores depend on this one of READS, with these options."""
        return name in self.reads or (name == "labels" and self.needs_labels)

    @property
    def needs_labels(self) -> bool:
        """Whether the batch must have gold labels, with these options."""
        return "labels" in self.needs or needs_labels(self.options.get("target"))

    def __call__(self, model: Any, batch: Batch) -> LayerScores:
        """Scores of a batch, on the batch's device; the model is left as found.

        Raises ArgumentError for a batch or model that the method cannot use, and for scores that are none.
        """
        check_needs(self.name, self.needs, self.needs_labels, model, batch)
        with on_device_of(model, batch) as (ready, home):
            with evaluating(model):
                result = as_layer_scores(self.name, self.function(model, ready, **self.options), ready)
            check_scores(self.name, self.layerwise, result, model, ready)
            return home(result)


SECTIONS = ("Formula", "Layer", "Cost", "Misleads", "Reference")  # of the docstrings of our own methods
MethodSpec = str | ScoringMethod | ScoreFunction
_REGISTRY: dict[str, ScoringMethod] = {}


def scoring_method(
    name: str,
    *,
    paper: str,
    needs: Iterable[str] = (),
    title: str | None = None,
    layerwise: bool | None = None,
    cost: str = "1 forward",
    reads: Iterable[str] = READS,
    scope: str = NOT_STATED,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register a function `(model, batch, *, options)` under `name`; the arguments are those of ScoringMethod.

    A method that is defined once more, in a notebook or by a reloaded module, takes the place of the old one, with a
    warning. Raises ArgumentError for a name that another method has, and for arguments that are not allowed.
    """
    if scope not in (*SCOPES, NOT_STATED):
        raise ArgumentError(f"scope: got {scope!r}, allowed are {', '.join(SCOPES)}")
    layers = scope != AT_INPUT if layerwise is None else layerwise
    if scope not in (NOT_STATED, AT_INPUT) and not layers:
        raise ArgumentError(f"scope: got {scope!r}, a method that scores the input only has {AT_INPUT!r}")

    def register(function: ScoreFunction) -> ScoreFunction:
        _check_name(name, function)
        defaults = _defaults(name, function)
        _REGISTRY[name] = ScoringMethod(
            name=name,
            function=function,
            paper=paper,
            title=title or name,
            needs=_names("needs", needs, NEEDS),
            layerwise=layers,
            cost=cost,
            reads=_names("reads", reads, READS),
            options=defaults,
            defaults=defaults,
            scope=scope if layers else AT_INPUT,
        )
        return function

    _names("needs", needs, NEEDS), _names("reads", reads, READS)
    return register


def register_variant(name: str, of: str, *, title: str, **options: Any) -> None:
    """Register a second name for a method with other options, which are the variant's defaults."""
    method = _REGISTRY[of].with_options(**options)
    needs = method.needs | ({"labels"} if method.needs_labels else set())
    reads = method.reads | ({"labels"} if method.needs_labels else set())
    variant = replace(method, name=name, title=title, needs=needs, reads=reads, defaults=method.options)
    _check_name(name, method.function)
    _REGISTRY[name] = variant


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
    return ScoringMethod(
        name, function, paper="none", title=name, cost="not stated", options=defaults, defaults=defaults
    )


def _check_name(name: str, function: ScoreFunction) -> None:
    """Raises ArgumentError when another method has the name; warns when the same one is defined again."""
    old = _REGISTRY.get(name)
    if old is None:
        return
    mine, theirs = _origin(function), _origin(old.function)
    if mine == theirs or mine[0] == theirs[0] == "__main__":
        warnings.warn(f"method {name!r} was registered before and is replaced", UserWarning, stacklevel=4)
        return
    raise ArgumentError(f"method {name!r} is registered already, by {theirs[0]}; choose another name")


def _origin(function: ScoreFunction) -> tuple[str, str]:
    return getattr(function, "__module__", ""), getattr(function, "__qualname__", type(function).__qualname__)


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


def _names(argument: str, given: Iterable[str], allowed: tuple[str, ...]) -> frozenset[str]:
    names = frozenset([given] if isinstance(given, str) else given)
    if unknown := names - set(allowed):
        raise ArgumentError(f"{argument}: got {sorted(unknown)}, allowed are {', '.join(allowed)}")
    return names
