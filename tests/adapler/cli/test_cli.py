"""The command line on a tiny task: whole runs, resuming, and one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.cli.parser import main
from tests.adapler.training.common import QUICK
from tests.conftest import random_batch


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


def test_export_with_a_scale_is_the_model_at_that_scale(run_folder: Path, tmp_path: Path) -> None:
    source = run_folder / "phi-0.1-post-hoc"
    command = ["export", "--model", str(source), "--output", str(tmp_path / "scaled"), "--threshold-scale"]
    with pytest.raises(
        ArgumentError, match=r"^--threshold-scale: 1e\+06 makes an eta .*, which is not in \[0.01, 1\]$"
    ):
        main([*command, "1e6"])
    assert not (tmp_path / "scaled").exists()
    with pytest.raises(ArgumentError, match="^--threshold-scale: 0.0 is not a number above 0$"):
        main([*command, "0"])
    assert main([*command, "0.5"]) == 0
    whole = AdapLeRForSequenceClassification.from_pretrained(source)
    scaled = AdapLeRForSequenceClassification.from_pretrained(tmp_path / "scaled")
    torch.testing.assert_close(scaled.eta.data, whole.eta.data * 0.5)
    batch = random_batch([9, 14])
    with torch.no_grad():
        assert torch.equal(scaled(**batch).retention_mask, whole(**batch, threshold_scale=0.5).retention_mask)
    assert json.loads((tmp_path / "scaled" / "run.json").read_text())["threshold_scale"] == 0.5
    again = ["export", "--model", str(tmp_path / "scaled"), "--output", str(tmp_path / "again")]
    assert main([*again, "--threshold-scale", "0.5"]) == 0
    assert json.loads((tmp_path / "again" / "run.json").read_text())["threshold_scale"] == 0.25, "of the two copies"


def test_stages_one_by_one(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ["--task", str(task_folder)]
    finetuned, saliency, model = (str(tmp_path / name) for name in ("finetuned", "saliency", "model"))
    assert main(["finetune", *task, "--model", str(tiny_classifier_folder), "--output", finetuned, *QUICK]) == 0
    assert main(["saliency", *task, "--max-length", "16", "--finetuned", finetuned, "--output", saliency]) == 0
    arguments = ["train", *task, "--finetuned", finetuned, "--saliency", saliency, "--output", model, *QUICK]
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


def test_other_settings_do_not_overwrite_a_finished_run(
    task_folder: Path, run_folder: Path, tiny_classifier_folder: Path
) -> None:
    arguments = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--output", str(run_folder)]
    for change in (["--max-length", "16", "--epochs", "7"], [*QUICK[2:], "--max-length", "12"]):
        with pytest.raises(ArgumentError, match="finetuned holds a finished run with --(precision|learning-rate) "):
            main([*arguments, *change, "--half"])


def test_when_no_epoch_qualifies_the_command_says_so(
    task_folder: Path, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--task", str(task_folder), "--finetuned", str(run_folder / "finetuned"), *QUICK]
    train += ["--saliency", str(run_folder / "saliency"), "--output", str(tmp_path / "out"), "--keep-epochs"]
    assert main([*train, "--reference-score", "1", "--max-drop", "0"]) == 0
    assert "no epoch is within the allowed drop of the fine-tuned model" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["qualified"] is False
    assert record["selected"]["accuracy"] == max(epoch["accuracy"] for epoch in record["epochs"])
    assert len(list((tmp_path / "out" / "epochs").glob("checkpoint-*/optimizer.pt"))) == 2


def test_training_documents_can_be_cut_in_another_way(tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """`--train-documents` is for the training split; validation and test stay as --long-documents says."""
    for split, number in (("train", 8), ("validation", 4), ("test", 4)):
        lines = [{"text": "the film is " * 7 + ("good" if i % 2 else "bad"), "label": i % 2} for i in range(number)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    arguments = ["run", "--task", str(tmp_path), "--model", str(tiny_classifier_folder), "--freeze-backbone", *QUICK]
    arguments += ["--train-documents", "windows", "--stride", "2", "--output", str(tmp_path / "run"), "--phi", "0.1"]
    assert main(arguments) == 0
    record = json.loads((tmp_path / "run" / "phi-0.1-post-hoc" / "run.json").read_text())
    assert record["rows"] == {"train": 16, "validation": 4, "test": 4}
    assert (record["encoding"]["long_documents"], record["encoding"]["train_documents"]) == ("truncate", "windows")
    trained = str(tmp_path / "run" / "phi-0.1-post-hoc")
    assert main(["evaluate", "--task", str(tmp_path), "--model", trained, "--dtype", "float32"]) == 0


def test_long_documents_in_windows(tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """Training sees windows; evaluation averages them, so it counts documents."""
    for split, number in (("train", 8), ("validation", 4), ("test", 4)):
        lines = [{"text": "the film is " * 7 + ("good" if i % 2 else "bad"), "label": i % 2} for i in range(number)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    arguments = ["run", "--task", str(tmp_path), "--model", str(tiny_classifier_folder), "--freeze-backbone", *QUICK]
    arguments += ["--long-documents", "windows", "--stride", "2", "--output", str(tmp_path / "run"), "--phi", "0.1"]
    assert main(arguments) == 0
    folder = tmp_path / "run" / "phi-0.1-post-hoc"
    record = json.loads((folder / "run.json").read_text())
    # 22 wordpieces in windows of 14 that overlap by 2: two a document
    assert record["rows"] == {"train": 16, "validation": 8, "test": 8}
    said = {"max_length": 16, "long_documents": "windows", "train_documents": None, "stride": 2, "limit": None}
    assert said.items() <= record["encoding"].items()
    evaluation = json.loads((folder / "evaluation-test.json").read_text())
    assert (evaluation["examples"], evaluation["rows"]) == (4, 8)
