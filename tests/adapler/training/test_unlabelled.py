"""Training on text without labels: the classifier's predictions take their place, and scores are called agreement."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adapler.cli.parser import main
from adapler.errors import ArgumentError, DataError
from adapler.training.settings import Execution, TaskSettings
from adapler.training.stages.predicted import with_predicted_labels
from adapler.training.stages.prepare import prepare, prepare_trained
from tests.adapler.training.common import QUICK


def texts_of(task: Path, file: Path, *, split: str = "train") -> Path:
    """A file with the texts of a split alone."""
    rows = [json.loads(line) for line in (task / f"{split}.jsonl").read_text().splitlines()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows), encoding="utf-8")
    return file


def without_validation(task: Path, folder: Path) -> Path:
    """A copy of a task that has no validation split."""
    return shutil.copytree(task, folder, ignore=shutil.ignore_patterns("validation.jsonl"))


def predictions(folder: Path, texts: list[str]) -> list[int]:
    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    with torch.inference_mode():
        return [int(model.eval()(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in texts]


def test_a_run_on_texts_alone(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file of texts: validation is drawn from it, and nothing is called accuracy."""
    file = texts_of(task_folder, tmp_path / "texts.jsonl")
    command = ["run", "--task", str(file), "--classifier", str(tiny_classifier_folder), "--freeze-backbone"]
    command += ["--validation-share", "0.25", "--phi", "0.1", "--output", str(tmp_path / "run"), *QUICK]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "no test split" in said and "validation agreement 1.0000" in said and "accuracy" not in said
    assert "6 of the 24 rows of train, at random" in said, "no label's share can be kept"
    assert [line.split() for line in said.splitlines() if line.startswith("removal ")] == [
        ["removal", "scale", "agreement", "speedup", *"mean tokens entering each layer".split()]
    ], "one column of agreement"
    folder = tmp_path / "run" / "phi-0.1-post-hoc"
    record = json.loads((folder / "run.json").read_text())
    assert record["metric"] == "agreement" and record["reference_score"] == 1.0
    assert record["encoding"]["predicted_labels"] == ["train", "validation"]
    assert record["rows"] == {"train": 18, "validation": 6}
    assert all("agreement" in epoch and "accuracy" not in epoch for epoch in record["epochs"])
    evaluated = json.loads((folder / "evaluation-validation.json").read_text())
    assert evaluated["none"]["score"] == 1.0 and evaluated["metric"] == "agreement"
    assert evaluated["hard"][0]["score"] == evaluated["hard"][0]["agreement"]
    with pytest.raises(ArgumentError, match=r"with --validation-share 0.25, not 0.5"):
        main([*command, "--validation-share", "0.5"])
    assert (tmp_path / "run" / "tradeoff-post-hoc.csv").read_text().startswith("phi,qualified,seconds,validation_agree")
    assert main(command) == 0 and "training AdapLeR" not in capsys.readouterr().out

    table = tmp_path / "table.csv"
    assert main(["tradeoff", str(tmp_path / "run"), "--output", str(table)]) == 0
    assert "agreement" in table.read_text()


def test_labels_are_the_classifiers_predictions(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    """By example, for windows too; a split that has labels keeps them."""
    texts_of(task_folder, tmp_path / "task" / "train.jsonl")
    (tmp_path / "task" / "validation.jsonl").write_text((task_folder / "validation.jsonl").read_text())
    settings = TaskSettings(task=str(tmp_path / "task"), max_length=6, long_documents="windows", stride=1)
    prepared = prepare(settings, tiny_classifier_folder, splits=("train", "validation"), seed=0, unlabelled=True)
    assert prepared.task.unlabelled == ("train",) and set(prepared.encoded["train"]["labels"]) == {-1}
    done = with_predicted_labels(prepared, tiny_classifier_folder, execution=Execution(precision="float32"))
    rows = done.encoded["train"]
    assert len(rows) > 24, "some have windows"
    by_example: dict[str, set[int]] = {}
    for name, label in zip(rows["example_id"], rows["labels"], strict=True):
        by_example.setdefault(name, set()).add(label)
    assert all(len(labels) == 1 for labels in by_example.values())
    single = [name for name in by_example if list(rows["example_id"]).count(name) == 1]
    texts = [json.loads(line)["text"] for line in (tmp_path / "task" / "train.jsonl").read_text().splitlines()]
    expected = predictions(tiny_classifier_folder, [texts[int(name.partition("-")[2])] for name in single])
    assert [by_example[name].copy().pop() for name in single] == expected
    assert done.encoded["validation"].to_list() == prepared.encoded["validation"].to_list()
    assert done.metric("train") == "agreement" and done.metric("validation") == done.scored_task().metric == "accuracy"
    assert with_predicted_labels(done, tiny_classifier_folder, execution=Execution()) is not done
    assert isinstance(rows, datasets.Dataset) and rows.column_names == prepared.encoded["train"].column_names


def test_stages_on_texts_alone(task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """Labelled validation keeps its own metric, and the reference is measured."""
    texts_of(task_folder, tmp_path / "task" / "train.jsonl")
    (tmp_path / "task" / "validation.jsonl").write_text((task_folder / "validation.jsonl").read_text())
    task = ["--task", str(tmp_path / "task"), "--model", str(tiny_classifier_folder)]
    saliency = tmp_path / "saliency"
    assert main(["saliency", *task, "--max-length", "16", "--output", str(saliency), "--precision", "float32"]) == 0
    train = ["train", *task, "--saliency", str(saliency), "--output", str(tmp_path / "model"), *QUICK]
    with pytest.raises(DataError, match=r"train.jsonl:1: has no 'label', its fields are 'text' \(only `adapler run"):
        main(train)
    assert main([*train, "--freeze-backbone"]) == 0
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert record["metric"] == "accuracy" and record["encoding"]["predicted_labels"] == ["train"]
    judge = ["evaluate", "--model", str(tmp_path / "model"), "--task", str(tmp_path / "task"), "--dtype", "float32"]
    assert main([*judge, "--split", "validation", "--output", str(tmp_path / "judged.json")]) == 0
    assert json.loads((tmp_path / "judged.json").read_text())["hard"][0]["score"] == record["validation"]["accuracy"]
    with pytest.raises(ArgumentError, match="^--split: train of task has no labels, and a score needs them$"):
        main([*judge, "--split", "train"])


def test_what_is_refused(task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    file = texts_of(task_folder, tmp_path / "texts.jsonl")
    run = ["run", "--classifier", str(tiny_classifier_folder), "--output", str(tmp_path / "run"), *QUICK]
    with pytest.raises(DataError, match="texts.jsonl:1: has no 'label'"):
        main([*run, "--task", str(file)])
    with file.open("a") as stream:
        stream.write(json.dumps({"text": "good", "label": "POS"}) + "\n")
    with pytest.raises(DataError, match="texts.jsonl:25: has a 'label', and the rows before it have none"):
        main([*run, "--task", str(file), "--freeze-backbone"])
    with pytest.raises(ArgumentError, match="^--validation-share: .* has a validation split of its own$"):
        main([*run, "--task", str(task_folder), "--validation-share", "0.1"])
    with pytest.raises(ArgumentError, match=r"^--validation-share: 1.0 is not in \(0, 1\)$"):
        main([*run, "--task", str(task_folder), "--validation-share", "1"])
    assert not (tmp_path / "run").exists()


def test_a_validation_share_is_drawn_with_the_seed(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    task = without_validation(task_folder, tmp_path / "task")

    def ids(seed: int) -> tuple[list[str], list[str]]:
        settings = TaskSettings(task=str(task), validation_share=0.5)
        prepared = prepare(settings, tiny_classifier_folder, splits=("train", "validation"), seed=seed)
        return list(prepared.encoded["train"]["id"]), list(prepared.encoded["validation"]["id"])

    train, validation = ids(1)
    assert len(train) == len(validation) == 12
    assert sorted([*train, *validation]) == sorted(f"train-{row}" for row in range(24))
    assert ids(1) == (train, validation) and ids(2) != (train, validation)


def test_a_trained_model_is_judged_on_the_rows_that_its_training_held_out(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    task = without_validation(task_folder, tmp_path / "task")
    settings = TaskSettings(task=str(task))
    drawn = prepare(replace(settings, validation_share=0.5), tiny_classifier_folder, splits=("validation",), seed=7)
    model = shutil.copytree(tiny_classifier_folder, tmp_path / "model")
    (model / "run.json").write_text(json.dumps({"settings": {"seed": 7}, "encoding": drawn.encoding}))

    def judged(settings: TaskSettings) -> tuple[list[str], str]:
        prepared, note = prepare_trained(settings, model, split="validation", seed=42)
        return list(prepared.encoded["validation"]["id"]), note

    rows, note = judged(settings)
    assert rows == list(drawn.encoded["validation"]["id"]) and "draws other rows" not in note
    rows, note = judged(replace(settings, validation_share=0.25))
    assert len(rows) == 6 and "0.25 with seed 42 draws other rows than training did (0.5 with seed 7)" in note
    own, _ = judged(TaskSettings(task=str(task_folder)))
    assert all(row.startswith("validation") for row in own), "a split of the task's own is not drawn"
