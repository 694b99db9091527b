"""The blocks of docs/tutorial.md run as they stand and print what stands below them.

`python -m tests.analysis.test_notebook_flows` writes what they print into the page.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest

from adapler.errors import AdapLeRError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<shown>.*?)```", re.DOTALL)
MOST_LINES = 5
NUMBER = re.compile(r"-?\d*\.\d+|-?\d+")
TOLERANCE = 2e-3  # of numbers with a point: the last shown digit may differ between machines
FLOWS = ("explain one sentence", "table", "metrics", "figure", "own method", "saved scores")


@dataclass(frozen=True)
class Flow:
    code: str
    shown: str

    @property
    def lines(self) -> int:
        return sum(bool(line.strip()) for line in self.code.splitlines())


def flows() -> list[Flow]:
    return [Flow(match["code"], match["shown"].rstrip("\n")) for match in BLOCK.finditer(PAGE.read_text("utf-8"))]


def printed(blocks: list[Flow], folder: Path) -> Iterator[str]:
    """What each block shows in a notebook whose cells are run one after the other, as text.

    The working directory is a folder of its own with the repository's data and checkpoints in it.
    """
    for linked in ("checkpoints", "data"):
        (folder / linked).symlink_to(ROOT / linked)
    names: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        with pd.option_context("display.width", 120, "display.max_columns", 20), matplotlib.rc_context():
            for flow in blocks:
                try:
                    yield run_cell(flow.code, names)
                except AdapLeRError as error:
                    yield f"error: {error}"
    finally:
        os.chdir(before)


def run_cell(code: str, names: dict[str, Any]) -> str:
    tree = ast.parse(code)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr), "a cell ends with what it shows"
    exec(compile(tree, str(PAGE), "exec"), names)
    return "\n".join(line.rstrip() for line in repr(eval(ast.unparse(last), names)).splitlines())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return list(printed(flows(), tmp_path_factory.mktemp("notebook")))


def test_the_page_has_all_flows() -> None:
    assert len(flows()) == len(FLOWS)


@pytest.mark.parametrize("index", [pytest.param(i, id=name) for i, name in enumerate(FLOWS)])
def test_a_flow_is_short_and_prints_what_the_page_shows(index: int, outputs: list[str]) -> None:
    flow, found = flows()[index], outputs[index]
    assert flow.lines <= MOST_LINES and flow.shown and not found.startswith("error:"), found
    assert " ".join(NUMBER.sub("#", flow.shown).split()) == " ".join(NUMBER.sub("#", found).split())
    for theirs, mine in zip(NUMBER.findall(flow.shown), NUMBER.findall(found), strict=True):
        if "." in theirs:
            assert float(mine) == pytest.approx(float(theirs), abs=TOLERANCE), (theirs, mine)
        else:
            assert mine == theirs


def write() -> None:
    """Put what the blocks print into the page."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = iter(list(printed(flows(), Path(folder))))
    text = PAGE.read_text("utf-8")
    PAGE.write_text(
        BLOCK.sub(lambda match: f"```python\n{match['code']}```\n\n```text\n{next(found)}\n```", text), "utf-8"
    )


if __name__ == "__main__":
    write()
