"""Every method's rationales as a file in ERASER's format, one a method, at one layer.

L' layers of a method; W words of a document
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.documents.aggregation import aggregate
from analysis.documents.eraser_format import Prediction, write_rationales
from analysis.documents.units import WindowScores
from analysis.documents.windows import Window
from analysis.evaluation.plan import Plan
from analysis.evaluation.scoring import ScoredWindow, Scorer, score_documents
from analysis.metrics.selection import density_size, select_top_k
from analysis.results.report import ReportData


def write_method_rationales(
    folder: str | Path,
    report: ReportData,
    *,
    plan: Plan,
    scorer: Scorer,
    layer: int | None = None,
) -> list[Path]:
    """METHOD.jsonl for every method that a model computed, in `folder`; scores come out of the scorer's cache.

    layer: of the scores; None is the layer with the best mean average precision (layer 0 if that is not among the
        metrics). A method with a meaning at the input only has no other.

    A word's score is its wordpieces' aggregate (the highest of them when the evaluation was on wordpieces); a word
    out of view has the lowest score of its document. The hard rationale is the k best words, k = density · W with
    the data set's mean density. The class is that of the model whose scores these are.
    """
    paths = []
    examples = {example.id: example for example in plan.examples}
    for m, method in enumerate(scorer.methods):
        chosen = _layer(report, m, layer) if method.layerwise else 0
        path = Path(folder) / f"{file_name(method.key)}.jsonl"
        write_rationales(path, _predictions(m, chosen, plan, scorer), examples)
        paths.append(path)
    return paths


def file_name(method: str) -> str:
    """A method's key as a file name: letters, digits, "_", ".", "=" and "-"."""
    return re.sub(r"[^\w.=-]+", "-", method).strip("-")


def _layer(report: ReportData, method: int, wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    if "average_precision" not in report.metrics:
        return 0
    values = report.values[method, :, :, report.metrics.index("average_precision")]  # (L, D)
    defined = ~np.isnan(values)
    means = np.where(defined, values, 0).sum(1) / np.maximum(defined.sum(1), 1)
    return int(means.argmax())


def _predictions(method: int, layer: int, plan: Plan, scorer: Scorer) -> Iterator[Prediction]:
    names = {int(index): str(name) for index, name in scorer.model.config.id2label.items()}
    chosen = scorer.methods[method]
    for i, scored in score_documents(plan, scorer):
        example = plan.examples[i]
        scores = word_scores(
            [one.window for one in scored],
            [one.scores[chosen.key] for one in scored],
            layer=layer,
            n_words=len(example.words),
            aggregation=plan.settings.aggregation,
        )
        size = density_size(plan.word_density or 0.0, len(scores))
        logits = np.mean([_logits(one, "adapler" in chosen.needs) for one in scored], axis=0)  # (C,)
        probabilities = np.exp(logits - np.max(logits), dtype=np.float64)
        probabilities /= probabilities.sum()
        yield Prediction(
            example.id,
            scores,
            select_top_k(scores, size),
            {names[c]: float(p) for c, p in enumerate(probabilities)},
        )


def _logits(scored: ScoredWindow, reduced: bool) -> NDArray[Any]:
    return scored.adapler_logits if reduced and scored.adapler_logits is not None else scored.logits


def word_scores(
    windows: Sequence[Window], given: Sequence[WindowScores], *, layer: int, n_words: int, aggregation: str
) -> NDArray[np.float64]:
    """(W,) scores of all words of a document; windows count with the weight n/N, as under "all-windows"."""
    total = sum(len(window) for window in windows)
    parts, words = [], []
    for window, one in zip(windows, given, strict=True):
        content = ~window.special
        weight = 1.0 if one.signed else len(window) / total
        parts.append(one.scores[layer, content].astype(np.float64) * weight)
        words.append(window.words[content])
    pieces = np.concatenate(parts)
    by_word, kept = aggregate(pieces, np.concatenate(words), how="max" if aggregation == "none" else aggregation)
    scores = np.full(n_words, np.min(by_word, initial=0.0))
    scores[kept] = by_word
    return scores
