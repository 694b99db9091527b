"""A tiny task in a folder, and a whole post-hoc run on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapler.cli.parser import main
from tests.adapler.training.common import QUICK
from tests.conftest import WORDS


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    for split, number in (("train", 24), ("validation", 8), ("test", 8)):
        lines = []
        for row in range(number):
            middle = [WORDS[(row * 7 + k) % len(WORDS)] for k in range(3 + row % 5)]
            lines.append(json.dumps({"text": " ".join(["good" if row % 2 else "bad", *middle]), "label": row % 2}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "meta.json").write_text(json.dumps({"name": "tiny", "labels": ["NEG", "POS"]}), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def run_folder(task_folder: Path, tiny_classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tiny"
    arguments = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--output", str(folder)]
    arguments += ["--freeze-backbone", "--half", "--phi", "1e-3", "1e-1", "--learning-rate", "1e-3", *QUICK]
    assert main(arguments) == 0
    assert main(arguments) == 0, "a second run skips what is there"
    return folder
