"""What is drawn: a full report, and a table of trade-offs."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.output.report import RationaleReport
from tests.analysis.figures.drawn import TRADEOFF
from tests.analysis.sample_report import full_report


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "tradeoff.csv"
    path.write_text(TRADEOFF)
    return path


@pytest.fixture
def report() -> RationaleReport:
    return full_report()
