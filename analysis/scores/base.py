"""Input and output of every scoring method.

B batch, N padded length, L encoder layers; layer 0 is the first
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError

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
