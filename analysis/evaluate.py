"""Methods x layers x documents -> one tidy frame: attribution scores compared with human rationales.

1. settings.py, corpus.py, loading.py    options, annotated documents, models and a tokenizer
2. alignment.py                          words and their rationale become windows of wordpieces, once
3. scores/, scoring.py                  every method scores every window, layer by layer (kept on disk)
4. alignment.py                          windows become the units that are judged: one window, or a whole document
5. metrics/, faithfulness.py, eraser.py  a unit's scores against its rationale
6. report.py                             the frame and `meta`: means, intervals, tests, tables, figures, pages

M methods, L layers (L' of one method), D documents, K metrics; n wordpieces of a window, U tokens or words of a unit
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import rankdata
from tqdm import tqdm

from adapler.calibration import weights_checksum
from adapler.eraser import EraserCorpus, EraserExample
from adapler.errors import ArgumentError, counted
from adapler.flops import adapler_flops, backbone_flops
from adapler.passes import check_finite
from adapler.text import check_splits_words
from analysis import eraser, loading
from analysis.alignment import (
    WindowScores,
    WordTokens,
    is_judged,
    layer_units,
    marked_units,
    readable_tokens,
    word_scores,
)
from analysis.corpus import documents_of, load_corpus, spans_of
from analysis.faithfulness import faithfulness_values, version_logits
from analysis.metrics.plausibility import CONTENT, INPUT, PRESENT, RECALL_GRID, compute, get_metric, precision_at_recall
from analysis.plan import Document, Plan, mean_of
from analysis.report import DocumentScores, RationaleReport
from analysis.scores import Batch, ScoringMethod, get_methods
from analysis.scores.base import AT_INPUT, adapler_pass, check_target, classifier_logits, in_format
from analysis.scores.contribution import scores_of_removal
from analysis.scoring import ScoredWindow, Scorer, file_name
from analysis.settings import Settings

PAPER_METHODS = ("attention", "attention_received", "rollout", "saliency", "cp", "cp_carried", "random")


@torch.inference_mode(False)  # methods take gradients, which a caller's inference mode forbids
def evaluate(
    model: Any = None,
    data: Any = None,
    methods: Any = None,
    metrics: Any = None,
    *,
    adapler: Any = None,
    tokenizer: Any = None,
    predictions: Any = (),
    human: Any = None,
    rationales: str | Path | None = None,
    rationale_layers: str | Path | Mapping[str, int] | None = None,
    cache: str | Path | bool | None = None,
    settings: Settings | None = None,
    progress: bool = True,
    command: str | None = None,
    **options: Any,
) -> RationaleReport:
    """Compare attribution scores with human rationales, layer by layer.

    Args:
        model, adapler: an object, a folder or a hub name. Neither: the embedded checkpoint; adapler alone: its own
            backbone is the classifier; model alone: no AdapLeR, hence no `cp`.
        data: a corpus, a pandas frame, a folder or archive in ERASER layout, or JSON lines (`analysis.corpus`); default
            data/eraser/movies if there, else the sample.
        methods, metrics: names, see `python -m analysis.scores` and `analysis.metrics.METRICS`; a method may be a
            function of your own, `(model, batch) -> scores`.
        predictions, human: saved scores, each one more method (`analysis.eraser.read_given`). With methods=[] and no
            model named, no model is loaded unless a metric asks one: tokens are then words, and whole documents are in
            view.
        rationales: a folder for every method's rationales in ERASER's format, at the option `rationale_layer` or at
            rationale_layers: {method: layer}, or a report of the validation split, whose best layers are taken.
        cache: a folder where scores are kept for the next run, True for the default one; None or False: none.
        settings, options: the fields of `analysis.settings.Settings`; None leaves a field at its default.
        progress: show bars; command: the command line, for the report.

    Returns a `RationaleReport`: `.frame` (document, method, layer, unit, metric, value) and `.meta`. Documents without
    a rationale token, or without any other, in view are classified, but skipped in the metrics, and counted; where no
    metric compares with a rationale, none is skipped. Models are left as found.

    Raises AdapLeRError (one line) for an argument, a checkpoint or data that cannot be used.
    """
    options = {"methods": methods, "metrics": metrics} | options
    options = {name: value for name, value in options.items() if value is not None}
    settings = replace(settings or Settings(**options), **options)
    corpus = load_corpus(data, split=settings.split, annotators=settings.annotators)
    settings = replace(settings, annotators=corpus.annotators)
    examples = documents_of(corpus, settings.split, settings.limit, seed=settings.seed)
    given = eraser.read_given(predictions or (), human, examples=examples, corpus=corpus)
    notes = [f"{one.name}: {one.others} documents of other splits, not evaluated" for one in given if one.others]

    facts: dict[str, Any] = {} if command is None else {"command": command}
    asks_model = bool(settings.faithfulness_metrics) and not all(one.answers for one in given)
    named = any(one is not None for one in (model, adapler, tokenizer, rationales))
    if named or not given or settings.methods != [] or asks_model:
        classifier, reducer, tokenizer = loading.load_models(model, adapler, tokenizer, device=settings.device)
        check_splits_words(tokenizer)
        if adapler is None and model is not None and loading.is_adapler(model):
            notes.append("model: an AdapLeR checkpoint, whose backbone is evaluated; --adapler adds its removal and cp")
        facts |= _names(model, adapler, classifier, reducer)
        settings, dtype, remarks = loading.decided(settings, classifier, reducer)
        facts, notes = facts | {"dtype": dtype}, [*notes, *remarks]
        n_layers = int(classifier.config.num_hidden_layers)
    else:
        classifier, reducer, tokenizer = None, None, WordTokens()
        settings = replace(settings, max_length=max(len(example.words) for example in examples))
        facts |= {"model": None, "adapler": None}
        n_layers = max(one.layers or 1 for one in given)
    scorer = Scorer(classifier, in_format(reducer, settings.dtype), tokenizer, settings)
    scorer.methods = _methods(settings.methods, scorer, given=given, n_layers=n_layers)
    layers = _layers_to_write(rationales, rationale_layers, scorer, corpus=corpus, facts=facts)
    gold = [0] * len(examples) if classifier is None else loading.gold_indices(classifier, corpus, examples)
    plan = Plan(corpus, examples, gold, tokenizer, settings)
    scorer.open_files(cache, [one.name for one in given])

    names = [*scorer.methods, *(one.name for one in given)]
    rows: list[tuple[Any, ...]] = []  # of the frame
    records, lengths, shown = [], [], []  # type: list[dict[str, Any]], list[tuple[int, Any]], list[dict[str, Any]]
    pictures, diagnostics = Pictures(names, n_layers), {}  # type: Pictures, dict[tuple[str, str], list[Any]]
    kinds: dict[str, set[tuple[int, bool]]] = {}  # method -> layers that it scores, and whether with a sign
    official: dict[str, list[eraser.EraserScores]] = {name: [] for name in names} if settings.as_eraser else {}
    lines: dict[str, list[Any]] = {key: [] for key in layers}  # of files of rationales
    with tqdm(total=plan.n_windows, desc=f"scoring {settings.split}", unit="window", disable=not progress) as bar:
        try:
            for chunk in plan.chunks():
                windows = [window for document in chunk for window in document.windows]
                golds = [document.gold for document in chunk for _ in document.windows]
                results = iter(scorer.score(windows, golds, tick=bar.update))
                for document in chunk:
                    scored = [next(results) for _ in document.windows]
                    records.append(record_of(document, scored, classifier))
                    lengths += [(len(one.window), one.lengths) for one in scored]
                    scores = {key: [one.scores[key] for one in scored] for key in scorer.methods}
                    scores |= {
                        one.name: there
                        for one in given
                        if (there := one.windows(document.id, document.windows, settings.truncation))
                    }
                    if document.skipped is None:
                        values, units = judge(document, scores, given, plan)
                        pictures.add(units)
                        rows += values
                        rows += judge_faithfulness(document, scored, scores, given, plan, scorer)
                    for name, by_layer in official.items():
                        source = next((one for one in given if one.name == name), None)
                        judge_as_eraser(by_layer, document, scores.get(name), source, plan)
                    for key in lines:
                        lines[key].append(
                            rationale_line(document, scored, scorer.methods[key], layers[key], plan, scorer)
                        )
                    for key, of_windows in scores.items():
                        kinds.setdefault(key, set()).update((len(one.scores), one.signed) for one in of_windows)
                        for name in of_windows[0].diagnostics:
                            diagnostics.setdefault((key, name), []).extend(one.diagnostics[name] for one in of_windows)
                    if document.index in plan.shown:
                        shown.append(example_of(document, scored, scores, records[-1], tokenizer))
        finally:  # what is there is kept, also when the run is stopped
            scorer.save_files()
    for key, written in lines.items():
        eraser.write_lines(Path(str(rationales)) / f"{file_name(key)}.jsonl", written)
    # a function of one's own may be signed in some texts only: a selection at 1/n then means nothing in the others
    mixed = {key for key, found in kinds.items() if len({signed for _, signed in found}) > 1}
    rows = [row for row in rows if row[1] not in mixed or get_metric(row[4]).level not in (INPUT, PRESENT, CONTENT)]
    frame = pd.DataFrame(rows, columns=["document", "method", "layer", "unit", "metric", "value"]).dropna()
    meta = {"methods": names, "metrics": settings.metrics, "n_layers": n_layers, "examples": shown, **facts}
    meta = plan.meta(notes, writes=bool(lines)) | methods_meta(scorer, given, plan.documents, kinds, diagnostics) | meta
    meta |= outcome(records, lengths, reducer) | pictures.meta() | eraser_meta(official, given, examples)
    return RationaleReport(frame.reset_index(drop=True), meta, scorer.counts)


def rows_of(document: str, method: str, unit: int, metrics: Sequence[str], table: Any) -> Iterator[tuple[Any, ...]]:
    """Rows of the frame from a table of values (L', K)."""
    for layer, values in enumerate(table):
        yield from ((document, method, layer, unit, *one) for one in zip(metrics, map(float, values), strict=True))


class Pictures:
    """Precision-recall curves of each method and layer, and rank correlations of the methods at each layer: means over
    documents, of each the mean over its units."""

    def __init__(self, methods: Sequence[str], n_layers: int) -> None:
        self.methods = list(methods)
        self.shapes = (len(methods), n_layers, len(RECALL_GRID)), (n_layers, len(methods), len(methods))
        self.documents: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []  # curves and correlations

    def add(self, units: Sequence[tuple[NDArray[np.bool_], Mapping[str, NDArray[np.float64]]]]) -> None:
        """One document: its units' labels (U,) and each method's scores (L', U)."""
        found = []
        for labels, scores in units:
            if labels.all() or not labels.any():
                continue
            curves, rho = (np.full(shape, np.nan) for shape in self.shapes)
            for m, method in enumerate(self.methods):
                for layer, row in enumerate(scores.get(method, ())):
                    curves[m, layer] = precision_at_recall(labels, row)
            for layer in range(len(rho)):
                there = [m for m, name in enumerate(self.methods) if layer < len(scores.get(name, ()))]
                if there:
                    rows = np.stack([scores[self.methods[m]][layer] for m in there])
                    with np.errstate(divide="ignore", invalid="ignore"):  # constant scores have no correlation
                        rho[layer][np.ix_(there, there)] = np.corrcoef(rankdata(rows, axis=1))
            found.append((curves, rho))
        if found:
            curve, rho = (mean_of(np.stack(one)) for one in zip(*found, strict=True))
            self.documents.append((curve, rho))

    def meta(self) -> dict[str, Any]:
        nothing = (np.full((1, *shape), np.nan) for shape in self.shapes)
        curves, rho = (np.stack(one) for one in zip(*self.documents, strict=True)) if self.documents else nothing
        n = (~np.isnan(curves)).sum(0)
        error = np.ma.masked_invalid(curves).std(0, ddof=1).filled(np.nan) / np.sqrt(np.maximum(n, 1))
        error[n < 2] = np.nan
        return {
            "curves": dict(zip(self.methods, _numbers(mean_of(curves)), strict=True)),
            "curve_errors": dict(zip(self.methods, _numbers(error), strict=True)),
            "correlations": _numbers(mean_of(rho)),
        }


def record_of(document: Document, scored: Sequence[ScoredWindow], model: Any) -> dict[str, Any]:
    """Record of a document for the report. Its logits are the mean over its windows."""
    names = {} if model is None else {int(i): str(name) for i, name in model.config.id2label.items()}

    def label(logits: Sequence[Any]) -> str | None:
        if not names or not logits:
            return None
        check_finite(torch.from_numpy(np.stack(logits)))
        return names[int(np.mean(logits, axis=0).argmax())]

    entered = [one.lengths for one in scored if one.lengths is not None]  # of each window (L,)
    return {
        "id": document.id,
        "label": names.get(document.gold, document.example.label),
        "prediction": label([one.logits for one in scored]),
        "adapler_prediction": label([one.adapler_logits for one in scored if one.adapler_logits is not None]),
        "tokens": document.tokens,
        "content_tokens": sum(int((~window.special).sum()) for window in document.windows),
        "rationale_tokens": document.rationale_tokens,
        "lengths": np.sum(entered, axis=0).tolist() if entered else None,
        "skipped": document.skipped,
    }


def outcome(records: Sequence[dict[str, Any]], windows: Sequence[tuple[Any, Any]], adapler: Any) -> dict[str, Any]:
    """Scores of the two models and AdapLeR's speedup. windows: (tokens, lengths (L,)) of every window."""
    frame = pd.DataFrame(records)
    found: dict[str, Any] = {"documents": records, "skipped": int(frame["skipped"].notna().sum())}
    if frame["prediction"].notna().all():
        found["accuracy"] = float((frame["prediction"] == frame["label"]).mean())
    if adapler is not None:
        tokens, entered = (torch.from_numpy(np.stack(column)) for column in zip(*windows, strict=True))
        whole, short = backbone_flops(adapler.config, tokens), adapler_flops(adapler.config, tokens, entered)
        found["adapler_accuracy"] = float((frame["adapler_prediction"] == frame["label"]).mean())
        found["agreement"] = float((frame["adapler_prediction"] == frame["prediction"]).mean())
        found["mean_lengths"] = np.mean(frame["lengths"].tolist(), axis=0).tolist()
        found["speedup"] = float(whole.double().sum() / short.double().sum())
    return found


def judge(
    document: Document, scores: Mapping[str, Sequence[WindowScores]], given: Sequence[eraser.Given], plan: Plan
) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """The metrics of a document that need no model, unit by unit: rows of the frame; and of every unit that was judged
    the labels (U,) and each method's scores (L', U)."""
    how, found, units = plan.settings, [], []  # type: Settings, list[tuple[Any, ...]], list[Any]
    hards = {one.name: one.hard(document.example) for one in given}
    for number, (part, labels) in enumerate(document.units):
        if how.needs_rationale and not is_judged(labels, all_rationale=how.all_rationale):
            continue
        by_method = {}
        for name, rows in scores.items():
            windows, hard = document.windows[part], hards.get(name)
            marked = None if hard is None else marked_units(windows, hard, aggregation=how.aggregation)
            layers = layer_units(
                windows,
                rows[part],
                labels,
                aggregation=how.aggregation,
                hard=marked,
                seed=how.seed,
                **plan.unit_options,
            )
            by_method[name] = np.stack([unit.scores for unit in layers])
            if how.plain_metrics:
                table = [compute(how.plain_metrics, unit) for unit in layers]  # (L', K)
                found += rows_of(document.id, name, number, how.plain_metrics, table)
        units.append((labels, by_method))
    return found, units


def judge_faithfulness(
    document: Document,
    scored: Sequence[ScoredWindow],
    scores: Mapping[str, Sequence[WindowScores]],
    given: Sequence[eraser.Given],
    plan: Plan,
    scorer: Scorer,
) -> list[tuple[Any, ...]]:
    """The metrics that ask the model again, of each window, since each is an input of its own; of a file that brings
    its own classifications, by those."""
    metrics, asked, found = plan.settings.faithfulness_metrics, dict(scores), []  # type: Any, Any, list[Any]
    for one in given if metrics else ():
        if own := one.faithfulness(document.id):
            found += rows_of(document.id, one.name, 0, metrics, [[own.get(metric, math.nan) for metric in metrics]])
            asked.pop(one.name, None)
    for number, read in enumerate(scored if metrics and asked and scorer.model is not None else ()):
        tables = faithfulness_values(
            read.window,
            {name: rows[number] for name, rows in asked.items()},
            model=scorer.model,
            tokenizer=scorer.tokenizer,
            settings=plan.settings,
            target=int(read.logits.argmax()),
            density=plan.faithfulness_density,
            files=scorer.files,
        )
        for name, table in tables.items():
            found += rows_of(document.id, name, number, metrics, table)
    return found


def judge_as_eraser(
    by_layer: list[eraser.EraserScores],
    document: Document,
    rows: Sequence[WindowScores] | None,
    source: eraser.Given | None,
    plan: Plan,
) -> None:
    """Add a document to ERASER's scores of one method; every document that somebody annotated counts, also one without
    a rationale, and one that a file (source) lacks, as not found. rows: None where there are no scores of it."""
    example = document.example
    n_layers = (source.layers or 1) if source is not None else len(rows[0].scores) if rows else 0
    by_layer += [eraser.EraserScores() for _ in range(n_layers - len(by_layer))]
    if not example.annotated:
        return
    words = None
    if rows is not None:
        n_words, how = len(example.words), plan.settings.aggregation
        words = word_scores(document.windows, rows, n_words=n_words, aggregation=how)  # (L', W)
    for layer, official in enumerate(by_layer):
        hard = None
        if words is not None and (source is None or not source.spans):
            hard = plan.hard_rationale(words[layer], example.id)
        start = 0
        for docid, length in eraser.parts_of(example):
            part = slice(start, start + length)
            if example.evidences is None:
                truth = spans_of(example.rationale()[part])
            else:
                truth = [(first, last) for name, first, last in example.evidences if name == docid]
            predicted: Sequence[eraser.Span] | None = None
            if words is not None:
                own = source.spans.get((example.id, docid), []) if source is not None else []
                predicted = own if hard is None else spans_of(hard[part])
            soft = None if words is None or source is not None and not source.soft else words[layer][part]
            official.add(f"{example.id} {docid}", length, truth=truth, predicted=predicted, scores=soft)
            start += length


def eraser_meta(
    official: Mapping[str, list[eraser.EraserScores]], given: Sequence[eraser.Given], examples: Sequence[EraserExample]
) -> dict[str, Any]:
    """eraser_scores: method -> for each layer what ERASER's scorer prints; a document that a file lacks counts as 0.
    eraser_scores_present: of methods that lack some, the same over the documents that they have."""
    if not official:
        return {}
    gold = {example.id: example.label for example in examples}
    answers = {one.name: one.answers for one in given if one.answers}
    lacking = {one.name: len(one.scores) for one in given if len(one.scores) < len(examples)}
    found: dict[str, Any] = {"eraser_scores": {}, "eraser_scores_present": {}}
    for key, only in (("eraser_scores", False), ("eraser_scores_present", True)):
        for name, layers in official.items():
            if only and name not in lacking:
                continue
            rows = [layer.scores(present_only=only) for layer in layers]
            if name in answers:
                own = eraser.classification_scores(answers[name], gold, present_only=only)
                rows = [row | {"classification_scores": own} for row in rows]
            if any(rows):
                found[key][name] = {"documents": lacking[name], "layers": rows} if only else rows
    return found


def rationale_line(
    document: Document,
    scored: Sequence[ScoredWindow],
    method: ScoringMethod,
    layer: int,
    plan: Plan,
    scorer: Scorer,
) -> dict[str, Any]:
    """A method's line of a predictions file, see `analysis.eraser`.

    A word's score is its wordpieces' aggregate (the highest of them when the evaluation was on wordpieces). The class
    is that of the model whose scores these are, and the probabilities without, and of only, the words of the hard
    rationale are that model's too; a document's are those of the mean of its windows' logits. With faithfulness metrics
    among the settings the same is written for the percentages of ERASER's AOPC.
    """
    example, how = document.example, plan.settings
    rows = [one.scores[method.key] for one in scored]
    by_layer = word_scores(document.windows, rows, n_words=len(example.words), aggregation=how.aggregation)  # (L', W)
    scores = by_layer[layer if len(by_layer) > 1 else 0]
    shares = [percent / 100 for percent in how.faithfulness.bins] if how.faithfulness_metrics else []
    sets = [plan.hard_rationale(scores, example.id, share) for share in (None, *shares)]
    reduced = "adapler" in method.needs
    model, forward = (scorer.adapler, _adapler_logits) if reduced else (scorer.model, classifier_logits)
    mask = scorer.tokenizer.mask_token_id if how.faithfulness.variant == "mask" else None
    logits = []  # of each window (1 + 2 sets, C): whole, then without and only each set
    for one in scored:
        kept = [one.window.special | words[one.window.words] for chosen in sets for words in (~chosen, chosen)]
        ids = one.window.input_ids
        versions = [ids[keep] if mask is None else np.where(keep, ids, mask) for keep in kept]
        changed = version_logits(one.window, versions, model, tokenizer=scorer.tokenizer, settings=how, forward=forward)
        unchanged = one.adapler_logits if reduced else one.logits
        logits.append(np.vstack([np.asarray(unchanged, dtype=np.float64), changed]))
    names = [str(scorer.model.config.id2label[i]) for i in range(logits[0].shape[1])]
    means = np.mean(logits, axis=0)  # (1 + 2 sets, C)
    whole, *without_and_only = (dict(zip(names, map(float, softmax(row)), strict=True)) for row in means)
    pairs = [
        {eraser.COMPREHENSIVENESS: without, eraser.SUFFICIENCY: only}
        for without, only in zip(without_and_only[::2], without_and_only[1::2], strict=True)
    ]
    answers: dict[str, Any] = {"classification": max(whole, key=whole.__getitem__), "classification_scores": whole}
    answers |= pairs[0]
    if shares:
        at = zip(shares, pairs[1:], strict=True)
        answers["thresholded_scores"] = [{"threshold": share, **pair} for share, pair in at]
    return eraser.rationale_line(example, scores, sets[0], answers)


def _adapler_logits(model: Any, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = adapler_pass(model, batch).logits.detach()
    return logits


def example_of(
    document: Document,
    scored: Sequence[ScoredWindow],
    scores: Mapping[str, Sequence[WindowScores]],
    seen: Mapping[str, Any],
    tokenizer: Any,
) -> dict[str, Any]:
    """The first window with a rationale, token by token."""
    k = next((i for i, window in enumerate(document.windows) if window.rationale.any()), 0)
    window, retention = document.windows[k], scored[k].retention
    return DocumentScores(
        window.id,
        readable_tokens(tokenizer, window.input_ids.tolist()),
        window.words,
        window.rationale,
        {name: np.asarray(rows[k].scores, dtype=np.float32) for name, rows in scores.items()},
        retention,
        seen["adapler_prediction"] or seen["prediction"],
        seen["label"],
    ).to_dict()


def methods_meta(
    scorer: Scorer,
    given: Sequence[eraser.Given],
    documents: Sequence[Document],
    kinds: Mapping[str, set[tuple[int, bool]]],
    diagnostics: Mapping[tuple[str, str], Sequence[NDArray[Any]]],
) -> dict[str, Any]:
    """Metadata of the methods for the report: titles, scopes, options, diagnostics."""
    methods = scorer.methods
    layered = {key: max(layers for layers, _ in found) > 1 for key, found in kinds.items()}
    found: dict[str, dict[str, Any]] = {}
    for (key, name), rows in diagnostics.items():
        values = np.stack(rows).astype(np.float64)
        numbers = {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
        found.setdefault(key, {})[name] = numbers
    return {
        "titles": {key: m.title + key.removeprefix(m.name) for key, m in methods.items()}
        | {one.name: "Human" if one.name == eraser.HUMAN else one.name for one in given},
        "options": {key: dict(m.options) for key, m in methods.items() if m.options},
        "layerwise": {key: layered[key] if m.layerwise is None else m.layerwise for key, m in methods.items()}
        | {one.name: one.layers is not None for one in given},
        "scopes": {key: m.scope for key, m in methods.items()} | {one.name: AT_INPUT for one in given},
        "missing": {one.name: sum(document.id not in one.scores for document in documents) for one in given},
        "diagnostics": found,
    }


def _methods(
    wanted: Sequence[Any] | None, scorer: Scorer, *, given: Sequence[eraser.Given], n_layers: int
) -> dict[str, ScoringMethod]:
    """The methods by key; ArgumentError for what cannot be evaluated together."""
    if wanted is None:
        removal = None if scorer.adapler is None else scores_of_removal(scorer.adapler)
        of_removal = {"cp": [removal] if removal else [], "cp_carried": ["cp_carried"] if removal == "cp" else []}
        wanted = [one for name in PAPER_METHODS for one in of_removal.get(name, [name])]
    if not wanted and not given:
        raise ArgumentError("methods: got none, at least one is needed")
    chosen = {method.key: method for method in get_methods(wanted)}
    for method in chosen.values():
        if "adapler" in method.needs and scorer.adapler is None:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and none was given (--adapler)")
        target = method.options.get("target")
        if scorer.model is not None and method.has_target and isinstance(target, str | int):
            check_target(target, scorer.model.config)
    for one in given:
        if one.name in chosen:
            raise ArgumentError(f"predictions: {one.name!r} is a method that is evaluated too; rename the file")
        if one.layers not in (None, n_layers):
            number = counted(one.layers, "layer")
            raise ArgumentError(
                f"predictions: {one.name!r} has scores of {number}; the model, or another, has {n_layers}"
            )
    how = scorer.settings
    for name, layers in (("faithfulness_layers", how.faithfulness_layers), ("rationale_layer", [how.rationale_layer])):
        for layer in layers or ():
            if layer is not None and not 0 <= layer < n_layers:
                raise ArgumentError(f"{name}: got {layer}, the model has layers 0 to {n_layers - 1}")
    return chosen


def _names(model: Any, adapler: Any, classifier: Any, reducer: Any) -> dict[str, Any]:
    """Names of the models as given, without folders above the working directory."""
    if model is None and adapler is None:
        adapler = loading.DEFAULT_ADAPLER

    def name(given: Any, loaded: Any) -> str | None:
        if isinstance(given, str | Path):
            return loading.public_path(given) if Path(given).expanduser().exists() else str(given)
        own = str(getattr(loaded, "name_or_path", "")) if loaded is not None else ""
        is_path = bool(own) and (Path(own).is_absolute() or Path(own).exists())
        return None if loaded is None else loading.public_path(own) if is_path else own or type(loaded).__name__

    ours = name(adapler, reducer)
    backbone = f"backbone of {ours}" if model is None and isinstance(adapler, str | Path) else name(model, classifier)
    device = next(classifier.parameters()).device.type
    models = {"model": classifier, "adapler": reducer}  # folders of one name are told apart by their weights
    checksums = {key: weights_checksum(one) for key, one in models.items() if one is not None}
    return {"adapler": ours, "model": backbone, "checksums": checksums, "device": device}


def _layers_to_write(
    folder: Any,
    layers: str | Path | Mapping[str, int] | None,
    scorer: Scorer,
    *,
    corpus: EraserCorpus,
    facts: Mapping[str, Any],
) -> dict[str, int]:
    """Method -> the layer whose rationales are written, {} without a folder. ArgumentError if none is chosen."""
    how = scorer.settings
    if not folder:
        if layers is not None or how.rationale_layer is not None:
            raise ArgumentError("rationale_layer: a layer is named, but no rationales are written (--rationales)")
        return {}
    if layers is not None and how.rationale_layer is not None:
        raise ArgumentError("rationale_layers: got layers, but rationale_layer names one, too")
    if isinstance(layers, str | Path):
        layers = best_layers(layers, corpus=corpus, settings=how, facts=facts)
    if not scorer.methods:
        raise ArgumentError("rationales: no method computes scores (--methods)")
    found = {}
    for key, method in scorer.methods.items():
        layer = 0 if method.layerwise is False else layers.get(key) if layers is not None else how.rationale_layer
        if layer is None or not 0 <= layer < scorer.model.config.num_hidden_layers:
            raise ArgumentError(
                f"rationale_layer: got {layer} for {key!r}; name a layer (--rationale-layer), or a report of the "
                "validation split (--rationale-layers): the best one here would be chosen by the answers"
            )
        found[key] = layer
    paths = [file_name(key).casefold() for key in found]  # Foo and foo are one file on macOS and Windows
    if len(set(paths)) < len(paths):
        raise ArgumentError(f"rationales: two of {', '.join(found)} would be written to one file")
    return found


def best_layers(
    path: str | Path, *, corpus: EraserCorpus, settings: Settings, facts: Mapping[str, Any]
) -> dict[str, int]:
    """Method -> the layer with the best average precision in a saved report of another split than is evaluated.

    Raises ArgumentError for a report of that very split, of other models or another view of the documents.
    """
    report = RationaleReport.load(path)
    meta, data = report.meta, report.meta["data"]
    if meta["split"] == settings.split and (data["name"] == corpus.name or data.get("checksum") == corpus.checksum):
        raise ArgumentError(
            f"rationale_layers: {path} is a report of {settings.split!r}, the split that is evaluated; its best layers "
            "would be chosen by the answers, give a report of the validation split"
        )
    ours = {"data": {"name": corpus.name}, "checksums": facts.get("checksums")}
    ours |= {name: getattr(settings, name) for name in ("truncation", "max_length", "aggregation", "threshold_scale")}
    theirs = {**meta, "data": {"name": data["name"]}}
    if differs := [f"{name} {theirs.get(name)}, here {ours[name]}" for name in ours if theirs.get(name) != ours[name]]:
        raise ArgumentError(f"rationale_layers: {path} is of another evaluation: {'; '.join(differs)}")
    frame = report.frame[report.frame["metric"] == "average_precision"]
    if frame.empty:
        raise ArgumentError(f"rationale_layers: {path} has no average_precision")
    means = frame.groupby(["method", "layer", "document"])["value"].mean().groupby(["method", "layer"]).mean().unstack()
    return {str(method): int(layer) for method, layer in means.idxmax(axis=1).items()}


def _numbers(values: NDArray[np.float64]) -> list[Any]:
    found: list[Any] = np.where(np.isnan(values), np.array(None, dtype=object), values.astype(object)).tolist()
    return found
