"""What a run writes down."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from safetensors import SafetensorError
from transformers import Trainer

from adapler.errors import TrainingError
from adapler.training.records import record_of, write_record
from adapler.training.stages.policies.table import with_earlier
from adapler.training.trainer.base import StageTrainer


def test_records_are_strict_json(tmp_path: Path) -> None:
    write_record(tmp_path / "run.json", {"objectives": {"gradient_slope": math.inf}, "losses": [1.5, math.nan]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads((tmp_path / "run.json").read_text(), parse_constant=refuse)
    assert record == {"objectives": {"gradient_slope": "inf"}, "losses": [1.5, "nan"]}
    assert float(record["objectives"]["gradient_slope"]) == math.inf


def test_where_things_lie_on_this_machine_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "/venv/bin/adapler",
        "run",
        "--task",
        "/home/me/films",
        "--output=/home/me/runs/a=b",
        "--model",
        "org/bert",
    ]
    monkeypatch.setattr("sys.argv", [*words, "--phi=0.1", "a=/b"])
    found = record_of({"precision": "float32"}, started=0.0)["arguments"]
    assert found == ["adapler", "run", "--task", "films", "--output=a=b", "--model", "org/bert", "--phi=0.1", "a=/b"]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("start", "classifier"),
        ("model_checksum", "b"),
        ("reinit_head", "yes"),
        ("saliency_checksum", "b"),
        ("encoding", {"max_length": 32}),
        ("objectives", {"gamma": 0.5}),
    ],
)
def test_a_table_has_points_of_one_training_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, other: Any
) -> None:
    """Budgets may differ; what a model started from may not."""
    record = {"command": "train", "start": "encoder", "model": "bert", "model_checksum": "a", "reinit_head": "auto"}
    record |= {"saliency_checksum": "a", "encoding": {"max_length": 16}}
    for phi, changed in ((0.1, {}), (0.2, {name: other}), (0.3, {})):
        folder = tmp_path / f"phi-{phi}"
        folder.mkdir()
        whole: dict[str, Any] = {"objectives": {"gamma": 0.1}, **record, **changed}
        whole["objectives"] = {"phi": phi, **whole["objectives"]}
        (folder / "run.json").write_text(json.dumps(whole))
    rows = pd.DataFrame({"phi": [0.1, 0.2, 0.3], "model": ["phi-0.1", "phi-0.2", "phi-0.3"]})
    rows["score"] = [
        0.25891675029296335,
        0.1,
        0.4,
    ]  # read fast, as pandas did before 3.1, its last digit is another one
    rows[:2].to_csv(tmp_path / "tradeoff.csv", index=False)
    table = with_earlier(rows[2:].reset_index(drop=True), tmp_path / "tradeoff.csv")
    assert table["phi"].tolist() == [0.1, 0.3] and table["score"].tolist() == [0.25891675029296335, 0.4]
    assert "without phi-0.2, whose record does not say the same settings" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 55488 vs 55376\nframe #0"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_checkpoint_on_a_full_disk_is_one_line(error: Exception, tmp_path: Path, monkeypatch: Any) -> None:
    def failing(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "_save_checkpoint", failing)
    trainer = StageTrainer.__new__(StageTrainer)
    trainer.args, trainer.state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(global_step=7)
    with pytest.raises(
        TrainingError, match="of step 7 cannot be written, the disk may be full .*no checkpoint"
    ) as found:
        trainer._save_checkpoint(None, None)
    assert "\n" not in str(found.value)
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="^a bug$"):
        trainer._save_checkpoint(None, None)
