"""`adapler predict`: every kind of file, bad rows, ids that join, and what is remembered of training."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.bulk.classifier import Classifier
from adapler.bulk.rows import FIELDS
from adapler.bulk.store import Store
from adapler.cli.parser import main
from adapler.errors import run_command

Predict = Callable[..., list[dict[str, Any]]]
EVERYTHING = ["--output-columns", *(name for name in FIELDS if name not in ("row", "id", "error"))]
FIRST, SECOND = ["[CLS]", "a", "good", "film", "[SEP]"], ["[CLS]", "so", "dull", "[SEP]"]


@pytest.fixture
def model(run_folder: Path) -> Path:
    return run_folder / "phi-0.1-post-hoc"


@pytest.fixture
def rows_of(model: Path, tmp_path: Path) -> Predict:
    """Writes a file, classifies it, and returns the rows of the output."""

    def call(name: str, content: str | bytes | None, *options: str | Path) -> list[dict[str, Any]]:
        path, out = tmp_path / name, tmp_path / "out.jsonl"
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        arguments = ["--input", str(path), "--output", str(out), *EVERYTHING, *map(str, options)]
        assert main(["predict", "--model", str(model), *arguments]) == 0
        return [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n") if line]

    return call


@pytest.fixture
def refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a command that must fail, and leave no output."""

    def call(*arguments: str | Path) -> str:
        capsys.readouterr()
        before = sorted(tmp_path.rglob("*"))
        assert run_command(main, ["predict", "--model", str(model), *map(str, arguments)]) == 2
        errors = [
            line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "%|" not in line and line
        ]
        assert len(errors) == 1 and errors[0].startswith("error: "), errors
        assert sorted(tmp_path.rglob("*")) == before
        return errors[0]

    return call


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


def test_bad_rows_are_reported_and_end_nothing(rows_of: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        b'{"text": "a good film", "id": "x", "n": 1}',
        b'{"tex',
        b"",
        b'{"text": "  ", "id": "y", "n": 2}',
        b'["fine"]',
        b'{"text": "\\ud800"}',
        b'{"text": 3}',
        b'{"text_a": "fine"}',
        b'{"text": "\xff"}',
        b"[" * 5000,
        b'{"text": "so dull", "n": 3}',
    ]
    rows = rows_of("r.jsonl", b"\n".join(lines), "--keep", "n", "nowhere")
    assert [row["row"] for row in rows] == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11], "line numbers"
    assert [row["row"] for row in rows if row["label"] is not None] == [1, 11]
    assert [row["row"] for row in rows if row["error"] is None] == [1, 11]
    assert rows[2]["id"] == "y" and rows[2]["n"] == 2 and rows[2]["error"] == "field 'text' is blank"
    assert [row["tokens"] for row in (rows[0], rows[-1])] == [FIRST, SECOND]
    written = capsys.readouterr()
    assert "2 predictions in" in written.out
    assert "r.jsonl:2: not JSON" in written.err and "r.jsonl:9: not UTF-8 (byte 10)" in written.err
    assert "8 of 10 rows have no prediction" in written.err
    assert "column 'nowhere' is in no row" in written.err


def test_bad_rows_of_tables_and_lines(rows_of: Predict) -> None:
    rows = rows_of("r.txt", "a good film\n\n\nso dull\n")
    assert [row["row"] for row in rows] == [1, 2, 3, 4] and [row["error"] is None for row in rows] == [1, 0, 0, 1]
    table = b'id,text\n1,a good film\n2,so,dull\n\n3,"so "dull\n4,\xff\n5, \n6,so dull\n7,"never\nclosed\n8,x\n'
    rows = rows_of("r.csv", table)
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["error"] for row in rows] == [
        None,
        "has 3 fields, the header has 2",
        "line 5: ',' expected after '\"'",
        "not UTF-8",
        "field 'text' is blank",
        None,
        "lines 9 to 11: unexpected end of data",
    ]
    assert rows[5]["tokens"] == SECOND and rows[4]["id"] == "5"


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


def with_encoding(model: Path, folder: Path, encoding: Any) -> Path:
    shutil.copytree(model, folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "encoding": encoding}))
    return folder


def test_what_training_read_is_remembered(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.txt").write_text("a good film so dull\n")
    out = tmp_path / "o.jsonl"

    def tokens(folder: Path, *options: str) -> tuple[dict[str, Any], str]:
        arguments = ["--input", str(tmp_path / "r.txt"), "--output", str(out), *EVERYTHING, *options]
        assert main(["predict", "--model", str(folder), *arguments]) == 0
        note = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("note: "))
        return json.loads(out.read_text()), note

    encoding = {"max_length": 5, "long_documents": "truncate", "stride": None, "train_documents": None, "limit": None}
    folder = with_encoding(model, tmp_path / "truncate", encoding)
    row, note = tokens(folder)
    assert row["tokens"] == FIRST and note == "note: max_length 5, longer texts: truncate; as in training (run.json)"
    row, note = tokens(folder, "--max-length", "4")
    assert row["tokens"] == [*FIRST[:3], "[SEP]"] and note.endswith(
        "max_length 4, longer texts: truncate; as asked for"
    )
    row, note = tokens(folder, "--long-documents", "last")
    assert row["tokens"] == ["[CLS]", "film", "so", "dull", "[SEP]"] and "max_length 5, longer texts: last" in note
    (folder / "run.json").unlink()
    row, note = tokens(folder)
    assert len(row["tokens"]) == 7 and "the model's longest input, longer texts: truncate; no run.json" in note


def test_windows_are_averaged_as_evaluate_does_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoding = {"max_length": 6, "long_documents": "windows", "stride": 1}
    folder = with_encoding(model, tmp_path / "windows", encoding)
    task = tmp_path / "task"
    task.mkdir()
    texts = [" ".join("a good film so dull never fun boring bad".split()[n % 3 :][: 3 + n]) for n in range(8)]
    lines = [json.dumps({"text": text, "label": n % 2, "id": str(n)}) for n, text in enumerate(texts)]
    for split in ("train", "validation", "test"):
        (task / f"{split}.jsonl").write_text("\n".join(lines))
    for removal in ("none", "hard"):
        out = tmp_path / f"{removal}.jsonl"
        options = ["--input", str(task / "test.jsonl"), "--removal", removal, "--output", str(out), *EVERYTHING]
        assert main(["predict", "--model", str(folder), *options]) == 0
    rows = {
        removal: [json.loads(line) for line in (tmp_path / f"{removal}.jsonl").read_text().splitlines()]
        for removal in ("none", "hard")
    }
    arguments = ["--task", str(task), "--max-length", "6", "--long-documents", "windows", "--stride", "1"]
    assert main(["evaluate", "--model", str(folder), *arguments, "--output", str(tmp_path / "e.json")]) == 0
    evaluated = json.loads((tmp_path / "e.json").read_text())
    gold = ["NEG", "POS"] * 4
    for removal, score in (("none", evaluated["none"]["score"]), ("hard", evaluated["hard"][0]["score"])):
        found = rows[removal]
        assert sum(row["label"] == label for row, label in zip(found, gold, strict=True)) / 8 == pytest.approx(score)
        assert sum(row["windows"] for row in found) == evaluated["rows"] > 8
        assert all(abs(sum(row["probabilities"].values()) - 1) < 1e-5 for row in found)
    assert all(row["speedup"] == 1 for row in rows["none"])
    assert torch.tensor([row["lengths"] for row in rows["none"]]).unique(dim=1).shape[1] == 1


@pytest.mark.parametrize(
    "encoding",
    [
        {"max_length": 5, "long_documents": "truncate", "stride": None},
        {"max_length": 5, "long_documents": "last", "stride": None},
        {"max_length": 6, "long_documents": "windows", "stride": 1},
    ],
    ids=lambda encoding: encoding["long_documents"],
)
def test_python_reads_what_the_command_reads(model: Path, tmp_path: Path, encoding: dict[str, Any]) -> None:
    folder = with_encoding(model, tmp_path / "model", encoding)
    texts = ["a good film so dull never fun boring bad", "fun"]
    (tmp_path / "r.txt").write_text("\n".join(texts))
    out = tmp_path / "o.jsonl"
    options = ["--input", str(tmp_path / "r.txt"), "--output", str(out), "--dtype", "float32", *EVERYTHING]
    assert main(["predict", "--model", str(folder), *options]) == 0
    tokenizer = AutoTokenizer.from_pretrained(folder)
    side = tokenizer.truncation_side
    loaded = AdapLeRForSequenceClassification.from_pretrained(folder)
    found = loaded.predict(texts, tokenizer=tokenizer)
    for row, prediction in zip(map(json.loads, out.read_text().splitlines()), found, strict=True):
        assert row["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
        assert row["lengths"] == list(prediction.lengths) and row["windows"] == prediction.windows
        assert row["length"] == len(prediction.tokens) == len(prediction.layers)
        assert row["speedup"] == pytest.approx(prediction.speedup)
        assert row["tokens"] in (None, list(prediction.tokens))
    assert (found[0].windows > 1) is (encoding["long_documents"] == "windows") and tokenizer.truncation_side == side
    (whole,) = loaded.for_inference(dtype="float32").predict(
        texts[:1], tokenizer=tokenizer, max_length=40, long_documents="truncate"
    )
    assert len(whole.tokens) == 11 and whole.windows == 1
    with pytest.raises(ArgumentError, match="^stride: 1 must be at least 0, and long_documents windows"):
        loaded.predict(texts, tokenizer=tokenizer, long_documents="last", stride=1)


def test_a_pair_without_room_for_windows_is_one_bad_row(rows_of: Predict) -> None:
    pairs = [("a good film", "so dull"), ("fun", "a good film so dull never fun"), ("a good film so dull", "fun a")]
    text = "\n".join(json.dumps({"text_a": a, "text_b": b}) for a, b in pairs)
    rows = rows_of("p.jsonl", text, "--long-documents", "windows", "--max-length", "8", "--stride", "1")
    assert [row["windows"] for row in rows] == [1, 2, None]
    assert rows[2]["error"].startswith("its first text has 5 tokens, which leaves no room for windows of the second")


def test_strict_ends_at_the_first_bad_row(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("fun\n\n\n")
    line = refused("--input", tmp_path / "r.txt", "--output", tmp_path / "o.jsonl", "--strict")
    assert line.endswith("r.txt:2: field 'text' is blank")


def test_what_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "give either texts or --input" in refused()
    assert "text 2: blank" in refused("fine", " ")
    assert "holds bytes that are not UTF-8 text" in refused("caf\udce9")
    out = ["--output", tmp_path / "o.jsonl"]
    assert "--output: o.txt must end in .jsonl, .csv or .parquet" in refused("fun", "--output", "o.txt")
    assert "none.txt: no such file" in refused("--input", tmp_path / "none.txt", *out)
    assert "--format: parquet cannot be read from standard input" in refused("--input", "-", "--format", "parquet")
    assert "stride: 2 must be at least 0, and long_documents windows" in refused("fun", "--stride", "2")
    files: dict[str, bytes] = {
        "a.csv": b"review,id\nfun,1\n",
        "b.csv": b"text;id\nfun;1\n",
        "c.csv": b"text,text\nfun,1\n",
        "d.csv": b"",
        "e.json": b"[]",
        "f.txt": b"\xff\xfe\n\n",
        "g.txt": b"",
        "h.jsonl": b'{"tokens": ["a"]}\n',
        "i.parquet": b"PAR1 no",
    }
    messages = {
        "a.csv": "a.csv: has no column 'text' or 'text_a', only 'review', 'id' (--text-column names another)",
        "b.csv": "only 'text;id'; parted by semicolons?",
        "c.csv": "c.csv: column 'text' appears twice",
        "d.csv": "d.csv: has no header",
        "e.json": "e.json: its name does not tell the format (.jsonl, .ndjson, .csv, .tsv, .parquet, .txt, .text do); ",
        "f.txt": "f.txt:1: not UTF-8 (byte 0); none of the 2 rows can be classified",
        "g.txt": "g.txt: no texts",
        "h.jsonl": "h.jsonl:1: has none of 'text' and 'text_a', its fields are 'tokens'",
        "i.parquet": "i.parquet: not a Parquet file (",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name, message in messages.items():
        assert message in refused("--input", tmp_path / name, *out)
    table = ["--input", tmp_path / "a.csv", "--text-column", "review"]
    assert "--text-column: " in refused("--input", tmp_path / "a.csv", "--text-column", "x", *out)
    assert "has no column 'key', only 'review', 'id'" in refused(*table, "--id-column", "key", *out)
    assert "--keep: " in refused(*table, "--keep", "id", "stars", *out)
    (tmp_path / "same.jsonl").write_text('{"text": "fun"}')
    assert "same.jsonl is the input" in refused("--input", tmp_path / "same.jsonl", "--output", tmp_path / "same.jsonl")


def test_a_damaged_record_is_refused(model: Path, tmp_path: Path) -> None:
    for number, encoding in enumerate(
        [3, {"max_length": "5"}, {"max_length": 5, "long_documents": "x", "stride": None}]
    ):
        folder = with_encoding(model, tmp_path / str(number), encoding)
        with pytest.raises(Exception, match=r"run\.json: 'encoding' must have max_length"):
            main(["predict", "--model", str(folder), "fun"])
