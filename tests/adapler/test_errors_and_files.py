from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adapler.errors import (
    AdapLeRError,
    ArgumentError,
    CheckpointError,
    CommandParser,
    DataError,
    TrainingError,
    run_command,
)
from adapler.files import replacing, sha256_of
from adapler.outputs import check_output_file
from tests.conftest import AS_COMMAND


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (DataError, ValueError),
        (ArgumentError, ValueError),
        (CheckpointError, ValueError),
        (TrainingError, RuntimeError),
    ],
)
def test_every_error_is_ours_and_a_builtin(kind: type[Exception], base: type[Exception]) -> None:
    assert issubclass(kind, AdapLeRError) and issubclass(kind, base)


def raising(error: BaseException):
    def main(argv: object) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("x.jsonl:3: two\n  lines"), 2, "error: x.jsonl:3: two lines\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/out"), 2, "error: /out: No space left on device\n"),
        (OSError(errno.EFBIG, "File too large", "/out"), 2, "error: /out: File too large\n"),  # 4 GB on FAT
        (OSError(errno.EIO, "Input/output error", "/out"), 2, "error: /out: Input/output error\n"),
    ],
)
def test_run_command_reports_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error)) == code
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", line)


def test_options_that_there_are_not_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="adapler predict")
    parser.add_argument("--dtype", choices=["auto", "float32"])
    for words, message in ((["--dtype", "half"], "argument --dtype: invalid choice: 'half'"), (["--x"], "--x")):
        with pytest.raises(SystemExit) as end:
            parser.parse_args(words)
        [line] = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and message in line and "adapler predict --help" in line
    above = CommandParser(prog="adapler")
    above.add_subparsers().add_parser("run")
    with pytest.raises(SystemExit):
        above.parse_args(["run", "--x"])
    assert capsys.readouterr().err == "error: unrecognized arguments: --x; adapler run --help lists what there is\n"


@pytest.mark.parametrize("error", [KeyError("bug"), OSError(errno.EBADF, "a bug too"), ValueError("bug")])
def test_run_command_lets_bugs_through(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command(raising(error))


def test_a_reader_that_left_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "stdout").open("w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert run_command(raising(BrokenPipeError())) == 141
        stream.write("what Python flushes at exit")
    assert (tmp_path / "stdout").read_text() == "", "it goes nowhere, instead of raising once more"
    assert capsys.readouterr().err == ""


def test_kill_leaves_nothing_half_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def main(_: Sequence[str] | None) -> int:
        with replacing(tmp_path / "model") as partial:
            partial.mkdir()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        return 0

    assert run_command(main) == 143
    assert capsys.readouterr().err == "terminated\n"
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(signal.SIGTERM) is before


def test_run_command_beside_the_main_thread(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor() as pool:
        assert pool.submit(run_command, raising(DataError("no"))).result() == 2
    assert capsys.readouterr().err == "error: no\n"


def test_run_command_passes_arguments_and_code() -> None:
    assert run_command(lambda argv: len(argv or ()), ["a", "b", "c"]) == 3


def test_replacing_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".json"
        temporary.write_text("one")
        assert not path.exists()
    with replacing(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_replacing_a_folder_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_weights_follow_the_umask_as_other_files_do(tmp_path: Path) -> None:
    with replacing(tmp_path / "model") as temporary:
        (temporary / "epochs").mkdir(parents=True)
        (temporary / "config.json").touch()
        for name in ("model.safetensors", "epochs/model.safetensors"):
            save_file({"a": torch.zeros(1)}, temporary / name)
    modes = {file.stat().st_mode for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert modes == {(tmp_path / "model" / "config.json").stat().st_mode}


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(target) == path and not (Path(source) / "old").exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr("adapler.files.os.replace", failing)
    with pytest.raises(OSError, match="No space left"), replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("new")
    assert [file.name for file in path.iterdir()] == ["old"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [True, False])
def test_replacing_leaves_everything_after_an_error(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        if folder:
            temporary.mkdir()
            (temporary / "half").write_text("ha")
        else:
            temporary.write_text("ha")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [path] and (path / "old").read_text() == "old"


def test_replacing_never_turns_a_folder_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArgumentError, match="is a folder, a file is to be written"), replacing(tmp_path / "out") as t:
        t.write_text("x")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ArgumentError, match="is a file, a folder is to be written"), replacing(tmp_path / "file") as t:
        t.mkdir()
    with pytest.raises(ArgumentError, match="is not a folder"), replacing(tmp_path / "file" / "below") as t:
        t.write_text("x")
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out"]


@pytest.mark.parametrize("name", ["a" * 250 + ".json", "b" * 255, "ab." + "é" * 120])
def test_replacing_takes_every_name_that_the_file_system_takes(tmp_path: Path, name: str) -> None:
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / "folder").mkdir()
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()


@pytest.mark.parametrize("name", ["b" * 300, "b" * 300 + "/c", "/proc/nowhere/c", "q/" * 3000 + "c"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match=r"cannot be written \(") as caught, replacing(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert len(str(caught.value)) < 400 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_replacing_writes_what_a_link_leads_to(tmp_path: Path, there: bool) -> None:
    target, link = tmp_path / "disk" / "report.json", tmp_path / "report.json"
    link.symlink_to(target)
    if there:
        target.parent.mkdir()
        target.write_text("old")
    with replacing(link) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("new")
    assert link.is_symlink() and target.read_text() == "new" and list(target.parent.iterdir()) == [target]


def test_replacing_a_folder_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "model").mkdir(parents=True)
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "model")
    with replacing(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert (tmp_path / "model").is_symlink() and [p.name for p in (tmp_path / "disk" / "model").iterdir()] == ["new"]
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["model"]


KILLED = f"""{AS_COMMAND}
import os, signal, sys
from adapler.files import replacing
with replacing(sys.argv[1]) as temporary:
    {{}}
    print(temporary, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("made", ["temporary.write_text('half')", "temporary.mkdir()"])
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path, made: str) -> None:
    path = tmp_path / "table.csv"
    killed = subprocess.run([sys.executable, "-c", KILLED.format(made), str(path)], stdout=subprocess.PIPE, text=True)
    left = Path(killed.stdout.strip())
    assert left.exists() and not path.exists()
    others = [tmp_path / name for name in (".table.0123abcd.csv", ".other" + left.name.removeprefix(".table"))]
    for other in others:  # of another version or program, and of another file
        other.touch()
    with replacing(path) as running:
        running.touch()
        with replacing(path) as temporary:
            temporary.write_text("whole")
        assert running.exists()  # its process is alive
    assert sorted(tmp_path.iterdir()) == sorted([*others, path])


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArgumentError, match="is a device or a pipe"), replacing(tmp_path / "pipe") as temporary:
        temporary.touch()
    with pytest.raises(ArgumentError, match="--output: .* is a device or a pipe, a file is to be written there"):
        check_output_file(tmp_path / "pipe")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_replacing_refuses_precious_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "deep")
    for path, what in [(".", "working"), ("..", "working"), (Path.home(), "home"), ("../../repository", "git")]:
        with pytest.raises(ArgumentError, match=what), replacing(path) as temporary:
            temporary.mkdir()
    assert (tmp_path / "repository" / ".git").is_dir()


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(DataError, match="no such file or folder"):
        sha256_of(tmp_path / "b")


def test_sha256_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return sha256_of(tmp_path / name)

    first = folder("1", {"a": "x", "b/c": "y"})
    line = "".join(f"{n}\0{hashlib.sha256(t).hexdigest()}\n" for n, t in [("a", b"x"), ("b/c", b"y")])
    assert first == hashlib.sha256(line.encode()).hexdigest()
    assert folder("2", {"b/c": "y", "a": "x"}) == first
    assert folder("3", {"a": "y", "b/c": "x"}) != first
    assert folder("4", {"a": "x", "b/d": "y"}) != first


def test_sha256_of_a_folder_with_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    assert len(sha256_of(tmp_path)) == 64
