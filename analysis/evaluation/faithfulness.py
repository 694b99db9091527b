"""Faithfulness of every method's scores, with a classifier behind `analysis.metrics.faithfulness`.

n wordpieces of a window, n_c content ones; C classes; L' layers of a method; F metrics
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from adapler.errors import ArgumentError
from adapler.model.batching import batches_by_length
from analysis.documents.aggregation import aggregate
from analysis.documents.batching import collate
from analysis.documents.units import WindowScores
from analysis.documents.windows import SPECIAL, Window
from analysis.evaluation.cache import ScoreCache
from analysis.evaluation.cache.fingerprints import code_fingerprint, facts_key, window_key
from analysis.evaluation.settings import Settings
from analysis.metrics.faithfulness import (
    SOFT,
    aopc_bounds,
    faithfulness_rows,
    leave_one_out,
    loo_kendall,
    normalised_aopc,
    soft_rows,
)
from analysis.scores import Batch
from analysis.scores.passes import classifier_logits, run_format

LOO = "loo_kendall"
NORMALISED = {"naopc_comprehensiveness": "comprehensiveness", "naopc_sufficiency": "sufficiency"}
_CODE = (  # what makes the values, with all that it imports; this file counts too, not what it imports
    "analysis.metrics.faithfulness",
    "analysis.documents.aggregation",
    "analysis.documents.batching",
    "analysis.scores.passes",
)
Predict = Callable[[list[NDArray[np.int64]]], NDArray[np.float64]]


class Perturbation:
    """The metrics of the group "faithfulness" for windows and methods; nothing is computed twice with a cache.

    The class whose probability is followed is the one that the classifier predicts for the whole window, also for
    the scores of an AdapLeR model: one model is asked about all of them. density: of the data set's rationales, for
    the metrics `..._at_density`; without it they are NaN.

    Raises ArgumentError when tokens are to be masked and the tokenizer has no mask token.
    """

    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        settings: Settings,
        cache: ScoreCache,
        fingerprint: str | None,
        density: float | None = None,
    ) -> None:
        self.model, self.tokenizer, self.settings, self.cache = model, tokenizer, settings, cache
        self.metrics = settings.faithfulness_metrics
        self.how = replace(settings.faithfulness, density=density, seed=settings.seed)
        self.fingerprint = fingerprint
        if self.metrics and settings.faithfulness.variant == "mask" and tokenizer.mask_token_id is None:
            raise ArgumentError(f"faithfulness: {type(tokenizer).__name__} has no mask token, use variant 'delete'")

    def values(
        self,
        window: Window,
        target: int,
        methods: Mapping[str, WindowScores],
    ) -> dict[str, NDArray[np.float64]]:
        """method -> (L', F), NaN in the layers that are not asked for. target: the predicted class's index."""
        if not self.metrics:
            return {name: np.zeros((len(given.scores), 0)) for name, given in methods.items()}
        found: dict[str, NDArray[np.float64]] = {}
        keys = {name: self._key(window, target, given) for name, given in methods.items()}
        stored = self.cache.load_many(key for key in keys.values() if key is not None)
        for name, given in methods.items():
            values = stored.get(keys[name] or "", {}).get("values")
            if values is not None and values.shape == (len(given.scores), len(self.metrics)):
                found[name] = values
        missing = {name: given for name, given in methods.items() if name not in found}
        fresh = self._compute(window, target, missing)
        self.cache.save_many({key: {"values": values} for name, values in fresh.items() if (key := keys[name])})
        return found | fresh

    def _compute(
        self, window: Window, target: int, methods: Mapping[str, WindowScores]
    ) -> dict[str, NDArray[np.float64]]:
        values = {name: np.full((len(given.scores), len(self.metrics)), np.nan) for name, given in methods.items()}
        places = [(name, layer) for name, given in methods.items() for layer in self._layers(given)]
        if places:
            rows = np.array([self._row(window, methods[name], layer) for name, layer in places])  # (S, n_c)
            for (name, layer), one in zip(places, self._judged(window, target, rows), strict=True):
                values[name][layer] = [one[metric] for metric in self.metrics]
        return values

    def _judged(self, window: Window, target: int, rows: NDArray[np.float64]) -> list[dict[str, float]]:
        """Metric -> value for each of S score rows (S, n_c)."""
        ids, content, wanted = window.input_ids, ~window.special, set(self.metrics)
        predict, mask_id = self._predictor(window), self.tokenizer.mask_token_id
        how: dict[str, Any] = {"target": target, "settings": self.how, "mask_id": mask_id}
        judged: list[dict[str, float]] = [{} for _ in rows]
        if wanted - {LOO, *SOFT}:
            words = None if self.settings.aggregation == "none" else window.words[content]
            judged = faithfulness_rows(predict, ids, content, rows, words=words, **how)
        for name in wanted & set(NORMALISED):
            kind, positive_only = NORMALISED[name], self.how.positive_only
            usable = [int((row > 0).sum()) if positive_only else None for row in rows]
            limits = {
                count: aopc_bounds(predict, ids, content, kind=kind, usable=count, **how) for count in set(usable)
            }
            for one, count in zip(judged, usable, strict=True):
                one[name] = normalised_aopc(one[f"aopc_{kind}"], *limits[count])
        if wanted & set(SOFT):
            for one, more in zip(judged, soft_rows(predict, ids, content, rows, **how), strict=True):
                one |= more
        if LOO in wanted:
            drops = leave_one_out(predict, ids, content, target=target, variant=self.how.variant, mask_id=mask_id)
            for one, row in zip(judged, rows, strict=True):
                one[LOO] = loo_kendall(drops, row)
        return judged

    def _layers(self, given: WindowScores) -> Sequence[int]:
        chosen = self.settings.faithfulness_layers
        every = range(len(given.scores))
        return every if chosen is None or len(every) == 1 else chosen

    def _row(self, window: Window, given: WindowScores, layer: int) -> NDArray[np.float64]:
        """(n_c,) scores of the content wordpieces; under an aggregation each has its word's score."""
        content = ~window.special
        values = given.scores[layer, content].astype(np.float64)
        if self.settings.aggregation == "none" or given.of_words:
            return np.asarray(values)  # given scores are their word's already
        words = window.words[content]
        by_word, kept = aggregate(values, words, how=self.settings.aggregation)
        spread = np.zeros(int(np.max(words, initial=0)) + 1)
        spread[kept] = by_word
        return np.asarray(spread[words])

    def _predictor(self, window: Window) -> Predict:
        """Probabilities (inputs, C) of versions of this window with fewer or masked content tokens."""

        def predict(inputs: list[NDArray[np.int64]]) -> NDArray[np.float64]:
            logits = version_logits(
                window, inputs, self.model, tokenizer=self.tokenizer, settings=self.settings, forward=classifier_logits
            )
            return np.asarray(softmax(logits, axis=-1))

        return predict

    def _key(self, window: Window, target: int, given: WindowScores) -> str | None:
        """Cache key of one method's values; None when they cannot be kept. The scores themselves are in it, not how
        they came about."""
        if self.fingerprint is None:
            return None
        facts = {
            "entry": "faithfulness",
            "code": code_fingerprint(*_CODE, alone=[__name__]),
            "scores": hashlib.sha256(np.ascontiguousarray(given.scores).tobytes()).hexdigest(),
            "shape": given.scores.shape,
            "of_words": given.of_words,  # under "sum" these are not summed again
            "words": hashlib.sha256(np.ascontiguousarray(window.words).tobytes()).hexdigest(),
            "target": target,
            "model": self.fingerprint,
            "metrics": self.metrics,
            "settings": asdict(self.how),
            "layers": self.settings.faithfulness_layers,
            "aggregation": self.settings.aggregation,
            "dtype": self.settings.dtype,
            "device": next(self.model.parameters()).device.type,
            "pad": self.tokenizer.pad_token_id,
            "mask": self.tokenizer.mask_token_id,
        }
        return window_key(facts_key(facts), window)


def version_logits(
    window: Window,
    inputs: Sequence[NDArray[np.int64]],
    model: Any,
    *,
    tokenizer: Any,
    settings: Settings,
    forward: Callable[[Any, Batch], torch.Tensor],
) -> NDArray[np.float64]:
    """(inputs, C) logits of versions of a window, given by their ids: content tokens are gone or masked.

    forward: (model, batch) -> (B, C); it decides whether the classifier or the AdapLeR model is asked.
    """
    device = next(model.parameters()).device
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(inputs)
    budget = settings.batch_tokens(device.type)
    for indices in batches_by_length([len(ids) for ids in inputs], token_budget=budget):
        batch = collate(
            [_version(window, inputs[i], name=f"{window.id}~{i}") for i in indices],
            pad_token_id=tokenizer.pad_token_id,
            device=device,
            threshold_scale=settings.threshold_scale,
        )
        with run_format(settings.dtype, device):
            output = forward(model, batch).cpu().double().numpy()
        for i, row in zip(indices, output, strict=True):
            found[i] = row
    return np.array(found)


def version_types(types: NDArray[np.int64], content: NDArray[np.bool_], *, length: int) -> NDArray[np.int64]:
    """(length,) token types of a version: what is left of the document is the first segment.

    types: (n,) of the whole input. content: (n,) the document's tokens; those behind the last one, a [SEP] or a query,
    are in every version.
    """
    behind = len(types) - 1 - int(np.flatnonzero(content)[-1]) if content.any() else 0
    return np.concatenate([np.full(length - behind, types[0]), types[len(types) - behind :]])


def _version(window: Window, ids: NDArray[np.int64], *, name: str) -> Window:
    types = window.token_type_ids
    types = None if types is None else version_types(types, ~window.special, length=len(ids))
    nothing = np.full(len(ids), SPECIAL)
    return Window(name, name, ids, types, nothing, np.zeros(len(ids), dtype=bool))
