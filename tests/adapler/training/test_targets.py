from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import datasets
import pytest
import torch

from adapler.backbones.decomposition import KINDS, layer_saliency, token_relevance
from adapler.cli.parser import main
from adapler.errors import ArgumentError, DataError
from adapler.inference import GRADIENT_TOKEN_BUDGET, TOKEN_BUDGET
from adapler.training.collator import PaddingCollator
from adapler.training.stages import saliency
from adapler.training.stages.saliency import saliency_targets
from adapler.training.stages.targets import (
    MADE_OF,
    add_saliency,
    check_same_part,
    layers_of_targets,
    load_targets,
    save_targets,
    targets_checksum,
    with_origin,
)
from adapler.training.target_settings import TargetMethod, TargetSettings
from tests.adapler.inference.test_inference import TEXTS
from tests.conftest import LAYERS, tiny_classifier

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


def test_targets_of_each_layer_are_the_mean_of_methods_and_models(rows: datasets.Dataset) -> None:
    chosen = TargetSettings(
        target_method=("decomposition", "attention_gradient"), target_layer="own", target_logit="contrast"
    )
    models = [tiny_classifier(seed=seed) for seed in (0, 1)]
    targets = saliency_targets(models, rows, pad_token_id=0, token_budget=24, targets=chosen)
    assert layers_of_targets(targets) == LAYERS and layers_of_targets(marked(rows)) is None
    for row in range(len(rows)):
        inputs = {k: torch.tensor([rows[row][k]]) for k in ("input_ids", "attention_mask", "token_type_ids")}
        inputs["labels"] = torch.tensor([LABELS[row]])
        parts = [
            token_relevance(model, inputs, kind=kind, target="contrast:gold")[0]
            for model in models
            for kind in ("decomposition", "attention_gradient")
        ]
        found = torch.tensor(targets[row]["saliency"])
        assert found.shape == (LAYERS, len(rows[row]["input_ids"]))
        torch.testing.assert_close(found, torch.stack(parts).mean(0), atol=1e-5, rtol=1e-3)


def layered(rows: datasets.Dataset) -> datasets.Dataset:
    """Targets of two layers: the row's number, and a hundred more."""
    saliency = [[[float(i)] * len(ids), [100.0 + i] * len(ids)] for i, ids in enumerate(rows["input_ids"])]
    return datasets.Dataset.from_dict({"id": rows["id"][:], "saliency": saliency})


def test_targets_of_layers_are_joined_saved_loaded_and_padded(
    rows: datasets.Dataset, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    save_targets(layered(rows), tmp_path / "targets")
    loaded = load_targets(tmp_path / "targets")
    assert layers_of_targets(loaded) == 2
    joined = add_saliency(rows.select([3, 0]), loaded)
    batch = PaddingCollator(tiny_tokenizer)(joined.to_list())
    lengths = [len(ids) for ids in joined["input_ids"]]
    assert batch["saliency"].shape == (2, 2, max(lengths))
    for row, (number, length) in enumerate(zip((3, 0), lengths, strict=True)):
        expected = torch.tensor([[float(number)], [100.0 + number]]).expand(-1, length)
        assert torch.equal(batch["saliency"][row, :, :length], expected)
        assert batch["saliency"][row, :, length:].abs().sum() == 0
    flat = layered(rows).map(lambda row: {"saliency": sum(row["saliency"], [])}, features=marked(rows).features)
    assert targets_checksum(flat) != targets_checksum(loaded) == targets_checksum(layered(rows))


def test_damaged_targets_of_layers(rows: datasets.Dataset, tmp_path: Path) -> None:
    targets = layered(rows)
    short = targets.map(lambda row: {"saliency": [row["saliency"][0], row["saliency"][1][:-1]]})
    with pytest.raises(DataError, match="^saliency: example 't0' has [0-9]+ tokens, its target -1; targets come from"):
        add_saliency(rows, short)
    damaged = {
        "different numbers of layers": lambda row: {"saliency": row["saliency"][: 1 if row["id"] == "t1" else 2]},
        "is not a number of at least 0": lambda row: {
            "saliency": [row["saliency"][0], [-1.0] * len(row["saliency"][0])]
        },
    }
    for message, change in damaged.items():
        save_targets(targets.map(change), tmp_path / "damaged")
        with pytest.raises(DataError, match=f"damaged: damaged saliency targets \\(.*{message}"):
            load_targets(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_method": ("lime",)}, "^--target-method: 'lime' is not one of saliency, attention_gradient, decompo"),
        ({"target_method": ()}, "^--target-method: none is given$"),
        ({"target_method": ("saliency", "saliency")}, "^--target-method: saliency saliency names one twice$"),
        ({"target_layer": "last"}, "^--target-layer: 'last' is not one of embeddings, own$"),
        ({"target_logit": "POS"}, "^--target-logit: 'POS' is not one of gold, predicted, contrast$"),
    ],
)
def test_target_settings(options: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        TargetSettings(**options)


def test_methods_are_those_of_the_backbones() -> None:
    assert get_args(TargetMethod) == KINDS


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


def test_targets_of_other_rows_of_the_same_ids(rows: datasets.Dataset, tmp_path: Path) -> None:
    """An edited text of as many tokens, or a label that was set right, makes targets of something else."""
    names = ("no", "so so", "yes")
    save_targets(with_origin(marked(rows), rows, labels=names), tmp_path / "targets")
    targets = load_targets(tmp_path / "targets")
    assert set(targets.column_names) == {"id", "saliency", *MADE_OF}
    assert targets_checksum(targets) == targets_checksum(marked(rows))
    assert add_saliency(rows.select([4, 2]), targets)["id"][:] == ["t4", "t2"]
    edited = rows.map(lambda row: {"input_ids": row["input_ids"][::-1]} if row["id"] == "t3" else {})
    with pytest.raises(DataError, match="^saliency: the target of example 't3' was made of another text than it has"):
        add_saliency(edited.select([1, 3]), targets)
    relabelled = rows.map(lambda row: {"labels": 1 - row["labels"]} if row["id"] == "t1" else {})
    with pytest.raises(DataError, match="^saliency: the target of example 't1' was made of another label than it has"):
        add_saliency(relabelled, targets, labels=names)
    add_saliency(relabelled, targets)  # whose labels are predictions
    add_saliency(relabelled, with_origin(marked(rows), rows), labels=names)  # made of predictions
    numbered = rows.map(lambda row: {"labels": 2 - row["labels"]})  # a model with its labels in another order
    add_saliency(numbered, targets, labels=names[::-1])
    damaged = targets.remove_columns("label").add_column("label", [0] * len(targets))
    save_targets(damaged, tmp_path / "damaged")
    with pytest.raises(DataError, match="checksums or labels are no texts"):
        load_targets(tmp_path / "damaged")


def test_targets_of_another_part_of_long_texts(rows: datasets.Dataset, tmp_path: Path) -> None:
    """The last words and the first ones have the same ids and, where a text is cut, as many tokens."""

    def encoding(policy: str, **more: Any) -> dict[str, Any]:
        return {"max_length": max(map(len, rows["input_ids"])), "long_documents": policy, **more}

    last = encoding("truncate", train_documents="last", stride=None)
    save_targets(marked(rows), tmp_path / "last", record={"command": "saliency", "encoding": last})
    for same in (last, encoding("last"), {**encoding("truncate"), "max_length": 40}):
        check_same_part(tmp_path / "last", rows, encoding=same)
    with pytest.raises(DataError, match=r"last: saliency of another part of .* \(last\) than is .* \(truncate\)"):
        check_same_part(tmp_path / "last", rows, encoding=encoding("truncate"))
    record = {"command": "saliency", "encoding": encoding("windows", stride=4)}
    save_targets(marked(rows), tmp_path / "windows", record=record)
    with pytest.raises(DataError, match=r"\(windows, stride 4\) than is trained on \(windows, stride by length\)"):
        check_same_part(tmp_path / "windows", rows, encoding=encoding("windows", stride=None))
    save_targets(marked(rows), tmp_path / "plain")  # says nothing
    check_same_part(tmp_path / "plain", rows, encoding=encoding("truncate"))


def test_training_refuses_targets_of_another_part(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    base = ["--task", str(task_folder), "--model", str(tiny_classifier_folder), "--max-length", "6"]
    base += ["--precision", "float32"]
    saliency = ["saliency", *base, "--train-documents", "last", "--output", str(tmp_path / "targets")]
    assert main(saliency) == 0
    train = ["train", *base, "--saliency", str(tmp_path / "targets"), "--output", str(tmp_path / "model")]
    with pytest.raises(DataError, match=r"targets: saliency of another part of long texts \(last\) than is"):
        main([*train, "--freeze-backbone", "--epochs", "1"])
    assert not (tmp_path / "model").exists()


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


@pytest.mark.parametrize(("device", "budget"), [("cpu", GRADIENT_TOKEN_BUDGET), ("meta", TOKEN_BUDGET)])
def test_the_batches_of_a_device(
    rows: datasets.Dataset, device: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU they are so small that the memory of their tensors is kept."""
    seen: list[int] = []

    def stop(lengths: Any, *, token_budget: int) -> Any:
        seen.append(token_budget)
        raise ArgumentError("enough")

    monkeypatch.setattr(saliency, "batches_by_length", stop)
    with pytest.raises(ArgumentError, match="^enough$"):
        saliency_targets([tiny_classifier().to(device)], rows, pad_token_id=0)
    assert seen == [budget]
