from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from adapler.data.command import add_arguments, run
from adapler.errors import run_command
from tests.adapler.data.corpora import evidence, files_of, pack, row, write


def command(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="adapler data")
    add_arguments(parser)
    return run(parser.parse_args(argv))


Output = Callable[..., tuple[int, str, str]]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    def call(*argv: str | Path) -> tuple[int, str, str]:
        code = run_command(command, [str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_stats_table_and_json(tmp_path: Path, output: Output) -> None:
    archive = pack(tmp_path / "x.tar.gz", files_of())
    code, out, err = output("stats", archive)
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0].startswith("movies  (checksum ")
    assert lines[1].split()[:3] == ["split", "documents", "labels"]
    assert lines[2].split() == "train 2 NEG 1, POS 1 8 8 8 0.5 0.5 2 1".split()
    assert len({len(line) for line in lines[1:]}) == 1  # columns line up
    loaded = json.loads(output("stats", archive, "--json")[1])
    assert loaded["splits"][0]["density_mean"] == 0.5 and loaded["name"] == "movies"


def test_check_tells_counts_leaks_and_missing_evidence(tmp_path: Path, output: Output) -> None:
    assert output("check", write(tmp_path / "good", files_of()))[1].splitlines() == [
        "good: 2 train, 1 test; labels NEG, POS",
        "note: train: 1 without evidence (pos_1)",
        "no example is in two splits",
    ]
    splits = {"train": [row("neg_1", "NEG")], "val": [row("neg_1", "NEG", [evidence("neg_1", 0, 1)])]}
    code, out, _ = output("check", write(tmp_path / "leaky", files_of(splits)))
    assert code == 0 and "1 example is in two splits:\n  train neg_1 and val neg_1 have the same id" in out


def test_check_tells_of_evidences_that_quote_another_text(tmp_path: Path, output: Output) -> None:
    """Ranges that a user's own converter counted from 1, or with another tokenizer, are in range and wrong."""
    good = [evidence("neg_1", 1, 3, text="dull  film"), evidence("neg_1", 5, 7, text=""), evidence("neg_1", 0, 1)]
    shifted = [evidence("pos_1", 1, 3, text="what a"), evidence("pos_1", 2, 3, text="joy")]
    splits = {"train": [row("neg_1", "NEG", good)], "test": [row("pos_1", "NEG", shifted)]}
    code, out, err = output("check", write(tmp_path / "mine", files_of(splits)))
    assert (code, err) == (0, "") and out.splitlines()[1:-1] == [
        "note: test: 1 of 2 evidences quote another text than the words of their range, so either may be wrong; "
        "the ranges count. First: pos_1, [1, 3) is 'a joy', its text 'what a'"
    ]


def test_a_task_of_text(tmp_path: Path, output: Output) -> None:
    train = [{"text": f"t {n}", "label": n % 2} for n in range(20)]
    write(
        tmp_path / "mine",
        {
            "train.jsonl": "\n".join(map(json.dumps, train)),
            "test.jsonl": json.dumps({"text": "t 0", "label": 0}),
        },
    )
    code, out, _ = output("stats", tmp_path / "mine")
    assert code == 0 and "train" in out and "note: validation: 2 of the 20 rows" in out
    code, out, _ = output("check", tmp_path / "mine")
    assert code == 0 and "and test test-0 have the same text" in out


def test_errors_are_one_line_and_a_code(tmp_path: Path, output: Output) -> None:
    files = files_of()
    files["train.jsonl"] = "{\n"
    code, out, err = output("check", write(tmp_path / "bad", files))
    assert code == 2 and out == ""
    assert err.startswith("error: ") and "train.jsonl:1: not JSON" in err and err.count("\n") == 1


def test_download_from_an_archive(tmp_path: Path, output: Output) -> None:
    archive = pack(tmp_path / "x.tar.gz", files_of())
    code, out, _ = output("download", "--archive", archive, "--target", tmp_path / "eraser")
    assert code == 0 and out.startswith(f"{tmp_path / 'eraser' / 'movies'}: 2 train, 1 test\n")
    code, _, err = output("download", "--archive", archive, "--target", tmp_path / "other", "--sha256", "12")
    assert code == 2 and "expected 12" in err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command(["--help"])
    assert caught.value.code == 0
    assert "adapler data download --archive" in capsys.readouterr().out


def test_stats_and_check_of_annotated_documents(tmp_path: Path, output: Output) -> None:
    """Rows of words, with a query or without one."""
    for name, query in (("plain", {}), ("asked", {"query": "why ?"})):
        rows = [{"tokens": ["t", str(n)], "label": n % 2, **(query if n else {})} for n in range(20)]
        text = "".join(json.dumps(line) + "\n" for line in rows)
        folder = write(tmp_path / name, {"train.jsonl": text, "test.jsonl": text})
        code, out, _ = output("stats", folder, "--json")
        train = json.loads(out)["splits"][0]
        assert (code, train["documents"], train["words_max"]) == (0, 18, 2 if name == "plain" else 4)
        code, out, _ = output("check", folder)
        assert code == 0 and "have the same text" in out


def test_a_file_with_rationales_is_said_to_be_read_as_a_task(tmp_path: Path, output: Output) -> None:
    """The analysis reads such a file by itself as one split, which is not what is printed here."""
    rows = [{"tokens": ["so", word], "label": label, "rationale": [0, 1]} for word, label in (("dull", 0), ("fun", 1))]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * 4), encoding="utf-8")
    for action in ("check", "stats"):
        code, out, _ = output(action, path)
        (line,) = [line for line in out.splitlines() if "rationales" in line]
        assert code == 0 and line.startswith("note: rows with tokens are read as a task to train on; their rationales")
