"""`adapler predict`: formats in and out, bad rows, going on after a kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapler import ArgumentError, DataError
from adapler.cli import main as commands
from adapler.inference import Prediction
from adapler.predict import COLUMNS, PredictOptions, predict_file, shards
from adapler.system import read_rows
from tests.conftest import tiny_adapler

TEXTS = ["a great film", "the plot is dull", "never boring but very very good and fun", "fun", "so bad"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "model"
    tiny_adapler().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def main(words: list[str]) -> int:
    return commands(["predict", *words])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(row["text"] + "\n" for row in rows), encoding="utf-8")
    return path


def expected(model: Path, tokenizer: Any, texts: list[Any]) -> list[Prediction]:
    from adapler import AdapLeRForSequenceClassification

    return AdapLeRForSequenceClassification.from_pretrained(model).predict(texts, tokenizer=tokenizer, dtype="float32")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet", ".txt"])
def test_each_format_in_gives_what_predict_gives(suffix: str, model: Path, tmp_path: Path, tiny_tokenizer: Any) -> None:
    source = write(tmp_path / f"in{suffix}", [{"id": f"r{n}", "text": text} for n, text in enumerate(TEXTS)])
    out = tmp_path / "out.jsonl"
    options = {"output": out, "output_columns": list(COLUMNS), "dtype": "float32", "shard_rows": 2, "quiet": True}
    count = predict_file(PredictOptions(model=str(model), input=source, **options))
    rows = lines(out)
    assert count["rows"] == len(TEXTS) and [row["row"] for row in rows] == [1, 2, 3, 4, 5]
    for number, (row, one) in enumerate(zip(rows, expected(model, tiny_tokenizer, TEXTS), strict=True)):
        assert row["id"] == (None if suffix == ".txt" else f"r{number}") and row["error"] is None
        assert (row["label"], row["windows"], row["length"]) == (one.label, 1, len(one.tokens))
        assert (row["tokens"], row["layers"], row["lengths"]) == (list(one.tokens), list(one.layers), list(one.lengths))
        assert row["probabilities"] == pytest.approx(one.probabilities, abs=1e-6)
        assert row["score"] == pytest.approx(one.score, abs=1e-6) and row["speedup"] == pytest.approx(one.speedup)
    assert not out.with_name("out.jsonl.partial").exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_each_format_out_holds_the_same(suffix: str, model: Path, tmp_path: Path) -> None:
    rows = [{"text_a": text, "text_b": "fun", "stars": n, "label": "x,y"} for n, text in enumerate(TEXTS)]
    source = write(tmp_path / "in.parquet", rows)
    for name in ("out.jsonl", f"out{suffix}"):
        options = {"output": tmp_path / name, "keep": ["stars", "label"], "shard_rows": 2, "quiet": True}
        predict_file(PredictOptions(model=str(model), input=source, **options))
    reference = lines(tmp_path / "out.jsonl")
    found: list[dict[str, Any]] = [row for _, _, row in read_rows(tmp_path / f"out{suffix}")]
    labels = [f"probability_{name}" for name in reference[0]["probabilities"]]
    assert list(found[0]) == ["row", "id", "stars", "input_label", "label", "score", *labels, "speedup", "error"]
    for row, one in zip(found, reference, strict=True):
        assert (row["label"], row["input_label"]) == (one["label"], "x,y") and float(row["score"]) == one["score"]
        assert int(row["stars"]) == one["stars"] and float(row[labels[0]]) == next(iter(one["probabilities"].values()))
    if suffix == ".parquet":
        assert found[0]["stars"] == 0 and found[0]["error"] is None


def test_a_bad_row_has_an_error_and_the_others_a_label(model: Path, tmp_path: Path) -> None:
    rows = [{"text": "fun"}, {"text": " "}, {"text": 3}, {"text": "\u200b"}, {"text": "bad"}]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    count = predict_file(PredictOptions(model=str(model), input=source, output=out))
    found = lines(out)
    assert count["bad"] == 3 and [row["label"] is None for row in found] == [False, True, True, True, False]
    assert [bool(row["error"]) for row in found] == [False, True, True, True, False]
    assert "no wordpieces" in found[3]["error"]
    with pytest.raises(DataError, match="in.jsonl:2: 'text' is"):
        predict_file(PredictOptions(model=str(model), input=source, output=tmp_path / "other.jsonl", strict=True))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "fun"}\n{"text": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: a JSON object is expected, found list"),
        ("a.csv", "text,x\nfun\n", "a.csv, row 1: has other fields than the header, text, x"),
        ("a.csv", "review\nfun\n", "a.csv, row 1: has no column 'text' or 'text_a', only review; give --text-column"),
        ("a.csv", "", "a.csv: holds no rows"),
        ("a.txt", b"fun\n\xff\n", "a.txt.*: cannot be read"),
        ("a.parquet", b"PAR1", "a.parquet: cannot be read"),
        ("missing.csv", None, "missing.csv: cannot be read"),
    ],
)
def test_a_damaged_file_is_one_line_and_leaves_nothing(
    name: str, content: Any, message: str, model: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        main(["--model", str(model), "--input", str(tmp_path / name), "--output", str(tmp_path / "out.jsonl")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if content is None else [name])


def test_a_run_that_was_killed_goes_on_with_the_same_rows(model: Path, tmp_path: Path) -> None:
    rows = [{"text": TEXTS[n % 5] + " fun" * (n % 7)} for n in range(300)]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.csv"
    command = ["--model", str(model), "--input", str(source), "--shard-rows", "4", "--threads", "1"]
    main([*command, "--output", str(tmp_path / "whole.csv")])
    process = subprocess.Popen(
        [sys.executable, "-m", "adapler", "predict", *command, "--output", str(out)], stderr=subprocess.DEVNULL
    )
    partial = tmp_path / "out.csv.partial"
    while process.poll() is None and len(list(partial.glob("0*.csv"))) < 3:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert partial.exists() and not out.exists()
    with pytest.raises(ArgumentError, match="out.csv.partial was begun with removal 'hard', now it is 'none'"):
        main([*command, "--output", str(out), "--removal", "none"])
    before = {path.name: path.stat().st_mtime_ns for path in partial.glob("0*.csv")}
    assert main([*command, "--output", str(out), "--quiet"]) == 0
    assert before and out.read_bytes() == (tmp_path / "whole.csv").read_bytes() and not partial.exists()


def test_processes_give_the_same_rows(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": TEXTS[n % 5]} for n in range(20)])
    for count in (1, 2):
        command = ["--model", str(model), "--input", str(source), "--shard-rows", "6", "--processes", str(count)]
        assert main([*command, "--output", str(tmp_path / f"out{count}.jsonl"), "--threads", "1", "--quiet"]) == 0
    assert (tmp_path / "out1.jsonl").read_text() == (tmp_path / "out2.jsonl").read_text()


def test_texts_of_the_command_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(model), "a great film", " ", "--quiet"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert len(first.split("\t")) == 4 and "x\t5 -> " in first and second == "-\t'text' is no text, or blank"


def test_shards_end_by_rows_and_by_characters() -> None:
    rows = [{"text": "x" * 100_000, "n": n} for n in range(7)]
    assert [len(part) for part in shards(iter(rows), 5)] == [3, 3, 1]
    assert [len(part) for part in shards(iter(rows), 2)] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fun", "--input", "x.txt"], "give either texts or --input"),
        (["--input", "x.txt", "--output", "x.json"], "--output: x.json must end in .jsonl, .csv or .parquet"),
        (["fun", "--speedup", "2", "--threshold-scale", "1"], "speedup and threshold_scale: only one of them"),
        (["fun", "--speedup", "2", "--removal", "none"], "speedup: removal='none' drops no tokens"),
        (["fun", "--speedup", "2"], "no calibration is stored with this model"),
        (["fun", "--max-length", "9000"], "max_length: 9000 is not a whole number from 3 to the model's 40"),
    ],
)
def test_options_that_are_refused(words: list[str], message: str, model: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        main(["--model", str(model), *words])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_rows(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    rows = [{"id": f"r{n}", "text": TEXTS[n % 5] if n != 3 else " "} for n in range(20)]
    source = write(tmp_path / "in.jsonl", rows)
    command = ["--model", str(model), "--input", str(source), "--shard-rows", "6", "--dtype", "float32", "--quiet"]
    assert main([*command, "--output", str(tmp_path / "out.jsonl")]) == 0
    assert main([*command, "--output", str(tmp_path / "ray"), "--engine", "ray"]) == 0
    reference = lines(tmp_path / "out.jsonl")
    found = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "ray").glob("*.parquet"))]).to_pylist()
    assert [(row["row"], row["id"], row["label"], row["error"]) for row in found] == [
        (row["row"], row["id"], row["label"], row["error"]) for row in reference
    ]
