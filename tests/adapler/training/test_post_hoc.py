"""A classifier that was fine-tuned elsewhere: the pipeline and its stages without fine-tuning, and its label order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.cli.parser import main
from adapler.training.settings import POST_HOC_LEARNING_RATE
from tests.adapler.training.common import QUICK


def elsewhere(folder: Path, source: Path, names: list[str]) -> Path:
    """The tiny classifier as somebody else saved it: no run.json, labels with these names."""
    model = AutoModelForSequenceClassification.from_pretrained(source)
    model.config.id2label, model.config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def accuracy(classifier: Any, tokenizer: Any, file: Path, numbers: dict[int, int]) -> float:
    """Row by row, with the task's label number -> the classifier's."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    with torch.inference_mode():
        outputs = [classifier(**tokenizer(row["text"], return_tensors="pt")).logits.argmax() for row in rows]
    return sum(int(out) == numbers[row["label"]] for out, row in zip(outputs, rows, strict=True)) / len(rows)


@pytest.mark.parametrize(
    ("names", "numbers", "labels", "note"),
    [
        (["pos", "Neg"], {0: 1, 1: 0}, ["POS", "NEG"], None),
        (
            ["LABEL_0", "LABEL_1"],
            {0: 0, 1: 1},
            ["NEG", "POS"],
            "compared by number: NEG, POS; the classifier's: LABEL_0",
        ),
        (["down", "up"], {0: 0, 1: 1}, ["NEG", "POS"], "compared by number: NEG, POS; the classifier's: down, up"),
    ],
)
def test_run_from_a_classifier(
    names: list[str],
    numbers: dict[int, int],
    labels: list[str],
    note: str | None,
    task_folder: Path,
    tiny_classifier_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = elsewhere(tmp_path / "theirs", tiny_classifier_folder, names)
    classifier = AutoModelForSequenceClassification.from_pretrained(source).eval()
    command = ["run", "--task", str(task_folder), "--classifier", str(source), "--output", str(tmp_path / "run")]
    command += ["--freeze-backbone", "--phi", "0.1", *QUICK]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert (note in said) if note else ("by number" not in said)
    folder = tmp_path / "run" / "phi-0.1-post-hoc"
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name
    assert [model.config.id2label[i] for i in (0, 1)] == labels
    tokenizer = AutoTokenizer.from_pretrained(source)
    record, stage = (json.loads((f / "run.json").read_text()) for f in (folder, tmp_path / "run" / "classifier"))
    assert record["reference_score"] == stage["best"]
    assert stage["best"] == accuracy(classifier, tokenizer, task_folder / "validation.jsonl", numbers)
    evaluated = json.loads((folder / "evaluation-test.json").read_text())
    assert evaluated["none"]["score"] == accuracy(classifier, tokenizer, task_folder / "test.jsonl", numbers)
    assert record["objectives"]["predictor_learning_rate"] == POST_HOC_LEARNING_RATE

    assert main(command) == 0, "a second run skips what is there"
    assert "training AdapLeR" not in capsys.readouterr().out
    other = elsewhere(tmp_path / "others", tiny_classifier_folder, names)
    with pytest.raises(ArgumentError, match="classifier holds a finished run with model theirs, not others"):
        main([str(other) if word == str(source) else word for word in command])


def test_stages_from_a_classifier_are_those_of_the_run(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    source = elsewhere(tmp_path / "theirs", tiny_classifier_folder, ["POS", "NEG"])
    task = ["--task", str(task_folder), "--model", str(source)]
    saliency, output = str(tmp_path / "saliency"), tmp_path / "model"
    precise = ["--max-length", "16", "--precision", "float32"]
    targets = ["--target-method", "decomposition", "saliency", "--target-layer", "own", "--target-logit", "contrast"]
    assert main(["saliency", *task, *precise, *targets, "--output", saliency]) == 0
    assert json.loads((tmp_path / "saliency" / "run.json").read_text())["targets"]["target_layer"] == "own"
    options = ["--freeze-backbone", "--phi", "0.1", "--contribution-hidden-size", "5", *QUICK]
    options += ["--predictor", "contextual"]
    assert main(["train", *task, "--saliency", saliency, "--output", str(output), *options]) == 0
    command = ["run", "--task", str(task_folder), "--classifier", str(source), "--output", str(tmp_path / "run")]
    assert main([*command, *options, *targets]) == 0
    with pytest.raises(ArgumentError, match="saliency holds a finished run with --target-method"):
        main([*command, *options])
    models = [
        AdapLeRForSequenceClassification.from_pretrained(f).state_dict()
        for f in (output, tmp_path / "run" / "phi-0.1-post-hoc")
    ]
    assert models[0]["contribution_predictors.0.dense.weight"].shape[0] == 5
    assert models[0]["contribution_predictors.1.near.weight"].abs().sum() > 0, "its context is trained"
    for name, tensor in models[0].items():
        assert torch.equal(tensor, models[1][name]), name


def test_a_classifier_below_chance_is_doubted(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = elsewhere(tmp_path / "theirs", tiny_classifier_folder, ["LABEL_0", "LABEL_1"])
    rows = [json.loads(line) for line in (task_folder / "validation.jsonl").read_text().splitlines()]
    model, tokenizer = (kind.from_pretrained(source) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    with torch.inference_mode():
        wrong = [1 - int(model(**tokenizer(row["text"], return_tensors="pt")).logits.argmax()) for row in rows]
    task = tmp_path / "task"
    task.mkdir()
    for split in ("train", "validation", "test"):
        lines = [{"text": row["text"], "label": label} for row, label in zip(rows, wrong, strict=True)]
        (task / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (task / "meta.json").write_text(json.dumps({"name": "turned", "labels": ["NEG", "POS"]}), encoding="utf-8")
    command = ["run", "--task", str(task), "--classifier", str(source), "--output", str(tmp_path / "run"), *QUICK]
    assert main([*command, "--freeze-backbone"]) == 0
    assert "validation accuracy 0.0000" in (said := capsys.readouterr().out)
    assert "it may number its labels in another order than NEG, POS" in said
