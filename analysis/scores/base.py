"""Input and output of every scoring method, and the forward and backward passes that methods share, once a batch.

The model itself is never written to: methods run a working copy.

B batch, N padded length, L encoder layers, layer 0 is the first; H heads, D hidden size, C classes
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from adapler.backbones import decomposition
from adapler.backbones.decomposition import (
    Decomposition,
    Target,
    answering,
    differentiable,
    gradients_of,
    target_weights,
    working_copy,
)
from adapler.errors import ArgumentError

Found = TypeVar("Found")
_ENCODED = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask")


@dataclass(frozen=True, eq=False)
class Batch:
    """Right-padded model inputs, with what a method may ask about them.

    ids              the B windows' ids
    input_ids        (B, N) integer; position 0 is the classification token
    attention_mask   (B, N) integer, 1 for real tokens, 0 for padding on the right
    token_type_ids   (B, N) integer or None
    labels           (B,) integer, the model's index of the gold class, or None
    special          (B, N) bool, tokens that are no part of the text ([CLS], [SEP], a query), or None: then
                     only the classification token is known to be one
    mask_token_id    what stands for a token that is taken out; None if the tokenizer has none
    seed             seed of the methods that draw
    threshold_scale  multiplies every eta of an AdapLeR model
    pad_token_id     the tokenizer's padding token, for methods that put it in a token's place; None: the one that the
                     model's configuration names

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
            raise ArgumentError(
                f"batch: attention_mask of {self.ids[int(wrong.nonzero()[0, 0])]!r} must be ones and then zeros; "
                "pad on the right (tokenizer.padding_side = 'right')"
            )

    @classmethod
    def from_encoding(
        cls,
        encoding: Mapping[str, Any],
        tokenizer: Any = None,
        *,
        ids: Sequence[str] | None = None,
        labels: Sequence[int] | Tensor | None = None,
        device: torch.device | str | None = None,
        seed: int = 0,
        threshold_scale: float = 1.0,
    ) -> Batch:
        """A batch from what a tokenizer returns: lists or tensors, of one text or of several.

            encoding = tokenizer(texts, padding=True, return_tensors="pt")
            batch = Batch.from_encoding(encoding, tokenizer)

        tokenizer: says which tokens are special and what mask and padding are. Without one, `special_tokens_mask` of
            the encoding is read, if it is there, and there is no mask token.
        ids: names of the texts, which draws depend on; default "0", "1", ...

        Raises ArgumentError for several rows without an attention mask.
        """
        rows = {name: torch.as_tensor(encoding[name]) for name in _ENCODED if encoding.get(name) is not None}
        rows = {name: one[None] if one.dim() == 1 else one for name, one in rows.items()}
        tokens = rows["input_ids"]
        if "attention_mask" not in rows and len(tokens) > 1:
            raise ArgumentError("encoding: several texts need an attention_mask, which tells text from padding")
        if "special_tokens_mask" not in rows and tokenizer is not None:
            found = [tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True) for row in tokens.tolist()]
            marked = torch.tensor(found).bool()
            for of_text in (tokenizer.unk_token_id, tokenizer.mask_token_id):  # the tokenizer counts them as special
                marked &= tokens.cpu() != (-1 if of_text is None else of_text)
            rows["special_tokens_mask"] = marked
        place = tokens.device if device is None else torch.device(device)
        types, special = rows.get("token_type_ids"), rows.get("special_tokens_mask")
        return cls(
            ids=tuple(map(str, range(len(tokens)))) if ids is None else tuple(ids),
            input_ids=tokens.to(place),
            attention_mask=rows.get("attention_mask", torch.ones_like(tokens)).to(place),
            token_type_ids=None if types is None else types.to(place),
            labels=None if labels is None else torch.as_tensor(labels).to(place),
            special=None if special is None else special.bool().to(place),
            mask_token_id=getattr(tokenizer, "mask_token_id", None),
            seed=seed,
            threshold_scale=threshold_scale,
            pad_token_id=getattr(tokenizer, "pad_token_id", None),
        )

    def to(self, device: torch.device) -> Batch:
        """This batch on another device."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        moved: dict[str, Any] = {name: one.to(device) for name, one in values.items() if isinstance(one, Tensor)}
        return replace(self, **moved, _memo={})

    def singles(self) -> Iterator[Batch]:
        """Each text as a batch of its own, without padding."""
        for row, n in enumerate(self.attention_mask.sum(-1).tolist()):
            values = {one.name: getattr(self, one.name) for one in fields(self)}
            cut: dict[str, Any] = {
                name: one[row : row + 1] if one.dim() == 1 else one[row : row + 1, :n]
                for name, one in values.items()
                if isinstance(one, Tensor)
            }
            yield replace(self, ids=(self.ids[row],), **cut, _memo={})

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

    present: (B, L', N) bool, the tokens among which layer l's scores are shared out; None when that is every
        real token (for every method but `cp` and `policy`, where a dropped token is not there any more and scores 0).
    signed: False: not negative, each layer sums to 1 over the real tokens, or is 0 everywhere: then it says nothing
        about any token, and nothing is selected. True: raw values of either sign; a selection at 1/n is then
        undefined, a ranking is not.
    diagnostics: name -> (B, L'), what the method says about its own result (e.g. a completeness gap).
    """

    scores: Tensor
    present: Tensor | None = None
    signed: bool = False
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


def normalise(values: Tensor, attention_mask: Tensor) -> Tensor:
    """Non-negative values (B, L, N) -> float32, 0 at padding, sum 1 over each layer's real tokens.

    A layer whose values are all 0 stays 0: it says nothing about any token, and no token is selected at 1/n. (Shared
    out evenly, it would select all of them.)
    """
    mask = attention_mask[:, None, :].to(torch.float32)  # (B, 1, N)
    masked = values.to(torch.float32) * mask
    total = masked.sum(-1, keepdim=True)  # (B, L, 1)
    return masked / total.clamp_min(torch.finfo(torch.float32).tiny)


# ---------------------------------------------------------------- passes computed once a batch


def once_a_batch(function: Callable[..., Found]) -> Callable[..., Found]:
    """The same function of (model, batch, ...), computed once for each batch, model and further arguments."""

    @wraps(function)
    def call(model: Any, batch: Batch, *args: Any, **options: Any) -> Found:
        memo, key = batch.memo(model), f"{function.__name__} {args} {options}"
        if key not in memo:
            memo[key] = function(model, batch, *args, **options)
        found: Found = memo[key]
        return found

    return call


# ---------------------------------------------------------------- precision


def run_format(dtype: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast of a classifier's passes, for "float32" or "bfloat16".

    The attribution methods read and differentiate the modules of a plain transformers classifier, so in bfloat16 that
    one runs under autocast. Distances of nearly equal vectors and products of attention maps are computed in float32:
    in bfloat16's eight bits they would be mostly rounding.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def in_format(adapler: Any, dtype: str) -> Any:
    """An AdapLeR model (or None) whose own pass computes in a format; the model that is given stays as it is."""
    return adapler if adapler is None or dtype == "float32" else adapler.for_inference(dtype=dtype)


def full_precision(where: Tensor | Batch) -> AbstractContextManager[Any]:
    """Autocast off, on the device of a tensor or batch."""
    tensor = where.input_ids if isinstance(where, Batch) else where
    return torch.autocast(tensor.device.type, enabled=False)


def full(tensor: Tensor) -> Tensor:
    """float32 of a half-precision tensor; float32 and float64 as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def run_full(module: nn.Module, *inputs: Tensor) -> Tensor:
    """A module's output in at least float32, with weights of half precision brought there for the call."""
    weights = {name: full(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    with full_precision(inputs[0]):
        dtype = next((tensor.dtype for tensor in weights.values()), full(inputs[0]).dtype)  # an Identity has no weights
        result: Tensor = torch.func.functional_call(module, weights, tuple(one.to(dtype) for one in inputs))
    return result


# ---------------------------------------------------------------- targets: which value of the classifier is explained
#
#     predicted                  the logit of the predicted class
#     gold                       the logit of the gold class
#     NEG, neg, 0                the logit of this class, by name or index
#     contrast                   the predicted class's logit minus the strongest other one
#     contrast:gold, contrast:NEG, contrast:0
#                                the same for the gold class, and for this class
#
# The strongest other class is the one of the input as it is; it stays when tokens are taken away.


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


@dataclass(frozen=True, eq=False)
class GradientPass:
    """Norms of g = d value / d h_i^l and of its product with h_i^l, the input of layer l: each (B, L, N) float32.

    product_norm  || g * h ||_2
    product_sum   sum over D of g * h
    norm_1        || g ||_1
    norm_2        || g ||_2
    """

    product_norm: Tensor
    product_sum: Tensor
    norm_1: Tensor
    norm_2: Tensor


def gradient_pass(model: Any, batch: Batch, target: Target) -> GradientPass:
    """Gradients of the target's value at the input of every layer; one pass per target.

    Raises ArgumentError when the hidden states that the model returns are not the ones that it uses.
    """
    memo, key = batch.memo(model), f"gradient_pass {target!r}"
    if key in memo:
        known: GradientPass = memo[key]
        return known
    with differentiable(model) as twin:
        output = twin(**batch.model_inputs(), output_hidden_states=True)
        weights = weights_of(model, batch, target, output.logits)
        hidden = output.hidden_states[:-1]  # L times (B, N, D)
        value = target_value(output.logits, weights).sum()
        gradients = gradients_of(value, hidden, model=model, what="hidden states")
    share_logits(model, batch, output.logits)
    # norms are taken here: the states and gradients themselves would be 2 * D times as large
    pairs = [(g.float(), h.detach().float()) for g, h in zip(gradients, hidden, strict=True)]
    real = batch.attention_mask[:, None, :].to(torch.float32)  # (B, 1, N)
    columns = [
        ((g * h).norm(dim=-1), (g * h).sum(-1), g.abs().sum(-1), g.norm(dim=-1)) for g, h in pairs
    ]  # L times 4 times (B, N)
    stacked = [torch.stack([one.to(real.device) for one in rows], dim=1) * real for rows in zip(*columns, strict=True)]
    memo[key] = found = GradientPass(*stacked)
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
