"""What is marked in tables and pages: the best, and what differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.output import tables
from analysis.output.report import RationaleReport
from tests.analysis.output.test_tables import clear_cut
from tests.analysis.sample_report import METHODS, make_report


def unadjusted(monkeypatch: pytest.MonkeyPatch) -> RationaleReport:
    """p is below .05 everywhere, and above it after Holm."""
    own = RationaleReport.comparisons
    monkeypatch.setattr(
        RationaleReport, "comparisons", lambda self, *args, **more: own(self, *args, **more).assign(p=0.01, p_holm=0.2)
    )
    return make_report()


def test_what_differs_does_so_after_holm(monkeypatch: pytest.MonkeyPatch) -> None:
    report = unadjusted(monkeypatch)
    assert not any(any(row.differs) for row in tables.rows(report, "average_precision"))


def test_the_pages_stars_are_after_holm(monkeypatch: pytest.MonkeyPatch) -> None:
    page = unadjusted(monkeypatch).to_html()
    assert "<sup>*</sup>" not in page and page.count(">.010<") > 10


@pytest.mark.parametrize("metric", ["fpr", "tpr_present", "precision"])
def test_half_a_metric_has_no_best(metric: str) -> None:
    report = make_report()
    one = replace(report, metrics=(metric,), values=report.values[..., :1])
    assert not any(any(row.best) for row in tables.rows(one, metric))


def test_random_with_options_is_never_the_best() -> None:
    report = clear_cut()
    names = tuple("random(seed=1)" if name == "random" else name for name in METHODS)
    values = report.values.copy()
    values[METHODS.index("random")] = 0.9
    rows = {row.method: row for row in tables.rows(replace(report, methods=names, values=values), "average_precision")}
    assert not any(rows["random(seed=1)"].best) and any(any(row.best) for row in rows.values())
