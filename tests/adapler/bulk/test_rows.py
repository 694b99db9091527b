"""What the output holds, in each format."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapler.bulk.settings import Files, PredictSettings, Work
from adapler.cli import main
from adapler.data.texts import TextRow, shards
from adapler.errors import ArgumentError, run_command


@pytest.fixture
def predict(model: Path, tmp_path: Path) -> Callable[..., Path]:
    def call(source: Path, output: str, *options: str) -> Path:
        arguments = ["predict", "--model", model, "--input", source, "--output", tmp_path / output, *options]
        assert main(list(map(str, arguments))) == 0
        return tmp_path / output

    return call


def test_a_lean_row_and_a_whole_one(predict: Callable[..., Path], texts: Path) -> None:
    rows = [json.loads(line) for line in predict(texts, "o.jsonl", "--keep", "stars").read_text().splitlines()]
    assert list(rows[0]) == ["row", "id", "stars", "label", "score", "probabilities", "speedup", "error"]
    assert [list(row) for row in rows] == [list(rows[0])] * 61, "bad rows have the same fields"
    whole = predict(texts, "w.jsonl", "--output-columns", "label", "tokens", "layers", "length", "lengths", "windows")
    row = json.loads(whole.read_text().splitlines()[5])
    assert list(row) == ["row", "id", "label", "tokens", "layers", "length", "lengths", "windows", "error"]
    assert len(row["tokens"]) == len(row["layers"]) == row["length"] == 8 and row["windows"] == 1
    assert [sum(layers > layer for layers in row["layers"]) for layer in range(3)] == row["lengths"]


def test_parquet_has_one_schema_whatever_the_rows(predict: Callable[..., Path], texts: Path, tmp_path: Path) -> None:
    columns = ["--output-columns", "label", "probabilities", "lengths", "tokens", "--keep", "stars"]
    table = pq.read_table(predict(texts, "o.parquet", *columns, "--shard-rows", "8"))
    assert [(field.name, str(field.type).replace("element", "item")) for field in table.schema] == [
        ("row", "int64"), ("id", "string"), ("stars", "string"), ("label", "string"),
        ("probability_LABEL_0", "double"), ("probability_LABEL_1", "double"), ("probability_LABEL_2", "double"),
        ("lengths", "list<item: int32>"), ("tokens", "list<item: string>"), ("error", "string"),
    ]  # fmt: skip
    assert table.num_rows == 61 and table["row"].to_pylist() == list(range(1, 62))
    assert table["id"].to_pylist()[:2] == ["n0", "n1"] and table["stars"].to_pylist()[6:9] == ["1", None, "3"]
    few = tmp_path / "few.jsonl"
    few.write_text('{"text": "a film"}\n')
    assert pq.read_table(predict(few, "f.parquet", *columns)).schema == table.schema


def test_columns_of_parquet_keep_their_types(predict: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "i.parquet"
    data = {"id": pa.array([2**40, 7]), "text": ["a film", "fun"], "when": ["x", "y"], "score": pa.array([0.5, None])}
    pq.write_table(pa.table(data), source)
    table = pq.read_table(predict(source, "o.parquet", "--keep", "score", "when"))
    assert table["id"].to_pylist() == [2**40, 7] and str(table.schema.field("input_score").type) == "double"
    assert table["input_score"].to_pylist() == [0.5, None] and table["when"].to_pylist() == ["x", "y"]


def test_the_column_id_can_be_kept_beside_another_id(predict: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "i.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "key": pa.array([7, 8]), "text": ["a film", "fun"]}), source)
    table = pq.read_table(predict(source, "o.parquet", "--id-column", "key", "--keep", "id"))
    assert table["id"].to_pylist() == [7, 8] and table["input_id"].to_pylist() == ["a", "b"]
    assert pq.read_table(predict(source, "p.parquet", "--keep", "id"))["input_id"].to_pylist() == ["a", "b"]


def test_the_side_file_has_the_bad_rows(predict: Callable[..., Path], texts: Path, tmp_path: Path) -> None:
    predict(texts, "o.csv")
    bad = [json.loads(line) for line in (tmp_path / "o.csv.errors.jsonl").read_text().splitlines()]
    assert [(row["row"], row["id"]) for row in bad] == [(8, None), (21, "empty"), (61, None)]
    assert bad[0]["raw"] == '{"te' and json.loads(bad[1]["raw"]) == {"id": "empty", "text": " "}
    table = tmp_path / "t.csv"
    table.write_bytes(b'id,text\n1,fun\n2,so,dull\n3,"so "dull\n4,\xff\n')
    predict(table, "t.jsonl")
    bad = [json.loads(line) for line in (tmp_path / "t.jsonl.errors.jsonl").read_text().splitlines()]
    assert [row["raw"] for row in bad] == ["2,so,dull", '3,"so "dull', "4,\\xff"]


def test_shards_end_by_their_own_rows() -> None:
    rows = [TextRow(number, text="x" * size) for number, size in enumerate([3, 3, 9, 1, 1, 1, 1])]
    rows[1] = TextRow(1, text=("x", "yy"))
    sizes = [[row.number for row in shard] for shard in shards(iter(rows), 3, characters=6)]
    assert sizes == [[0, 1], [2], [3, 4, 5], [6]]


def test_unknown_columns_are_refused(model: Path, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--model", str(model), "--input", str(texts), "--output-columns", "labels"])
    assert "invalid choice: 'labels'" in capsys.readouterr().err
    both = ["predict", "--model", str(model), "--input", "-", "--engine", "ray"]
    assert run_command(main, both) == 2
    assert "--engine: ray cannot read standard input" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_read_on_a_cluster(tmp_path: Path) -> None:
    """There the input is opened twice, and a pipe gives what was read the first time to nobody else."""
    os.mkfifo(pipe := tmp_path / "pipe.jsonl")
    with pytest.raises(ArgumentError, match="^--engine: ray cannot read the pipe .*pipe.jsonl, give a file that its"):
        PredictSettings(model="m", files=Files(input=pipe), work=Work(engine="ray"))
    assert PredictSettings(model="m", files=Files(input=pipe)).files.input == pipe


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["good film", "--keep", "stars"], "--keep: only with --input"),
        (["good film", "--output", "o.csv", "--id-column", "key"], "--id-column: only with --input"),
        (["good film", "--text-column", "review"], "--text-column: only with --input"),
        (["--input", "r.csv", "--keep", "stars"], "--keep: only with --output"),
        (["--input", "r.csv", "--output-columns", "tokens"], "--output-columns: only with --output"),
        (["good film", "--restart"], "--restart: only with --output"),
    ],
)
def test_what_would_not_be_read_is_refused(
    words: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(main, ["predict", "--model", str(model), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_text_without_wordpieces_is_a_blank_one(
    predict: Callable[..., Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    texts = [("fun", "\u200b\u200b"), ("fun", "!"), ("\u200b", "fun"), ("fun", "fun")]
    source.write_text("".join(json.dumps({"text_a": one, "text_b": other}) + "\n" for one, other in texts))
    found = [json.loads(line)["error"] for line in predict(source, "o.jsonl").read_text().splitlines()]
    assert found == ["blank: the text gives no wordpieces", None, "blank: the text gives no wordpieces", None]
    bad = (tmp_path / "o.jsonl.errors.jsonl").read_text().splitlines()
    assert [json.loads(row)["row"] for row in bad] == [1, 3]
    assert [json.loads(json.loads(row)["raw"]) for row in bad] == [list(texts[0]), list(texts[2])]
    capsys.readouterr()
    for given in (["--input", str(source), "--strict"], ["\u200b"]):
        assert run_command(main, ["predict", "--model", str(model), *given]) == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith("1: blank: the text gives no wordpieces")
