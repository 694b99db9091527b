"""A folder whose replacement was killed between its two renames, and a disk that is full."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adapler.backbones.sources import is_local
from adapler.errors import CheckpointError
from adapler.files import replacing
from tests.conftest import AS_COMMAND

KILLED = f"""{AS_COMMAND}
import os, signal, sys
from adapler import files
files.os.replace = lambda old, new: (os.rename(old, new), os.kill(os.getpid(), signal.SIGKILL))
with files.replacing(sys.argv[1]) as temporary:
    temporary.mkdir()
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder's path: nothing is there, the old and the new one lie beside it."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -signal.SIGKILL
    assert not path.exists() and len(list(tmp_path.iterdir())) == 2
    return path


def test_the_old_folder_gets_its_name_again_before_the_next_write(killed: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(killed) as temporary:
        temporary.mkdir()
        raise KeyboardInterrupt
    assert [path.name for path in killed.iterdir()] == ["old"], "a write that fails leaves what there was"
    with replacing(killed) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [path.name for path in killed.iterdir()] == ["new"] and list(killed.parent.iterdir()) == [killed]


@pytest.mark.parametrize(
    ("name", "other"), [("phi-0.0005", "phi-0.001"), (f"{'long' * 12}-1", f"{'long' * 12}-2")], ids=["suffix", "long"]
)
def test_a_folder_that_stepped_aside_is_nobody_elses(name: str, other: str, tmp_path: Path) -> None:
    """The models of one run: their names differ behind the dot only."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "old").touch()
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)])
    with replacing(tmp_path / other) as temporary:
        temporary.mkdir()
    assert list((tmp_path / other).iterdir()) == []
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / name) as temporary:
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / name).iterdir()] == ["old"]


def test_who_reads_it_is_told_where_it_is(killed: Path) -> None:
    with pytest.raises(CheckpointError, match="model: no such model folder; a process was killed .*old is the old one"):
        is_local(killed)


def test_a_full_disk_is_said_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device: '.*table.csv'"), replacing(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
