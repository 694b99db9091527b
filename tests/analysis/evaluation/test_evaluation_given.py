"""Scores from files, human rationales, faithfulness, protocols, rationales written and read back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapler.data.eraser import read_corpus
from adapler.errors import ArgumentError
from analysis import loading
from analysis.documents.alignment import align
from analysis.documents.batching import collate
from analysis.metrics import plausibility as pl
from analysis.scores import get_method
from tests.analysis.evaluation.test_evaluation import run, value


def test_a_perfect_human_and_its_ceiling(adapler_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    lines = (corpus_folder / "test.jsonl").read_text().splitlines()
    (tmp_path / "crowd.jsonl").write_text("\n".join(lines[:2]))  # neg_0 and neg_1 only
    result = run(
        adapler_folder,
        corpus_folder,
        methods=["random"],
        predictions=[tmp_path / "crowd.jsonl"],
        human=corpus_folder / "test.jsonl",
        metrics=["average_precision", "fpr", "tpr", "roc_auc"],
    )
    assert result.methods == ("random", "crowd", "human")
    assert result.meta["layerwise"] == {"random": True, "crowd": False, "human": False}
    for document in ("neg_0", "neg_1", "pos_0", "pos_long"):
        for metric, best in (("average_precision", 1), ("fpr", 0), ("tpr", 1), ("roc_auc", 1)):
            assert value(result, "human", 0, document, metric) == best, (document, metric)
    assert result.meta["missing"] == {"crowd": 4, "human": 0}
    rows = result.to_frame()
    assert set(rows[rows["method"] == "crowd"]["document"]) == {"neg_0", "neg_1"}
    with pytest.raises(ArgumentError, match="predictions: two files are named 'human'"):
        run(
            adapler_folder,
            corpus_folder,
            predictions=[_named(tmp_path, lines, "human")],
            human=tmp_path / "crowd.jsonl",
        )
    with pytest.raises(ArgumentError, match="predictions: 'random' is the name of a method"):
        run(adapler_folder, corpus_folder, methods=["random"], predictions=[_named(tmp_path, lines, "random")])


def _named(folder: Path, lines: list[str], name: str) -> Path:
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder / f"{name}.jsonl"


def test_predictions_under_all_windows_keep_their_ranking(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    # "unforgettable" is two wordpieces; windows must not be normalised one by one
    words = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["pos_long"]
    scores = np.linspace(1, 2, len(words.words))
    soft = [{"docid": "pos_long", "soft_rationale_predictions": scores.tolist()}]
    (tmp_path / "mine.jsonl").write_text(json.dumps({"annotation_id": "pos_long", "rationales": soft}))
    for aggregation in ("max", "mean", "sum"):
        result = run(
            adapler_folder,
            corpus_folder,
            methods=[],
            predictions=[tmp_path / "mine.jsonl"],
            policy="all-windows",
            aggregation=aggregation,
        )
        expected = pl.average_precision(words.rationale(), scores)
        assert value(result, "mine", 0, "pos_long", "average_precision") == pytest.approx(expected)


def test_faithfulness(adapler_folder: Path, corpus_folder: Path, tiny_tokenizer: Any) -> None:
    names = ["average_precision", "comprehensiveness_20", "sufficiency_50", "aopc_comprehensiveness", "loo_kendall"]
    result = run(adapler_folder, corpus_folder, methods=["saliency", "random"], metrics=names, faithfulness_layers=[2])
    assert result.metrics == tuple(names)
    assert np.isnan(result.values[:, :2, :, 1:]).all()  # layers that were not asked for
    classifier = loading.load_models(None, adapler_folder)[0]
    example = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["neg_1"]
    (window,) = align(example, tiny_tokenizer, max_length=24).windows
    batch = collate([window], pad_token_id=5)
    scores = get_method("saliency")(classifier, batch).scores[0, 2].numpy()
    content = np.flatnonzero(~window.special)
    order = content[np.argsort(-scores[content], kind="stable")]

    def probability(kept: np.ndarray) -> Any:
        ids = torch.tensor([window.input_ids[np.sort(kept)].tolist()])
        return classifier(input_ids=ids).logits.softmax(-1)[0].detach().numpy()

    whole = probability(np.arange(len(window)))
    target = int(whole.argmax())
    k = math.ceil(0.2 * len(content))
    expected = whole[target] - probability(np.setdiff1d(np.arange(len(window)), order[:k]))[target]
    assert value(result, "saliency", 2, "neg_1", "comprehensiveness_20") == pytest.approx(expected, abs=1e-5)
    special = np.flatnonzero(window.special)
    expected = whole[target] - probability(np.union1d(special, order[: math.ceil(0.5 * len(content))]))[target]
    assert value(result, "saliency", 2, "neg_1", "sufficiency_50") == pytest.approx(expected, abs=1e-5)
    assert -1 <= value(result, "random", 2, "neg_1", "loo_kendall") <= 1


def test_protocols_fix_and_options_override(adapler_folder: Path, corpus_folder: Path) -> None:
    short = {"methods": ["random"], "faithfulness_layers": [0]}
    eraser = run(adapler_folder, corpus_folder, protocol="eraser", **short)
    assert (eraser.meta["protocol"], eraser.meta["policy"], eraser.meta["aggregation"]) == (
        "eraser",
        "all-windows",
        "max",
    )
    assert "iou_f1" in eraser.metrics and "aopc_sufficiency" in eraser.metrics
    mine = run(adapler_folder, corpus_folder, protocol="eraser", policy="truncate", metrics=["ranking"], **short)
    assert mine.meta["policy"] == "truncate" and mine.meta["aggregation"] == "max"
    assert mine.metrics[:2] == ("average_precision", "roc_auc")
    ferret = run(adapler_folder, corpus_folder, protocol="ferret", **short)
    assert "loo_kendall" in ferret.metrics and np.isfinite(ferret.values[0, 0, 0]).any()


def test_rationales_can_be_evaluated_again(adapler_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"policy": "all-windows", "aggregation": "max"}
    first = run(adapler_folder, corpus_folder, methods=["saliency", "cp"], rationales=tmp_path / "out", **options)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cp.jsonl", "saliency.jsonl"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "saliency.jsonl").read_text().splitlines()]
    assert [row["annotation_id"] for row in rows] == [d.id for d in first.documents]
    examples = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}
    for row, document in zip(rows, first.documents, strict=True):
        (rationale,) = row["rationales"]
        assert len(rationale["soft_rationale_predictions"]) == len(examples[row["annotation_id"]].words)
        assert rationale["docid"] == row["annotation_id"] and rationale["hard_rationale_predictions"]
        assert row["classification"] == document.prediction
        assert sum(row["classification_scores"].values()) == pytest.approx(1)
    again = run(adapler_folder, corpus_folder, methods=[], predictions=[tmp_path / "out" / "saliency.jsonl"], **options)
    ours = first.values[0, :, :, 0]  # (L, D) average precision
    best = np.nanmean(ours, axis=1).argmax()
    np.testing.assert_allclose(again.values[0, 0, :, 0], ours[best], atol=1e-9)
