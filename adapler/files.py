"""Files that are written whole or not at all, and their checksums."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapler.errors import ArgumentError, DataError, shortened

__all__ = [
    "cache_folder",
    "check_replaceable",
    "is_locked",
    "is_running",
    "leftovers_of",
    "locked_file",
    "refuse_tilde",
    "replacing",
    "sha256_of",
    "temporary_beside",
    "unlock",
    "visible",
]

_CHUNK = 1 << 20  # bytes
_LOCKS: set[int] = set()  # handles of this process's locks
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:4]  # this machine, in the names of temporaries
_ASIDE = ".old"  # ends the name of a folder that makes room for a new one


def cache_folder() -> Path:
    """Where files lie that can be made again: $XDG_CACHE_HOME/adapler, or ~/.cache/adapler where it is not set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "adapler"


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hexadecimal sha256 of a file; of a folder, over its sorted relative file names and their contents.

    Raises:
        DataError: there is nothing at `path`.
    """
    path = Path(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for name in sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()):
            digest.update(os.fsencode(name) + f"\0{sha256_of(path / name)}\n".encode())
        return digest.hexdigest()
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block ends without an error.

    The block creates a file or a folder at the yielded path (nothing is there yet; it keeps the suffix of
    `path`, since many writers choose their format by it). After an error the temporary is removed and `path`
    is as before. An existing file or folder is replaced whole: what only the old folder held is gone. Of a link, what
    it leads to is replaced, and the temporary lies beside that. What processes that were killed in here left of the
    same path is removed at the end; but first, where nothing is at `path`, the old folder that one of them had
    moved aside gets its name again.

    Raises:
        ArgumentError: a folder would replace a file or a file a folder; a folder that holds the working directory,
            the home directory or a git repository, or a device, would be replaced; a path that cannot be, since its
            name is too long or no folder can be made there.
    """
    path = Path(os.path.realpath(path))
    try:
        check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.lstat()  # raises for a name that is too long
    except (FileExistsError, NotADirectoryError) as error:
        raise ArgumentError(f"{path}: cannot be written, {path.parent} is not a folder") from error
    except OSError as error:
        raise ArgumentError(f"{shortened(path)}: cannot be written ({error.strerror})") from error
    _put_back(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        _open_to_readers(temporary)
        if path.exists() and path.is_dir() != temporary.is_dir():
            kinds = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
            raise ArgumentError(f"{path}: is {kinds[0]}, {kinds[1]} is to be written there")
        if path.is_dir():
            _swap_folders(temporary, path, _aside_beside(path))
        else:
            os.replace(temporary, path)
        _remove_leftovers(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:  # a write does not say to where
            error.filename = str(path)
        raise
    finally:
        _remove(temporary)


def locked_file(path: Path) -> int:
    """Open a file, which is made where there is none, and lock it; returns its handle.

    The lock lasts until `unlock`, or until this process ends, in whatever way: processes forked from it, such as those
    that load data, do not hold it, and may outlive it. On systems (Windows) and file systems without such locks nothing
    is locked, and nobody is refused.

    Raises:
        BlockingIOError: it is locked already.
        OSError: it cannot be opened.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except (ImportError, OSError):
            return handle
        with suppress(FileNotFoundError):  # who had the lock may have removed the file since it was opened here
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                _LOCKS.add(handle)
                return handle
        os.close(handle)


def unlock(handle: int) -> None:
    """Close what `locked_file` returned."""
    _LOCKS.discard(handle)
    os.close(handle)


def _let_go() -> None:
    """In a process that was just forked: its parent alone has the locks."""
    while _LOCKS:
        os.close(_LOCKS.pop())


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_let_go)


def is_locked(path: Path) -> bool:
    """Whether another handle, in whatever process, has a file by `locked_file`; False where that locks nothing."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    finally:
        os.close(handle)
    return False


def visible(paths: Iterable[Path]) -> list[Path]:
    """Sorted, without those whose name begins with a dot: Path.glob finds temporaries, too."""
    return sorted(path for path in paths if not path.name.startswith("."))


def temporary_beside(path: Path) -> Path:
    """A new hidden name beside `path`, which says what process made it."""
    # Of a long name the beginning, so that the temporary name is not too long where the name itself is not.
    return path.with_name(f".{path.stem[:40]}.{_token()}{path.suffix[:40]}")


def _aside_beside(path: Path) -> Path:
    """A new hidden name for a folder that steps aside. It is of that folder alone, since it may have to go back."""
    return path.with_name(f".{_whole(path.name)}.{_token()}{_ASIDE}")


def _token() -> str:
    return f"{_HOST}{os.getpid():08x}{secrets.token_hex(2)}"


def _whole(name: str) -> str:
    """The name, or of a long one the beginning and what tells it from others with that beginning."""
    return name if len(name) <= 40 else f"{name[:40]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def leftovers_of(path: Path) -> tuple[list[Path], list[Path]]:
    """The temporaries of `path` that lie beside it, and the folders that stepped aside for one, whoever made them."""
    token = "[0-9a-f]{16}|[0-9a-f]{8}"  # the short one: of older versions
    stem, suffix = re.escape(path.stem[:40]), re.escape(path.suffix[:40])
    beside = sorted(path.parent.iterdir())
    new = [other for other in beside if re.fullmatch(rf"\.{stem}\.({token}){suffix}", other.name)]
    whole = re.escape(_whole(path.name))
    aside = [other for other in beside if re.fullmatch(rf"\.{whole}\.({token}){re.escape(_ASIDE)}", other.name)]
    return new, aside


def _remove_leftovers(path: Path) -> None:
    """Remove those of processes of this machine that were killed; another process may be writing the same path."""
    with suppress(PermissionError):  # a folder whose names nobody may list
        for other in (one for found in leftovers_of(path) for one in found):
            if _was_killed(other):
                _remove(other)


def _put_back(path: Path) -> None:
    """Give the old folder of a process that was killed between its two renames its name again."""
    with suppress(PermissionError):
        for aside in [] if os.path.lexists(path) else leftovers_of(path)[1]:
            if _was_killed(aside):
                os.replace(aside, path)
                return


def _was_killed(temporary: Path) -> bool:
    """Whether a process of this machine made it that does not run any more."""
    made = re.search(rf"\.{_HOST}([0-9a-f]{{8}})[0-9a-f]{{4}}(\.|$)", temporary.name)
    return made is not None and not is_running(int(made[1], 16))


def is_running(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if os.name != "posix":  # there is no question without a harm elsewhere
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _open_to_readers(folder: Path) -> None:
    """Give weights in a folder the permissions that its other files have.

    safetensors makes files that nobody but their owner may read. A folder's own permissions follow the umask.
    """
    if folder.is_dir():
        allowed = folder.stat().st_mode & 0o666
        for path in folder.rglob("*.safetensors"):
            if not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600:
                with suppress(PermissionError):  # a file of somebody else that was in the folder before
                    path.chmod(allowed)


def _swap_folders(new: Path, path: Path, aside: Path) -> None:
    """A rename cannot overwrite a folder that is not empty, so the old one steps aside first."""
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(aside, path)
        raise
    _remove(aside)


def refuse_tilde(path: Path, *, name: str = "--output") -> None:
    """Raises ArgumentError for a path in ~ where nothing is called so: in a recipe, and after `=`, no shell puts the
    home directory there, and a folder called ~ would be made."""
    if path.parts[:1] == ("~",) and not os.path.lexists("~"):
        raise ArgumentError(
            f"{name}: {path} stands for no home directory here, write it out: {os.path.expanduser(path)}"
        )


def check_replaceable(path: Path) -> None:
    """Raises ArgumentError for a device, and a folder that holds the working or home directory or is a repository."""
    if not os.path.isdir(path):  # Path.is_dir raises for names that are too long
        if os.path.exists(path) and not os.path.isfile(path):
            raise ArgumentError(f"{path}: is a device or a pipe, and would be replaced; choose another name")
        return
    real = path.resolve()
    for precious, what in ((Path.cwd(), "the working directory"), (Path.home(), "the home directory")):
        if precious.resolve().is_relative_to(real):
            raise ArgumentError(f"{path}: holds {what} and would be replaced whole, choose another folder")
    if (path / ".git").exists():
        raise ArgumentError(f"{path}: holds a git repository, it would be replaced, choose another folder")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
