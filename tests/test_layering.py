"""The packages depend on each other in one direction only, and some things occur in none of them."""

from __future__ import annotations

import ast
import sys
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


# The rooms, from the ground up. A file imports from rooms that stand before its own, and from its own.
ROOMS = (
    "adapler/errors.py",
    "adapler/plugins.py",
    "adapler/registry.py",
    "adapler/files.py",
    "adapler/distributed.py",
    "adapler/outputs.py",
    "adapler/precision.py",
    "adapler/long_texts.py",
    "adapler/data",
    "adapler/backbones",
    "adapler/budgets",
    "adapler/model/contribution.py",
    "adapler/model/predictors",
    "adapler/policies",
    "adapler/model",
    "adapler/contribution.py",
    "adapler/flops.py",
    "adapler/__init__.py",
    "adapler/inference",
    "adapler/onnx",
    "adapler/training",
    "adapler/training/trainer",
    "adapler/training/policies",
    "adapler/training/stages",
    "adapler/card",
    "adapler/bulk",
    "adapler/cli",
    "adapler/__main__.py",
    "analysis/metrics",
    "analysis/scores",
    "analysis/documents",
    "analysis/loading.py",
    "analysis/results",
    "analysis/evaluation",
    "analysis/figures",
    "analysis/output",
    "analysis/explanation",
    "analysis/explain.py",
    "analysis/studies",
    "analysis/command",
    "analysis/rationale_eval.py",
    "analysis/__init__.py",
    "app/__init__.py",
    "app/sources",
    "app/model",
    "app/server",
    "app/markup",
    "app/work",
    "app/panels",
    "app/views",
    "app/gallery.py",
    "app/main.py",
)
MOST_FILES = 12  # directly in a folder


def room(path: Path) -> str:
    """The room of a file: the longest name in ROOMS that the file is, or lies in."""
    name = path.relative_to(ROOT).as_posix()
    found = [one for one in ROOMS if name == one or name.startswith(one + "/")]
    assert found, f"{name} is in none of the rooms of test_layering.ROOMS"
    return max(found, key=len)


def file_of(name: str) -> Path | None:
    """The file that an import names; None for what is not ours, or is no module."""
    stem = ROOT.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_rooms(path: Path) -> None:
    """Imports for type checkers count, and imports inside functions."""
    mine = room(path)
    for name in imports(path):
        target = file_of(name)
        if target is None or target.name == "__init__.py" and target.parent in path.parents:
            continue
        theirs = room(target)
        back = ROOMS.index(theirs) > ROOMS.index(mine)
        assert not back, f"{identify(path)} (room {mine}) imports {name} (room {theirs}), which stands above it"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "adapler/data"], ids=identify)
def test_data_stands_on_its_own(path: Path) -> None:
    allowed = ("adapler.data", "adapler.errors", "adapler.files", "adapler.long_texts")  # these need no torch
    wrong = [n for n in imports(path) if inside(n, "adapler") and not any(inside(n, ok) for ok in allowed)]
    assert wrong == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also within a room; package markers are left out, they only gather names."""
    arrows = {
        path: {t for n in imports(path) if (t := file_of(n)) not in (None, path) and t.name != "__init__.py"}
        for path in FILES
        if path.name != "__init__.py"
    }
    open_, done = [], set()

    def visit(path: Path) -> None:
        assert path not in open_, "circle: " + " -> ".join(map(identify, [*open_[open_.index(path) :], path]))
        if path in done:
            return
        open_.append(path)
        for target in sorted(arrows.get(path, ())):
            visit(target)
        done.add(open_.pop())

    for path in arrows:
        visit(path)


def test_a_folder_holds_a_dozen_files_at_most() -> None:
    folders = {path.parent for path in FILES}
    crowded = {identify(f): n for f in folders if (n := len([p for p in f.iterdir() if p.is_file()])) > MOST_FILES}
    assert crowded == {}


def test_no_part_of_the_app_is_called_as_a_module_of_python() -> None:
    """`streamlit run` puts app/ itself on the path: a folder app/html there hides `import html`."""
    names = {path.relative_to(ROOT / "app").parts[0].removesuffix(".py") for path in FILES if path.parts[-2] != "app"
             and path.is_relative_to(ROOT / "app")}  # fmt: skip
    assert not names & sys.stdlib_module_names


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
