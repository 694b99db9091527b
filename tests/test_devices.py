"""What is done on a GPU, on a device that only pretends to be one: see `tests.pretend.device`.

A process of its own does it, since a device cannot be taken away again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pretend.checks import CHECKS

ROOT = Path(__file__).parents[1]
KINDS = ("cuda", "mps")
# One training, with a target speedup, is in the fast part.
SLOW = [name for name in CHECKS if name.startswith("adapler run") and name != "adapler run target"]
FAST = [name for name in CHECKS if name not in SLOW]

Results = dict[str, str]


def on_device(kind: str, folder: Path, names: list[str]) -> Results:
    """What went wrong in each check, "" for nothing."""
    arguments = [sys.executable, "-m", "tests.pretend", kind, str(folder), *names]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


@pytest.fixture(scope="module", params=KINDS)
def fast(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return on_device(request.param, tmp_path_factory.mktemp(request.param), FAST)


@pytest.fixture(scope="module", params=KINDS)
def slow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return on_device(request.param, tmp_path_factory.mktemp(request.param), SLOW)


@pytest.mark.parametrize("name", FAST)
def test_on_a_device(fast: Results, name: str) -> None:
    assert fast[name] == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_commands_on_a_device(slow: Results, name: str) -> None:
    assert slow[name] == ""
