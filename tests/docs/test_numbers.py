"""The numbers of the pages are those of the committed records.

A comment `<!-- from: FILE ... -->` (paths from the repository's root) stands before a table or a paragraph: every
number with a decimal point in that block is, to the digits printed, a value of one of these files, or 100 times it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "results").rglob("README.md"))]
FROM = re.compile(r"<!-- from: ([^>]*) -->\n(.+?)(?=\n\n|\Z)", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d*\.\d+(?![\w.]*\d)")
# Every table of results on these pages names its record.
ALL_TABLES = ("README.md", "docs/results.md")


def leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        yield from (leaf for one in value.values() for leaf in leaves(one))
    elif isinstance(value, list):
        yield from (leaf for one in value for leaf in leaves(one))
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield float(value)


@cache
def values(name: str) -> np.ndarray:
    """All numbers of a record, and 100 times each."""
    path = ROOT / name
    if path.suffix == ".json":
        found = np.array(list(leaves(json.loads(path.read_text(encoding="utf-8")))))
    else:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        found = table.select_dtypes("number").to_numpy(dtype=float).ravel()
    found = found[np.isfinite(found)]
    return np.concatenate([found, 100 * found])


def blocks() -> list[tuple[str, str, str]]:
    return [
        (str(page.relative_to(ROOT)), *match.groups())
        for page in PAGES
        for match in FROM.finditer(page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("page", "files", "text"), blocks(), ids=lambda value: value[:40])
def test_numbers_are_those_of_the_records(page: str, files: str, text: str) -> None:
    known = np.concatenate([values(name) for name in files.split()])
    for written in NUMBER.findall(text):
        digits = len(written.split(".")[1])
        off = np.abs(known - float(written)).min()
        assert off <= 0.5 * 10**-digits + 1e-9, f"{page}: {written} is in none of {files}"


@pytest.mark.parametrize("name", ALL_TABLES)
def test_tables_of_results_name_their_record(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        if NUMBER.search(table):
            before = text[: text.index(table)].rstrip("\n").rsplit("\n", 1)[-1]
            assert before.startswith("<!-- from:"), f"{name}: {table.splitlines()[0]} has no record"
