"""AdapLeR folders whose weights are not exactly those of the model in their config.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from tests.adapler.backbones.test_checkpoints import load, one_line
from tests.conftest import LAYERS, WIDTH, tiny_adapler

PREDICTOR = "contribution_predictors.0.dense.weight"
QUERY = "backbone.bert.encoder.layer.0.attention.self.query.weight"


@pytest.fixture(scope="module")
def adapler_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "adapler"
    tiny_adapler().save_pretrained(folder)
    return folder


def changed_weights(source: Path, folder: Path, change: Any, *, shards: bool = False) -> Path:
    """A copy of an AdapLeR folder whose state dictionary went through `change`, in one file or in several."""
    model = load(source)
    folder = Path(shutil.copytree(source, folder, ignore=shutil.ignore_patterns("model.safetensors")))
    state = change(model.state_dict())
    backbone = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    rest = {name: tensor for name, tensor in state.items() if name not in backbone}
    if not shards:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    files = {"model-00001-of-00002.safetensors": backbone, "model-00002-of-00002.safetensors": rest}
    for file, tensors in files.items():
        save_file(tensors, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, tensors in files.items() for name in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def without(*prefixes: str) -> Any:
    return lambda state: {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("door", [load, AutoModelForSequenceClassification.from_pretrained])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("eta"), "copy: no weights for 'eta'; the checkpoint is incomplete"),
        (without("eta", "theta", "contribution_predictors."), "copy: no weights for 'eta' and 13 more; "),
        (without("contribution_predictors.0."), f"copy: no weights for '{PREDICTOR}' and 3 more; "),
        (without(QUERY), f"copy: no weights for '{QUERY}'; "),
        (without("backbone.classifier."), "copy: no weights for 'backbone.classifier.weight' and 1 more; "),
        (
            lambda state: {**state, "eta": torch.ones(LAYERS + 1)},
            r"copy: 'eta' has shape \(4,\), the model of its config.json has \(3,\)$",
        ),
        (
            lambda state: {**state, QUERY: torch.ones(2, WIDTH), "theta": torch.ones(7)},
            r"copy: 'theta' has shape \(7,\), the model of its config.json has \(2,\) and 1 more$",
        ),
        (lambda state: {**state, "zeta": torch.ones(1)}, "copy: weights 'zeta' have no place in the model"),
    ],
)
def test_weights_that_are_not_the_models(
    change: Any, message: str, door: Any, shards: bool, adapler_folder: Path, tmp_path: Path
) -> None:
    with one_line(message):
        door(changed_weights(adapler_folder, tmp_path / "copy", change, shards=shards))


def test_other_sizes_on_request_and_the_loading_info(adapler_folder: Path, tmp_path: Path) -> None:
    change = {"theta": torch.ones(7)}
    folder = changed_weights(adapler_folder, tmp_path / "copy", lambda state: {**state, **change})
    model, info = load(folder, ignore_mismatched_sizes=True, output_loading_info=True)
    assert model.theta.tolist() == [1.0] * (LAYERS - 1) and len(info["mismatched_keys"]) == 1


def test_whole_shards_load(adapler_folder: Path, tmp_path: Path) -> None:
    folder = changed_weights(adapler_folder, tmp_path / "copy", dict, shards=True)
    state = load(folder).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in load(adapler_folder).state_dict().items())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("first", "copy: .*model-00001-of-00002.safetensors"),
        ("second", "copy: .*model-00002-of-00002.safetensors"),
        ("cut", "copy: the weights cannot be read"),
        ("{not json", "copy: the weights cannot be read"),
        ("{}", "copy: the weights cannot be read .*weight_map"),
        ("[]", "copy: the weights cannot be read"),
    ],
)
def test_broken_shards(damage: str, message: str, adapler_folder: Path, tmp_path: Path) -> None:
    folder = changed_weights(adapler_folder, tmp_path / "copy", dict, shards=True)
    first, second = sorted(folder.glob("model-*.safetensors"))
    if damage == "first":
        first.unlink()
    elif damage == "second":
        second.unlink()
    elif damage == "cut":
        second.write_bytes(second.read_bytes()[:-40])
    else:
        (folder / "model.safetensors.index.json").write_text(damage, encoding="utf-8")
    with one_line(message):
        load(folder)
