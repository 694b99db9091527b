"""Several runs in one table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapler import ArgumentError, CheckpointError
from adapler.cli.parser import main
from adapler.cli.tradeoff import COLUMNS, tradeoff_table


def record(folder: Path, *, freeze: bool = False, phi: float = 0.1, **changes: Any) -> Path:
    """run.json as `adapler train` writes it, with two epochs, the second selected."""
    epochs = [
        {"epoch": 1.0, "step": 5, "accuracy": 0.5, "speedup": 1.5},
        {"epoch": 2.0, "step": 10, "accuracy": 0.75, "speedup": 3.0},
    ]
    content = {
        "command": "train",
        "objectives": {"gamma": 0.02, "phi": phi, "freeze_backbone": freeze},
        "metric": "accuracy",
        "rows": {"train": 90, "validation": 40},
        "reference_score": 0.8,
        "epochs": epochs,
        "selected": epochs[1],
        **changes,
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def evaluation(path: Path, *, split: str, none: float, **scores: float) -> None:
    hard = [
        {"threshold_scale": float(scale[1:].replace("_", ".")), "score": score, "speedup": 2.0}
        for scale, score in scores.items()
    ]
    result = {"metric": "accuracy", "none": {"score": none}, "hard": hard, "split": split}
    path.write_text(json.dumps(result), encoding="utf-8")


def test_epochs_and_scales_by_hand(tmp_path: Path) -> None:
    full, post_hoc = record(tmp_path / "full"), record(tmp_path / "post", freeze=True, phi=0.3)
    evaluation(post_hoc / "scales.json", split="validation", none=0.85, s0_5=0.7, s1=0.75, s2=0.6)
    evaluation(post_hoc / "other.json", split="test", none=0.9, s1=0.65)
    evaluation(full / "test.json", split="test", none=0.7, s1=0.66)
    (post_hoc / "config.json").write_text('{"model_type": "adapler"}', encoding="utf-8")
    (post_hoc / ".calibration.0123456789abcdef.json").touch()  # what killed processes left
    record(tmp_path / ".post.0123456789abcdef")
    table = tradeoff_table([full, post_hoc])
    assert len(tradeoff_table([tmp_path])) == len(table)
    assert tuple(table.columns) == COLUMNS
    first = {
        "mode": "full",
        "phi": 0.1,
        "gamma": 0.02,
        "rows": 90,
        "epoch": 1.0,
        "scale": 1.0,
        "metric": "accuracy",
        "score": 0.5,
    }
    assert table.iloc[0].to_dict() == {
        **first,
        "speedup": 1.5,
        "reference": 0.8,
        "target": None,
        "step": 5,
        "examples": None,
        "precision": None,
        "run": "full",
        "split": "validation",
        "task": None,
    }
    assert table["mode"].tolist() == ["full"] * 2 + ["post-hoc"] * 4
    assert table["phi"].tolist() == [0.1] * 2 + [0.3] * 4
    assert table["scale"].tolist() == [1, 1, 1, 1, 0.5, 2], "scale 1 is the selected epoch's row already"
    assert table["epoch"].tolist() == [1, 2, 1, 2, 2, 2]
    assert table["score"].tolist() == [0.5, 0.75, 0.5, 0.75, 0.7, 0.6]
    assert table["reference"].tolist() == [0.8] * 6

    test = tradeoff_table([full, post_hoc], split="test")
    assert test[["run", "scale", "score"]].values.tolist() == [["full", 1.0, 0.66], ["post", 1.0, 0.65]]
    assert np.isnan(test["reference"][0]), "without removal, full training is not the fine-tuned classifier"
    assert test["reference"][1] == 0.9


@pytest.mark.parametrize("changed", [{"reached": {"factor": 1.6}}, {"threshold_scale": 0.95}])
def test_rescaled_thresholds_are_not_the_selected_epochs(tmp_path: Path, changed: dict[str, Any]) -> None:
    run = record(tmp_path / "run", freeze=True, **changed)
    (run / "config.json").write_text('{"model_type": "adapler"}', encoding="utf-8")
    evaluation(run / "scales.json", split="validation", none=0.85, s1=0.7)
    assert tradeoff_table([run])["score"].tolist() == [0.5, 0.75, 0.7], "the model in the folder has a row of its own"


def test_an_evaluation_on_another_task_says_so(tmp_path: Path) -> None:
    run = record(tmp_path / "run", task="sst2")
    evaluation(run / "own.json", split="validation", none=0.85, s2=0.7)
    evaluation(run / "theirs.json", split="validation", none=0.85, s0_5=0.6, s1=0.5)
    theirs = json.loads((run / "theirs.json").read_text())
    (run / "theirs.json").write_text(json.dumps(theirs | {"task": "imdb"}), encoding="utf-8")
    table = tradeoff_table([run])
    assert table["task"].tolist() == ["sst2"] * 3 + ["imdb"] * 2
    assert table["scale"].tolist() == [1, 1, 2, 0.5, 1], "theirs is not the selected epoch's row"
    assert table["reference"][:3].tolist() == [0.8] * 3 and table["reference"][3:].isna().all()


def test_a_real_run(run_folder: Path, task_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    evaluate = ["evaluate", "--task", str(task_folder), "--max-length", "16", "--split", "validation"]
    evaluate += ["--model", str(run / "phi-0.1-post-hoc"), "--threshold-scale", "0", "1", "2"]
    assert main([*evaluate, "--output", str(run / "phi-0.1-post-hoc" / "scales.json")]) == 0
    output = tmp_path / "new" / "tradeoff.csv"
    assert main(["tradeoff", str(run), "--output", str(output)]) == 0
    assert f"6 rows of 2 runs in {output}" in capsys.readouterr().out
    table = pd.read_csv(output)
    assert tuple(table.columns) == COLUMNS and table["mode"].unique().tolist() == ["post-hoc"]
    own = json.loads((run / "phi-0.001-post-hoc" / "run.json").read_text())
    chosen = table[table["run"] == "phi-0.001-post-hoc"]
    assert chosen["score"].tolist() == [epoch["accuracy"] for epoch in own["epochs"]]
    assert chosen["speedup"].tolist() == pytest.approx([epoch["speedup"] for epoch in own["epochs"]])
    assert table["examples"].tolist() == [8] * 6
    scaled = table[table["scale"] != 1]
    assert scaled["scale"].tolist() == [0, 2] and (scaled["speedup"] > 0).all()
    copied = shutil.copy(run / "phi-0.1-post-hoc" / "run.json", tmp_path / "post-hoc.json")
    assert tradeoff_table([copied])["run"].tolist() == ["post-hoc"] * 2
    assert len(tradeoff_table([run], split="test")) == 2


def test_an_evaluation_of_another_part_of_the_texts_is_no_point_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scores stood in the same table as those of whole texts, and nothing told them apart."""
    encoding = {"max_length": 512, "long_documents": "truncate", "stride": None}
    run = record(tmp_path / "run", encoding=encoding)
    for name, read in (("own", encoding), ("short", {**encoding, "max_length": 64}), ("old", {})):
        evaluation(run / f"{name}.json", split="test", none=0.9, s1=0.8)
        result = json.loads((run / f"{name}.json").read_text(encoding="utf-8")) | {"encoding": read}
        (run / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    assert len(tradeoff_table([run], split="test")) == 2
    said = "left out, it has max_length 64, longer texts: truncate, training max_length 512, longer texts: truncate"
    assert capsys.readouterr().err == f"note: {run / 'short.json'}: {said}\n"


def test_errors(tmp_path: Path, run_folder: Path) -> None:
    run = record(tmp_path / "run")
    with pytest.raises(ArgumentError, match="^split: 'train' is not 'validation' or 'test'$"):
        tradeoff_table([run], split="train")
    with pytest.raises(ArgumentError, match="^split: no evaluation on test is recorded in .*run$"):
        tradeoff_table([run], split="test")
    for path in (tmp_path / "nothing", run_folder / "finetuned"):
        with pytest.raises(CheckpointError, match=f"{path.name}: holds no record .* of an AdapLeR training; "):
            tradeoff_table([run, path])
    with pytest.raises(CheckpointError, match="run.json: not JSON"):
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "run.json").write_text("{", encoding="utf-8")
        tradeoff_table([tmp_path / "bad"])
    with pytest.raises(CheckpointError, match="run.json: a record without 'speedup'; another version"):
        tradeoff_table([record(tmp_path / "old", epochs=[{"epoch": 1.0, "accuracy": 0.5}])])
    output = tmp_path / "folder"
    output.mkdir()
    with pytest.raises(ArgumentError, match="folder is a folder, a file is to be written there"):
        main(["tradeoff", str(run), "--output", str(output)])


WRONG = ("x", None, True, [], {}, -1, float("nan"))


def test_values_of_the_wrong_type_never_reach_the_table(tmp_path: Path) -> None:
    """Each value that the table shows is replaced by each wrong one."""
    good = json.loads((record(tmp_path / "good") / "run.json").read_text())
    places: list[tuple[Any, ...]] = [("objectives", "phi"), ("objectives", "gamma"), ("objectives", "freeze_backbone")]
    places += [("metric",), ("rows", "train"), ("reference_score",), ("epochs", 1, "speedup"), ("epochs", 1, "epoch")]
    places += [("epochs", 0, "accuracy"), ("selected", "epoch"), ("selected",), ("epochs",), ("epochs", 1)]
    for place in places:
        for wrong in WRONG:
            if (place, wrong) in ((("reference_score",), None), (("objectives", "freeze_backbone"), True)):
                continue
            if (place, wrong) == (("epochs",), []) or (place, wrong) == (("selected",), {}):
                continue
            changed = json.loads(json.dumps(good))
            inner = changed
            for step in place[:-1]:
                inner = inner[step]
            inner[place[-1]] = wrong
            path = tmp_path / "changed.json"
            path.write_text(json.dumps(changed), encoding="utf-8")
            with pytest.raises(CheckpointError, match="changed.json: ") as caught:
                tradeoff_table([path])
            assert "\n" not in str(caught.value)


def test_evaluations_are_checked_too(tmp_path: Path) -> None:
    run = record(tmp_path / "run")
    for place, wrong in (
        (("none", "score"), "0.5"),
        (("hard", 0, "score"), 1.5),
        (("hard", 0, "speedup"), 0),
        (("hard", 0, "threshold_scale"), None),
        (("hard", 0), 3),
        (("none",), []),
        (("model_checksum",), "of another model"),
        (("task",), 3),
    ):
        evaluation(run / "test.json", split="test", none=0.7, s1=0.66)
        changed = json.loads((run / "test.json").read_text())
        inner: Any = changed
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = wrong
        (run / "test.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(CheckpointError, match="test.json: "):
            tradeoff_table([run], split="test")
