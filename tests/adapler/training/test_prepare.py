"""A task and a model that do not fit each other are told of in one line, before anything is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertTokenizerFast

from adapler.cli.parser import main
from adapler.errors import ArgumentError, CheckpointError
from tests.adapler.training.common import QUICK
from tests.conftest import tiny_classifier

SPLITS = ("train", "validation", "test")


def task_of(folder: Path, **row: Any) -> Path:
    """Four rows a split, each with these fields."""
    folder.mkdir()
    for split in SPLITS:
        lines = [json.dumps({"id": f"{split}-{n}", "label": n % 2, **row}) + "\n" for n in range(4)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return task_of(tmp_path / "single", text="a good film")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return task_of(tmp_path / "pairs", text_a="a good film", text_b="so dull")


def test_single_texts_are_no_test_of_a_model_of_pairs(
    single: Path, pairs: Path, run_folder: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(run_folder / "phi-0.1-post-hoc", tmp_path / "model"))
    assert main(["evaluate", "--model", str(model), "--task", str(single)]) == 0
    for command in ("evaluate", "calibrate"):
        with pytest.raises(ArgumentError, match=r"^--task: pairs has text_a and text_b in each row, and .* text_a \("):
            main([command, "--model", str(model), "--task", str(pairs)])
    record = json.loads((model / "run.json").read_text())
    record["encoding"]["columns"] = ["words", "query"]
    (model / "run.json").write_text(json.dumps(record))
    with pytest.raises(ArgumentError, match="learned from words and query .* that is the same in all rows is not read"):
        main(["evaluate", "--model", str(model), "--task", str(task_of(tmp_path / "same", tokens=["a"], query="fun"))])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("type_vocab_size", "its tokenizer gives token_type_ids up to 1, its type_vocab_size is 1$"),
        ("vocab_size", r"its tokenizer gives input_ids up to \d+, its vocab_size is 9$"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(
    size: str, message: str, pairs: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    config = tiny_classifier(num_labels=2).config
    setattr(config, size, {"type_vocab_size": 1, "vocab_size": 9}[size])
    folder = tmp_path / "model"
    type(tiny_classifier(num_labels=2))(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=message):
        main(["finetune", "--task", str(pairs), "--model", str(folder), "--output", str(tmp_path / "out"), *QUICK])
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_padding_is_refused(pairs: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_classifier_folder, tmp_path / "model"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            known = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({key: value for key, value in known.items() if key != "pad_token"}))
    known = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(known | {"pad_token": None}))
    assert isinstance(tokenizer := AutoTokenizer.from_pretrained(folder), BertTokenizerFast) and not tokenizer.pad_token
    with pytest.raises(CheckpointError, match="model: its tokenizer has no padding token"):
        main(["finetune", "--task", str(pairs), "--model", str(folder), "--output", str(tmp_path / "out"), *QUICK])


def test_a_file_is_judged_whole_unless_the_model_learned_from_it(
    tiny_classifier_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"a {word} film number {n}", "label": n % 2} for n in range(10) for word in ("good", "bad")]
    file, other = tmp_path / "mine.jsonl", tmp_path / "other.csv"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    other.write_text("text,label\n" + "".join(f"{row['text']} or so,{row['label']}\n" for row in rows))
    run = ["run", "--task", str(file), "--classifier", str(tiny_classifier_folder), "--freeze-backbone", *QUICK]
    assert main([*run, "--phi", "0.1", "--validation-share", "0.3", "--output", str(tmp_path / "run")]) == 0
    model = str(tmp_path / "run" / "phi-0.1-post-hoc")
    judge = ["evaluate", "--model", model, "--output", str(tmp_path / "out.json"), "--task"]

    def judged(*arguments: str) -> int:
        assert main([*judge, *arguments]) == 0
        return int(json.loads((tmp_path / "out.json").read_text())["rows"])

    assert judged(str(file), "--split", "validation") == 6, "30 % of 20, as in training"
    with pytest.raises(
        ArgumentError, match=r"^--split: .* learned from rows of .*mine.jsonl; --split validation reads"
    ):
        main([*judge, str(file)])
    capsys.readouterr()
    assert judged(str(other)) == judged(str(other), "--split", "validation") == 20
    assert capsys.readouterr().err.count(f"{other}: all its 20 rows") == 2
    with pytest.raises(ArgumentError, match=r"^--validation-share: all rows of .*other.csv are read, and none is held"):
        main([*judge, str(other), "--split", "validation", "--validation-share", "0.3"])
    assert judged(str(file), "--split", "validation", "--validation-share", "0.2") == 4
    assert "draws other rows than training did (0.3 with seed 42)" in capsys.readouterr().err
    assert main(["calibrate", "--model", model, "--task", str(other)]) == 0
    assert json.loads((Path(model) / "calibration.json").read_text())["examples"] == 20


def test_the_training_split_of_the_models_folder_is_not_judged_by_itself(run_folder: Path, task_folder: Path) -> None:
    judge = ["evaluate", "--model", str(run_folder / "phi-0.1-post-hoc"), "--task"]
    with pytest.raises(
        ArgumentError, match=r"^--task: .* learned from .*train.jsonl; --task .* has splits that it did"
    ):
        main([*judge, str(task_folder / "train.jsonl")])
    assert main([*judge, str(task_folder / "test.jsonl")]) == 0
