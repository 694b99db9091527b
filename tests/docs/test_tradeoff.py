"""The tables of the pages on the trade-off are those that the benchmark wrote."""

from __future__ import annotations

import pytest

from tests.test_layering import ROOT

RESULTS = ROOT / "results" / "tradeoff"
FIRST = "| system | "  # the pages' heading where table.md has a longer one


def lines_of(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]


PAGES = {
    "README.md": ("| task | classifier |", 20),
    "docs/results.md": ("| system | SST-2", 14),
    "results/tradeoff/README.md": ("", 80),
}


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_the_benchmark_s(page: str) -> None:
    start, least = PAGES[page]
    written = (RESULTS / "table.md").read_text(encoding="utf-8").splitlines()
    known = {line.replace("| where a speedup is asked for | ", FIRST) for line in written}
    lines = lines_of(page)
    if start:  # the page has other tables, too
        first = next(place for place, line in enumerate(lines) if line.startswith(start))
        lines = lines[first : first + least]
    assert len(lines) >= least
    assert [line for line in lines if line not in known] == []
