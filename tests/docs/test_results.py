"""The page of all results says what the records hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.docs.test_published_numbers import SUMMARY, accuracies, at_speeds, row_in, row_of
from tests.test_layering import ROOT


@pytest.mark.parametrize(
    ("title", "file", "row"),
    [
        ("post hoc, as above", "all-reviews", ""),
        ("post hoc, windows and a teacher", "combined", "combined"),
        ("the same again, another machine", "combined", "combined-again"),
        ("all weights trained on", "full", "full"),
        ("all weights again, another machine", "full", "full-again"),
    ],
)
def test_other_ways_to_train(title: str, file: str, row: str) -> None:
    shown = []
    for split in ("validation", "test"):
        if row:
            seeds = at_speeds(f"{file}.csv", row, split, speeds=(4.0, 6.0))
        else:
            seeds = [of_all[1:3] for of_all in accuracies(split, "contextual", "decomposition", file=f"{file}.csv")[1]]
        shown += row_of(len(seeds), seeds)[1:]
        assert len(seeds) == 3
    assert row_in(SUMMARY, title) == shown


def test_what_other_classifiers_lose_at_4x() -> None:
    """The comparison's movies: three classifiers, each budget interpolated, in points below the mean of the three."""
    curves = pd.read_csv(ROOT / "results" / "tradeoff" / "curves.csv")
    curves = curves[(curves["task"] == "movies") & (curves["backbone"] == "MiniLM-L6")]
    classifiers = curves[curves["system"] == "finetuned"]["score"]
    assert f"(.{1000 * classifiers.mean():.0f} on test in the mean)" in SUMMARY
    lost = []
    for system in ("adapler-post-hoc-contextual", "adapler-finetuned-contextual"):
        for _, budget in curves[curves["system"] == system].groupby("budget"):
            seeds = [one.sort_values("speedup") for _, one in budget.groupby("seed")]
            found = [np.interp(np.log(4), np.log(one["speedup"]), one["score"]) for one in seeds]
            assert len(found) == len(classifiers) == 3
            lost.append(100 * (classifiers.mean() - np.mean(found)))
    small, large, trained = lost
    assert f"post hoc {large:.1f} or {small:.1f} points, by budget, and {trained:.1f} trained on" in SUMMARY


def test_where_the_paper_s_own_adapler_is_chosen() -> None:
    levels = pd.read_csv(ROOT / "results" / "tradeoff" / "levels.csv")
    assert set(levels[levels["system"] == "adapler"]["task"]) == {"qnli"}
    chosen = levels[(levels["system"] == "adapler-any-option") & levels["useful"] & (levels["task"] == "qnli")]
    own = chosen["point"].str.match(r"adapler-[\d.]+-seed")
    asked = [" and ".join(f"{speed:g}x" for speed in chosen[kind]["asked"]) for kind in (own, ~own)]
    assert f"validation chooses it of all options at {asked[0]}, and ours at {asked[1]}" in SUMMARY


FAITHFUL = {
    "DecompX": "decompx",
    "AttnLRP": "attnlrp",
    "Shapley value sampling": "shapley_sampling",
    "LIME": "lime(n_samples=500)",
    "occlusion": "occlusion",
    "attention x gradient": "attention_gradient",
    "signed saliency": "saliency_signed",
    "contribution scores": "cp",
    "saliency": "saliency",
    "random": "random",
}


@pytest.mark.parametrize("title", FAITHFUL)
def test_the_table_of_faithfulness(title: str) -> None:
    """Of reviews the lowest and the highest layer, of short texts the mean of all; else nothing."""
    means = []
    for folder in ("movies-minilm/faithfulness", "faithfulness/sst2", "faithfulness/hatexplain"):
        table = pd.read_csv(ROOT / "results" / folder / "layers.csv")
        means.append(
            table[(table["method"] == FAITHFUL[title]) & (table["metric"] == "aopc_comprehensiveness")]["mean"]
        )
    reviews, *short_texts = means
    ends = sorted({f"{value:.2f}".removeprefix("0") for value in reviews.agg(["min", "max"]).dropna()})
    shown = [f"{one.mean():.3f}".removeprefix("0") if len(one) else "" for one in short_texts]
    assert row_in(SUMMARY.split("## Faithfulness")[1], title) == [" to ".join(ends), *shown]
