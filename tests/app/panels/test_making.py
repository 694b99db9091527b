"""Without any checkpoint the page trains one beside itself; a stand-in takes the training's place here."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from adapler.cli import options_of
from adapler.errors import CheckpointError
from app.sources import loading
from app.work import jobs
from tests.app.conftest import DOCUMENTS
from tests.app.pages import bodies, check


@pytest.fixture
def job(page: AppTest, monkeypatch: pytest.MonkeyPatch, app_corpus: Path) -> SimpleNamespace:
    """The page has no checkpoint; what its training does is set by the test."""
    monkeypatch.setattr(sys, "argv", ["main.py", "--data", str(app_corpus)])
    stand_in = SimpleNamespace(
        kind=jobs.TRAINING, name="sample", number=1, begun=True, progress=0.4, code=None, message="", stopped=False
    )
    stand_in.stop = lambda: setattr(stand_in, "stopped", True)
    monkeypatch.setattr(jobs, "train_sample", lambda: stand_in)
    return stand_in


def start(page: AppTest) -> None:
    page.run()
    page.button(key="make").click().run()


def test_nothing_is_trained_before_somebody_asks(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, app_corpus: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "--data", str(app_corpus)])
    started: list[bool] = []
    monkeypatch.setattr(jobs, "train_sample", lambda: started.append(True))
    page.run()
    page.run()
    assert not started and not page.exception and "no AdapLeR checkpoint" in page.warning[0].value
    page.button(key="make").click().run()
    assert started == [True]


def test_training_shows_its_progress_and_the_text(page: AppTest, job: SimpleNamespace) -> None:
    start(page)
    assert not page.exception and not page.error
    assert "no AdapLeR checkpoint" in page.get("progress")[0].proto.text
    assert bodies(page, "al-text")
    page.button(key="stop").click().run()
    assert job.stopped and "no AdapLeR checkpoint" in page.warning[0].value
    page.button(key="make").click().run()
    assert page.get("progress") and not page.warning


def test_a_finished_training_opens_the_page(
    page: AppTest, job: SimpleNamespace, app_checkpoints: Path, app_model: Any, tiny_tokenizer: Any
) -> None:
    start(page)
    shutil.copytree(app_checkpoints / "tiny", loading.CHECKPOINTS / "sample" / "phi-1")
    job.code = 0
    page.run()
    assert page.selectbox(key="checkpoint").value == "sample/phi-1"
    check(page, app_model, tiny_tokenizer, DOCUMENTS["neg_1"][0])


def test_a_failed_training_says_why_once(page: AppTest, job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    start(page)
    job.code, job.message = 1, "no space left"
    page.run()
    assert "no space left" in page.error[0].value and not page.get("progress")

    def missing() -> None:
        raise CheckpointError("the packaged MiniLM is not installed")

    monkeypatch.setattr(jobs, "train_sample", missing)
    page.button(key="make").click().run()
    assert "not installed" in page.error[0].value and not page.exception


def test_a_training_waits_for_its_turn(page: AppTest, job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    job.begun, job.progress = False, 0.0
    monkeypatch.setattr(jobs, "queue", lambda: [SimpleNamespace(kind=jobs.EVALUATION), job])
    page.run()
    assert "waits for what the server runs" in page.get("progress")[0].proto.text and not page.exception


def test_a_full_queue_is_said(page: AppTest, job: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "train_sample", lambda: None)
    start(page)
    assert "try again later" in page.error[0].value and not page.exception


def test_the_recipe_is_the_makefiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    makefile = (loading.ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^train-sample:.*\n\t.*adapler run --config (\S+)", makefile, re.MULTILINE)
    assert found is not None and loading.ROOT / found[1] == jobs.SAMPLE_RECIPE and jobs.SAMPLE_RECIPE.is_file()
    commands: list[list[str]] = []
    monkeypatch.setattr(jobs, "QUEUE", jobs.Queue())
    monkeypatch.setattr(jobs, "packaged_minilm", lambda: tmp_path)
    running = SimpleNamespace(code=None, begun=True, kind=jobs.TRAINING, name="sample")
    monkeypatch.setattr(jobs, "Job", lambda command, **options: commands.append(command) or running)
    assert jobs.train_sample() is running and jobs.train_sample() is running and len(commands) == 1
    assert commands[0][1:4] == ["-m", "adapler", "run"]
    parsed = options_of("run", commands[0][4:])
    assert Path(parsed.output) == jobs.SAMPLE_MODEL and Path(parsed.task.task).is_absolute()
    assert jobs.trained_stages()[1] == 3
