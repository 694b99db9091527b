"""Checks, before long work, that what is to be written at its end can be written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from adapler.distributed import is_main
from adapler.errors import ArgumentError
from adapler.files import check_replaceable, temporary_beside

__all__ = ["check_output_file", "check_output_folder"]


def check_output_folder(path: Path, *, replaced: bool = True, former: Sequence[str] = ()) -> None:
    """Check, before long work, that a folder of this name can be made and, where it is to be, be replaced whole.

    Args:
        path: the folder.
        replaced: whether it will be, with all that it holds (a training keeps what else lies in its folder).
        former: files by which an earlier output of the command is known; no other folder with files in it may go.

    Raises:
        ArgumentError: it, or a part of it, is a file or cannot be made, or it holds what must not be replaced.
    """
    path = Path(os.path.realpath(path))
    for part in (path, *path.parents):
        if os.path.lexists(part):
            if not part.is_dir():
                raise ArgumentError(f"--output: {path} cannot be a folder, {part} is a file")
            break
    if replaced:
        check_replaceable(path)
        if former:
            _check_former(path, former)
    _probe(path, is_folder=True)


def _check_former(path: Path, former: Sequence[str]) -> None:
    """Raises ArgumentError for a folder that is neither empty nor an earlier output."""
    found = sorted(os.listdir(path)) if os.path.isdir(path) else []
    if found and not set(found).intersection(former):
        more = ", ..." if found[1:] else ""
        raise ArgumentError(
            f"--output: {path} would be replaced whole, and what it holds ({found[0]!r}{more}) is no earlier output of "
            "this command; choose another folder"
        )


def check_output_file(path: Path | None) -> None:
    """Check, before long work, that a file of this name can be written; None is nothing to write.

    Raises:
        ArgumentError: it is a folder, a device or a pipe, lies in a file, or cannot be made.
    """
    if path is not None:
        if os.path.isdir(path):
            raise ArgumentError(f"--output: {path} is a folder, a file is to be written there")
        if os.path.exists(path) and not os.path.isfile(path):
            raise ArgumentError(f"--output: {path} is a device or a pipe, a file is to be written there")
        path = Path(os.path.realpath(path))
        if not os.path.isdir(path.parent):
            check_output_folder(path.parent)
        _probe(path, is_folder=False)


def _check_name(path: Path) -> None:
    """OSError for a name that is longer than the file system takes."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass


def _probe(path: Path, *, is_folder: bool) -> None:
    """Make what `replacing` will make, and remove it again."""
    if not is_main():
        return
    probe = temporary_beside(path)
    made = [part for part in path.parents if not os.path.lexists(part)]
    try:
        _check_name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_folder:
            probe.mkdir()
            probe.rmdir()
        else:
            probe.touch()
            probe.unlink()
    except OSError as error:
        what = "a folder" if is_folder else "written"
        raise ArgumentError(f"--output: {path} cannot be {what} ({error.strerror})") from error
    finally:
        for part in made:  # the innermost first
            with suppress(OSError):
                part.rmdir()
