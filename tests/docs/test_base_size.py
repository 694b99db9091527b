"""The page on the base-size model says what its records hold."""

from __future__ import annotations

import json

import pandas as pd

from tests.docs.test_published_numbers import RESULTS, cells, short


def test_the_table_of_the_base_size_model() -> None:
    folder = RESULTS.parent / "movies-mpnet"
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [cells(line) for line in lines if line.startswith("| ") and line.rstrip().endswith("x |")]
    expected = []
    for place in (folder, folder / "earlier"):
        splits = [json.loads((place / f"evaluation-{name}.json").read_text()) for name in ("validation", "test")]
        expected.append([text for split in splits for text in (short(split["none"]["score"]), "1.00x")])
        for validation, test in zip(splits[0]["hard"], splits[1]["hard"], strict=True):
            expected.append([t for p in (validation, test) for t in (short(p["score"]), f"{p['speedup']:.2f}x")])
    assert [row[-4:] for row in rows] == expected


def test_the_table_by_layer_of_the_base_size_model() -> None:
    folder = RESULTS.parent / "movies-mpnet"
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    table = pd.read_csv(folder / "truncate" / "layers.csv").sort_values("layer")
    metrics = {"AP": "average_precision", "FPR, n = input": "fpr", "FPR, n = present": "fpr_present"}
    metrics |= {"J, n = input": "j", "TPR at an FPR of 5 %": "tpr_at_fpr_5", "TPR at an FPR of 10 %": "tpr_at_fpr_10"}
    for name, metric in metrics.items():
        [line] = [line for line in lines if line.startswith(f"| {name} |")]
        for shown, method in zip(cells(line)[1:], ("cp", "saliency"), strict=True):
            rows = table[(table["method"] == method) & (table["metric"] == metric)]
            assert shown in (" ".join(f"{mean:.2f}".removeprefix("0") for mean in rows["mean"]), "the same"), name
