"""CHANGELOG.md has an entry of this version and fits a page."""

from __future__ import annotations

import re
from pathlib import Path

import adapler

TEXT = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")


def test_this_version_has_a_dated_entry() -> None:
    heads = dict(re.findall(r"^## \[(\d[^\]]*)\] - (\d{4}-\d{2}-\d{2})$", TEXT, re.MULTILINE))
    assert adapler.__version__ in heads


def test_it_fits_a_page() -> None:
    assert len(TEXT.split()) <= 600
