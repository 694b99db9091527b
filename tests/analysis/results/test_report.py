from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapler.errors import ArgumentError, DataError
from analysis.metrics.statistics import paired_permutation_test
from analysis.output.report import RationaleReport
from analysis.results.report import DocumentScores
from tests.analysis.sample_report import FAITHFUL, METRICS, full_report, make_example, make_report


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
        ({"schema_version": 1}, "schema version 1, this version of analysis reads 2; write the report again with"),
        ({"schema_version": 99}, "schema version 99, this version of analysis reads 2"),
        ({"schema": "other"}, "not a rationale report"),
        ({"layers": 7}, "a damaged rationale report"),
        ({"documents": [{"id": "x"}]}, "a damaged rationale report"),
        ({"examples": [{"id": "x", "tokens": ["a"]}]}, "a damaged rationale report"),
        ({"examples": None}, "a damaged rationale report"),
        ({"curves": {"cp": [[0.5]]}}, "a damaged rationale report"),
        ({"correlations": [[1.0]]}, "a damaged rationale report"),
    ],
)
def test_other_json_is_refused(report: RationaleReport, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(report.to_json()) | change))
    with pytest.raises(DataError, match=f"report.json: {message}"):
        RationaleReport.from_json(path)


def test_infinities_are_written_and_read(report: RationaleReport) -> None:
    values = report.values.copy()
    values[0, 0, 0, :2] = np.inf, -np.inf
    meta = report.meta | {"diagnostics": {"cp": {"gap": {"mean": 0.5, "max": float("inf")}}}}
    text = replace(report, values=values, meta=meta).to_json()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    back = RationaleReport.from_json(text)
    assert np.array_equal(back.values, values, equal_nan=True)
    assert back.meta == meta and back.to_json() == text


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("methods",), "cp", "methods: got 'cp', must be a list"),
        (("methods",), ["cp", "cp"], "methods: got .*, must be different texts"),
        (("layers",), "4", "layers: got '4', must be a whole number"),
        (("documents", 1, "tokens"), "many", r"documents\[1\].tokens: got 'many', must be a whole number"),
        (("documents", 1, "label"), None, r"documents\[1\].label: got None, must be a text"),
        (("documents", 1, "prediction"), 3, r"documents\[1\].prediction: got 3, must be a text or null"),
        (("documents", 1, "lengths"), [1], r"documents\[1\].lengths: shape \(1,\), must be \(4,\)"),
        (("documents", 1, "account"), [], r"documents\[1\].account: got \[\], must be a mapping"),
        (("documents", 1), 7, r"documents\[1\]: got 7, must be a mapping"),
        (("values", "cp", "fpr", 2, 0), "high", "values.cp.fpr: got 'high', must be a number or null"),
        (("values", "cp", "fpr", 2), [], r"values.cp.fpr: (rows of different lengths|shape)"),
        (("values", "cp"), {}, "values.cp.average_precision: is missing"),
        (("meta", "data"), "films", "meta.data: got 'films', must be a mapping"),
        (("meta", "density"), "a lot", "meta.density: got 'a lot', must be a number or null"),
        (("meta", "seed"), None, "meta.seed: got None, must be a whole number"),
        (("meta", "threshold_scale"), None, "meta.threshold_scale: got None, must be a number"),
        (("examples", 0, "tokens", 0), 1, r"examples\[0\].tokens: must be texts"),
        (("examples", 0, "scores", "cp", 0, 0), "x", r"examples\[0\].scores.cp: got 'x', must be a number"),
        (("curves", "cp"), 3, r"curves.cp: shape \(\), must be \(4, 101\)"),
        (("correlations",), [[1.0]], r"correlations: shape \(1, 1\), must be \(4, 7, 7\)"),
    ],
)
def test_a_damaged_report_is_one_line_that_names_the_field(place: tuple[Any, ...], value: Any, message: str) -> None:
    content = json.loads(full_report().to_json())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(DataError, match=rf"report: a damaged rationale report \({message}") as raised:
        RationaleReport.from_json(json.dumps(content))
    assert "\n" not in str(raised.value)


def test_json_nested_very_deep_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match="deep.json: not valid JSON"):
        RationaleReport.from_json(tmp_path / "deep.json")


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


def test_json_round_trip_of_everything_a_report_can_hold(tmp_path: Path) -> None:
    report = full_report()
    text = report.to_json(tmp_path / "deep" / "report.json")
    back = RationaleReport.from_json(tmp_path / "deep" / "report.json")
    assert back.to_json() == text
    assert np.array_equal(back.values, report.values, equal_nan=True)
    assert back.correlations is not None and report.correlations is not None
    assert np.array_equal(back.correlations, report.correlations, equal_nan=True)
    assert back.curves.keys() == report.curves.keys()
    assert all(np.array_equal(back.curves[method], report.curves[method]) for method in report.curves)
    assert back.curve_errors.keys() == report.curve_errors.keys() != set()
    assert all(np.array_equal(back.curve_errors[name], values) for name, values in report.curve_errors.items())
    for ours, theirs in zip(report.examples, back.examples, strict=True):
        assert (ours.id, ours.tokens, ours.prediction, ours.label) == (
            theirs.id,
            theirs.tokens,
            theirs.prediction,
            theirs.label,
        )
        assert np.array_equal(ours.words, theirs.words) and np.array_equal(ours.rationale, theirs.rationale)
        assert theirs.rationale.dtype == bool and theirs.scores["cp"].dtype == np.float32
        assert ours.scores.keys() == theirs.scores.keys()
        assert all(np.array_equal(ours.scores[method], theirs.scores[method]) for method in ours.scores)
    assert np.array_equal(report.examples[0].retention, back.examples[0].retention)  # type: ignore[arg-type]
    assert back.examples[1].retention is None


def test_a_float32_score_is_written_with_few_digits() -> None:
    example = DocumentScores("x", ("a", "b"), np.arange(2), np.zeros(2), {"cp": np.array([[0.1, 1 / 3]])})
    assert example.to_dict()["scores"]["cp"] == [[0.1, 0.33333334]]
    assert np.array_equal(DocumentScores.from_dict(example.to_dict()).scores["cp"], example.scores["cp"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": np.zeros(3)}, r"document d.c_0: words of shape \(3,\), must be \(10,\)"),
        ({"rationale": np.zeros(9)}, r"rationale of shape \(9,\), must be \(10,\)"),
        ({"scores": {"cp": np.zeros(10)}}, r"cp of shape \(10,\), must be \(layers, 10\)"),
        ({"retention": np.ones((4, 11))}, r"retention of shape \(4, 11\), must be \(layers, 10\)"),
    ],
)
def test_scores_of_a_document_must_fit_its_tokens(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(make_example(), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((5, 4, 5, 3))}, r"values: shape \(5, 4, 5, 3\), must be \(5, 4, 5, 10\)"),
        ({"curves": {"cp": np.zeros((4, 7))}}, r"curves: 'cp' of shape \(4, 7\), must be .* \(4, 101\)"),
        ({"curves": {"other": np.zeros((4, 101))}}, "curves: 'other' .* must be one of attention"),
        ({"correlations": np.zeros((4, 3, 3))}, r"correlations: shape \(4, 3, 3\), must be \(4, 5, 5\)"),
    ],
)
def test_arrays_of_a_report_must_fit(report: RationaleReport, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(report, **change)


def test_a_method_at_the_input_has_one_cell_a_metric() -> None:
    summary = full_report().summary()
    rows = summary[summary["method"] == "human"]
    assert set(rows["layer"]) == {0} and len(rows) == len(METRICS) + len(FAITHFUL)
    assert (rows["n"] == 4).all()


def test_comparisons_are_paired_tests_of_the_reference_with_each_method() -> None:
    report = full_report()
    frame = report.comparisons("cp", "tpr").set_index(["method", "layer"])
    assert len(frame) == 6 * 4
    column = report.metrics.index("tpr")
    ours, theirs = report.values[2, 3, :, column], report.values[1, 3, :, column]
    row = frame.loc[("saliency", 3)]
    assert row["n"] == 4 and row["difference"] == pytest.approx(np.nanmean(ours - theirs))
    assert row["p"] == pytest.approx(float(paired_permutation_test(ours, theirs, seed=0)))
    # a method at the input stands against every layer of the reference
    lime = report.values[report.methods.index("lime(n_samples=8)"), 0, :, column]
    for layer in range(4):
        expected = np.nanmean(report.values[2, layer, :, column] - lime)
        assert frame.loc[("lime(n_samples=8)", layer), "difference"] == pytest.approx(expected)
    frame.loc[:, "p"] = -1.0
    assert (report.comparisons("cp", "tpr")["p"] >= 0).all(), "what the caller changes stays the caller's"


def test_a_reference_at_the_input_is_compared_once_with_another_one() -> None:
    frame = full_report().comparisons("human", "tpr")
    tested = frame[frame["n"] > 0]
    assert tested.loc[tested["method"] == "lime(n_samples=8)", "layer"].tolist() == [0]
    assert tested.loc[tested["method"] == "cp", "layer"].tolist() == [0, 1, 2, 3]


def test_won_follows_the_direction_of_the_metric(report: RationaleReport) -> None:
    values = report.values.copy()
    values[2, ..., METRICS.index("fpr")] = 0.0  # cp has the lowest FPR everywhere
    frame = replace(report, values=values).comparisons("cp", "fpr")
    assert (frame["difference"] < 0).all() and (frame["won"] == 1).all()


def test_comparisons_of_unknown_names(report: RationaleReport) -> None:
    with pytest.raises(ArgumentError, match="reference 'lime' is not in the report, which has attention, saliency"):
        report.comparisons("lime", "tpr")
    with pytest.raises(ArgumentError, match="metric 'auc' is not in the report, which has average_precision"):
        report.comparisons("cp", "auc")


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
        "report.html",
        *(f"figures/{kind}.{suffix}" for kind in ("agreement", "lengths") for suffix in ("pdf", "png", "svg")),
    }
    assert all(path.stat().st_size for path in paths) and (tmp_path / "notes.txt").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"notes.txt", "figures", *(n for n in names if "/" not in n)}


def test_a_report_of_skipped_documents_only_still_prints(report: RationaleReport, tmp_path: Path) -> None:
    meta = report.meta | {"density": None, "chance_average_precision": None}
    empty = replace(report, values=np.full_like(report.values, np.nan), meta=meta)
    assert (empty.summary()["n"] == 0).all() and empty.to_frame().empty
    assert "--" in empty.to_latex() and "| - |" in empty.to_markdown()
    assert (empty.comparisons()["n"] == 0).all()
    empty.save(tmp_path / "out")
