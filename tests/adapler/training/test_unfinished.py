"""An unfinished training goes on as the same training only, and a finished folder is one whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adapler.cli.parser import main
from adapler.errors import ArgumentError
from adapler.training.records import write_record
from adapler.training.resume import STAGE, begin_stage, finished_record, first_difference, last_checkpoint
from adapler.training.settings import TaskSettings
from adapler.training.stages.finetune import FinetuneTrainer, _KeepBest, best_epochs
from adapler.training.stages.prepare import prepare
from adapler.training.trainer import AdapLeRTrainer
from tests.adapler.training.common import stopped
from tests.conftest import tiny_classifier

BASE = ["--max-length", "16", "--precision", "float32", "--batch-size", "8", "--epochs", "3", "--learning-rate", "1e-3"]


def interrupt(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def model(folder: Path, tokenizer: Any, *, seed: int) -> Path:
    tiny_classifier(num_labels=2, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def command(task: Path, start: Path, output: Path, *more: str) -> list[str]:
    return ["run", "--task", str(task), "--model", str(start), "--output", str(output), "--phi", "0.1", *BASE, *more]


def test_it_goes_on_in_as_many_processes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_stage(tmp_path, {"command": "train"}, resume=False)
    checkpoint = tmp_path / "epochs" / "checkpoint-3"
    write_record(checkpoint / "trainer_state.json", {})
    assert begin_stage(tmp_path, {"command": "train"}, resume=True) == (str(checkpoint), True)
    monkeypatch.setattr("adapler.training.resume.processes", lambda: 2)
    with pytest.raises(ArgumentError, match="epochs holds an unfinished training with processes 1, not 2; go on"):
        begin_stage(tmp_path, {"command": "train"}, resume=True)


def test_a_stopped_run_goes_on_as_the_same_run_only(task_folder: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Killed in the second epoch of fine-tuning; then another of everything is asked for."""
    start, output = model(tmp_path / "a" / "model", tiny_tokenizer, seed=0), tmp_path / "run"
    other = model(tmp_path / "b" / "model", tiny_tokenizer, seed=1)  # of the same name
    task = Path(shutil.copytree(task_folder, tmp_path / "task"))
    lines = (task / "train.jsonl").read_text().splitlines()
    (task / "train.jsonl").write_text("\n".join(lines[2:]) + "\n")
    run = command(task_folder, start, output)
    stopped(FinetuneTrainer, run, after=4)
    epochs = output / "finetuned" / "epochs"
    assert last_checkpoint(epochs) == str(epochs / "checkpoint-3")
    for changed, difference in (
        ([*run, "--learning-rate", "5e-4"], "--learning-rate 0.001, not 0.0005"),
        ([*run, "--seed", "7"], "--seed 42, not 7"),
        ([*run, "--limit", "8"], "--limit None, not 8"),
        ([*run, "--train-documents", "last"], "--train-documents None, not last"),
        ([*run, "--half"], "half False, not True"),
        ([*run, "--finetune-packed"], "packed False, not True"),
        (command(task_folder, other, output), "model_checksum"),
        (command(task, start, output), "data_checksum"),
    ):
        with pytest.raises(ArgumentError, match=f"epochs holds an unfinished training with {difference}"):
            main(changed)
    for file, before, after in (
        ("config.json", '"use_cache": true', '"use_cache": false'),
        ("tokenizer.json", '"great"', '"greet"'),
    ):
        known = (start / file).read_text()
        assert before in known
        (start / file).write_text(known.replace(before, after))
        with pytest.raises(ArgumentError, match="epochs holds an unfinished training with model_settings_checksum"):
            main(run)
        (start / file).write_text(known)
    assert last_checkpoint(epochs) == str(epochs / "checkpoint-3"), "what is there stays"

    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        step = FinetuneTrainer.training_step
        patch.setattr(FinetuneTrainer, "training_step", lambda *args: steps.append(1) or step(*args))
        assert main(run) == 0
    assert len(steps) == 6, "it goes on after three of nine steps"
    with pytest.raises(ArgumentError, match="finetuned holds a finished run with packed False, not True"):
        main([*run, "--finetune-packed"])
    with pytest.raises(ArgumentError, match="finetuned holds a finished run with model_checksum"):
        main(command(task_folder, other, output))
    assert main([*run, "--device", "cpu", "--workers", "2"]) == 0, "they are no settings that count"


def test_a_killed_fine_tuning_goes_on_with_other_workers(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    """To the same weights: rows, their order and dropout do not depend on the processes that prepare batches."""
    base = ["finetune", "--task", str(task_folder), "--model", str(tiny_classifier_folder), *BASE, "--eval-steps", "2"]
    assert main([*base, "--output", str(tmp_path / "straight")]) == 0
    stopped(FinetuneTrainer, [*base, "--output", str(tmp_path / "killed")], after=4)
    assert last_checkpoint(tmp_path / "killed" / "epochs") is not None
    assert main([*base, "--output", str(tmp_path / "killed"), "--workers", "1", "--resume"]) == 0
    straight, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed"))
    assert all(torch.equal(tensor, killed[name]) for name, tensor in straight.items())


def test_the_columns_that_are_read_belong_to_a_run(task_folder: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """The checksum of an ERASER corpus is the same with and without its queries."""
    prepared = prepare(
        TaskSettings(task=str(task_folder), max_length=16),
        model(tmp_path / "model", tiny_tokenizer, seed=0),
        splits=("train",),
        seed=0,
    )
    assert prepared.encoding["columns"] == ["text_a"]
    (tmp_path / "epochs" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "epochs" / "checkpoint-3" / "trainer_state.json").write_text("{}")
    write_record(tmp_path / "epochs" / STAGE, {"encoding": {**prepared.encoding, "columns": ["text_a", "query"]}})
    with pytest.raises(ArgumentError, match="unfinished training with encoding.columns"):
        begin_stage(tmp_path, {"encoding": prepared.encoding}, resume=True)


def test_training_of_adapler_that_was_stopped(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    train = ["train", "--task", str(task_folder), "--finetuned", str(run_folder / "finetuned"), *BASE]
    train += ["--saliency", str(run_folder / "saliency"), "--output", str(tmp_path / "out")]
    stopped(AdapLeRTrainer, train, after=4)
    for more, difference in (
        (["--gamma", "0.5"], "--gamma 0.02, not 0.5"),
        (["--max-slope", "3"], "--max-slope None, not 3.0"),
        (["--reference-score", "0.25"], "reference_score"),
    ):
        with pytest.raises(ArgumentError, match=difference):
            main([*train, "--resume", *more])
    checkpoint = last_checkpoint(tmp_path / "out" / "epochs")
    for more in ([], ["--gamma", "0.5"]):  # anew: hours of training are not thrown away for a word that was forgotten
        with pytest.raises(ArgumentError, match=r"out/epochs holds an unfinished training, of which checkpoint-\d+ is"):
            main([*train, *more])
    assert checkpoint is not None and last_checkpoint(tmp_path / "out" / "epochs") == checkpoint
    shutil.rmtree(tmp_path / "out" / "epochs")
    # Stopped before its first checkpoint, it begins anew with either.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdapLeRTrainer, "training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            main(train)
    assert last_checkpoint(tmp_path / "out" / "epochs") is None
    assert main([*train, "--gamma", "0.5"]) == 0
    assert not (tmp_path / "out" / "epochs").exists()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["objectives"]["gamma"] == 0.5 and record["validation"]["precision"] == "float32"
    with pytest.raises(ArgumentError, match="out holds a finished run; give another folder or remove that one"):
        main(train)
    # Killed between run.json and the tidying, as an older version could be.
    (tmp_path / "out" / "epochs" / "checkpoint-3").mkdir(parents=True)
    before = (tmp_path / "out" / "run.json").read_bytes()
    assert main([*train, "--gamma", "0.5", "--resume"]) == 0
    assert not (tmp_path / "out" / "epochs").exists() and (tmp_path / "out" / "run.json").read_bytes() == before


def test_epochs_of_an_older_version_are_marked_as_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "epochs" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    for _ in range(2):
        assert begin_stage(tmp_path, {"command": "train"}, resume=True) == (str(checkpoint), False)
    assert capsys.readouterr().out.count("whether its settings are the same is not known") == 1


def test_first_difference_names_both_values() -> None:
    found = {"a": 1, "b": {"c": [1, 2], "d": 3}}
    assert first_difference(found, {"a": 1, "b": {"c": [1, 2], "d": 3, "new": 1}, "new": 2}) is None
    assert first_difference(found, {"a": 1, "b": {"c": [2], "d": 4}}) == ("b.c", [1, 2], [2])
    # What versions without the option did is known.
    assert first_difference(found, {"packed": False}) is None
    assert first_difference(found, {"packed": True}) == ("packed", False, True)


def test_an_end_of_fine_tuning_that_was_cut_off(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    """Stopped after the last epoch, before the model is written: the same files in the end."""
    arguments = ["finetune", "--task", str(task_folder), "--model", str(tiny_classifier_folder), *BASE, "--output"]
    assert main([*arguments, str(tmp_path / "straight")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapler.training.stages.finetune.finish_stage", interrupt)
        with pytest.raises(KeyboardInterrupt):
            main([*arguments, str(tmp_path / "cut")])
    assert not (tmp_path / "cut" / "run.json").exists()
    leftover = tmp_path / ".cut.0123abcd"
    leftover.mkdir()
    assert main([*arguments, str(tmp_path / "cut"), "--resume"]) == 0
    assert not leftover.exists()
    files = [sorted(p.relative_to(f) for p in f.rglob("*")) for f in (tmp_path / "straight", tmp_path / "cut")]
    assert files[0] == files[1]
    assert (tmp_path / "straight" / "config.json").read_bytes() == (tmp_path / "cut" / "config.json").read_bytes()
    states = [p.name for p in (tmp_path / "cut").rglob("*") if "optimizer" in p.name or "rng" in p.name]
    assert states == [] and len(list((tmp_path / "cut").glob("epochs/*/model.safetensors"))) == 3
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert record["validation"]["precision"] == "float32" and record["epochs"][0]["precision"] == "float32"


def test_the_best_fine_tuning_epochs_come_first(tmp_path: Path) -> None:
    epochs = [{"epoch": float(n), "step": n, "accuracy": a} for n, a in ((1, 0.5), (2, 0.9), (3, 0.7), (4, 0.9))]
    record = {"command": "finetune", "metric": "accuracy", "epochs": epochs}
    (tmp_path / "run.json").write_text(json.dumps(record))
    for number in range(1, 5):
        (tmp_path / "epochs" / f"checkpoint-{number}").mkdir(parents=True)
    assert [path.name for path in best_epochs(tmp_path, most=3)] == ["checkpoint-2", "checkpoint-4", "checkpoint-3"]


def test_only_the_best_epochs_and_the_newest_are_kept(tmp_path: Path) -> None:
    """With the metric of every epoch known, in a run that tiny models cannot be relied on to make."""
    keep = _KeepBest("accuracy", most=2)
    state = SimpleNamespace(log_history=[], global_step=0)
    kept = []
    for step, score in enumerate((0.5, 0.9, 0.7, 0.9, 0.6), 1):
        (tmp_path / f"checkpoint-{step}").mkdir()
        state.log_history += [{"loss": 1.0, "step": step}, {"eval_loss": 1.0, "eval_accuracy": score, "step": step}]
        state.global_step = step
        keep.on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)
        kept.append(sorted(int(path.name[-1]) for path in tmp_path.iterdir()))
    assert kept == [[1], [1, 2], [2, 3], [2, 4], [2, 4, 5]]


def test_a_trained_head_is_kept(task_folder: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Its spread is that of a pooler that was never trained; only the configuration tells."""
    classifier = tiny_classifier(num_labels=2)
    with torch.no_grad():
        classifier.bert.pooler.dense.weight.mul_(1e-3)
    classifier.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    arguments = ["finetune", "--task", str(task_folder), "--model", str(tmp_path / "model"), *BASE, "--epochs", "1"]
    arguments += ["--learning-rate", "1e-12"]
    assert main([*arguments, "--output", str(tmp_path / "kept")]) == 0
    assert main([*arguments, "--output", str(tmp_path / "new"), "--reinit-head", "yes"]) == 0
    name = "bert.pooler.dense.weight"
    kept, new = (load_file(tmp_path / folder / "model.safetensors")[name] for folder in ("kept", "new"))
    torch.testing.assert_close(kept, classifier.state_dict()[name], atol=1e-6, rtol=1e-3)
    assert float(new.std()) > 100 * float(kept.std())
    records = [json.loads((tmp_path / folder / "run.json").read_text()) for folder in ("kept", "new")]
    assert [record["head_reinitialised"] for record in records] == [False, True]


def test_windows_are_judged_as_documents_everywhere(tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """With thresholds that drop nothing, every epoch has exactly the classifier's score."""
    task = tmp_path / "task"
    task.mkdir()
    words = "the a film plot is was not never good bad dull great boring fun actor ending".split()
    for split, number in (("train", 8), ("validation", 24), ("test", 4)):
        lines = [
            {"text": " ".join(words[(i * 7 + k * (1 + i % 3)) % 16] for k in range(14 + i)), "label": i % 2}
            for i in range(number)
        ]
        (task / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = ["run", "--task", str(task), "--classifier", str(tiny_classifier_folder), "--output", str(tmp_path / "run")]
    run += ["--freeze-backbone", "--long-documents", "windows", "--stride", "2", *BASE, "--epochs", "1", "--phi", "0"]
    run += ["--eta-learning-rate", "0", "--predictor-learning-rate", "0"]
    assert main(run) == 0
    folder = tmp_path / "run" / "phi-0-post-hoc"
    record = json.loads((folder / "run.json").read_text())
    evaluation = json.loads((folder / "evaluation-validation.json").read_text())
    assert record["rows"]["validation"] > 24 == evaluation["examples"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_classifier_folder)
    classifier = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_folder).eval()
    right = 0
    for line in (task / "validation.jsonl").read_text().splitlines():
        row = json.loads(line)
        windows = tokenizer(row["text"], truncation=True, max_length=16, stride=2, return_overflowing_tokens=True)
        with torch.inference_mode():
            logits = [classifier(torch.tensor([ids])).logits for ids in windows["input_ids"]]
        right += int(torch.cat(logits).mean(0).argmax()) == row["label"]
    assert record["reference_score"] == right / 24 == record["epochs"][0]["accuracy"] == evaluation["none"]["score"]
    assert record["validation"]["accuracy"] == right / 24 and record["qualified"]


@pytest.mark.parametrize("name", ["task", "data_checksum", "encoding", "model_checksum"])
def test_a_finished_stage_of_other_data_is_not_taken(tmp_path: Path, name: str) -> None:
    """The settings may all be the same: the data and the model are compared as well."""
    wanted = {"task": "films", "data_checksum": "abc", "encoding": {"max_length": 16}, "model_checksum": "def"}
    write_record(tmp_path / "run.json", wanted | {"command": "train", "seed": 1})
    assert finished_record(tmp_path, wanted | {"seed": 1}, resume=True, keep_epochs=True) is not None
    other = wanted | {"seed": 1, name: {"max_length": 8} if name == "encoding" else "other"}
    named = "--max-length 16, not 8" if name == "encoding" else name
    with pytest.raises(ArgumentError, match=f"holds a finished run with {named}"):
        finished_record(tmp_path, other, resume=True, keep_epochs=True)


def test_a_process_that_comes_late_hears_from_the_main_one_whether_a_stage_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main one may have written the record in between; on its own the late one would wait once more than it."""
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr("adapler.training.resume.from_main", lambda look: False)
    assert finished_record(tmp_path, {}, resume=True, keep_epochs=True) is None
