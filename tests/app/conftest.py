"""A tiny checkpoint folder, a damaged one, a tiny ERASER corpus, and a report of the one on the other."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

import app as app_package
from adapler import AdapLeRForSequenceClassification
from adapler.eraser import read_corpus
from analysis.evaluate import evaluate
from analysis.loading import checksums
from analysis.settings import Settings
from app.sources import loading
from tests.conftest import WORDS

# Document: words, label, rationale as a half-open range of words.
DOCUMENTS = {
    "neg_1": ("the film is not good and the plot was dull .", "NEG", (3, 5)),
    "pos_1": ("a great film , never boring , very fun ending but so bad a plot", "POS", (1, 3)),
    "long_1": (" ".join(WORDS * 3), "POS", (50, 54)),
}


@pytest.fixture(scope="session")
def app_checkpoints(
    tmp_path_factory: pytest.TempPathFactory, tiny_classifier_folder: Path, tiny_tokenizer: Any
) -> Path:
    """A folder with the checkpoints `tiny` and `damaged`, and a plain classifier that is no AdapLeR model."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(1)  # of all weights: a test's model does not hang on the tests before it
    model = AdapLeRForSequenceClassification.from_backbone(tiny_classifier_folder)
    with torch.no_grad():
        for predictor in model.contribution_predictors:
            predictor.score.weight.normal_(std=1.0)
        model.eta.fill_(0.7)
    model.save_pretrained(folder / "tiny")
    tiny_tokenizer.save_pretrained(folder / "tiny")
    shutil.copytree(folder / "tiny", folder / "damaged")
    weights = folder / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    shutil.copytree(tiny_classifier_folder, folder / "plain")
    return folder


@pytest.fixture(scope="session")
def app_model(app_checkpoints: Path) -> Any:
    return AdapLeRForSequenceClassification.from_pretrained(app_checkpoints / "tiny").eval()


@pytest.fixture(scope="session")
def app_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DOCUMENTS in ERASER layout; all of them in train and in test."""
    folder = tmp_path_factory.mktemp("corpus") / "tiny-films"
    (folder / "docs").mkdir(parents=True)
    lines = []
    for name, (text, label, (start, end)) in DOCUMENTS.items():
        (folder / "docs" / name).write_text(text, encoding="utf-8")
        evidence = {"docid": name, "start_token": start, "end_token": end, "text": " ".join(text.split()[start:end])}
        row = {"annotation_id": name, "classification": label, "evidences": [[evidence]], "query": "?"}
        lines.append(json.dumps({**row, "docids": [name]}))
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def app_reports(
    tmp_path_factory: pytest.TempPathFactory, app_model: Any, tiny_tokenizer: Any, app_corpus: Path
) -> Path:
    """A folder with the report `films`."""
    report = evaluate(
        model=app_model.backbone,
        adapler=app_model,
        tokenizer=tiny_tokenizer,
        data=read_corpus(app_corpus),
        settings=Settings(
            max_length=40,
            methods=("cp", "saliency", "attention", "occlusion(window=2)"),
            metrics=("average_precision", "fpr", "tpr"),
        ),
        progress=False,
    )
    folder = tmp_path_factory.mktemp("reports")
    # as `evaluate` writes it: without this the page cannot know a checkpoint outside the repository
    meta = {**report.meta, "checksums": checksums(app_model.backbone, app_model)}
    replace(report, meta=meta).to_json(folder / "films" / "report.json")
    return folder


@pytest.fixture
def page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app_checkpoints: Path, app_corpus: Path, app_reports: Path
) -> AppTest:
    """The page before its first run, with the checkpoint `tiny` chosen."""
    monkeypatch.setattr(loading, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(loading, "REPORTS", (tmp_path,))
    monkeypatch.setattr(loading, "TRADEOFF", ())
    arguments = ["--checkpoints", app_checkpoints, "--data", app_corpus, "--reports", app_reports]
    monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
    app = AppTest.from_file(str(Path(app_package.__file__).with_name("main.py")), default_timeout=180)
    app.session_state["checkpoint"] = "tiny"
    return app
