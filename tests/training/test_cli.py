"""The command line on a tiny task: whole runs, resuming, and one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from adapler import AdapLeRForSequenceClassification
from adapler.cli import main
from adapler.errors import run_command
from tests.conftest import WORDS


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    for split, number in (("train", 24), ("validation", 8), ("test", 8)):
        lines = []
        for row in range(number):
            middle = [WORDS[(row * 7 + k) % len(WORDS)] for k in range(3 + row % 5)]
            lines.append(json.dumps({"text": " ".join(["good" if row % 2 else "bad", *middle]), "label": row % 2}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "meta.json").write_text(json.dumps({"name": "tiny", "labels": ["NEG", "POS"]}), encoding="utf-8")
    return folder


COMMON = ["--max-length", "16", "--epochs", "2", "--batch-size", "8", "--precision", "float32"]


@pytest.fixture(scope="module")
def run_folder(task_folder: Path, tiny_classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tiny"
    arguments = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--output", str(folder)]
    arguments += ["--freeze-backbone", "--half", "--phi", "1e-3", "1e-1", "--learning-rate", "1e-3", *COMMON]
    assert main(arguments) == 0
    assert main(arguments) == 0, "a second run skips what is there"
    return folder


def test_run_writes_models_records_and_the_trade_off(run_folder: Path) -> None:
    table = pd.read_csv(run_folder / "tradeoff-post-hoc.csv")
    assert table["phi"].tolist() == [1e-3, 1e-1]
    record = json.loads((run_folder / "phi-0.1-post-hoc" / "run.json").read_text())
    assert {"settings", "objectives", "versions", "data_checksum", "epochs", "selected"} <= record.keys()
    assert len(record["epochs"]) == 2
    evaluation = json.loads((run_folder / "phi-0.1-post-hoc" / "evaluation-test.json").read_text())
    assert evaluation["hard"][0]["score"] == table["test_accuracy"][1]


def test_post_hoc_model_holds_the_fine_tuned_classifier_bit_for_bit(run_folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    classifier = AutoModelForSequenceClassification.from_pretrained(run_folder / "finetuned")
    model = AdapLeRForSequenceClassification.from_pretrained(run_folder / "phi-0.001-post-hoc")
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name


def test_export_in_half_precision_is_lossless(run_folder: Path, tmp_path: Path) -> None:
    source = run_folder / "phi-0.1-post-hoc"
    assert main(["export", "--model", str(source), "--output", str(tmp_path / "half")]) == 0
    whole = AdapLeRForSequenceClassification.from_pretrained(source).state_dict()
    half = AdapLeRForSequenceClassification.from_pretrained(tmp_path / "half")
    assert all(torch.equal(whole[name], tensor) for name, tensor in half.state_dict().items())
    sizes = [sum(file.stat().st_size for file in f.glob("*.safetensors")) for f in (source, tmp_path / "half")]
    assert sizes[1] < 0.8 * sizes[0]


def test_stages_one_by_one(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ["--task", str(task_folder)]
    finetuned, saliency, model = (str(tmp_path / name) for name in ("finetuned", "saliency", "model"))
    assert main(["finetune", *task, "--model", str(tiny_classifier_folder), "--output", finetuned, *COMMON]) == 0
    assert main(["saliency", *task, "--max-length", "16", "--finetuned", finetuned, "--output", saliency]) == 0
    arguments = ["train", *task, "--finetuned", finetuned, "--saliency", saliency, "--output", model, *COMMON]
    assert main(arguments) == 0
    output = str(tmp_path / "evaluation.json")
    arguments = ["evaluate", *task, "--max-length", "16", "--model", model, "--threshold-scale", "0", "1"]
    assert main([*arguments, "--output", output]) == 0
    hard = json.loads(Path(output).read_text())["hard"]
    assert hard[0]["agreement"] == 1.0, "threshold_scale 0 keeps every token"
    assert hard[0]["speedup"] < 1, "predictors that drop nothing cost something"
    capsys.readouterr()
    assert main(["predict", "--model", model, "a good film", "a bad film"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_predict_reads_and_writes_files(run_folder: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "a good film"}\n\n{"text": "so dull"}\n', encoding="utf-8")
    out = tmp_path / "out.jsonl"
    model = str(run_folder / "phi-0.1-post-hoc")
    assert main(["predict", "--model", model, "--input", str(texts), "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["label"] in ("NEG", "POS") for row in rows] == [True, True]
    assert rows[0]["tokens"] == ["[CLS]", "a", "good", "film", "[SEP]"]
    assert len(rows[0]["layers"]) == 5 and max(rows[0]["layers"]) == rows[0]["layers"][0] == 3


def _one_line_error(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert run_command(main, arguments) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(err) == 1
    return err[0]


def test_bad_input_gets_one_line(
    task_folder: Path, run_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    model, task = str(run_folder / "phi-0.1-post-hoc"), ["--task", str(task_folder)]
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"tex\n', encoding="utf-8")
    out = tmp_path / "out"
    cases = [
        (["predict", "--model", model, "--input", str(bad)], r"bad.jsonl:2: not a JSON object"),
        (["predict", "--model", model, " "], r"texts: number 0 .* is empty"),
        (["predict", "--model", str(tmp_path / "none"), "x"], r"none: no such model folder"),
        (["predict", "--model", str(tiny_classifier_folder), "x"], r"holds a 'bert' model, not 'adapler'"),
        (["predict", "--model", model], r"give either texts or --input"),
        (["evaluate", "--model", model, "--task", str(tmp_path)], rf"{tmp_path.name}"),
        (
            ["finetune", *task, "--model", str(tiny_classifier_folder), "--output", str(out), "--epochs", "0"],
            r"--epochs: 0 is not at least 1",
        ),
        (
            ["train", *task, "--finetuned", str(tmp_path), "--saliency", str(tmp_path), "--output", str(out)],
            r"no saliency targets here",
        ),
        (["saliency", *task, "--finetuned", model, "--output", str(out)], r"weights of this fine-tuning epoch"),
    ]
    import re

    for arguments, message in cases:
        line = _one_line_error(capsys, arguments)
        assert re.search(message, line), f"{line!r} does not say {message!r}"
    assert not out.exists(), "a refused command left something behind"


def test_other_settings_do_not_overwrite_a_finished_run(
    task_folder: Path, run_folder: Path, tiny_classifier_folder: Path, capsys: Any
) -> None:
    arguments = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--output", str(run_folder)]
    line = _one_line_error(capsys, [*arguments, "--max-length", "16", "--epochs", "7"])
    assert "holds a finished run" in line
