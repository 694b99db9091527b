"""Checkpoints that are incomplete, damaged or something else are refused; whole ones load."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from adapler import ArgumentError, CheckpointError
from adapler.backbones.families import view
from adapler.modeling import is_local, load_any_classifier, load_classifier, read_config
from tests.adapler.backbones.folders import load, wrap
from tests.conftest import LAYERS, WIDTH, tiny_adapler, tiny_classifier

QUERY = "backbone.bert.encoder.layer.0.attention.self.query.weight"
LAYER = re.compile(r"\blayers?\.1\.")


def refused(message: str) -> Any:
    """pytest.raises of a CheckpointError whose message has one line."""
    return pytest.raises(CheckpointError, match=rf"\A[^\n]*{message}[^\n]*\Z")


def saved(model: Any, folder: Path, change: Any) -> Path:
    """A model's folder whose weights went through `change`."""
    model.save_pretrained(folder)
    save_file(change(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without(*prefixes: str) -> Any:
    return lambda state: {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("eta"), "no weights for eta$"),
        (without("contribution_predictors.0."), r"no weights for contribution_predictors.0.dense.bias and 3 more"),
        (without(QUERY), f"no weights for {QUERY}"),
        (lambda state: {**state, "eta": torch.ones(LAYERS + 1)}, r"in another shape .*'eta' \(4,\)"),
        (lambda state: {**state, "zeta": torch.ones(1)}, "no place in the model of its config.json: zeta"),
        (lambda state: {**state, QUERY: torch.full((WIDTH, WIDTH), torch.nan)}, f"NaN or infinity .* {QUERY}"),
    ],
)
def test_weights_of_another_model_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    with refused(message):
        load(saved(tiny_adapler(), tmp_path, change))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    tiny_adapler().save_pretrained(tmp_path / "whole")
    for number, damage in enumerate(("missing", "cut", "{not json", "{}")):
        folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / str(number)))
        weights = folder / "model.safetensors"
        if damage == "missing":
            weights.unlink()
        elif damage == "cut":
            weights.write_bytes(weights.read_bytes()[:-40])
        else:
            (folder / "config.json").write_text(damage, encoding="utf-8")
        with refused("weights cannot be read|cannot read its config.json"):
            load(folder)


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_an_incomplete_classifier_is_refused_and_an_encoder_gets_a_head(family: str, tmp_path: Path) -> None:
    """transformers would give random weights to what is missing, and go on."""
    classifier = tiny_classifier(family)
    lost = [name for name in classifier.state_dict() if LAYER.search(name)]
    with refused(f"no weights for .* and {len(lost) - 1} more"):
        wrap(saved(classifier, tmp_path / "layer", without(*lost)))
    encoder = view(classifier).encoder
    pooler = without("pooler.")  # encoders trained on masked words only are saved without one
    whole = wrap(saved(encoder, tmp_path / "encoder", pooler), num_labels=3)
    state = view(whole.backbone).encoder.state_dict()
    assert whole.config.num_labels == 3
    assert all(torch.equal(tensor, state[name]) for name, tensor in pooler(encoder.state_dict()).items())


def test_remains_of_other_heads_are_no_fault(tmp_path: Path) -> None:
    """RoBERTa classifiers on the hub hold the pooler of their encoder."""
    extra = {"roberta.pooler.dense.weight": torch.ones(WIDTH, WIDTH), "roberta.pooler.dense.bias": torch.ones(WIDTH)}
    assert wrap(saved(tiny_classifier("roberta"), tmp_path, lambda state: {**state, **extra})).config.num_labels == 3


def test_shards_load_and_an_older_save_beside_them_does_not(tmp_path: Path) -> None:
    model = tiny_adapler()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.eta.fill_(0.5)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert load(tmp_path).eta.tolist() == [0.5] * LAYERS
    with torch.no_grad():
        model.eta.fill_(0.75)
    model.save_pretrained(tmp_path)
    assert load(tmp_path).eta.tolist() == [0.75] * LAYERS


def test_each_kind_of_folder_at_the_wrong_door(tiny_classifier_folder: Path, tmp_path: Path) -> None:
    with refused("holds a 'bert' model, not 'adapler'"):
        load(tiny_classifier_folder)
    tiny_adapler().save_pretrained(tmp_path / "adapler")
    with refused("already is an AdapLeR model"):
        wrap(tmp_path / "adapler")
    view(tiny_classifier()).encoder.save_pretrained(tmp_path / "encoder")
    with refused("holds no fine-tuned classifier"):
        load_any_classifier(tmp_path / "encoder")
    with refused("no config.json in this folder.*models in it: adapler, encoder"):
        read_config(tmp_path)


def test_names_that_mean_a_folder_never_ask_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "file").touch()
    for name in ("checkpoints/missing", "./missing", Path("missing"), "/nowhere", "file"):
        with refused("no such model folder|is a file"):
            read_config(name)
    assert not is_local("owner/model") and not is_local("model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 2}, "has 3 labels"),
        ({"labels": ["b", "a", "c"]}, "in another order"),
        ({"labels": ["a", "a", "b"]}, "two labels have one name"),
        ({"num_labels": 1}, "num_labels: 1, but the classifier in .* has 3 labels"),
        ({"num_labels": 2, "labels": ["a", "b", "c"]}, "num_labels: 2, and `labels` has 3"),
    ],
)
def test_labels_that_a_trained_head_does_not_have(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = tiny_classifier()
    model.config.id2label = {0: "a", 1: "b", 2: "c"}
    model.save_pretrained(tmp_path)
    with pytest.raises((ArgumentError, CheckpointError), match=message):
        load_classifier(tmp_path, **options)


def test_a_configuration_that_no_model_can_have(tmp_path: Path) -> None:
    tiny_classifier().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name, value, message in (
        ("num_attention_heads", 5, r"The hidden size \(16\) is not a multiple of the number of attention heads \(5\)"),
        ("hidden_size", 0, "cannot be read"),
        ("problem_type", "regression", "its config.json: problem_type"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, name: value}))
        with refused(message):
            wrap(tmp_path)
