"""Rationales in ERASER's format: their size, and what the classifier says of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adapler.eraser import read_corpus
from analysis import loading
from analysis.documents.alignment import align
from analysis.evaluation import plan, rationale_files
from tests.analysis.evaluation.test_evaluation import run


def test_the_density_is_measured_with_one_seed(
    adapler_folder: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MEASURED", 2)
    (corpus_folder / "val.jsonl").write_text((corpus_folder / "test.jsonl").read_text())
    found = [
        run(adapler_folder, corpus_folder, methods=["random"], metrics=["f1_at_density"], seed=seed).meta["selection"]
        for seed in range(6)
    ]
    assert all(one == found[0] for one in found), "so that runs of several seeds can be merged"


def test_ties_fall_elsewhere_in_another_document() -> None:
    sizes = SimpleNamespace(selection=SimpleNamespace(word_density=0.1), settings=SimpleNamespace(seed=0))
    first, second, again = (rationale_files.hard_rationale(np.zeros(60), sizes, name) for name in ("a", "b", "a"))  # type: ignore[arg-type]
    assert (first == again).all() and first.sum() == second.sum() == 6
    assert (first != second).any(), "no place is every document's"


@pytest.mark.parametrize("variant", ["delete", "mask"])
def test_what_the_classifier_says_of_a_written_rationale(
    variant: str, adapler_folder: Path, corpus_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"rationale_layer": 2, "faithfulness_variant": variant, "density": 0.4}
    metrics = ["average_precision", "comprehensiveness_20"]
    run(adapler_folder, corpus_folder, methods=["saliency"], metrics=metrics, rationales=tmp_path, **options)
    rows = {
        row["annotation_id"]: row for row in map(json.loads, (tmp_path / "saliency.jsonl").read_text().splitlines())
    }
    row = rows["neg_1"]
    example = {one.id: one for one in read_corpus(corpus_folder).splits["test"]}["neg_1"]
    (window,) = align(example, tiny_tokenizer, max_length=24).windows
    classifier = loading.load_models(None, adapler_folder)[0]
    hard = np.zeros(len(example.words), dtype=bool)
    for span in row["rationales"][0]["hard_rationale_predictions"]:
        hard[span["start_token"] : span["end_token"]] = True
    assert hard.sum() == 5, "ceil(.4 of 11 words), as asked for"
    marked = ~window.special & hard[window.words]

    def probabilities(gone: np.ndarray) -> dict[str, Any]:
        ids = window.input_ids.copy()
        ids[gone] = tiny_tokenizer.mask_token_id
        kept = ids if variant == "mask" else window.input_ids[~gone]
        with torch.no_grad():
            shares = classifier(input_ids=torch.tensor(kept[None])).logits.softmax(-1)[0]
        return {name: pytest.approx(float(one), abs=1e-5) for name, one in zip(("NEG", "POS"), shares, strict=True)}

    assert row["classification_scores"] == probabilities(np.zeros(len(window), dtype=bool))
    assert row["comprehensiveness_classification_scores"] == probabilities(marked)
    assert row["sufficiency_classification_scores"] == probabilities(~window.special & ~marked)
