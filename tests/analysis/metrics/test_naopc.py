"""AOPC and its limits against those that the authors of normalised AOPC published, from the same outputs.

`naopc.json` holds a few texts of https://github.com/JoakimEdin/naopc (MIT licence): what BERT and RoBERTa say of every
subset of a text's words. The slow test takes all short sentences of SST-2: ADAPLER_NAOPC is the folder `results` of a
checkout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from analysis.metrics import faithfulness as fa

FEW = json.loads(Path(__file__).with_name("naopc.json").read_text(encoding="utf-8"))["texts"]
MASK = 0


def published(results: Path, name: str) -> Iterator[dict[str, Any]]:
    """Each text of a file: probability by subset (bit i: word i is masked), limits, and scores with their AOPC."""
    outputs = pd.read_parquet(results / f"permutation_outputs/{name}.parquet")
    limits = pd.read_parquet(results / f"aopc_limits_exact/{name}.parquet").set_index("id")
    short = name.replace("_", "_short_", 1)
    scores = pd.read_parquet(results / f"feature_attribution_scores/{short}.parquet")
    scores = scores.merge(pd.read_csv(results / f"aopc_scores_short/{name}.csv"), on=["id", "explanation_method"])
    for text, part in outputs.groupby("id"):
        n = int(limits.number_of_elements[text])
        probability = np.empty(1 << n)
        masked = [sum(1 << (word - 1) for word in json.loads(key)) for key in part.word_key]
        probability[masked] = expit(part.positive_logit - part.negative_logit)
        orders = []
        for row in scores[scores.id == text].itertuples():
            words = np.asarray(row.word_attributions, dtype=float)[1:-1]
            if len(words) == n == len(set(words)) and np.isfinite(words).all():  # the order of ties is not published
                orders.append({"scores": words.tolist(), "aopc": row.comprehensiveness})
        low, high = limits.lower_limit[text], limits.upper_limit[text]
        yield {"id": text, "n": n, "probability": probability.tolist(), "low": low, "high": high, "orders": orders}


def check(text: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of orders that were compared."""
    monkeypatch.setattr(fa, "EXACT", 10)
    n, probability = text["n"], np.array(text["probability"])

    def predict(inputs: list[fa.Ids]) -> np.ndarray:
        positive = probability[[((ids[1:-1] == MASK) * (1 << np.arange(n))).sum() for ids in inputs]]
        return np.stack([positive, 1 - positive], axis=1)

    settings = fa.FaithfulnessSettings(variant="mask", bins=tuple(100 * size // n for size in range(1, n + 1)))
    ids, content = np.arange(1, n + 3), np.array([False, *[True] * n, False])
    versions = fa.Versions(predict, ids, content, target=0, settings=settings, mask_id=MASK)
    low, high = fa.aopc_bounds(versions, "comprehensiveness")
    # The published search for the highest sum over the sets before the last begins at 0.
    high = max(high, (probability[0] - probability[-1]) / n)
    assert (low, high) == pytest.approx((text["low"], text["high"]), abs=1e-6)
    for order in text["orders"]:
        row = fa.faithfulness_rows(versions, [order["scores"]])[0]
        assert row["aopc_comprehensiveness"] == pytest.approx(order["aopc"], abs=5e-6)  # another pass, in float32
    return len(text["orders"])


@pytest.mark.parametrize("text", FEW, ids=lambda text: f"{text['model']}-{text['id']}")
def test_limits_and_values_are_those_published(text: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(text, monkeypatch) == 3


@pytest.mark.slow
@pytest.mark.skipif("ADAPLER_NAOPC" not in os.environ, reason="ADAPLER_NAOPC: a checkout's folder of results")
def test_all_short_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Path(os.environ["ADAPLER_NAOPC"])
    names = sorted(path.stem for path in (results / "permutation_outputs").glob("sst2_*"))
    assert len(names) == 6
    for name in names:
        assert sum(check(text, monkeypatch) for text in published(results, name)) > 500
