"""A folder that a command replaces whole is one of its own: nobody's other files go."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapler.cli.parser import main
from adapler.errors import ArgumentError
from adapler.files import sha256_of
from adapler.outputs import check_output_folder
from tests.adapler.cli.refusals import Refuse
from tests.conftest import tiny_adapler


@pytest.fixture
def saved(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    tiny_adapler().save_pretrained(tmp_path / "models" / "tiny")
    tiny_tokenizer.save_pretrained(tmp_path / "models" / "tiny")
    return tmp_path / "models" / "tiny"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    return tmp_path / "mine"


@pytest.mark.parametrize("options", [[], ["--onnx"]])
def test_export_leaves_other_files(options: list[str], refuse: Refuse, saved: Path, mine: Path) -> None:
    line = refuse("export", *options, "--model", saved, "--output", mine)
    assert line.endswith(
        "mine would be replaced whole, and what it holds ('thesis.txt') is no earlier output of this command; choose "
        "another folder"
    )
    assert (mine / "thesis.txt").read_text() == "three years"


def test_export_leaves_models_that_no_export_made(refuse: Refuse, saved: Path, tmp_path: Path) -> None:
    trained = shutil.copytree(saved, tmp_path / "trained")
    line = refuse("export", "--model", saved, "--output", trained)
    assert "trained would be replaced whole, and what it holds ('config.json', ...) is no earlier output" in line
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    (other / "model.safetensors.index.json").write_text("{}")  # a large model's, in shards
    line = refuse("export", "--model", saved, "--output", other)
    assert "holds another model (config.json: model_type 'bert', not 'adapler'); choose another folder" in line
    assert (trained / "model.safetensors").is_file() and len(list(other.iterdir())) == 2


def test_export_goes_over_an_empty_folder_and_its_own_output(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    for _ in range(2):
        assert main(["export", "--model", str(saved), "--output", str(tmp_path / "half")]) == 0
    assert (tmp_path / "half" / "model.safetensors.index.json").is_file()
    check_output_folder(tmp_path / "half", former=("config.json",))
    with pytest.raises(ArgumentError, match=r"what it holds \('config.json', ...\) is no earlier output"):
        check_output_folder(tmp_path / "half", former=("adapler.json",))


@pytest.mark.parametrize("name", ["README.md", "evaluation-test.json"])
def test_export_leaves_what_was_written_into_an_export_since(
    name: str, refuse: Refuse, saved: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    assert main(["export", "--model", str(saved), "--output", str(half)]) == 0
    (half / name).write_text("mine")
    line = refuse("export", "--model", saved, "--output", half)
    assert f"half would be replaced whole, and holds {name}, which no export writes; move it away" in line
    (half / name).unlink()
    line = refuse("export", "--onnx", "--model", saved, "--output", half)
    assert "half would be replaced whole, and what it holds ('config.json', ...) is no earlier output" in line
    assert (half / "model.safetensors.index.json").is_file()


def test_weights_that_float16_cannot_hold_leave_an_earlier_export(refuse: Refuse, saved: Path, tmp_path: Path) -> None:
    """They became infinite in the copy, which no command could load."""
    half = tmp_path / "half"
    assert main(["export", "--model", str(saved), "--output", str(half)]) == 0
    before = sha256_of(half)
    model = tiny_adapler()
    with torch.no_grad():
        model.backbone.bert.encoder.layer[0].output.LayerNorm.weight[0] = -7e4
    model.save_pretrained(saved)
    line = refuse("export", "--model", saved, "--output", half)
    name = "backbone.bert.encoder.layer.0.output.LayerNorm.weight"
    assert line == f"error: weights {name!r} reach 70000, and float16, as which they are stored, 65504"
    assert sha256_of(half) == before


@pytest.mark.parametrize("place", [lambda model: model, lambda model: model.parent], ids=["itself", "around it"])
def test_export_leaves_the_model(place: Callable[[Path], Path], refuse: Refuse, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved)
    (saved.parent / "run.json").write_text("{}")  # as a run's folder has, around its models
    for model in (saved, tmp_path / "link"):
        line = refuse("export", "--model", model, "--output", place(saved))
        assert "holds the model itself and would be replaced whole, choose another folder" in line
    assert (saved / "config.json").is_file()


def test_saliency_leaves_other_files(refuse: Refuse, saved: Path, mine: Path) -> None:
    for folder, name in ((mine, "thesis.txt"), (saved, "config.json")):
        line = refuse("saliency", "--task", "sst2", "--model", saved, "--output", folder)
        assert f"would be replaced whole, and what it holds ('{name}'" in line and "no earlier output of this" in line
    assert (mine / "thesis.txt").read_text() == "three years"
