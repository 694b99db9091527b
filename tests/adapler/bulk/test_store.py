"""The work folder: whatever is killed wherever, the next run ends with the same bytes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapler.bulk.store import Store
from adapler.errors import ArgumentError, DataError

STATE = {"model": "abc", "threshold_scale": 1.0, "keep": ["a"]}
HEADER = b"header\n"
SHARDS = [(f"rows {n}\n".encode() * (n + 1), b'{"row": 1}\n' if n % 2 else b"") for n in range(4)]


def work(output: Path, *, state: dict[str, Any] = STATE, restart: bool = False) -> None:
    """What a run does with its store: the shards that are left, and the end."""
    store = Store(output, state=state, header=HEADER, restart=restart)
    for number in range(len(store.entries), len(SHARDS)):
        rows, errors = SHARDS[number]
        store.append(rows, errors, digest=str(number), rows=number + 1, bad=bool(errors), tokens=5, unread=0)
    store.finish(_upper if output.suffix == ".parquet" else None)


def _upper(rows: Path, final: Path) -> None:
    final.write_bytes(rows.read_bytes().upper())


WHOLE = HEADER + b"".join(rows for rows, _ in SHARDS)
ERRORS = b"".join(errors for _, errors in SHARDS)


def killed_at(output: Path, step: int, names: tuple[str, ...]) -> bool:
    """Runs `work` in a process that kills itself before its n-th system call of these; False if it came to the end."""
    child = os.fork()
    if child == 0:
        count = 0

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return call

        for name in names:
            setattr(os, name, dying(getattr(os, name)))
        try:
            work(output)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_killed_at_every_step(tmp_path: Path, suffix: str) -> None:
    expected = WHOLE.upper() if suffix == ".parquet" else WHOLE
    for step in range(1, 100):
        folder = tmp_path / str(step)
        output = folder / f"out{suffix}"
        died = killed_at(output, step, ("fsync", "replace", "unlink", "rmdir", "open", "mkdir"))
        if output.exists():
            assert output.read_bytes() == expected, "an output is whole or not there"
        work(output)
        assert output.read_bytes() == expected, step
        assert (bad := folder / f"{output.name}.errors.jsonl").read_bytes() == ERRORS
        assert sorted(p.name for p in folder.iterdir()) == sorted([output.name, bad.name]), step
        shutil.rmtree(folder)
        if not died:
            break
    assert 20 < step < 99


@pytest.mark.parametrize("torn", [0, 3, 25])
def test_half_written_shards_are_cut_off(tmp_path: Path, torn: int) -> None:
    """A kill in the middle of a write: some of its bytes are on the disk."""
    output = tmp_path / "out.jsonl"
    store = Store(output, state=STATE, header=HEADER)
    store.append(*SHARDS[0], digest="0", rows=1, bad=0, tokens=5, unread=0)
    store.close()
    for name, junk in (
        ("rows", b"x" * torn),
        ("errors", b"y" * torn),
        ("journal", b'{"digest": "1", "rows": 2'[:torn]),
    ):
        with (store.folder / name).open("ab") as stream:
            stream.write(junk)
    work(output)
    assert output.read_bytes() == WHOLE


def test_a_full_disk_loses_nothing_that_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.jsonl"
    store = Store(output, state=STATE, header=HEADER)
    store.append(*SHARDS[0], digest="0", rows=1, bad=0, tokens=5, unread=0)
    with monkeypatch.context() as patch:

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left.*out\.jsonl\.partial"):
            store.append(*SHARDS[1], digest="1", rows=2, bad=1, tokens=5, unread=0)
    assert len(store.entries) == 1
    store.close()
    work(output)
    assert output.read_bytes() == WHOLE


def test_what_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    store = Store(output, state=STATE, header=HEADER)
    store.append(*SHARDS[0], digest="0", rows=1, bad=0, tokens=5, unread=0)
    with pytest.raises(ArgumentError, match="is being written by another run"):
        work(output)
    store.close()
    with pytest.raises(ArgumentError, match=r"was begun with threshold_scale 1\.0, now it is 0\.5; --restart"):
        work(output, state={**STATE, "threshold_scale": 0.5})
    journal = store.folder / "journal"
    before = journal.read_bytes()
    journal.write_bytes(b"{}\n")
    with pytest.raises(DataError, match="journal: damaged"):
        work(output)
    journal.write_bytes(before)
    (store.folder / "rows").write_bytes(b"")
    with pytest.raises(DataError, match="holds less than its journal says"):
        work(output)
    work(output, state={**STATE, "threshold_scale": 0.5}, restart=True)
    assert output.read_bytes() == WHOLE
    (tmp_path / "out.jsonl.partial").mkdir()
    (tmp_path / "out.jsonl.partial" / "thesis.tex").touch()
    with pytest.raises(ArgumentError, match=r"holds 'thesis\.tex', so it is no work folder"):
        work(output)


def test_errors_of_an_earlier_output_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.errors.jsonl").write_text("old")
    store = Store(tmp_path / "out.jsonl", state=STATE, header=b"")
    store.append(b"good\n", b"", digest="0", rows=1, bad=0, tokens=1, unread=0)
    store.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
