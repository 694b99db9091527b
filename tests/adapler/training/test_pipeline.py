"""Whole runs on a tiny task: what they write, how they go on after a stop, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertTokenizerFast, pipeline

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.backbones.families import view
from adapler.cli import main
from adapler.training.trainer import last_checkpoint
from tests.adapler.training.common import QUICK, stopped
from tests.conftest import VOCABULARY, WORDS, padding_of, tiny_classifier

# Options with which a tiny model drops tokens after a few steps; and the name of the point's folder.
POLICIES: dict[str, tuple[list[str], str]] = {
    "adapler": (["--phi", "0.2", "--eta-learning-rate", "0.1", "--target-epochs", "1"], "phi-0.2"),
    "transkimmer": (["--policy-weight", "20", "--policy-learning-rate", "0.3"], "transkimmer-20"),
    "ltp": (["--policy-weight", "5", "--policy-learning-rate", "0.05", "--policy-temperature", "0.02"], "ltp-5"),
    "power": (["--policy-weight", "5", "--policy-learning-rate", "0.2"], "power-5"),
    "cls_topk": (["--keep", "0.5"], "cls_topk-keep-0.5"),
    "trbert": (["--policy-weight", "20", "--policy-learning-rate", "0.1"], "trbert-20"),
    "distilbert": ([], "distilbert"),
}
STAGES = {"ltp": 2, "power": 2, "trbert": 2}


def record_of(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


def words_of(name: str, task: Path, model: Path, output: Path) -> list[str]:
    words = ["run", "--task", str(task), "--model", str(model), "--output", str(output), "--policy", name]
    words += [*POLICIES[name][0], "--learning-rate", "1e-3", *QUICK]
    return [*words, "--policy-epochs", *["2"] * STAGES.get(name, 1)]


@pytest.fixture(scope="module")
def finetuned(task_folder: Path, tiny_classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its first stage."""
    folder = tmp_path_factory.mktemp("policies") / "run"
    words = ["--task", str(task_folder), "--model", str(tiny_classifier_folder), "--learning-rate", "1e-3", *QUICK]
    assert main(["finetune", *words, "--output", str(folder / "finetuned")]) == 0
    return folder


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_run_of_each_policy_and_one_that_was_stopped(
    name: str, finetuned: Path, task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    runs = [Path(shutil.copytree(finetuned, tmp_path / each)) for each in ("straight", "cut")]
    words = [words_of(name, task_folder, tiny_classifier_folder, run) for run in runs]
    assert main(words[0]) == 0
    stopped(words[1], after=4)
    assert main(words[1]) == 0
    folders = [run / POLICIES[name][1] for run in runs]
    one, other = (load_file(folder / "model.safetensors") for folder in folders)
    assert one.keys() == other.keys() and [key for key in one if not torch.equal(one[key], other[key])] == []
    records = [record_of(folder) for folder in folders]
    assert records[0]["epochs"] == records[1]["epochs"] and records[0]["validation"] == records[1]["validation"]
    record = records[0]
    assert record["command"] == "train" and record["policy"] == name and len(record["stages"]) == STAGES.get(name, 1)
    assert record["selected"] in record["epochs"] and len(record["epochs"]) == 2 and record["seconds"] > 0
    table = pd.read_csv(runs[0] / "tradeoff.csv")
    assert table["policy"].tolist() == [name] and (name == "adapler" or table["test_speedup"][0] > 1)
    for split in ("validation", "test"):
        evaluation = json.loads((folders[0] / f"evaluation-{split}.json").read_text())
        assert evaluation["hard"][0]["speedup"] == pytest.approx(table[f"{split}_speedup"][0], rel=1e-12)
    assert not (folders[0] / "stages").exists() and not (folders[0] / "epochs").exists()

    before = (folders[0] / "model.safetensors").stat().st_mtime_ns
    assert main(words[0]) == 0, "a second run trains nothing"
    assert (folders[0] / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ArgumentError, match="^--seed is 43 here and 42 in the finished .*finetuned; give another"):
        main([*words[0], "--seed", "43"])
    with pytest.raises(ArgumentError, match=r"^--policy-epochs is \[1.* here and \[2.* in the finished "):
        main([*words[0], "--policy-epochs", *["1"] * STAGES.get(name, 1)])
    if name == "distilbert":
        assert type(AutoModelForSequenceClassification.from_pretrained(folders[0])).__name__.startswith("Bert")
        return
    model = AdapLeRForSequenceClassification.from_pretrained(folders[0])
    assert model.config.policy == name
    task = ["--task", str(task_folder), "--max-length", "16", "--dtype", "float32"]
    result = tmp_path / "result.json"
    assert main(["evaluate", "--model", str(folders[0]), *task, "--output", str(result)]) == 0
    assert json.loads(result.read_text())["hard"][0]["speedup"] == pytest.approx(table["test_speedup"][0])


@pytest.mark.parametrize("target", [None, "1.3"])
def test_a_training_stopped_within_an_epoch_goes_on_exactly(
    target: str | None, task_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    """Dropout is on, and phi changes in every step."""
    train = ["train", "--task", str(task_folder), "--finetuned", str(run_folder / "finetuned"), "--preset", "paper"]
    train += ["--targets", str(run_folder / "targets"), "--max-steps", "10", "--eval-steps", "4", "--phi", "0.1"]
    train += ["--max-length", "16", "--precision", "float32", "--batch-size", "4", "--average-decay", "0.9"]
    train += ["--eta-learning-rate", "0.1"] + ([] if target is None else ["--target-speedup", target])
    assert main([*train, "--output", str(tmp_path / "straight")]) == 0
    stopped([*train, "--output", str(tmp_path / "cut")], after=5)
    epochs = tmp_path / "cut" / "epochs"
    assert last_checkpoint(epochs) == str(epochs / "checkpoint-4"), "an epoch has six steps"
    state = epochs / "checkpoint-4" / "stage.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "seconds": 1000.0}))
    with pytest.raises(ArgumentError, match="^--seed is 1 here and 42 in the unfinished "):
        main([*train, "--output", str(tmp_path / "cut"), "--seed", "1"])
    assert main([*train, "--output", str(tmp_path / "cut")]) == 0
    records = [record_of(tmp_path / name) for name in ("straight", "cut")]
    assert records[0]["epochs"] == records[1]["epochs"] and records[1]["seconds"] > 1000
    assert [row["step"] for row in records[0]["epochs"]] == [4, 8, 10]
    straight, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "cut"))
    assert [name for name, tensor in straight.items() if not torch.equal(tensor, cut[name])] == []


@pytest.mark.parametrize("options", [["--max-steps", "5", "--eval-steps", "2"], []])
def test_a_training_stopped_after_its_last_step_in_a_folder_that_was_moved(
    options: list[str], task_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    """No step is added, and the best point is found: transformers looks for it where training began."""
    words = ["finetune", "--model", str(run_folder / "finetuned"), "--task", str(task_folder)]
    words += ["--max-length", "16", "--precision", "float32", "--batch-size", "8", "--learning-rate", "0.5", *options]
    assert main([*words, "--output", str(tmp_path / "straight")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapler.training.pipeline.classifier_score", lambda *a, **b: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            main([*words, "--output", str(tmp_path / "cut")])
    (tmp_path / "cut").rename(tmp_path / "moved")
    assert main([*words, "--output", str(tmp_path / "moved")]) == 0
    scores = [epoch["accuracy"] for epoch in record_of(tmp_path / "straight")["epochs"]]
    assert scores.index(max(scores)) < len(scores) - 1, "the last point is not the best"
    one, other = (tmp_path / name / "model.safetensors" for name in ("straight", "moved"))
    assert one.read_bytes() == other.read_bytes()


def test_the_last_whole_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None and last_checkpoint(tmp_path) is None
    for step, state in ((9, '{"global_step": 9}'), (10, '{"global_step": 10}'), (11, '{"glo'), (120, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10"), "by number, whole ones only"


def test_folders_of_something_else(task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    words = ["finetune", "--task", str(task_folder), "--model", str(tiny_classifier_folder), *QUICK]
    with pytest.raises(ArgumentError, match="is not empty, and holds no stage of a run"):
        main([*words, "--output", str(tmp_path)])


def test_stages_from_a_classifier_are_those_of_the_run(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    """Fine-tuned elsewhere, with its labels in another order."""
    source = tmp_path / "theirs"
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_folder)
    model.config.id2label, model.config.label2id = {0: "POS", 1: "NEG"}, {"POS": 0, "NEG": 1}
    model.save_pretrained(source)
    AutoTokenizer.from_pretrained(tiny_classifier_folder).save_pretrained(source)
    task = ["--task", str(task_folder), "--model", str(source)]
    targets, output = str(tmp_path / "targets"), tmp_path / "model"
    methods = ["--target-method", "decomposition", "saliency"]
    precise = ["--max-length", "16", "--precision", "float32"]
    assert main(["saliency", *task, *precise, *methods, "--output", targets]) == 0, "the command's earlier name"
    options = ["--freeze-backbone", "--phi", "0.1", "--contribution-hidden-size", "5", *QUICK]
    assert main(["train", *task, "--targets", targets, "--output", str(output), *options]) == 0
    command = ["run", "--task", str(task_folder), "--classifier", str(source), "--output", str(tmp_path / "run")]
    assert main([*command, *options, *methods]) == 0
    with pytest.raises(ArgumentError, match="^--target-method is .* in the finished .*targets"):
        main([*command, *options])
    folder = tmp_path / "run" / "phi-0.1-post-hoc"
    models = [AdapLeRForSequenceClassification.from_pretrained(f).state_dict() for f in (output, folder)]
    assert models[0]["contribution_predictors.0.dense.weight"].shape[0] == 5
    assert models[0]["contribution_predictors.1.near.weight"].abs().sum() > 0, "its context is trained"
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    for name, tensor in model.state_dict().items():
        assert torch.equal(models[0][f"backbone.{name}"], tensor), "the classifier stays as it is"
    evaluated = json.loads((folder / "evaluation-test.json").read_text())
    rows = [json.loads(line) for line in (task_folder / "test.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(source)
    with torch.inference_mode():
        found = [int(model.eval()(**tokenizer(row["text"], return_tensors="pt")).logits.argmax()) for row in rows]
    right = [1 - label == row["label"] for label, row in zip(found, rows, strict=True)]
    assert evaluated["none"]["score"] == sum(right) / len(rows)


def test_a_model_is_trained_further_with_its_first_layer(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    command = ["run", "--task", str(task_folder), "--classifier", str(tiny_classifier_folder)]
    command += ["--output", str(tmp_path / "run"), "--freeze-backbone", "--phi", "0.1", *QUICK]
    with pytest.raises(ArgumentError, match="--first-layer: 3 of 3 layers, from 0"):
        main([*command, "--first-layer", "3"])
    assert main([*command, "--first-layer", "1"]) == 0
    trained = tmp_path / "run" / "phi-0.1-post-hoc"
    assert record_of(trained)["objectives"]["first_layer"] == 1
    further = ["train", "--task", str(task_folder), "--model", str(trained), *QUICK, "--freeze-backbone"]
    further += ["--targets", str(tmp_path / "run" / "targets")]
    assert main([*further, "--output", str(tmp_path / "further")]) == 0
    later = AdapLeRForSequenceClassification.from_pretrained(tmp_path / "further")
    assert later.config.policy_options == {"first_layer": 1}, "trained further it stays what it is"
    other = ["--first-layer", "0", "--target-method", "saliency"]  # the targets are there: they are not made by it
    assert main([*further, *other, "--output", str(tmp_path / "every")]) == 0
    assert record_of(tmp_path / "every")["targets"]["target_method"] == ["decomposition"]
    assert AdapLeRForSequenceClassification.from_pretrained(tmp_path / "every").config.policy_options is None


def test_the_presets(task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """Nothing but a task and a model is the recommended training; the paper's starts from the encoder."""
    tiny = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_folder)
    view(tiny).encoder.save_pretrained(tmp_path / "encoder")
    AutoTokenizer.from_pretrained(tiny_classifier_folder).save_pretrained(tmp_path / "encoder")
    found = {}
    for preset in ([], ["--preset", "paper"]):
        output = tmp_path / "-".join(["run", *preset])
        words = ["run", "--task", str(task_folder), "--model", str(tmp_path / "encoder"), "--output", str(output)]
        assert main([*words, "--epochs", "1", "--precision", "float32", *preset]) == 0
        record = record_of(output / "phi-0.0002")
        found[bool(preset)] = (record["start"], record["objectives"]["predictor"], *record["targets"].values())
    assert found[False] == ("classifier", "contextual", ["decomposition"], "own", "contrast", 3)
    assert found[True] == ("encoder", "mlp", ["saliency"], "embeddings", "gold", 3)


def test_speed_up(task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """One command for a fine-tuned classifier: post hoc, calibrated, ready for `pipeline`."""
    words = ["speed-up", str(tiny_classifier_folder), "--task", str(task_folder), "--target-speedup", "1.5"]
    words += ["--output", str(tmp_path / "fast"), *QUICK, "--learning-rate", "1e-3"]
    assert main(words) == 0
    folder = tmp_path / "fast"  # as given: README loads it from there
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    assert model.calibration is not None and record_of(folder)["reached"]["target"] == 1.5
    saved = load_file(tiny_classifier_folder / "model.safetensors")
    assert all(torch.equal(model.backbone.state_dict()[name], tensor) for name, tensor in saved.items())
    assert pipeline("text-classification", model=str(folder))("a good film")[0]["label"] in ("NEG", "POS")
    assert main(words) == 0


def test_speeds_out_of_reach_are_said(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--task", str(task_folder), "--classifier", str(tiny_classifier_folder), "--freeze-backbone"]
    assert main([*run, "--output", str(tmp_path), *QUICK, "--preset", "paper", "--target-speedup", "3", "50"]) == 0
    assert "speedup-50-post-hoc: 50x was not found: the nearest speedup, " in capsys.readouterr().out
    record = record_of(tmp_path / "speedup-50-post-hoc")
    assert record["qualified"] is False and record["objectives"]["target_speedup"] == 50.0
    assert pd.read_csv(tmp_path / "tradeoff.csv")["target_speedup"].tolist() == [3.0, 50.0]


def test_when_no_epoch_qualifies_the_command_says_so(
    task_folder: Path, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--task", str(task_folder), "--finetuned", str(run_folder / "finetuned"), *QUICK]
    train += ["--preset", "paper", "--targets", str(run_folder / "targets"), "--output", str(tmp_path / "out")]
    assert main([*train, "--reference-score", "1", "--max-drop", "0"]) == 0
    assert "no epoch is within the allowed drop of the fine-tuned model" in capsys.readouterr().out
    record = record_of(tmp_path / "out")
    assert record["qualified"] is False
    assert record["selected"]["accuracy"] == max(epoch["accuracy"] for epoch in record["epochs"])
    assert not (tmp_path / "out" / "epochs").exists()


@pytest.mark.parametrize("part", ["--long-documents", "--train-documents"])
def test_long_documents_in_windows(part: str, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """Training sees windows; evaluation averages them, so it counts documents."""
    for split, number in (("train", 8), ("validation", 4), ("test", 4)):
        lines = [{"text": "the film is " * 7 + ("good" if i % 2 else "bad"), "label": i % 2} for i in range(number)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    arguments = ["run", "--task", str(tmp_path), "--model", str(tiny_classifier_folder), "--freeze-backbone", *QUICK]
    arguments += [part, "windows", "--stride", "2", "--output", str(tmp_path / "run"), "--phi", "0.1"]
    assert main(arguments) == 0
    folder = tmp_path / "run" / "phi-0.1-post-hoc"
    # 22 wordpieces in windows of 14 that overlap by 2: two a document
    rows = 8 if part == "--long-documents" else 4
    assert record_of(folder)["rows"] == {"train": 16, "validation": rows, "test": rows}
    evaluation = json.loads((folder / "evaluation-test.json").read_text())
    assert evaluation["examples"] == 4 and evaluation["rows"] == rows
    assert main(["evaluate", "--task", str(tmp_path), "--model", str(folder), "--dtype", "float32"]) == 0


@pytest.mark.parametrize(("family", "frozen"), [("mpnet", False), ("modernbert", True)])
def test_families(family: str, frozen: bool, task_folder: Path, tmp_path: Path) -> None:
    special = ["[PAD]", "[UNK]"] if padding_of(family) == 0 else ["[UNK]", "[PAD]"]
    vocabulary = [*special, "[CLS]", "[SEP]", "[MASK]", *WORDS, ".", ","]
    vocabulary += [f"[unused{i}]" for i in range(VOCABULARY - len(vocabulary))]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    view(tiny_classifier(family)).encoder.save_pretrained(tmp_path / "encoder")
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), model_max_length=38).save_pretrained(tmp_path / "encoder")
    command = ["run", "--task", str(task_folder), "--model", str(tmp_path / "encoder"), "--phi", "0.1", *QUICK]
    assert main([*command, "--output", str(tmp_path / "run"), *(["--freeze-backbone"] if frozen else [])]) == 0
    folder = tmp_path / "run" / ("phi-0.1-post-hoc" if frozen else "phi-0.1")
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    assert model.config.backbone_config.model_type == family
