"""What an evaluation is made with, declared once and checked before anything runs.

A field of `Settings` is an option of the command, a keyword of `analysis.rationale_eval.evaluate` and a key of a
recipe (`--config recipe.yaml`). The text under a field is the option's help.
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from adapler.errors import ArgumentError, is_number
from adapler.model.batching import GRADIENT_TOKEN_BUDGET
from adapler.precision import DTYPES
from analysis.documents.aggregation import AGGREGATIONS, check_aggregation
from analysis.documents.alignment import POLICIES
from analysis.documents.annotators import check_rule
from analysis.documents.corpora import split_name
from analysis.evaluation.protocols import PROTOCOLS, get_protocol
from analysis.metrics.faithfulness import VARIANTS, FaithfulnessSettings
from analysis.metrics.registry import GROUPS, METRICS, get_metric, metric_names

TOKEN_BUDGET = 2048  # on a GPU: the eager pass holds H x N x N weights a layer
MAX_LENGTH = 512  # wordpieces of an input when nobody says how many
OF_PROTOCOL = ("policy", "aggregation", "metrics")  # fields that a protocol fills in
GROUPS_OF_OPTIONS = DATA, METHOD, RUNNING, RESULTS = (
    "what is evaluated",
    "how (an option overrides that part of the protocol)",
    "running",
    "results",
)


def option(
    default: Any, group: str, *, metavar: str | None = None, choices: Sequence[str] = (), flags: Sequence[str] = ()
) -> Any:
    """A field that is an option of the command, too; its help is the text under the field.

    group: the heading in `--help`; flags: other spellings of the option.
    """
    return field(
        default=default,
        metadata={"group": group, "metavar": metavar, "choices": tuple(choices), "flags": tuple(flags)},
    )


@dataclass(frozen=True)
class Settings:
    """Raises ArgumentError that names the field, the value and what is allowed.

    policy, aggregation and metrics are never None: what is not given is the protocol's.
    """

    split: str = option("test", DATA, metavar="NAME")
    """the split that is evaluated; validation and dev are val"""

    limit: int | None = option(None, DATA, metavar="N")
    """a random sample of N documents of the split, labels balanced"""

    methods: tuple[Any, ...] | None = option(None, DATA, metavar="NAME")
    """scoring methods, with options as in "lime(n_samples=100)" (python -m analysis.scores lists them); default: the
    paper's, attention attention_received rollout saliency cp random"""

    annotators: str = option("auto", DATA, metavar="RULE")
    """which words count where several people marked a text: majority, union, or an annotator's number from 0; auto:
    what the file says itself, else the majority"""

    queries: bool | None = option(None, DATA, choices=("auto", "yes", "no"))
    """queries as second segment; auto: when they differ between the documents of the corpus, all splits together (one
    query for all says nothing, and models are trained without it)"""

    protocol: str = option("paper", METHOD, choices=tuple(PROTOCOLS))
    """a preset of policy, aggregation, metrics and faithfulness (python -m analysis.evaluation.protocols)"""

    policy: str = option(None, METHOD, choices=POLICIES)
    """which part of a document longer than the input is seen; default: the protocol's"""

    aggregation: str = option(None, METHOD, choices=AGGREGATIONS, flags=("--aggregate",))
    """wordpiece scores to word scores; default: the protocol's"""

    metrics: tuple[str, ...] = option(None, METHOD, metavar="NAME")
    """metrics, or groups of them (ranking, selection, eraser, faithfulness, soft, normalised, sparseness); default: the
    protocol's"""

    faithfulness_variant: str | None = option(None, METHOD, choices=VARIANTS)
    """how faithfulness takes tokens away; default: the protocol's"""

    faithfulness_layers: tuple[int, ...] | None = option(None, METHOD, metavar="LAYER")
    """layers whose scores faithfulness judges; default: all"""

    max_length: int | None = option(None, METHOD, metavar="N")
    """wordpieces of one input, special tokens included; default: 512, or what the model takes if that is less"""

    threshold_scale: float = option(1.0, METHOD, metavar="X")
    """multiplies every eta of the AdapLeR model; 0 drops nothing"""

    speedup: float | None = option(None, METHOD, metavar="X")
    """instead of a threshold scale: so many times fewer FLOPs, by the curve that `adapler calibrate` stored with the
    AdapLeR model; the report has the scale"""

    density: float | None = option(None, METHOD, metavar="X")
    """share of the tokens in a hard rationale of the k best tokens; default: measured on the validation split, else on
    the training split"""

    device: str = option("auto", RUNNING, metavar="NAME")
    """cpu, cuda, cuda:1, mps ...; auto: models given as objects stay where they are, others go to the first GPU if
    there is one"""

    dtype: str = option("float32", RUNNING, choices=DTYPES)
    """number format of the models' layers: float32, which published numbers are in and which small scores need;
    bfloat16; or auto: bfloat16 where the device computes it in hardware. The report says which it was"""

    token_budget: int | None = option(None, RUNNING, metavar="N")
    """padded tokens of one batch; default: 1024 on a CPU, 2048 elsewhere"""

    seed: int = option(0, RUNNING, metavar="N")
    """seed of random scores, of the resampling behind intervals and tests, and of a limited sample"""

    examples: int = option(3, RESULTS, metavar="N")
    """documents whose token scores go into the report"""

    rationale_layer: int | None = option(None, RESULTS, metavar="LAYER")
    """layer of the scores that --rationales writes; it needs this or --rationale-layers, since the best layer on the
    evaluated split would be chosen by its answers"""

    def __post_init__(self) -> None:
        preset = get_protocol(self.protocol)
        for name in OF_PROTOCOL:
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(preset, name))
        for name, hint in get_type_hints(type(self)).items():
            if not is_of_type(getattr(self, name), hint):
                raise ArgumentError(f"{name}: got {getattr(self, name)!r}, must be {type_in_words(hint)}")
        object.__setattr__(self, "split", split_name(self.split))
        check_rule(self.annotators)
        if self.policy not in POLICIES:
            raise ArgumentError(f"policy: got {self.policy!r}, allowed are {', '.join(POLICIES)}")
        check_aggregation(self.aggregation)
        if self.dtype not in DTYPES:
            raise ArgumentError(f"dtype: got {self.dtype!r}, allowed are {', '.join(DTYPES)}")
        if not (self.threshold_scale >= 0 and math.isfinite(self.threshold_scale)):
            raise ArgumentError(f"threshold_scale: got {self.threshold_scale}, must be a number of at least 0")
        for name, least in (("seed", 0), ("examples", 0), ("limit", 1), ("token_budget", 1), ("max_length", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ArgumentError(f"{name}: got {value}, must be at least {least}")
        if self.density is not None and not 0 < self.density <= 1:
            raise ArgumentError(f"density: got {self.density}, must be over 0 and at most 1")
        if self.faithfulness_layers == ():
            raise ArgumentError("faithfulness_layers: got none, at least one is needed")
        if not self.metrics:
            raise ArgumentError("metrics: got none, at least one is needed")
        object.__setattr__(self, "metrics", expand_metrics(self.metrics))
        bins = self.faithfulness.bins  # says so when there is no such variant
        for name in self.faithfulness_metrics:
            share = name.rpartition("_")[2]
            if share.isdigit() and int(share) not in bins:
                raise ArgumentError(
                    f"metrics: {name!r} is of a bin that protocol {self.protocol!r} does not have, "
                    f"its bins are {', '.join(map(str, bins))}"
                )

    @classmethod
    def of(cls, protocol: str = "paper", **options: Any) -> Settings:
        """The protocol's settings, with those options on top that are not None.

        Raises ArgumentError for an option that is no field, with the names of all fields.
        """
        return cls().with_options(protocol=protocol, **options)

    def with_options(self, **options: Any) -> Settings:
        """These settings, with those options on top that are not None; lists become tuples, as one name does.

        A protocol among them brings its own policy, aggregation and metrics, unless they are given, too.
        """
        known = {one.name: one for one in fields(self)}
        if unknown := [name for name in options if name not in known]:
            raise ArgumentError(f"{unknown[0]}: no such option, there are {', '.join(known)}")
        given = {name: _plain(value) for name, value in options.items() if value is not None}
        hints = get_type_hints(type(self))
        for name, value in given.items():
            if isinstance(value, Sequence) and _holds_tuple(hints[name]):
                given[name] = (value,) if isinstance(value, str) else _plain(tuple(value))  # one name is a list of one
        fresh: dict[str, Any] = dict.fromkeys(OF_PROTOCOL) if "protocol" in given else {}
        return replace(self, **(fresh | given))

    @cached_property
    def faithfulness(self) -> FaithfulnessSettings:
        """How tokens are taken away, for metrics of that group: the protocol's way, with the variant asked for."""
        preset = get_protocol(self.protocol).faithfulness
        return preset if self.faithfulness_variant is None else replace(preset, variant=self.faithfulness_variant)

    @property
    def faithfulness_metrics(self) -> tuple[str, ...]:
        """Those of the metrics that ask the model again."""
        return tuple(name for name in self.metrics if get_metric(name).function is None)

    @property
    def plain_metrics(self) -> tuple[str, ...]:
        """Those that do not."""
        return tuple(name for name in self.metrics if get_metric(name).function is not None)

    @property
    def needs_rationale(self) -> bool:
        """Whether a document without a human rationale is skipped: not where no metric compares with one."""
        return any(get_metric(name).needs_rationale for name in self.metrics)

    @property
    def by_density(self) -> bool:
        """Whether a metric, or ERASER's own scores, select as many words as `density` says."""
        metrics = [get_metric(name) for name in self.metrics]
        return self.as_eraser or any(one.uses_density and not one.uses_size for one in metrics)

    @property
    def as_eraser(self) -> bool:
        """Whether ERASER's own scores are computed: they are of words of whole documents."""
        return self.protocol == "eraser" and self.policy == "all-windows" and self.aggregation != "none"

    def batch_tokens(self, device: str) -> int:
        """Padded tokens of one batch on a device of this type."""
        return self.token_budget or (GRADIENT_TOKEN_BUDGET if device == "cpu" else TOKEN_BUDGET)

    def check_layers(self, n_layers: int) -> None:
        """ArgumentError for a layer that the model does not have."""
        layers = [("faithfulness_layers", layer) for layer in self.faithfulness_layers or ()]
        if self.rationale_layer is not None:
            layers.append(("rationale_layer", self.rationale_layer))
        for name, layer in layers:
            if not 0 <= layer < n_layers:
                raise ArgumentError(f"{name}: got {layer}, the model has layers 0 to {n_layers - 1}")

    def check_used(self, *, adapler: bool, rationales: bool) -> None:
        """ArgumentError for an option that nothing of this evaluation would look at, so that it changed no number.

        adapler: whether there is an AdapLeR model; rationales: whether rationales are written.
        """
        no_faithfulness = "no metric of faithfulness is asked for (--metrics)"
        told = {
            "threshold_scale": (adapler or self.threshold_scale == 1, "there is no AdapLeR model (--adapler)"),
            # where there is one, it has become a threshold scale by now
            "speedup": (False, "threshold_scale says it here" if adapler else "there is no AdapLeR model (--adapler)"),
            "rationale_layer": (rationales, "no rationales are written (--rationales)"),
            "density": (self.by_density or rationales, "no metric and no rationale is of that size"),
            "faithfulness_variant": (bool(self.faithfulness_metrics), no_faithfulness),
            "faithfulness_layers": (bool(self.faithfulness_metrics), no_faithfulness),
        }
        for name, (used, why) in told.items():
            value = getattr(self, name)
            if value is not None and not used:
                got = ", ".join(map(str, value)) if isinstance(value, tuple) else value
                raise ArgumentError(f"{name}: got {got}, but {why}")

    def to_meta(self) -> dict[str, Any]:
        """The fields that a report keeps: all but those that the report states itself (its metrics and methods) and
        those that change no number (where it ran, how many tokens a batch had, how many examples it shows)."""
        left_out = {"metrics", "methods", "device", "token_budget", "examples", "rationale_layer", "speedup"}
        kept = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def expand_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Names of metrics, and names of groups for all metrics of a group, in order and each once.

    Raises ArgumentError for a name that is neither.
    """
    expanded: list[str] = []
    for name in names:
        if name not in METRICS and name not in GROUPS:
            raise ArgumentError(
                f"metric: got {name!r}, allowed are {', '.join(METRICS)}; or groups of them: {', '.join(GROUPS)}"
            )
        expanded += metric_names(name) if name in GROUPS else (name,)
    return tuple(dict.fromkeys(expanded))


def is_of_type(value: Any, hint: Any) -> bool:
    """Whether a plain value fits an annotation made of int, float, str, bool, None, tuple[X, ...] and unions.

    >>> is_of_type((1, 2), tuple[int, ...] | None), is_of_type(True, int), is_of_type(1, float)
    (True, False, True)
    """
    if get_origin(hint) in (Union, types.UnionType):
        return any(is_of_type(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(is_of_type(one, get_args(hint)[0]) for one in value)
    if hint is Any:
        return True
    if hint in (int, float):
        return is_number(value, whole=hint is int) or isinstance(value, float) and hint is float
    return isinstance(value, hint)


def _plain(value: Any) -> Any:
    """A number of NumPy as Python has it, within a tuple too: records are JSON."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def type_in_words(hint: Any) -> str:
    """`tuple[int, ...] | None` -> "a list of whole numbers", for messages."""
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    several = {int: "whole numbers", float: "numbers", str: "texts", Any: "names"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_in_words(one) for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is tuple:
        return f"a list of {several[get_args(hint)[0]]}"
    return names[hint]


def _holds_tuple(hint: Any) -> bool:
    return any(get_origin(one) is tuple for one in (hint, *get_args(hint)))
