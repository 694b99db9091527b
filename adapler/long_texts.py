"""Which part of a text is read that is longer than the input: the one place that decides it, for every way to predict,
and the one through which tokenizers cut.

What the caller says comes first, then what run.json beside the model remembers of its training. So a model reads the
same part of a text in `model.predict`, in `adapler predict`, and in the evaluation that gave its published score.

Only the standard library is imported at once, so that a command can decide it before it loads torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

from adapler.errors import ArgumentError, CheckpointError, is_number
from adapler.files import replacing

Policy = Literal["truncate", "last", "windows"]
POLICIES: tuple[str, ...] = get_args(Policy)
RUN = "run.json"


@dataclass(frozen=True)
class Encoding:
    """How texts become inputs.

    Attributes:
        max_length: longest input in wordpieces; None: the model's longest.
        long_documents: what becomes of longer texts: their first wordpieces (truncate), their last ones (last), or
            overlapping windows, whose logits are averaged.
        stride: overlap of windows in wordpieces; None: by the length of a window.
        note: one line that says all of this, and why.
    """

    max_length: int | None = None
    long_documents: str = "truncate"
    stride: int | None = None
    note: str = ""

    def length_within(self, limit: int) -> int:
        """The longest input of a model that reads `limit` wordpieces; ArgumentError for one that it cannot read."""
        if self.max_length is None:
            return limit
        if not (is_number(self.max_length, whole=True) and 3 <= self.max_length <= limit):
            raise ArgumentError(f"max_length: {self.max_length!r} is not a whole number from 3 to the model's {limit}")
        return self.max_length


def reading(encoding: Mapping[str, Any] | Encoding) -> str | None:
    """Which part of a text is read, in a few words that are the same for the same part; None where a record's
    `encoding` does not say."""
    said = asdict(encoding) if isinstance(encoding, Encoding) else encoding
    length, policy, stride = (said.get(name) for name in ("max_length", "long_documents", "stride"))
    if length is None or policy is None:
        return None
    overlap = f", stride {stride}" if policy == "windows" and stride is not None else ""
    return f"max_length {length}, longer texts: {policy}{overlap}"


def part_read(how: Encoding, length: int) -> str:
    """What of a text that is longer than `length` tokens is read, in words."""
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
    """What is asked for, and for the rest what training did.

    A stride of training is for its own windows: with another length or policy, it is not taken over.

    Args:
        recorded: what `recorded_encoding` found; None: nothing, and then texts are cut to the model's longest input.
        max_length, long_documents, stride: what is asked for, see `Encoding`; None: nothing.
        longest: what the note calls a length that neither names.

    Raises:
        ArgumentError: another policy, or a stride that is negative or without windows.
    """
    how = recorded or Encoding()
    policy = long_documents or how.long_documents
    if policy not in POLICIES:
        raise ArgumentError(f"long_documents: {policy!r} is not one of {', '.join(POLICIES)}")
    if stride is not None and not (is_number(stride, whole=True) and stride >= 0 and policy == "windows"):
        raise ArgumentError(f"stride: {stride!r} must be at least 0, and long_documents windows")
    changed = max_length not in (None, how.max_length) or policy != how.long_documents
    chosen = Encoding(
        max_length=how.max_length if max_length is None else max_length,
        long_documents=policy,
        stride=stride if stride is not None else None if changed else how.stride,
    )
    length = longest if chosen.max_length is None else f"max_length {chosen.max_length}"
    because = f"as in training ({RUN})" if recorded is not None else f"no {RUN} beside the model says more"
    if changed or stride is not None:
        because = "as asked for"
    return replace(chosen, note=f"{length}, longer texts: {chosen.long_documents}; {because}")


def recorded_encoding(name_or_path: str | Path, **hub: Any) -> Encoding | None:
    """What run.json beside a model says of its training; None where there is none.

    Args:
        name_or_path, hub: see `read_run`.

    Raises:
        CheckpointError: run.json is damaged.
    """
    return _encoding_of(*read_run(name_or_path, **hub))


def _encoding_of(path: Path | None, record: dict[str, Any]) -> Encoding | None:
    encoding = record.get("encoding")
    if encoding is None or encoding == {}:  # {}: trained on rows that were encoded elsewhere
        return None
    length, policy, stride = (
        (encoding.get(name) for name in ("max_length", "long_documents", "stride"))
        if isinstance(encoding, dict)
        else (None, None, None)
    )
    good = type(length) is int and policy in POLICIES and (stride is None or type(stride) is int)
    if not good:
        raise CheckpointError(
            f"{path}: 'encoding' must have max_length (a whole number), long_documents ({', '.join(POLICIES)}) and "
            f"stride (a whole number or null), found {repr(encoding)[:80]}"
        )
    return Encoding(max_length=length, long_documents=str(policy), stride=stride)


def read_run(name_or_path: str | Path, **hub: Any) -> tuple[Path | None, dict[str, Any]]:
    """Where run.json of a model is, and what it holds; nothing where there is none.

    Args:
        name_or_path: folder or hub name; of a hub name, run.json is fetched if the model has one.
        hub: subfolder, revision, token, cache_dir, local_files_only, as of transformers' `from_pretrained`.

    Raises:
        CheckpointError: it cannot be read, or is no object.
    """
    path = run_path(name_or_path, **hub)
    if path is None:
        return None, {}
    try:
        return path, _record_in(path.read_bytes(), path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _record_in(text: bytes, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, found {type(record).__name__}")
    return record


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be read ({' '.join(str(error).split()):.100})")


def run_path(name_or_path: str | Path, **hub: Any) -> Path | None:
    """Where run.json of a model is, for the arguments of `read_run`; None where there is none."""
    if Path(name_or_path).exists():
        path = Path(name_or_path) / (hub.get("subfolder") or "") / RUN
        return path if path.is_file() else None
    from transformers.utils import cached_file

    quiet = ("gated_repo", "missing_entries", "connection_errors")
    quietly: dict[str, Any] = {f"_raise_exceptions_for_{name}": False for name in quiet}
    try:
        found = cached_file(str(name_or_path), RUN, **hub, **quietly)
    except (OSError, ValueError):  # no such model: loading it says so, in its own words
        return None
    return None if found is None else Path(found)


class Origin:
    """Where a model was loaded from, and run.json there.

    Of a folder it is read at once: later the folder may hold another model, or a relative name mean another folder. On
    the hub it is asked for when it is needed.

    Args:
        name_or_path: folder or hub name.
        arguments: of transformers' `from_pretrained`; those that do not say where files are do not count.
    """

    def __init__(self, name_or_path: str | Path, **arguments: Any) -> None:
        names = ("subfolder", "revision", "token", "cache_dir", "local_files_only")
        self._name, self._hub = name_or_path, {name: arguments[name] for name in names if name in arguments}
        self._found: tuple[Path, bytes] | None = None
        self._looked = False
        if Path(name_or_path).exists():
            self._name = Path(name_or_path).resolve()
            with suppress(OSError):  # it is an error for what needs it, which tries again
                self._run()

    def _run(self) -> tuple[Path, bytes] | None:
        """run.json: where it was, and its text."""
        if not self._looked:
            path = run_path(self._name, **self._hub)
            self._found = None if path is None else (path, path.read_bytes())
            self._looked = True
        return self._found

    def encoding(self) -> Encoding | None:
        """What run.json says of the model's training; None where there is none.

        Raises:
            CheckpointError: it is damaged, or cannot be read.
        """
        try:
            found = self._run()
        except OSError as error:
            raise _unreadable(Path(self._name) / RUN, error) from error
        return None if found is None else _encoding_of(found[0], _record_in(found[1], found[0]))

    def save(self, folder: Path) -> None:
        """Write run.json into a folder; without one, that of another model does not stay there."""
        found, path = self._run(), folder / RUN
        if found is None:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_bytes() != found[1]:
            with replacing(path) as partial:
                partial.write_bytes(found[1])


class _Tokenizing:
    """One call at a time. A forked process has its own lock: whoever held this one is not there to give it back."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.lock = Lock()


_TOKENIZING = _Tokenizing()


def tokenized(tokenizer: Any, *texts: Any, side: str | None = None, **options: Any) -> Any:
    """What a tokenizer gives for these arguments, one call at a time: at which length it cuts is a state of a fast one,
    so of two threads that share it each would cut the other one's texts.

    It cuts on its own side or, for the length of this call, on another one: "right" keeps the first tokens, "left" the
    last ones.
    """
    with _TOKENIZING.lock:
        own = getattr(tokenizer, "truncation_side", None)
        if side in (None, own):
            return tokenizer(*texts, **options)
        tokenizer.truncation_side = side  # a copy takes five times as long as a small model for a text
        try:
            return tokenizer(*texts, **options)
        finally:
            tokenizer.truncation_side = own
