"""The generator of the site's pages, docs/hooks.py, as a module."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.test_layering import ROOT


@pytest.fixture(scope="session")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
