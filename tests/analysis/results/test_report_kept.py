"""What a report keeps: its seed, and which metrics it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapler.errors import ArgumentError
from analysis.output.report import RationaleReport
from tests.analysis.sample_report import make_report


def test_intervals_are_drawn_with_the_reports_seed() -> None:
    report = make_report()
    other = replace(report, meta=report.meta | {"seed": 7})
    ours, theirs = report.summary(), other.summary()
    assert ours["mean"].equals(theirs["mean"])
    assert not ours["low"].equals(theirs["low"]), "r1"


def test_comparisons_are_drawn_with_the_reports_seed() -> None:
    report = make_report()
    other = replace(report, meta=report.meta | {"seed": 7})
    one, two = report.comparisons("cp", "fpr"), other.comparisons("cp", "fpr")
    assert one["difference"].equals(two["difference"]) and not one["low"].equals(two["low"])


def test_the_seed_comes_back_from_parquet(tmp_path: Path) -> None:
    report = make_report()
    other = replace(report, meta=report.meta | {"seed": 7})
    other.to_parquet(tmp_path / "documents.parquet")
    back = RationaleReport.from_parquet(tmp_path / "documents.parquet")
    assert back.meta["seed"] == 7 and back.summary().equals(other.summary())


def test_a_metric_of_present_tokens_is_repeated_only_where_all_of_them_are() -> None:
    report = make_report()
    values = report.values.copy()
    values[..., report.metrics.index("fpr_present")] = values[..., report.metrics.index("fpr")]
    assert not replace(report, values=values).is_repeated("fpr_present"), "TPR tells that tokens were dropped"


def test_reports_of_other_tokens_are_not_merged() -> None:
    report = make_report()
    cut = (replace(report.documents[0], rationale_tokens=2), *report.documents[1:])
    with pytest.raises(ArgumentError, match="has other tokens"):
        RationaleReport.merge([report, replace(report, documents=cut)])
