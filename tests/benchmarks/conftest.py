"""The trade-off's command on a tiny task, its jobs run in the tests' process."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from adapler.cli.parser import main as adapler
from adapler.errors import AdapLeRError
from benchmarks.tradeoff import measure
from benchmarks.tradeoff.work import Children
from tests.conftest import WORDS

SIZES = {"train": 24, "validation": 10, "test": 14}
REST = "max_length: 16\nbatch_size: 8\nprecision: float32\n"
RUN = "command: run\nfinetune_epochs: 1\nfinetune_learning_rate: 1.0e-3\n"
RECIPES = {
    "finetuned": f"command: finetune\nepochs: 1\nlearning_rate: 1.0e-3\n{REST}",
    "adapler": f"{RUN}epochs: 2\nphi: [1.0e-3, 0.1]\n{REST}",
    # A learning rate at which the predictors tell tokens apart after nine steps.
    "adapler-post-hoc": f"{RUN}epochs: 3\nphi: 1.0e-2\nfreeze_backbone: true\npredictor_learning_rate: 0.5\n{REST}",
    "adapler-wide": f"{RUN}epochs: 1\nphi: 1.0e-3\ncontribution_hidden_size: 8\n{REST}",
}


@pytest.fixture
def place(tmp_path: Path, tiny_classifier_folder: Path) -> list[str]:
    """The options of a command on a tiny sst2 with recipes of its own."""
    folder = tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, number in SIZES.items():
        rows = []
        for row in range(number):
            label = row % 2
            words = [*random.choice(WORDS, int(random.integers(3, 9))), ("bad", "good")[label], "film"]
            rows.append(json.dumps({"text": " ".join(words), "label": label}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    published = {"train": 24, "test": 14}
    meta = {"name": "sst2", "labels": ["NEG", "POS"], "published_split_sizes": published}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    (tmp_path / "configs" / "sst2").mkdir(parents=True)
    for name, text in RECIPES.items():
        (tmp_path / "configs" / "sst2" / f"{name}.yaml").write_text(text, encoding="utf-8")
    words = ["--backbone", str(tiny_classifier_folder), "--backbone-name", "tiny", "--tasks", "sst2"]
    words += ["--data-root", str(tmp_path / "data"), "--configs", str(tmp_path / "configs")]
    words += ["--output", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    return [*words, "--timed", "6", "--timed-single", "2", "--rounds", "1"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that jobs start; they run in this process, which spares the imports."""
    made: list[list[str]] = []

    def call(_: Children, words: Sequence[str], *, log: Path) -> int:
        made.append(list(words[2:]))
        assert words[:2] == [sys.executable, "-m"]
        log.touch()
        try:
            return {"adapler": adapler, "benchmarks.tradeoff.measure": measure.main}[words[2]](words[3:])
        except AdapLeRError as error:
            log.write_text(f"error: {error}\n", encoding="utf-8")
            return 2

    monkeypatch.setattr(Children, "call", call)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' process keeps its handlers
    return made
