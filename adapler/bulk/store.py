"""What is done of an unfinished output, in a folder beside it, so that a killed run goes on.

    out.jsonl.partial/
        state.json   what the output is made with; written first, whole or not at all
        rows         the output so far, shard after shard
        errors       the bad rows so far
        journal      a line for each shard in `rows`: its checksum, and where it ends
        lock         held by the run that writes

A shard counts once its line is in the journal. The order on the disk is rows, errors, journal, each forced out (fsync)
before the next. So after a kill, a crash of the machine or a full disk, what stands behind the last journalled shard is
cut off again and everything before it is good. At the end the files are renamed to the output, errors first.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adapler.errors import ArgumentError, DataError
from adapler.files import replacing

__all__ = ["Entry", "Store", "errors_path"]

_NAMES = ("state.json", "rows", "errors", "journal", "lock", "final")
_END = {"end": True}


def errors_path(output: Path) -> Path:
    """Where the bad rows go: out.csv.errors.jsonl beside out.csv, and beside what a link leads to.

    The whole name counts, so that out.csv and out.jsonl have a file each.
    """
    output = Path(os.path.realpath(output)) if output.is_symlink() else output
    return output.with_name(f"{output.name}.errors.jsonl")


@dataclass(frozen=True)
class Entry:
    """A line of the journal.

    Attributes:
        digest: checksum of the shard's rows in the input.
        rows, bad, tokens, unread: of the shard, see `Finished`.
        rows_end, errors_end: where it ends in `rows` and in `errors`, in bytes.
    """

    digest: str
    rows: int
    bad: int
    tokens: int
    rows_end: int
    errors_end: int
    unread: int = 0  # not in journals of earlier versions


class Store:
    """The work folder of one output.

    Attributes:
        entries: the shards that are done.
        folder: where they lie.
    """

    def __init__(
        self,
        output: Path,
        *,
        state: Mapping[str, Any],
        header: bytes,
        restart: bool = False,
    ) -> None:
        """Begin a work folder, or go on with one.

        Args:
            output: the file that is to be made.
            state: what decides its bytes; values as JSON has them.
            header: what stands before the first shard.
            restart: begin anew whatever is there.

        Raises:
            ArgumentError: a folder that is not ours, that another run is writing, or that was made with another state:
                the message names the difference.
            DataError: a damaged folder.
        """
        self.output = Path(os.path.realpath(output))  # of a link, what it leads to is written
        self.folder = self.output.with_name(f"{self.output.name}.partial")
        self.entries: list[Entry] = []
        self.ended = False
        self._journal_end = 0  # in bytes
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self._check_ours()
        self.folder.mkdir(exist_ok=True)
        self._lock = _locked(self.folder / "lock", self.folder)
        try:
            if restart or not (self.folder / "state.json").is_file():
                self._begin(state, header)
            else:
                self._check_state(state)
                self._go_on(len(header))
            self._rows = None if self.ended else (self.folder / "rows").open("r+b")
            self._errors = None if self.ended else (self.folder / "errors").open("r+b")
            self._journal = (self.folder / "journal").open("r+b")
            self._cut_off(len(header))
        except BaseException:
            self._lock.release()
            raise

    def _check_ours(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ArgumentError(f"--output: {self.folder} is a file; the work folder of {self.output.name} goes there")
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        foreign = [name for name in names if name not in _NAMES and not name.startswith(".state.")]
        if foreign:
            raise ArgumentError(
                f"--output: {self.folder} holds {foreign[0]!r}, so it is no work folder of this command"
            )

    def _begin(self, state: Mapping[str, Any], header: bytes) -> None:
        for name in ("state.json", "journal", "rows", "errors", "final"):  # without a state the rest does not count
            (self.folder / name).unlink(missing_ok=True)
        for name, content in (("rows", header), ("errors", b""), ("journal", b"")):
            with (self.folder / name).open("wb") as stream:
                _write(stream, content)
        with replacing(self.folder / "state.json") as partial, partial.open("wb") as stream:
            _write(stream, (json.dumps(dict(state), indent=2, ensure_ascii=False) + "\n").encode())
        _sync_folder(self.folder)

    def _check_state(self, state: Mapping[str, Any]) -> None:
        path = self.folder / "state.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            items = dict(found)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: damaged; --restart begins anew") from error
        for name, value in json.loads(json.dumps(dict(state))).items():
            if items.get(name) != value:
                raise ArgumentError(
                    f"--output: {self.folder.name} was begun with {name} {_shown(items.get(name))}, now it is "
                    f"{_shown(value)}; --restart begins anew"
                )

    def _go_on(self, header: int) -> None:
        """Reads the journal. A last line that was not finished does not count."""
        path = self.folder / "journal"
        try:
            *lines, rest = (content := path.read_bytes()).split(b"\n")
            self._journal_end = len(content) - len(rest)
            found = [json.loads(line) for line in lines]
            self.ended = bool(found) and found[-1] == _END
            self.entries = [Entry(**line) for line in (found[:-1] if self.ended else found)]
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: damaged; --restart begins anew") from error
        rows, errors = self._ends(header)
        sizes = [p.stat().st_size if (p := self.folder / name).is_file() else -1 for name in ("rows", "errors")]
        if not self.ended and (sizes[0] < rows or sizes[1] < errors):
            raise DataError(f"{self.folder}: damaged, it holds less than its journal says; --restart begins anew")

    def _ends(self, header: int) -> tuple[int, int]:
        return (self.entries[-1].rows_end, self.entries[-1].errors_end) if self.entries else (header, 0)

    def _cut_off(self, header: int) -> None:
        """Removes what a killed run wrote behind its last journalled shard."""
        ends = (*self._ends(header), self._journal_end)
        for stream, end in zip((self._rows, self._errors, self._journal), ends, strict=True):
            if stream is not None:
                stream.truncate(end)
                stream.seek(end)

    def append(
        self, output: bytes, errors: bytes, *, digest: str, rows: int, bad: int, tokens: int, unread: int
    ) -> None:
        """Adds a shard; when this returns, it is safe. OSError (a full disk) leaves the shards before it."""
        if self._rows is None or self._errors is None:
            raise DataError(f"{self.folder}: was ended, and the input has more rows now; --restart begins anew")
        with _named(self.folder):
            _write(self._rows, output)
            if errors:
                _write(self._errors, errors)
            entry = Entry(digest, rows, bad, tokens, self._rows.tell(), self._errors.tell(), unread)
            _write(self._journal, json.dumps(asdict(entry)).encode() + b"\n")
        self.entries.append(entry)

    def first_errors(self, number: int) -> list[dict[str, Any]]:
        """The first bad rows, as `errors` has them."""
        found: list[dict[str, Any]] = []
        path = self.folder / "errors"
        with (path if path.is_file() else errors_path(self.output)).open("rb") as stream:
            for line in stream:
                if len(found) == number:
                    break
                found.append(json.loads(line))
        return found

    def finish(self, convert: Callable[[Path, Path], None] | None = None) -> None:
        """Makes the output; may be called again after a kill in the middle of it.

        Args:
            convert: makes the output from `rows`; None: `rows` is the output.
        """
        bad = sum(entry.bad for entry in self.entries)
        with _named(self.folder):
            if not self.ended:
                _write(self._journal, (json.dumps(_END) + "\n").encode())
                self.ended = True
            self._close_files()
            errors, rows = self.folder / "errors", self.folder / "rows"
            if not bad:
                errors_path(self.output).unlink(missing_ok=True)  # of an earlier output of this name
            elif errors.is_file():
                os.replace(errors, errors_path(self.output))
            if rows.is_file():
                final = rows
                if convert is not None:
                    final = self.folder / "final"
                    convert(rows, final)
                    with final.open("r+b") as stream:  # Windows forces out what may be written
                        os.fsync(stream.fileno())
                os.replace(final, self.output)
            _sync_folder(self.output.parent)
        self.discard()

    def discard(self) -> None:
        """Removes the work folder. The state goes first: without it, what is left of a folder counts for nothing."""
        self._close_files()
        (self.folder / "state.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Lets another run go on here."""
        self._close_files()
        self._lock.release()

    def _close_files(self) -> None:
        for stream in (self._rows, self._errors, self._journal):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass  # a full disk: what is not journalled does not count


def _write(stream: Any, content: bytes) -> None:
    stream.write(content)
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Forces renames and new names in a folder out to the disk; Windows opens no folder."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A system error says where it happened."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _locked(path: Path, folder: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArgumentError(f"--output: {folder} is being written by another run") from error
    return lock


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
