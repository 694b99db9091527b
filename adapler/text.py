"""Text to token ids: the only tokenisation of the project, and the strategies for texts longer than the model reads.

    truncate    the first tokens
    last        the last tokens
    windows     overlapping windows that together hold every token; their logits are averaged

What the caller asks for comes first, then what the model's run.json records of its training. So a model reads the
same part of a text in `model.predict`, in `adapler predict` and in the evaluation behind its published score.
"""

from __future__ import annotations

import copy
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, get_args

from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.options import is_number
from adapler.system import read_json

if TYPE_CHECKING:
    from datasets import Dataset

Truncation = Literal["truncate", "last", "windows"]
TRUNCATIONS: tuple[str, ...] = get_args(Truncation)
RUN = "run.json"
IN_MEMORY_ROWS = 20_000  # a larger encoded data set is a file mapped into memory

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_DEFAULT_STRIDE = 128  # tokens, or a quarter of a window when that is less
_LOCK = Lock()  # the length and the side at which a fast tokenizer cuts are state of the tokenizer


# ---- tokenizer


def load_tokenizer(name_or_folder: str | os.PathLike[str], *, words: bool = True) -> Any:
    """The fast tokenizer of a model, for lists of words or for plain text. CheckpointError if there is none, or its
    vocabulary is not the model's: a folder without tokenizer files gives an empty one, to which every word is unknown.

    Byte-level tokenizers (RoBERTa, ModernBERT) glue the words of a list together unless they put a space before each
    word. That space also changes the first token of plain text, so it is set for words only.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

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
    path = file_beside(name, "config.json")
    try:
        config = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
        expected = (config.get("backbone_config") or config).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        expected = None  # loading the model reports it
    if expected is not None and not expected // 2 <= len(tokenizer) <= expected:
        raise CheckpointError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens and the model {expected}: it is incomplete, or "
            "another model's"
        )
    if words and _glues_words(tokenizer):  # generic tokenizer classes ignore the option
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        for part in _byte_levels(state["pre_tokenizer"]):
            part["add_prefix_space"] = True
        tokenizer.backend_tokenizer.pre_tokenizer = Tokenizer.from_str(json.dumps(state)).pre_tokenizer
    return tokenizer


def is_byte_level(tokenizer: Any) -> bool:
    """Whether its tokens are bytes, each written as one printable letter (`\u00c3\u00a9` for \u00e9)."""
    return bool(_byte_levels(_pre_tokenizer(tokenizer)))


def check_splits_words(tokenizer: Any) -> None:
    """Raises ArgumentError for a byte-level tokenizer that glues the words of a list together."""
    if _glues_words(tokenizer):
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} glues words together without add_prefix_space=True; "
            "adapler.text.load_tokenizer sets it"
        )


def _glues_words(tokenizer: Any) -> bool:
    """Byte-level without a space before each word; transformers 5 does not warn of that any more."""
    return any(not part["add_prefix_space"] for part in _byte_levels(_pre_tokenizer(tokenizer)))


def _pre_tokenizer(tokenizer: Any) -> dict[str, Any]:
    part = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    return {} if part is None else dict(json.loads(part.__getstate__()))


def _byte_levels(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in state.get("pretokenizers", [state]) if part.get("type") == "ByteLevel"]


# ---- encode


@dataclass(frozen=True, eq=False)
class Encoded:
    """Inputs of a model: one of each text, or several windows."""

    rows: list[dict[str, list[int]]]  # INPUTS of each, as far as the tokenizer makes them, unpadded
    owners: list[int]  # the index of the text that each belongs to, ascending
    encodings: list[Any]  # the tokenizer's own: tokens, word_ids, sequence_ids, offsets, overflowing (where it was cut)

    def blank(self) -> list[int]:
        """Indices of texts without any token, such as zero-width spaces; of a pair, in either text."""
        found = set()
        for owner, one in zip(self.owners, self.encodings, strict=True):
            ids = one.sequence_ids
            if not all(part in ids for part in range(one.n_sequences)):
                found.add(owner)
        return sorted(found)


def encode(
    texts: Sequence[str] | Sequence[Sequence[str]],
    tokenizer: Any,
    *,
    seconds: Sequence[str | Sequence[str] | None] | None = None,
    max_length: int,
    truncation: str = "truncate",
    stride: int | None = None,
) -> Encoded:
    """Token ids of texts, special tokens included, without padding.

    Strings are tokenised as in the model's own pipeline, lists of words word by word, so that `encodings[k].word_ids`
    count words.

    Args:
        seconds: the second text of each pair, of the same kind as the first; None or "" or []: a single text.
            Beside a list of words it is a query, which is never cut. Of a pair of strings, "truncate" and "last"
            shorten the longer one first, and "windows" cuts the second and repeats the first in every window.
        truncation: see the module; one of TRUNCATIONS.
        stride: tokens by which windows overlap. Default: 128, or a quarter of what fits when that is less.

    DataError for a query, or the first text of a pair under "windows", that leaves no room for the rest.
    """
    words = len(texts) > 0 and not isinstance(texts[0], str)
    first: list[Any] = [list(text) if words else text for text in texts]
    others: list[Any] = [None] * len(first)
    if seconds is not None:
        others = [list(one) if one and words else one or None for one in seconds]
    if not getattr(tokenizer, "is_fast", False):
        raise ArgumentError(f"tokenizer: found {type(tokenizer).__name__}, a fast one of transformers is needed")
    if words:
        check_splits_words(tokenizer)
    if truncation not in TRUNCATIONS:
        raise ArgumentError(f"truncation: {truncation!r} is not one of {', '.join(TRUNCATIONS)}")
    special = tokenizer.num_special_tokens_to_add(pair=any(one is not None for one in others))
    room = max_length - special
    if room < 1:
        raise ArgumentError(f"max_length: {max_length} leaves no room for {special} special tokens")
    if truncation == "windows" and stride is not None and not 0 <= stride < room:
        raise ArgumentError(f"stride: {stride} must be at least 0 and less than {room}, the tokens of a window")
    cutter = _Cutter(tokenizer, words=words, max_length=max_length, windows=truncation == "windows", stride=stride)
    groups: dict[tuple[bool, int], list[int]] = {}  # texts that one call of the tokenizer can take
    found: list[tuple[int, dict[str, list[int]], Any]] = []
    with _LOCK:
        before = tokenizer.truncation_side  # a copy takes five times as long as a small model for a text
        tokenizer.truncation_side = "left" if truncation == "last" else "right"
        try:
            for index, overlap in enumerate(cutter.overlaps(first, others)):
                groups.setdefault((others[index] is not None, overlap), []).append(index)
            for (pair, overlap), members in groups.items():
                columns = [[column[i] for i in members] for column in ((first, others) if pair else (first,))]
                encoded = cutter.call(*columns, stride=overlap)
                names = [name for name in INPUTS if name in encoded]
                owners = encoded.get("overflow_to_sample_mapping", range(len(members)))
                for row, owner in enumerate(owners):
                    found.append((members[owner], {name: encoded[name][row] for name in names}, encoded.encodings[row]))
        finally:
            tokenizer.truncation_side = before
    found.sort(key=lambda one: one[0])  # stable: the windows of a text keep their order
    owners, rows, encodings = ([*column] for column in zip(*found, strict=True)) if found else ([], [], [])
    return Encoded(rows, owners, encodings)


class _Cutter:
    """Which text of a pair is cut, and by how much its windows overlap."""

    def __init__(self, tokenizer: Any, *, words: bool, max_length: int, windows: bool, stride: int | None) -> None:
        self.tokenizer, self.words, self.max_length = tokenizer, words, max_length
        self.windows, self.stride = windows, stride

    def call(self, *columns: list[Any], stride: int) -> Any:
        cut = "only_first" if self.words or len(columns) == 1 else "only_second" if self.windows else "longest_first"
        return self.tokenizer(
            *columns,
            is_split_into_words=self.words,
            truncation=cut,
            max_length=self.max_length,
            return_overflowing_tokens=self.windows,
            stride=stride,
            return_attention_mask=True,  # a tokenizer may be stored without, and then padding would count as text
        )

    def overlaps(self, texts: Sequence[Any], others: Sequence[Any]) -> list[int]:
        """The overlap of each text's windows; 0 without windows. DataError for a text without room."""
        special = self.tokenizer.num_special_tokens_to_add
        found = [self._overlap(self.max_length - special(pair=False))] * len(texts)
        pairs = [i for i, other in enumerate(others) if other is not None]
        if not pairs or not (self.words or self.windows):  # the longer text is cut first: there is room for both
            return found
        whole, cut = (others, texts) if self.words else (texts, others)
        for i, kept in zip(pairs, self._lengths([whole[i] for i in pairs]), strict=True):
            room = self.max_length - special(pair=True) - kept
            found[i] = self._overlap(room)
            if found[i] >= room:
                if self._lengths([cut[i]])[0] > room:
                    name, rest = ("query", "document") if self.words else ("first text", "second")
                    at = f"max_length {self.max_length}" + (f" and stride {found[i]}" if found[i] else "")
                    raise DataError(
                        f"text {i}: its {name} has {kept} tokens, which leaves no room for the {rest} at {at}"
                    )
                found[i] = 0  # the pair fits as it is
        return found

    def _overlap(self, room: int) -> int:
        if not self.windows:
            return 0
        return min(_DEFAULT_STRIDE, max(0, room) // 4) if self.stride is None else self.stride

    def _lengths(self, texts: Sequence[Any]) -> list[int]:
        """Tokens of each text by itself, without special tokens."""
        encoded = self.tokenizer(
            list(texts), is_split_into_words=self.words, add_special_tokens=False, truncation=False, verbose=False
        )
        return [len(ids) for ids in encoded["input_ids"]]


def encode_dataset(
    dataset: Dataset,
    tokenizer: Any,
    *,
    columns: tuple[str, ...],
    max_length: int,
    truncation: str = "truncate",
    stride: int | None = None,
    workers: int = 0,
    blank: bool = True,
) -> Dataset:
    """`encode` of every row of a data set.

    Args:
        dataset: with `id`, the columns, see `Task.columns`, and possibly `label`.
        workers: processes that tokenise a data set of more than IN_MEMORY_ROWS rows; 0 and 1: this one.
        blank: whether a text may give no wordpieces; DataError where not.

    Returns:
        Columns id (of windows "ID#k", k from 0), example_id, those of `Encoded.rows`, and labels.
    """
    from datasets.fingerprint import get_temporary_cache_files_directory

    tokenizer = copy.deepcopy(tokenizer)  # processes get it as it is now

    def encode_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        ids, texts, seconds = batch["id"], batch[columns[0]], batch[columns[1]] if len(columns) == 2 else None
        if columns[1:] == ("query",):
            seconds = [query.split() for query in seconds or ()]
        try:
            made = encode(
                texts, tokenizer, seconds=seconds, max_length=max_length, truncation=truncation, stride=stride
            )
        except DataError as error:
            index, _, reason = str(error).removeprefix("text ").partition(":")
            raise DataError(f"example {ids[int(index)]!r}:{reason}") from error
        if not blank and (empty := made.blank()):
            raise DataError(f"example {ids[empty[0]]!r}: its text gives no wordpieces, as an empty one")
        owned = [ids[owner] for owner in made.owners]
        out: dict[str, list[Any]] = {"id": owned, "example_id": owned}
        if truncation == "windows":
            first = {owner: row for row, owner in reversed(list(enumerate(made.owners)))}
            out["id"] = [f"{ids[owner]}#{row - first[owner]}" for row, owner in enumerate(made.owners)]
        for name in made.rows[0]:
            out[name] = [row[name] for row in made.rows]
        if "label" in batch:
            out["labels"] = [batch["label"][owner] for owner in made.owners]
        return out

    large, name = dataset.num_rows > IN_MEMORY_ROWS, uuid.uuid4().hex
    return dataset.map(
        encode_batch,
        batched=True,
        remove_columns=dataset.column_names,
        keep_in_memory=not large,
        cache_file_name=f"{get_temporary_cache_files_directory()}/{name}.arrow" if large else None,
        num_proc=workers if large and workers > 1 else None,
        load_from_cache_file=False,
        new_fingerprint=name,  # spares `datasets` pickling the tokenizer for a cache that is not used
        desc="tokenise",
    )


# ---- what a model reads of a long text


@dataclass(frozen=True)
class Encoding:
    """Settings of tokenisation: length, and the part of a long text that is read."""

    max_length: int | None = None  # wordpieces; None: the model's longest
    long_documents: str = "truncate"  # the truncation strategy for longer texts, one of TRUNCATIONS
    stride: int | None = None  # overlap of windows in wordpieces; None: by the length of a window
    note: str = ""  # one line that says all of this, and why

    @property
    def arguments(self) -> dict[str, Any]:
        """Of `encode`."""
        return {"max_length": self.max_length, "truncation": self.long_documents, "stride": self.stride}

    def within(self, limit: int) -> Encoding:
        """With a length, for a model that reads `limit` wordpieces; ArgumentError for one that it cannot read."""
        length = limit if self.max_length is None else self.max_length
        if not (is_number(length, whole=True) and 3 <= length <= limit):
            raise ArgumentError(f"max_length: {length!r} is not a whole number from 3 to the model's {limit}")
        return replace(self, max_length=length)


def reading(encoding: Mapping[str, Any] | Encoding) -> str | None:
    """Which part of a text is read, in a few words that are the same for the same part; None where a record's
    `encoding` does not say."""
    said = asdict(encoding) if isinstance(encoding, Encoding) else encoding
    length, strategy, stride = (said.get(name) for name in ("max_length", "long_documents", "stride"))
    if length is None or strategy is None:
        return None
    overlap = f", stride {stride}" if strategy == "windows" and stride is not None else ""
    return f"max_length {length}, longer texts: {strategy}{overlap}"


def part_read(how: Encoding, length: int) -> str:
    """The part of a text longer than `length` tokens that is read, in words."""
    return {
        "truncate": f"the first {length} tokens",
        "last": f"the last {length} tokens",
        "windows": f"windows of {length} tokens, over whose logits it takes the mean",
    }[how.long_documents]


def choose_encoding(
    recorded: Encoding | None,
    *,
    max_length: int | None = None,
    long_documents: str | None = None,
    stride: int | None = None,
    longest: str = "the model's longest input",
) -> Encoding:
    """Combine the given settings with those of the model's training; a recorded stride applies to its windows only.
    The note calls a length that neither names `longest`."""
    how = recorded or Encoding()
    strategy = long_documents or how.long_documents
    if strategy not in TRUNCATIONS:
        raise ArgumentError(f"long_documents: {strategy!r} is not one of {', '.join(TRUNCATIONS)}")
    if stride is not None and not (is_number(stride, whole=True) and stride >= 0 and strategy == "windows"):
        raise ArgumentError(f"stride: {stride!r} must be at least 0, and long_documents windows")
    changed = max_length not in (None, how.max_length) or strategy != how.long_documents
    chosen = Encoding(
        max_length=how.max_length if max_length is None else max_length,
        long_documents=strategy,
        stride=stride if stride is not None else None if changed else how.stride,
    )
    length = longest if chosen.max_length is None else f"max_length {chosen.max_length}"
    because = f"as in training ({RUN})" if recorded is not None else f"no {RUN} with the model"
    if changed or stride is not None:
        because = "as requested"
    return replace(chosen, note=f"{length}, longer texts: {chosen.long_documents}; {because}")


def recorded_encoding(name_or_path: str | Path, **hub: Any) -> Encoding | None:
    """Encoding recorded in a model's run.json; None without one. CheckpointError if it is damaged."""
    path, record = read_run(name_or_path, **hub)
    encoding = record.get("encoding")
    if not encoding:  # {}: trained on rows that were encoded elsewhere
        return None
    values = encoding if isinstance(encoding, dict) else {}
    length, strategy, stride = (values.get(name) for name in ("max_length", "long_documents", "stride"))
    if type(length) is not int or strategy not in TRUNCATIONS or not (stride is None or type(stride) is int):
        raise CheckpointError(f"{path}: 'encoding' needs max_length, long_documents and stride, found {encoding!r:.80}")
    return Encoding(max_length=length, long_documents=str(strategy), stride=stride)


def read_run(name_or_path: str | Path, **hub: Any) -> tuple[Path | None, dict[str, Any]]:
    """The path of a model's run.json, and its content; (None, {}) without one. CheckpointError for one that cannot be
    read, or is no JSON object."""
    path = file_beside(name_or_path, RUN, **hub)
    return path, {} if path is None else read_json(path)


def record_of_copy(record: Path, *, threshold_scale: float) -> str | None:
    """The text of a run.json for a copy of its model whose eta was multiplied by a scale, by earlier ones as well; None
    where there is no such file, CheckpointError for a damaged one."""
    if not record.is_file():
        return None
    _, content = read_run(record.parent)
    before = content.get("threshold_scale", 1.0)
    if not is_number(before) or before <= 0:
        raise CheckpointError(f"{record}: 'threshold_scale' must be a number above 0, found {repr(before)[:80]}")
    if threshold_scale == 1:
        return record.read_text(encoding="utf-8")
    return json.dumps({**content, "threshold_scale": before * threshold_scale}, indent=2, ensure_ascii=False) + "\n"


def file_beside(name_or_path: str | Path, name: str, **hub: Any) -> Path | None:
    """The path of a file of a model's folder, fetched from the hub if need be; None without it. `hub`: subfolder,
    revision, token, cache_dir, local_files_only of transformers' `from_pretrained`."""
    if Path(name_or_path).exists():
        path = Path(name_or_path) / (hub.get("subfolder") or "") / name
        return path if path.is_file() else None
    from transformers.utils import cached_file

    quietly = {
        f"_raise_exceptions_for_{kind}": False for kind in ("gated_repo", "missing_entries", "connection_errors")
    }
    try:
        found = cached_file(str(name_or_path), name, **hub, **quietly)
    except (OSError, ValueError):  # no such model: loading it reports that
        return None
    return None if found is None else Path(found)
