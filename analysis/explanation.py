"""One text explained: every method's scores, what AdapLeR drops, what the model answers.

W words of the text, n tokens that the model reads (special tokens included), C classes
L layers of the model; L' layers that a method scores: L, or 1 for a method with a meaning at the input only
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from adapler.options import counted
from analysis.corpus import Window, WindowScores, layer_units, unit_labels, why_skipped
from analysis.figures import FORMATS, write_figure
from analysis.figures.style import literal
from analysis.figures.tokens import (
    OF_REMOVAL,
    DocumentScores,
    Level,
    Panel,
    bars_figure,
    heatmaps_figure,
    passages_figure,
    token_text,
    visible,
)
from analysis.marks import word_mask
from analysis.metrics.plausibility import compute, expected_average_precision, get_metric, select_uniform
from analysis.page import explanation_fragment, explanation_page
from analysis.report import json_text, write_text

METRICS = ("average_precision", "fpr", "tpr", "j")
SHOWN = 4  # tokens of a method in a terminal
AS_BARS = 48  # tokens; of a longer text an excerpt is drawn, shaded


@dataclass(frozen=True, eq=False)
class MethodScores:
    """One method's scores of the text.

    name         as given, with its options: `integrated_gradients(n_steps=20)`
    title        its name in figures
    scope        what one layer's score means: "in the layer", "from the layer to the output", ...
    target       whose logit is explained, for a method that explains one: "NEG", "NEG minus POS"
    scores       (L', n) float32
    signed       False: the scores of a layer are not negative and sum to 1 over the n tokens. True: raw values; a
                 negative one speaks against the target, and nothing can be selected at 1/n
    layerwise    whether there is a score at every layer (L' = L)
    present      (L', n) bool, the tokens among which a layer's scores are shared out; None: all n (AdapLeR's own
                 scores are shared out among the tokens that are still there)
    diagnostics  name -> (L',), what the method says about its own result, such as its completeness gap
    of_words     saved scores of words: every wordpiece has the whole word's, so that words are never summed up
    """

    name: str
    title: str
    scope: str
    target: str | None
    scores: NDArray[np.float32]
    signed: bool
    layerwise: bool
    present: NDArray[np.bool_] | None = None
    diagnostics: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    of_words: bool = False

    @property
    def of_removal(self) -> bool:
        """Whether the AdapLeR model drops tokens by these scores; what it keeps and its thresholds are of no others."""
        return self.present is not None and self.name in OF_REMOVAL

    @property
    def n_present(self) -> NDArray[np.int64]:
        """(L',) tokens among which each layer's scores are shared out: the n in 1/n of that layer."""
        if self.present is None:
            return np.full(len(self.scores), self.scores.shape[1], dtype=np.int64)
        return np.asarray(self.present.sum(axis=1), dtype=np.int64)

    def row(self, layer: int) -> int:
        """Row of `scores` for a layer of the model."""
        return layer if self.layerwise else 0

    def selected(self, *, present: bool = False) -> NDArray[np.bool_] | None:
        """(L', n) bool, the tokens whose score is at least 1/n; None for signed scores, where that is not defined.

        present: False: n is the number of tokens of the input, as in the metrics `fpr` and `tpr`; True: n is
            `n_present`, as in AdapLeR's own thresholds and the metrics `fpr_present` and `tpr_present`.
        """
        if self.signed:
            return None
        sizes = self.n_present if present else np.full(len(self.scores), self.scores.shape[1])
        return np.stack([select_uniform(row, max(1, int(n))) for row, n in zip(self.scores, sizes, strict=True)])

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

    name                the text's name in figures and files
    model               the model's name
    tokens              the n wordpieces that the model reads, special tokens included
    words               the W words of the text (of a pair, of both), also those beyond the model's length
    methods             name -> `MethodScores`, in the given order
    labels              the C classes' names; () when no model ran
    probabilities       (C,) of the model as it is used: with removal for an AdapLeR model. None without a model, and
                        for a model whose outputs are no probabilities (a regression)
    full_probabilities  (C,) of the same model without removal; the same for a plain classifier
    target              target of the methods that have one, as given; `MethodScores.target` names it
    gold                name of the gold class, if it was given
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
    def n_layers(self) -> int:
        """Layers of the AdapLeR model, else of the method with most of them."""
        return self.document().n_layers

    @property
    def scores(self) -> dict[str, NDArray[np.float32]]:
        """name -> (L', n)."""
        return {name: method.scores for name, method in self.methods.items()}

    @property
    def present(self) -> NDArray[np.bool_] | None:
        """(L, n) bool, the tokens that AdapLeR's Contribution Predictor of layer l scores: those that entered the
        layer before, all of them in layer 0. None without AdapLeR."""
        return None if self.kept is None else np.vstack([np.ones((1, self.n), dtype=np.bool_), self.kept[:-1]])

    def chosen(self, methods: Sequence[str] | str | None = None) -> tuple[MethodScores, ...]:
        """The methods of these names, default all. Raises ArgumentError for an unknown name."""
        names = tuple(self.methods) if methods is None else (methods,) if isinstance(methods, str) else methods
        for name in names:
            if name not in self.methods:
                known = ", ".join(self.methods)
                raise ArgumentError(f"methods: {name!r} is not in this explanation, which has {known}")
        return tuple(self.methods[name] for name in names)

    def to_frame(self) -> pd.DataFrame:
        """One row for each method, layer and token.

        Columns: position (of the token in the input, from 0), method, layer (from 0; 0 too for a method with a
        meaning at the input only), token, word (missing for a special token), score, threshold (the score below which
        AdapLeR drops the token; AdapLeR's own scores only, else NaN, as of a token that had been dropped before), kept
        (whether the token enters that layer of the AdapLeR model; <NA> without one, and for a method with a meaning at
        the input only).
        """
        words = [None if index < 0 else self.words[index] for index in self.word_ids.tolist()]
        text = pd.StringDtype(na_value=np.nan)
        parts = []
        for method in self.methods.values():
            rows, size = len(method.scores), method.scores.size
            kept: NDArray[Any] = np.full(size, None, dtype=object)
            thresholds = np.full(method.scores.shape, np.nan)
            if method.layerwise and self.kept is not None and len(self.kept) == rows:
                kept = self.kept.ravel().astype(object)
                if method.of_removal and method.present is not None and self.thresholds is not None:
                    thresholds = np.where(method.present, self.thresholds[:, None], np.nan)
            columns = {
                "position": np.tile(np.arange(self.n), rows),
                "method": pd.array([method.name] * size, dtype=text),
                "layer": np.repeat(np.arange(rows), self.n),
                "token": pd.array(list(self.tokens) * rows, dtype=text),
                "word": pd.array(words * rows, dtype=text),
                "score": method.scores.ravel(),
                "threshold": thresholds.ravel(),
                "kept": pd.array(kept, dtype="boolean"),
            }
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)

    # Against a human rationale

    def metrics(
        self, rationale: Any = None, *, metrics: Sequence[str] | str = METRICS, aggregation: str = "none"
    ) -> pd.DataFrame:
        """Agreement of every method and layer with a human rationale, as `rationale_eval.evaluate` computes it.

        rationale: 0 or 1 for each word, spans (start, end) of words, or the marked words' indices; default: the one
            that was given to `explain`.
        metrics: names of `analysis.metrics.METRICS`, those that neither ask the model again nor need a data set.
        aggregation: "none": wordpieces are judged; "max", "mean" or "sum" over its wordpieces: words are.

        Special tokens are left out of every metric. Columns: method, layer, one for each metric (NaN where the
        rationale marks no word that the model reads, or every one; what is selected at 1/n is not defined for signed
        scores), chance (average precision of random scores), n (tokens, or words, of the input with the special tokens:
        the n of `fpr`, `tpr` and `j`), n_present (those present at the layer: the n of `fpr_present` and its like).

        Raises ArgumentError for a rationale that does not fit and for a metric that cannot be computed here.
        """
        window, names = self._marked(rationale), [metrics] if isinstance(metrics, str) else list(metrics)
        for metric in map(get_metric, names):
            if metric.function is None or metric.uses_density:
                needs = "the model again" if metric.function is None else "the mean rationale size of a data set"
                raise ArgumentError(f"metrics: {metric.name!r} needs {needs}: rationale_eval.evaluate computes it")
        labels = unit_labels([window], aggregation=aggregation)
        judged = why_skipped([labels]) is None
        chance = expected_average_precision(int(labels.sum()), len(labels)) if judged else np.nan
        rows = []
        for method in self.methods.values():
            given = WindowScores(method.scores, method.present, method.signed, of_words=method.of_words)
            units = layer_units([window], [given], labels, aggregation=aggregation)
            for layer, one in enumerate(units):
                values = compute(names, one) if judged else [np.nan] * len(names)
                row = {"method": method.name, "layer": layer} | dict(zip(names, values, strict=True))
                rows.append(row | {"chance": chance, "n": one.n_input, "n_present": one.n_present})
        return pd.DataFrame(rows, columns=["method", "layer", *names, "chance", "n", "n_present"])

    def _marked(self, rationale: Any) -> Window:
        """The window with a rationale in it."""
        mask, content = self.rationale, ~self.window.special
        if rationale is not None:
            mask = word_mask(rationale, len(self.words))
        if mask is None:
            raise ArgumentError("rationale: got none; give 0 or 1 for each word, spans of words, or word indices")
        labels = np.zeros(self.n, dtype=np.bool_)
        labels[content] = mask[self.window.words[content]]
        return replace(self.window, rationale=labels)

    # What it looks like

    def document(self) -> DocumentScores:
        """The text as a document for `analysis.figures`."""
        window = self.window if self.rationale is None else self._marked(None)
        shown = (self.prediction, self.gold)
        return DocumentScores(self.name, self.tokens, self.word_ids, window.rationale, self.scores, self.kept, *shown)

    def plot(
        self, layer: int | None = None, methods: Sequence[str] | str | None = None, *, style: str = "acl"
    ) -> Figure:
        """A matplotlib figure: every layer as a heat map, one panel per method; or one layer, token by token.

        methods: those to draw, default all; style: the widths of "acl" or "neurips". Amber: the score; violet: a signed
        score against the target.
        At one layer: one bar per token, hollow where the model drops it, with 1/n dashed and AdapLeR's threshold
        solid; a text of more than 48 tokens is drawn as an excerpt with shades instead.
        Raises ArgumentError for an unknown layer or method.
        """
        chosen, document = self.chosen(methods), self.document()
        if layer is None:
            names = [method.name for method in chosen]
            titles = {method.name: literal(method.title) for method in chosen}
            layerwise = {method.name: method.layerwise for method in chosen}
            return heatmaps_figure(document, names, titles=titles, layerwise=layerwise, style=style)
        for method in chosen:
            if method.layerwise and layer not in range(len(method.scores)):
                raise ArgumentError(f"layer: got {layer}, {method.name!r} has 0 to {len(method.scores) - 1}")
        panels, texts = [], []
        for method in chosen:
            row = method.row(layer)
            where = f", layer {layer}" if method.layerwise else ", input"
            target = f", target {method.target}" if method.target else ""
            panels.append((f"{method.title}{where}{target}", method.name, row, self._levels(method, row)))
            texts.append(Panel(document, method.name, method.title, layers=[row], layerwise=method.layerwise))
        return bars_figure(document, panels, style=style) if self.n <= AS_BARS else passages_figure(texts, style=style)

    def _levels(self, method: MethodScores, row: int) -> list[Level]:
        n = int(method.n_present[row])
        levels = [] if method.signed else [Level(1 / n, f"1/n, n = {n}", dashed=True)]
        if method.of_removal and self.thresholds is not None:
            levels.append(Level(float(self.thresholds[row]), "threshold"))
        return levels

    def save(self, path: str | Path, *, layer: int | None = None, methods: Sequence[str] | str | None = None) -> Path:
        """Write the file, whole or not at all; its ending says what: .pdf (fonts embedded), .png or .svg is the
        figure of `plot(layer, methods)`, .html the page that a notebook shows, .csv is `to_frame()` and .json
        everything (NaN is null). Returns the path.

        Raises ArgumentError for another ending, and for `layer` or `methods` where there is no figure.
        """
        path = Path(path)
        writers: dict[str, Callable[[], str]] = {
            ".html": self.to_html,
            ".csv": lambda: self.to_frame().to_csv(index=False, lineterminator="\n"),
            ".json": lambda: json_text(self.to_dict()),
        }
        if path.suffix.lower() in FORMATS:
            write_figure(self.plot(layer, methods), path)
        elif path.suffix.lower() not in writers:
            allowed = ", ".join([*FORMATS, *writers])
            raise ArgumentError(f"save: {path.name!r} must end in one of {allowed}")
        elif layer is not None or methods is not None:
            raise ArgumentError(f"save: layer and methods are for figures, {path.name} holds everything")
        else:
            write_text(writers[path.suffix.lower()](), path)
        return path

    def to_html(self) -> str:
        """The page that a notebook shows, as a file of its own: no script, no other file."""
        return explanation_page(self)

    def _repr_html_(self) -> str:
        return explanation_fragment(self)

    def __repr__(self) -> str:
        """The model's answer, and the tokens with the highest scores of each method in its last layer."""
        text = visible(" ".join(self.words))
        shown = text if len(text) <= 60 else text[:56].rstrip() + " ..."
        lines = [self.answer(), f"n = {counted(self.n, 'token')}, {counted(len(self.words), 'word')}: {shown}"]
        lines += [f"note: {self.note}"] if self.note else []
        rows = [("method", "layers", "a score is about", "highest at the last layer")]
        for method in self.methods.values():
            layers = (
                ("0" if len(method.scores) == 1 else f"0-{len(method.scores) - 1}") if method.layerwise else "input"
            )
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
        return ", ".join(f"{token_text(self.tokens[token])} {last[token]:.3f}" for token in order[:SHOWN])

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
