"""`adapler predict`: every kind of file, ids that join, and shards."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adapler.bulk.classifier import Classifier
from adapler.bulk.rows import FIELDS
from adapler.bulk.store import Store
from adapler.cli import main
from adapler.errors import run_command
from tests.adapler.cli.predicting import FIRST, SECOND, Predict


def test_a_byte_order_mark_windows_line_ends_and_what_some_take_for_line_ends(rows_of: Predict) -> None:
    contents = {
        "a.txt": "\ufeffa good film\r\nso\u2028dull\r\n",
        "b.jsonl": '\ufeff{"text": "a good film"}\r\n{"text": "so\u2028dull"}\r\n',
        "c.csv": "\ufefftext\r\na good film\r\nso\u2028dull\r\n",
        "d.tsv": "id\ttext\n1\ta good film\n2\tso\u2028dull",
    }
    for name, content in contents.items():
        rows = rows_of(name, content)
        assert [row["tokens"] for row in rows] == [FIRST, SECOND], name
        assert [row["row"] for row in rows] == [1, 2] and [row["error"] for row in rows] == [None, None]
        assert len(rows[0]["layers"]) == 5 and max(rows[0]["layers"]) == rows[0]["layers"][0] == 3
        assert set(rows[0]) == set(FIELDS) and rows[0]["label"] in ("NEG", "POS")


def test_a_csv_is_read_by_columns_and_never_as_lines(rows_of: Predict) -> None:
    text = 'key,review,stars,label,more\n007,"a good, film\n",5,POS,""\n8,so dull,1,NEG,x\n'
    rows = rows_of("r.csv", text, "--text-column", "review", "--id-column", "key", "--keep", "stars", "label")
    assert [(row["row"], row["id"], row["stars"], row["input_label"]) for row in rows] == [
        (1, "007", "5", "POS"),
        (2, "8", "1", "NEG"),
    ]
    assert rows[0]["tokens"] == ["[CLS]", "a", "good", ",", "film", "[SEP]"] and rows[1]["tokens"] == SECOND


def test_pairs_parquet_and_nested_columns(rows_of: Predict, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": [3, 4, 5],
            "text_a": ["a good film", "fun", None],
            "text_b": ["so dull", "fun", "fun"],
            "when": pd.to_datetime(["2020-01-02"] * 3),
            "more": [{"a": 1}, None, {"a": 2}],
            "share": [0.5, float("nan"), 1.0],
        }
    )
    frame.to_parquet(tmp_path / "p.parquet")
    rows = rows_of("p.parquet", None, "--keep", "when", "more", "share")
    assert rows[0]["tokens"] == [*FIRST, "so", "dull", "[SEP]"] and [row["id"] for row in rows] == [3, 4, 5]
    assert (rows[0]["when"][:10], rows[0]["more"], rows[1]["share"]) == ("2020-01-02", {"a": 1}, None)
    assert rows[2]["label"] is None and rows[2]["error"] == "field 'text_a' must be a string, found nothing"
    alone = rows_of("p.parquet", None, "--text-column", "text_b")
    assert alone[0]["tokens"] == SECOND
    both = rows_of("q.jsonl", '{"x": "fun", "y": "so dull"}', "--text-column", "x", "--pair-column", "y")
    assert both[0]["tokens"] == ["[CLS]", "fun", "[SEP]", "so", "dull", "[SEP]"]


def test_csv_output(model: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"text": "so dull", "score": [1], "id": "a"}\n{"text": "", "id": "b"}\n')
    out = tmp_path / "out.csv"
    options = ["--input", str(tmp_path / "r.jsonl"), "--output", str(out), "--keep", "score", "text"]
    assert main(["predict", "--model", str(model), *options]) == 0
    with out.open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert list(first) == ("row id input_score text label score probability_NEG probability_POS speedup error".split())
    assert (first["id"], first["input_score"], first["text"]) == ("a", "[1]", "so dull")
    assert float(first["score"]) == max(float(first["probability_NEG"]), float(first["probability_POS"]))
    assert (second["row"], second["label"], second["error"]) == ("2", "", "field 'text' is blank")


def test_standard_input(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def typed(content: str, *options: str) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        assert main(["predict", "--model", str(model), "--input", "-", *options]) == 0
        return capsys.readouterr().out.splitlines()

    lines = typed("a good film\n\nso dull")
    assert [line.split("\t")[0] for line in lines] == ["1", "2", "3"]
    assert lines[1] == "2\t-\tfield 'text' is blank" and "5 -> " in lines[0] and "4 -> " in lines[2]
    (line,) = typed('{"text": "so dull", "id": "k"}', "--format", "jsonl")
    assert line.startswith("1\tk\t")
    assert len(typed("text,x\nso dull,1\n", "--format", "csv")) == 1
    assert len(typed('{"text": "so dull"}', "--format", "lines")) == 1
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "so dull"}')))
    assert run_command(main, ["predict", "--model", str(model), "--input", "-"]) == 2
    assert capsys.readouterr().err.startswith("error: stdin: its first line is a JSON object (--format jsonl reads ")


def test_shards_give_what_one_call_gives(rows_of: Predict) -> None:
    words = "a good film so dull never fun".split()
    text = "".join(" ".join(words[: 1 + n % 7]) + "\n" if n % 5 else "\n" for n in range(23))
    whole = rows_of("r.txt", text)
    parts = rows_of("r.txt", text, "--shard-rows", "4")
    assert [row["row"] for row in parts] == list(range(1, 24))
    for one, other in zip(whole, parts, strict=True):
        assert (one["label"], one["tokens"], one["lengths"]) == (other["label"], other["tokens"], other["lengths"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_memory_does_not_grow_with_rows(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard is read only when all but one of those before it are written."""
    events: list[str] = []
    start, append = Classifier.start, Store.append

    def started(self: Any, shard: Any) -> Any:
        events.append(f"start {shard[0].number}")
        return start(self, shard)

    def appended(self: Any, *args: Any, **options: Any) -> None:
        append(self, *args, **options)
        events.append(f"written {sum(entry.rows for entry in self.entries)}")

    monkeypatch.setattr(Classifier, "start", started)
    monkeypatch.setattr(Store, "append", appended)
    (tmp_path / "r.txt").write_text("fun\n" * 7)
    options = ["--input", str(tmp_path / "r.txt"), "--output", str(tmp_path / "o.jsonl"), "--shard-rows", "2"]
    assert main(["predict", "--model", str(model), *options]) == 0
    assert events == "start 1,start 3,written 2,start 5,written 4,start 7,written 6,written 7".split(",")


def test_infinities_are_kept_where_the_output_has_them(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pd.DataFrame({"text": ["fun", "so dull"], "x": [float("inf"), 1.5]}).to_parquet(path)
    for name in ("out.parquet", "out.jsonl", "out.csv"):
        files = ["--input", str(path), "--output", str(tmp_path / name), "--keep", "x"]
        assert main(["predict", "--model", str(model), *files]) == 0
    assert pd.read_parquet(tmp_path / "out.parquet")["x"].tolist() == [float("inf"), 1.5]
    assert pd.read_csv(tmp_path / "out.csv")["x"].tolist() == [float("inf"), 1.5]
    assert [json.loads(line)["x"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [None, 1.5]
