"""Targets: against one text at a time, joined by id, and refused where they are of something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from adapler.backbones.decomposition import token_relevance
from adapler.errors import DataError
from adapler.training.config import TargetOptions
from adapler.training.data import _made_of, add_targets, compute_targets, load_targets
from adapler.training.trainer import PaddingCollator
from tests.adapler.inference.test_inference import TEXTS
from tests.conftest import LAYERS, tiny_classifier

NAMES = ("no", "so so", "yes")
PAPER = TargetOptions(target_method=["saliency"], target_layer="embeddings", target_logit="gold")

LABELS = [2, 0, 1, 1, 0]


@pytest.fixture(scope="module")
def rows(tiny_tokenizer: Any) -> datasets.Dataset:
    encoded = dict(tiny_tokenizer(TEXTS))
    return datasets.Dataset.from_dict({"id": [f"t{i}" for i in range(5)], "labels": LABELS, **encoded})


def test_targets_average_each_models_normalised_saliency(rows: datasets.Dataset) -> None:
    classifiers = [tiny_classifier(seed=seed) for seed in (0, 1)]
    # a model with larger gradients must not weigh more
    with torch.no_grad():
        classifiers[1].classifier.weight *= 100
    targets = compute_targets(classifiers, rows, options=PAPER, pad_token_id=0, token_budget=24)
    assert targets["id"][:] == rows["id"][:]
    for row in range(len(rows)):
        inputs = {k: torch.tensor([rows[row][k]]) for k in ("input_ids", "attention_mask", "token_type_ids")}
        label = torch.tensor([LABELS[row]])
        asked: dict[str, Any] = {"kind": "saliency", "target": label}
        parts = [token_relevance(tiny_classifier(seed=s), inputs, **asked)[0, 0] for s in (0, 1)]
        expected = ((parts[0] + parts[1]) / 2).tolist()
        assert targets[row]["targets"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert sum(targets[row]["targets"]) == pytest.approx(1, abs=1e-5)
        assert len(targets[row]["targets"]) == len(rows[row]["input_ids"])


def test_targets_under_autocast_are_close(rows: datasets.Dataset) -> None:
    exact = compute_targets([tiny_classifier()], rows, options=PAPER, pad_token_id=0)
    rough = compute_targets([tiny_classifier()], rows, options=PAPER, pad_token_id=0, autocast=True)
    for row in range(len(rows)):
        assert rough[row]["targets"] == pytest.approx(exact[row]["targets"], abs=0.1)
    assert rough["targets"][:] != exact["targets"][:]


def test_targets_of_each_layer_are_the_mean_of_methods_and_models(rows: datasets.Dataset) -> None:
    chosen = TargetOptions(
        target_method=["decomposition", "attention_gradient"], target_layer="own", target_logit="contrast"
    )
    models = [tiny_classifier(seed=seed) for seed in (0, 1)]
    targets = compute_targets(models, rows, options=chosen, pad_token_id=0, token_budget=24)
    for row in range(len(rows)):
        inputs = {k: torch.tensor([rows[row][k]]) for k in ("input_ids", "attention_mask", "token_type_ids")}
        inputs["labels"] = torch.tensor([LABELS[row]])
        parts = [
            token_relevance(model, inputs, kind=kind, target="contrast:gold")[0]
            for model in models
            for kind in ("decomposition", "attention_gradient")
        ]
        found = torch.tensor(targets[row]["targets"])
        assert found.shape == (LAYERS, len(rows[row]["input_ids"]))
        torch.testing.assert_close(found, torch.stack(parts).mean(0), atol=1e-5, rtol=1e-3)


def layered(rows: datasets.Dataset) -> datasets.Dataset:
    """Targets of two layers: the row's number, and a hundred more."""
    values = [[[float(i)] * len(ids), [100.0 + i] * len(ids)] for i, ids in enumerate(rows["input_ids"])]
    return rows.select_columns(["id"]).add_column("made_of", _made_of(rows, NAMES)).add_column("targets", values)


def marked(rows: datasets.Dataset) -> datasets.Dataset:
    """Targets that say which row they are of: every entry is the row's number."""
    values = [[float(i)] * len(ids) for i, ids in enumerate(rows["input_ids"])]
    return rows.select_columns(["id"]).add_column("made_of", _made_of(rows, NAMES)).add_column("targets", values)


def test_targets_are_joined_by_id(rows: datasets.Dataset) -> None:
    order = [3, 0, 4, 1]  # another order, and one row less
    joined = add_targets(rows.select(order), marked(rows), labels=NAMES)
    assert [row["id"] for row in joined] == [f"t{i}" for i in order]
    for row, number in zip(joined, order, strict=True):
        assert row["targets"] == [float(number)] * len(row["input_ids"])


def test_targets_of_layers_are_saved_loaded_joined_and_padded(
    rows: datasets.Dataset, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    layered(rows).save_to_disk(str(tmp_path / "targets"))
    joined = add_targets(rows.select([3, 0]), load_targets(tmp_path / "targets"), labels=NAMES)
    batch = PaddingCollator(tiny_tokenizer)(joined.to_list())
    lengths = [len(ids) for ids in joined["input_ids"]]
    assert batch["targets"].shape == (2, 2, max(lengths))
    for row, (number, length) in enumerate(zip((3, 0), lengths, strict=True)):
        expected = torch.tensor([[float(number)], [100.0 + number]]).expand(-1, length)
        assert torch.equal(batch["targets"][row, :, :length], expected)
        assert batch["targets"][row, :, length:].abs().sum() == 0


def test_targets_of_something_else_are_refused(rows: datasets.Dataset, tmp_path: Path) -> None:
    """An edited text of as many tokens, or a label that was set right; another numbering of labels is the same."""
    targets = marked(rows)
    with pytest.raises(DataError, match="^targets: none for example 't4'; compute targets of this training set$"):
        add_targets(rows, targets.select(range(4)), labels=NAMES)
    edited = rows.map(lambda row: {"input_ids": row["input_ids"][::-1]} if row["id"] == "t3" else {})
    with pytest.raises(DataError, match="^targets: that of example 't3' was made of other tokens or another label"):
        add_targets(edited.select([1, 3]), targets, labels=NAMES)
    relabelled = rows.map(lambda row: {"labels": 1 - row["labels"]} if row["id"] == "t1" else {})
    with pytest.raises(DataError, match="'t1'"):
        add_targets(relabelled, targets, labels=NAMES)
    numbered = rows.map(lambda row: {"labels": 2 - row["labels"]})  # a model with its labels in another order
    add_targets(numbered, targets, labels=NAMES[::-1])
    with pytest.raises(DataError, match="nothing: no targets, or damaged ones"):
        load_targets(tmp_path / "nothing")
    broken = targets.map(lambda row: {"targets": [float("nan"), *row["targets"][1:]]})
    broken.save_to_disk(str(tmp_path / "broken"))
    with pytest.raises(DataError, match="broken: a target is not a number of at least 0"):
        load_targets(tmp_path / "broken")
