"""A report: its means and tests, its tables in every format, its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapler.errors import ArgumentError, DataError
from analysis.report import COLUMNS, RationaleReport, bootstrap_intervals, paired_permutation_test
from tests.analysis.sample_report import FAITHFUL, METRICS, full_report, make_report, report_of


@pytest.fixture(scope="module")
def report() -> RationaleReport:
    return make_report()


def test_what_is_saved_is_read_again_without_loss(tmp_path: Path) -> None:
    report = full_report()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.html").write_text("another report's")
    paths = report.save(tmp_path, draw=False)
    names = {"report.json", "layers.csv", "documents.parquet", "table.tex", "table.md"}
    assert {path.name for path in paths} == names
    assert {path.name for path in tmp_path.iterdir()} == names | {"notes.txt"}
    for source in (tmp_path, tmp_path / "report.json"):
        back = RationaleReport.load(source)
        pd.testing.assert_frame_equal(back.frame, report.frame, check_exact=True)
        assert back.to_json() == report.to_json()
    assert back.correlations is not None and np.isnan(back.correlations[1, -1, -1])
    assert np.array_equal(back.correlations, report.correlations, equal_nan=True)
    assert all(np.array_equal(back.curves[name], curve) for name, curve in report.curves.items())
    assert np.array_equal(back.examples[0].retention, report.examples[0].retention)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="report.json: no report of analysis.rationale_eval"):
        RationaleReport.load(tmp_path)
    make_report().save(tmp_path, draw=False)
    content = json.loads((tmp_path / "report.json").read_text())
    for change, message in (({"schema_version": 2}, "schema version 2"), ({"schema": "x"}, "schema")):
        (tmp_path / "report.json").write_text(json.dumps(content | change))
        with pytest.raises(DataError, match=message):
            RationaleReport.load(tmp_path)
    (tmp_path / "report.json").write_text('{"schema": "adap')
    with pytest.raises(DataError, match="no report"):
        RationaleReport.load(tmp_path)


def test_the_frame_is_tidy_and_the_summary_counts(report: RationaleReport, tmp_path: Path) -> None:
    frame = report.to_frame()
    assert list(frame.columns) == list(COLUMNS) and not frame.isna().any().any()
    assert len(frame) == 5 * 4 * 4 * 10 - 1
    summary = report.summary()
    summary["n"] = -1  # the caller's own
    cells = report.summary().set_index(["method", "layer", "metric"])
    assert cells.loc[("attention", 0, "average_precision"), ["n", "skipped"]].tolist() == [3, 2]
    assert cells.loc[("attention", 1, "average_precision"), ["n", "skipped"]].tolist() == [4, 1]
    found = bootstrap_intervals(report.values[2, 3, :, METRICS.index("tpr")], seed=0)
    row = cells.loc[("cp", 3, "tpr")]
    assert (row["mean"], row["low"], row["high"]) == (found.mean, found.low, found.high)
    lines = report.to_csv(tmp_path / "layers.csv").splitlines()
    assert lines[0] == "method,layer,metric,mean,low,high,n,skipped" and len(lines) == 1 + 5 * 4 * 10
    assert set(full_report().summary().query("method == 'human'")["layer"]) == {0}


def test_a_document_s_value_is_the_mean_over_its_units(report: RationaleReport) -> None:
    frame = report.frame.copy()
    twice = pd.concat([frame, frame.assign(unit=1, value=frame["value"] + 1)])
    np.testing.assert_allclose(RationaleReport(twice, report.meta).values, report.values + 0.5)


def test_comparisons_are_paired_tests_of_the_reference_with_each_method() -> None:
    report = full_report()
    frame = report.comparisons("cp", "tpr").set_index(["method", "layer"])
    column = report.metrics.index("tpr")
    ours, theirs = report.values[2, 3, :, column], report.values[1, 3, :, column]
    row = frame.loc[("saliency", 3)]
    assert len(frame) == 6 * 4 and row["n"] == 4 and row["difference"] == pytest.approx(np.nanmean(ours - theirs))
    assert row["p"] == pytest.approx(float(paired_permutation_test(ours, theirs, seed=0)))
    lime = report.values[report.methods.index("lime(n_samples=8)"), 0, :, column]
    for layer in range(4):  # a method at the input stands against every layer of the reference
        expected = np.nanmean(report.values[2, layer, :, column] - lime)
        assert frame.loc[("lime(n_samples=8)", layer), "difference"] == pytest.approx(expected)
    with pytest.raises(ArgumentError, match="reference 'lime' is not in the report, which has attention, saliency"):
        report.comparisons("lime", "tpr")


def differing() -> RationaleReport:
    """Ten documents: `cp` has the same value as `attention` but for layer 1, where it is far above."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.random((1, 1, 10, 1)), 2, axis=0).repeat(2, axis=1)  # (methods, layers, documents, 1)
    values[1, 1] += 1 + rng.random((10, 1))
    documents = [{"id": str(i), "skipped": None, "lengths": None} for i in range(10)]
    named = {"methods": ["attention", "cp"], "metrics": ["average_precision"], "documents": documents}
    return report_of(values, make_report().meta | named)


def test_best_and_differing_cells_are_marked() -> None:
    report = differing()
    table = report.table("average_precision")
    assert table.best is not None and table.best.tolist() == [[True, False], [True, True]]
    assert table.differs is not None and table.differs.tolist() == [[False, True], [False, False]]
    row = report.to_markdown().split("| attention |")[1].splitlines()[0]
    assert row.startswith(" **") and row.rstrip().endswith(r"\* |")
    latex = report.to_latex()
    assert latex.count(r"\mathbf") == 3 and latex.count(r"\rlap{$^*$}") == 1
    cells = next(line for line in report.text().splitlines()[::-1] if line.startswith("  attention"))
    assert cells.split()[1].rstrip("*") == ".000" and cells.endswith("*")
    assert "p < .05, paired permutation test" in " ".join(report.text().split())
    assert not make_report().table("fpr").best.any(), "a method that selects nothing has a perfect FPR"  # type: ignore[union-attr]


def test_tables_hold_the_means_in_every_format() -> None:
    report = full_report()
    mean = report.summary().query("method == 'cp' and layer == 2 and metric == 'average_precision'")["mean"].item()
    shown = f"{mean:.3f}".lstrip("0")
    for text in (report.text(), report.to_markdown(), report.to_latex(), report.to_html(), report._repr_html_()):
        assert shown in text
    assert "Agreement with human rationales by layer (0 = first): films_100%, test, 4 documents (1 skipped)" in (
        report.to_markdown()
    )
    latex = report.to_latex(metrics="tpr")
    assert latex.count(r"\begin{table*}") == 1 and r"my\_own\_100\%" in latex and "AdapLeR CP" in latex
    assert r"\toprule" in latex and r"\small" in latex and "(input)" in latex
    text = report.text().split("J = ")[0]
    assert "chance" in text and "lime(n_samples=8) (input)" in text and max(map(len, text.splitlines())) <= 100
    assert max(map(len, full_report(24).text().splitlines())) <= 110, "many layers are folded"
    with pytest.raises(ArgumentError, match="metric 'auc' is not in the report"):
        report.to_latex(metrics=["auc"])


def test_main_metrics_show_both_levels_only_where_tokens_are_dropped() -> None:
    report = full_report()
    rates = ("fpr", "tpr", "j")
    assert report.main_metrics() == ("average_precision", *rates, *(f"{rate}_present" for rate in rates))
    values = report.values.copy()
    for rate in rates:
        values[..., report.metrics.index(f"{rate}_present")] = values[..., report.metrics.index(rate)]
    assert report_of(values, report.meta).main_metrics() == ("average_precision", *rates)
    bins = report_of(values[..., -len(FAITHFUL) :], report.meta | {"metrics": list(FAITHFUL)})
    assert bins.main_metrics() == FAITHFUL, "where there is nothing else"


def test_the_scorer_s_own_numbers_stand_in_tables_of_their_own() -> None:
    layer: dict[str, Any] = {
        "iou_scores": [{"macro": {"f1": 0.123}}],
        "token_prf": {"instance_macro": {"f1": 0.456}},
        "token_soft_metrics": {"auprc": None, "average_precision": 0.789},
    }
    plain = full_report()
    scores = {"cp": [layer] * 4, "human": [layer]}
    report = RationaleReport(plain.frame, plain.meta | {"eraser_scores": scores})
    for text in (report.text(), report.to_markdown(), report.to_latex(), report.to_html()):
        assert all(value in text for value in (".123", ".456", ".789")) and "IOU F1 (macro)" in text
    table = report.tables()[-3]
    assert table.title.endswith("AUPRC") and np.isnan(table.mean).all()


def test_a_note_says_what_must_be_known(report: RationaleReport) -> None:
    meta = report.meta | {"dtype": "bfloat16", "threshold_scale": 1.5, "missing": {"cp": 2}, "notes": ["few texts"]}
    note = RationaleReport(report.frame, meta).note()
    for said in ("computed in bfloat16", "AdapLeR at threshold scale 1.5", "AdapLeR CP has nothing for 2 of 5", "Few"):
        assert said in note
    assert repr(report).startswith("<RationaleReport: films_100% test, 4 documents scored, 1 skipped, 4 layers")


def test_a_screen_has_two_rankings_side_by_side_and_one_selection() -> None:
    plain = make_report()
    both = np.concatenate([plain.values[..., :1], plain.values], axis=-1)  # ROC-AUC beside average precision
    report = report_of(both, plain.meta | {"metrics": ["roc_auc", *METRICS]})
    lines = report.screen().splitlines()
    assert lines[0].split() == ["Average", "precision", "ROC-AUC"] and lines[1].split() == ["0", "1", "2", "3"] * 2
    cp = next(line for line in lines if line.startswith("  cp ")).split()
    assert len(cp) == 9 and cp[1:5] == cp[5:]
    assert lines[9].startswith("J = TPR - FPR (selected at 1/n, n = tokens present") and len(lines) == 16
    assert make_report(12).screen().splitlines()[0] == "Average precision", "below each other where they are wide"
