"""Files of a folder or of a tar archive, read in one way. Archives are read in memory and never trusted."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adapler.data.text_formats import json_object
from adapler.errors import DataError

__all__ = ["ARCHIVE_SUFFIXES", "FileTree", "excerpt", "is_archive", "json_lines", "open_archive", "open_folder"]

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_MOST_BYTES = 4 << 30  # unpacked; far more than any ERASER corpus has, and the end of a decompression bomb
_LONGEST_NAME, _LONGEST_PATH = 255, 2048  # bytes
_CHUNK = 1 << 20


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a path is named like a tar archive."""
    return os.fspath(path).lower().endswith(ARCHIVE_SUFFIXES)


@dataclass(frozen=True)
class FileTree:
    """Relative POSIX names and where their bytes are: a file on disk, or the bytes themselves."""

    root: str
    files: Mapping[str, Path | bytes]

    def where(self, name: str) -> str:
        """The name that an error message shows."""
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> str:
        """Text of a file, without a byte order mark; DataError when it is unreadable or not UTF-8."""
        content = self.files[name]
        try:
            data = content if isinstance(content, bytes) else content.read_bytes()
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.where(name)}: not UTF-8 text (byte {error.start})") from error
        except OSError as error:
            raise DataError(f"{self.where(name)}: cannot be read ({error.strerror})") from error

    def lines(self, name: str) -> Iterator[str]:
        """The lines of a file, which end at "\\n" alone, one after the other; DataError as of `read`, with the line."""
        content = self.files[name]
        number = 1
        try:
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.where(name)}:{number}: not UTF-8 text (byte {error.start})") from error
        except OSError as error:
            raise DataError(f"{self.where(name)}: cannot be read ({error.strerror})") from error

    def below(self, prefix: str) -> FileTree:
        """The files under the folder `prefix` ("" for all)."""
        if not prefix:
            return self
        start = f"{prefix}/"
        inside = {name[len(start) :]: data for name, data in self.files.items() if name.startswith(start)}
        return FileTree(self.where(prefix), inside)


def open_folder(path: Path, *patterns: str) -> FileTree:
    """The files of a folder that match one of the glob patterns, hidden ones left out."""
    files: dict[str, Path | bytes] = {}
    for file in sorted(file for pattern in patterns for file in path.glob(pattern)):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            files[name.as_posix()] = file
    return FileTree(str(path), files)


def open_archive(path: Path, *, shown_as: str | None = None) -> FileTree:
    """Every regular file of a (compressed) tar, in memory.

    Args:
        path: of the archive.
        shown_as: what error messages call it; by default the path.

    Raises:
        DataError: a missing, truncated or corrupt archive, one that unpacks to more than 4 GiB, and one with a
            member that could mislead an extraction: an absolute name, `..`, a link, a device, a name used twice,
            a name that no file system takes, a file below another file.
    """
    shown = shown_as or str(path)
    if not path.is_file():
        raise DataError(f"{shown}: no such file")
    try:
        with tarfile.open(path, "r:*") as archive:
            files = dict(_members(archive, shown))
            _check_end(archive)
    except DataError:
        raise
    # ValueError and OverflowError: numbers in a header that tarfile does not check
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise DataError(f"{shown}: not a complete tar archive ({reason})") from error
    if not files:
        raise DataError(f"{shown}: the archive is empty")
    _refuse_files_below_files(files, shown)
    return FileTree(shown, files)


def _members(archive: tarfile.TarFile, shown: str) -> Iterator[tuple[str, bytes]]:
    total = 0
    seen = set()
    for member in archive:
        name = _checked_name(member, shown)
        if member.isdir() or any(part.startswith(("._", "__MACOSX")) for part in name.split("/")):
            continue
        if not member.isreg():
            raise DataError(f"{shown}: member {name!r} is a link or a device, refused")
        if name in seen:
            raise DataError(f"{shown}: member {member.name!r} appears twice")
        seen.add(name)
        total += member.size
        if total > _MOST_BYTES:
            raise DataError(f"{shown}: unpacks to more than {_MOST_BYTES >> 30} GiB, refused")
        stream = archive.extractfile(member)
        data = b"" if stream is None else stream.read()
        if len(data) != member.size:
            raise DataError(f"{shown}: not a complete tar archive (member {member.name!r} is cut short)")
        yield name, data


def _checked_name(member: tarfile.TarInfo, shown: str) -> str:
    name = member.name
    parts = PurePosixPath(name).parts
    if name.startswith(("/", "\\")) or ".." in parts or "\\" in name or ":" in name.split("/")[0]:
        raise DataError(f"{shown}: member {name!r} leaves the archive's folder, refused")
    long = len(os.fsencode(name)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts)
    if long or "\0" in name:
        raise DataError(f"{shown}: member {excerpt(name)}... has a name that no file system takes, refused")
    return PurePosixPath(*parts).as_posix()  # "./movies/x" is "movies/x"


def _refuse_files_below_files(files: Mapping[str, bytes], shown: str) -> None:
    for name in files:
        above = next((parent.as_posix() for parent in PurePosixPath(name).parents if parent.as_posix() in files), None)
        if above is not None:
            raise DataError(f"{shown}: member {name!r} lies below {above!r}, which is a file, refused")


def _check_end(archive: tarfile.TarFile) -> None:
    """Finds what `tarfile` lets pass: a cut between two members, and a wrong checksum of the compressed stream."""
    stream = archive.fileobj
    if stream is None:  # never while the archive is open
        return
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    while stream.read(_CHUNK):  # gzip and xz keep their checksum at the very end
        pass


def json_lines(text: str | Iterable[str], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every line that is not blank, of a text or of its lines (`FileTree.lines`).

    Raises DataError, with the line, for what is not a JSON object or cannot be written as UTF-8.
    """
    # Not splitlines(): JSON strings may hold U+2028 and other characters that it takes for line ends.
    lines = text.split("\n") if isinstance(text, str) else text
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json_object(line)
        except DataError as error:
            raise DataError(f"{where}:{number}: {error}") from error
        yield number, row


def excerpt(value: object, most: int = 40) -> str:
    """The beginning of a value, for an error message: at most `most` characters, "nothing" for None."""
    if value is None:
        return "nothing"
    try:
        return repr(value)[:most]
    except (ValueError, RecursionError):  # a number of thousands of digits, lists nested thousands deep
        return f"a very large {type(value).__name__}"
