"""Methods x layers x documents -> one report.

M methods, L layers (L' of one method), D documents, K metrics; W windows of a document

Documents are read a chunk at a time: aligned, scored (or found in the cache), judged and forgotten, so that
memory does not grow with their number.
"""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm

import adapler as adapler_package
from adapler.errors import ArgumentError
from adapler.model.flops import adapler_flops, backbone_flops
from analysis.evaluation.cache import ScoreCache
from analysis.evaluation.faithfulness import Perturbation
from analysis.evaluation.given import GivenScores
from analysis.evaluation.judging import Judge
from analysis.evaluation.plan import Plan
from analysis.evaluation.rationale_files import layer_of, write_method_rationales
from analysis.evaluation.scoring import ScoredWindow, Scorer, score_documents
from analysis.evaluation.settings import DTYPES, METRICS, TOKEN_BUDGET, Settings
from analysis.metrics.registry import get_metric
from analysis.results.report import DocumentRecord, ReportData
from analysis.scores import ScoringMethod, get_method

__all__ = ["DTYPES", "METRICS", "PAPER_METHODS", "TOKEN_BUDGET", "Settings", "evaluate"]

PAPER_METHODS = ("attention", "attention_received", "rollout", "saliency", "cp", "random")


def evaluate(
    *,
    model: Any,
    tokenizer: Any,
    corpus: Any,
    adapler: Any = None,
    split: str = "test",
    methods: Sequence[str] | None = None,
    settings: Settings | None = None,
    cache: ScoreCache | None = None,
    given: Sequence[GivenScores] = (),
    rationales: str | Path | None = None,
    rationale_layer: int | Mapping[str, int] | None = None,
    meta: dict[str, Any] | None = None,
    progress: bool = True,
) -> ReportData:
    """Score every document of a split with every method, and compare with its rationale, layer by layer.

    model: the plain classifier; adapler: the AdapLeR model, or None (then there is no `cp` and no speedup).
    corpus: an `EraserCorpus`; methods: names of the registry, with options if need be, default PAPER_METHODS.
    cache: where scores are kept; given: scores that were made elsewhere, each one more method.
    rationales: a folder for every method's rationales in ERASER's format, at `rationale_layer`: one layer, or a dict
        of one a method, as `rationale_files.best_layers` makes it from a validation report.
    meta: facts to keep in the report beside the ones gathered here.

    Documents without a rationale token, or without any other, in view are classified, but skipped in the
    metrics, and counted. Models are left as found. Raises ArgumentError for an unknown split, method or label.
    """
    settings = settings or Settings()
    chosen = _methods(methods, adapler is not None, [one.name for one in given])
    n_layers = int(model.config.num_hidden_layers)
    settings.check_layers(n_layers)
    for layer in rationale_layer.values() if isinstance(rationale_layer, Mapping) else (rationale_layer,):
        if layer is not None and not 0 <= layer < n_layers:
            raise ArgumentError(f"rationale_layer: got {layer}, the model has layers 0 to {n_layers - 1}")
    if rationales:
        for method in chosen:
            layer_of(method, rationale_layer)
    plan = Plan(model=model, tokenizer=tokenizer, corpus=corpus, split=split, settings=settings)
    cache = cache or ScoreCache(None)
    # rationales at the best layer need all scores once more, when the best layer is known
    with tempfile.TemporaryDirectory() if rationales and cache.folder is None else nullcontext() as scratch:
        if scratch is not None:
            cache = ScoreCache(scratch)
        scorer = Scorer(
            model=model, adapler=adapler, tokenizer=tokenizer, methods=chosen, settings=settings, cache=cache
        )
        perturbation = Perturbation(
            model=model,
            tokenizer=tokenizer,
            settings=settings,
            cache=cache,
            fingerprint=scorer.fingerprint,
            density=_density(plan),
        )
        judge = Judge(plan, chosen, given, n_layers=n_layers, perturbation=perturbation, tokenizer=tokenizer)
        outcome = _Outcome(plan, model, adapler, n_layers)
        n_windows = sum(outline.windows for outline in plan.outlines)
        with (
            tqdm(total=n_windows, desc=f"scoring {split}", unit="window", disable=not progress) as bar,
            tqdm(
                total=n_windows,
                desc="faithfulness",
                unit="window",
                disable=not (progress and settings.faithfulness_metrics),
            ) as faithfulness_bar,
        ):
            for document, scored in score_documents(plan, scorer, tick=bar.update):
                outcome.add(document, scored)
                judge.add(document, scored)
                faithfulness_bar.update(len(scored))
        records = outcome.records()
        report = ReportData(
            methods=judge.names,
            metrics=settings.metrics,
            documents=records,
            values=judge.values,
            meta=_meta(plan, corpus, split, judge, scorer)
            | judge.meta()
            | {"model": _name(model), "adapler": None if adapler is None else _name(adapler)}
            | ({} if adapler is None else {"speedup": outcome.speedup})
            | (meta or {}),
            examples=judge.examples(records),
            curves=judge.curves,
            correlations=judge.correlations,
        )
        if rationales:
            layers = {} if rationale_layer is None else rationale_layer
            write_method_rationales(rationales, plan=plan, scorer=scorer, layers=layers)
    return report


def _density(plan: Plan) -> float | None:
    """Of the rationales, for faithfulness at the data set's density, where that is asked for and known."""
    if not any(get_metric(name).uses_density for name in plan.settings.faithfulness_metrics):
        return None
    return None if math.isnan(plan.selection.density) else plan.selection.density


class _Outcome:
    """What the two models say about the documents: classes, lengths, FLOPs. A document's logits are the mean of
    its windows'."""

    def __init__(self, plan: Plan, model: Any, adapler: Any, n_layers: int) -> None:
        self.plan, self.adapler = plan, adapler
        self.names = {int(index): str(name) for index, name in model.config.id2label.items()}
        self.predicted = np.zeros(len(plan), dtype=np.int64)
        self.predicted_adapler = np.zeros(len(plan), dtype=np.int64)
        self.lengths = np.zeros((len(plan), n_layers), dtype=np.int64)  # (D, L), summed over windows
        self.flops, self.flops_adapler = 0.0, 0.0

    def add(self, document: int, scored: Sequence[ScoredWindow]) -> None:
        self.predicted[document] = np.argmax(np.mean([one.logits for one in scored], axis=0))
        reduced = [one.adapler_logits for one in scored if one.adapler_logits is not None]
        lengths = [one.lengths for one in scored if one.lengths is not None]  # of each window (L,)
        if reduced and lengths:
            self.predicted_adapler[document] = np.argmax(np.mean(reduced, axis=0))
            self.lengths[document] = np.sum(lengths, axis=0)
            tokens = torch.tensor([len(one.window) for one in scored])
            survivors = torch.from_numpy(np.stack(lengths))  # (W, L)
            self.flops += float(backbone_flops(self.adapler.config, tokens).sum())
            self.flops_adapler += float(adapler_flops(self.adapler.config, tokens, survivors).sum())

    @property
    def speedup(self) -> float:
        return self.flops / self.flops_adapler

    def records(self) -> tuple[DocumentRecord, ...]:
        plan, reduced = self.plan, self.adapler is not None
        return tuple(
            DocumentRecord(
                id=example.id,
                label=self.names[plan.gold[i]],
                prediction=self.names[int(self.predicted[i])],
                adapler_prediction=self.names[int(self.predicted_adapler[i])] if reduced else None,
                tokens=outline.tokens,
                content_tokens=outline.content_tokens,
                rationale_tokens=outline.rationale_tokens,
                lengths=tuple(self.lengths[i].tolist()) if reduced else None,
                skipped=outline.skipped,
                account=outline.account,
            )
            for i, (example, outline) in enumerate(zip(plan.examples, plan.outlines, strict=True))
        )


def _methods(names: Sequence[str] | None, has_adapler: bool, given: Sequence[str]) -> list[ScoringMethod]:
    if names is None:
        names = [n for n in PAPER_METHODS if has_adapler or "adapler" not in get_method(n).needs]
    if not names and not given:
        raise ArgumentError("methods: got none, at least one is needed")
    chosen = {method.key: method for method in map(get_method, names)}
    for method in chosen.values():
        if "adapler" in method.needs and not has_adapler:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and none was given (--adapler)")
    for name in given:
        if name in chosen:
            raise ArgumentError(f"predictions: {name!r} is the name of a method that is evaluated too; rename the file")
    return list(chosen.values())


def _name(model: Any) -> str:
    return str(getattr(model, "name_or_path", "")) or type(model).__name__


def _meta(plan: Plan, corpus: Any, split: str, judge: Judge, scorer: Scorer) -> dict[str, Any]:
    settings, methods, given = plan.settings, judge.methods, judge.given
    layerwise: Mapping[str, bool] = {m.key: m.layerwise for m in methods} | {
        one.name: one.layers is not None for one in given
    }
    return {
        "data": {"name": corpus.name, "checksum": corpus.checksum},
        "split": split,
        "protocol": settings.protocol,
        "policy": settings.policy,
        "aggregation": settings.aggregation,
        "queries": plan.with_query,
        "max_length": plan.max_length,
        "max_length_of_model": plan.shortened,
        "threshold_scale": settings.threshold_scale,
        "dtype": settings.dtype,
        "seed": settings.seed,
        "truncation": plan.account.to_dict(),
        "windows": {
            "total": sum(outline.windows for outline in plan.outlines),
            "skipped_in_scored_documents": plan.windows_skipped,
        },
        "density": plan.density,
        "rationale_size": plan.rationale_size,
        "chance_average_precision": plan.chance_average_precision,
        "titles": {m.key: m.title + m.key.removeprefix(m.name) for m in methods}
        | {one.name: one.title for one in given},
        "papers": {m.key: m.paper for m in methods},
        "options": {m.key: dict(m.options) for m in methods if m.options},
        "layerwise": layerwise,
        "missing": {one.name: sum(e.id not in one.predictions for e in plan.examples) for one in given},
        "diagnostics": judge.diagnostics,
        "cache": {"from_cache": scorer.from_cache, "computed": scorer.computed},
        "versions": {
            "adapler": adapler_package.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
