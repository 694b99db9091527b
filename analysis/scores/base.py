"""What every scoring method takes and gives.

B batch, N padded length, L encoder layers; layer 0 is the first
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapler.errors import ArgumentError

READS = ("labels", "seed", "threshold_scale")  # what a method may read of a batch beside the model's input
T = TypeVar("T")


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

    Raises ArgumentError for padding on the left, and for shapes, types or devices that do not fit together.
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
    _memo: dict[tuple[int, int, str], Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check_batch(self)

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

        Raises ArgumentError for rows of different lengths (ask for padding=True), and for several rows without
        an attention mask.
        """
        rows = {name: _matrix(name, encoding[name]) for name in _ENCODED if encoding.get(name) is not None}
        if "input_ids" not in rows:
            raise ArgumentError(f"encoding: has no input_ids, it has {', '.join(map(str, encoding)) or 'nothing'}")
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

    def model_inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for a classifier."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return inputs if self.token_type_ids is None else inputs | {"token_type_ids": self.token_type_ids}

    def shared(self, model: Any, name: str, compute: Callable[[], T]) -> T:
        """`compute()` once per model and name for this batch: methods that need the same pass share it.

        A model whose weights were written into since is another one.
        """
        # those made in inference mode count no versions
        versions = sum(one._version for one in model.parameters() if not one.is_inference())
        key = (id(model), versions, name)
        if key not in self._memo:
            self._memo[key] = (compute(), model)  # a model that is kept gives its id to no other
        value: T = self._memo[key][0]
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


_ENCODED = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask")


def _matrix(name: str, values: Any) -> Tensor:
    """Lists or a tensor, of one text or of several -> (B, N)."""
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"encoding: {name} is no table of numbers with rows of one length; call the tokenizer with padding=True"
        ) from None
    return tensor[None] if tensor.dim() == 1 else tensor


def _check_batch(batch: Batch) -> None:
    for name in ("input_ids", "attention_mask"):
        if not isinstance(getattr(batch, name), Tensor):
            raise ArgumentError(f"batch: {name} must be a tensor, got {type(getattr(batch, name)).__name__}")
    tokens, mask = batch.input_ids, batch.attention_mask
    if tokens.dim() != 2 or not tokens.numel():
        raise ArgumentError(f"batch: input_ids must be (texts, tokens), got {tuple(tokens.shape)}")
    if len(batch.ids) != len(tokens):
        raise ArgumentError(f"batch: {len(batch.ids)} ids for {len(tokens)} rows of input_ids")
    shapes = {"attention_mask": tokens.shape, "token_type_ids": tokens.shape, "special": tokens.shape}
    for name, shape in {**shapes, "labels": tokens.shape[:1]}.items():
        tensor = getattr(batch, name)
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ArgumentError(f"batch: {name} must be {tuple(shape)} as input_ids are, got {tuple(tensor.shape)}")
        if tensor.device != tokens.device:
            raise ArgumentError(f"batch: {name} is on {tensor.device}, input_ids on {tokens.device}")
    for name in ("input_ids", "attention_mask", "token_type_ids", "labels"):
        tensor = getattr(batch, name)
        if tensor is not None and (
            tensor.is_floating_point() or tensor.dtype == torch.bool and name != "attention_mask"
        ):
            raise ArgumentError(f"batch: {name} must be integers, got {tensor.dtype}")
    if batch.special is not None and batch.special.dtype != torch.bool:
        raise ArgumentError(f"batch: special must be bool, got {batch.special.dtype}")
    wrong = _wrong_mask(mask)
    if wrong is not None:
        row, because = wrong
        raise ArgumentError(f"batch: attention_mask of {batch.ids[row]!r} {because}")


def _wrong_mask(mask: Tensor) -> tuple[int, str] | None:
    """The first row whose mask is not some ones and then zeros, and what is wrong with it."""
    values = mask.long()
    strange = ((values != 0) & (values != 1)).any(-1)
    late = (values[:, 1:] > values[:, :-1]).any(-1) | (values[:, 0] == 0)
    for rows, because in (
        (strange, "must be 0 or 1"),
        (late & (values.sum(-1) == 0), "is 0 everywhere: the text has no token"),
        (late, "has padding before text; pad on the right (tokenizer.padding_side = 'right')"),
    ):
        if bool(rows.any()):
            return int(rows.nonzero()[0, 0]), because
    return None
