"""Published intervals follow from the committed values of every document."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError, DataError
from analysis.output.report import RationaleReport
from analysis.results import recompute
from analysis.studies import seeds
from tests.analysis.sample_report import full_report, make_report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    report = full_report()
    report.to_parquet(tmp_path / "documents.parquet")
    report.to_csv(tmp_path / "layers.csv")
    return tmp_path


@pytest.mark.parametrize("source", ["documents.parquet", "report.json"])
def test_published_cells_follow_from_the_documents(
    folder: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if source == "report.json":
        (folder / "documents.parquet").unlink()
        full_report().to_json(folder / "report.json")
    assert recompute.main([str(folder)]) == 0
    assert "all " in capsys.readouterr().out
    text = (folder / "layers.csv").read_text().splitlines()
    first = text[1].split(",")
    first[4] = str(float(first[4]) + 0.01)
    (folder / "layers.csv").write_text("\n".join([text[0], ",".join(first), *text[2:]]) + "\n")
    assert recompute.main([str(folder)]) == 1
    assert "1 of " in capsys.readouterr().out


def test_the_parquet_file_alone_gives_the_same_intervals_and_tests(folder: Path) -> None:
    report, back = full_report(), RationaleReport.from_parquet(folder / "documents.parquet")
    assert np.array_equal(report.values, back.values, equal_nan=True)
    assert back.summary().equals(report.summary())
    assert back.comparisons("cp", "tpr").equals(report.comparisons("cp", "tpr"))


def test_one_cell_with_its_test(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recompute.main([str(folder), "--method", "saliency", "--layer", "3", "--metric", "tpr"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("saliency, layer 3, tpr: mean .") and "cp minus saliency: " in printed
    for option, value, message in (
        ("--method", "lrp", "--method: got 'lrp', the report has attention, saliency, cp, "),
        ("--metric", "f1", "--metric: got 'f1', the report has average_precision, "),
        ("--layer", "4", "--layer: got 4, 'saliency' has 0 to 3"),
    ):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            recompute.main([str(folder), "--method", "saliency", option, value])


def test_an_option_of_one_cell_needs_its_method(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--layer", "0"), ("--metric", "fpr"), ("--reference", "cp")):
        with pytest.raises(
            ArgumentError, match=f"^{option}: is of one cell, name its --method; without, all of layers"
        ):
            recompute.main([str(folder), option, value])
    assert capsys.readouterr().out == ""


def test_a_method_that_is_called_like_a_number_that_is_not_there(folder: Path) -> None:
    report = replace(make_report(), methods=("NA", "null", "cp", "nan", "None"))
    report.to_parquet(folder / "documents.parquet")
    report.to_csv(folder / "layers.csv")
    assert recompute.main([str(folder)]) == 0


def test_what_is_not_there_or_damaged(folder: Path) -> None:
    (folder / "layers.csv").write_text("method,layer\n")
    with pytest.raises(DataError, match="layers.csv: no column metric, mean, low, high, n"):
        recompute.main([str(folder)])
    (folder / "documents.parquet").write_text("no")
    with pytest.raises(DataError, match="documents.parquet: "):
        recompute.main([str(folder)])
    with pytest.raises(DataError, match="holds neither documents.parquet nor report.json"):
        recompute.main([str(folder / "none")])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (4, "high", "layers.csv:4: column low: must be a number, found 'high'"),
        (1, "first", "layers.csv:4: column layer: must be a number, found 'first'"),
        (1, "", "layers.csv:4: column layer: must be a number, found nothing"),
        (6, "4 of 5", "layers.csv:4: column n: must be a number, found '4 of 5'"),
    ],
)
def test_a_published_value_that_is_no_number(folder: Path, column: int, value: str, message: str) -> None:
    lines = (folder / "layers.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[column] = value
    lines[3] = ",".join(cells)
    (folder / "layers.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        recompute.main([str(folder)])


def test_a_published_cell_that_comes_twice(folder: Path) -> None:
    lines = (folder / "layers.csv").read_text().splitlines()
    (folder / "layers.csv").write_text("\n".join([*lines[:4], lines[2], *lines[4:]]) + "\n")
    with pytest.raises(DataError, match=r"layers.csv:5: method attention, layer 0, metric fpr comes twice$"):
        recompute.main([str(folder)])


def test_a_parquet_file_of_something_else(folder: Path) -> None:
    frame = full_report().to_frame()
    frame.to_parquet(folder / "documents.parquet")
    with pytest.raises(DataError, match=r"documents.parquet: .* \(it has no metadata 'adapler.report'\)$"):
        recompute.main([str(folder)])


def test_a_reference_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArgumentError, match="^--reference: got 'nope', the report has attention, saliency, cp, random"):
        recompute.main([str(folder), "--method", "saliency", "--metric", "tpr", "--reference", "nope"])
    assert capsys.readouterr().out == ""
    without = replace(make_report(), methods=("attention", "saliency", "x", "random", "y"))
    without.to_parquet(folder / "documents.parquet")
    assert recompute.main([str(folder), "--method", "saliency", "--metric", "tpr"]) == 0  # no cp, and none asked for
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_reports_of_several_seeds_are_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_report()
    other = replace(one, values=one.values + 0.1)
    merged = RationaleReport.merge([one, other]).set_index(["method", "layer", "metric"])
    cell = one.summary().set_index(["method", "layer", "metric"]).loc[("cp", 1, "fpr")]
    assert merged.loc[("cp", 1, "fpr"), "mean"] == pytest.approx(cell["mean"] + 0.05)
    assert merged.loc[("cp", 1, "fpr"), "sd"] == pytest.approx(np.std([0, 0.1], ddof=1))
    for name, report in (("a", one), ("b", other)):
        report.to_json(tmp_path / name / "report.json")
    assert seeds.main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "m.csv")]) == 0
    assert "over 2 runs" in capsys.readouterr().out
    assert seeds.main([str(tmp_path / "a")]) == 0 and "over 1 run\n" in capsys.readouterr().out
    assert (tmp_path / "m.csv").read_text().startswith("method,layer,metric,mean,sd,min,max,runs")
    with pytest.raises(
        ArgumentError, match="^--metrics: 'auprc' is not in the reports, which have average_precision, f"
    ):
        seeds.main([str(tmp_path / "a"), str(tmp_path / "b"), "--metrics", "fpr", "auprc"])
    again = str(tmp_path / "b" / ".." / "a" / "report.json")
    with pytest.raises(
        ArgumentError, match=rf"^REPORT: {tmp_path / 'a'} and {again} are one report, each run counts once"
    ):
        seeds.main([str(tmp_path / "a"), str(tmp_path / "b"), again])
    one.to_json(tmp_path / "copy.json")
    capsys.readouterr()
    assert seeds.main([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "copy.json")]) == 0
    note = f"note: {tmp_path / 'a'} and {tmp_path / 'copy.json'} have the same values everywhere; is one a copy?"
    assert capsys.readouterr().err.splitlines() == [note]
    fewer = replace(one, methods=one.methods[:2], values=one.values[:2])
    fewer.to_json(tmp_path / "c.json")
    assert seeds.main([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "c.json"), "--metrics", "fpr"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["cp"].endswith("  (of 2 runs)") and not lines["saliency"].endswith("runs)")
    with pytest.raises(ArgumentError, match="is a folder, a file is to be written there"):
        seeds.main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "a")])
    assert capsys.readouterr().out == ""
    elsewhere = replace(one, meta=one.meta | {"split": "val"})
    with pytest.raises(ArgumentError, match="reports: split differs, 'test' and 'val'"):
        RationaleReport.merge([one, elsewhere])
    elsewhere.to_json(tmp_path / "val.json")
    paths = [str(tmp_path / name) for name in ("a", "b", "val.json")]
    with pytest.raises(ArgumentError, match=f"^reports: {paths[0]} and {paths[2]}: split differs, 'test' and 'val'; "):
        seeds.main(paths)


def test_reports_of_other_software_and_devices_are_merged_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_report()
    made_with: list[dict[str, Any]] = [
        {"versions": {"torch": "2.12.0", "python": "3.11.1"}, "device": "cpu"},
        {"versions": {"torch": "2.13.0", "python": "3.12.1"}, "device": "cuda"},
        {"versions": {"torch": "2.12.0"}},  # one that does not say its device
    ]
    folders = []
    for place, meta in enumerate(made_with):
        replace(one, values=one.values + 0.01 * place, meta=one.meta | meta).to_json(tmp_path / f"{place}.json")
        folders.append(str(tmp_path / f"{place}.json"))
    assert seeds.main(folders) == 0
    assert capsys.readouterr().err.splitlines() == [
        "note: reports were made with device cpu and cuda, so the spread is not that of the seeds alone",
        "note: reports were made with torch 2.12.0 and 2.13.0, so the spread is not that of the seeds alone",
    ]
    assert seeds.main(folders[:1] + folders[2:]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "values"),
    [("limit", (None, 20)), ("annotators", ("union", "majority")), ("threshold_scale", (1.0, 0.5))],
)
def test_reports_of_other_settings_are_no_runs_of_one_evaluation(name: str, values: tuple[Any, Any]) -> None:
    one, other = (replace(make_report(), meta=make_report().meta | {name: value}) for value in values)
    with pytest.raises(ArgumentError, match=f"^reports: {name} differs, {values[0]!r} and {values[1]!r}; such runs"):
        RationaleReport.merge([one, other])
    assert len(RationaleReport.merge([one, make_report()]))  # an older report does not say it


def test_models_at_one_speedup_have_thresholds_of_their_own() -> None:
    def at(speedup: float, scale: float) -> RationaleReport:
        report = make_report()
        return replace(report, meta=report.meta | {"asked_speedup": speedup, "threshold_scale": scale})

    assert RationaleReport.merge([at(4.0, 0.75), at(4.0, 1.25)])["runs"].max() == 2
    with pytest.raises(ArgumentError, match=r"^reports: threshold_scale differs, 0.75 and 1.25"):
        RationaleReport.merge([at(4.0, 0.75), at(2.0, 1.25)])


def test_a_report_in_a_notebook_is_short_and_escaped() -> None:
    report = full_report()
    assert len(repr(report)) < 300 and repr(report).count("\n") == 1
    assert "4 documents scored, 1 skipped, 4 layers" in repr(report) and "and 1 more" in repr(report)
    hostile = replace(report, meta=report.meta | {"titles": {"cp": "<script>x</script>"}})
    html = hostile._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html and html.count("<table>") == 2 and len(html) < 5000
