"""Arrays on disk under a key: one SQLite file in one folder.

Each entry is an .npz without pickle, behind its SHA-256: an archive whose list of arrays is damaged can still be read,
with fewer of them. Entries are written in one transaction: a run that is killed leaves all of them or none, and the
next run goes on from there. Several processes and threads can use one folder at a time.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from adapler.files import cache_folder

VARIABLE = "ADAPLER_CACHE"
FILE = "scores.sqlite"
_WAIT = 60.0  # seconds that a process waits for another one that is writing
_AT_ONCE = 500  # keys of one query
_DIGEST = hashlib.sha256().digest_size  # bytes before an entry's archive

Arrays = dict[str, NDArray[Any]]


def default_folder() -> Path:
    """$ADAPLER_CACHE, or else `scores` in `cache_folder`."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder).expanduser()
    return cache_folder() / "scores"


class ScoreCache:
    """A folder with one file of entries, or nothing at all (folder None), and a count of what came out of it.

    The folder is made when something is written: whoever asks for a cache may be wrong about something else.

    hits, misses: entries found and not found.

    Raises ArgumentError when the folder is a file or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.hits = self.misses = 0
        if self.folder is not None:
            new = [part for part in (self.folder, *self.folder.parents) if not os.path.lexists(part)]
            self._make_folder()
            for part in new:  # the innermost first
                with suppress(OSError):  # another process has put something in
                    part.rmdir()

    def _make_folder(self) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"cache: {self.folder} cannot be a folder ({error.strerror})") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ArgumentError(f"cache: {self.folder} cannot be written")

    def load(self, key: str) -> Arrays | None:
        """The arrays under a key; None when there are none, or they are damaged."""
        return self.load_many([key]).get(key)

    def load_many(self, keys: Iterable[str]) -> dict[str, Arrays]:
        """Key -> arrays, for the keys that are there and whole."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Arrays] = {}
        if self.folder is not None:
            for key, content in _select(self.folder / FILE, wanted):
                arrays = _unpack(content)
                if arrays is not None:
                    found[key] = arrays
        self.hits += len(found)
        self.misses += len(wanted) - len(found)
        return found

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the arrays of a key, whole or not at all."""
        self.save_many({key: arrays})

    def save_many(self, entries: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Write the arrays of several keys, all of them or none. Raises ArgumentError when the disk is full."""
        if self.folder is None or not entries:
            return
        self._make_folder()
        path = self.folder / FILE
        rows = [(key, _pack(arrays)) for key, arrays in entries.items()]
        with _errors(path):
            try:
                _insert(path, rows)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # the file is damaged: its entries are lost, they can be computed again
                path.unlink(missing_ok=True)
                _insert(path, rows)


def _select(path: Path, keys: list[str]) -> list[tuple[str, bytes]]:
    """The rows of these keys; none when the file is not there or is damaged."""
    rows: list[tuple[str, bytes]] = []
    if not path.is_file():
        return rows
    with _errors(path):
        try:
            with closing(sqlite3.connect(path, timeout=_WAIT)) as connection:
                _make_table(connection)
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    marks = ", ".join("?" * len(some))
                    rows += connection.execute(f"SELECT key, arrays FROM entries WHERE key IN ({marks})", some)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return []
    return rows


def _insert(path: Path, rows: list[tuple[str, bytes]]) -> None:
    with closing(sqlite3.connect(path, timeout=_WAIT)) as connection, connection:  # one transaction
        _make_table(connection)
        connection.executemany("INSERT OR REPLACE INTO entries (key, arrays) VALUES (?, ?)", rows)


def _make_table(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, arrays BLOB NOT NULL)")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """SQLite's errors (no space, no permission, held by another process) as one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise ArgumentError(f"cache: {path} cannot be used ({error}); choose another folder, or no cache") from error


def _pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy types **kwds as allow_pickle too
    return _digest(stream.getvalue()) + stream.getvalue()


def _unpack(content: bytes) -> Arrays | None:
    digest, archive = content[:_DIGEST], content[_DIGEST:]
    if digest != _digest(archive):
        return None  # damaged: it is computed and written again
    try:
        with io.BytesIO(archive) as stream:
            loaded = np.load(stream, allow_pickle=False)
            return {name: loaded[name] for name in loaded.files}
    except ValueError:
        return None  # pickled objects: not written here


def _digest(archive: bytes) -> bytes:
    return hashlib.sha256(archive).digest()
