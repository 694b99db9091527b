"""Folders whose weights are not those of the model in their config.json, or are no numbers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from adapler.backbones.families import encoder_of
from adapler.backbones.weights import reason_of
from tests.adapler.backbones.folders import load, one_line, wrap
from tests.adapler.backbones.test_backbones import FAMILIES
from tests.conftest import LAYERS, WIDTH, tiny_adapler, tiny_classifier

PREDICTOR = "contribution_predictors.0.dense.weight"
QUERY = "backbone.bert.encoder.layer.0.attention.self.query.weight"


def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path: Path) -> None:
    """Of both safetensors says the same, with another cause; root may read everything, so the error is made here."""
    path = tmp_path / "model.safetensors"
    missing = FileNotFoundError(f"No such file or directory: {path}")
    assert reason_of(missing) == f"the weights cannot be read (FileNotFoundError: {missing})"
    path.touch()
    assert reason_of(missing) == f"the weights cannot be read (no permission to read {path})"


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


def saved(model: Any, folder: Path, change: Any) -> Path:
    """A model's folder whose weights went through `change`."""
    model.save_pretrained(folder)
    save_file(change(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


HEADS = {
    "bert": ("classifier.weight", "classifier.bias"),
    "distilbert": ("pre_classifier.weight", "pre_classifier.bias"),
    "modernbert": ("head.dense.weight", "head.norm.weight"),
}
LAYER = re.compile(r"\blayers?\.1\.")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_incomplete_fine_tuned_classifier_is_refused(family: str, tmp_path: Path) -> None:
    """B5: transformers gives it random weights and goes on."""
    head, second = HEADS.get(family, ("classifier.dense.weight", "classifier.dense.bias"))
    lost = [name for name in tiny_classifier(family).state_dict() if LAYER.search(name)]
    with one_line(f"head: no weights for '{head}' and 1 more; the checkpoint is incomplete"):
        wrap(saved(tiny_classifier(family), tmp_path / "head", without(head, second)))
    with one_line(f"layer: no weights for '{lost[0]}' and {len(lost) - 1} more; the checkpoint is incomplete"):
        wrap(saved(tiny_classifier(family), tmp_path / "layer", without(*lost)))
    with one_line(rf"shape: '{head}' has shape \(2,\), the model of its config.json has "):
        wrap(saved(tiny_classifier(family), tmp_path / "shape", lambda state: {**state, head: torch.ones(2)}))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_gets_a_new_head_and_nothing_else_that_is_new(family: str, tmp_path: Path) -> None:
    encoder = encoder_of(tiny_classifier(family))
    pooler = without("pooler.")  # encoders trained on masked words only are saved without one
    whole = wrap(saved(encoder, tmp_path / "whole", pooler), num_labels=3)
    state = encoder_of(whole.backbone).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in pooler(encoder.state_dict()).items())
    lost = [name for name in encoder.state_dict() if LAYER.search(name)]
    with one_line(f"layer: no weights for '[a-z]*.{lost[0]}' and {len(lost) - 1} more; the checkpoint is incomplete"):
        wrap(saved(encoder, tmp_path / "layer", without(*lost)), num_labels=3)


def test_remains_of_other_heads_are_no_fault(tmp_path: Path) -> None:
    """RoBERTa classifiers on the hub hold the pooler of their encoder."""
    extra = {"roberta.pooler.dense.weight": torch.ones(WIDTH, WIDTH), "roberta.pooler.dense.bias": torch.ones(WIDTH)}
    model = wrap(saved(tiny_classifier("roberta"), tmp_path, lambda state: {**state, **extra}))
    assert model.config.num_labels == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["adapler", "classifier", "encoder"])
def test_weights_that_are_no_numbers_are_refused(kind: str, value: float, tmp_path: Path) -> None:
    def spoil(state: Any) -> Any:
        name = next(name for name in state if name.endswith("layer.1.output.dense.weight"))
        state = {key: tensor.clone() for key, tensor in state.items()}
        state[name][3, 5] = value
        return state

    model = {"adapler": tiny_adapler, "classifier": tiny_classifier, "encoder": lambda: tiny_classifier().bert}[kind]()
    folder = saved(model, tmp_path / "copy", spoil)
    with one_line("copy: weights '[a-z.]*encoder.layer.1.output.dense.weight' hold NaN or infinity$"):
        (load if kind == "adapler" else wrap)(folder)
