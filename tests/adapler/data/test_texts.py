"""Rows of texts: nothing of a row is dropped in silence, and what is handed on can be written as JSON."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapler.data.texts import STDIN, TextSource
from adapler.errors import AdapLeRError, DataError


def test_a_second_text_that_the_first_row_has_not_makes_a_bad_row(tmp_path: Path) -> None:
    lines = [
        '{"text_a": "fun"}',
        '{"text_a": "so", "text_b": "dull"}',
        '{"text_a": "so", "text_b": null}',
        '{"text_a": "bad"}',
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines))
    rows = list(TextSource(path).rows())
    assert [row.text for row in rows] == ["fun", None, "so", "bad"]
    assert rows[1].error == "has 'text_b', which the first row has not (--pair-column text_b reads pairs)"
    assert [row.error for row in (rows[0], *rows[2:])] == [None] * 3
    asked = list(TextSource(path, text_column="text_a").rows())
    assert [row.text for row in asked] == ["fun", "so", "so", "bad"], "who names the column wants no other"
    pairs = [row.text for row in TextSource(path, pair_column="text_b").rows()]
    assert pairs == [None, ("so", "dull"), None, None]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_text_beside_a_second_text_of_another_name_is_not_read_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text('{"text": "fun", "text_b": "dull"}' if path.suffix == ".jsonl" else "text,text_b\nfun,dull\n")
    with pytest.raises(DataError, match=rf"{name}: has 'text' and 'text_b' \(--text-column text reads the first alone"):
        list(TextSource(path).rows())
    (row,) = TextSource(path, text_column="text").rows()
    assert row.text == "fun"
    (row,) = TextSource(path, pair_column="text_b").rows()
    assert row.text == ("fun", "dull")
    later = tmp_path / "later.jsonl"
    later.write_text('{"text": "fun"}\n{"text": "fun", "text_b": "dull"}\n')
    assert [row.text for row in TextSource(later).rows()] == ["fun", None]


def test_without_standard_input_there_is_none_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for none in (None, io.StringIO("so dull\n")):  # closed, as of a service; a notebook's has no bytes
        monkeypatch.setattr("sys.stdin", none)
        with pytest.raises(DataError, match="stdin: there is none to read, give a file"):
            next(TextSource(STDIN).rows())


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"words\nfun\n", {}, "stdin: has no column 'text' or 'text_a', only 'words'"),
        (b"words\nfun\n", {"text_column": "x"}, "--text-column: stdin has no column 'x', only 'words'"),
        (b"text,text\nfun,dull\n", {}, "stdin: column 'text' appears twice"),
    ],
)
def test_a_table_on_standard_input_has_its_name(
    content: bytes, options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(AdapLeRError, match=f"^{message}"):
        next(TextSource(STDIN, format="csv", **options).rows())


def test_a_parquet_column_that_appears_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["fun"]), pa.array(["dull"])], names=["text", "text"]), path)
    with pytest.raises(DataError, match=r"twice.parquet: column 'text' appears twice$"):
        list(TextSource(path).rows())


def test_nested_values_are_handed_on_as_json_has_them(tmp_path: Path) -> None:
    day, path = datetime.date(2020, 1, 2), tmp_path / "nested.parquet"
    kept = {
        "struct": [{"day": day, "share": float("nan"), "price": decimal.Decimal("1.50"), "n": 7}],
        "list": [[day, None]],
        "bytes": [[b"\xff", "\u00e9".encode()]],
        "binary": [b"007"],
        "map": pa.array([[("a", float("inf")), ("b", 0.1)]], pa.map_(pa.string(), pa.float64())),
    }
    pq.write_table(pa.table({"text": ["fun"], **kept}), path)
    (row,) = TextSource(path, keep=tuple(kept)).rows()
    assert row.kept == {
        "struct": {"day": "2020-01-02", "share": None, "price": "1.50", "n": 7},
        "list": ["2020-01-02", None],
        "bytes": ["\\xff", "\u00e9"],
        "binary": "007",
        "map": [["a", None], ["b", 0.1]],
    }
    json.dumps(row.kept, allow_nan=False)
    (tmp_path / "nan.jsonl").write_text('{"text": "fun", "x": {"y": [NaN, -Infinity, 1e2]}}')
    (row,) = TextSource(tmp_path / "nan.jsonl", keep=("x",)).rows()
    assert row.kept == {"x": {"y": [None, None, 100.0]}}


def test_an_id_of_bytes_is_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.parquet"
    pq.write_table(pa.table({"text": ["fun"], "id": [b"r1"]}), path)
    assert [row.id for row in TextSource(path).rows()] == ["r1"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_compressed_file_is_called_so(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"text\nfun\n"))
    with pytest.raises(DataError, match=rf"{name}: is compressed \(gzip\), give it uncompressed$"):
        list(TextSource(tmp_path / name).rows())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\nfun\n".encode("utf-16"), "a.csv: its header is not UTF-8"),
        (
            b"text\rfun\r",
            r"a.csv: its header cannot be read \(a carriage return that ends no line and is not in quotes\)",
        ),
    ],
)
def test_a_table_whose_header_is_no_text(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"{message}$"):
        list(TextSource(tmp_path / "a.csv").rows())


def test_infinities_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"text": ["fun"] * 3, "x": [float("inf"), float("-inf"), float("nan")]}), path)
    assert [row.kept["x"] for row in TextSource(path, keep=("x",)).rows()] == [float("inf"), float("-inf"), None]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([0, 10**7], pa.date32()), "date value out of range"),
        (pa.array([b"fun", b"\xff"]).view(pa.string()), "'utf-8' codec can't decode byte 0xff in position 0: .*"),
    ],
    ids=["date", "text"],
)
def test_a_value_that_python_does_not_have(column: pa.Array, said: str, tmp_path: Path) -> None:
    path = tmp_path / "dates.parquet"
    pq.write_table(pa.table({"text": ["fun", "dull"], "x": column}), path)
    with pytest.raises(DataError, match=rf"dates.parquet: cannot be read after row 0, column 'x' \({said}\)$"):
        list(TextSource(path).rows())
