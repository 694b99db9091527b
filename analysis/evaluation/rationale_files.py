"""Every method's rationales as a file in ERASER's format, one a method, at one layer.

L' layers of a method; W words of a document; C classes
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from adapler.eraser import EraserCorpus
from adapler.errors import ArgumentError
from analysis.documents.eraser_format import Prediction, spans_of, write_rationales
from analysis.documents.units import word_scores
from analysis.documents.windows import Window
from analysis.evaluation.faithfulness import version_logits
from analysis.evaluation.plan import Plan
from analysis.evaluation.scoring import ScoredWindow, Scorer, score_documents
from analysis.evaluation.settings import Settings
from analysis.metrics.eraser_scorer import SpanDocument
from analysis.metrics.plausibility import density_size, select_top_k
from analysis.results.report import ReportData
from analysis.scores import Batch, ScoringMethod
from analysis.scores.passes import adapler_pass, classifier_logits

_OF_SCORES = ("policy", "max_length", "aggregation", "threshold_scale")  # what a method's best layer depends on


def write_method_rationales(
    folder: str | Path, *, plan: Plan, scorer: Scorer, layers: int | Mapping[str, int]
) -> list[Path]:
    """METHOD.jsonl for every method that a model computed, in `folder`; scores come out of the scorer's cache.

    layers: of the scores, one for all methods or one a method, as `best_layers` of a validation report gives them. A
        method with a meaning at the input only has no other than 0.

    A word's score is its wordpieces' aggregate (the highest of them when the evaluation was on wordpieces); a word
    out of view has the lowest score of its document. The hard rationale is the k best words, k = density · W (see
    `Plan.selection`), equal ones in a random order. The class is that of the model whose scores these are, and the
    probabilities without, and of only, the words of the hard rationale are that model's too; a document's are those of
    the mean of its windows' logits. With faithfulness metrics among the settings the same is written for the
    percentages of ERASER's AOPC.

    Raises ArgumentError for a layerwise method that `layers` does not name.
    """
    paths: list[Path] = []
    keys: dict[str, str] = {}
    for method in scorer.methods:
        name = file_name(method.key).casefold()  # Foo and foo are one file on macOS and Windows
        if (other := keys.setdefault(name, method.key)) != method.key:
            raise ArgumentError(f"rationales: {other!r} and {method.key!r} would be written to one file; ask for one")
    examples = {example.id: example for example in plan.examples}
    for method in scorer.methods:
        path = Path(folder) / f"{file_name(method.key)}.jsonl"
        write_rationales(path, _predictions(method, layer_of(method, layers), plan, scorer), examples)
        paths.append(path)
    return paths


def best_layers(report: ReportData, metric: str = "average_precision") -> dict[str, int]:
    """Method -> the layer where its mean of a metric (higher is better) is best, in a report of the VALIDATION split.

    A method without any value is left out: no layer is its best.

    Raises ArgumentError when the report does not have the metric.
    """
    if metric not in report.metrics:
        raise ArgumentError(f"metric: {metric!r} is not in the report, which has {', '.join(report.metrics)}")
    values = report.values[..., report.metrics.index(metric)]  # (M, L, D)
    defined = ~np.isnan(values)
    means = np.where(defined, values, 0).sum(2) / np.maximum(defined.sum(2), 1)
    means[~defined.any(2)] = -np.inf
    best = zip(report.methods, means, strict=True)
    return {method: int(row.argmax()) for method, row in best if np.isfinite(row).any()}


def validated_layers(
    path: str | Path, *, corpus: EraserCorpus, settings: Settings, models: Mapping[str, Any]
) -> tuple[dict[str, int], str | None]:
    """`best_layers` of a report that was saved of another split than the one whose rationales are to be written, and a
    note on what else differs - the corpus, the view of it, the threshold scale - if anything does.

    path: report.json, or the folder it lies in; corpus, settings (with a max_length): what is evaluated. The corpus'
        name or checksum tells a report of that split: another rule for annotators changes the latter, a copy the
        former.
    models: of the models, as in a report's meta, the names and the `checksums`. A name is compared where one of the two
        has no checksum (older reports have none), and where it is there.

    Raises ArgumentError for a report of that very split or of another model, DataError for one that cannot be read.
    """
    file = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
    meta = (report := ReportData.from_json(file)).meta
    evaluated = meta["data"]
    same = evaluated["name"] == corpus.name
    if meta["split"] == settings.split and (same or evaluated.get("checksum") == corpus.checksum):
        raise ArgumentError(
            f"rationale_layers: {path} is a report of {settings.split!r}, the split that is evaluated; its best layers "
            "would be chosen by the answers, give a report of the validation split"
        )
    for name in ("model", "adapler"):
        if not _is_same(name, meta, models):
            here = models.get(name, f"the {name} that is evaluated")
            other = ", whose weights are others" if here == meta.get(name) else ""
            raise ArgumentError(
                f"rationale_layers: {path} is a report of the {name} {meta.get(name)}, and its best layers say nothing "
                f"of {here}{other}"
            )
    ours = {name: getattr(settings, name) for name in _OF_SCORES} | {"data": corpus.name}
    theirs = {name: meta.get(name) for name in _OF_SCORES} | {"data": evaluated["name"]}
    differs = [f"{name} {theirs[name]}, here {ours[name]}" for name in ours if ours[name] != theirs[name]]
    return best_layers(report), f"note: rationale_layers: {path} has {'; '.join(differs)}" if differs else None


def check_layers_chosen(settings: Settings, *, rationales: object, rationale_layers: object) -> None:
    """ArgumentError for layers one a method beside one for all methods, or where no rationales are written."""
    if rationale_layers is not None and (settings.rationale_layer is not None or not rationales):
        why = "rationale_layer names one, too" if rationales else "no rationales are written (--rationales)"
        raise ArgumentError(f"rationale_layers: got layers, but {why}")


def _is_same(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether the "model" or "adapler" of two reports' meta is one: by its weights, or else by what it is called."""
    sums = [one.get("checksums", {}).get(name) for one in (first, second)]
    if all(sums):
        return bool(sums[0] == sums[1])
    return name not in second or _may_be_same(str(first.get(name)), second[name])


def _may_be_same(first: str, second: str) -> bool:
    """Whether two models' names in reports can mean one folder: a report made outside it has its last part only.

    >>> _may_be_same("backbone of tiny", "backbone of runs/tiny"), _may_be_same("a/tiny", "b/tiny")
    (True, False)
    """
    of = "backbone of "
    ours, theirs = (name.removeprefix(of).split("/") for name in (first, second))
    known = min(len(ours), len(theirs))
    return first.startswith(of) == second.startswith(of) and ours[-known:] == theirs[-known:]


def layer_of(method: ScoringMethod, layers: int | Mapping[str, int] | None) -> int:
    """The layer of a method's written rationales. Raises ArgumentError where nobody has chosen one."""
    if method.layerwise is False:
        return 0
    if isinstance(layers, Mapping):
        if (chosen := layers.get(method.key)) is None:
            raise ArgumentError(
                f"rationale_layers: none for {method.key!r}, they name {', '.join(layers) or 'nothing'}; evaluate it "
                "on the validation split, too"
            )
        return chosen
    if layers is None:
        raise ArgumentError(
            f"rationale_layer: which layer's rationales of {method.key!r}? Name one (--rationale-layer), or a "
            "report of the validation split (--rationale-layers); the best one on the split that is evaluated would be "
            "chosen by its answers"
        )
    return layers


def file_name(method: str) -> str:
    """A method's key as a file name: letters, digits, "_", ".", "=" and "-"."""
    return re.sub(r"[^\w.=-]+", "-", method).strip("-")


def hard_rationale(
    scores: NDArray[np.float64], plan: Plan, document: str, *, share: float | None = None
) -> NDArray[np.bool_]:
    """(W,) bool, the k best words of a document, k = share · W, `plan.selection`'s density when none is given.

    Equal words are taken in a random order that depends on the seed and the document's id.
    """
    density = plan.selection.word_density if share is None else share
    size = density_size(0.0 if np.isnan(density) else density, len(scores))
    return select_top_k(scores, size, seed=[plan.settings.seed, zlib.crc32(document.encode())])


def span_documents(example: Any, scores: NDArray[np.float64], hard: NDArray[np.bool_]) -> Iterator[SpanDocument]:
    """An example's documents as ERASER's scorer counts them, annotations as they stand in the file.

    scores: (W,); hard: (W,) bool; W words of all its documents together.
    """
    start = 0
    evidences = getattr(example, "evidences", None)
    for docid, length in getattr(example, "documents", ()) or ((example.id, len(example.words)),):
        part = slice(start, start + length)
        if evidences is None:
            truth = tuple(spans_of(example.rationale()[part]))
        else:
            truth = tuple((first, last) for name, first, last in evidences if name == docid)
        predicted, soft = tuple(spans_of(hard[part])), tuple(scores[part].tolist())
        yield SpanDocument(f"{example.id} {docid}", length, truth, predicted, soft)
        start += length


def _predictions(method: ScoringMethod, layer: int, plan: Plan, scorer: Scorer) -> Iterator[Prediction]:
    names = {int(index): str(name) for index, name in scorer.model.config.id2label.items()}
    ask = _Versions(plan, scorer, reduced="adapler" in method.needs)
    shares = tuple(percent / 100 for percent in plan.settings.faithfulness.bins)
    for i, scored in score_documents(plan, scorer):
        example = plan.examples[i]
        windows = [one.window for one in scored]
        scores = word_scores(
            windows,
            [one.scores[method.key] for one in scored],
            n_words=len(example.words),
            aggregation=plan.settings.aggregation,
        )[layer]
        hard = hard_rationale(scores, plan, example.id)
        sets = [hard]
        if plan.settings.faithfulness_metrics:
            sets += [hard_rationale(scores, plan, example.id, share=share) for share in shares]
        whole, *changed = (
            {names[c]: float(p) for c, p in enumerate(softmax(logits))}
            for logits in (np.mean([ask.logits(one) for one in scored], axis=0), *ask.without_and_only(windows, sets))
        )
        pairs = list(zip(changed[::2], changed[1::2], strict=True))
        yield Prediction(
            example.id,
            scores,
            hard,
            whole,
            without=pairs[0][0],
            only=pairs[0][1],
            at_shares=dict(zip(shares, pairs[1:], strict=False)),
        )


class _Versions:
    """Documents with some words gone, for the model whose scores are written."""

    def __init__(self, plan: Plan, scorer: Scorer, *, reduced: bool) -> None:
        self.settings, self.tokenizer = plan.settings, scorer.tokenizer
        self.reduced = reduced and scorer.adapler is not None
        self.model = scorer.adapler if self.reduced else scorer.model

    def logits(self, scored: ScoredWindow) -> NDArray[np.float64]:
        """(C,) of a whole window."""
        found = scored.adapler_logits if self.reduced and scored.adapler_logits is not None else scored.logits
        return found.astype(np.float64)

    def without_and_only(
        self, windows: Sequence[Window], sets: Sequence[NDArray[np.bool_]]
    ) -> Iterator[NDArray[np.float64]]:
        """For each set of words (W,): the logits (C,) without them, and for them alone, means over the windows."""
        total = np.zeros((2 * len(sets), 0))
        for window in windows:
            versions = [self._ids(window, keep) for words in sets for keep in (~words, words)]
            logits = version_logits(
                window,
                versions,
                self.model,
                tokenizer=self.tokenizer,
                settings=self.settings,
                forward=_adapler_logits if self.reduced else classifier_logits,
            )  # (2 sets, C)
            total = logits if not total.size else total + logits
        yield from total / len(windows)

    def _ids(self, window: Window, words: NDArray[np.bool_]) -> NDArray[np.int64]:
        kept = window.special | words[window.words]
        if self.settings.faithfulness.variant == "mask":
            return np.where(kept, window.input_ids, self.tokenizer.mask_token_id)
        return window.input_ids[kept]


def _adapler_logits(model: Any, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = adapler_pass(model, batch).logits.detach()
    return logits
