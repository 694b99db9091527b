"""The tables of what parts of the training bring are what their records hold."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from tests.docs.test_published_numbers import RESULTS, SPEEDS, at_speeds, cells, row_of, short


@pytest.mark.parametrize("row", ["all", "no-average", "distillation", "mlp", "windows", "saliency"])
def test_the_table_of_what_each_part_brings(row: str) -> None:
    page = (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| {row} |")]
    for line, split in zip(lines, ("validation", "test"), strict=True):
        values = at_speeds("ablation.csv", row, split, speeds=SPEEDS[:4])
        assert cells(line)[1:] == row_of(len(values), values)


def test_the_table_of_full_training() -> None:
    page = (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in page.split("## Full training")[1].splitlines() if line.startswith("| ")][2:]
    for number, line in enumerate(lines):
        row = ("full", "full-again", "full-first", "full-distillation")[number // 2]
        split = ("validation", "test")[number % 2]
        values = at_speeds("full.csv", row, split, speeds=SPEEDS)
        assert cells(line)[1:] == row_of(len(values), values)
    assert len(lines) == 8


def test_the_speedups_while_full_training_aimed_at_7x() -> None:
    page = (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8")
    said = []
    for seed in (42, 1, 2):
        run = json.loads((RESULTS / "predictors" / "runs" / f"full-{seed}.json").read_text(encoding="utf-8"))
        said.append(", ".join(f"{epoch['speedup']:.1f}x" for epoch in run["epochs"]) + f" with seed {seed}")
    assert f"(after each half epoch {', '.join(said)})" in page


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("row", "title"), [("combined", "together"), ("combined-again", "together, again")])
def test_the_table_of_what_helps_together(split: str, row: str, title: str) -> None:
    page = (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in page.splitlines() if line.startswith(f"| {split}, {title} |")]
    values = at_speeds("combined.csv", row, split, speeds=SPEEDS)
    assert cells(line)[1:] == row_of(len(values), values)


@pytest.mark.parametrize("file", ["combined.csv", "full.csv"])
def test_every_seed_has_both_splits(file: str) -> None:
    table = pd.read_csv(RESULTS / "predictors" / file)
    assert table.groupby(["row", "seed", "split"]).size().nunique() == 1


@pytest.mark.parametrize(
    ("file", "row", "said"),
    [
        ("combined", "combined", "seed 42 would stand at scale {}, seed 1 at {}, and no scale of seed 2 is within"),
        ("combined", "combined-again", "seed 42 stands at scale {}, seed 1 at {}, and no scale of seed 2 qualifies"),
        ("full", "full", "seed 42 would stand at {}, and no scale of seeds 1 and 2 qualifies"),
    ],
)
def test_where_seeds_would_stand_by_the_rule(file: str, row: str, said: str) -> None:
    """The fastest scale within a point of the classifier on validation, .850 in bfloat16."""
    page = re.sub(r"\s+", " ", (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8"))
    table = pd.read_csv(RESULTS / "predictors" / f"{file}.csv")
    wanted = []
    for seed in (42, 1, 2):
        points = table[(table["row"] == row) & (table["seed"] == seed)].set_index("threshold_scale")
        good = points[(points["split"] == "validation") & (points["accuracy"] >= 0.84 - 1e-9)]
        if not good.empty:
            scale = good["speedup"].idxmax()
            validation, test = (short(one) for one in points.loc[scale].set_index("split")["accuracy"])
            wanted.append((f"{scale:g} ({validation} at ", good.loc[scale, "speedup"], f"x; test {test})"))
    pattern = re.escape(said).replace(r"\{\}", r"([\d.]+ \([.\d]+ at )([\d.]+)(x; test [.\d]+\))")
    found = re.search(pattern, page)
    assert found is not None
    parts = list(zip(*[iter(found.groups())] * 3, strict=True))
    assert [(before, after) for before, _, after in parts] == [(before, after) for before, _, after in wanted]
    for (_, shown, _), (_, speedup, _) in zip(parts, wanted, strict=True):
        assert shown == f"{speedup:.{len(shown.partition('.')[2])}f}"
