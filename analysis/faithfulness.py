"""Faithfulness of scores to a classifier: what it says of versions of a window, behind `analysis.metrics.faithfulness`.

n wordpieces of a window, n_c content ones; C classes; L' layers of a method; F metrics
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from adapler.inference import predict_rows
from analysis.corpus import Window, WindowScores
from analysis.metrics import faithfulness as fa
from analysis.scores.base import run_format
from analysis.scoring import Scorer, window_key

LOO = "loo_kendall"
NORMALISED = {"naopc_comprehensiveness": "comprehensiveness", "naopc_sufficiency": "sufficiency"}


def faithfulness_values(
    window: Window, methods: Mapping[str, WindowScores], scorer: Scorer, *, target: int, density: float | None
) -> dict[str, NDArray[np.float64]]:
    """method -> (L', F), NaN in layers that are not measured.

    target: the class whose probability is followed, predicted for the whole window by the one model that is asked about
    all scores, AdapLeR's too. density: of the rationales, for `..._at_density`.
    """
    how, found = scorer.settings, {}
    metrics, words, keys, places = how.faithfulness_metrics, _hash(window.words), {}, []  # type: Any, str, Any, Any
    for name, given in methods.items():
        keys[name] = window_key(
            window, target=target, density=density, scores=_hash(given.scores), words=words, of_words=given.of_words
        )
        file = scorer.files.get(f"faithfulness {name}")
        stored = None if file is None else file.get(keys[name])
        found[name] = np.full((len(given.scores), len(metrics)), np.nan) if stored is None else stored["values"]
        if stored is None:
            every = range(len(given.scores))
            chosen = every if len(every) == 1 else how.faithfulness_layers or every
            places += [(name, layer) for layer in chosen]
    if places:
        rows = np.array([_content_row(window, methods[name], layer, how.aggregation) for name, layer in places])
        judged = _judged(window, rows, scorer, target=target, density=density)
        for (name, layer), one in zip(places, judged, strict=True):
            found[name][layer] = [one[metric] for metric in metrics]
        for name in dict(places):
            if (file := scorer.files.get(f"faithfulness {name}")) is not None:
                file.put(keys[name], {"values": found[name]})
    return found


def _hash(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _judged(
    window: Window, rows: NDArray[np.float64], scorer: Scorer, *, target: int, density: float | None
) -> list[dict[str, float]]:
    """Metric -> value for each of S score rows (S, n_c)."""
    how, content, mask = scorer.settings, ~window.special, scorer.tokenizer.mask_token_id
    wanted, taken = set(how.faithfulness_metrics), replace(how.faithfulness, density=density, seed=how.seed)

    def predict(inputs: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        return softmax(version_logits(window, inputs, scorer), axis=-1)

    asked = fa.Versions(predict, window.input_ids, content, target=target, settings=taken, mask_id=mask)
    judged: list[dict[str, float]] = [{} for _ in rows]
    if wanted - {LOO, *fa.SOFT}:
        words = None if how.aggregation == "none" else window.words[content]
        judged = fa.faithfulness_rows(asked, rows, words=words)
    for name in wanted & set(NORMALISED):
        kind = NORMALISED[name]
        usable = [int((row > 0).sum()) if taken.positive_only else None for row in rows]
        limits = {count: fa.aopc_bounds(asked, kind, usable=count) for count in set(usable)}
        for one, count in zip(judged, usable, strict=True):
            one[name] = fa.normalised_aopc(one[f"aopc_{kind}"], *limits[count])
    if wanted & set(fa.SOFT):
        for one, more in zip(judged, fa.soft_rows(asked, rows), strict=True):
            one |= more
    if LOO in wanted:
        drops = fa.leave_one_out(asked)
        for one, row in zip(judged, rows, strict=True):
            one[LOO] = fa.loo_kendall(drops, row)
    return judged


def _content_row(window: Window, given: WindowScores, layer: int, aggregation: Any) -> NDArray[np.float64]:
    """(n_c,) scores of the content wordpieces; under an aggregation each has its word's score."""
    values = given.scores[layer, ~window.special].astype(np.float64)
    if aggregation == "none" or given.of_words:
        return values  # given scores are their word's already
    return pd.Series(values).groupby(window.words[~window.special]).transform(aggregation).to_numpy()


def version_logits(
    window: Window, inputs: Sequence[NDArray[np.int64]], scorer: Scorer, *, of_adapler: bool = False
) -> NDArray[np.float64]:
    """(inputs, C) logits of versions of a window, given by their ids: content tokens are gone or masked. of_adapler:
    those of the AdapLeR model, not the classifier's."""
    how, device = scorer.settings, next(scorer.model.parameters()).device
    rows = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in inputs]
    if (types := window.token_type_ids) is not None:
        for row, ids in zip(rows, inputs, strict=True):
            row["token_type_ids"] = version_types(types, ~window.special, length=len(ids))
    options: dict[str, Any] = {"removal": "hard", "threshold_scale": how.threshold_scale} if of_adapler else {}
    with run_format("float32" if of_adapler else how.dtype, device):  # AdapLeR's dtype is that of its weights
        found = predict_rows(
            scorer.adapler if of_adapler else scorer.model,
            rows,
            pad_token_id=scorer.tokenizer.pad_token_id or 0,
            token_budget=how.batch_tokens(device.type),
            **options,
        )
    return np.asarray(found.logits.double().numpy())


def version_types(types: NDArray[np.int64], content: NDArray[np.bool_], *, length: int) -> NDArray[np.int64]:
    """(length,) token types of a version, from those of the whole input (n,): what is left of the document (content) is
    the first segment; what is behind it, a [SEP] or a query, is in every version."""
    behind = len(types) - 1 - int(np.flatnonzero(content)[-1]) if content.any() else 0
    return np.concatenate([np.full(length - behind, types[0]), types[len(types) - behind :]])
