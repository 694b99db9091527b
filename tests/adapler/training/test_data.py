"""A task and a model: which rows are read, which labels they have, and what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adapler.cli import main
from adapler.errors import ArgumentError
from adapler.evaluation import with_predicted_labels
from adapler.training.config import Execution, TaskOptions
from adapler.training.data import prepare, prepare_trained
from tests.adapler.training.common import QUICK


def texts_of(task: Path, file: Path) -> Path:
    """A file with the training texts of a task alone."""
    rows = [json.loads(line) for line in (task / "train.jsonl").read_text().splitlines()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows), encoding="utf-8")
    return file


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
    folder = tmp_path / "run" / "phi-0.1-post-hoc"
    record = json.loads((folder / "run.json").read_text())
    assert record["metric"] == "agreement" and record["reference_score"] == 1.0
    assert record["encoding"]["predicted_labels"] == ["train", "validation"]
    assert record["rows"] == {"train": 18, "validation": 6}
    evaluated = json.loads((folder / "evaluation-validation.json").read_text())
    assert evaluated["none"]["score"] == 1.0 and evaluated["metric"] == "agreement"
    # A labelled file that the model learned from is no test set.
    with pytest.raises(ArgumentError, match="--validation-share is 0.5 here and 0.25|--encoding is"):
        main([*command, "--validation-share", "0.5"])


def test_labels_are_the_classifiers_predictions(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    """A split that has labels keeps them."""
    texts_of(task_folder, tmp_path / "task" / "train.jsonl")
    (tmp_path / "task" / "validation.jsonl").write_text((task_folder / "validation.jsonl").read_text())
    options = TaskOptions(task=str(tmp_path / "task"), max_length=16)
    splits = ("train", "validation")
    prepared = prepare(options, tiny_classifier_folder, splits=splits, seed=0, unlabelled=True)
    found = with_predicted_labels(prepared, tiny_classifier_folder, execution=Execution(precision="float32"))
    assert found.metric("train") == "agreement" and found.metric("validation") == "accuracy"
    kinds = (AutoModelForSequenceClassification, AutoTokenizer)
    model, tokenizer = (kind.from_pretrained(tiny_classifier_folder) for kind in kinds)
    texts = [json.loads(line)["text"] for line in (tmp_path / "task" / "train.jsonl").read_text().splitlines()]
    with torch.inference_mode():
        own = [int(model.eval()(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in texts]
    assert found.encoded["train"]["labels"][:] == own
    assert found.encoded["validation"]["labels"][:] == prepared.encoded["validation"]["labels"][:]


def test_a_limit_draws_with_the_seed(task_folder: Path, tiny_classifier_folder: Path) -> None:
    def ids(seed: int) -> list[str]:
        options = TaskOptions(task=str(task_folder), limit=8)
        return list(prepare(options, tiny_classifier_folder, splits=("train",), seed=seed).encoded["train"]["id"])

    assert len(ids(1)) == 8 and ids(1) == ids(1) != ids(2)


def test_only_training_rows_are_read_otherwise(task_folder: Path, tiny_classifier_folder: Path) -> None:
    options = TaskOptions(task=str(task_folder), max_length=6, train_documents="last", long_documents="truncate")
    found, plain = (
        prepare(one, tiny_classifier_folder, splits=("train", "validation"), seed=1).encoded
        for one in (options, TaskOptions(task=str(task_folder), max_length=6))
    )
    assert found["validation"]["input_ids"][:] == plain["validation"]["input_ids"][:]
    assert found["train"]["input_ids"][:] != plain["train"]["input_ids"][:]


def test_a_trained_model_reads_as_in_training(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    """Its length, its held-out rows; pairs for a model of single texts are refused."""
    model = Path(shutil.copytree(run_folder / "phi-0.1-post-hoc", tmp_path / "model"))
    prepared, note = prepare_trained(TaskOptions(task=str(task_folder)), model, split="test", seed=0)
    assert prepared.encoding["max_length"] == 16 and "as in training (run.json)" in note
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    lines = [json.dumps({"text_a": "a good film", "text_b": "a bad one", "label": n % 2}) + "\n" for n in range(8)]
    for split in ("train", "validation", "test"):
        (pairs / f"{split}.jsonl").write_text("".join(lines))
    with pytest.raises(ArgumentError, match="has text_a and text_b in each row, and .*learned from text_a"):
        prepare_trained(TaskOptions(task=str(pairs)), model, split="test", seed=0)
    file = tmp_path / "all.jsonl"
    rows = [json.loads(line) for line in (task_folder / "train.jsonl").read_text().splitlines()]
    file.write_text("".join(json.dumps(row | {"label": ["NEG", "POS"][row["label"]]}) + "\n" for row in rows))
    whole, _ = prepare_trained(TaskOptions(task=str(file)), model, split="test", seed=0)
    assert len(whole.encoded["test"]) == len(rows)
    learned = prepare(TaskOptions(task=str(file)), model, splits=("train",), seed=0)
    record = json.loads((model / "run.json").read_text()) | {"data_checksum": learned.task.checksum}
    (model / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArgumentError, match="learned from rows of .*--split validation reads those held out"):
        prepare_trained(TaskOptions(task=str(file)), model, split="test", seed=0)
