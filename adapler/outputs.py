"""Checks, before long work, that what is to be written at its end can be written, and by nobody else meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from adapler.distributed import is_main
from adapler.errors import ArgumentError
from adapler.files import check_replaceable, is_locked, locked_file, refuse_tilde, temporary_beside, unlock

__all__ = [
    "MODEL_FILES",
    "check_output_file",
    "check_output_folder",
    "check_writable_folder",
    "claimed_file",
    "claimed_folder",
]

# What a model is in its folder.
MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "run.json"),
)
_DEEP = 4  # levels of a folder in which others' trainings are looked for; a whole disk is not walked


def check_output_folder(path: Path, *, replaced: bool = True, former: Sequence[str] = ()) -> None:
    """Check, before long work, that a folder of this name can be made and, where it is to be, be replaced whole.

    Args:
        path: the folder.
        replaced: whether it will be, with all that it holds (a training keeps what else lies in its folder).
        former: files by which an earlier output of the command is known; no other folder with files in it may go.

    Raises:
        ArgumentError: it, or a part of it, is a file or cannot be made, or it holds what must not be replaced.
    """
    refuse_tilde(path)
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


@contextmanager
def claimed_folder(path: Path, *, replaced: bool = True, former: Sequence[str] = ()) -> Iterator[None]:
    """Check a training's folder, see `check_output_folder`, and keep other commands out of it until the block ends.

    The lock is a hidden file beside the folder, which may be replaced whole. A process that was killed may leave the
    file, but no lock. Of the processes of one launcher the main one has it.

    Raises:
        ArgumentError: see check_output_folder; or another process trains into the folder, one above it or one at
            most four levels below it.
    """
    check_output_folder(path, replaced=replaced, former=former)
    if not is_main():
        yield
        return
    path = Path(os.path.realpath(path))
    _check_around(path)
    with _held(_lock_of(path), _in_use(path, "is")):
        yield


@contextmanager
def claimed_file(path: Path | None) -> Iterator[None]:
    """Check a file that long work ends with, see `check_output_file`, and keep others from writing it until the block
    ends; None is nothing to write.

    The lock is a hidden file beside it, of a kind that `claimed_folder` does not look for: what is measured of a model
    keeps no training out of the folder, and is kept out by none.

    Raises:
        ArgumentError: see check_output_file; or another process is about to write the file.
    """
    check_output_file(path)
    if path is None or not is_main():
        yield
        return
    path = Path(os.path.realpath(path))
    with _held(path.with_name(f".{path.name}.writing"), _in_use(path, "is", other="file")):
        yield


@contextmanager
def _held(lock: Path, refusal: ArgumentError) -> Iterator[None]:
    """Within it this process has a lock file, whose folder is made where there is none; raises `refusal` where another
    one has it."""
    handle = None
    made = [part for part in lock.parents if not os.path.lexists(part)]
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # the name may be too long, or the file somebody else's: then without a lock
            handle = _claim(lock, refusal)
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                lock.unlink()  # before others can lock it: they see that it is gone, and make one anew
            unlock(handle)
        _remove_empty(made)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _check_around(path: Path) -> None:
    """ArgumentError for a folder in one that is in use, as a run's stages are, or with one that would go with it."""
    for part in path.parents[:-1]:  # the root has no name
        if is_locked(_lock_of(part)):
            raise _in_use(path, f"lies in {part}, which is")
    for depth in range(_DEEP):
        for lock in path.glob("*/" * depth + ".*.lock"):
            if is_locked(lock):
                inner = lock.relative_to(path).with_name(lock.name[1 : -len(".lock")])
                raise _in_use(path, f"has {inner.as_posix()}/ in it, which is")


def _claim(lock: Path, refusal: ArgumentError) -> int:
    try:
        return locked_file(lock)
    except BlockingIOError as error:
        raise refusal from error


def _in_use(path: Path, what: str, *, other: str = "folder") -> ArgumentError:
    return ArgumentError(f"--output: {path} {what} in use by another process; wait for it, or choose another {other}")


def check_output_file(path: Path | None) -> None:
    """Check, before long work, that a file of this name can be written; None is nothing to write.

    Raises:
        ArgumentError: it is a folder, a device, a pipe or a model's own file, lies in a file, or cannot be made.
    """
    if path is not None:
        refuse_tilde(path)
        if os.path.isdir(path):
            raise ArgumentError(f"--output: {path} is a folder, a file is to be written there")
        if os.path.exists(path) and not os.path.isfile(path):
            raise ArgumentError(f"--output: {path} is a device or a pipe, a file is to be written there")
        path = Path(os.path.realpath(path))
        if os.path.isfile(path.parent / "config.json") and any(fnmatch(path.name, one) for one in MODEL_FILES):
            raise ArgumentError(f"--output: {path} is a file of the model in that folder; choose another name")
        if not os.path.isdir(path.parent):
            check_output_folder(path.parent)
        _probe(path, is_folder=False)


def check_writable_folder(path: Path, *, name: str = "--output") -> None:
    """Check, before long work, that files can be written into a folder, which is made where it is not there.

    Raises:
        ArgumentError: it cannot be made, or nothing can be written there; `name` is the option's.
    """
    refuse_tilde(path, name=name)
    _probe(Path(os.path.realpath(path)) / "file", is_folder=False, name=name, shown=path)


def _check_name(path: Path) -> None:
    """OSError for a name that is longer than the file system takes."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass


def _probe(path: Path, *, is_folder: bool, name: str = "--output", shown: Path | None = None) -> None:
    """Make what `replacing` will make, and remove it again; name and shown: for the message."""
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
        raise ArgumentError(f"{name}: {shown or path} cannot be {what} ({error.strerror})") from error
    finally:
        _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove those that are empty; the innermost come first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
