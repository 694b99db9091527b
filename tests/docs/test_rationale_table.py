"""The rationale table's pages say what the tables of three seeds hold."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest

from analysis.metrics.registry import METRICS
from analysis.studies import ahead
from tests.docs.test_published_numbers import ROOT, cells

BACKBONES = {"MiniLM": "minilm", "MPNet": "mpnet"}
TRAININGS = {"full training": "full", "post hoc": "post-hoc"}
READINGS = {"first 512": "truncate", "rationale windows": "windows", "whole reviews": "whole"}
PAGE = (ROOT / "results" / "rationales" / "README.md").read_text(encoding="utf-8")
BY_LAYER = {
    "AP": "average_precision",
    "FPR, n = input": "fpr",
    "FPR, n = present": "fpr_present",
    "FPR, n = content": "fpr_content",
    "TPR, n = input": "tpr",
    "TPR, n = present": "tpr_present",
    "TPR at an FPR of 5 %": "tpr_at_fpr_5",
    "TPR at an FPR of 10 %": "tpr_at_fpr_10",
}


def seeds(backbone: str, training: str, reading: str) -> pd.DataFrame:
    folder = ROOT / "results" / f"movies-{BACKBONES[backbone]}" / "seeds"
    return ahead.read(str(folder / f"{TRAININGS[training]}-{READINGS[reading]}.csv"))


@pytest.mark.parametrize("other", ["saliency", "attention", "rollout"])
def test_where_contribution_scores_are_above(other: str) -> None:
    names = {metric.title: name for name, metric in METRICS.items()}
    tables = PAGE.split(f"| against {other}, by layer |")[1:]
    assert tables
    for table in tables:
        head, _, *lines = table.split("\n\n")[0].splitlines()
        rows = [cells(line) for line in lines]
        assert [row[0] for row in rows] == [", ".join(one) for one in product(BACKBONES, TRAININGS, READINGS)]
        for name, *shown in rows:
            found = seeds(*name.split(", "))
            for title, cell in zip(cells(head), shown, strict=True):
                assert ahead.said(found, "cp", other, metric=names[title], where=name) == cell, (name, title)


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize(
    ("reading", "word"), [("first 512", ""), ("rationale windows", "windows, "), ("whole reviews", "whole reviews, ")]
)
def test_the_layers_of_the_small_backbone(training: str, reading: str, word: str) -> None:
    page = (ROOT / "results" / "movies-minilm" / "README.md").read_text(encoding="utf-8").splitlines()
    table = seeds("MiniLM", training, reading).sort_values("layer")
    above = ["", ""]
    for title, metric in BY_LAYER.items():
        [line] = [line for line in page if line.startswith(f"| {title}, {word}{training}, three seeds |")]
        for column, method in enumerate(("cp", "saliency")):
            rows = table[(table["method"] == method) & (table["metric"] == metric)]
            means = " ".join(f"{mean:.2f}".removeprefix("0") for mean in rows["mean"])
            shown = cells(line)[1 + column].split(" (±")[0]
            assert means == (above[column] if shown == "the same" else shown), title
            assert (rows["runs"] == 3).all()
            above[column] = means
