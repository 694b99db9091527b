"""Rows, files and options that `adapler predict` cannot use: rows are reported, the rest is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapler.cli.predicting import FIRST, SECOND, Predict


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
    rows_of("s.txt", b"so dull\n \n")
    one = capsys.readouterr()
    assert "1 prediction in" in one.out and "1 of 2 rows has no prediction" in one.err
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


def test_strict_ends_at_the_first_bad_row(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("fun\n\n\n")
    line = refused("--input", tmp_path / "r.txt", "--output", tmp_path / "o.jsonl", "--strict")
    assert line.endswith("r.txt:2: field 'text' is blank")


def test_what_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "give either texts or --input" in refused()
    (tmp_path / "mine.csv").write_text("text\ngood\n")
    assert f"{tmp_path / 'mine.csv'} is a file; --input {tmp_path / 'mine.csv'} classifies the" in refused(
        "good", tmp_path / "mine.csv"
    )
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
