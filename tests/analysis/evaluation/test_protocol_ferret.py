"""`--protocol ferret` against a slow implementation of what ferret 0.4.2 computes, from the scores in a report.

ferret itself takes the remaining tokens through text; with this tokenizer's whole words that gives the same ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve

from analysis import rationale_eval
from analysis.evaluation.protocols import PROTOCOLS
from analysis.metrics.registry import Unit, compute
from analysis.output.report import RationaleReport
from analysis.results.report import DocumentScores

METHODS = ("saliency", "cp", "integrated_gradients(n_steps=3)", "random")
Probability = Callable[[list[int]], float]


def best(scores: list[float], k: int) -> list[int]:
    """The k best tokens, those without a positive score left out."""
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return [i for i in ranked[:k] if scores[i] > 0]


def aopc(p: Probability, ids: list[int], scores: list[float], *, keep: bool) -> float:
    """Mean drop of the probability over the tenths of the tokens, a set that comes again counting once."""
    inner, seen, drops = ids[1:-1], None, []
    for tenth in range(1, 11):
        chosen = set(best(scores, tenth * len(scores) // 10))
        if chosen and chosen != seen:
            rest = [token for i, token in enumerate(inner) if (i in chosen) == keep]
            drops.append(p(ids) - p([ids[0], *rest, ids[-1]]))
            seen = chosen
    return sum(drops) / len(drops) if drops else math.nan


def tau(first: list[float], second: list[float]) -> float:
    """Kendall's tau-b, pair by pair."""
    n, same, one_tied, other_tied = len(first), 0.0, 0, 0
    for i in range(n):
        for j in range(i):
            a, b = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
            same += a * b
            one_tied, other_tied = one_tied + (a == 0), other_tied + (b == 0)
    pairs = n * (n - 1) / 2
    scale = math.sqrt((pairs - one_tied) * (pairs - other_tied))
    return same / scale if scale else math.nan


def hard(gold: set[int], chosen: set[int]) -> tuple[float, float]:
    """Token F1 and token IOU."""
    hits = len(gold & chosen)
    return 2 * hits / (len(gold) + len(chosen)), hits / len(gold | chosen)


def ferret(p: Probability, ids: list[int], scores: list[float], gold: list[bool], size: int) -> dict[str, float]:
    """The protocol's metrics of one text."""
    truth = {i for i, marked in enumerate(gold) if marked}
    precision, recall, _ = precision_recall_curve(gold, [max(score, 0) for score in scores])
    drops = [p(ids) - p(ids[: i + 1] + ids[i + 2 :]) for i in range(len(scores))]
    result = {
        "auprc_positive": auc(recall, precision),
        "aopc_comprehensiveness": aopc(p, ids, scores, keep=False),
        "aopc_sufficiency": aopc(p, ids, scores, keep=True),
        "loo_kendall": tau(drops, scores),
    }
    for name, k in (("5", 5), ("mean", size)):
        result[f"token_f1_at_{name}"], result[f"token_iou_at_{name}"] = hard(truth, set(best(scores, k)))
    return result


@pytest.fixture
def report(adapler_folder: Path, corpus_folder: Path) -> RationaleReport:
    return rationale_eval.evaluate(
        adapler=adapler_folder, data=corpus_folder, protocol="ferret", methods=METHODS, examples=6, progress=False
    )


def layer_of(report: RationaleReport, example: DocumentScores, method: str, layer: int) -> list[float]:
    column = [document.id for document in report.documents].index(example.id)
    return list(report.values[report.methods.index(method), layer, column].tolist())


def test_every_number_is_ferret_s(report: RationaleReport, reducer: Any, tiny_tokenizer: Any) -> None:
    assert report.metrics == PROTOCOLS["ferret"].metrics and len(report.examples) == 4
    size = round(np.mean([document.rationale_tokens for document in report.documents if document.skipped is None]))
    compared = 0

    @cache
    def probabilities(ids: tuple[int, ...]) -> list[float]:
        with torch.no_grad():
            found: list[float] = reducer.backbone(torch.tensor([ids])).logits.softmax(-1)[0].tolist()
        return found

    for example in report.examples:
        ids = tiny_tokenizer.convert_tokens_to_ids(list(example.tokens))
        predicted = int(np.argmax(probabilities(tuple(ids))))

        def probability(some: list[int], predicted: int = predicted) -> float:
            return probabilities(tuple(some))[predicted]

        gold = example.rationale[1:-1].tolist()
        for method in METHODS:
            for layer, row in enumerate(example.scores[method]):
                expected = ferret(probability, ids, row[1:-1].tolist(), gold, size)
                found = dict(zip(report.metrics, layer_of(report, example, method, layer), strict=True))
                assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)
                compared += 1
    assert compared == 4 * (3 * 3 + 1)


def test_no_positive_score_is_undefined_and_no_rationale_size_too() -> None:
    unit = Unit(np.array([True, False]), np.array([-1.0, -2.0]), n_input=4, n_present=4, density=0.5, signed=True)
    f1, iou, mean = compute(["token_f1_at_5", "token_iou_at_5", "token_f1_at_mean"], unit)
    assert (f1, iou) == (0, 0) and math.isnan(mean)  # as ferret: nothing is selected, nothing is hit
