"""What `adapler predict` reads of a long text: what training read, windows, and what Python reads too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from adapler import AdapLeRForSequenceClassification, ArgumentError, CheckpointError
from adapler.cli import main
from tests.adapler.cli.predicting import EVERYTHING, FIRST, Predict


def with_encoding(model: Path, folder: Path, encoding: Any) -> Path:
    shutil.copytree(model, folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "encoding": encoding}))
    return folder


def test_what_training_read_is_remembered(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.txt").write_text("a good film so dull\n")
    out = tmp_path / "o.jsonl"

    def tokens(folder: Path, *options: str) -> tuple[dict[str, Any], str]:
        arguments = ["--input", str(tmp_path / "r.txt"), "--output", str(out), *EVERYTHING, *options]
        assert main(["predict", "--model", str(folder), *arguments]) == 0
        note = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("note: "))
        return json.loads(out.read_text()), note

    encoding = {"max_length": 5, "long_documents": "truncate", "stride": None, "train_documents": None, "limit": None}
    folder = with_encoding(model, tmp_path / "truncate", encoding)
    row, note = tokens(folder)
    assert row["tokens"] == FIRST and note == "note: max_length 5, longer texts: truncate; as in training (run.json)"
    row, note = tokens(folder, "--max-length", "4")
    assert row["tokens"] == [*FIRST[:3], "[SEP]"] and note.endswith(
        "max_length 4, longer texts: truncate; as asked for"
    )
    row, note = tokens(folder, "--long-documents", "last")
    assert row["tokens"] == ["[CLS]", "film", "so", "dull", "[SEP]"] and "max_length 5, longer texts: last" in note
    (folder / "run.json").unlink()
    row, note = tokens(folder)
    assert len(row["tokens"]) == 7 and "the model's longest input, longer texts: truncate; no run.json" in note


WINDOWS = {"max_length": 6, "long_documents": "windows", "stride": 1}


def task_in(folder: Path) -> Path:
    """Eight texts of three to ten words, the same in every split."""
    folder.mkdir()
    texts = [" ".join("a good film so dull never fun boring bad".split()[n % 3 :][: 3 + n]) for n in range(8)]
    lines = [json.dumps({"text": text, "label": n % 2, "id": str(n)}) for n, text in enumerate(texts)]
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("asked", [(), ("--max-length", "6", "--long-documents", "windows", "--stride", "1")])
def test_windows_are_averaged_as_evaluate_does_it(model: Path, tmp_path: Path, asked: tuple[str, ...]) -> None:
    folder, task = with_encoding(model, tmp_path / "windows", WINDOWS), task_in(tmp_path / "task")
    for removal in ("none", "hard"):
        out = tmp_path / f"{removal}.jsonl"
        options = ["--input", str(task / "test.jsonl"), "--removal", removal, "--output", str(out), *EVERYTHING]
        assert main(["predict", "--model", str(folder), *options]) == 0
    rows = {
        removal: [json.loads(line) for line in (tmp_path / f"{removal}.jsonl").read_text().splitlines()]
        for removal in ("none", "hard")
    }
    arguments = ["--task", str(task), *asked, "--output", str(tmp_path / "e.json")]
    assert main(["evaluate", "--model", str(folder), *arguments]) == 0
    evaluated = json.loads((tmp_path / "e.json").read_text())
    gold = ["NEG", "POS"] * 4
    for removal, score in (("none", evaluated["none"]["score"]), ("hard", evaluated["hard"][0]["score"])):
        found = rows[removal]
        assert sum(row["label"] == label for row, label in zip(found, gold, strict=True)) / 8 == pytest.approx(score)
        assert sum(row["windows"] for row in found) == evaluated["rows"] > 8
        assert all(abs(sum(row["probabilities"].values()) - 1) < 1e-5 for row in found)
    assert all(row["speedup"] == 1 for row in rows["none"])
    assert torch.tensor([row["lengths"] for row in rows["none"]]).unique(dim=1).shape[1] == 1


def test_evaluate_and_calibrate_read_what_training_read(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task, out = with_encoding(model, tmp_path / "m", WINDOWS), task_in(tmp_path / "task"), tmp_path / "out.json"
    calibrate = ["calibrate", "--points", "4", "--resamples", "5", "--timed-single", "1"]

    def read(*command: str) -> tuple[tuple[Any, ...], str]:
        assert main([*command, "--model", str(folder), "--task", str(task), "--output", str(out)]) == 0
        encoding = json.loads(out.read_text())["encoding"]
        note = next(line for line in capsys.readouterr().err.splitlines() if "longer texts" in line)
        return tuple(encoding[name] for name in WINDOWS), note

    trained = ((6, "windows", 1), "note: max_length 6, longer texts: windows; as in training (run.json)")
    assert read("evaluate") == trained and read(*calibrate) == trained
    asked = "note: max_length 6, longer texts: last; as asked for"
    assert read("evaluate", "--long-documents", "last") == ((6, "last", None), asked)
    assert read("evaluate", "--split", "train", "--train-documents", "last") == ((6, "last", None), asked)
    assert read(*calibrate, "--max-length", "5")[0] == (5, "windows", None)
    longest = "note: the task's longest input, longer texts: truncate; no run.json beside the model says more"
    (folder / "run.json").write_text('{"encoding": {}}')  # `train` of rows that were encoded elsewhere
    assert read("evaluate") == ((32, "truncate", None), longest)
    (folder / "run.json").unlink()
    assert read("evaluate") == ((32, "truncate", None), longest)


def test_a_saved_copy_reads_the_same_part_of_a_text(model: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    trained = AdapLeRForSequenceClassification.from_pretrained(with_encoding(model, tmp_path / "a", WINDOWS))
    trained.save_pretrained(tmp_path / "b")
    copy = AdapLeRForSequenceClassification.from_pretrained(tmp_path / "b")
    text = ["the film is a dull but good plot and the actor is fine"]
    one, two = (found.predict(text, tokenizer=tokenizer)[0] for found in (trained, copy))
    assert one == two and one.windows > 1
    # A model that no record belongs to is not read by that of the model which was in the folder before.
    trained.backbone.save_pretrained(tmp_path / "c")
    other = AdapLeRForSequenceClassification.from_backbone(tmp_path / "c")
    other.save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b" / "run.json").exists()
    trained.save_pretrained(tmp_path / "a")
    assert (tmp_path / "a" / "run.json").is_file(), "saved where it came from"


def test_a_loaded_model_reads_as_its_own_folder_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a relative name; then the working directory, and what the folder holds, are others."""
    with_encoding(model, tmp_path / "a", WINDOWS)
    monkeypatch.chdir(tmp_path)
    trained = AdapLeRForSequenceClassification.from_pretrained("a")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert trained.encoding().long_documents == "windows"
    again = AdapLeRForSequenceClassification.from_pretrained(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    with_encoding(model, tmp_path / "a", {**WINDOWS, "long_documents": "last"})
    assert again.encoding().max_length == 6 and again.encoding().long_documents == "windows"
    shutil.rmtree(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "run.json").read_text())["encoding"] == WINDOWS


@pytest.mark.parametrize(
    "encoding",
    [
        {"max_length": 5, "long_documents": "truncate", "stride": None},
        {"max_length": 5, "long_documents": "last", "stride": None},
        {"max_length": 6, "long_documents": "windows", "stride": 1},
    ],
    ids=lambda encoding: encoding["long_documents"],
)
def test_python_reads_what_the_command_reads(
    model: Path, tmp_path: Path, encoding: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = with_encoding(model, tmp_path / "model", encoding)
    texts = ["a good film so dull never fun boring bad", "fun"]
    (tmp_path / "r.txt").write_text("\n".join(texts))
    out = tmp_path / "o.jsonl"
    options = ["--input", str(tmp_path / "r.txt"), "--output", str(out), "--dtype", "float32", *EVERYTHING]
    capfd.readouterr()
    assert main(["predict", "--model", str(folder), *options, "--quiet"]) == 0
    assert capfd.readouterr().err == "", "a progress bar of some library"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    side = tokenizer.truncation_side
    loaded = AdapLeRForSequenceClassification.from_pretrained(folder)
    found = loaded.predict(texts, tokenizer=tokenizer)
    for row, prediction in zip(map(json.loads, out.read_text().splitlines()), found, strict=True):
        assert row["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
        assert row["lengths"] == list(prediction.lengths) and row["windows"] == prediction.windows
        assert row["length"] == len(prediction.tokens) == len(prediction.layers)
        assert row["speedup"] == pytest.approx(prediction.speedup)
        assert row["tokens"] == list(prediction.tokens) and row["layers"] == list(prediction.layers)
    assert (found[0].windows > 1) is (encoding["long_documents"] == "windows") and tokenizer.truncation_side == side
    (whole,) = loaded.for_inference(dtype="float32").predict(
        texts[:1], tokenizer=tokenizer, max_length=40, long_documents="truncate"
    )
    assert len(whole.tokens) == 11 and whole.windows == 1
    with pytest.raises(ArgumentError, match="^stride: 1 must be at least 0, and long_documents windows"):
        loaded.predict(texts, tokenizer=tokenizer, long_documents="last", stride=1)


def test_a_pair_without_room_for_windows_is_one_bad_row(rows_of: Predict) -> None:
    pairs = [("a good film", "so dull"), ("fun", "a good film so dull never fun"), ("a good film so dull", "fun a")]
    text = "\n".join(json.dumps({"text_a": a, "text_b": b}) for a, b in pairs)
    rows = rows_of("p.jsonl", text, "--long-documents", "windows", "--max-length", "8", "--stride", "1")
    assert [row["windows"] for row in rows] == [1, 2, None]
    assert rows[2]["error"].startswith("its first text has 5 tokens, which leaves no room for windows of the second")


def test_a_damaged_record_is_refused(model: Path, tmp_path: Path) -> None:
    for number, encoding in enumerate(
        [3, {"max_length": "5"}, {"max_length": 5, "long_documents": "x", "stride": None}]
    ):
        folder = with_encoding(model, tmp_path / str(number), encoding)
        with pytest.raises(CheckpointError, match=r"run\.json: 'encoding' must have max_length"):
            main(["predict", "--model", str(folder), "fun"])
