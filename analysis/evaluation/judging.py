"""Scored windows -> metric values, curves, correlations, diagnostics and the examples that a report shows.

M methods, L layers (L' of one method), D documents, K metrics; U content wordpieces or words of a unit
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError, counted
from analysis.documents.pieces import readable_tokens
from analysis.documents.units import (
    WindowScores,
    group,
    is_judged,
    layer_units,
    marked_units,
    unit_labels,
    word_scores,
)
from analysis.documents.windows import Window
from analysis.evaluation.accumulation import CurvesAndCorrelations, RunningMean
from analysis.evaluation.faithfulness import Perturbation
from analysis.evaluation.given import GivenScores
from analysis.evaluation.plan import Plan, example_window
from analysis.evaluation.rationale_files import hard_rationale, span_documents
from analysis.evaluation.scoring import ScoredWindow
from analysis.metrics.eraser_scorer import EraserScores
from analysis.metrics.registry import compute, get_metric
from analysis.metrics.statistics import few_documents
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
    ) -> None:
        self.plan, self.methods, self.given = plan, tuple(methods), tuple(given)
        self.perturbation = perturbation
        self.names = (*(method.key for method in methods), *(one.name for one in given))
        self.metrics = plan.settings.metrics
        self.values = np.full((len(self.names), n_layers, len(plan), len(self.metrics)), np.nan)
        self._pictures = CurvesAndCorrelations(self.names, n_layers)
        self._shown = frozenset(plan.example_documents())
        self._examples: dict[int, tuple[ScoredWindow, dict[str, NDArray[np.float32]]]] = {}
        self._diagnostics: dict[str, dict[str, list[float]]] = {}
        self._hards = {one.name: one for one in self.given}
        self._eraser: dict[str, list[EraserScores]] | None = None
        if plan.settings.as_eraser:
            self._eraser = {name: [] for name in self.names}
        for one in self.given:
            if one.layers not in (None, n_layers):
                found = f"{one.name!r} has scores of {counted(one.layers, 'layer')}"
                raise ArgumentError(f"predictions: {found}; the model, or another of them, has {n_layers}")

    def meta(self, *, rationales: bool = False) -> dict[str, Any]:
        """What a report says about the judging, beside the settings; rationales: whether they are written, too.

        accuracy_of      what the accuracy is of when it is not of documents; None otherwise
        sample           how the documents were chosen; None for the whole split
        selection        size of a hard rationale of k best tokens: density, size, word_density and their source
        chance_by_method of given scores: density and AP of random scores over the documents that have scores
        eraser_scores    `--protocol eraser`: method -> for each layer what ERASER's scorer prints, of the documents
                         that somebody annotated
        notes            lines that are worth printing above the results
        """
        plan, selection = self.plan, None
        if any(get_metric(name).uses_density for name in self.metrics) or self._eraser is not None:
            selection = asdict(plan.selection) | {"split": plan.split}
        scored = sum(outline.skipped is None for outline in plan.outlines)
        notes = [plan.sample, few_documents(scored) if scored else plan.why_none_is_scored, plan.misquoted]
        if plan.accuracy_of:
            notes.append(f"accuracy is of {plan.accuracy_of}")
        # a density that is given leaves the mean size measured
        sized = any(get_metric(name).uses_size for name in self.metrics)
        sources = {plan.measured.source} if sized else set()
        if plan.settings.by_density or rationales:
            sources.add(plan.selection.source)
        if plan.split in sources:
            notes.append(
                "the size of hard rationales is that of the evaluated split itself: no other split has rationales"
            )
        return {
            "accuracy_of": plan.accuracy_of,
            "sample": plan.sample,
            "selection": selection,
            "chance_by_method": {one.name: self._chance(one) for one in self.given},
            "notes": [note for note in notes if note],
        } | ({} if self._eraser is None else {"eraser_scores": self._eraser_scores()})

    def _chance(self, one: GivenScores) -> dict[str, float | int | None]:
        there = np.array([example.id in one.predictions for example in self.plan.examples])
        there &= ~np.isnan(self.plan.densities)
        chances = self.plan.chances[there & ~np.isnan(self.plan.chances)]
        return {
            "documents": int(there.sum()),
            "density": float(self.plan.densities[there].mean()) if there.any() else None,
            "average_precision": float(chances.mean()) if len(chances) else None,
        }

    def _eraser_scores(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for name, layers in (self._eraser or {}).items():
            if any(len(layer) and layer.has_rationale for layer in layers):
                found[name] = [layer.scores() for layer in layers]
        return found

    @property
    def curves(self) -> dict[str, NDArray[np.float64]]:
        return self._pictures.curves

    @property
    def curve_errors(self) -> dict[str, NDArray[np.float64]]:
        return self._pictures.curve_errors

    @property
    def correlations(self) -> NDArray[np.float64]:
        return self._pictures.correlations

    @property
    def diagnostics(self) -> dict[str, dict[str, dict[str, float]]]:
        """method -> diagnostic -> mean, min and max over windows and layers."""
        return {
            method: {
                name: {"mean": total / n, "min": lowest, "max": highest}
                for name, (total, n, lowest, highest) in found.items()
            }
            for method, found in self._diagnostics.items()
        }

    def add(self, document: int, scored: Sequence[ScoredWindow]) -> None:
        """document: its index; scored: its windows."""
        self._note_diagnostics(scored)
        windows = [one.window for one in scored]
        scores = self.scores_of(document, scored)
        if document in self._shown:
            self._examples[document] = _drawn(scored, scores)
        if self._eraser is not None:
            self._judge_as_eraser(document, windows, scores)
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
            if settings.needs_rationale and not is_judged(labels, all_rationale=self.plan.all_rationale):
                continue
            by_method: dict[str, NDArray[np.float64]] = {}
            for name, rows in scores.items():
                hard = self._hards[name].hard(self.plan.examples[document].id) if name in self._hards else None
                one = layer_units(
                    unit,
                    rows[at],
                    labels,
                    aggregation=settings.aggregation,
                    hard=None if hard is None else marked_units(unit, hard, aggregation=settings.aggregation),
                    seed=settings.seed,
                    **self._sizes,
                )
                by_method[name] = np.stack([layer.scores for layer in one])
                if metrics:
                    means[name].add(np.array([compute(metrics, layer) for layer in one]))  # (L', K of them)
            if labels.any() and not labels.all():
                pictures.append((labels, by_method))
        self._pictures.add(pictures)
        for name, mean in means.items():
            values = mean.mean  # (L', K of them)
            self.values[self.names.index(name), : len(values), document][:, columns] = values

    @cached_property
    def _sizes(self) -> dict[str, float]:
        """Density and size of rationales, for metrics that need them; other splits are read only then."""
        if not any(get_metric(name).uses_density for name in self.plan.settings.plain_metrics):
            return {}
        selection = self.plan.selection
        return {"density": 0.0 if math.isnan(selection.density) else selection.density, "size": selection.size}

    def _judge_as_eraser(self, document: int, windows: Sequence[Window], scores: ByMethod) -> None:
        """Every document that somebody annotated counts for ERASER's scorer, also one without a rationale."""
        settings, example = self.plan.settings, self.plan.examples[document]
        if not getattr(example, "annotated", True):
            return
        for name, rows in scores.items():
            given = self._hards[name].hard(example.id) if name in self._hards else None
            words = word_scores(windows, rows, n_words=len(example.words), aggregation=settings.aggregation)  # (L', W)
            layers = (self._eraser or {})[name]
            layers += [EraserScores() for _ in range(len(words) - len(layers))]
            for layer, row in zip(layers, words, strict=True):
                hard = hard_rationale(row, self.plan, example.id) if given is None else given
                for one in span_documents(example, row, hard):
                    layer.add(one)

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
                    found = self._diagnostics.setdefault(method, {}).setdefault(name, [0.0, 0, np.inf, -np.inf])
                    found[0] += float(values.sum(dtype=np.float64))
                    found[1] += values.size
                    found[2] = min(found[2], float(np.min(values, initial=np.inf)))
                    found[3] = max(found[3], float(np.max(values, initial=-np.inf)))

    def examples(self, records: Sequence[DocumentRecord]) -> tuple[DocumentScores, ...]:
        """The documents that a report shows token by token."""
        return tuple(
            DocumentScores(
                id=shown.window.id,
                tokens=readable_tokens(self.plan.tokenizer, shown.window.input_ids.tolist()),
                words=shown.window.words,
                rationale=shown.window.rationale,
                scores=scores,
                retention=None if shown.retention is None else np.array(shown.retention),
                prediction=records[i].adapler_prediction or records[i].prediction,
                label=records[i].label,
            )
            for i, (shown, scores) in sorted(self._examples.items())
        )


def _units(windows: Sequence[Window], policy: str) -> list[tuple[list[Window], slice]]:
    """Each unit's windows, and where they are among the document's."""
    units, start = [], 0
    for unit in group(windows, policy=policy):
        units.append((unit, slice(start, start + len(unit))))
        start += len(unit)
    return units


def _drawn(scored: Sequence[ScoredWindow], scores: ByMethod) -> tuple[ScoredWindow, dict[str, NDArray[np.float32]]]:
    """The window of a document that is shown, and each method's scores of it."""
    k = example_window([one.window for one in scored])
    return scored[k], {name: np.array(rows[k].scores, dtype=np.float32) for name, rows in scores.items()}
