"""A method of one's own, and what it imports, are in its key: what is loaded, whatever the file says by now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.evaluation.cache.fingerprints import method_fingerprint

FLAT = """
import own_helper

POWER = 2
def flat(model, batch, *, order=1):
    "Flat."
    return own_helper.scaled(batch, POWER)
"""
HELPER = """
import numpy, torch
WEIGHTS, BIAS = numpy.array([1.0, 2.0]), torch.tensor(0.5)
ODD = [torch.arange(6.0)[::2], torch.ones(2, 2).T, torch.tensor(1.0).expand(3), torch.tensor([1j]).conj()]

class Scale:
    def of(self): return 3

def scaled(batch, power): return batch ** power * Scale().of()
"""
ARRAYS = [
    ("[1.0, 2.0]", "[1.0, 3.0]"),
    ("tensor(0.5)", "tensor(0.7)"),
    ("tensor(0.5)", "tensor([0.5])"),
    ("[::2]", "[1::2]"),
]
EDITS = [*ARRAYS, ("POWER = 2", "POWER = 3"), ("order=1", "order=2"), ("scaled(batch, POWER)", "scaled(POWER, batch)")]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a method of somebody's own and what it imports, loads it or does not, and returns its fingerprint."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within a second have one time stamp there
    names = ("own_helper", "own_method")

    def write(method: str = FLAT, helper: str = HELPER, *, load: bool = True) -> str:
        for name, text in zip(names, (helper, method), strict=True):
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        for name in names if load else ():
            importlib.reload(importlib.import_module(name))
        found = method_fingerprint(sys.modules["own_method"].flat)
        assert found is not None
        return found

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("old", "new"), [*EDITS, ("return 3", "return 4"), ("batch ** power", "power ** batch")])
def test_an_edited_method_of_one_s_own_has_another_key_whatever_is_loaded(own: Any, old: str, new: str) -> None:
    edited = [text.replace(old, new) for text in (FLAT, HELPER)]
    assert edited != [FLAT, HELPER]
    first = own()
    unloaded = own(*edited, load=False)  # the old code runs
    loaded = own(*edited)
    assert len({first, unloaded, loaded}) == 3
    assert own(*edited, load=False) == loaded and own() == first  # the same text, the same key


def test_a_function_imported_by_name_stays_the_old_one(own: Any) -> None:
    first = own()
    old = sys.modules["own_method"].flat
    edited = own(FLAT.replace("scaled(batch, POWER)", "scaled(POWER, batch)"))
    assert len({first, edited, method_fingerprint(old)}) == 3


def test_comments_and_docstrings_are_not_in_the_key_of_a_method_of_one_s_own(own: Any) -> None:
    assert own() == own("# a comment\n\n" + FLAT.replace("Flat.", "Level."), HELPER.replace("\n\n", "\n\n\n# more\n"))
