from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from adapler.backbones.saliency import layer_saliency
from adapler.errors import ArgumentError, DataError
from adapler.training.stages.saliency import saliency_targets
from adapler.training.stages.targets import add_saliency, load_targets, save_targets
from tests.adapler.inference.test_inference import TEXTS
from tests.conftest import tiny_classifier

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
    targets = saliency_targets(classifiers, rows, pad_token_id=0, token_budget=24)
    assert targets["id"][:] == rows["id"][:]
    for row in range(len(rows)):
        inputs = {k: torch.tensor([rows[row][k]]) for k in ("input_ids", "attention_mask", "token_type_ids")}
        label = torch.tensor([LABELS[row]])
        parts = [layer_saliency(tiny_classifier(seed=s), inputs, target=label)[0, 0] for s in (0, 1)]
        expected = ((parts[0] + parts[1]) / 2).tolist()
        assert targets[row]["saliency"] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert sum(targets[row]["saliency"]) == pytest.approx(1, abs=1e-5)
        assert len(targets[row]["saliency"]) == len(rows[row]["input_ids"])


def test_targets_under_autocast_are_close(rows: datasets.Dataset) -> None:
    exact = saliency_targets([tiny_classifier()], rows, pad_token_id=0)
    rough = saliency_targets([tiny_classifier()], rows, pad_token_id=0, autocast=True)
    for row in range(len(rows)):
        assert rough[row]["saliency"] == pytest.approx(exact[row]["saliency"], abs=0.1)
    assert rough["saliency"][:] != exact["saliency"][:]


def test_targets_need_a_model(rows: datasets.Dataset) -> None:
    with pytest.raises(ArgumentError, match="^classifiers: at least one fine-tuned model is needed$"):
        saliency_targets([], rows, pad_token_id=0)


def marked(rows: datasets.Dataset) -> datasets.Dataset:
    """Targets that say which row they are of: every entry is the row's number."""
    saliency = [[float(i)] * len(ids) for i, ids in enumerate(rows["input_ids"])]
    return datasets.Dataset.from_dict({"id": rows["id"][:], "saliency": saliency})


def test_targets_are_joined_by_id(rows: datasets.Dataset) -> None:
    order = [3, 0, 4, 1]  # another order, and one row less
    joined = add_saliency(rows.select(order), marked(rows))
    assert [row["id"] for row in joined] == [f"t{i}" for i in order]
    for row, number in zip(joined, order, strict=True):
        assert row["saliency"] == [float(number)] * len(row["input_ids"])


def test_join_errors(rows: datasets.Dataset) -> None:
    targets = marked(rows)
    with pytest.raises(DataError, match="^saliency: no target for example 't4'; compute targets on this training set$"):
        add_saliency(rows, targets.select(range(4)))
    other = targets.map(lambda row: {"saliency": row["saliency"][:-1]} if row["id"] == "t1" else row)
    with pytest.raises(DataError, match="^saliency: example 't1' has 6 tokens, its target 5; targets come from"):
        add_saliency(rows, other)


def test_save_and_load(rows: datasets.Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "targets"
    save_targets(marked(rows).select(range(2)), folder)
    save_targets(marked(rows), folder)  # replaces what was there
    loaded = load_targets(folder)
    assert loaded.to_list() == marked(rows).to_list()
    assert [path.name for path in tmp_path.iterdir()] == ["targets"]


def test_load_errors(rows: datasets.Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: no saliency targets here; `adapler saliency` writes them$"):
        load_targets(tmp_path / "nothing")
    rows.save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(DataError, match="rows: holds something else than saliency targets"):
        load_targets(tmp_path / "rows")
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(DataError, match="splits: no saliency targets here"):
        load_targets(tmp_path / "splits")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset_info.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="broken: damaged saliency targets"):
        load_targets(tmp_path / "broken")
