from __future__ import annotations

import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adapler.errors import ArgumentError, DataError
from analysis import figures, tables
from analysis.alignment import Account
from analysis.evaluation import METRICS
from analysis.report import DocumentRecord, RationaleReport

METHODS = ("attention", "saliency", "cp", "random", "my_own_100%")


def make_report(n_layers: int = 4, *, with_adapler: bool = True) -> RationaleReport:
    """Random values, the third document skipped, one cell undefined."""
    values = np.random.default_rng(0).random((len(METHODS), n_layers, 5, len(METRICS)))
    values[:, :, 2] = np.nan
    values[0, 0, 0, 0] = np.nan
    documents = tuple(
        DocumentRecord(
            id=f"döc_{i}",
            label="POS",
            prediction="POS" if i else "NEG",
            adapler_prediction="NEG" if with_adapler else None,
            tokens=20 + i,
            content_tokens=18 + i,
            rationale_tokens=3,
            lengths=tuple(range(20, 20 - n_layers, -1)) if with_adapler else None,
            skipped="no rationale in view" if i == 2 else None,
            account=Account(20, 18, 0, 3, 3, 0),
        )
        for i in range(5)
    )
    meta: dict[str, Any] = {
        "data": {"name": "films_100%", "checksum": "abc"},
        "split": "test",
        "policy": "truncate",
        "max_length": 24,
        "density": 0.1 + 0.2,
        "chance_average_precision": 1 / 3,
        "seed": 0,
        "titles": {"cp": "AdapLeR CP"},
    }
    if with_adapler:
        meta["speedup"] = 2.5
    return RationaleReport(METHODS, METRICS, documents, values, meta)


@pytest.fixture
def report() -> RationaleReport:
    return make_report()


def test_json_round_trip_is_lossless(report: RationaleReport, tmp_path: Path) -> None:
    text = report.to_json(tmp_path / "report.json")
    for source in (text, tmp_path / "report.json", str(tmp_path / "report.json")):
        back = RationaleReport.from_json(source)
        assert (back.methods, back.metrics, back.documents, back.meta) == (
            report.methods,
            report.metrics,
            report.documents,
            report.meta,
        )
        assert np.array_equal(back.values, report.values, equal_nan=True)  # to the last bit
        assert back.to_json() == text
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_json_without_adapler() -> None:
    report = make_report(with_adapler=False)
    back = RationaleReport.from_json(report.to_json())
    assert back.documents == report.documents
    assert back.speedup is back.mean_lengths is back.adapler_accuracy is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema version 99, this version of analysis reads 1"),
        ({"schema": "other"}, "not a rationale report"),
        ({"layers": 7}, "a damaged rationale report"),
        ({"documents": [{"id": "x"}]}, "a damaged rationale report"),
    ],
)
def test_other_json_is_refused(report: RationaleReport, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(report.to_json()) | change))
    with pytest.raises(DataError, match=f"report.json: {message}"):
        RationaleReport.from_json(path)


def test_unreadable_reports(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.json: No such file"):
        RationaleReport.from_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": "adap')
    with pytest.raises(DataError, match="half.json: not valid JSON"):
        RationaleReport.from_json(tmp_path / "half.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match="list.json: not a rationale report"):
        RationaleReport.from_json(tmp_path / "list.json")


def test_frame_is_tidy_and_summary_counts(report: RationaleReport, tmp_path: Path) -> None:
    frame = report.to_frame()
    assert list(frame.columns) == ["method", "layer", "document", "metric", "value"]
    assert len(frame) == 5 * 4 * 4 * 10 - 1 and not frame.isna().any().any()
    assert set(frame["layer"]) == {0, 1, 2, 3}
    one = frame[(frame.method == "cp") & (frame.layer == 3) & (frame.document == "döc_4") & (frame.metric == "tpr")]
    assert one["value"].item() == report.values[2, 3, 4, METRICS.index("tpr")]
    summary = report.summary().set_index(["method", "layer", "metric"])
    assert summary.loc[("attention", 0, "average_precision"), ["n", "skipped"]].tolist() == [3, 2]
    assert summary.loc[("attention", 1, "average_precision"), ["n", "skipped"]].tolist() == [4, 1]
    report.to_parquet(tmp_path / "documents.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "documents.parquet"), frame)
    documents = report.documents_frame()
    assert documents.loc[1, ["document", "tokens", "length_0", "words"]].tolist() == ["döc_1", 21, 20, 20]


def test_csv_has_the_contract_s_columns(report: RationaleReport, tmp_path: Path) -> None:
    text = report.to_csv(tmp_path / "layers.csv")
    assert (tmp_path / "layers.csv").read_text() == text
    assert text.splitlines()[0] == "method,layer,metric,mean,low,high,n,skipped"
    assert len(text.splitlines()) == 1 + 5 * 4 * 10


def test_a_summary_that_the_caller_changes_stays_the_caller_s(report: RationaleReport) -> None:
    summary = report.summary()
    summary["mean"] = -1.0
    assert (report.summary()["mean"] > 0).all()


def test_latex_is_balanced_and_escaped(report: RationaleReport) -> None:
    text = report.to_latex(metrics=("average_precision", "fpr"))
    assert text.count("{") == text.count("}")
    for environment in re.findall(r"\\begin\{(.*?)\}", text):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
    assert r"my\_own\_100\%" in text and r"films\_100\%" in text and r"\label{tab:rationales-films-100--test}" in text
    assert not re.search(r"(?<!\\)[%_#]", text)
    rows = [line for line in text.splitlines() if line.startswith("AdapLeR CP")]
    assert len(rows) == 2 and all(row.count("&") == 4 and row.endswith(r"\\") for row in rows)


def test_no_latex_row_starts_with_a_bracket() -> None:
    report = make_report()
    titled = replace(report, meta=report.meta | {"titles": {"attention": "[CLS] attention"}})
    assert re.search(r"^\{\[\}CLS\{\]\} attention & ", titled.to_latex(), re.MULTILINE)
    assert not re.search(r"\\\\\s*\[", titled.to_latex())


def test_escape_covers_every_special_character() -> None:
    assert tables.escape(r"a_b 5% \ ~ ^ {#$&}") == (
        r"a\_b 5\% \textbackslash{} \textasciitilde{} \textasciicircum{} \{\#\$\&\}"
    )


def test_markdown(report: RationaleReport) -> None:
    text = report.to_markdown(metrics=("tpr",))
    row = next(line for line in text.splitlines() if line.startswith("| cp"))
    means = tables.cells(report, "tpr")["cp"]
    assert row == "| cp | " + " | ".join(f"{mean:.3f}"[1:] for mean in means) + " |"


def test_numbers() -> None:
    numbers = [0.2541, -0.031, 1.0, 0.0, -0.0001, float("nan"), None, 12.5]
    assert [tables.number(n) for n in numbers] == [
        ".254",
        "-.031",
        "1.000",
        ".000",
        ".000",
        "-",
        "-",
        "12.500",
    ]


@pytest.mark.parametrize("n_layers", [1, 6, 12, 24])
def test_plain_tables_fit_a_terminal(n_layers: int) -> None:
    text = tables.plain(make_report(n_layers))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("chance") == -(-(n_layers + 1) // 13)


def test_unknown_metric_or_figure(report: RationaleReport) -> None:
    with pytest.raises(ArgumentError, match="metric 'auc' is not in the report, which has average_precision"):
        report.to_markdown(metrics=("auc",))
    with pytest.raises(ArgumentError, match="figure 'heat' is not known, there are agreement, lengths"):
        report.figure("heat")
    with pytest.raises(ArgumentError, match="panel 'auc' is not in the report"):
        report.figure(panels=("auc",))
    with pytest.raises(ArgumentError, match="panels: got none"):
        report.figure(panels=())
    with pytest.raises(ArgumentError, match="the report has no AdapLeR model"):
        make_report(with_adapler=False).figure("lengths")


def test_figure_draws_the_means_and_bands(report: RationaleReport) -> None:
    figure = report.figure(panels=("average_precision", "fpr"))
    assert figure.get_size_inches()[0] == pytest.approx(6.3)
    left, right = figure.axes
    lines = {line.get_label(): line for line in right.get_lines()}
    means = tables.cells(report, "fpr")
    np.testing.assert_allclose(lines["AdapLeR CP"].get_ydata(), means["cp"])
    assert list(lines["AdapLeR CP"].get_xdata()) == [0, 1, 2, 3]
    assert len(right.collections) == len(METHODS)  # one band each
    chance = {line.get_label(): line for line in left.get_lines()}["Chance"]
    assert set(chance.get_ydata()) == {1 / 3} and "random" not in {line.get_label() for line in left.get_lines()}
    styles = {(line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern)) for line in right.get_lines()}
    assert len(styles) == len(METHODS), "every method needs a look of its own"


def test_figures_are_saved_with_truetype_fonts(report: RationaleReport, tmp_path: Path) -> None:
    pdf, png = figures.save_figure(report.figure(), tmp_path / "agreement")
    data = pdf.read_bytes()
    inflated = data + b"".join(_inflate(s) for s in re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL))
    assert b"/FontFile2" in inflated, "fonts must be embedded as TrueType"
    assert b"/Type3" not in inflated
    with Image.open(png) as image:
        assert image.size[0] == pytest.approx(6.3 * 300, abs=2)
    again = figures.save_figure(report.figure(), tmp_path / "again")
    assert again[0].read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.pdf",
        "again.png",
        "agreement.pdf",
        "agreement.png",
    ]


def _inflate(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream.strip(b"\r\n"))
    except zlib.error:
        return b""


def test_save_writes_everything_and_leaves_other_files_alone(report: RationaleReport, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    paths = report.save(tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in paths}
    assert names == {
        "report.json",
        "layers.csv",
        "documents.parquet",
        "table.tex",
        "table.md",
        *(f"figures/{kind}.{suffix}" for kind in ("agreement", "lengths") for suffix in ("pdf", "png")),
    }
    assert all(path.stat().st_size for path in paths) and (tmp_path / "notes.txt").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {
        "notes.txt",
        "figures",
        *(n for n in names if "/" not in n),
    }


def test_a_report_of_skipped_documents_only_still_prints(report: RationaleReport, tmp_path: Path) -> None:
    meta = report.meta | {"density": None, "chance_average_precision": None}
    empty = replace(report, values=np.full_like(report.values, np.nan), meta=meta)
    assert (empty.summary()["n"] == 0).all() and empty.to_frame().empty
    assert " - " in tables.plain(empty) and "--" in empty.to_latex()
    empty.save(tmp_path / "out")
