"""Names of the output's columns and files never meet: nothing is written over something else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adapler.bulk.settings import Files, OutputFile, PredictSettings
from adapler.cli import main
from adapler.errors import ArgumentError, run_command

COLUMNS = ["row", "id", "input_probability_LABEL_0", "probability_NEG", "probability_LABEL_0", "error"]


@pytest.fixture
def predict(model: Path, tmp_path: Path) -> Callable[..., int]:
    row = {"text": "a film", "probability_LABEL_0": "mine", "probability_NEG": "other", "label": 1, "input_label": 2}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")

    def call(output: str, *options: str) -> int:
        files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / output)]
        return run_command(main, ["predict", "--model", str(model), *files, *options])

    return call


def test_a_kept_column_called_as_a_probability_is_renamed(predict: Callable[..., int], tmp_path: Path) -> None:
    kept = ["--keep", "probability_LABEL_0", "probability_NEG", "--output-columns", "probabilities"]
    for name in ("o.jsonl", "o.csv", "o.parquet"):
        assert predict(name, *kept) == 0
    (row,) = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    with (tmp_path / "o.csv").open(newline="") as stream:
        (cells,) = csv.DictReader(stream)
    (entry,) = pq.read_table(tmp_path / "o.parquet").to_pylist()
    for found in (row, cells, entry):
        assert (found["input_probability_LABEL_0"], found["probability_NEG"]) == ("mine", "other")
    assert list(cells) == list(entry) == [*COLUMNS[:5], "probability_LABEL_1", "probability_LABEL_2", "error"]
    assert float(cells["probability_LABEL_0"]) == entry["probability_LABEL_0"] == row["probabilities"]["LABEL_0"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_two_columns_of_one_name_are_refused(
    suffix: str, predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(f"o{suffix}", "--keep", "input_label", "label") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --keep: 'input_label' and 'label' would both be called 'input_label' in the output, keep one of "
        "them or rename it in the input"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert predict(f"o{suffix}", "--keep", "label", "label") == 0, "it is only said twice"


@pytest.mark.parametrize("name", ["o.jsonl", "o.parquet"])
def test_an_output_that_is_a_link_is_written_through(predict: Callable[..., int], tmp_path: Path, name: str) -> None:
    with (tmp_path / "in.jsonl").open("a") as stream:
        stream.write("{}\n")  # a bad row
    target = tmp_path / "disk" / f"there-{name}"
    (tmp_path / name).symlink_to(target)
    for _ in range(2):  # a link to nothing, and to a file
        assert predict(name) == 0
        assert (tmp_path / name).is_symlink() and b"error" in target.read_bytes()
        found = sorted(path.name for path in target.parent.iterdir())
        assert found == sorted([target.name, f"{target.name}.errors.jsonl"])


def test_an_output_column_is_given_once() -> None:
    with pytest.raises(ArgumentError, match="^--output-columns: 'label' is there twice, give each column once$"):
        OutputFile(output_columns=("label", "score", "label"))


def test_the_bad_rows_never_replace_the_input(tmp_path: Path) -> None:
    source, link = tmp_path / "lab.csv.errors.jsonl", tmp_path / "link.jsonl"
    source.write_text('{"text": "fun"}\n')
    link.symlink_to(source)
    message = (
        r"the bad rows of .*lab.csv go to .*lab.csv.errors.jsonl, which is the input; .* such as .*/lab-again.csv$"
    )
    for path in (source, link):
        with pytest.raises(ArgumentError, match="^--output: " + message):
            PredictSettings(model="m", files=Files(input=path), writing=OutputFile(output=tmp_path / "lab.csv"))
    again = OutputFile(output=tmp_path / "lab-again.csv")
    assert PredictSettings(model="m", files=Files(input=source), writing=again).writing is again


def test_outputs_that_differ_in_their_suffix_have_their_own_bad_rows(
    predict: Callable[..., int], tmp_path: Path
) -> None:
    good = (tmp_path / "in.jsonl").read_text()
    for name, bad in (("o.csv", '{"text": " "}\n'), ("o.jsonl", "{}\n"), ("o.parquet", "")):
        (tmp_path / "in.jsonl").write_text(good + bad)
        assert predict(name) == 0
    found = {path.name: path.read_text() for path in tmp_path.glob("*.errors.jsonl")}
    assert sorted(found) == ["o.csv.errors.jsonl", "o.jsonl.errors.jsonl"]
    assert "blank" in found["o.csv.errors.jsonl"] and "has no 'text'" in found["o.jsonl.errors.jsonl"]


def test_bad_rows_that_could_not_be_written_are_told_before_work(
    predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o.csv.errors.jsonl").mkdir()
    for name, why in (("o.csv", "is a folder"), ("n" * 241 + ".csv", "name too long")):
        assert predict(name) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{name}.errors.jsonl" in line and why in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "o.csv.errors.jsonl"]
