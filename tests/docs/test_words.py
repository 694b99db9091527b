"""A page is short enough to be read: at most 900 words, notebooks of results 1,500, the documentation 12,000 in all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
NOTEBOOKS = sorted((ROOT / "results").rglob("README.md"))


def words(path: Path) -> int:
    """Words of a page without its blocks of code and its comments."""
    text = re.sub(r"^ *```.*?^ *```$|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE))
    return len(re.findall(r"[\w.,%'’/-]*[A-Za-z0-9][\w.,%'’/-]*", text))


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS], ids=lambda path: path.name)
def test_pages(path: Path) -> None:
    assert words(path) <= 900


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.parent.name)
def test_notebooks(path: Path) -> None:
    assert words(path) <= 1500


def test_all_of_docs() -> None:
    assert sum(words(path) for path in DOCS) <= 12_000
