"""In which layers every seed of a method is above another's: by hand, and the errors."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from adapler.errors import ArgumentError
from analysis.studies import ahead

RUNS = {  # by method: (lowest, highest run) of layers 0 to 3
    "cp": [(0.3, 0.4), (0.3, 0.4), (0.1, 0.2), (0.5, 0.6)],
    "saliency": [(0.1, 0.29), (0.4, 0.5), (0.3, 0.3), (0.1, 0.2)],
    "gradient": [(0.25, 0.25)],  # one that scores the input only
}


def table(path: Path, *, metric: str = "fpr") -> Path:
    rows = [
        {"method": method, "layer": layer, "metric": metric, "mean": low, "min": low, "max": high, "runs": 3}
        for method, runs in RUNS.items()
        for layer, (low, high) in enumerate(runs)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_layers_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path / "seeds.csv")
    assert ahead.main([f"three seeds={file}", "--over", "saliency", "gradient"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | cp against | FPR (1/n) |"
    # in layer 1 the highest run of one is the lowest of the other: neither
    assert lines[2:] == [
        "| three seeds | saliency | above 0, 3; below 2 |",
        "| three seeds | gradient | above 0-1, 3; below 2 |",
    ]
    (tmp_path / "lr=1").mkdir()
    assert ahead.main([str(table(tmp_path / "lr=1" / "s.csv")), "--over", "saliency"]) == 0  # no name: it is the path
    assert capsys.readouterr().out.splitlines()[2].endswith("s.csv | saliency | above 0, 3; below 2 |")
    assert ahead.main([str(file), "--method", "gradient", "--over", "cp"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"| {file} | cp | above 2; below 0-1, 3 |"


def test_methods_with_names_that_a_table_could_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path / "seeds.csv")
    file.write_text(file.read_text().replace("saliency", "NA").replace("gradient", "1"))
    assert ahead.main([str(file), "--over", "NA", "1"]) == 0
    found = capsys.readouterr().out.splitlines()[2:]
    assert found == [f"| {file} | NA | above 0, 3; below 2 |", f"| {file} | 1 | above 0-1, 3; below 2 |"]
    with pytest.raises(ArgumentError, match="has no method 'saliency', but cp, NA, 1"):
        ahead.main([str(file)])


def test_a_metric_that_is_not_defined_is_no_tie(tmp_path: Path) -> None:
    found = ahead.read(str(table(tmp_path / "seeds.csv")))
    found.loc[found["method"] == "saliency", ["min", "max"]] = float("nan")
    assert ahead.said(found, "cp", "saliency", metric="fpr", where="") == "-"
    assert ahead.said(found.iloc[::-1], "cp", "gradient", metric="fpr", where="") == "above 0-1, 3; below 2"


def test_layers_of_fewer_runs_say_so(tmp_path: Path) -> None:
    """A method that one report of three has: its one run is no "every"."""
    found = ahead.read(str(table(tmp_path / "seeds.csv")))
    found.loc[(found["method"] == "saliency") & (found["layer"] == 1), "runs"] = 2  # neither above nor below
    assert ahead.said(found, "cp", "saliency", metric="fpr", where="") == "above 0, 3; below 2"
    found.loc[found["method"] == "gradient", "runs"] = 1
    assert ahead.said(found, "cp", "gradient", metric="fpr", where="") == "above 0-1, 3; below 2 (1 of 3 runs)"
    found.loc[(found["method"] == "cp") & (found["layer"] == 3), "runs"] = 2
    assert ahead.said(found, "cp", "saliency", metric="fpr", where="") == "above 0, 3; below 2 (2 of 3 runs)"


def test_neither_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ahead.main([str(table(tmp_path / "seeds.csv")), "--over", "cp"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("| cp | neither |")


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "0"), ([0, 1, 2, 5, 7, 8], "0-2, 5, 7-8"), ([3, 10, 11], "3, 10-11"), ([], "")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ahead.ranges(numbers) == text


def test_what_is_no_such_table_is_one_line(tmp_path: Path) -> None:
    file = table(tmp_path / "seeds.csv")
    with pytest.raises(ArgumentError, match=r"none\.csv: cannot be read as CSV"):
        ahead.main([str(tmp_path / "none.csv")])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ArgumentError, match=r"empty\.csv: cannot be read as CSV \(No columns"):
        ahead.main([str(tmp_path / "empty.csv")])
    (tmp_path / "layers.csv").write_text("method,layer,metric,mean\ncp,0,fpr,.1\n")
    with pytest.raises(ArgumentError, match=r"layers\.csv: has no column 'min'; `analysis\.studies\.seeds --output`"):
        ahead.main([str(tmp_path / "layers.csv")])
    with pytest.raises(ArgumentError, match="--metrics: a has no 'tpr', but fpr"):
        ahead.main([f"a={file}", "--metrics", "tpr"])
    with pytest.raises(ArgumentError, match="a: has no method 'rollout', but cp, saliency, gradient"):
        ahead.main([f"a={file}", "--over", "rollout"])
    words = pd.read_csv(file).assign(max="high")
    words.to_csv(tmp_path / "words.csv")
    with pytest.raises(ArgumentError, match=r"words\.csv: column 'max' must hold numbers"):
        ahead.main([str(tmp_path / "words.csv")])
    twice = pd.read_csv(file)
    pd.concat([twice, twice]).to_csv(tmp_path / "twice.csv")
    with pytest.raises(ArgumentError, match=r"twice\.csv: has a method's value of one layer and metric twice"):
        ahead.main([str(tmp_path / "twice.csv")])
    with pytest.raises(ArgumentError, match=r"^a: two tables have this name"):
        ahead.main([f"a={file}", f"a={table(tmp_path / 'other.csv')}"])
