from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapler.errors import ArgumentError, CheckpointError
from app import loading


def test_arguments(tmp_path: Path) -> None:
    folder = str(tmp_path)
    got = loading.read_arguments(["--checkpoints", folder, "--data", folder, "--data", folder])
    assert got == loading.Arguments((tmp_path,), (tmp_path, tmp_path))
    assert loading.read_arguments([]) == loading.Arguments((), ())
    with pytest.raises(ArgumentError, match="--check x; allowed after -- are --checkpoints DIR"):
        loading.read_arguments(["--check", "x"])
    with pytest.raises(ArgumentError, match="--data: .*nowhere: no such file or folder"):
        loading.read_arguments(["--data", str(tmp_path / "nowhere")])


def test_menu_lists_adapler_models_only(app_checkpoints: Path, tmp_path: Path) -> None:
    assert list(loading.list_checkpoints([app_checkpoints])) == ["damaged", "tiny"]
    assert loading.list_checkpoints([app_checkpoints / "tiny"]) == {"tiny": app_checkpoints / "tiny"}
    (tmp_path / "movies-minilm").mkdir()
    (tmp_path / "movies-minilm" / "config.json").write_text("{ not json")
    names = list(loading.list_checkpoints([app_checkpoints, tmp_path]))
    assert names == ["movies-minilm", "damaged", "tiny"], "the default comes first, an unreadable one is listed"
    assert loading.list_checkpoints([tmp_path / "nowhere"]) == {}


def test_equal_names_in_two_folders_are_told_apart(app_checkpoints: Path) -> None:
    found = loading.list_checkpoints([app_checkpoints, app_checkpoints])
    assert len(found) == 4 and str(app_checkpoints / "tiny") in found


def test_checkpoint_is_loaded_once_until_it_is_written_anew(app_checkpoints: Path) -> None:
    first = loading.load_checkpoint(app_checkpoints / "tiny")
    assert loading.load_checkpoint(app_checkpoints / "tiny") is first
    assert not first.model.training
    weights = app_checkpoints / "tiny" / "model.safetensors"
    times = weights.stat()
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000_000))
    assert loading.load_checkpoint(app_checkpoints / "tiny").key != first.key


def test_no_or_damaged_checkpoint(app_checkpoints: Path) -> None:
    with pytest.raises(CheckpointError, match="no AdapLeR checkpoint"):
        loading.find_checkpoint({}, None)
    with pytest.raises(CheckpointError, match="damaged"):
        loading.load_checkpoint(app_checkpoints / "damaged")


def test_rationale_of() -> None:
    assert loading.rationale_of(5, ((0, 1), (3, 5))).tolist() == [True, False, False, True, True]
