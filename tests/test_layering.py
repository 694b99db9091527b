"""The packages depend on each other in one direction only, and some things occur in none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for package in ("adapler", "analysis", "app") for p in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, anywhere in it: `from a import b` gives a and a.b."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]) if node.level else ""
            module = base.rstrip(".") or node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_packages_are_found() -> None:
    assert {p.relative_to(ROOT).parts[0] for p in FILES} >= {"adapler", "analysis"} and len(FILES) > 30


def test_imports_are_read_as_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_layering.ROOT", tmp_path)
    path = tmp_path / "adapler" / "data" / "x.py"
    path.parent.mkdir(parents=True)
    lines = [
        "import os.path",
        "from ..modeling import A",
        "from . import eraser",
        "def f():",
        "    from analysis import b",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert set(imports(path)) == {
        "os.path",
        "adapler.modeling",
        "adapler.modeling.A",
        "adapler.data",
        "adapler.data.eraser",
        "analysis",
        "analysis.b",
    }


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_layers(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    above = {"adapler": ("analysis", "app"), "analysis": ("app",), "app": ()}[package]
    wrong = [name for name in imports(path) if any(inside(name, upper) for upper in above)]
    assert wrong == []


@pytest.mark.parametrize("path", [p for p in FILES if "data" in p.parts], ids=identify)
def test_data_stands_on_its_own(path: Path) -> None:
    allowed = ("adapler.data", "adapler.errors", "adapler.files")
    wrong = [n for n in imports(path) if inside(n, "adapler") and not any(inside(n, ok) for ok in allowed)]
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_no_assert_and_no_pickle(path: Path) -> None:
    """assert vanishes under python -O; pickle (and torch.load) runs what a file tells it to."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    loads = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load")
        or (isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False")
    ]
    pickles = [n for n in imports(path) if n.split(".")[0] in ("pickle", "joblib", "dill", "cloudpickle")]
    assert (asserts, loads, pickles) == ([], [], [])
