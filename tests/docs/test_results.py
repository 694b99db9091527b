"""The page of all results says what the records hold."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.docs.test_published_numbers import ROOT, SUMMARY


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
