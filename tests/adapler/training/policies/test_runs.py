"""`adapler run --policy`: whole tiny runs, what stays of them, and what other commands do with their models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.cli.parser import main
from adapler.training.policies.base import training_class
from adapler.training.policies.trainer import PolicyTrainer
from tests.adapler.training.common import QUICK

# Options with which a tiny model drops tokens after a few steps; and the name of the point's folder.
POLICIES: dict[str, tuple[list[str], str]] = {
    "transkimmer": (["--policy-weight", "20", "--policy-learning-rate", "0.3"], "transkimmer-20"),
    "ltp": (["--policy-weight", "5", "--policy-learning-rate", "0.05", "--policy-temperature", "0.02"], "ltp-5"),
    "power": (["--policy-weight", "5", "--policy-learning-rate", "0.2"], "power-5"),
    "cls_topk": (["--keep", "0.5"], "cls_topk-keep-0.5"),
    "random_topk": (["--keep", "0.5"], "random_topk-keep-0.5"),
    "trbert": (["--policy-weight", "20", "--policy-learning-rate", "0.1"], "trbert-20"),
}
STAGES = {"ltp": 2, "power": 2, "trbert": 2}


@pytest.fixture(scope="session")
def finetuned(task_folder: Path, tiny_classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a fine-tuned classifier and a point of cls_topk."""
    folder = tmp_path_factory.mktemp("policies") / "run"
    assert main(arguments("cls_topk", task_folder, tiny_classifier_folder, folder)) == 0
    return folder


def arguments(name: str, task: Path, model: Path, output: Path) -> list[str]:
    words = ["run", "--task", str(task), "--model", str(model), "--output", str(output), "--policy", name]
    words += [*POLICIES[name][0], "--learning-rate", "1e-3", *QUICK]
    return [*words, "--policy-epochs", *["2"] * STAGES.get(name, 1)]


@pytest.fixture
def run_copy(finetuned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finetuned, tmp_path / "run"))


@pytest.fixture(scope="session")
def whole_runs(
    finetuned: Path, task_folder: Path, tiny_classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The run folder with a policy's point, made once."""

    @cache
    def folder_of(name: str) -> Path:
        folder = Path(shutil.copytree(finetuned, tmp_path_factory.mktemp(name) / "run"))
        assert main(arguments(name, task_folder, tiny_classifier_folder, folder)) == 0
        return folder

    return folder_of


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_whole_run(
    name: str, whole_runs: Callable[[str], Path], task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_copy = Path(shutil.copytree(whole_runs(name), tmp_path / "run"))
    folder = run_copy / POLICIES[name][1]
    table = pd.read_csv(run_copy / f"tradeoff-{name}.csv")
    assert table["policy"].tolist() == [name] and table["test_speedup"][0] > 1
    record = json.loads((folder / "run.json").read_text())
    assert record["command"] == "policy" and record["policy"] == name and len(record["stages"]) == STAGES.get(name, 1)
    assert len(record["epochs"]) == 2 and record["selected"] in record["epochs"] and record["seconds"] > 0
    for split in ("validation", "test"):
        evaluation = json.loads((folder / f"evaluation-{split}.json").read_text())
        # pandas before 3 reads another last digit
        assert evaluation["split"] == split
        assert evaluation["hard"][0]["speedup"] == pytest.approx(table[f"{split}_speedup"][0], rel=1e-14)
    assert not (folder / "stages").exists() and not (folder / "epochs").exists()
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    assert model.config.policy == name and model.policy.options.__class__.__name__.endswith("Options")
    assert not (run_copy / "saliency").exists()

    # A second run trains nothing.
    words = arguments(name, task_folder, tiny_classifier_folder, run_copy)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert main(words) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    # What is there is not overwritten by other settings.
    with pytest.raises(ArgumentError, match=r"holds a finished run with policy_epochs"):
        main([*words, "--policy-epochs", *["1"] * STAGES.get(name, 1)])

    task = ["--task", str(task_folder), "--max-length", "16"]
    result = run_copy / "result.json"
    scales = ["--threshold-scale", "0", "1", "--dtype", "float32", "--output", str(result)]
    assert main(["evaluate", "--model", str(folder), *task, *scales]) == 0
    none, hard = json.loads(result.read_text())["hard"]
    assert none["agreement"] == 1.0 and hard["speedup"] > none["speedup"]
    assert hard["speedup"] == pytest.approx(table["test_speedup"][0])
    capsys.readouterr()
    assert main(["predict", "--model", str(folder), "good film", "a bad dull plot"]) == 0
    assert capsys.readouterr().out.count("\n") >= 2
    assert main(["calibrate", "--model", str(folder), *task, "--timed-single", "1", "--resamples", "20"]) == 0
    again = AdapLeRForSequenceClassification.from_pretrained(folder)
    assert again.calibration is not None and again.calibration.points
    assert main(["export", "--model", str(folder), "--output", str(run_copy / "half")]) == 0
    half = AdapLeRForSequenceClassification.from_pretrained(run_copy / "half")
    assert half.config.policy == name and half.policy.options == model.policy.options


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "steps"),
    [(name, steps) for name in sorted(POLICIES) for steps in (4, 8) if 6 * STAGES.get(name, 1) > steps],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_model(
    name: str, steps: int, run_copy: Path, whole_runs: Callable[[str], Path], task_folder: Path,
    tiny_classifier_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = whole_runs(name)
    shutil.rmtree(run_copy / POLICIES["cls_topk"][1])  # the fixture's point
    taken, step = 0, PolicyTrainer.training_step

    def stopping(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken > steps:  # an epoch has 3 steps: after one epoch, or within the second stage
            raise Stopped
        return step(self, *args, **options)

    monkeypatch.setattr(PolicyTrainer, "training_step", stopping)
    words, whole_epochs = arguments(name, task_folder, tiny_classifier_folder, run_copy), steps // 3 * 3
    with pytest.raises(Stopped):
        main(words)
    assert not (run_copy / POLICIES[name][1] / "run.json").exists()
    taken, steps = 0, 100  # none is stopped any more
    assert main(words) == 0
    assert taken == 6 * STAGES.get(name, 1) - whole_epochs, "it goes on behind the last whole epoch"
    one, other = weights(whole / POLICIES[name][1]), weights(run_copy / POLICIES[name][1])
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_search_moves_r_and_becomes_a_configuration(whole_runs: Callable[[str], Path]) -> None:
    folder = whole_runs("power") / POLICIES["power"][1]
    record = json.loads((folder / "run.json").read_text())
    search = record["stages"][0]
    first, last = (epoch["configuration"] for epoch in search["epochs"])
    assert last[0] <= first[0] < 16 and last != first, "the weight pulls r down"
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    assert list(model.policy.options.lengths) == last and not list(model.policy.parameters())


@pytest.mark.parametrize(
    ("name", "typed", "row"),
    [
        ("cls_topk", {"keep": "0.7"}, {"keep": 0.7}),
        ("ltp", {"policy-temperature": "0.001", "policy-learning-rate": "2e-5", "policy-weight": "0.1"}, {}),
    ],
)
def test_a_default_is_the_same_run_as_its_value(
    name: str, typed: dict[str, str], row: dict[str, Any], run_copy: Path, task_folder: Path,
    tiny_classifier_folder: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--output", str(run_copy)]
    words += ["--policy", name, "--learning-rate", "1e-3", *QUICK, "--policy-epochs", *["2"] * STAGES.get(name, 1)]
    assert main(words) == 0
    table = pd.read_csv(run_copy / f"tradeoff-{name}.csv")
    assert {key: table[key].tolist()[-1] for key in row} == row
    file = run_copy / table["model"].tolist()[-1] / "run.json"
    record, written = json.loads(file.read_text()), file.stat().st_mtime_ns
    again = [*words, *(word for key, value in typed.items() for word in (f"--{key}", value))]
    assert main(again) == 0 and file.stat().st_mtime_ns == written
    # Versions before wrote null for what was not given.
    file.write_text(json.dumps({**record, **{key.replace("-", "_"): None for key in typed}}))
    assert main(again) == 0 and main(words) == 0
    assert "does not say the same settings" not in capsys.readouterr().out


def test_several_budgets(
    run_copy: Path, task_folder: Path, tiny_classifier_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments("random_topk", task_folder, tiny_classifier_folder, run_copy)
    assert main([*words, "--keep", "0.4", "0.8", "--seed", "42"]) == 0
    table = pd.read_csv(run_copy / "tradeoff-random_topk.csv")
    assert table["keep"].tolist() == [0.4, 0.8]
    assert table["validation_speedup"][0] > table["validation_speedup"][1] > 1
    with pytest.raises(ArgumentError, match=r"^--keep: a value is given twice"):
        main([*words, "--keep", "0.4", "0.4"])
    # Another budget later, in the same folder: the rows of models that are still there stay.
    shutil.rmtree(run_copy / table["model"][1])
    assert main([*words, "--keep", "0.6", "--seed", "42"]) == 0
    again = pd.read_csv(run_copy / "tradeoff-random_topk.csv")
    assert again["keep"].tolist() == [0.4, 0.6]
    pd.testing.assert_series_equal(again.iloc[0], table.iloc[0])
    points = json.loads((run_copy / "run-random_topk.json").read_text())["points"]
    assert [(point["model"], point["policy_weight"]) for point in points] == [(name, None) for name in again["model"]]
    # Trained otherwise, they are no points of one trade-off.
    assert main([*words, "--keep", "0.7", "--policy-epochs", "1", "--seed", "42"]) == 0
    assert pd.read_csv(run_copy / "tradeoff-random_topk.csv")["keep"].tolist() == [0.7]
    printed = capsys.readouterr().out
    assert f"without {again['model'][0]}, whose record does not say the same settings" in printed
    assert "stage train: 1 epoch into" in printed
    assert "policy_weight" not in printed and "NaN" not in printed, "a column that no row has"
    (run_copy / again["model"][1] / "run.json").write_text("{", encoding="utf-8")
    table.assign(model=again["model"][1]).to_csv(run_copy / "tradeoff-random_topk.csv", index=False)
    assert main([*words, "--keep", "0.7", "--policy-epochs", "1", "--seed", "42"]) == 0, "a damaged one ends nothing"
    assert pd.read_csv(run_copy / "tradeoff-random_topk.csv")["keep"].tolist() == [0.7]


def test_epochs_that_are_asked_for_are_not_replaced_by_steps(
    task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*arguments("cls_topk", task_folder, tiny_classifier_folder, tmp_path / "run"), "--max-steps", "2"]
    point = POLICIES["cls_topk"][1]

    def steps(output: Path) -> list[int]:
        records = [json.loads((output / folder / "run.json").read_text()) for folder in ("finetuned", point)]
        return [record["epochs"][-1]["step"] for record in records]

    assert main(words) == 0
    assert steps(tmp_path / "run") == [2, 6], "an epoch has 3 steps"
    assert "stage train: 2 epochs into" in capsys.readouterr().out
    for name in ("--policy-epochs", "--epochs"):
        number = words.index(name)
        words = [*words[:number], *words[number + 2 :]]
    assert main([*words, "--finetune-epochs", "1", "--output", str(tmp_path / "steps")]) == 0
    assert steps(tmp_path / "steps") == [3, 2]
    assert "stage train: 2 steps into" in capsys.readouterr().out


def test_a_policy_starts_from_a_plain_classifier(task_folder: Path, run_copy: Path, tmp_path: Path) -> None:
    folder = str(run_copy / POLICIES["cls_topk"][1])
    words = ["run", "--task", str(task_folder), "--classifier", folder, "--output", str(tmp_path / "r")]
    with pytest.raises(ArgumentError, match=r"^--classifier: .* is an AdapLeR model; --policy ltp starts from a plain"):
        main([*words, "--policy", "ltp"])
    assert not (tmp_path / "r").exists()


def test_what_cannot_be(task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    words = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--output", str(tmp_path / "r")]
    with pytest.raises(ArgumentError, match=r"^--policy: 'nobody' is not one of"):
        main([*words, "--policy", "nobody"])
    with pytest.raises(ArgumentError, match=r"^--freeze-backbone: only with --policy adapler"):
        main([*words, "--policy", "ltp", "--freeze-backbone"])
    with pytest.raises(ArgumentError, match=r"^--policy-epochs: 1 value, 'power' has 2 stages: search, retrain"):
        main([*words, *QUICK, "--policy", "power", "--policy-epochs", "1"])
    with pytest.raises(ArgumentError, match=r"^--keep: the policy 'ltp' has none"):
        main([*words, *QUICK, "--policy", "ltp", "--keep", "0.5"])
    with pytest.raises(ArgumentError, match=r"^--policy-weight: the policy 'cls_topk' has none"):
        main([*words, *QUICK, "--policy", "cls_topk", "--policy-weight", "0.5"])
    for option, without in {
        "--policy-learning-rate": ("cls_topk", "random_topk", "distilbert"),
        "--policy-temperature": ("cls_topk", "transkimmer", "power"),
        "--student-cosine": ("random_topk", "ltp", "power", "transkimmer", "trbert"),
    }.items():
        for policy in without:
            with pytest.raises(ArgumentError, match=rf"^{option}: the policy '{policy}' has none"):
                main([*words, *QUICK, "--policy", policy, option, "0.5"])
    assert not (tmp_path / "r").exists(), "before anything is trained"
    with pytest.raises(ArgumentError, match=r"^--keep: not of --policy adapler, whose budget is --phi"):
        main([*words, "--keep", "0.5"])
    with pytest.raises(ArgumentError, match=r"^--phi: several values only with --policy adapler"):
        main([*words, "--policy", "ltp", "--phi", "1", "2"])
    with pytest.raises(ArgumentError, match=r"^--keep: 1.5 is not above 0 and at most 1"):
        main([*words, "--policy", "cls_topk", "--keep", "1.5"])


def test_the_papers_values_are_the_defaults() -> None:
    assert training_class("power").usual_weight("mrpc") == 3e-3
    assert training_class("transkimmer").usual_weight("sst2") == 0.5
    assert dict(training_class("ltp").usual_epochs("mrpc")) == {"soft": 10, "hard": 5}
    assert training_class("cls_topk").usual_weight("sst2") is None


def test_the_seconds_and_the_allowed_drop_of_a_policys_run(
    run_copy: Path,
    task_folder: Path,
    tiny_classifier_folder: Path,
) -> None:
    words = arguments("ltp", task_folder, tiny_classifier_folder, run_copy)
    assert main([*words, "--max-drop", "0.9"]) == 0
    record = json.loads((run_copy / "ltp-5" / "run.json").read_text())
    assert record["seconds"] == pytest.approx(sum(stage["seconds"] for stage in record["stages"]), abs=0.06)
    assert record["max_drop"] == 0.9
    assert record["qualified"] is (record["selected"]["accuracy"] >= record["reference_score"] - 0.9) is True


def models_of(folder: Path) -> list[Any]:
    models: list[Any] = json.loads((folder / "run.json").read_text())["models"]
    return models


def test_so_many_epochs_are_averaged_as_were_asked_for(
    task_folder: Path, run_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    task = ["--task", str(task_folder), "--max-length", "16", "--precision", "float32"]
    saliency = ["saliency", *task, "--finetuned", str(run_folder / "finetuned"), "--output", str(tmp_path / "targets")]
    assert main([*saliency, "--epochs", "1"]) == 0
    assert len(models_of(tmp_path / "targets")) == 1
    run = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--freeze-backbone", *QUICK]
    assert main([*run, "--phi", "0.1", "--saliency-epochs", "1", "--output", str(tmp_path / "run")]) == 0
    assert len(models_of(tmp_path / "run" / "saliency")) == 1
    assert len(models_of(run_folder / "saliency")) == 2, "as many as there are"
