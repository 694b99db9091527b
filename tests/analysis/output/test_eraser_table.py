"""ERASER's own scores in the terminal and in Markdown, and what must be known to read the numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from analysis.command.console import header
from analysis.output import markup, tables
from analysis.output.eraser_table import eraser_cells, plain_eraser
from tests.analysis.sample_report import full_report


def layer(value: float) -> dict[str, Any]:
    return {
        "iou_scores": [{"threshold": 0.5, "macro": {"f1": value}}],
        "token_prf": {"instance_macro": {"f1": value + 0.1}},
        "token_soft_metrics": {"auprc": value + 0.2, "average_precision": None, "roc_auc_score": 0.5},
    }


def test_scores_of_eraser_stand_in_every_text() -> None:
    report = full_report()
    assert plain_eraser(report) == "" and "ERASER" not in markup.markdown(report)
    hard_only = {name: part for name, part in layer(0.3).items() if name != "token_soft_metrics"}
    scores = {"cp": [layer(0.1 * i) for i in range(4)], "human": [hard_only]}
    report = replace(report, meta=report.meta | {"eraser_scores": scores})
    found = eraser_cells(report)
    np.testing.assert_allclose(found["IOU F1 (macro)"]["cp"], [0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(found["AUPRC"]["cp"], [0.2, 0.3, 0.4, 0.5])
    assert np.isnan(found["AUPRC"]["human"]).all() and np.isnan(found["Average precision"]["cp"]).all()
    text = plain_eraser(report)
    assert "own scores, over all annotated documents, also those without a rationale in view: IOU F1 (macro)" in text
    assert [line.split() for line in text.splitlines()][2] == ["cp", ".000", ".100", ".200", ".300"]
    assert "  .400  at the input" in text
    assert "| cp | .000 | .100 | .200 | .300 |" in markup.markdown(report)
    assert "| human | .300 (input) |  |  |  |" in markup.markdown(report)
    assert r"AdapLeR CP & $.000$ & $.100$ & $.200$ & $.300$ \\" in markup.latex(report)
    assert "in view: IOU F1 (macro)}" in markup.latex(report) and "own scores" not in markup.latex(report, ["fpr"])
    page = report.to_html()
    assert (
        "<caption>ERASER&#x27;s own scores, over all annotated documents, also those without a rationale in view: AUPRC"
        in page
    )
    assert "<td>.200</td><td>.300</td><td>.400</td><td>.500</td>" in page
    assert "iou_scores" not in page, "the tables say it"


def test_remarks_and_diagnostics_are_printed() -> None:
    report = full_report()
    truncation = {"words_lost": 0, "words": 9, "rationale_words_lost": 0, "rationale_words": 3}
    diagnostics = {"lime": {"stability": {"mean": 0.7, "min": -0.2, "max": 0.9}}, "old": {"gap": {"mean": 0, "max": 1}}}
    notes = ["accuracy is of windows chosen by the gold rationale: no accuracy of documents"]
    report = replace(report, meta=report.meta | {"truncation": truncation, "diagnostics": diagnostics, "notes": notes})
    printed = header(report).splitlines()
    assert f"note       {notes[0]}" in printed
    assert "check      lime: stability 0.7 on average, -0.2 at least, 0.9 at most" in printed
    assert "check      old: gap 0 on average, 1 at most" in printed
    assert tables.note(report).endswith(f" A{notes[0][1:]}.") and notes[0][1:] in markup.latex(report)
