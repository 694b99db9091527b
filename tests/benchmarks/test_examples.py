"""The qualitative figure: the rule that chooses texts, and what is drawn of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from adapler.training.records import write_record
from benchmarks.tradeoff.examples import NEEDED, document_of, examples_of, main, select
from tests.conftest import WORDS, tiny_adapler


def test_median_length_then_median_speedup() -> None:
    lengths = np.array([10] * 12 + [30] * 3 + [1] * 3)  # median 10
    speedups = np.arange(1.0, 19.0)
    correct = np.ones(18, dtype=bool)
    # The median speedup is 9.5, between rows 8 and 9.
    assert select(lengths, speedups, correct, number=2) == [8, 9]
    correct[8] = False
    assert select(lengths, speedups, correct, number=1) == [9]
    assert select(lengths, np.full(18, 2.0), correct, number=1) == [0]  # of equal ones the first


def test_fewer_texts_of_median_length_than_needed() -> None:
    lengths = np.arange(1, 32)  # one of each length; the median is 16
    chosen = select(lengths, np.arange(31), np.ones(31, dtype=bool), number=31)
    assert len(chosen) == 31
    near = select(lengths, np.r_[np.full(30, 9.0), 1.0], np.ones(31, dtype=bool), number=3)
    assert all(abs(lengths[row] - 16) <= (NEEDED + 1) / 2 for row in near)
    with pytest.raises(ArgumentError, match="--examples: 2, but only 1 test texts are classified correctly"):
        select([1, 2], [1.0, 1.0], [True, False], number=2)


@pytest.fixture
def trained(tmp_path: Path, tiny_tokenizer: Any) -> tuple[Path, Path]:
    """A folder of tasks with a tiny qnli, and a model that drops tokens."""
    data = tmp_path / "data" / "qnli"
    data.mkdir(parents=True)
    random = np.random.default_rng(1)
    rows = [
        {"text_a": " ".join(random.choice(WORDS, 3)), "text_b": " ".join(random.choice(WORDS, 5)), "label": row % 3}
        for row in range(30)
    ]
    for split in ("train", "validation", "test"):
        (data / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    folder = tmp_path / "model"
    model = tiny_adapler(eta=0.9)
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    write_record(folder / "run.json", {"encoding": {"max_length": 20}})
    return tmp_path / "data", folder


def test_what_is_drawn_is_what_the_model_keeps(trained: tuple[Path, Path], tiny_tokenizer: Any) -> None:
    data, folder = trained
    (one,) = examples_of("qnli", str(data / "qnli"), folder, scale=1.0, number=1)
    document = one.document
    assert one.title.startswith("QNLI, test-") and one.title.endswith(f"×, {len(document)} tokens")
    assert document.tokens[0] == "[CLS]" and document.special.tolist() == [True, *[False] * 9, True]
    assert document.tokens[4] == "[SEP]"  # between the texts, and shown
    model = tiny_adapler(eta=0.9)
    ids = tiny_tokenizer.convert_tokens_to_ids(list(document.tokens))
    row = {"id": "x", "input_ids": ids, "attention_mask": [1] * 11, "token_type_ids": [0] * 5 + [1] * 6}
    again = document_of(model, tiny_tokenizer, row, scale=1.0, label="0")
    assert document.retention is not None and (document.retention == again.retention).all()
    assert not document.retention.all() and document.retention[:, 0].all()
    gone = ~document.retention[0]
    assert (document.scores["cp"][1][gone] == 0).all()


def test_the_command(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, folder = trained
    words = ["--data-root", str(data), "--output", str(tmp_path / "figure")]
    assert main([*words, "--model", f"qnli={folder}", "--examples", "2"]) == 0
    assert {path.suffix for path in tmp_path.glob("figure.*")} == {".pdf", ".png", ".svg"}
    with pytest.raises(ArgumentError, match="--model: 'x' is not TASK=FOLDER"):
        main([*words, "--model", "x"])
    with pytest.raises(ArgumentError, match="--examples: 0 is not at least 1"):
        main([*words, "--model", f"qnli={folder}", "--examples", "0"])
