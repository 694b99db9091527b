"""The numbers in the pages on results are those of the committed files beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.test_layering import ROOT

RESULTS = ROOT / "results" / "movies-minilm"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SUMMARY = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")  # what README says of results, and more of it
METRICS = ("average_precision", "fpr", "fpr_present", "j", "j_present")  # columns of the table by layer
SOURCES = {
    "CP, post-hoc": ("truncate", "cp"),
    "CP, fully trained": ("full-truncate", "cp"),
    "saliency": ("truncate", "saliency"),
    "[CLS] attention": ("truncate", "attention"),
    "rollout": ("truncate", "rollout"),
}


def by_layer(folder: str, method: str, metric: str) -> str:
    """The means of a committed table by layer, as the pages write them: .33 -.04."""
    table = pd.read_csv(RESULTS / folder / "layers.csv")
    rows = table[(table["method"] == method) & (table["metric"] == metric)].sort_values("layer")
    return " ".join(f"{mean:.2f}".replace("-0.", "-.").removeprefix("0") for mean in rows["mean"])


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("name", SOURCES)
def test_the_table_by_layer(name: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    found = cells(line)[1:]
    for column, metric in enumerate(METRICS):
        if found[column] == "the same":  # as with n = tokens of the input, one column to the left
            assert by_layer(*SOURCES[name], metric) == found[column - 1], metric
        else:
            assert found[column] == by_layer(*SOURCES[name], metric), metric


EQUAL = {
    "CP": "cp",
    "saliency": "saliency",
    "attention x gradient": "attention_gradient",
    "[CLS] attention": "attention",
    "rollout": "rollout",
    "random": "random",
}


@pytest.mark.parametrize("name", EQUAL)
def test_the_table_at_equal_fpr(name: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} at equal FPR |"))
    assert cells(line)[1:] == [by_layer("equal-fpr", EQUAL[name], f"tpr_at_fpr_{share}") for share in (5, 10, 20)]


FAITHFUL = {
    "DecompX (one backward pass)": "decompx",
    "attention x gradient": "attention_gradient",
    "saliency, signed": "saliency_signed",
    "contribution scores": "cp",
    "saliency (norm)": "saliency",
    "[CLS] attention": "attention",
    "rollout": "rollout",
    "random": "random",
    "LIME (500 samples), at the input": "lime(n_samples=500)",
    "occlusion, at the input": "occlusion",
    "integrated gradients, at the input": "integrated_gradients",
    "KernelSHAP (500 samples), at the input": "kernel_shap(n_samples=500)",
}


@pytest.mark.parametrize("name", FAITHFUL)
def test_the_table_of_faithfulness(name: str) -> None:
    lines = PAGE.split("## Faithfulness")[1].splitlines()
    [line] = [line for line in lines if line.startswith(f"| {name} |")]
    metrics = ("aopc_comprehensiveness", "aopc_sufficiency")
    assert cells(line)[1:] == [by_layer("faithfulness", FAITHFUL[name], metric) for metric in metrics]


def test_the_table_of_targets() -> None:
    folder = ROOT / "results" / "contribution-targets"
    table = pd.read_csv(folder / "targets-val.csv", keep_default_na=False)
    page = [cells(line) for line in (folder / "README.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    rows = [[cell.strip("*") for cell in row] for row in page if row[2].strip("*").startswith(".")]
    written = {(row[0], tuple(row[2:])) for row in rows}
    measured = {
        (predictor, tuple(f"{mean:.3f}".removeprefix("0") for mean in group["average_precision"]))
        for (predictor, _), group in table.groupby(["predictor", "target"], sort=False)
    }
    assert written == measured and len(measured) == 14


FIRST_PAGE = {
    "average precision: contribution scores, embedded model": ("truncate", "cp", "average_precision"),
    "average precision: saliency": ("truncate", "saliency", "average_precision"),
    "average precision: [CLS] attention": ("truncate", "attention", "average_precision"),
    "FPR at 1/n: contribution scores, embedded model": ("truncate", "cp", "fpr_present"),
    "FPR at 1/n: contribution scores, fully trained model": ("full-truncate", "cp", "fpr_present"),
    "FPR at 1/n: saliency": ("truncate", "saliency", "fpr_present"),
    "TPR at an FPR of 5 %: contribution scores, embedded model": ("equal-fpr", "cp", "tpr_at_fpr_5"),
    "TPR at an FPR of 5 %: saliency": ("equal-fpr", "saliency", "tpr_at_fpr_5"),
}
RANKED = {
    "our predictor and target": ("contextual", "contrastive decomposition, the layer's own input"),
    "the paper's predictor and target": ("mlp", "saliency, embedding output (paper)"),
    "saliency itself": ("", "saliency itself (no predictor)"),
}


def row_in(text: str, name: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return cells(line)[1:]


@pytest.mark.parametrize("page", [README, SUMMARY], ids=["README", "results"])
@pytest.mark.parametrize("name", FIRST_PAGE)
def test_the_agreement_on_the_first_page(name: str, page: str) -> None:
    assert " ".join(row_in(page, name)) == by_layer(*FIRST_PAGE[name])


@pytest.mark.parametrize("name", RANKED)
def test_the_targets_of_the_summary(name: str) -> None:
    table = pd.read_csv(ROOT / "results" / "contribution-targets" / "targets-val.csv", keep_default_na=False)
    predictor, target = RANKED[name]
    rows = table[(table["predictor"] == predictor) & (table["target"] == target)].sort_values("layer")
    assert row_in(SUMMARY, name) == [short(value) for value in rows["average_precision"]][:6]


SPEEDS = (3.0, 4.0, 6.0, 8.0, 12.0)


def accuracies(split: str, predictor: str, target: str, *, file: str = "scales.csv") -> tuple[int, list[list[float]]]:
    """The number of seeds, and each seed's accuracies at SPEEDS, interpolated on the logarithm of the speedup."""
    table = pd.read_csv(RESULTS / "predictors" / file)
    rows = table[(table["split"] == split) & (table["predictor"] == predictor) & (table["target"] == target)]
    curves = [group.sort_values("speedup") for _, group in rows.groupby("seed")]
    return len(curves), [
        np.interp(np.log(SPEEDS), np.log(curve["speedup"]), curve["accuracy"]).tolist() for curve in curves
    ]


def short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


@pytest.mark.parametrize("target", ["saliency", "decomposition"])
@pytest.mark.parametrize("predictor", ["mlp", "contextual"])
def test_the_table_of_predictors_at_equal_speed(predictor: str, target: str) -> None:
    page = (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(f"| {predictor}, {target} |")]
    for line, split in zip(lines, ("validation", "test"), strict=True):
        assert cells(line)[1:] == row_of(*accuracies(split, predictor, target))


def row_of(count: int, values: list[list[float]]) -> list[str]:
    """Seeds, then at each speed the mean, and the range where there are several."""
    columns = list(zip(*values, strict=True))
    ranges = [f" ({short(min(column))}-{short(max(column))})" if count > 1 else "" for column in columns]
    return [str(count), *(f"{short(float(np.mean(c)))}{r}" for c, r in zip(columns, ranges, strict=True))]


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("row", "file"), [("all 1600 reviews", ""), ("one pass", "-local")])
def test_the_table_of_all_reviews(split: str, row: str, file: str) -> None:
    page = (RESULTS / "predictors" / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in page.splitlines() if line.startswith(f"| {split}, {row} |")]
    assert cells(line)[1:] == row_of(*accuracies(split, "contextual", "decomposition", file=f"all-reviews{file}.csv"))


def test_the_accuracies_at_equal_speed_of_the_summary() -> None:
    for name, predictor, target in (("the paper's", "mlp", "saliency"), ("ours", "contextual", "decomposition")):
        means = np.mean(accuracies("test", predictor, target)[1], axis=0)
        assert f"| 400 reviews | {name} | {' | '.join(map(short, means[1:]))} |" in SUMMARY
    seeds = accuracies("test", "contextual", "decomposition", file="all-reviews.csv")[1]
    means = [short(float(mean)) for mean in np.mean(seeds, axis=0)]
    assert f"| all 1600 reviews | ours | {' | '.join(means[1:])} |" in SUMMARY
    for page in (README, SUMMARY):
        assert row_in(page, "MiniLM-L6, post hoc") == [".884", *row_of(3, seeds)[1:5]]


# Rows of the summary and of the first page: their evaluations, and the threshold scale.
ROWS = {
    "post-hoc predictors, as embedded": ("evaluation-{}.json", 1.0),
    "post-hoc, classifier fine-tuned on windows": ("windows-classifier/evaluation-{}.json", 1.15),
    "full training, windows": ("full-windows-evaluation-{}.json", 1.0),
}


def at_scale(path: Path, scale: float) -> tuple[str, str]:
    [row] = [row for row in json.loads(path.read_text())["hard"] if row["threshold_scale"] == scale]
    return f"{row['score']:.3f}".removeprefix("0"), f"{row['speedup']:.2f}x"


@pytest.mark.parametrize("name", ROWS)
def test_the_table_of_accuracy_and_speedup(name: str) -> None:
    pattern, scale = ROWS[name]
    expected = [at_scale(RESULTS / pattern.format(split), scale) for split in ("validation", "test")]
    shown = [
        cells(line)[1:]
        for page in (README, SUMMARY)
        for line in page.replace("**", "").splitlines()
        if line.startswith(f"| {name}")
    ]
    assert shown and all(row == [*expected[0], *expected[1]] for row in shown)


def test_the_speedups_that_were_asked_for() -> None:
    rows = json.loads((RESULTS / "evaluation-test-speedups.json").read_text())["hard"]
    speedups = [f"{row['speedup']:.2f}x" for row in rows]
    scores = [f"{row['score']:.3f}".removeprefix("0") for row in rows]
    text = re.sub(r"\s+", " ", README)
    assert f"gave {speedups[0]}, {speedups[1]} and {speedups[2]} at an accuracy of {', '.join(scores[:2])} and" in text


def test_the_training_epochs_of_the_page_on_performance() -> None:
    [run] = json.loads((ROOT / "results" / "performance" / "training.json").read_text())
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for kind in ("full training", "post hoc"):
        for when in ("first", "last"):
            row = cells(next(line for line in text.splitlines() if line.startswith(f"| {kind}, {when} |")))[2:]
            for routing, shown in (("exact", row[:3]), ("local", row[3:])):
                epoch = run["epochs"][f"{kind.removesuffix(' training')}, {when}, {routing}"]
                numbers = [epoch["ratio"], epoch["ratio_min"], epoch["ratio_max"], epoch["flops_ratio"]]
                ratio, low, high, flops = (f"{number:.2f}".removeprefix("0") for number in numbers)
                assert shown == [ratio, f"{low}-{high}", flops]


def test_the_table_of_faithfulness_on_short_texts() -> None:
    folder = ROOT / "results" / "faithfulness"
    page = (folder / "README.md").read_text(encoding="utf-8")
    rows = {cells(line)[0].strip("`"): cells(line)[1:] for line in page.splitlines() if line.startswith("| `")}
    assert len(rows) == 18
    kinds = ("aopc_comprehensiveness", "aopc_sufficiency", "naopc_comprehensiveness", "naopc_sufficiency")
    means = [
        pd.read_csv(folder / corpus / "layers.csv").groupby(["method", "metric"])["mean"].mean()
        for corpus in ("sst2", "hatexplain")
    ]
    for method, written in rows.items():
        values = [table[method, kind] for table in means for kind in kinds]
        assert written == [f"{value:.3f}".replace("-0.", "-.").removeprefix("0") for value in values], method


def at_speeds(file: str, row: str, split: str, *, speeds: tuple[float, ...]) -> list[list[float]]:
    """Each seed's accuracies at the speeds, interpolated as in `accuracies`."""
    table = pd.read_csv(RESULTS / "predictors" / file)
    rows = table[(table["split"] == split) & (table["row"] == row)]
    curves = [group.sort_values("speedup") for _, group in rows.groupby("seed")]
    return [np.interp(np.log(speeds), np.log(curve["speedup"]), curve["accuracy"]).tolist() for curve in curves]


def test_the_table_of_forty_whole_reviews() -> None:
    table = pd.read_csv(RESULTS / "whole-reviews-40" / "layers.csv").sort_values("layer")
    names = {"decompx": "DecompX, by layer", "attention_gradient": "attention x gradient, by layer"}
    names |= {"saliency": "saliency, by layer", "cp": "contribution scores, by layer", "occlusion": "occlusion"}
    names |= {"integrated_gradients": "integrated gradients", "lime(n_samples=500)": "LIME (500 samples)"}
    lines = PAGE.split("| 40 reviews |")[1].splitlines()
    for method, name in names.items():
        [line] = [line for line in lines if line.startswith(f"| {name} |")][:1]
        for shown, metric in zip(cells(line)[1:], ("auprc", "average_precision"), strict=True):
            rows = table[(table["method"] == method) & (table["metric"] == metric)]
            assert shown == " ".join(f"{value:.2f}".removeprefix("0") for value in rows["mean"])


def test_the_table_of_whole_reviews() -> None:
    page = (RESULTS / "README.md").read_text(encoding="utf-8").split("## Whole reviews")[1].split("## ")[0]
    table = pd.read_csv(RESULTS / "whole-reviews" / "layers.csv").sort_values("layer")
    names = {"decompx": "DecompX (one", "attnlrp": "AttnLRP", "attention_gradient": "attention x gradient"}
    names |= {"cp": "contribution scores", "attention": "[CLS] attention"}
    for method in table["method"].unique():
        line = next(line for line in page.splitlines() if line.startswith(f"| {names.get(method, method)}"))
        for shown, metric in zip(cells(line)[1:], ("auprc", "average_precision"), strict=True):
            rows = table[(table["method"] == method) & (table["metric"] == metric)]
            assert shown == " ".join(f"{value:.2f}".removeprefix("0") for value in rows["mean"])
