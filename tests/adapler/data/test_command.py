"""`adapler data` and the packaged encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapler import minilm
from adapler.data import data_command
from adapler.errors import CheckpointError
from tests.adapler.data.corpora import evidence, files_of, pack, row, write
from tests.conftest import run_command

Output = Callable[..., tuple[int, str, str]]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    def call(*argv: str | Path) -> tuple[int, str, str]:
        code = run_command(data_command, [str(argument) for argument in argv]) or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_show_a_corpus(tmp_path: Path, output: Output) -> None:
    archive = pack(tmp_path / "x.tar.gz", files_of())
    code, out, err = output("show", archive)
    found = out.splitlines()
    assert (code, err) == (0, "") and found[0].startswith("movies  (checksum ")
    assert found[1].split()[:3] == ["split", "documents", "labels"]
    assert found[2].split() == "train 2 NEG 1, POS 1 8 8 8 0.5 0.5 2 1".split()
    assert found[-1] == "no examples in two splits"
    loaded = json.loads(output("show", archive, "--json")[1])
    assert loaded["splits"][0]["density_mean"] == 0.5 and loaded["leaks"] == []
    splits = {"train": [row("neg_1", "NEG")], "val": [row("neg_1", "NEG", [evidence("neg_1", 0, 1, text="b")])]}
    out = output("show", write(tmp_path / "leaky", files_of(splits)))[1]
    assert out.endswith("1 example in two splits\n  train neg_1 and val neg_1 have the same id\n")
    assert "note: val: 1 of 1 evidences quote another text" in out


def test_show_a_task(tmp_path: Path, output: Output) -> None:
    train = "\n".join(json.dumps({"text": f"t {n}", "label": n % 2}) for n in range(20))
    write(tmp_path / "mine", {"train.jsonl": train, "test.jsonl": json.dumps({"text": "t 0", "label": 0})})
    code, out, _ = output("show", tmp_path / "mine")
    assert code == 0 and "note: validation: 2 of the 20 rows" in out and "and test test-0 have the same text" in out


def test_errors_are_one_line_and_a_code(tmp_path: Path, output: Output) -> None:
    code, out, err = output("show", write(tmp_path / "bad", files_of() | {"train.jsonl": "{\n"}))
    assert code == 2 and out == ""
    assert err.startswith("error: ") and "train.jsonl:1: not JSON" in err and err.count("\n") == 1
    assert output("stats", "x")[2] == "error: adapler data: 'stats' is neither download nor show\n"
    assert "adapler data download --archive" in output("--help")[1]


def test_download_from_an_archive(tmp_path: Path, output: Output) -> None:
    archive = pack(tmp_path / "x.tar.gz", files_of())
    code, out, _ = output("download", "--archive", archive, "--target", tmp_path / "eraser")
    assert code == 0 and out.startswith(f"{tmp_path / 'eraser' / 'movies'}: 2 train, 1 test\n")


def test_the_packaged_encoder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(minilm.PACKAGE)
    assert minilm.main([]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "model.safetensors").is_file() and (folder / "config.json").is_file()
    monkeypatch.setattr(minilm, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="model.safetensors: sha256 53aa.*, not 0000"):
        minilm.packaged_minilm()
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(CheckpointError, match=r"adapler\[demo\]"):
        minilm.packaged_minilm()
