"""Evaluation of encoded rows: scores, speedups and windows by hand."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
import torch

from adapler import ArgumentError, DataError
from adapler.evaluation import by_example, classifier_score, evaluate_rows, evaluation_table, score_predictions
from adapler.flops import speedup
from adapler.system import choose_device
from tests.conftest import LAYERS, random_batch, tiny_adapler, tiny_classifier

LENGTHS = [9, 4, 12, 7, 3]


def rows(labels: list[int], examples: list[str] | None = None) -> datasets.Dataset:
    batch = random_batch(LENGTHS, seed=5)
    ids = [batch["input_ids"][row, :n].tolist() for row, n in enumerate(LENGTHS)]
    return datasets.Dataset.from_dict(
        {
            "example_id": examples or [f"e{row}" for row in range(len(LENGTHS))],
            "input_ids": ids,
            "attention_mask": [[1] * n for n in LENGTHS],
            "labels": labels,
        }
    )


def alone(model: Any, data: datasets.Dataset, **options: Any) -> list[Any]:
    """Outputs of each row by itself."""
    with torch.no_grad():
        return [model(torch.tensor([ids]), **options) for ids in data["input_ids"]]


def test_by_example_by_hand() -> None:
    values = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0], [0.0, 1.0]])
    examples, means = by_example(values, ["b", "b", "a", "c"])
    assert examples == ["b", "a", "c"]
    assert means.tolist() == [[2.0, 1.0], [5.0, 5.0], [0.0, 1.0]]


def test_equals_one_by_one() -> None:
    model, data = tiny_adapler(), rows([0, 1, 2, 0, 1])
    result = evaluate_rows(model, data, pad_token_id=0, threshold_scales=[0.0, 1.0, 1.5])
    plain = [int(out.logits.argmax()) for out in alone(model, data, removal="none")]
    assert result["none"]["score"] == sum(a == b for a, b in zip(plain, data["labels"], strict=True)) / 5
    assert (result["examples"], result["rows"], result["metric"]) == (5, 5, "accuracy")
    assert result["hard"][0]["agreement"] == 1.0 and result["hard"][0]["lengths"] == [7.0] * LAYERS
    for hard in result["hard"]:
        outputs = alone(model, data, removal="hard", threshold_scale=hard["threshold_scale"])
        chosen = [int(out.logits.argmax()) for out in outputs]
        lengths = torch.cat([out.lengths for out in outputs])  # (5, L)
        assert hard["score"] == sum(a == b for a, b in zip(chosen, data["labels"], strict=True)) / 5
        assert hard["agreement"] == sum(a == b for a, b in zip(chosen, plain, strict=True)) / 5
        assert hard["lengths"] == pytest.approx(lengths.double().mean(0).tolist()) and hard["lengths_in"] == 7.0
        assert hard["speedup"] == pytest.approx(speedup(model.config, torch.tensor(LENGTHS), lengths))
        executed = speedup(model.config, torch.tensor(LENGTHS), lengths, convention="executed")
        assert hard["speedup_executed"] == pytest.approx(executed) and executed != hard["speedup"]
    assert result["hard"][2]["speedup"] > result["hard"][1]["speedup"] > result["hard"][0]["speedup"]
    table = evaluation_table(result).splitlines()
    assert len(table) == 6 and "1.00x" in table[1] and table[-1].startswith("speedup: FLOPs, every layer whole")


def test_windows_of_an_example_are_averaged() -> None:
    """Wherever they stand."""
    model, data = tiny_adapler(), rows([0, 2, 1, 0, 2], ["a", "c", "b", "a", "c"])
    result = evaluate_rows(model, data, pad_token_id=0)
    logits = [out.logits[0] for out in alone(model, data, removal="hard")]
    chosen = [int(x.argmax()) for x in ((logits[0] + logits[3]) / 2, (logits[1] + logits[4]) / 2, logits[2])]
    assert (result["examples"], result["rows"]) == (3, 5)
    assert result["hard"][0]["score"] == sum(a == b for a, b in zip(chosen, [0, 2, 1], strict=True)) / 3


def test_errors() -> None:
    with pytest.raises(DataError, match="^labels: 3 found, but the model has 3 labels, 0 to 2$"):
        evaluate_rows(tiny_adapler(), rows([0, 1, 3, 0, 0]), pad_token_id=0)
    with pytest.raises(DataError, match="^labels: -1 found, but"):
        evaluate_rows(tiny_adapler(), rows([0, 1, -1, 0, 0]), pad_token_id=0)


def test_logits_that_are_no_numbers_are_no_score() -> None:
    model = tiny_adapler()
    with torch.no_grad():
        model.backbone.classifier.weight[0, 0] = torch.nan
    for score in (evaluate_rows, lambda model, *rest, **more: classifier_score(model.backbone, *rest, **more)):
        with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite, so that no label follows"):
            score(model, rows([0, 1, 2, 0, 1]), pad_token_id=0)


def test_a_multi_label_classifier_is_not_scored_as_a_single_label_one() -> None:
    classifier = tiny_classifier(problem_type="multi_label_classification")
    with pytest.raises(ArgumentError, match="^problem_type: 'multi_label_classification' is not supported"):
        classifier_score(classifier, rows([0, 1, 2, 0, 1]), pad_token_id=0)


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device() == torch.device("cuda", 3)


def test_scores_by_hand() -> None:
    assert score_predictions([0, 1, 1, 0], [0, 1, 0, 0]) == 0.75
    assert score_predictions([0, 1, 1, 0], [0, 1, 0, 0], metric="f1") == pytest.approx(2 / 3)
