"""From rows of text or words to token ids, under a stated policy for what is longer than the model reads."""

from __future__ import annotations

import copy
import json
import os
import uuid
from typing import Any

from datasets import Dataset
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from adapler.errors import ArgumentError, CheckpointError, DataError

__all__ = ["POLICIES", "encode", "load_tokenizer"]

POLICIES = ("truncate", "last", "windows")

_DEFAULT_STRIDE = 128  # tokens, or a quarter of what fits when that is less


def load_tokenizer(name_or_folder: str | os.PathLike[str], *, words: bool = True) -> Any:
    """The fast tokenizer of a model.

    Byte-level tokenizers (RoBERTa, ModernBERT) glue the words of a list together unless they put a space before
    each; with `words` they are set to do so, which also gives plain text a leading space. Raises CheckpointError
    when there is none, or when it has no fast implementation.
    """
    name = os.fspath(name_or_folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        if words and _glues_words(tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(name, add_prefix_space=True)
    except Exception as error:  # OSError, ValueError, KeyError, ... by what is missing
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{name}: no tokenizer can be loaded from there ({reason:.160})") from error
    if not tokenizer.is_fast:
        raise CheckpointError(f"{name}: has only a slow tokenizer, one of the `tokenizers` library is needed")
    if words and _glues_words(tokenizer):
        _set_prefix_space(tokenizer)  # generic classes ignore the option
    return tokenizer


def encode(
    dataset: Dataset,
    tokenizer: Any,
    *,
    columns: tuple[str, ...],
    max_length: int,
    policy: str = "truncate",
    stride: int | None = None,
) -> Dataset:
    """Token ids of every row, special tokens included, without padding.

    `columns`: ("words",) for lists of words, ("text_a",) or ("text_a", "text_b") for text. `policy` decides on rows
    of more than `max_length` tokens:

    * "truncate" keeps the first tokens (of a pair, the longer text loses first);
    * "last" keeps the last ones;
    * "windows" makes several rows, each with its own special tokens, that overlap by `stride` tokens and cover
      every token. Of a pair, only the second text is cut; the first is in every window.

    Returns columns id (with windows "ID#k", k from 0), example_id, input_ids, attention_mask, token_type_ids (if
    the tokenizer makes them) and labels (if `dataset` has `label`). The tokenizer is left as it was and no cache
    file is written. Raises ArgumentError for arguments, DataError for a first text that leaves no room for windows.
    """
    limits = _check(dataset, tokenizer, columns, max_length=max_length, policy=policy, stride=stride)
    tokenizer = copy.deepcopy(tokenizer)  # truncation settings are state of the tokenizer
    tokenizer.truncation_side = "left" if policy == "last" else "right"
    pair = len(columns) == 2

    def encode_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [batch[column] for column in columns]
        options: dict[str, Any] = {"truncation": "longest_first"}
        if policy == "windows":
            options = {"truncation": "only_second" if pair else "only_first", "return_overflowing_tokens": True}
            options["stride"] = limits
            if pair:
                _check_first_texts(tokenizer, batch["id"], texts[0], max_length=max_length, stride=limits)
        encoded = dict(tokenizer(*texts, is_split_into_words=columns == ("words",), max_length=max_length, **options))
        source = encoded.pop("overflow_to_sample_mapping", range(len(batch["id"])))
        out: dict[str, list[Any]] = {"id": [], "example_id": [batch["id"][row] for row in source]}
        window = 0
        for position, row in enumerate(source):
            window = window + 1 if position and source[position - 1] == row else 0
            out["id"].append(f"{batch['id'][row]}#{window}" if policy == "windows" else batch["id"][row])
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            if name in encoded:
                out[name] = encoded[name]
        if "label" in batch:
            out["labels"] = [batch["label"][row] for row in source]
        return out

    return dataset.map(
        encode_batch,
        batched=True,
        remove_columns=dataset.column_names,
        keep_in_memory=True,
        load_from_cache_file=False,
        # A given fingerprint spares `datasets` the pickling of the tokenizer for a cache that is not used.
        new_fingerprint=uuid.uuid4().hex,
        desc="tokenise",
    )


def _check(
    dataset: Dataset, tokenizer: Any, columns: tuple[str, ...], *, max_length: int, policy: str, stride: int | None
) -> int:
    """The stride to use, once all arguments are found good."""
    if policy not in POLICIES:
        raise ArgumentError(f"policy: {policy!r} is not one of {', '.join(POLICIES)}")
    if columns not in (("words",), ("text_a",), ("text_a", "text_b")):
        raise ArgumentError(f"columns: {columns!r} is none of ('words',), ('text_a',), ('text_a', 'text_b')")
    missing = [column for column in ("id", *columns) if column not in dataset.column_names]
    if missing:
        raise ArgumentError(f"columns: {missing[0]!r} is not in the data, which has {', '.join(dataset.column_names)}")
    if not getattr(tokenizer, "is_fast", False):
        raise ArgumentError(f"tokenizer: {type(tokenizer).__name__} is slow, one of the `tokenizers` library is needed")
    if columns == ("words",) and _glues_words(tokenizer):
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} glues words together without add_prefix_space=True; "
            "adapler.data.load_tokenizer sets it"
        )
    room: int = max_length - tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if room < 1:
        raise ArgumentError(f"max_length: {max_length} leaves no room beside {max_length - room} special tokens")
    if stride is None:
        return min(_DEFAULT_STRIDE, room // 4)
    if policy == "windows" and not 0 <= stride < room:
        raise ArgumentError(f"stride: {stride} must be at least 0 and less than {room}, the tokens of a window")
    return stride


def _check_first_texts(tokenizer: Any, ids: list[str], texts: list[str], *, max_length: int, stride: int) -> None:
    special = tokenizer.num_special_tokens_to_add(pair=True)
    lengths = [len(row) for row in tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"]]
    for identifier, length in zip(ids, lengths, strict=True):
        if length + special + stride >= max_length:
            raise DataError(
                f"example {identifier!r}: its first text has {length} tokens, which leaves no room for windows of the "
                f"second at max_length {max_length} and stride {stride}"
            )


def _glues_words(tokenizer: Any) -> bool:
    """Whether it is byte-level without a space before each word; transformers 5 does not warn of that any more."""
    return any(not part["add_prefix_space"] for part in _byte_levels(_state(tokenizer)))


def _set_prefix_space(tokenizer: Any) -> None:
    state = _state(tokenizer)
    for part in _byte_levels(state):
        part["add_prefix_space"] = True
    tokenizer.backend_tokenizer.pre_tokenizer = Tokenizer.from_str(json.dumps(state)).pre_tokenizer


def _state(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: dict[str, Any] = {} if backend is None else json.loads(backend.to_str())
    return state


def _byte_levels(state: dict[str, Any]) -> list[dict[str, Any]]:
    first = state.get("pre_tokenizer") or {}
    parts = first.get("pretokenizers", [first])
    return [part for part in parts if part.get("type") == "ByteLevel"]
