"""Input and output of every scoring method, the passes that methods share, and methods by name.

The model itself is never written to: methods run a working copy.

A method of one's own is a function `(model, batch)`, and can be given wherever a method's name can:

    def hidden_norm(model, batch):
        states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states[:-1]
        return torch.stack([state.norm(dim=-1) for state in states], dim=1)   # (B, L, N)

    rationale_eval.evaluate(methods=["saliency", hidden_norm])

It returns a tensor, an array or a list: (B, L, N), (B, N), (B, 1, N), or (N,): then it is asked one text at a time.
Padding is ignored. Scores without a negative one are divided by their sum over the text, so that they can be selected
at 1/n; scores with a sign are taken as they are. The decorator `@scoring_method("hidden_norm")` gives it a name; its
docstring is its page, and its keyword-only parameters with a default are options: `get_method("hidden_norm(order=1)")`.
`order: Annotated[int, AtLeast(1)] = 2` refuses what is below 1.

B batch, N padded length, L encoder layers, layer 0 is the first; H heads, D hidden size, C classes
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, wraps
from typing import Any, TypeVar

import numpy as np
import torch
from annotated_types import Ge
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from adapler.backbones import decomposition
from adapler.backbones.decomposition import Decomposition
from adapler.backbones.families import GOLD, PREDICTED, Target, needs_labels, target_weights
from adapler.errors import ArgumentError
from adapler.inference import answering, differentiable, evaluating, gradients_of, working_copy
from adapler.options import load_plugins

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Batch:
    """Right-padded model inputs, with what a method may ask about them.

    ids              names of the B windows, which draws depend on
    input_ids        (B, N) integer; position 0 is the classification token
    attention_mask   (B, N) integer, 1 for real tokens, then 0 for padding
    token_type_ids   (B, N) integer or None
    labels           (B,) integer, the model's index of the gold class, or None
    special          (B, N) bool, tokens that are no part of the text ([CLS], [SEP], a query); None: only the first
    mask_token_id    what stands for a token that is taken out; None if the tokenizer has none
    threshold_scale  multiplies every eta of an AdapLeR model
    pad_token_id     the tokenizer's padding token; None: the one that the model's configuration names

    Raises ArgumentError for padding on the left, and for shapes that do not fit together.
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
    pad_token_id: int | None = None
    _memo: dict[tuple[int, int], tuple[Any, dict[str, Any]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shape = self.input_ids.shape
        if len(shape) != 2 or not self.input_ids.numel():
            raise ArgumentError(f"batch: input_ids must be (texts, tokens), got {tuple(shape)}")
        if len(self.ids) != len(self.input_ids):
            raise ArgumentError(f"batch: {len(self.ids)} ids for {len(self.input_ids)} rows of input_ids")
        for name in ("attention_mask", "token_type_ids", "special", "labels"):
            tensor, expected = getattr(self, name), shape[:1] if name == "labels" else shape
            if tensor is not None and tensor.shape != expected:
                raise ArgumentError(f"batch: {name} must be {tuple(expected)}, got {tuple(tensor.shape)}")
        mask = self.attention_mask.long()
        wrong = ((mask != 0) & (mask != 1)).any(-1) | (mask[:, 1:] > mask[:, :-1]).any(-1) | (mask[:, 0] == 0)
        if bool(wrong.any()):
            text = self.ids[int(wrong.nonzero()[0, 0])]
            raise ArgumentError(f"batch: attention_mask of {text!r} must be ones and then zeros; pad on the right")

    def to(self, device: torch.device) -> Batch:
        """This batch on another device."""
        return replace(self, **{name: one.to(device) for name, one in self._tensors().items()}, _memo={})

    def singles(self) -> Iterator[Batch]:
        """Each text as a batch of its own, without padding."""
        for row, n in enumerate(self.attention_mask.sum(-1).tolist()):
            rows = {name: one[row : row + 1] for name, one in self._tensors().items()}
            cut = {name: one if one.dim() == 1 else one[:, :n] for name, one in rows.items()}
            yield replace(self, ids=(self.ids[row],), **cut, _memo={})

    def _tensors(self) -> dict[str, Any]:
        return {one.name: value for one in fields(self) if isinstance(value := getattr(self, one.name), Tensor)}

    def model_inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for a classifier."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return inputs if self.token_type_ids is None else inputs | {"token_type_ids": self.token_type_ids}

    def memo(self, model: Any) -> dict[str, Any]:
        """Passes of this model over this batch, which methods share. A model that was written into is another one."""
        # weights that were made in inference mode count no versions
        weights = () if model is None else model.parameters()
        key = (id(model), sum(one._version for one in weights if not one.is_inference()))
        return self._memo.setdefault(key, (model, {}))[1]  # a model that is kept gives its id to no other

    def entropy(self, row: int) -> list[int]:
        """Seed words of one document: the batch's seed and the document's id, whatever else is in the batch."""
        digest = hashlib.sha256(self.ids[row].encode()).digest()
        return [self.seed, *(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4))]


@dataclass(frozen=True, eq=False)
class LayerScores:
    """scores (B, L', N) float32, 0 at padding; L' = L, or 1 for a method with a meaning at the input only.

    present: (B, L', N) bool, the tokens among which layer l's scores are shared out; None: every real token (so for
        every method but `cp` and `policy`, where a dropped token scores 0).
    signed: False: not negative, each layer sums to 1 over the real tokens, or is 0 everywhere, where nothing is
        selected. True: raw values of either sign, which have a ranking and no selection at 1/n.
    diagnostics: name -> (B, L'), what the method says about its own result (e.g. a completeness gap).
    """

    scores: Tensor
    present: Tensor | None = None
    signed: bool = False
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


def normalise(values: Tensor, attention_mask: Tensor) -> Tensor:
    """Non-negative values (B, L, N) -> float32, 0 at padding, sum 1 over each layer's real tokens.

    A layer of zeros stays 0: shared out evenly, it would select every token at 1/n.
    """
    mask = attention_mask[:, None, :].to(torch.float32)  # (B, 1, N)
    masked = values.to(torch.float32) * mask
    total = masked.sum(-1, keepdim=True)  # (B, L, 1)
    return masked / total.clamp_min(torch.finfo(torch.float32).tiny)


def once_a_batch(function: Callable[..., Found]) -> Callable[..., Found]:
    """A function of (model, batch, ...), computed once for each batch, model and further arguments."""

    @wraps(function)
    def call(model: Any, batch: Batch, *args: Any, **options: Any) -> Found:
        memo, key = batch.memo(model), f"{function.__name__} {args} {options}"
        if key not in memo:
            memo[key] = function(model, batch, *args, **options)
        return memo[key]

    return call


# ---------------------------------------------------------------- precision


def run_format(dtype: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast of a plain classifier's passes, for "float32" or "bfloat16"; what would be mostly rounding in eight bits
    (distances of nearly equal vectors, products of attention maps) stays in `full_precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def full_precision(where: Tensor | Batch) -> AbstractContextManager[Any]:
    """Autocast off, on the device of a tensor or batch."""
    tensor = where.input_ids if isinstance(where, Batch) else where
    return torch.autocast(tensor.device.type, enabled=False)


# ---------------------------------------------------------------- targets, as of `families.target_weights`


def check_target(target: Target, config: Any) -> None:
    """ArgumentError for a target that a classifier of this configuration does not have, whatever the text."""
    anything = torch.zeros(1, config.num_labels)
    target_weights(target, anything, labels=torch.zeros(1, dtype=torch.long), id2label=config.id2label)


def weights_of(model: Any, batch: Batch, target: Target, logits: Tensor) -> Tensor:
    """(B, C) weights of the logits in the explained value, for this batch."""
    id2label = getattr(model.config, "id2label", None) or {}
    return target_weights(target, logits.detach(), labels=batch.labels, id2label=id2label)


def target_value(logits: Tensor, weights: Tensor) -> Tensor:
    """logits (..., C), weights (..., C) -> (...,)."""
    return (logits * weights).sum(-1)


# ---------------------------------------------------------------- passes


def share_logits(model: Any, batch: Batch, logits: Tensor) -> None:
    """Remember the logits of a pass made for something else, so that none is made for them."""
    batch.memo(model).setdefault("classifier_logits () {}", logits.detach().float().to(batch.input_ids.device))


@once_a_batch
def classifier_logits(model: Any, batch: Batch) -> Tensor:
    """(B, C) float32 logits, from whichever pass was first on this batch."""
    with torch.no_grad():
        logits: Tensor = answering(model)(**batch.model_inputs()).logits
    return logits.float().to(batch.input_ids.device)


@once_a_batch
def adapler_pass(model: Any, batch: Batch) -> Any:
    """The AdapLeR model's output in hard mode, in the format of its weights."""
    with torch.no_grad(), full_precision(batch):
        return answering(model)(**batch.model_inputs(), removal="hard", threshold_scale=batch.threshold_scale)


@once_a_batch
def attention_pass(model: Any, batch: Batch) -> tuple[Tensor, ...]:
    """The classifier's attention weights per layer (B, N, N) float32, mean over heads, row = query, column = key."""
    with torch.no_grad():
        output = decomposition.eager_forward(working_copy(model), batch.model_inputs())
    share_logits(model, batch, output.logits)
    with full_precision(batch):  # heads are averaged here, so that no more than one layer's heads outlive the pass
        return tuple(layer.float().mean(1).to(batch.input_ids.device) for layer in output.attentions)  # (B, N, N)


def gradient_pass(model: Any, batch: Batch, target: Target) -> dict[str, Tensor]:
    """Norms of g = d value / d h_i^l and of its product with h_i^l, the input of layer l: each (B, L, N) float32.

    product_norm || g * h ||_2, product_sum: sum over D of g * h, norm_1 || g ||_1, norm_2 || g ||_2. They are taken
    here: states and gradients themselves would be 2 * D times as large.

    Raises ArgumentError when the hidden states that the model returns are not the ones that it uses.
    """
    memo, key = batch.memo(model), f"gradient_pass {target!r}"
    if key in memo:
        return memo[key]
    with differentiable(model) as twin:
        output = twin(**batch.model_inputs(), output_hidden_states=True)
        weights = weights_of(model, batch, target, output.logits)
        hidden = output.hidden_states[:-1]  # L times (B, N, D)
        value = target_value(output.logits, weights).sum()
        gradients = gradients_of(value, hidden, model=model, what="hidden states")
    share_logits(model, batch, output.logits)
    rows: dict[str, list[Tensor]] = {"product_norm": [], "product_sum": [], "norm_1": [], "norm_2": []}
    for gradient, state in zip(gradients, hidden, strict=True):
        g, h = gradient.float(), state.detach().float()
        product = g * h
        norms = (product.norm(dim=-1), product.sum(-1), g.abs().sum(-1), g.norm(dim=-1))  # (B, N) each
        for row, norm in zip(rows.values(), norms, strict=True):
            row.append(norm.to(batch.input_ids.device) * batch.attention_mask)
    memo[key] = found = {name: torch.stack(row, dim=1) for name, row in rows.items()}
    return found


@once_a_batch
def attention_gradient_maps(model: Any, batch: Batch, target: Target) -> list[Tensor]:
    """L times (B, N, N) float32: mean over heads of max(d value / d A^l * A^l, 0).

    Raises ArgumentError when the weights that the model returns are not the ones that it uses.
    """
    maps, logits = decomposition.attention_gradient_maps(
        model, batch.model_inputs(), weigh=lambda logits: weights_of(model, batch, target, logits)
    )
    share_logits(model, batch, logits)
    return maps


@once_a_batch
def detached_pass(model: Any, batch: Batch, target: Target, *, softmax: bool) -> Decomposition:
    """`adapler.backbones.decomposition.decompose` at the input of every layer."""
    found = decomposition.decompose(
        model,
        batch.model_inputs(),
        weigh=lambda logits: weights_of(model, batch, target, logits),
        softmax=softmax,
    )
    share_logits(model, batch, found.logits)
    return found


# ---------------------------------------------------------------- methods by name

NEEDS = ("attention", "gradient", "labels", "adapler")
READS = ("labels", "seed", "threshold_scale")  # what a method may read of a batch besides the model's input
SECTIONS = ("Formula", "Layer", "Cost", "Misleads", "Reference")  # of a method's docstring
IN_LAYER, TO_OUTPUT, FROM_INPUT, AT_INPUT = SCOPES = (
    "in the layer",  # what this layer alone does with the token
    "from the layer to the output",  # what the state that enters the layer weighs in the output
    "from the input to the layer",  # what the input token weighs in what the layer gives out
    "at the input",  # one score a token, not one a layer
)
NOT_STATED = "not stated"  # scope and cost of a method of one's own that does not say
SIGNED = (  # closes "Misleads:" of a method whose option `reduction` is signed by default
    " Scores have a sign by default: for FPR, TPR and the headline figure take another reduction (absolute, positive, "
    "or l2 if there is one)."
)

AtLeast = Ge  # the lowest value of an option, in its annotation: `n_samples: Annotated[int, AtLeast(2)] = 50`
Option = bool | int | float | str
ScoreFunction = Callable[..., Any]


@dataclass(frozen=True)
class ScoringMethod:
    """A scoring method; call it as `(model, batch)` and the result is checked.

    needs: any of NEEDS: "attention" (weights of an eager pass), "gradient", "labels" (gold classes in the batch),
        "adapler" (the model is the AdapLeR model, not the plain classifier).
    reads: which of READS its scores depend on, by which saved scores are found again; default: all of them.
    options: every option with its value; `defaults`: the values without a request.
    stated: title of a method whose docstring does not say it.
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
        found = {"Summary": parts[0].strip()}
        found |= {name: inspect.cleandoc(body).strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}
        if self.defaults.get("reduction") == "signed":
            found["Misleads"] += SIGNED
        return found

    @property
    def title(self) -> str:
        """Title in tables and figures: the text before the colon in the docstring's first line."""
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
        """Meaning of one layer's score, one of SCOPES: the beginning of "Layer:"."""
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
    def of_package(self) -> bool:
        """Whether its function is one of `analysis.scores`, whose code is known."""
        return str(getattr(self.function, "__module__", "")).startswith("analysis.scores.")

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
        home = batch.input_ids.device
        device = next((one.device for one in model.parameters()), home) if isinstance(model, torch.nn.Module) else home
        if device != home:  # kept with the batch, so that methods go on sharing their passes
            memo = batch.memo(None)
            memo[f"on {device}"] = batch = memo.get(f"on {device}") or batch.to(device)
        with evaluating(model):
            result = self.function(model, batch, **self.options)
            if not isinstance(result, LayerScores):
                result = self._own_scores(model, batch, result)
        self._check_scores(result, model, batch)
        return LayerScores(
            result.scores.to(home),
            None if result.present is None else result.present.to(home),
            result.signed,
            {name: values.to(home) for name, values in result.diagnostics.items()},
        )

    def _check_needs(self, model: Any, batch: Batch) -> None:
        reduces = hasattr(model, "removal_policy")
        if "adapler" in self.needs and not reduces:
            raise ArgumentError(f"method {self.name!r}: needs an AdapLeR model, got {type(model).__name__}")
        if reduces and self.needs & {"attention", "gradient"}:
            raise ArgumentError(f"method {self.name!r}: needs the plain classifier; give it model.backbone")
        if self.needs_labels and batch.labels is None:
            raise ArgumentError(f"method {self.name!r}: needs the gold labels, and the batch has none")

    def _own_scores(self, model: Any, batch: Batch, result: Any) -> LayerScores:
        """A tensor, array or list of one of the shapes that the module names as LayerScores."""
        (n_batch, n_tokens), values = batch.attention_mask.shape, _as_tensor(result)
        if values.dim() == 1 and n_batch > 1:  # it knows one text only
            rows = [_as_tensor(self.function(model, one, **self.options)) for one in batch.singles()]
            if [row.shape for row in rows] == [(n,) for n in batch.attention_mask.sum(-1)]:
                values = torch.stack([torch.nn.functional.pad(row, (0, n_tokens - len(row))) for row in rows])
        if values.dim() in (1, 2):
            values = values[None, None] if values.dim() == 1 else values[:, None]
        if values.dim() != 3 or (values.shape[0], values.shape[2]) != (n_batch, n_tokens):
            wanted = f"(texts {n_batch}, layers or 1, tokens {n_tokens}), (texts, tokens) or (tokens,)"
            got = tuple(values.shape) or type(result).__name__
            raise ArgumentError(f"method {self.name!r}: must return numbers of shape {wanted}, got {got}")
        mask = batch.attention_mask.to(values.device)
        values = values.float().masked_fill(~mask.bool()[:, None], 0)
        if bool((values < 0).any()):
            return LayerScores(values, signed=True)
        return LayerScores(normalise(values, mask) if bool(torch.isfinite(values).all()) else values)

    def _check_scores(self, result: LayerScores, model: Any, batch: Batch) -> None:
        """Raises ArgumentError for scores of another shape, that are not numbers, negative, or no shares."""
        scores, where, (n_batch, n_tokens) = result.scores, f"method {self.name!r}:", batch.attention_mask.shape
        n_layers = getattr(getattr(model, "config", None), "num_hidden_layers", None)
        allowed = {None: (1, n_layers), True: (n_layers,), False: (1,)}[self.layerwise]
        fits = scores.dim() == 3 and (scores.shape[0], scores.shape[2]) == (n_batch, n_tokens)
        if not fits or (scores.shape[1] not in allowed and None not in allowed):
            wanted = f"(texts {n_batch}, layers {' or '.join(map(str, allowed))}, tokens {n_tokens})"
            raise ArgumentError(f"{where} scores must be {wanted}, got {tuple(scores.shape)}")
        if not bool(torch.isfinite(scores).all()):
            row = int((~torch.isfinite(scores)).flatten(1).any(1).nonzero()[0])
            raise ArgumentError(f"{where} a score of document {batch.ids[row]} is NaN or infinite")
        real = (batch.attention_mask != 0)[:, None, :].to(scores.device).expand_as(scores)
        there = real if result.present is None else result.present
        if there.shape != scores.shape or there.dtype != torch.bool or bool((there & ~real).any()):
            raise ArgumentError(f"{where} present must be bool {tuple(scores.shape)}, False at padding")
        if bool((scores * ~there).any()):
            raise ArgumentError(f"{where} scores at padding, and of tokens that are not present, must be 0")
        sums = scores.sum(-1)
        if not result.signed and bool((scores < 0).any() | (((sums - 1).abs() > 1e-3) & (sums != 0)).any()):
            found = f"lowest {float(scores.min()):.3g}, sums {float(sums.min()):.4g} to {float(sums.max()):.4g}"
            raise ArgumentError(f"{where} unsigned scores must not be negative, and sum to 1 or be 0: {found}")


_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_REGISTRY: dict[str, ScoringMethod] = {}
MethodSpec = str | ScoringMethod | ScoreFunction


def scoring_method(
    name: str, *, needs: Iterable[str] = (), reads: Iterable[str] = READS, title: str | None = None
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register a function `(model, batch, *, options)` under `name`; the arguments are those of ScoringMethod.

    A second definition in the same module replaces the first. Raises ArgumentError for a name that another module has.
    """
    sets = {}
    for argument, given, allowed in (("needs", needs, NEEDS), ("reads", reads, READS)):
        sets[argument] = frozenset([given] if isinstance(given, str) else given)
        if unknown := sets[argument] - set(allowed):
            raise ArgumentError(f"{argument}: got {sorted(unknown)}, allowed are {', '.join(allowed)}")

    def register(function: ScoreFunction) -> ScoreFunction:
        old = getattr(_REGISTRY.get(name), "function", function)
        if old.__module__ != function.__module__:
            raise ArgumentError(f"method {name!r} is registered already, by {old.__module__}; choose another name")
        defaults = _defaults(name, function)
        _REGISTRY[name] = ScoringMethod(name, function, **sets, options=defaults, defaults=defaults, stated=title)
        return function

    return register


def register_variant(name: str, of: str, *, title: str, **options: Any) -> None:
    """Register a second name for a method with other options, which are the variant's defaults."""
    method = _REGISTRY[of].with_options(**options)
    more = frozenset({"labels"} if method.needs_labels else ())
    needs, reads = method.needs | more, method.reads | more
    _REGISTRY[name] = replace(method, name=name, stated=title, needs=needs, reads=reads, defaults=method.options)


def method_names() -> tuple[str, ...]:
    """Every registered name, sorted."""
    return tuple(sorted(_REGISTRY))


def get_method(spec: MethodSpec, **options: Any) -> ScoringMethod:
    """The method of that name, or `name(option=value, ...)`, or a function `(model, batch)` as a method.

    Raises ArgumentError for an unknown name, option or value, and for a function named like another method.
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


_ITEM = re.compile(r"""\s*([A-Za-z_]\w*)\s*=\s*('[^']*'|"[^"]*"|[^'"(),=\[\]{}*]+?)\s*(?:,|(?=\)))""")


def parse_spec(spec: str) -> tuple[str, dict[str, Option]]:
    """`name(option=value)` -> its parts. Values are numbers, True or False, quoted strings or words; nothing is run.

    >>> parse_spec("saliency(target=contrast:NEG)")
    ('saliency', {'target': 'contrast:NEG'})

    Raises ArgumentError for anything else.
    """
    name, bracket, rest = spec.partition("(")
    items = _ITEM.findall(rest)
    values = {key: _value(text) for key, text in items}
    if bracket and (_ITEM.sub("", rest).strip() != ")" or len(values) < len(items)):
        raise ArgumentError(f"method {spec!r} must be NAME or NAME(OPTION=VALUE, ...) with plain values")
    return name.strip(), values


def _value(text: str) -> Option:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, Option) else text


def _from_function(function: Any) -> ScoringMethod:
    if not callable(function):
        raise ArgumentError(f"method: got {type(function).__name__}, must be a name or a function (model, batch)")
    if registered := next((one for one in _REGISTRY.values() if one.function is function), None):
        return registered
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    if name in _REGISTRY:
        raise ArgumentError(f"method: the function {name!r} is named like a registered method; rename it")
    defaults = _defaults(name, function)
    return ScoringMethod(name, function, options=defaults, defaults=defaults)


def _defaults(name: str, function: ScoreFunction) -> dict[str, Option]:
    """The keyword-only parameters of a function with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
    for option, value in defaults.items():
        if not isinstance(value, Option):
            raise ArgumentError(f"method {name!r}: option {option!r} needs a default that is a number or a string")
    return defaults


def _checked_option(method: str, function: ScoreFunction, option: str, value: Any, *, default: Option) -> Option:
    """`value` when the option's annotation (or, without one, the type of its default) allows it; else ArgumentError."""
    try:
        annotation = inspect.signature(function, eval_str=True).parameters[option].annotation
    except NameError:  # an annotation that cannot be resolved outside the function's own scope says nothing here
        annotation = inspect.Parameter.empty
    allowed: Any = type(default) if annotation is inspect.Parameter.empty else annotation
    try:
        return TypeAdapter(allowed, config=_STRICT).validate_python(value)
    except ValidationError as error:
        reasons = " or ".join(one["msg"].removeprefix("Input should be ") for one in error.errors())
        message = f"method {method!r}: {option} got {value!r}, must be {reasons} (default {default!r})"
        raise ArgumentError(message) from error


def _as_tensor(result: Any) -> Tensor:
    """Numbers as a tensor; lists of tensors, arrays or numbers too; one without a shape for anything else."""
    if isinstance(result, list | tuple) and result and isinstance(result[0], Tensor):
        result = torch.stack(list(result))
    if isinstance(result, Tensor):
        return result.detach()
    array = np.asarray(result)
    return torch.from_numpy(array.astype(np.float64)) if array.dtype.kind in "biuf" else torch.tensor(0.0)
