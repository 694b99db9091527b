"""Model folders that cannot be loaded: one line that says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
)

from adapler import ArgumentError
from adapler.backbones.checkpoints import is_local, read_config
from tests.adapler.backbones.folders import copied, load, one_line, wrap
from tests.conftest import tiny_adapler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 3}, "^num_labels: 3 asked for, but the classifier in .* has 2$"),
        ({"labels": ["a", "b", "c"]}, "^labels: got a, b, c, but the classifier in .* has 2, NEG, POS$"),
        ({"labels": ["a", "b"], "num_labels": 3}, "^num_labels: 3 is not the number of labels, 2$"),
        ({"num_labels": 1}, "^num_labels: 1 is not at least 2$"),
        ({"eta_init": 2.0}, "^eta_init: 2.0 is not in"),
    ],
)
def test_wrong_labels_and_options(options: dict[str, Any], message: str, tiny_classifier_folder: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        wrap(tiny_classifier_folder, **options)


def test_unsupported_model_type(tmp_path: Path) -> None:
    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20, n_positions=16)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    with one_line("backbone: model type 'gpt2' is not supported", ArgumentError):
        wrap(tmp_path)
    with one_line("holds a 'gpt2' model, not 'adapler'"):
        load(tmp_path)


def test_each_kind_of_folder_at_the_wrong_door(adapler_folder: Path, tiny_classifier_folder: Path) -> None:
    with one_line("already is an AdapLeR model, and a plain encoder or classifier is needed"):
        wrap(adapler_folder)
    with one_line("holds a 'bert' model, not 'adapler'; `adapler run --classifier` trains one on it"):
        load(tiny_classifier_folder)


@pytest.mark.parametrize("loader", [load, wrap, read_config])
def test_missing_folders(loader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "file.bin").write_text("x", encoding="utf-8")
    for name in ("checkpoints/nothing", "./nothing", "a/b/c", str(tmp_path / "nothing"), Path("nothing")):
        with one_line("no such model folder"):
            loader(name)
    with one_line("file.bin: is a file, not a model folder"):
        loader("file.bin")
    with one_line("checkpoints: no config.json in this folder, so it is not a model"):
        loader("checkpoints")
    for name in ("b", "a"):
        (tmp_path / "checkpoints" / name).mkdir()
        (tmp_path / "checkpoints" / name / "config.json").write_text("{}", encoding="utf-8")
    with one_line("so it is not a model; there are models in it: a, b"):
        loader("checkpoints")
    with pytest.raises(ArgumentError, match="^model: got a NoneType, must be a folder or a hub name$"):
        loader(None)


def test_names_that_are_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_local("bert-base-uncased") and not is_local("owner/model")
    (tmp_path / "bert-base-uncased").mkdir()
    assert is_local("bert-base-uncased")


@pytest.mark.parametrize("loader", [load, wrap])
@pytest.mark.parametrize("content", ["{not json", "[]", '{"model_type": "nonsense"}', "{}"])
def test_broken_config(loader: Any, content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with one_line("cannot read its config.json"):
        loader(tmp_path)


def test_config_with_a_value_out_of_range(adapler_folder: Path, tmp_path: Path) -> None:
    folder = copied(adapler_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "eta_init": 7}), encoding="utf-8")
    with one_line("copy: cannot read its config.json: eta_init: 7 is not in"):
        load(folder)


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage", "pickle only"])
@pytest.mark.parametrize("kind", ["adapler", "backbone"])
def test_broken_weights(
    kind: str, damage: str, adapler_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    folder = copied(adapler_folder if kind == "adapler" else tiny_classifier_folder, tmp_path)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    if damage in ("missing", "pickle only"):
        weights.unlink()
    else:
        weights.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"garbage")
    if damage == "pickle only":
        torch.save(tiny_adapler().state_dict(), folder / "pytorch_model.bin")
    with one_line("copy"):
        (load if kind == "adapler" else wrap)(folder)


@pytest.mark.parametrize("kind", ["adapler", "backbone"])
def test_weights_of_another_size(kind: str, adapler_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    folder = copied(adapler_folder if kind == "adapler" else tiny_classifier_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.get("backbone_config", config)["intermediate_size"] = 48
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with one_line("copy"):
        (load if kind == "adapler" else wrap)(folder)
