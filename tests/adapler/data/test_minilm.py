"""The packaged encoder: found without importing it, its weights verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapler.data import minilm as encoder
from adapler.errors import CheckpointError


def test_prints_a_folder_with_verified_weights(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(encoder.PACKAGE)
    assert encoder.main([]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "model.safetensors").is_file() and (folder / "config.json").is_file()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(encoder.PACKAGE)
    monkeypatch.setattr(encoder, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="model.safetensors: sha256 53aa.*, not 0000"):
        encoder.packaged_minilm()


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "PACKAGE", "no_such_package")
    with pytest.raises(CheckpointError, match=r"adapler\[demo\]"):
        encoder.packaged_minilm()


def test_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        encoder.main(["--output", "folder"])
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: --output folder")
