from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adapler.data import archive
from adapler.data.eraser import read_corpus
from adapler.errors import DataError
from tests.adapler.data.corpora import files_of, pack


def with_member(path: Path, change: Callable[[tarfile.TarInfo], None], name: str = "movies/docs/extra") -> Path:
    """A good corpus and one more member that `change` spoils."""
    pack(path, files_of(), mode="w")
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        change(member)
        tar.addfile(member, io.BytesIO(b"x"))
    return path


def kind(code: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = code, target, 0

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("/etc/passwd", lambda member: None, "'/etc/passwd' leaves the archive's folder"),
        ("movies/../../x", lambda member: None, "leaves the archive's folder"),
        ("..", lambda member: None, "leaves the archive's folder"),
        ("C:/x", lambda member: None, "leaves the archive's folder"),
        ("movies\\..\\x", lambda member: None, "leaves the archive's folder"),
        ("movies/docs/l", kind(tarfile.SYMTYPE, "/etc/passwd"), "'movies/docs/l' is a link or a device"),
        ("movies/docs/l", kind(tarfile.LNKTYPE, "movies/train.jsonl"), "is a link or a device"),
        ("movies/docs/l", kind(tarfile.FIFOTYPE), "is a link or a device"),
        ("movies/docs/l", kind(tarfile.CHRTYPE), "is a link or a device"),
        ("movies/train.jsonl", lambda member: None, "'movies/train.jsonl' appears twice"),
        (
            "movies/train.jsonl/x",
            lambda member: None,
            "'movies/train.jsonl/x' lies below 'movies/train.jsonl', which is",
        ),
        ("movies", lambda member: None, "'movies/train.jsonl' lies below 'movies', which is a file"),
        ("movies/docs/" + "x" * 300, lambda member: None, "has a name that no file system takes"),
        ("movies/docs/" + "x/" * 2000 + "x", lambda member: None, "has a name that no file system takes"),
    ],
)
def test_members_that_mislead_are_refused(
    tmp_path: Path, name: str, change: Callable[[tarfile.TarInfo], None], message: str
) -> None:
    path = with_member(tmp_path / "bad.tar", change, name)
    with pytest.raises(DataError, match=message) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(str(path))


def test_members_that_do_no_harm_are_passed_over(tmp_path: Path) -> None:
    path = with_member(tmp_path / "mac.tar", lambda member: None, "movies/._train.jsonl")
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("movies/docs")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert list(read_corpus(path).splits) == ["train", "test"]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar.xz", "x.tar.bz2", "x.tar"])
def test_a_truncated_archive_at_any_length(tmp_path: Path, name: str) -> None:
    mode = {"gz": "w:gz", "xz": "w:xz", "bz2": "w:bz2", "tar": "w"}[name.rpartition(".")[2]]
    whole = pack(tmp_path / "whole", files_of(), mode=mode).read_bytes()
    # A plain tar is padded with zero blocks at its end, which may go; elsewhere the last byte counts.
    # Cut in the middle, the plain tar ends exactly between two members.
    lengths = [0, 1, 100, len(whole) // 2] + ([] if name == "x.tar" else [len(whole) - 1])
    for length in lengths:
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(DataError, match="not a complete tar archive") as caught:
            read_corpus(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    raw = bytearray(pack(tmp_path / "x.tar", files_of(), mode="w").read_bytes())
    packed = gzip.compress(bytes(raw), compresslevel=0)
    place = packed.index(b"dull")
    (tmp_path / "x.tar.gz").write_bytes(packed[:place] + b"D" + packed[place + 1 :])
    with pytest.raises(DataError, match="not a complete tar archive"):
        read_corpus(tmp_path / "x.tar.gz")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "x.tar.gz", files_of())
    monkeypatch.setattr(archive, "_MOST_BYTES", 200)
    with pytest.raises(DataError, match="unpacks to more than"):
        read_corpus(path)


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"x\.tar\.gz: not a complete tar archive"):
        read_corpus(tmp_path / "x.tar.gz")
    with pytest.raises(DataError, match=r"y\.tar\.gz: no such file"):
        read_corpus(tmp_path / "y.tar.gz")


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar.gz", files_of())
    read_corpus(path)
    assert list(tmp_path.iterdir()) == [path]
