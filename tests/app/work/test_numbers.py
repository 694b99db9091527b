"""Numbers of reports, surveys and the trade-off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.server import state
from app.work import reports, surveys, tradeoff


def test_f1_has_no_interval_of_a_share() -> None:
    row = {"score": 0.8, "agreement": 0.9, "documents": 100, "metric": "f1"}
    assert set(tradeoff._intervals(row)) == {"agreement_low", "agreement_high"}, "F1 is no share of documents"
    assert set(tradeoff._intervals({**row, "metric": "accuracy"})) > {"low", "high"}


def test_other_documents_are_another_survey(app_model: Any) -> None:
    checkpoint = SimpleNamespace(key="k")
    corpora = [SimpleNamespace(checksum=one, splits={"test": ()}) for one in ("one", "two")]
    found = [surveys.find(checkpoint, one, title="films", split="test", scale=1.0) for one in corpora]  # type: ignore[arg-type]
    assert found[0] is not found[1], "the folder holds other documents since"


def test_a_method_of_the_input_stands_at_every_layer(app_reports: Path) -> None:
    report = reports.find_report(reports.list_reports([app_reports]), "films")
    values = report.values.copy()
    at = report.methods.index("saliency")
    values[at, 1:] = np.nan
    meta = {**report.meta, "layerwise": {**report.meta["layerwise"], "saliency": False}}
    options: dict[str, Any] = {"metric": "average_precision", "method": "cp", "other": "saliency", "order": state.BEST}
    table = reports.document_table(replace(report, values=values, meta=meta), layer=1, **options)
    first = report.values[at, 0, :, report.metrics.index("average_precision")]
    shown = dict(zip(table["document"], table[report.title("saliency")], strict=True))
    assert shown == {
        one.id: pytest.approx(value) for one, value in zip(report.documents, first, strict=True) if one.id in shown
    }
