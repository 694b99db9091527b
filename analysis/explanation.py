"""One text, one model, several scoring methods, one object: the evaluation of a corpus with one text.

    from analysis import explain
    e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")

W words of the text, n tokens that the model reads (special tokens included), C classes
L layers of the model; L' layers that a method scores: L, or 1 for a method with a meaning at the input only
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adapler.backbones.families import PREDICTED, class_index, label_names, needs_labels, target_weights
from adapler.contribution import threshold
from adapler.eraser import match_labels
from adapler.errors import ArgumentError
from adapler.options import counted
from adapler.passes import check_finite
from adapler.policies import ContributionPolicy
from adapler.text import RUN, check_splits_words, encode, part_read
from analysis import corpus, scoring
from analysis.corpus import SPECIAL, Window, WindowScores
from analysis.eraser import Given, as_array
from analysis.figures import FORMATS, write_figure
from analysis.figures import tokens as drawing
from analysis.figures.paper import literal
from analysis.marks import by_index, word_mask
from analysis.metrics.plausibility import compute, expected_average_precision, get_metric, select_uniform
from analysis.page import explanation_fragment, explanation_page
from analysis.report import json_text, write_text
from analysis.scores import ScoringMethod, get_method, get_methods
from analysis.scores.base import check_target
from analysis.scores.contribution import scores_of_removal
from analysis.scoring import ScoredWindow, Scorer, Settings

METRICS = ("average_precision", "fpr", "tpr", "j")
SHOWN = 4  # tokens of a method in a terminal
AS_BARS = 48  # tokens; of a longer text an excerpt is drawn, shaded
DEFAULT_METHODS = ("saliency", "attention", "rollout")  # after the scores by which an AdapLeR model drops tokens
OPTIONS = ("max_length", "threshold_scale", "speedup", "seed", "device", "dtype")  # fields of `Settings`
Part = str | tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class MethodScores(WindowScores):
    """One method's scores of the text: those of a window, and

    name       as given, with its options: `integrated_gradients(n_steps=20)`
    scope      meaning of one layer's score: "in the layer", "from the layer to the output", ...
    target     whose logit is explained, for a method that explains one: "NEG", "NEG minus POS"
    layerwise  whether there is a score at every layer (L' = L)
    """

    name: str
    title: str
    scope: str
    target: str | None
    layerwise: bool

    @property
    def of_removal(self) -> bool:
        """Whether the AdapLeR model drops tokens by these scores; what it keeps and its thresholds are of no others."""
        return self.present is not None and self.name in drawing.OF_REMOVAL

    @property
    def n_present(self) -> NDArray[np.int64]:
        """(L',) tokens among which each layer's scores are shared out: the n in 1/n of that layer."""
        there = np.ones(self.scores.shape, dtype=bool) if self.present is None else self.present
        return np.asarray(there.sum(axis=1), dtype=np.int64)

    def row(self, layer: int) -> int:
        """Row of `scores` for a layer of the model."""
        return layer if self.layerwise else 0

    def selected(self) -> NDArray[np.bool_] | None:
        """(L', n) bool, the tokens whose score is at least 1/n, n = `n_present`; None for signed scores."""
        if self.signed:
            return None
        sizes = np.maximum(1, self.n_present).tolist()
        return np.stack([select_uniform(row, n) for row, n in zip(self.scores, sizes, strict=True)])

    def checks(self) -> list[str]:
        """Diagnostics of the method, worst value over the layers: "completeness gap 0.012"."""
        return [
            f"{name.replace('_', ' ')} {values[np.argmax(np.abs(values))]:.2g}"
            for name, values in self.diagnostics.items()
            if np.isfinite(values).any()
        ]


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Result of `analysis.explain`, shown as shaded text in a notebook.

    tokens              the n wordpieces that the model reads, special tokens included
    words               the W words of the text (of a pair, of both), also those beyond the model's length
    labels              the C classes' names; () when no model ran
    probabilities       (C,) of the model as it is used: with removal for an AdapLeR model. None without a model, and
                        for a regression
    full_probabilities  (C,) of the same model without removal; the same for a plain classifier
    target              target of the methods that have one, as given; `MethodScores.target` names it
    thresholds          (L,) the score below which AdapLeR's layer l drops a token; None without AdapLeR
    kept                (L, n) bool, the tokens that enter layer l of the AdapLeR model; None without one
    rationale           (W,) bool, the human rationale that was given, or None
    dtype               of the model's layers; None when no model ran
    note                what a reader has to know: text left out, a prediction that removal changes, ...
    """

    name: str
    model: str
    window: Window
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    methods: Mapping[str, MethodScores]
    labels: tuple[str, ...] = ()
    probabilities: NDArray[np.float64] | None = None
    full_probabilities: NDArray[np.float64] | None = None
    target: str = "predicted"
    gold: str | None = None
    prediction: str | None = None
    full_prediction: str | None = None
    thresholds: NDArray[np.float64] | None = None
    kept: NDArray[np.bool_] | None = None
    rationale: NDArray[np.bool_] | None = None
    dtype: str | None = None
    note: str = ""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def word_ids(self) -> NDArray[np.int64]:
        """(n,) index of each token's word; -1 for a special token and a query."""
        return self.window.words

    @property
    def n(self) -> int:
        """Tokens of the input, special tokens included: the n of the level 1/n."""
        return len(self.tokens)

    @property
    def scores(self) -> dict[str, NDArray[np.float32]]:
        """name -> (L', n)."""
        return {name: method.scores for name, method in self.methods.items()}

    def to_frame(self) -> pd.DataFrame:
        """One row for each method, layer and token.

        Columns: position and layer (from 0), method, token, word (missing for a special token), score, threshold (below
        which AdapLeR drops the token; NaN for other scores and a token that was dropped before), kept (whether it
        enters that layer of the AdapLeR model; <NA> without one, and for a method with a meaning at the input only).
        """
        words = [None if index < 0 else self.words[index] for index in self.word_ids.tolist()]
        text = pd.StringDtype(na_value=np.nan)
        parts = []
        for method in self.methods.values():
            rows, size = len(method.scores), method.scores.size
            kept = self.kept if method.layerwise and self.kept is not None and len(self.kept) == rows else None
            thresholds = np.full(method.scores.shape, np.nan)
            if kept is not None and method.of_removal and method.present is not None and self.thresholds is not None:
                thresholds = np.where(method.present, self.thresholds[:, None], np.nan)
            columns = {
                "position": np.tile(np.arange(self.n), rows),
                "method": pd.array([method.name] * size, dtype=text),
                "layer": np.repeat(np.arange(rows), self.n),
                "token": pd.array(list(self.tokens) * rows, dtype=text),
                "word": pd.array(words * rows, dtype=text),
                "score": method.scores.ravel(),
                "threshold": thresholds.ravel(),
                "kept": pd.array([None] * size if kept is None else kept.ravel(), dtype="boolean"),
            }
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    # Against a human rationale

    def metrics(
        self, rationale: Any = None, *, metrics: Sequence[str] | str = METRICS, aggregation: str = "none"
    ) -> pd.DataFrame:
        """Agreement of every method and layer with a human rationale, as `rationale_eval.evaluate` computes it.

        rationale: as of `explain`; default: the one that was given there.
        metrics: names of `analysis.metrics.METRICS`, those that neither ask the model again nor need a data set.
        aggregation: "none": wordpieces are judged; "max", "mean" or "sum" over its wordpieces: words are.

        Columns: method, layer, one for each metric (NaN where the rationale marks no word that the model reads, or
        every one, and for a selection at 1/n of signed scores), chance (average precision of random scores), n (tokens,
        or words, of the input: the n of `fpr`), n_present (those present at the layer: the n of `fpr_present`).
        """
        window, names = self._marked(rationale), [metrics] if isinstance(metrics, str) else list(metrics)
        for metric in map(get_metric, names):
            if metric.function is None or metric.uses_density:
                needs = "the model again" if metric.function is None else "the mean rationale size of a data set"
                raise ArgumentError(f"metrics: {metric.name!r} needs {needs}: rationale_eval.evaluate computes it")
        labels = corpus.unit_labels([window], aggregation=aggregation)
        judged = corpus.why_skipped([labels]) is None
        chance = expected_average_precision(int(labels.sum()), len(labels)) if judged else np.nan
        rows = []
        for method in self.methods.values():
            for layer, one in enumerate(corpus.layer_units([window], [method], labels, aggregation=aggregation)):
                values = compute(names, one) if judged else [np.nan] * len(names)
                rows.append((method.name, layer, *values, chance, one.n_input, one.n_present))
        return pd.DataFrame(rows, columns=["method", "layer", *names, "chance", "n", "n_present"])

    def _marked(self, rationale: Any) -> Window:
        """The window with a rationale in it."""
        mask = self.rationale if rationale is None else word_mask(rationale, len(self.words))
        if mask is None:
            raise ArgumentError("rationale: got none; give 0 or 1 for each word, spans of words, or word indices")
        return replace(self.window, rationale=~self.window.special & mask[self.window.words])

    # What it looks like

    def document(self) -> drawing.DocumentScores:
        """The text as a document for `analysis.figures`."""
        window = self.window if self.rationale is None else self._marked(None)
        shown = (window.rationale, self.scores, self.kept, self.prediction, self.gold)
        return drawing.DocumentScores(self.name, self.tokens, self.word_ids, *shown)

    def plot(
        self, layer: int | None = None, methods: Sequence[str] | str | None = None, *, style: str = "acl"
    ) -> Figure:
        """Every layer as a heat map, one panel per method; or one layer with a bar per token, hollow where the model
        drops it, 1/n dashed and AdapLeR's threshold solid; of more than 48 tokens an excerpt with shades instead.

        methods: those to draw, default all; style: the widths of "acl" or "neurips".
        """
        names = tuple(self.methods) if methods is None else (methods,) if isinstance(methods, str) else methods
        if unknown := [name for name in names if name not in self.methods]:
            known = ", ".join(self.methods)
            raise ArgumentError(f"methods: {unknown[0]!r} is not in this explanation, which has {known}")
        chosen, document = [self.methods[name] for name in names], self.document()
        if layer is None:
            titles = {method.name: literal(method.title) for method in chosen}
            layerwise = {method.name: method.layerwise for method in chosen}
            return drawing.heatmaps_figure(document, names, titles=titles, layerwise=layerwise, style=style)
        panels, texts = [], []
        for method in chosen:
            if method.layerwise and layer not in range(len(method.scores)):
                raise ArgumentError(f"layer: got {layer}, {method.name!r} has 0 to {len(method.scores) - 1}")
            row = method.row(layer)
            where = f", layer {layer}" if method.layerwise else ", input"
            target = f", target {method.target}" if method.target else ""
            n = int(method.n_present[row])
            levels = [] if method.signed else [drawing.Level(1 / n, f"1/n, n = {n}", dashed=True)]
            if method.of_removal and self.thresholds is not None:
                levels.append(drawing.Level(float(self.thresholds[row]), "threshold"))
            panels.append((f"{method.title}{where}{target}", method.name, row, levels))
            texts.append(drawing.Panel(document, method.name, method.title, layers=[row], layerwise=method.layerwise))
        if self.n <= AS_BARS:
            return drawing.bars_figure(document, panels, style=style)
        return drawing.passages_figure(texts, style=style)

    def save(self, path: str | Path, *, layer: int | None = None, methods: Sequence[str] | str | None = None) -> Path:
        """Write the file, whole or not at all; its ending says what: .pdf, .png or .svg is the figure of
        `plot(layer, methods)`, .html the page that a notebook shows, .csv is `to_frame()` and .json everything (NaN is
        null). Returns the path."""
        path = Path(path)
        writers: dict[str, Callable[[], str]] = {
            ".html": self.to_html,
            ".csv": lambda: self.to_frame().to_csv(index=False, lineterminator="\n"),
            ".json": lambda: json_text(self.to_dict()),
        }
        if (ending := path.suffix.lower()) in FORMATS:
            write_figure(self.plot(layer, methods), path)
        elif ending not in writers:
            raise ArgumentError(f"save: {path.name!r} must end in one of {', '.join([*FORMATS, *writers])}")
        elif layer is not None or methods is not None:
            raise ArgumentError(f"save: layer and methods are for figures, {path.name} holds everything")
        else:
            write_text(writers[ending](), path)
        return path

    def to_html(self) -> str:
        """The page that a notebook shows, as a file of its own: no script, no other file."""
        return explanation_page(self)

    def _repr_html_(self) -> str:
        return explanation_fragment(self)

    def __repr__(self) -> str:
        """The model's answer, and the tokens with the highest scores of each method in its last layer."""
        text = drawing.visible(" ".join(self.words))
        shown = text if len(text) <= 60 else text[:56].rstrip() + " ..."
        lines = [self.answer(), f"n = {counted(self.n, 'token')}, {counted(len(self.words), 'word')}: {shown}"]
        lines += [f"note: {self.note}"] if self.note else []
        rows = [("method", "layers", "a score is about", "highest at the last layer")]
        for method in self.methods.values():
            layers = f"0-{len(method.scores) - 1}".removesuffix("-0") if method.layerwise else "input"
            about = method.scope + (f", target {method.target}" if method.target else "")
            rows.append((method.name, layers, about, self._highest(method)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines += ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
        checks = {method.name: method.checks() for method in self.methods.values()}
        lines += [f"check {name}: {', '.join(said)}" for name, said in checks.items() if said]
        return "\n".join(lines)

    def answer(self) -> str:
        """The model's answer in one line, with and without removal."""
        if self.prediction is None:
            return "no model ran"
        said = f"{self.model}: {self.prediction}" if self.model else self.prediction
        if self.probabilities is not None:
            said += f" {self.probabilities[self.labels.index(self.prediction)]:.3f}"
        if self.kept is not None and self.full_probabilities is not None and self.full_prediction is not None:
            full = self.full_probabilities[self.labels.index(self.full_prediction)]
            said += f" (without removal {self.full_prediction} {full:.3f})"
        said += f", gold label {self.gold}" if self.gold else ""
        return said if self.dtype in (None, "float32") else f"{said}, in {self.dtype}"

    def _highest(self, method: MethodScores) -> str:
        last = method.scores[-1]
        order = np.argsort(-last, kind="stable")
        if method.present is not None:  # those that were dropped before have no score
            order = order[method.present[-1][order]]
        return ", ".join(f"{drawing.token_text(self.tokens[token])} {last[token]:.3f}" for token in order[:SHOWN])

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain lists and dictionaries for JSON."""

        def plain(values: Any) -> Any:
            if isinstance(values, np.ndarray):
                return (values.astype(int) if values.dtype == np.bool_ else values).tolist()
            return {name: plain(one) for name, one in values.items()} if isinstance(values, Mapping) else values

        methods = {name: vars(one) | {"n_present": one.n_present} for name, one in self.methods.items()}
        own = {name: value for name, value in vars(self).items() if name != "window"}
        found: dict[str, Any] = plain(own | {"word_ids": self.word_ids, "methods": methods})
        return found


# ---- a text becomes an explanation


@torch.inference_mode(False)  # methods take gradients, which a caller's inference mode forbids
def explain(
    text: str | Sequence[str] | tuple[str | Sequence[str], str | Sequence[str]],
    *,
    model: Any = None,
    tokenizer: Any = None,
    query: str = "",
    methods: Sequence[str | Callable[..., Any]] | str | Callable[..., Any] | None = None,
    target: str | int = PREDICTED,
    gold: str | int | None = None,
    rationale: Sequence[Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    name: str = "text",
    **options: Any,
) -> Explanation:
    """Score the tokens of one text with several methods, layer by layer.

    Args:
        text: a string, tokenised as the model's own pipeline does; a list of words, tokenised word by word as the
            documents of `rationale_eval.evaluate` are; or a pair of texts, a tuple, both of which are scored.
        model: an AdapLeR model or any sequence classifier of transformers: a folder, a hub name or an object; it is
            left as found. Default: checkpoints/movies-minilm. The last one stays in memory.
        tokenizer: needed for a model object that does not say where it came from.
        query: a second text that is a question about the first: the model reads it, and it is not scored.
        methods: names of the registry with options, as in "integrated_gradients(n_steps=20)", or functions of your
            own, `(model, batch) -> scores`. Default: cp (AdapLeR models only), saliency, attention, rollout. `cp`
            scores the model that drops tokens; every other method scores the same model without removal.
        target: the logit that gradient and perturbation methods explain: "predicted" (by the model without removal),
            "gold", a class by name or index, or "contrast", "contrast:gold", "contrast:NAME": that class minus the
            strongest other. `methods=["saliency(target=POS)"]` sets it for one method.
        gold: the true class, by name or by index; for target="gold" and methods that need it.
        rationale: words that a human marked, for `metrics` and to be underlined: 0 or 1 for each word, spans
            `(start, end)` of words, or indices of words. Words of a second text follow those of the first.
        scores: scores that were made elsewhere, each one more method: name -> one number per word (or token), rows of
            them for several layers, or {word: score}. With `methods=[]` and no `model`, nothing is loaded: tokens are
            then words.
        name: the text's name in files and figures. The methods that draw take their seed from it: with a document's
            id their scores are those of an evaluation.
        options: max_length, threshold_scale, speedup, seed, device and dtype, as of `rationale_eval.evaluate`.

    Returns an `Explanation`: `to_frame()`, `metrics(rationale)`, `plot(layer)`, `save(path)`, and the arrays `scores`,
    `kept`, `thresholds`, `probabilities`. In a notebook it shows the text, shaded.

    >>> e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")
    >>> e.prediction, e.scores["saliency"].shape
    ('NEG', (6, 12))
    >>> e.to_frame().query("method == 'cp' and layer == 0").nlargest(3, "score")["token"].tolist()
    ['dull', 'wonderful', '[CLS]']
    """
    if unknown := [option for option in options if option not in OPTIONS]:
        raise ArgumentError(f"{unknown[0]}: no such option, there are {', '.join(OPTIONS)}")
    parts, settings = parts_of(text, query), Settings(methods=cast(Any, methods), **options)
    if model is None and settings.methods == []:
        if not scores:
            raise ArgumentError("methods: got none, and no scores either; at least one is needed")
        own = read(parts, None, max_length=0, name=name, query=query)
        facts: dict[str, Any] = {"methods": {}, "model": "", "gold": None if gold is None else str(gold)}
    else:
        keep = all(get_method(one).of_package for one in settings.methods or ())  # else nobody knows what it changes
        subject = load(model, tokenizer, words=not isinstance(parts[0], str), device=settings.device, keep=keep)
        how, remarks = scoring.decided(settings, subject.classifier, subject.adapler)
        own = read(parts, subject.tokenizer, max_length=how.max_length or 0, name=name, query=query)
        facts = _scored(own, subject, how, target=target, gold=gold, remarks=remarks)
    for key, values in (scores or {}).items():
        if key in facts["methods"]:
            raise ArgumentError(f"scores: {key!r} is the name of a method that runs too; take another name")
        facts["methods"][key] = saved_method(key, values, own)
    marked = None if rationale is None else word_mask(rationale, len(own.words))
    return Explanation(name, window=own.window, tokens=own.tokens, words=own.words, rationale=marked, **facts)


def _scored(
    text: Text, subject: Subject, how: Settings, *, target: str | int, gold: str | int | None, remarks: Sequence[str]
) -> dict[str, Any]:
    """Of the explanation the methods, and what the model answers."""
    classifier, adapler = subject.classifier, subject.adapler
    labels = tuple(label_names(classifier.config))
    if needs_labels(target) and gold is None:
        raise ArgumentError(f"target: got {target!r}, and no gold= says which class that is")
    check_target(target, classifier.config)
    truth = None if gold is None else gold_index(gold, labels)
    scorer = Scorer(classifier, adapler, subject.tokenizer, how)
    scorer.methods = _methods(how.methods, subject, target)
    (found,) = scorer.score([text.window], None if truth is None else [truth])

    thresholds = None
    if found.lengths is not None and adapler.config.policy == ContributionPolicy.name:
        # another policy's thresholds are not in the unit of its scores, which are shares of a layer
        present = torch.tensor([len(text.window), *found.lengths[:-1].tolist()])
        thresholds = threshold(adapler.eta.detach().cpu().double(), present, scale=how.threshold_scale).numpy()
    said = [found.logits if one is None else one for one in (found.adapler_logits, found.logits)]
    for logits in said:
        check_finite(torch.from_numpy(logits))
    prediction, full_prediction = (labels[int(logits.argmax())] for logits in said)
    probabilities, full_probabilities = (_probabilities(logits, classifier.config) for logits in said)
    notes = [text.note, *remarks, _read_by_predict(adapler, text), _unknown(text, subject.tokenizer)]
    if prediction != full_prediction:
        own = scores_of_removal(adapler)
        notes.append(
            f"removal changes the prediction from {full_prediction} to {prediction}; all but {own} explain the former"
        )
    return {
        "model": subject.name,
        "labels": labels,
        "prediction": prediction,
        "probabilities": probabilities,
        "full_prediction": full_prediction,
        "full_probabilities": full_probabilities,
        "target": str(target),
        "gold": None if truth is None else labels[truth],
        "thresholds": thresholds,
        "kept": found.retention,
        "dtype": how.dtype,
        "methods": {key: _method_scores(key, one, found, labels, truth) for key, one in scorer.methods.items()},
        "note": "; ".join(filter(None, notes)),
    }


class Subject(NamedTuple):
    """classifier: the plain one; adapler: None without removal."""

    classifier: Any
    adapler: Any
    tokenizer: Any
    name: str


def load(source: Any, tokenizer: Any, *, words: bool, device: str, keep: bool) -> Subject:
    """words: whether the text is a list of words, which byte-level tokenizers read otherwise; keep: whether what runs
    leaves a model as it was, so that the next call may have it."""
    source = scoring.DEFAULT_ADAPLER if source is None else scoring.uncompiled(source)
    if not isinstance(source, str | os.PathLike) or tokenizer is not None or not keep:
        return _load.__wrapped__(source, tokenizer, (), words, device)
    files = sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in Path(source).glob("*"))
    return _load(os.path.realpath(source) if files else os.fspath(source), None, tuple(files), words, device)


@lru_cache(maxsize=1)
def _load(source: Any, tokenizer: Any, files: tuple[Any, ...], words: bool, device: str) -> Subject:
    """files: of the model's folder as they are now, so that it is loaded again when one has changed."""
    model, adapler = (None, source) if scoring.is_adapler(source) else (source, None)
    classifier, adapler, tokenizer = scoring.load_models(model, adapler, tokenizer, device=device, words=words)
    if words:
        check_splits_words(tokenizer)
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else getattr(source, "name_or_path", "")
    name = Path(name).absolute().name if name and Path(name).is_dir() else name  # without what lies above a folder
    return Subject(classifier, adapler, tokenizer, name or type(source).__name__)


def gold_index(gold: str | int, labels: Sequence[str]) -> int:
    """The gold class's index, by name or index; NEG stands for negative, as in an evaluation."""
    names = dict(enumerate(labels))
    try:
        return class_index(gold, names, len(labels))
    except ArgumentError as error:
        if isinstance(gold, str) and (found := match_labels([gold], labels)):
            return found[0]
        known = ", ".join(f"{label} ({index})" for index, label in names.items())
        raise ArgumentError(f"gold: got {gold!r}, the model's classes are {known}") from error


def _methods(wanted: Sequence[Any] | None, subject: Subject, target: str | int) -> dict[str, ScoringMethod]:
    """Methods by key, in the given order; those that have a target, and none of their own, with that target."""
    if wanted is None:
        first = [] if subject.adapler is None else [scores_of_removal(subject.adapler)]
        wanted = [*first, *DEFAULT_METHODS]
    chosen = {}
    for method in get_methods(wanted):
        takes = method.has_target and method.options["target"] == PREDICTED
        chosen[method.key] = method.with_options(target=str(target)) if takes else method
    return chosen


def _method_scores(
    key: str, method: ScoringMethod, found: ScoredWindow, labels: Sequence[str], gold: int | None
) -> MethodScores:
    one, target = found.scores[key], None  # target: the class that is explained, or one minus another
    if method.has_target:
        truth, logits = None if gold is None else torch.tensor([gold]), torch.from_numpy(found.logits)[None].float()
        asked = cast(str | int, method.options["target"])
        weights = target_weights(asked, logits, labels=truth, id2label=dict(enumerate(labels)))[0]
        target = labels[int(weights.argmax())]
        target += f" minus {labels[int(weights.argmin())]}" if bool((weights < 0).any()) else ""
    layerwise = len(one.scores) > 1 if method.layerwise is None else method.layerwise
    named: dict[str, Any] = {"name": key, "title": method.title + key.removeprefix(method.name), "scope": method.scope}
    return MethodScores(**vars(one), **named, target=target, layerwise=layerwise)


def _probabilities(logits: NDArray[Any], config: Any) -> NDArray[np.float64] | None:
    """(C,) as transformers' pipeline has them: independent ones for several labels or one, none for a regression."""
    problem, values = getattr(config, "problem_type", None), torch.from_numpy(logits).double()
    if problem == "regression":
        return None
    several = problem == "multi_label_classification" or len(values) == 1
    return np.asarray((values.sigmoid() if several else values.softmax(-1)).numpy())


# ---- the text


class Text(NamedTuple):
    """window: what the model is given; tokens: its n wordpieces; words: all W words, also those beyond the model's
    length, of a pair those of the second text last; note: what was left out, or ""."""

    window: Window
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    note: str


def parts_of(text: Any, query: str = "") -> tuple[Part, ...]:
    """The one or two texts that are scored, each a string or words, and both of one kind.

    >>> parts_of("so dull ."), parts_of((["so", "dull"], "how is it ?"))
    (('so dull .',), (('so', 'dull'), ('how', 'is', 'it', '?')))
    """
    pair = text if isinstance(text, tuple) else (text,)
    if isinstance(text, tuple) and (len(text) != 2 or query):
        and_query = " and a query" * bool(query)
        raise ArgumentError(f"text: a tuple is a pair of texts, got {len(text)}{and_query}; words are a list")
    for part in pair:
        words = part.split() if isinstance(part, str) else part
        if not isinstance(words, list | tuple) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            wanted = "must be a string, a list of words, or a pair of them, and not be empty"
            raise ArgumentError(f"text: got {str(part)[:40]!r}, {wanted}")
        if all(len(word.split()) > 1 for word in words):
            raise ArgumentError(f"text: a list is one text, word by word, and {words[0][:40]!r} holds white space")
    if all(isinstance(part, str) for part in pair):
        return pair
    return tuple(tuple(part.split() if isinstance(part, str) else part) for part in pair)


def read(parts: Sequence[Part], tokenizer: Any, *, max_length: int, name: str, query: str = "") -> Text:
    """The window of at most `max_length` wordpieces that the model reads. tokenizer None: every word is one token."""
    split = [part.split() if isinstance(part, str) else list(part) for part in parts]
    words, starts = tuple(word for one in split for word in one), np.cumsum([0, *map(len, split)])
    if tokenizer is None:
        if len(parts) > 1 or query:
            raise ArgumentError("text: a pair needs a tokenizer; give model= or tokenizer=")
        ids, marks = np.array(corpus.WordTokens().ids_of(words), dtype=np.int64), np.zeros(len(words), dtype=bool)
        return Text(Window(name, name, ids, None, np.arange(len(words)), marks), words, words, "")
    as_words = not isinstance(parts[0], str)
    second = (query.split() if as_words else query) if query else parts[1] if len(parts) > 1 else None
    encoded = encode([parts[0]], tokenizer, seconds=None if second is None else [second], max_length=max_length)
    row, record = encoded.rows[0], encoded.encodings[0]
    ids = np.full(len(row["input_ids"]), SPECIAL, dtype=np.int64)
    for part, (text, start) in enumerate(zip(parts, starts[:-1].tolist(), strict=True)):
        own = [token for token, sequence in enumerate(record.sequence_ids) if sequence == part]
        if not own:
            raise ArgumentError(f"text: {'the second text of the pair ' * bool(part)}gives no wordpiece")
        within = record.word_ids if as_words else None
        found = [within[i] for i in own] if within else word_indices(str(text), [record.offsets[i] for i in own])
        ids[own] = np.array(found) + start
    if ids[0] != SPECIAL:
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} puts no special token first, where classifiers read"
        )
    inputs = {key: np.array(values, dtype=np.int64) for key, values in row.items()}
    types = inputs.get("token_type_ids")
    window = Window(name, name, inputs["input_ids"], types, ids, np.zeros(len(ids), dtype=bool))
    note, seen = "", corpus.words_of([window], len(words))
    if record.overflowing:  # words after the last one in view
        lost = sum(end - 1 - int(np.flatnonzero(seen[:end]).max()) for end in starts[1:].tolist())
        note = f"the text is longer than the input: the model reads {len(window)} wordpieces of it, "
        note += f"{lost} of its {len(words)} words are left out"
    return Text(window, corpus.readable_tokens(tokenizer, window.input_ids.tolist()), words, note)


def word_indices(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word, between white space, that each range of characters lies in, if it begins with the space before it
    (SentencePiece, byte-level BPE), too."""
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    found = []
    for start, end in offsets:
        inside = len(text[start:end]) - len(text[start:end].lstrip())
        first = start + inside if inside < end - start else start
        found.append(min(int(np.searchsorted(ends, first, side="right")), len(ends) - 1))
    return found


def _read_by_predict(adapler: Any, text: Text) -> str:
    """Where `predict` reads another part of a text, as in the model's training (run.json); else ""."""
    if adapler is None:
        return ""
    how, tokens = adapler.encoding(), len(text.window)
    length = how.max_length
    if (tokens <= length and not text.note) or (how.long_documents == "truncate" and length == tokens):
        return ""
    why = f" ({RUN})" if "as in training" in how.note else ""
    return f"of a text longer than {length} tokens model.predict reads {part_read(how, length)}{why}"


def _unknown(text: Text, tokenizer: Any) -> str:
    """A note on wordpieces that the tokenizer does not know, or ""."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    count = 0 if unknown is None else int(((text.window.input_ids == unknown) & ~text.window.special).sum())
    return f"{count} of the tokens unknown to the tokenizer ({tokenizer.unk_token})" if count else ""


# ---- scores that were made elsewhere


def saved_method(name: str, values: Any, text: Text) -> MethodScores:
    """Saved scores as a method called `name`.

    values: (W,) or (L', W), a score for each word, which all of its tokens get; (n,) or (L', n), one for each token,
        special ones included; or {word, by index or name: score}: the others score 0. A pandas Series goes by its
        index: as numbers in that order where it is 0 to its length, else as a dictionary.
    """
    where = f"scores: {name!r}"
    n_words, n_tokens = len(text.words), len(text.tokens)
    if isinstance(values, pd.Series):
        ordered = set(values.index) == set(range(len(values))) and values.index.is_unique
        values = by_index(values, where) if ordered else values.to_dict()
    by_name = isinstance(values, Mapping)
    try:
        array = _by_word(values, text.words) if by_name else as_array(values)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{where}: {error}") from error
    rows = np.atleast_2d(array)  # (L', W) or (L', n)
    if rows.ndim != 2 or rows.shape[1] not in (n_words, n_tokens) or not len(rows):
        wanted = f"must have a score for each of the {n_words} words, or of the {n_tokens} tokens"
        raise ArgumentError(f"{where} has the shape {array.shape}, {wanted}")
    if n_words == n_tokens and text.window.special.any() and not by_name:
        raise ArgumentError(f"{where}: the text has as many words as tokens, {n_words}; give {{word index: score}}")
    if not np.isfinite(rows).all():
        raise ArgumentError(f"{where}: a score is NaN or infinite")
    signed = bool((rows < 0).any())
    if rows.shape[1] == n_words:
        given = Given(name, {text.window.document: rows}, signed=signed)
        (found,) = given.windows(text.window.document, [text.window])
    else:
        total = rows.sum(axis=1, keepdims=True)  # a layer that marks nothing selects nothing
        shares = rows if signed else np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)
        found = WindowScores(shares, signed=signed)
    named: dict[str, Any] = {"name": name, "title": name, "scope": "saved scores", "target": None}
    return MethodScores(**vars(found), **named, layerwise=array.ndim == 2)


def _by_word(values: Mapping[Any, Any], words: Sequence[str]) -> NDArray[np.float64]:
    array = np.zeros(len(words))
    for key, score in values.items():
        found = [i for i, word in enumerate(words) if word == key] if isinstance(key, str) else [key]
        if len(found) != 1 or found[0] not in range(len(words)):
            raise ValueError(f"{key!r} is not one word of the text; words are named by index, 0 to {len(words) - 1}")
        array[int(found[0])] = float(score)
    return array
