"""What a checkpoint's folder says of its task and encoder, and which names mean one encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapler.card import origin
from adapler.card.origin import Training, read_training, same_encoder
from app.sources import loading


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("MiniLM-L6", "sentence-transformers/all-MiniLM-L6-v2", True),
        ("minilm_l6", "MiniLM-L6", True),
        ("bert-base-uncased", "google-bert/bert-base-uncased", True),
        ("MiniLM-L6", "MiniLM-L12", False),
        ("bert", "bert-base-uncased", False),
        ("all-mpnet-base-v2", "all-MiniLM-L6-v2", False),
        ("L6-MiniLM", "all-MiniLM-L6-v2", False),
    ],
)
def test_names_of_one_encoder(one: str, other: str, same: bool) -> None:
    assert same_encoder(one, other) is same and same_encoder(other, one) is same


def test_the_embedded_checkpoint_says_its_task_and_encoder() -> None:
    found = read_training(loading.CHECKPOINTS / loading.DEFAULT_CHECKPOINT)
    assert found.task == "movies" and same_encoder(found.encoders[0], "MiniLM-L6") and found.data and found.started


def test_the_classifier_beside_it_names_the_encoder(tmp_path: Path) -> None:
    point = tmp_path / "mini" / "films" / "seed-3" / "phi-1"
    write(point / "run.json", {"task": "films", "model": "finetuned", "model_checksum": "c", "data_checksum": "d"})
    assert read_training(point) == Training("films", "d", ("mini",), "c"), "the benchmark's folders are named so"
    write(point.parent / "finetuned" / "run.json", {"model": "org/big-bert", "model_checksum": "e"})
    assert read_training(point).encoders == ("org/big-bert", "mini")
    packaged = origin._packaged_minilm()
    write(point.parent / "finetuned" / "run.json", {"model": "model", "model_checksum": packaged})
    assert read_training(point).encoders == (origin.MINILM, "mini"), "its folder's name says nothing"


def test_card_and_configuration_name_it(tmp_path: Path) -> None:
    write(tmp_path / "a" / "config.json", {"backbone_config": {"_name_or_path": "org/bert-x"}})
    (tmp_path / "a" / "README.md").write_text("---\nbase_model: [org/bert-y]\n---\n# a\n", encoding="utf-8")
    assert read_training(tmp_path / "a") == Training(encoders=("org/bert-y", "org/bert-x"))


@pytest.mark.parametrize("content", ["", "[]", '{"task": 3, "model": ["x"]}', "{"])
def test_damaged_files_say_nothing(tmp_path: Path, content: str) -> None:
    for name in ("run.json", "config.json"):
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "README.md").write_bytes(b"---\nbase_model: [\xff\n---\n")
    assert read_training(tmp_path) == Training()
    (tmp_path / "README.md").write_text("---\nbase_model: [\n---\n", encoding="utf-8")
    assert read_training(tmp_path) == Training()
