"""Which pairs of predictor and target rank the rationales best: intervals and tests by layer.

n tokens of one document, L layers, S documents
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from analysis.metrics.plausibility import average_precision
from analysis.metrics.statistics import bootstrap_intervals, holm, paired_permutation_test
from analysis.studies.contribution_targets.documents import ATTENTION, DECOMPOSITION, HUMAN, PAPER, Document
from analysis.studies.contribution_targets.learning import Pair, predictor_scores, train_predictors

REFERENCE = "saliency itself (no predictor)"
OTHERS = (PAPER, DECOMPOSITION, ATTENTION, HUMAN)  # the targets that predictors other than the paper's learn


def pairs_of(targets: Sequence[str], predictors: Sequence[str]) -> list[Pair]:
    """The paper's predictor with every target, and every other predictor with the four that matter."""
    return [
        Pair(predictor, target)
        for predictor in predictors
        for target in targets
        if predictor == "mlp" or target in OTHERS
    ]


def precision_by_layer(documents: Sequence[Document], scores: Callable[[Document], Tensor]) -> NDArray[np.float64]:
    """(L + 1, S) average precision over content tokens; the last row is that of the scores' mean over layers."""
    rows = []
    for document in documents:
        content = ~document.window.special
        labels = document.window.rationale[content]
        values = scores(document).double().numpy()[:, content]  # (L, n)
        rows.append([average_precision(labels, row) for row in (*values, values.mean(0))])
    return np.array(rows).T


def _saliency_of(document: Document) -> Tensor:
    if document.saliency is None:
        raise ValueError("saliency itself is read for the documents that are measured, not for those trained on")
    return document.saliency


def study(
    train: Sequence[Document],
    validation: Sequence[Document],
    *,
    predictors: Sequence[str],
    epochs: int,
    rate: float,
    hidden: int,
    seed: int,
) -> pd.DataFrame:
    """A row a pair and layer: predictor, target, layer (or "mean"), average_precision, low, high, minus_saliency, p,
    p_holm, n.

    p_holm: p corrected by Holm's method for all comparisons with saliency in this table (each pair at each layer, and
    at the mean over layers).
    """
    reference = precision_by_layer(validation, _saliency_of)
    pairs = pairs_of(list(train[0].targets), predictors)
    trained = train_predictors(train, pairs, epochs=epochs, rate=rate, hidden=hidden, batch_size=8, seed=seed)
    found = {Pair("", REFERENCE): reference}
    for pair, chosen in tqdm(trained.items(), desc="measuring", unit="pair"):
        found[pair] = precision_by_layer(validation, lambda d, chosen=chosen: predictor_scores(chosen, d))  # type: ignore[misc]
    frames = []
    for pair, values in found.items():
        intervals = bootstrap_intervals(values)
        frames.append(
            pd.DataFrame(
                {
                    "predictor": pair.predictor,
                    "target": pair.target,
                    "layer": [*(str(layer) for layer in range(len(values) - 1)), "mean"],
                    "average_precision": intervals.mean,
                    "low": intervals.low,
                    "high": intervals.high,
                    "minus_saliency": (values - reference).mean(1),
                    "p": paired_permutation_test(values, reference),
                    "p_holm": np.nan,
                    "n": intervals.n,
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    tested = frame["target"] != REFERENCE
    frame.loc[tested, "p_holm"] = holm(frame.loc[tested, "p"].to_numpy(dtype=np.float64))
    frame.loc[~tested, "p_holm"] = 1.0
    return frame
