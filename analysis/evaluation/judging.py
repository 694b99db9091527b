"""Scored windows -> metric values, curves, correlations, diagnostics and the examples that a report shows.

M methods, L layers (L' of one method), D documents, K metrics; U content wordpieces or words of a unit
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.documents.units import (
    UnitScores,
    WindowScores,
    group,
    unit_labels,
    unit_scores,
    why_skipped,
)
from analysis.documents.windows import Window
from analysis.evaluation.accumulation import CurvesAndCorrelations, RunningMean
from analysis.evaluation.faithfulness import Perturbation
from analysis.evaluation.given import GivenScores
from analysis.evaluation.plan import Plan, example_window
from analysis.evaluation.scoring import ScoredWindow
from analysis.metrics.registry import compute
from analysis.results.report import DocumentRecord, DocumentScores
from analysis.scores import ScoringMethod

ByMethod = dict[str, tuple[WindowScores, ...]]


class Judge:
    """Judges one document after the other.

    values: (M, L, D, K); NaN where nothing is defined. A document's value is the mean over its units that can be
        judged; for faithfulness, over its windows, since each of them is an input of its own.
    """

    def __init__(
        self,
        plan: Plan,
        methods: Sequence[ScoringMethod],
        given: Sequence[GivenScores],
        *,
        n_layers: int,
        perturbation: Perturbation,
        tokenizer: Any,
    ) -> None:
        self.plan, self.methods, self.given = plan, tuple(methods), tuple(given)
        self.perturbation, self.tokenizer = perturbation, tokenizer
        self.names = (*(method.key for method in methods), *(one.name for one in given))
        self.metrics = plan.settings.metrics
        self.values = np.full((len(self.names), n_layers, len(plan), len(self.metrics)), np.nan)
        self._pictures = CurvesAndCorrelations(self.names, n_layers)
        self._shown = {i: None for i in plan.example_documents()}
        self._examples: dict[int, dict[str, Any]] = {}
        self._diagnostics: dict[str, dict[str, list[float]]] = {}

    @property
    def curves(self) -> dict[str, NDArray[np.float64]]:
        return self._pictures.curves

    @property
    def correlations(self) -> NDArray[np.float64]:
        return self._pictures.correlations

    @property
    def diagnostics(self) -> dict[str, dict[str, dict[str, float]]]:
        """method -> diagnostic -> mean and max over windows and layers."""
        return {
            method: {name: {"mean": total / n, "max": highest} for name, (total, n, highest) in found.items()}
            for method, found in self._diagnostics.items()
        }

    def add(self, document: int, scored: Sequence[ScoredWindow]) -> None:
        """document: its index; scored: its windows."""
        self._note_diagnostics(scored)
        windows = [one.window for one in scored]
        scores = self.scores_of(document, scored)
        if document in self._shown:
            self._examples[document] = _drawn(scored, scores)
        if self.plan.outlines[document].skipped is None:
            self._judge(document, windows, scores)
            if self.perturbation.metrics:
                self._judge_faithfulness(document, scored, scores)

    def scores_of(self, document: int, scored: Sequence[ScoredWindow]) -> ByMethod:
        """method -> its scores of the document's windows; a method without any for it is left out."""
        settings = self.plan.settings
        found = {method.key: tuple(one.scores[method.key] for one in scored) for method in self.methods}
        for one in self.given:
            windows = one.windows(
                self.plan.examples[document].id,
                [window.window for window in scored],
                policy=settings.policy,
                aggregation=settings.aggregation,
            )
            if windows is not None:
                found[one.name] = windows
        return found

    def _judge(self, document: int, windows: Sequence[Window], scores: ByMethod) -> None:
        settings, metrics = self.plan.settings, self.plan.settings.plain_metrics
        columns = [self.metrics.index(name) for name in metrics]
        means = {name: RunningMean((len(rows[0].scores), len(metrics))) for name, rows in scores.items()}
        pictures = []
        for unit, at in _units(windows, settings.policy):
            labels = unit_labels(unit, aggregation=settings.aggregation)
            if why_skipped([labels]) is not None:
                continue
            by_method: dict[str, NDArray[np.float64]] = {}
            for name, rows in scores.items():
                one = unit_scores(unit, rows[at], aggregation=settings.aggregation)
                by_method[name] = one.scores
                if metrics:
                    means[name].add(self._metrics(one, labels))
            pictures.append((labels, by_method))
        self._pictures.add(pictures)
        for name, mean in means.items():
            values = mean.mean  # (L', K of them)
            self.values[self.names.index(name), : len(values), document][:, columns] = values

    def _metrics(self, scores: UnitScores, labels: NDArray[np.bool_]) -> NDArray[np.float64]:
        settings = self.plan.settings
        size = math.nan if self.plan.rationale_size is None else self.plan.rationale_size
        density, units = self.plan.density or 0.0, "token" if settings.aggregation == "none" else "word"
        rows = [
            compute(
                settings.plain_metrics,
                scores.at(layer, labels, density=density, size=size, units=units),
            )
            for layer in range(len(scores.scores))
        ]
        return np.array(rows)  # (L', K of them)

    def _judge_faithfulness(self, document: int, scored: Sequence[ScoredWindow], scores: ByMethod) -> None:
        columns = [self.metrics.index(name) for name in self.perturbation.metrics]
        means: dict[str, RunningMean] = {}
        for k, one in enumerate(scored):
            target = int(one.logits.argmax())
            ours = {name: rows[k] for name, rows in scores.items()}
            for name, values in self.perturbation.values(one.window, target, ours).items():
                means.setdefault(name, RunningMean(values.shape)).add(values)
        for name, mean in means.items():
            values = mean.mean
            self.values[self.names.index(name), : len(values), document][:, columns] = values

    def _note_diagnostics(self, scored: Sequence[ScoredWindow]) -> None:
        for one in scored:
            for method, scores in one.scores.items():
                for name, values in scores.diagnostics.items():
                    found = self._diagnostics.setdefault(method, {}).setdefault(name, [0.0, 0, -np.inf])
                    found[0] += float(values.sum(dtype=np.float64))
                    found[1] += values.size
                    found[2] = max(found[2], float(np.max(values, initial=-np.inf)))

    def examples(self, records: Sequence[DocumentRecord]) -> tuple[DocumentScores, ...]:
        """The documents that a report shows token by token."""
        return tuple(
            DocumentScores(
                tokens=tuple(self.tokenizer.convert_ids_to_tokens(found.pop("ids").tolist())),
                prediction=records[i].adapler_prediction or records[i].prediction,
                label=records[i].label,
                **found,
            )
            for i, found in ((i, dict(self._examples[i])) for i in sorted(self._examples))
        )


def _units(windows: Sequence[Window], policy: str) -> list[tuple[list[Window], slice]]:
    """Each unit's windows, and where they are among the document's."""
    units, start = [], 0
    for unit in group(windows, policy=policy):
        units.append((unit, slice(start, start + len(unit))))
        start += len(unit)
    return units


def _drawn(scored: Sequence[ScoredWindow], scores: ByMethod) -> dict[str, Any]:
    k = example_window([one.window for one in scored])
    window, retention = scored[k].window, scored[k].retention
    return {
        "id": window.id,
        "ids": window.input_ids,
        "words": window.words,
        "rationale": window.rationale,
        "scores": {name: np.array(rows[k].scores) for name, rows in scores.items()},
        "retention": None if retention is None else np.array(retention),
    }
