"""The script for a GPU machine, bad input of the benchmarks, and the ceiling of inference: the layers alone."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adapler import AdapLeRForSequenceClassification
from adapler.errors import run_command
from benchmarks import attribution, evaluation, inference, onnx_graphs, packed_attention, predict, realised, training
from benchmarks.inference import Ceiling
from benchmarks.realised import points, realised_figure

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment}
    return subprocess.run(["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True, check=False)


def test_a_dry_run_names_every_benchmark_with_options_that_it_has(tmp_path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    done = shell("--dry-run", str(tmp_path / "out dir"), MODEL="my model", PYTHON="python")
    assert done.returncode == 0 and done.stderr == "" and not (tmp_path / "out dir").exists()
    used = set()
    for line in done.stdout.splitlines():
        command, _, log = line.partition(" > ")
        words = shlex.split(command)
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        used.add(Path(words[1]).name)
        options = [word for word in words if word.startswith("--")]
        assert str(tmp_path / "out dir") in words[-1] and ("my model" in words) is ("packed" not in words[1])
        assert all(re.search(rf'"{option}"', source) for option in options), line
        assert shlex.split(log)[0].endswith(".txt") and words[-1].endswith(".json") and "--output" in options
    assert used == {"inference.py", "training.py", "predict.py", "packed_attention.py", "attribution.py"}


def test_what_it_cannot_do_is_one_line(tmp_path: Path) -> None:
    assert shell("--wrong").returncode == 2 and shell("a", "b").returncode == 2
    no_gpu = tmp_path / "python"
    no_gpu.write_text("#!/bin/sh\nexit 1\n")
    no_gpu.chmod(0o755)
    done = shell(str(tmp_path / "out"), PYTHON=str(no_gpu))
    assert done.returncode == 1 and done.stderr == "benchmarks/gpu.sh: PyTorch sees no GPU on this machine\n"
    no_gpu.write_text("#!/bin/sh\nexit 0\n")  # now there is one
    done = shell(str(tmp_path / "out"), PYTHON=str(no_gpu), REVIEWS=str(tmp_path), SENTENCES=str(tmp_path / "none"))
    assert done.returncode == 1 and "none/train.jsonl is not there; see REVIEWS and SENTENCES" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("main", "arguments", "line"),
    [
        (
            inference.main,
            ["--batches", "abc"],
            "--batches: 'abc' is neither `tokens` nor a whole number of texts above 0",
        ),
        (inference.main, ["--rounds", "0"], "--rounds: 0 is not at least 1"),
        (inference.main, ["--threads", "0"], "--threads: 0 is not at least 1"),
        (training.main, ["--rounds", "0"], "--rounds: 0 is not at least 1"),
        (attribution.main, ["--rounds", "0"], "--rounds: 0 is not at least 1"),
        (onnx_graphs.main, ["--repeats", "0"], "--repeats: 0 is not at least 1"),
        (evaluation.main, ["--repeats", "0"], "--repeats: 0 is not at least 1"),
        (evaluation.main, ["--memory", "50", "0"], "--memory: 0 is not at least 1"),
        (predict.main, ["--texts", "data/eraser/sample/train.jsonl", "--rows", "0"], "--rows: 0 is not at least 1"),
        (inference.main, ["--output", "README.md/x.json"], "--output: "),
        (attribution.main, ["--output", "README.md/x.json"], "--output: "),
        (onnx_graphs.main, ["--output", "README.md/x.json"], "--output: "),
        (training.main, ["--output", "README.md/x.json"], "--output: "),
        (packed_attention.main, ["--output", "README.md/x.json"], "--output: "),
        (packed_attention.main, ["--device", "foo"], "--device: 'foo' is not one of"),
        (inference.main, ["--split", "dev"], "--split: sample has no split 'dev'; it has train, validation, test"),
        (onnx_graphs.main, ["--split", "dev"], "--split: sample has no split 'dev'; it has train, validation, test"),
        (attribution.main, ["--split", "dev"], "--split: sample has no split 'dev'; it has train, val, test"),
        (predict.main, ["--texts", "none.jsonl"], "--texts: none.jsonl is not a file"),
        (realised.main, ["none.json", "--output", "x"], "none.json: is not a record of benchmarks/inference.py ("),
    ],
)
def test_bad_input_of_a_benchmark_is_one_line(
    main: Callable[[Sequence[str] | None], int],
    arguments: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    if main is attribution.main:
        arguments = [*arguments, "--data", "data/eraser/sample"]
    assert run_command(main, arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {line}")


def test_a_benchmark_that_fails_ends_no_other(tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\ncase "$1" in *training.py) echo broken; exit 3;; esac\n')
    stub.chmod(0o755)
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).touch()
    done = shell(str(tmp_path / "out"), PYTHON=str(stub), REVIEWS=str(tmp_path), SENTENCES=str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith("failed: training (see")
    assert (tmp_path / "out" / "training.txt").read_text() == "broken\n" and (
        tmp_path / "out" / "attribution.txt"
    ).exists()


def test_the_ceiling_is_the_packed_backbone_where_nothing_is_dropped() -> None:
    model = AdapLeRForSequenceClassification.from_pretrained(ROOT / "checkpoints" / "movies-minilm").eval()
    mask = (torch.arange(40) < torch.tensor([40, 31, 31, 12])[:, None]).long()  # longest first, as in the benchmark
    ids = torch.randint(1000, 20000, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    batch = {"input_ids": ids, "attention_mask": mask}
    with torch.inference_mode():
        whole = model(**batch, removal="none").logits
        for reads in (False, True):
            torch.testing.assert_close(Ceiling(model, scale=0, reads=reads)(**batch), whole)
        fewer = Ceiling(model, scale=1, reads=False)
        alone = fewer(**batch)
        # reading the states, and copying those that stay, changes nothing
        torch.testing.assert_close(Ceiling(model, scale=1, reads=True)(**batch), alone)
        assert not torch.allclose(alone, whole)
        lengths = model(**batch, removal="hard").lengths  # (B, L)
    [kept] = fewer.kept.values()
    assert [one.sizes for one in kept] == [sorted(column, reverse=True) for column in lengths.T.tolist()]
    assert sum(kept[-1].sizes) < mask.sum()


def test_the_curve_of_what_becomes_time_has_a_point_for_each_scale() -> None:
    def row(scale: str, dtype: str, flops: float, ratio: float) -> dict[str, Any]:
        found = {"median": ratio, "min": ratio - 0.1, "max": ratio + 0.2}
        return {"system": f"adapler {scale}", "batch": "tokens", "dtype": dtype, "flops": {"executed": flops}} | {
            f"over packed {dtype}": found
        }

    rows = [row("1", "float32", 4.0, 3.5), row("0", "float32", 0.99, 0.98), row("1", "bfloat16", 4.0, 3.0)]
    rows.append({"system": "packed", "batch": "tokens", "dtype": "float32", "flops": {"executed": None}})
    assert points(rows, batch="tokens", dtype="float32") == [(0.99, 0.98, 0.88, 1.18), (4.0, 3.5, 3.4, 3.7)]
    [panel] = realised_figure(rows).axes
    lines = {str(one.get_label()): one for one in panel.containers}
    assert {name: len(one.lines[0].get_xdata()) for name, one in lines.items()} == {"float32": 2, "bfloat16": 1}
    assert list(panel.lines[-1].get_xdata()) == list(panel.lines[-1].get_ydata()), "the line of a kept promise"
