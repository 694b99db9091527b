"""One text explained, as plain values: every method's scores, what AdapLeR drops, what the model answers.

W words of the text, n tokens that the model reads (special tokens included), C classes
L layers of the model; L' layers that a method scores: L, or 1 for a method with a meaning at the input only
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.documents.units import WindowScores, layer_units, unit_labels, why_skipped
from analysis.documents.values import listed
from analysis.documents.windows import Window
from analysis.explanation.arguments import single_text_metric
from analysis.explanation.rationale import word_mask
from analysis.metrics.plausibility import expected_average_precision, select_uniform
from analysis.metrics.registry import compute
from analysis.results.records import DocumentScores
from analysis.results.wording import OF_REMOVAL

STR = pd.StringDtype(na_value=np.nan)  # pandas 3 calls it "str", before it numpy's is, which writes None as a word
METRICS = ("average_precision", "fpr", "tpr", "j")


@dataclass(frozen=True, eq=False)
class MethodScores:
    """One method's scores of the text.

    name         as it was asked for, with its options: `integrated_gradients(n_steps=20)`
    title        its name in figures
    scope        what one layer's score means: "in the layer", "from the layer to the output", ...
    target       whose logit is explained, for a method that explains one: "NEG", "NEG minus the strongest other"
    scores       (L', n) float32
    signed       False: the scores of a layer are not negative and sum to 1 over the n tokens. True: raw values; a
                 negative one speaks against the target, and nothing can be selected at 1/n
    layerwise    whether there is a score at every layer (L' = L)
    present      (L', n) bool, the tokens among which a layer's scores are shared out; None: all n (AdapLeR's own
                 scores are shared out among the tokens that are still there)
    diagnostics  name -> (L',), what the method says about its own result
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
        """Whether these are the scores by which the AdapLeR model drops tokens: what it keeps, and its thresholds, are
        about no others. A method of one's own may share its scores out among some tokens, too."""
        return self.present is not None and self.name in OF_REMOVAL

    @property
    def n_present(self) -> NDArray[np.int64]:
        """(L',) tokens among which each layer's scores are shared out: the n in 1/n of that layer."""
        if self.present is None:
            return np.full(len(self.scores), self.scores.shape[1], dtype=np.int64)
        return np.asarray(self.present.sum(axis=1), dtype=np.int64)

    def row(self, layer: int) -> int:
        """Which row of `scores` stands for a layer of the model."""
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


@dataclass(frozen=True, eq=False)
class ExplanationData:
    """What is known of one text.

    name                the text's name in figures and files
    model               the model's name
    tokens              the n wordpieces that the model reads, special tokens included
    words               the W words of the text, also those beyond the model's length
    word_ids            (n,) int64, index of each token's word; -1 for a special token and the second text of a pair
    methods             name -> `MethodScores`, in the order asked for
    labels              the C classes' names; () when no model ran
    probabilities       (C,) of the model as it is used: with removal for an AdapLeR model. None without a model, and
                        for a model whose outputs are no probabilities (a regression)
    full_probabilities  (C,) of the same model without removal; the same for a plain classifier
    target              what the methods with a target explain, as it was asked for; `MethodScores.target` names it
    gold                name of the gold class, if it was given
    thresholds          (L,) the score below which AdapLeR's layer l drops a token; None without AdapLeR
    kept                (L, n) bool, the tokens that enter layer l of the AdapLeR model; None without one
    rationale           (W,) bool, the human rationale that was given, or None
    dtype               the number format of the model's layers; None when no model ran
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
        return self.window.words

    @property
    def n(self) -> int:
        """Tokens of the input, special tokens included: the n of the level 1/n."""
        return len(self.tokens)

    @property
    def n_layers(self) -> int:
        """Layers of the AdapLeR model, else of the method with most of them."""
        rows = [len(method.scores) for method in self.methods.values()]
        return len(self.kept) if self.kept is not None else max(rows, default=0)

    @property
    def scores(self) -> dict[str, NDArray[np.float32]]:
        """name -> (L', n)."""
        return {name: method.scores for name, method in self.methods.items()}

    @property
    def present(self) -> NDArray[np.bool_] | None:
        """(L, n) bool, the tokens that AdapLeR's Contribution Predictor of layer l scores: those that entered the
        layer before, all of them in layer 0. None without AdapLeR."""
        if self.kept is None:
            return None
        return np.concatenate([np.ones((1, self.n), dtype=np.bool_), self.kept[:-1]])

    def chosen(self, methods: Sequence[str] | str | None = None) -> tuple[MethodScores, ...]:
        """The methods of these names, default all. Raises ArgumentError for a name that is not there."""
        names = tuple(self.methods) if methods is None else tuple(listed("methods", methods))
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
        parts = [self._rows(method, words) for method in self.methods.values()]
        return pd.concat(parts, ignore_index=True) if parts else self._rows(None, words)

    def _rows(self, method: MethodScores | None, words: Sequence[str | None]) -> pd.DataFrame:
        scores = np.zeros((0, self.n)) if method is None else method.scores
        n_layers = len(scores)
        kept: NDArray[Any] = np.full(scores.size, None, dtype=object)
        thresholds = np.full((n_layers, self.n), np.nan)
        if method is not None and method.layerwise and self.kept is not None and len(self.kept) == n_layers:
            kept = self.kept.ravel().astype(object)
            if method.present is not None and method.of_removal and self.thresholds is not None:
                thresholds = np.where(method.present, self.thresholds[:, None], np.nan)
        return pd.DataFrame(
            {
                "position": np.tile(np.arange(self.n), n_layers),
                "method": pd.array([method.name if method else ""] * scores.size, dtype=STR),
                "layer": np.repeat(np.arange(n_layers), self.n),
                "token": pd.array(list(self.tokens) * n_layers, dtype=STR),
                "word": pd.array(list(words) * n_layers, dtype=STR),
                "score": scores.ravel(),
                "threshold": thresholds.ravel(),
                "kept": pd.array(kept, dtype="boolean"),
            }
        )

    def word_mask(self, rationale: Sequence[Any] | NDArray[Any] | None = None) -> NDArray[np.bool_]:
        """(W,) bool from a rationale in any form, see `analysis.explanation.rationale`; default: the explanation's
        own. Raises ArgumentError when there is none, or it does not fit the text."""
        if rationale is not None:
            return word_mask(rationale, len(self.words))
        if self.rationale is None:
            raise ArgumentError("rationale: got none; give 0 or 1 for each word, spans of words, or word indices")
        return self.rationale

    def undefined(self, rationale: Sequence[Any] | NDArray[Any] | None = None) -> str | None:
        """Why no metric is defined for this rationale, None when they are: it marks no word that the model reads, or
        every one."""
        return why_skipped([unit_labels([self._marked(rationale)], aggregation="none")])

    def metrics(
        self,
        rationale: Sequence[Any] | NDArray[Any] | None = None,
        *,
        metrics: Sequence[str] | str = METRICS,
        aggregation: str = "none",
    ) -> pd.DataFrame:
        """Agreement of every method and layer with a human rationale, as `rationale_eval.evaluate` computes it.

        rationale: 0 or 1 for each word, spans (start, end) of words, or the marked words' indices; default: the one
            that was given to `explain`.
        metrics: names of `analysis.metrics.registry`, those that neither ask the model again nor need a data set.
        aggregation: "none": wordpieces are judged; "max", "mean" or "sum" over its wordpieces: words are.

        Special tokens are left out of every metric. Columns: method, layer, one for each metric (NaN where it is not
        defined: see `undefined`; what is selected at 1/n is not defined for signed scores), chance (average precision
        of random scores), n (tokens, or words, of the input with the special tokens: the n of `fpr`, `tpr` and `j`),
        n_present (those present at the layer: the n of `fpr_present` and its like).

        Raises ArgumentError for a rationale that does not fit and for a metric that cannot be computed here.
        """
        window = self._marked(rationale)
        labels = unit_labels([window], aggregation=aggregation)
        names = [single_text_metric(name) for name in listed("metrics", metrics)]
        judged = why_skipped([labels]) is None
        chance = expected_average_precision(int(labels.sum()), len(labels)) if judged else np.nan
        rows = []
        for method in self.methods.values():
            given = WindowScores(method.scores, method.present, method.signed, of_words=method.of_words)
            units = layer_units([window], [given], labels, aggregation=aggregation, density=float("nan"))
            for layer, one in enumerate(units):
                values = compute(names, one) if judged else [float("nan")] * len(names)
                rows.append(
                    {"method": method.name, "layer": layer}
                    | dict(zip(names, values, strict=True))
                    | {"chance": chance, "n": one.n_input, "n_present": one.n_present}
                )
        return pd.DataFrame(rows, columns=["method", "layer", *names, "chance", "n", "n_present"])

    def _marked(self, rationale: Sequence[Any] | NDArray[Any] | None) -> Window:
        """The window with a rationale in it."""
        mask, content = self.word_mask(rationale), ~self.window.special
        labels = np.zeros(self.n, dtype=np.bool_)
        labels[content] = mask[self.window.words[content]]
        return replace(self.window, rationale=labels)

    def document(self) -> DocumentScores:
        """The same for `analysis.figures`."""
        marked = self.window if self.rationale is None else self._marked(None)
        return DocumentScores(
            id=self.name,
            tokens=self.tokens,
            words=self.word_ids,
            rationale=marked.rationale,
            scores=self.scores,
            retention=self.kept,
            prediction=self.prediction,
            label=self.gold,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain lists and dictionaries for JSON."""

        def plain(values: NDArray[Any] | None) -> list[Any] | None:
            return None if values is None else values.tolist()

        return {
            "name": self.name,
            "model": self.model,
            "tokens": list(self.tokens),
            "words": list(self.words),
            "word_ids": self.word_ids.tolist(),
            "labels": list(self.labels),
            "probabilities": plain(self.probabilities),
            "full_probabilities": plain(self.full_probabilities),
            "prediction": self.prediction,
            "full_prediction": self.full_prediction,
            "target": self.target,
            "gold": self.gold,
            "thresholds": plain(self.thresholds),
            "kept": None if self.kept is None else self.kept.astype(int).tolist(),
            "rationale": None if self.rationale is None else self.rationale.astype(int).tolist(),
            "dtype": self.dtype,
            "note": self.note,
            "methods": {
                name: {
                    "title": method.title,
                    "scope": method.scope,
                    "target": method.target,
                    "signed": method.signed,
                    "layerwise": method.layerwise,
                    "n_present": method.n_present.tolist(),
                    "scores": method.scores.tolist(),
                    "diagnostics": {key: values.tolist() for key, values in method.diagnostics.items()},
                }
                for name, method in self.methods.items()
            },
        }
