"""The page on the base-size model says what its records hold."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from tests.docs.test_published_numbers import README, RESULTS, SUMMARY, cells, row_in, short

METRICS = {
    "AP": "average_precision",
    "FPR, n = input": "fpr",
    "FPR, n = present": "fpr_present",
    "J, n = input": "j",
    "TPR at an FPR of 5 %": "tpr_at_fpr_5",
    "TPR at an FPR of 10 %": "tpr_at_fpr_10",
}


def test_the_table_of_the_base_size_model() -> None:
    folder = RESULTS.parent / "movies-mpnet"
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [cells(line) for line in lines if re.match(r"\| .*\.\d+x \|$", line)]
    expected = []
    for place in (folder, folder / "earlier"):
        splits = [json.loads((place / f"evaluation-{name}.json").read_text()) for name in ("validation", "test")]
        expected.append([text for split in splits for text in (short(split["none"]["score"]), "1.00x")])
        for validation, test in zip(splits[0]["hard"], splits[1]["hard"], strict=True):
            expected.append([t for p in (validation, test) for t in (short(p["score"]), f"{p['speedup']:.2f}x")])
    assert [row[-4:] for row in rows] == expected


@pytest.mark.parametrize(
    ("file", "suffix"),
    [
        ("truncate/layers.csv", ""),
        ("seeds/truncate.csv", ", three seeds"),
        ("full-truncate/layers.csv", ", full training"),
        ("seeds/full-truncate.csv", ", full training, three seeds"),
        ("seeds/full-windows.csv", ", windows, full training, three seeds"),
        ("seeds/full-whole.csv", ", whole reviews, full training, three seeds"),
        ("seeds/post-hoc-truncate.csv", ", post hoc on this classifier, three seeds"),
        ("seeds/post-hoc-windows.csv", ", windows, post hoc, three seeds"),
        ("seeds/post-hoc-whole.csv", ", whole reviews, post hoc, three seeds"),
    ],
)
def test_the_tables_by_layer(file: str, suffix: str) -> None:
    folder = RESULTS.parent / "movies-mpnet"
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    table = pd.read_csv(folder / file).sort_values("layer")
    above = ["", ""]
    for name, metric in METRICS.items():
        [line] = [line for line in lines if line.startswith(f"| {name}{suffix} |")]
        for column, method in enumerate(("cp", "saliency")):
            rows = table[(table["method"] == method) & (table["metric"] == metric)]
            means = " ".join(f"{mean:.2f}".removeprefix("0").replace("-0.", "-.") for mean in rows["mean"])
            shown = cells(line)[1 + column].split(" (±")[0]
            assert means == (above[column] if shown == "the same" else shown), name
            assert "three seeds" not in suffix or (rows["runs"] == 3).all()
            above[column] = means


def test_the_scores_without_removal() -> None:
    folder = RESULTS.parent / "movies-mpnet"
    page = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    none = {}
    for file in ("full", "post-hoc"):
        rows = pd.read_csv(
            folder / "seeds" / f"{file}-scales.csv", dtype={"threshold_scale": str}, keep_default_na=False
        )
        none[file] = rows[rows["threshold_scale"] == "none"].groupby("split", sort=False)["accuracy"].agg(list)
    assert "the trained backbones have {}, {} and {} on test".format(*map(short, none["full"]["test"])) in page
    [validation], [test] = (set(none["post-hoc"][split]) for split in ("validation", "test"))  # of three seeds
    assert f"({short(validation)} on validation, {short(test)} on test, in float32 and" in page


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("scales", "three seeds"),
        ("full-scales", "full training, three seeds"),
        ("post-hoc-scales", "post hoc, same classifier, three seeds"),
    ],
)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_accuracies_at_equal_speed(split: str, file: str, row: str) -> None:
    folder = RESULTS.parent / "movies-mpnet"
    scales = pd.read_csv(folder / "seeds" / f"{file}.csv")
    curves = [one.sort_values("speedup") for _, one in scales[scales["split"] == split].groupby("seed")]
    shown = []
    for speed in (3, 4, 6, 8):
        found = [float(np.interp(np.log(speed), np.log(one["speedup"]), one["accuracy"])) for one in curves]
        shown.append(f"{short(float(np.mean(found)))} ({short(min(found))}-{short(max(found))})")
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if line.startswith(f"| {split}, {row} |")]
    assert len(curves) == 3 and cells(line)[1:] == shown
    if split == "test":
        titles = {"scales": "post hoc", "full-scales": "all weights trained on, another classifier"}
        title = titles.get(file, "post hoc, that classifier")
        for page in (README, SUMMARY) if file in titles else (SUMMARY,):
            assert row_in(page, f"MPNet, {title}")[1:] == shown


def test_the_areas_on_whole_reviews() -> None:
    folder = RESULTS.parent / "movies-mpnet"
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| by layer, 0 to 11, MPNet | area under precision-recall | average precision |")
    full = {"DecompX": "decompx", "saliency": "saliency", "contribution scores, full training": "cp"}
    others = {"attention x gradient": "attention_gradient", "[CLS] attention": "attention", "rollout": "rollout"}
    wanted = [("full", title, method) for title, method in full.items()]
    wanted.append(("post-hoc", "contribution scores, post hoc", "cp"))
    wanted += [("full", title, method) for title, method in (others | {"random (chance .320)": "random"}).items()]
    for line, (kind, title, method) in zip(lines[start + 2 :], wanted, strict=False):
        table = pd.read_csv(folder / "seeds" / f"{kind}-whole.csv").sort_values("layer")
        rows = table[table["method"] == method]
        means = [rows[rows["metric"] == metric]["mean"] for metric in ("auprc", "average_precision")]
        assert cells(line) == [title, *(" ".join(f"{mean:.2f}".removeprefix("0") for mean in one) for one in means)]
