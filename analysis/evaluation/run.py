"""Methods x layers x documents -> one report.

M methods, L layers (L' of one method), D documents, K metrics; W windows of a document

Documents are read a chunk at a time: aligned, scored (or found in the cache), judged and forgotten, so that
memory does not grow with their number.
"""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from adapler.model.outputs import check_finite
from analysis.documents.annotators import annotator_facts
from analysis.documents.windows import Window
from analysis.documents.words import WordTokens
from analysis.evaluation.cache import ScoreCache
from analysis.evaluation.faithfulness import Perturbation
from analysis.evaluation.given import GivenScores
from analysis.evaluation.judging import Judge
from analysis.evaluation.plan import Plan
from analysis.evaluation.rationale_files import check_layers_chosen, layer_of, write_method_rationales
from analysis.evaluation.scoring import ScoredWindow, Scorer, score_documents
from analysis.evaluation.settings import Settings
from analysis.loading import in_float64, public_path
from analysis.metrics.registry import get_metric
from analysis.results.report import DocumentRecord, ReportData
from analysis.scores import MethodSpec, ScoringMethod, get_methods
from analysis.scores.contribution import scores_of_removal
from analysis.scores.passes import check_target
from analysis.scores.registry import AT_INPUT

__all__ = ["PAPER_METHODS", "run_evaluation"]

PAPER_METHODS = ("attention", "attention_received", "rollout", "saliency", "cp", "random")


def run_evaluation(
    *,
    model: Any,
    tokenizer: Any,
    corpus: Any,
    adapler: Any = None,
    settings: Settings | None = None,
    cache: ScoreCache | None = None,
    given: Sequence[GivenScores] = (),
    rationales: str | Path | None = None,
    rationale_layers: Mapping[str, int] | None = None,
    meta: dict[str, Any] | None = None,
    progress: bool = True,
    begin: Callable[[], object] = lambda: None,
) -> ReportData:
    """Score every document of a split with every method, and compare with its rationale, layer by layer.

    model: the plain classifier, or None: then `given` alone is judged, word by word, and the tokenizer is a
        `WordTokens`. adapler: the AdapLeR model, or None (then there is no `cp` and no speedup).
    corpus: an `EraserCorpus`; settings.methods: names of the registry, default PAPER_METHODS.
    cache: where scores are kept; given: scores that were made elsewhere, each one more method.
    rationales: a folder for every method's rationales in ERASER's format, at `settings.rationale_layer`, or at
        `rationale_layers`, one a method, as `rationale_files.best_layers` makes it from a validation report.
    meta: facts to keep in the report beside the ones gathered here.
    begin: is called once, when all arguments are checked and nothing is scored yet.

    Documents without a rationale token, or without any other, in view are classified, but skipped in the
    metrics, and counted; where no metric compares with a rationale (faithfulness, sparseness), none is skipped.
    Models are left as found. Raises ArgumentError for an unknown split, method or label.
    """
    settings = settings or Settings()
    if settings.dtype == "auto":
        raise ArgumentError("dtype: got 'auto', must be decided here: float32 or bfloat16")
    chosen = _methods(settings.methods, model, adapler, given=[one.name for one in given])
    check_layers_chosen(settings, rationales=rationales, rationale_layers=rationale_layers)
    if rationales and not chosen:
        raise ArgumentError("rationales: are written of methods that a model computes, and there is none (--methods)")
    n_layers = max([1, *(one.layers or 1 for one in given)]) if model is None else int(model.config.num_hidden_layers)
    settings.check_layers(n_layers)
    settings.check_used(adapler=adapler is not None, rationales=bool(rationales))
    layers = settings.rationale_layer if rationale_layers is None else rationale_layers
    if rationales:
        for method in chosen:
            if (layer := layer_of(method, layers)) >= n_layers:
                raise ArgumentError(f"rationale_layers: {method.key} has {layer}, the model has 0 to {n_layers - 1}")
    plan = Plan(model=model, tokenizer=tokenizer, corpus=corpus, split=settings.split, settings=settings)
    cache = cache or ScoreCache(None)
    # rationales are written from all scores once more, when the evaluation is done
    with tempfile.TemporaryDirectory() if rationales and cache.folder is None else nullcontext() as scratch:
        if scratch is not None:
            cache = ScoreCache(scratch)
        scorer: Any = NoScorer()
        if model is not None:
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
        judge = Judge(plan, chosen, given, n_layers=n_layers, perturbation=perturbation)
        outcome = _Outcome(plan, model, adapler, n_layers)
        n_windows = sum(outline.windows for outline in plan.outlines)
        begin()
        with (
            tqdm(total=n_windows, desc=f"scoring {settings.split}", unit="window", disable=not progress) as bar,
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
            meta=_meta(plan, corpus, judge)
            | judge.meta(rationales=bool(rationales))
            | {"model": _name(model), "adapler": _name(adapler)}
            | ({} if model is None else {"device": next(model.parameters()).device.type})
            | ({"dtype": "float64"} if model is not None and in_float64(model) else {})  # whatever the settings say
            | ({} if adapler is None else {"speedup": outcome.speedup})
            | (meta or {}),
            examples=judge.examples(records),
            curves=judge.curves,
            curve_errors=judge.curve_errors,
            correlations=judge.correlations,
            run_facts={"from_cache": scorer.from_cache, "computed": scorer.computed},
        )
        if rationales:
            write_method_rationales(rationales, plan=plan, scorer=scorer, layers={} if layers is None else layers)
    return report


def _density(plan: Plan) -> float | None:
    """Of the rationales, for faithfulness at the data set's density, where that is asked for and known."""
    if not any(get_metric(name).uses_density for name in plan.settings.faithfulness_metrics):
        return None
    return None if math.isnan(plan.selection.density) else plan.selection.density


class NoScorer:
    """In the place of a `Scorer`, when there is no method to run and no model to ask."""

    fingerprint = ""
    from_cache = computed = 0

    def score(
        self, windows: Sequence[Window], labels: Sequence[int], tick: Callable[[int], object] = lambda n: None
    ) -> list[ScoredWindow]:
        """The windows, with logits (0,)."""
        tick(len(windows))
        return [ScoredWindow(window, {}, np.zeros(0, dtype=np.float32)) for window in windows]


class _Outcome:
    """What the two models say about the documents: classes, lengths, FLOPs. A document's logits are the mean of
    its windows'."""

    def __init__(self, plan: Plan, model: Any, adapler: Any, n_layers: int) -> None:
        self.plan, self.model, self.adapler = plan, model, adapler
        self.predicted = np.zeros(len(plan), dtype=np.int64)
        self.predicted_adapler = np.zeros(len(plan), dtype=np.int64)
        self.lengths = np.zeros((len(plan), n_layers), dtype=np.int64)  # (D, L), summed over windows
        self.flops, self.flops_adapler = 0.0, 0.0

    def add(self, document: int, scored: Sequence[ScoredWindow]) -> None:
        if self.model is None:
            return
        full = [one.logits for one in scored]
        reduced = [one.adapler_logits for one in scored if one.adapler_logits is not None]
        check_finite(torch.from_numpy(np.stack([*full, *reduced])))
        self.predicted[document] = np.argmax(np.mean(full, axis=0))
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
        names = {} if self.model is None else {int(i): str(name) for i, name in self.model.config.id2label.items()}
        return tuple(
            DocumentRecord(
                id=example.id,
                label=names.get(plan.gold[i], str(example.label)),
                prediction=names.get(int(self.predicted[i])),
                adapler_prediction=names[int(self.predicted_adapler[i])] if reduced else None,
                tokens=outline.tokens,
                content_tokens=outline.content_tokens,
                rationale_tokens=outline.rationale_tokens,
                lengths=tuple(self.lengths[i].tolist()) if reduced else None,
                skipped=outline.skipped,
                account=outline.account,
            )
            for i, (example, outline) in enumerate(zip(plan.examples, plan.outlines, strict=True))
        )


def _methods(
    names: Sequence[MethodSpec] | None, model: Any, adapler: Any, *, given: Sequence[str]
) -> list[ScoringMethod]:
    if names is None:
        names = [name for name in PAPER_METHODS if adapler is not None or name != "cp"]
        names = [scores_of_removal(adapler) if name == "cp" else name for name in names]
    if not names and not given:
        raise ArgumentError("methods: got none, at least one is needed")
    chosen = {method.key: method for method in get_methods(names)}
    for method in chosen.values():
        if "adapler" in method.needs and adapler is None:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and none was given (--adapler)")
        target = method.options.get("target")
        if model is not None and method.has_target and isinstance(target, str | int):
            check_target(target, model.config)
    for name in given:
        if name in chosen:
            raise ArgumentError(f"predictions: {name!r} is the name of a method that is evaluated too; rename the file")
    return list(chosen.values())


def _name(model: Any) -> str | None:
    """What the model calls itself, without the folders above it; None without a model."""
    if model is None:
        return None
    name = str(getattr(model, "name_or_path", ""))
    is_path = bool(name) and (Path(name).is_absolute() or Path(name).exists())
    return public_path(name) if is_path else name or type(model).__name__


def _meta(plan: Plan, corpus: Any, judge: Judge) -> dict[str, Any]:
    settings, methods, given = plan.settings, judge.methods, judge.given
    layerwise: Mapping[str, bool] = {
        m.key: m.layerwise if m.layerwise is not None else not np.isnan(judge.values[i, 1:]).all()
        for i, m in enumerate(methods)
    } | {one.name: one.layers is not None for one in given}
    return settings.to_meta() | {
        "data": {"name": corpus.name, "checksum": corpus.checksum},
        "queries": plan.with_query,
        "max_length": plan.max_length,
        "max_length_of_model": plan.shortened,
        "tokens": "words" if isinstance(plan.tokenizer, WordTokens) else "wordpieces",
        "truncation": plan.account.to_dict(),
        **({} if (people := annotator_facts(plan.examples, settings.annotators)) is None else {"people": people}),
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
        "scopes": {m.key: m.scope for m in methods} | {one.name: AT_INPUT for one in given},
        "missing": {one.name: sum(e.id not in one.predictions for e in plan.examples) for one in given},
        "diagnostics": judge.diagnostics,
        "versions": {
            "adapler": adapler_package.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
