"""The command line on a tiny task: whole runs, resuming, and one-line errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.cli import main, options_of
from adapler.options import record
from tests.adapler.training.common import QUICK
from tests.conftest import random_batch

ROOT = Path(__file__).parents[3]


def test_run_writes_models_records_and_the_trade_off(run_folder: Path) -> None:
    table = pd.read_csv(run_folder / "tradeoff.csv")
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
    with pytest.raises(ArgumentError, match="^--threshold-scale: 0.0 is not above 0"):
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
    finetuned, targets, model = (str(tmp_path / name) for name in ("finetuned", "targets", "model"))
    assert main(["finetune", *task, "--model", str(tiny_classifier_folder), "--output", finetuned, *QUICK]) == 0
    assert main(["targets", *task, "--max-length", "16", "--finetuned", finetuned, "--output", targets]) == 0
    arguments = ["train", *task, "--finetuned", finetuned, "--targets", targets, "--output", model, *QUICK]
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


def test_every_recipe_of_the_repository_is_a_whole_command() -> None:
    recipes = [path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "rationales"]
    assert len(recipes) > 40
    for path in recipes:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        words = ["--config", str(path)]
        if values["command"] in ("run", "finetune") and not {"model", "classifier"} & values.keys():
            words += ["--model", "m"]
        options = record(options_of(values["command"], words))
        for name, value in values.items():
            if name not in ("command", "preset"):
                asked = [value] if isinstance(options[name], list) and not isinstance(value, list) else value
                assert options[name] == (float(asked) if isinstance(options[name], float) else asked), (path, name)


def test_what_a_policy_does_not_take_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = ["run", "--task", "sst2", "--model", "m", "--output", str(tmp_path / "out")]
    for words in (["--policy", "ltp", "--gamma", "1"], ["--keep", "0.5"]):
        with pytest.raises(SystemExit, match="2"):
            main([*run, *words])
    with pytest.raises(ArgumentError, match="^policy: 'ltpp' is not one of adapler, cls_topk, distilbert, ltp, power"):
        main([*run, "--policy", "ltpp"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("command: run\npolicy: ltp\npolicy_weight: 0.3\n")
    assert options_of("run", [*run[1:], "--config", str(recipe)]).training.policy_weight == [0.3]
    assert not (tmp_path / "out").exists()


def test_help_is_short_and_all_of_it_long(capsys: pytest.CaptureFixture[str]) -> None:
    counts = []
    for word in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            main(["run", word])
        counts.append(len(set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))))
    assert counts[0] <= 20 and counts[1] > 50
    assert main(["--help"]) == 0 and "speed-up" in capsys.readouterr().out


def test_the_list_of_commands_needs_neither_torch_nor_transformers() -> None:
    code = "import sys; sys.argv[0] = 'adapler'; from adapler.cli import main; main(['--help']); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules or 'transformers' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.rstrip().endswith("False")
