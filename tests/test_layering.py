"""Imports go one way, data -> model -> analysis -> app, and never in a circle; nothing asserts or unpickles."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("adapler", "analysis", "app")  # a package imports from those before it, and from itself
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports when it runs, anywhere in it: `from a import b` gives a and a.b."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unused = {id(inner) for node in typing for inner in ast.walk(node)}
    for node in (one for one in ast.walk(tree) if id(one) not in unused):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]) if node.level else ""
            module = base.rstrip(".") or node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def file_of(name: str) -> Path | None:
    """The file that an import names; None for what is not ours, or is no module."""
    stem = ROOT.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def test_no_package_imports_from_one_above_it() -> None:
    assert len(FILES) > 30
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        for name in imports(path)
        if name.split(".")[0] in PACKAGES[PACKAGES.index(path.relative_to(ROOT).parts[0]) + 1 :]
    ]
    assert wrong == []


def test_no_module_imports_itself_in_a_circle() -> None:
    arrows = {
        path: {t for n in imports(path) if (t := file_of(n)) not in (None, path) and t.name != "__init__.py"}
        for path in FILES
        if path.name != "__init__.py"
    }
    open_, done = [], set()

    def visit(path: Path) -> None:
        assert path not in open_, "circle: " + " -> ".join(str(p) for p in [*open_[open_.index(path) :], path])
        if path in done:
            return
        open_.append(path)
        for target in sorted(arrows.get(path, ())):
            visit(target)
        done.add(open_.pop())

    for path in arrows:
        visit(path)


def test_no_part_of_the_app_is_called_as_a_module_of_python() -> None:
    """`streamlit run` puts app/ itself on the path: a folder app/html there hides `import html`."""
    names = {path.name.removesuffix(".py") for path in (ROOT / "app").iterdir()}
    assert not names & sys.stdlib_module_names


def test_no_assert_and_no_pickle() -> None:
    """assert vanishes under python -O; pickle (and torch.load) runs what a file tells it to."""
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            loads = isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load"
            allows = isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
            if isinstance(node, ast.Assert) or loads or allows:
                wrong.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}")
        wrong += [f"{path}: {n}" for n in imports(path) if n.split(".")[0] in ("pickle", "joblib", "dill")]
    assert wrong == []
