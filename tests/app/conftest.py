"""A tiny checkpoint folder, a damaged one, a tiny ERASER corpus, and the page with both."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import app as app_package
from adapler import AdapLeRForSequenceClassification
from app.tracing import SPECIAL, Trace
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


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path, app_corpus: Path) -> AppTest:
    """The page before its first run, with the checkpoint `tiny` and the tiny corpus chosen."""
    arguments = ["--checkpoints", app_checkpoints, "--data", app_corpus]
    monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
    app = AppTest.from_file(str(Path(app_package.__file__).with_name("main.py")), default_timeout=180)
    app.session_state["checkpoint"] = "tiny"
    app.session_state["corpus"] = "tiny-films"
    return app


def make_trace(surfaces: list[str], depth: list[int], *, layers: int = 3, **changes: Any) -> Trace:
    """A trace between [CLS] and [SEP], one word a token; `depth` is the number of layers that each token enters."""
    size = len(surfaces) + 2
    depths = np.array([layers, *depth, layers])
    enters = np.arange(layers)[:, None] < depths
    present = np.vstack([np.ones((1, size), dtype=bool), enters[:-1]])
    values: dict[str, Any] = {
        "pieces": ("[CLS]", *surfaces, "[SEP]"),
        "surfaces": ("", *surfaces, ""),
        "words": np.array([SPECIAL, *range(len(surfaces)), SPECIAL]),
        "gold": np.zeros(size, dtype=bool),
        "unknown": np.zeros(size, dtype=bool),
        "scores": present / present.sum(1, keepdims=True),
        "enters": enters,
        "thresholds": np.full(layers, 0.05),
        "labels": ("NEG", "POS"),
        "probabilities": np.array([0.25, 0.75]),
        "full_probabilities": np.array([0.4, 0.6]),
        "layer_flops": np.full(layers, 1e6),
        "plain_layer_flops": 3.4e6,
        "flops": 3e6,
        "plain_flops": 10.2e6,
        "unread_words": 0,
        "limit": 512,
    }
    return Trace(**{**values, **changes})
