"""Every example in a docstring gives what it says."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from tests.test_layering import ROOT

PACKAGES = ("adapler", "analysis", "app")
NEEDS_A_MODEL = ("analysis.explanation",)  # see tests/analysis/test_explain.py
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", [name for name in MODULES if name not in NEEDS_A_MODEL])
def test_examples(name: str) -> None:
    assert doctest.testmod(import_module(name), raise_on_error=True).attempted > 0


def test_the_examples_are_found() -> None:
    assert len(MODULES) > 5 and set(NEEDS_A_MODEL) <= set(MODULES)
