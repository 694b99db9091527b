"""From rows of text or words to token ids, under a stated policy for what is longer than the model reads."""

from __future__ import annotations

import copy
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from adapler.data.tasks.scratch import IN_MEMORY_ROWS, scratch_file
from adapler.data.text_formats import refuse_blank
from adapler.errors import ArgumentError, CheckpointError, DataError

if TYPE_CHECKING:  # 50 MB in memory, which a worker of `adapler predict` does not need
    from datasets import Dataset

__all__ = ["POLICIES", "cutting", "encode", "load_tokenizer"]

POLICIES = ("truncate", "last", "windows")

_COLUMNS = (("words",), ("words", "query"), ("text_a",), ("text_a", "text_b"))
_MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_DEFAULT_STRIDE = 128  # tokens, or a quarter of what fits when that is less


def load_tokenizer(name_or_folder: str | os.PathLike[str], *, words: bool = True) -> Any:
    """The fast tokenizer of a model.

    Byte-level tokenizers (RoBERTa, ModernBERT) glue the words of a list together unless they put a space before
    each word. That space also changes the first token of plain text, so it is set only where it is needed.

    Args:
        name_or_folder: hub name or folder.
        words: True for inputs that are lists of words: the space is set. False for plain text: the tokenizer
            stays as the model's authors made it, and gives the ids of the model's own pipeline.

    Raises:
        CheckpointError: there is no tokenizer, or it has no fast implementation.
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


def cutting(tokenizer: Any, side: str) -> Any:
    """The tokenizer, or a copy where it is stored with the other side, cutting long texts on this side: "right" keeps
    the first tokens, "left" the last ones."""
    if getattr(tokenizer, "truncation_side", side) == side:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.truncation_side = side
    return tokenizer


def encode(
    dataset: Dataset,
    tokenizer: Any,
    *,
    columns: tuple[str, ...],
    max_length: int,
    policy: str = "truncate",
    stride: int | None = None,
    workers: int = 0,
    progress: bool = True,
    blank: bool = True,
) -> Dataset:
    """Token ids of every row, special tokens included, without padding.

    A document with a query becomes the pair (document, query), with the same ids as in the rationale analysis
    (`analysis.documents.alignment.align`): the words of the document first, the query parted at white space as
    second segment, and no second segment where the query is empty.

    Args:
        dataset: with `id`, the `columns`, and possibly `label`.
        tokenizer: a fast one, left as it was.
        columns: ("words",) for lists of words, ("words", "query") for lists of words with a query as plain text,
            ("text_a",) or ("text_a", "text_b") for plain text.
        max_length: the most tokens of an input.
        policy: what becomes of longer rows:

            * "truncate" keeps the first tokens;
            * "last" keeps the last ones;
            * "windows" makes several rows that overlap and together hold every token.

            A query is never cut and is in every window. Of a pair of texts, "truncate" and "last" shorten the
            longer text first, and "windows" cuts the second text and repeats the first in every window.
        stride: tokens by which windows overlap. By default 128, or a quarter of what fits when that is less.
        workers: processes that tokenise a data set of more than IN_MEMORY_ROWS rows; 0 and 1: this one.
        progress: show a progress bar.
        blank: whether a text may give no wordpieces (a query always may).

    Returns:
        Columns id (with windows "ID#k", k from 0), example_id, input_ids, attention_mask, token_type_ids (if the
        tokenizer makes them) and labels (if `dataset` has `label`). Of more than IN_MEMORY_ROWS rows, the result lies
        on disk and is mapped into memory, until this process ends.

    Raises:
        ArgumentError: an argument outside what is allowed.
        DataError: a row longer than `max_length` whose query, or whose first text of two under "windows", leaves
            no room for the rest; a row without wordpieces where there may be none.
    """
    _check(dataset, tokenizer, columns, max_length=max_length, policy=policy, stride=stride)
    tokenizer = copy.deepcopy(tokenizer)  # truncation settings are state of the tokenizer
    tokenizer.truncation_side = "left" if policy == "last" else "right"
    layout = _Layout(tokenizer, columns, max_length=max_length, windows=policy == "windows", stride=stride)

    def encode_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for column in () if blank else columns:
            if column != "query":
                refuse_blank(batch["id"], batch[column], tokenizer)
        encoded = layout.encode(batch)  # the inputs of each row
        owners = [row for row, inputs in enumerate(encoded) for _ in inputs]
        numbers = [number for inputs in encoded for number in range(len(inputs))]
        ids = [batch["id"][row] for row in owners]
        out: dict[str, list[Any]] = {"id": ids, "example_id": ids}
        if policy == "windows":
            out["id"] = [f"{name}#{number}" for name, number in zip(ids, numbers, strict=True)]
        for name in encoded[0][0]:
            out[name] = [one[name] for inputs in encoded for one in inputs]
        if "label" in batch:
            out["labels"] = [batch["label"][row] for row in owners]
        return out

    large = dataset.num_rows > IN_MEMORY_ROWS
    with nullcontext() if progress else _without_bars():
        return dataset.map(
            encode_batch,
            batched=True,
            remove_columns=dataset.column_names,
            keep_in_memory=not large,
            cache_file_name=str(scratch_file()) if large else None,
            num_proc=workers if large and workers > 1 else None,
            load_from_cache_file=False,
            # A given fingerprint spares `datasets` the pickling of the tokenizer for a cache that is not used.
            new_fingerprint=uuid.uuid4().hex,
            desc="tokenise",
        )


@contextmanager
def _without_bars() -> Iterator[None]:
    """`datasets` has one switch for all of its progress bars."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


class _Layout:
    """How a row becomes one input, or several: which text is cut, and with which overlap."""

    def __init__(
        self, tokenizer: Any, columns: tuple[str, ...], *, max_length: int, windows: bool, stride: int | None
    ) -> None:
        self.tokenizer, self.columns, self.max_length = tokenizer, columns, max_length
        self.windows, self.stride = windows, stride
        self.words = columns[0] == "words"
        # The column of the text that is never cut, if there is one.
        self.whole = "query" if columns == ("words", "query") else "text_a" if windows and len(columns) == 2 else None

    def encode(self, batch: dict[str, list[Any]]) -> list[list[dict[str, list[int]]]]:
        """The inputs of each row: one, or several windows."""
        first = batch[self.columns[0]]
        second = [None] * len(first) if len(self.columns) == 1 else batch[self.columns[1]]
        if self.words:
            second = [None if text is None else text.split() or None for text in second]
        strides = self._strides(batch["id"], first, second)
        groups: dict[tuple[bool, int], list[int]] = {}
        for row, stride in enumerate(strides):
            groups.setdefault((second[row] is not None, stride), []).append(row)
        out: list[list[dict[str, list[int]]]] = [[] for _ in first]
        for (paired, stride), rows in groups.items():
            texts = [[first[row] for row in rows], *([[second[row] for row in rows]] if paired else [])]
            encoded = dict(self._call(texts, stride))
            source = encoded.pop("overflow_to_sample_mapping", range(len(rows)))
            for position, member in enumerate(source):
                one = {name: encoded[name][position] for name in _MODEL_INPUTS if name in encoded}
                out[rows[member]].append(one)
        return out

    def _call(self, texts: list[list[Any]], stride: int) -> Any:
        cut = "longest_first"
        if len(texts) == 1 or self.whole == "query":
            cut = "only_first"
        elif self.whole is not None:
            cut = "only_second"
        options: dict[str, Any] = {"return_overflowing_tokens": True, "stride": stride} if self.windows else {}
        options |= {"truncation": cut, "return_attention_mask": True}  # it may be stored without: padding were text
        return self.tokenizer(*texts, is_split_into_words=self.words, max_length=self.max_length, **options)

    def _strides(self, ids: list[str], first: list[Any], second: list[Any]) -> list[int]:
        """The overlap of each row's windows, 0 where there is one input only. DataError for a row without room."""
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=False)
        if self.whole is None:
            return [self._overlap(room) if self.windows else 0] * len(first)
        special = self.tokenizer.num_special_tokens_to_add(pair=True)
        lengths = [self._lengths(texts) for texts in (first, second)]
        out = []
        for row, (a, b) in enumerate(zip(*lengths, strict=True)):
            paired = second[row] is not None
            left = self.max_length - special - (b if self.whole == "query" else a) if paired else room
            if paired and special + a + b <= self.max_length or not self.windows and left > 0:
                out.append(0)  # fits, or is cut to one input
                continue
            overlap = self._overlap(left) if self.windows else 0
            if overlap >= left:
                kept, cut = ("query", "document") if self.whole == "query" else ("first text", "second")
                with_stride = f" and stride {self.stride}" if self.windows and self.stride is not None else ""
                raise DataError(
                    f"example {ids[row]!r}: its {kept} has {b if self.whole == 'query' else a} tokens, which leaves "
                    f"no room for {'windows of ' if self.windows else ''}the {cut} at max_length "
                    f"{self.max_length}{with_stride}"
                )
            out.append(overlap)
        return out

    def _overlap(self, room: int) -> int:
        return min(_DEFAULT_STRIDE, max(0, room) // 4) if self.stride is None else self.stride

    def _lengths(self, texts: list[Any]) -> list[int]:
        """Tokens of each text by itself, without special tokens; 0 for None."""
        present = [row for row, text in enumerate(texts) if text is not None]
        out = [0] * len(texts)
        if present:
            encoded = self.tokenizer(
                [texts[row] for row in present],
                is_split_into_words=self.words,
                add_special_tokens=False,
                truncation=False,
                return_attention_mask=False,
                verbose=False,  # no warning about a text longer than the model's input
            )["input_ids"]
            for row, pieces in zip(present, encoded, strict=True):
                out[row] = len(pieces)
        return out


def _check(
    dataset: Dataset, tokenizer: Any, columns: tuple[str, ...], *, max_length: int, policy: str, stride: int | None
) -> None:
    """Raises ArgumentError for an argument that is not allowed."""
    if policy not in POLICIES:
        raise ArgumentError(f"policy: {policy!r} is not one of {', '.join(POLICIES)}")
    if columns not in _COLUMNS:
        raise ArgumentError(f"columns: {columns!r} is none of {', '.join(map(str, _COLUMNS))}")
    missing = [column for column in ("id", *columns) if column not in dataset.column_names]
    if missing:
        raise ArgumentError(f"columns: {missing[0]!r} is not in the data, which has {', '.join(dataset.column_names)}")
    if not getattr(tokenizer, "is_fast", False):
        raise ArgumentError(f"tokenizer: {type(tokenizer).__name__} is slow, one of the `tokenizers` library is needed")
    if columns[0] == "words":
        check_splits_words(tokenizer)
    room: int = max_length - tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if room < 1:
        raise ArgumentError(f"max_length: {max_length} leaves no room beside {max_length - room} special tokens")
    if policy == "windows" and stride is not None and not 0 <= stride < room:
        raise ArgumentError(f"stride: {stride} must be at least 0 and less than {room}, the tokens of a window")


def is_byte_level(tokenizer: Any) -> bool:
    """Whether its tokens are bytes, each written as one printable letter (`\u00c3\u00a9` for \u00e9)."""
    part = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    return part is not None and bool(_byte_levels({"pre_tokenizer": json.loads(part.__getstate__())}))


def _glues_words(tokenizer: Any) -> bool:
    """Whether it is byte-level without a space before each word; transformers 5 does not warn of that any more."""
    return any(not part["add_prefix_space"] for part in _byte_levels(_state(tokenizer)))


def check_splits_words(tokenizer: Any) -> None:
    """Raises ArgumentError for a byte-level tokenizer that puts no space before each word of a list.

    It would glue the words together, another text than a model has learned from.
    """
    if _glues_words(tokenizer):
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} glues words together without add_prefix_space=True; "
            "adapler.data.load_tokenizer sets it"
        )


def _set_prefix_space(tokenizer: Any) -> None:
    state = _state(tokenizer)
    for part in _byte_levels(state):
        part["add_prefix_space"] = True
    tokenizer.backend_tokenizer.pre_tokenizer = Tokenizer.from_str(json.dumps(state)).pre_tokenizer


def _state(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return {} if backend is None else dict(json.loads(backend.to_str()))


def _byte_levels(state: dict[str, Any]) -> list[dict[str, Any]]:
    first = state.get("pre_tokenizer") or {}
    return [part for part in first.get("pretokenizers", [first]) if part.get("type") == "ByteLevel"]
