"""The table of what helps together is what its records hold."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.docs.test_published_numbers import RESULTS, SPEEDS, at_speeds, cells, row_of


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_table_of_what_helps_together(split: str) -> None:
    page = (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in page.splitlines() if line.startswith(f"| {split}, together |")]
    values = at_speeds("combined.csv", "combined", split, speeds=SPEEDS)
    assert cells(line)[1:] == row_of(len(values), values)


def test_every_seed_has_both_splits() -> None:
    table = pd.read_csv(RESULTS / "predictors" / "combined.csv")
    assert table.groupby(["seed", "split"]).size().nunique() == 1
