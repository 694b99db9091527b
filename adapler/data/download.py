"""The real ERASER movies, from the official address or an archive at hand, put in place whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from adapler.data.archive import FileTree, open_archive
from adapler.data.eraser import find_root, has_documents, read_corpus, read_tree
from adapler.errors import ArgumentError, DataError
from adapler.files import refuse_tilde, replacing, sha256_of

__all__ = ["OFFICIAL", "download_movies", "install_archive"]

OFFICIAL = "https://www.eraserbenchmark.com/zipped/movies.tar.gz"

_RECORD = "SOURCE.json"
_CHUNK = 1 << 16  # bytes
_PATIENCE = 30.0  # seconds without a byte


def download_movies(
    target: str | os.PathLike[str] = "data/eraser",
    *,
    url: str = OFFICIAL,
    expected_sha256: str | None = None,
    progress: bool = True,
) -> Path:
    """Downloads the ERASER Movie Reviews (DeYoung et al., 2020), checks them and installs TARGET/movies.

    TARGET/movies/SOURCE.json records the address, size and sha256 of the archive. An earlier TARGET/movies is
    replaced. Nothing is left behind on failure.

    Raises DataError when the download fails or is cut short, when the sha256 is another than expected, or when the
    archive is not a valid corpus; ArgumentError when TARGET/movies is something else than an ERASER corpus, or for a
    TARGET in ~, see refuse_tilde.
    """
    if not url.startswith(("http://", "https://")):
        raise ArgumentError(f"url: {url!r} must begin with http:// or https://, for a local archive use --archive")
    target = Path(target)
    _refuse_target(target)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=_nearest_folder(target)) as folder:
        archive = Path(folder) / "movies.tar.gz"
        checksum = _fetch(url, archive, progress=progress)
        return _install(archive, target, source=url, checksum=checksum, expected=expected_sha256)


def install_archive(
    archive_path: str | os.PathLike[str],
    target: str | os.PathLike[str] = "data/eraser",
    *,
    expected_sha256: str | None = None,
) -> Path:
    """The same from a local (compressed) tar: checks it, installs TARGET/movies; errors as above."""
    archive = Path(archive_path)
    if not archive.is_file():
        raise DataError(f"{archive}: no such file")
    _refuse_target(Path(target))
    checksum = sha256_of(archive)
    return _install(archive, Path(target), source=archive.name, checksum=checksum, expected=expected_sha256)


def _fetch(url: str, path: Path, *, progress: bool) -> str:
    """Downloads to `path` and returns the sha256 of what came."""
    request = urllib.request.Request(url, headers={"User-Agent": "adapler"})
    digest = hashlib.sha256()
    received = 0
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response, path.open("wb") as file:
            length = response.headers.get("Content-Length")
            expected = int(length) if length is not None and length.isdigit() else None
            with tqdm(total=expected, unit="B", unit_scale=True, desc="download", disable=not progress) as bar:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        with error:  # it holds the open response
            raise _unreachable(url, f"the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _unreachable(url, str(reason) or type(reason).__name__) from error
    if expected is not None and received != expected:
        raise _unreachable(url, f"cut short, {received} of {expected} bytes came")
    return digest.hexdigest()


def _unreachable(url: str, reason: str) -> DataError:
    return DataError(
        f"{url}: download failed ({' '.join(reason.split())}); an archive from elsewhere can be given instead: "
        "adapler data download --archive FILE"
    )


def _install(archive: Path, target: Path, *, source: str, checksum: str, expected: str | None) -> Path:
    if expected is not None and checksum != expected.strip().lower():
        raise DataError(f"{source}: sha256 is {checksum}, expected {expected}")
    tree = open_archive(archive, shown_as=source)
    corpus = read_tree(tree, name="movies")  # everything is checked before anything is written
    record: dict[str, Any] = {
        "source": source,
        "bytes": archive.stat().st_size,
        "sha256": checksum,
        "corpus_checksum": corpus.checksum,
        "examples": {split: len(examples) for split, examples in corpus.splits.items()},
    }
    destination = target / "movies"
    with replacing(destination) as folder:
        _write(tree.below(find_root(tree)), folder)
        (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if read_corpus(folder).checksum != corpus.checksum:
            raise DataError(f"{destination}: what was written is not what was read, is the disk sound?")
    return destination


def _write(tree: FileTree, folder: Path) -> None:
    """Names come from `open_archive`, which refuses all that could lead out of the folder."""
    for name, data in tree.files.items():
        if name.split("/")[0] == _RECORD:  # ours is written there
            continue
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
        except OSError as error:  # a name that this file system does not take, a full disk
            raise DataError(f"{tree.where(name)}: cannot be written to {folder.parent} ({error.strerror})") from error


def _nearest_folder(path: Path) -> Path:
    """The folder itself or the nearest one above it that exists: on failure no empty folder stays behind."""
    if path.exists() and not path.is_dir():
        raise ArgumentError(f"{path}: is a file, --target must be a folder")
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def _refuse_target(target: Path) -> None:
    """Raises ArgumentError for a folder movies with other files than a corpus: nothing of the user's is replaced; and
    for a path in ~, see refuse_tilde."""
    refuse_tilde(target, name="--target")
    path = target / "movies"
    if path.is_dir() and any(path.iterdir()) and not has_documents(path):
        raise ArgumentError(f"{path}: exists and is not an ERASER corpus, choose another --target")
