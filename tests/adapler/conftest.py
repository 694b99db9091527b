"""A tiny task in a folder, and a whole post-hoc run on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapler.cli import main
from tests.adapler.training.common import QUICK, tiny_task


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="session")
def run_folder(task_folder: Path, tiny_classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tiny"
    arguments = ["run", "--task", str(task_folder), "--model", str(tiny_classifier_folder), "--output", str(folder)]
    arguments += [
        "--preset",
        "paper",
        "--freeze-backbone",
        "--half",
        "--phi",
        "1e-3",
        "1e-1",
        "--learning-rate",
        "1e-3",
        *QUICK,
    ]
    assert main(arguments) == 0
    assert main(arguments) == 0, "a second run skips what is there"
    return folder
