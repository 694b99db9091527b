"""What an output is made of: rows once, and only by the settings and rows that it was begun with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from adapler.bulk.reading import _digest
from adapler.cli import main
from adapler.data.texts import TextRow
from adapler.errors import run_command
from tests.adapler.bulk.conftest import Stopped, stop_after


@pytest.mark.parametrize(
    "change", [{"number": 2}, {"id": "b"}, {"text": "y"}, {"kept": {"a": 2}}, {"error": "bad"}, {"raw": "z"}]
)
def test_every_field_of_a_row_is_in_its_shards_checksum(change: dict[str, Any]) -> None:
    row = TextRow(1, id="a", text="x", kept={"a": 1})
    assert _digest([replace(row, **change)]) != _digest([row])


def test_every_option_that_changes_bytes_is_refused(
    model: Path,
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Path(shutil.copytree(model, tmp_path / "model"))
    base = ["predict", "--input", str(texts), "--output", str(tmp_path / "out.jsonl"), "--shard-rows", "8"]
    base += ["--dtype", "float32", "--model"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 2)
        main([*base, str(other)])

    def refused(*options: str) -> str:
        capsys.readouterr()
        assert run_command(main, [*base, str(other), *options]) == 2
        return next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))

    assert "was begun with removal hard" in refused("--removal", "none").replace('"', "")
    assert "was begun with long_documents truncate" in refused("--long-documents", "last").replace('"', "")
    assert "was begun with max_length null" in refused("--max-length", "5")
    assert "was begun with dtype float32" in refused("--dtype", "bfloat16").replace('"', "")
    weights = load_file(other / "model.safetensors")
    save_file({**weights, "eta": weights["eta"] * 0.5}, other / "model.safetensors", {"format": "pt"})
    assert "was begun with model" in refused()


def test_row_groups_hold_each_row_once(
    model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapler.bulk.rows._ROW_GROUP", 10)
    output = tmp_path / "o.parquet"
    assert (
        main(["predict", "--model", str(model), "--input", str(texts), "--output", str(output), "--shard-rows", "8"])
        == 0
    )
    assert pq.read_table(output)["row"].to_pylist() == list(range(1, 62))
