"""Files that are written whole or not at all, checks before long work, locks and checksums."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapler.errors import ArgumentError, DataError
from adapler.system import check_output_file, check_output_folder, claimed, replacing, sha256_of


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_a_folder_are_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with replacing(tmp_path / "a.txt") as partial:
        assert partial.suffix == ".txt" and sorted(tmp_path.glob("[!.]*")) == [tmp_path / "a.txt"]
        partial.write_text("new")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with replacing(tmp_path / "b") as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert (tmp_path / "a.txt").read_text() == "new" and names(tmp_path / "b") == ["new"]
    assert names(tmp_path) == ["a.txt", "b"]


@pytest.mark.parametrize("folder", [True, False])
def test_after_an_error_everything_is_as_before(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyError), replacing(tmp_path / "a") as partial:
        partial.mkdir() if folder else partial.touch()
        raise KeyError
    with pytest.raises(ArgumentError, match="cannot take each other's place"), replacing(tmp_path / "a") as partial:
        partial.mkdir()
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a"]


def test_a_link_keeps_leading_to_what_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_precious_folders_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "inner").mkdir(parents=True)
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "inner")
    for folder in (tmp_path / "here", tmp_path / "clone", Path.home()):
        with pytest.raises(ArgumentError, match="would be replaced whole"):
            check_output_folder(folder)


def test_outputs_are_checked_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    check_output_file(tmp_path / "new" / "a.json")
    check_output_folder(tmp_path / "new" / "folder", former=("report.json",))
    for path in (tmp_path / "mine", tmp_path / "file" / "a.json", Path("~/a.json")):
        with pytest.raises(ArgumentError, match="^--output: "):
            check_output_file(path)
    with pytest.raises(ArgumentError, match="would be replaced whole and holds 'letter.txt'"):
        check_output_folder(tmp_path / "mine", former=("report.json",))
    assert names(tmp_path) == ["file", "mine"]


def test_one_process_claims_a_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from adapler.system import claimed\n"
        "with claimed(Path(sys.argv[1])): pass"
    )
    with claimed(tmp_path / "out"), claimed(tmp_path / "other"), claimed(None):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "out")], env=os.environ, capture_output=True, text=True
        )
        assert "is in use by another process" in done.stderr
    with claimed(tmp_path / "out"):
        assert not names(tmp_path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(DataError, match="no such file"):
        sha256_of(tmp_path / "b")
