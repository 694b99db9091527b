"""A few human marks in the predictors' targets: what AdapLeR's scores gain on HateXplain, and what the model loses.

    python -m benchmarks.human_marks --task data/hatexplain --marked hatexplain_train.jsonl \\
        --finetuned runs/hatexplain/finetuned --output runs/hatexplain/marks

Post hoc, at 2x. Every condition trains on the same ROWS posts with the classifier's own targets, and on ROWS draws from
N marked posts, whose targets are MIX of the marks and the rest of the classifier's own; for N = 0 they are draws from
all marked posts without their marks. A condition's folder has test.json (accuracy and speedup) and values.parquet (a
row a post, method, layer and metric, on both splits). What is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from transformers import AutoTokenizer

from adapler.training.data import load_targets
from analysis.rationale_eval import evaluate
from analysis.report import bootstrap_intervals, paired_permutation_test

ROWS, MIX, MAX_LENGTH = 1500, 0.75, 72
TARGETS = ("--target-method", "decomposition", "--target-layer", "own", "--target-logit", "contrast")
TRAIN = (
    *("--freeze-backbone", "--routing", "local", "--predictor", "contextual", "--epochs", "1", "--batch-size", "32"),
    *("--target-speedup", "2", "--max-slope", "50", "--gradient-slope", "5", "--average-decay", "0.99"),
    *("--gamma", "0.1", "--phi", "5e-3", "--eta-learning-rate", "5e-3", "--predictor-learning-rate", "3e-3"),
)
OWN = ("cp_carried", "cp")
OTHERS = (
    *("saliency", "gradient_l2", "attention_gradient", "attention_gradient_local", "integrated_gradients(n_steps=5)"),
    *("decompx", "attnlrp", "alti", "globenc", "value_zeroing", "attention", "rollout", "random"),
)
METRICS = ("average_precision", "roc_auc", "fpr")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def adapler(command: str, *options: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "adapler", command, *map(str, options)], check=True)


def make_task(given: Path, folder: Path, marked: Sequence[dict[str, Any]], *, annotated: int, seed: int) -> list[int]:
    """Write a task with a condition's training rows; returns the marked post of each drawn row."""
    draw = np.random.default_rng(seed)
    normal = [row for row in read(given / "train.jsonl") if row["label"] == 1]  # these have no marks
    base = [*marked, *normal]
    rows = [base[i] for i in draw.permutation(len(base))[:ROWS]]
    order = draw.permutation(len(marked))
    drawn = draw.choice(order[: annotated or len(order)], size=ROWS).tolist()
    splits = {name: read(given / f"{name}.jsonl") for name in ("validation", "test")}
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in {"train": [*rows, *(marked[i] for i in drawn)], **splits}.items():
        lines = [json.dumps({"text": " ".join(row["tokens"]), "label": row["label"]}) for row in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(given / "meta.json", folder)
    return drawn


def shares(post: dict[str, Any], tokenizer: Any) -> np.ndarray:
    """(n,) of the wordpieces of a post: its marked ones share 1 evenly; 0 everywhere without a mark in view."""
    text, ends = " ".join(post["tokens"]), np.cumsum([len(word) + 1 for word in post["tokens"]])
    found = tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=MAX_LENGTH).offset_mapping
    words = [np.searchsorted(ends, start, side="right") if end > start else -1 for start, end in found]
    marks = np.array([word >= 0 and post["rationale"][word] for word in words], dtype=float)
    return np.asarray(marks / max(marks.sum(), 1))


def mix_targets(folder: Path, output: Path, posts: Sequence[dict[str, Any]], tokenizer: Any) -> None:
    """Targets in which the last rows, those of `posts`, are mixed with their marks."""
    made = load_targets(folder)
    targets = made["targets"][:]
    for place, post in zip(range(ROWS, 2 * ROWS), posts, strict=True):
        human, own = shares(post, tokenizer), np.array(targets[place])  # (n,), (L, n)
        targets[place] = ((1 - MIX) * own + MIX * human).tolist() if human.any() else targets[place]
    columns = {"id": made["id"][:], "made_of": made["made_of"][:], "targets": targets}
    datasets.Dataset.from_dict(columns, features=made.features).save_to_disk(str(output))


def condition(options: argparse.Namespace, annotated: int, marked: Sequence[dict[str, Any]], tokenizer: Any) -> None:
    """Train and judge with that many marked posts."""
    folder = options.output / f"{annotated}-{options.seed}"
    task, model = folder / "hatexplain", folder / "model"
    if (folder / "values.parquet").exists():
        return
    drawn = make_task(options.task, task, marked, annotated=annotated, seed=options.seed)
    common = ("--task", task, "--finetuned", options.finetuned, "--max-length", str(MAX_LENGTH))
    adapler("targets", *common, *TARGETS, "--output", folder / "own")
    if annotated:
        mix_targets(folder / "own", folder / "mixed", [marked[i] for i in drawn], tokenizer)
    made = ("--targets", folder / ("mixed" if annotated else "own"), "--output", model)
    adapler("train", *common, *TRAIN, "--seed", str(options.seed), *made)
    adapler("evaluate", "--model", model, "--task", task, "--split", "test", "--output", folder / "test.json")
    asked: list[Any] = [("val", "validation", OWN, None), ("test", "test", OWN, None)]
    if annotated == 0 and options.others:
        asked.append(("test", "test", OTHERS, options.others))
    parts = []
    for split, name, methods, limit in asked:
        where: dict[str, Any] = {"adapler": str(model), "split": split, "limit": limit}
        judged = evaluate(None, str(options.task / f"{name}.jsonl"), methods, METRICS, **where)
        parts.append(judged.frame.assign(split=split, annotated=annotated, seed=options.seed))
    pd.concat(parts).to_parquet(folder / "values.parquet")


def summary(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """means.csv and paired.csv of all conditions in a folder."""
    values, means = [], []
    for file in sorted(folder.glob("*/values.parquet")):
        part, said = pd.read_parquet(file), json.loads(file.with_name("test.json").read_text())
        values.append(part)
        keys = ["annotated", "seed", "split", "method", "metric", "layer"]
        found = part.groupby(keys, as_index=False).value.agg(["mean", "count"])
        means.append(found.assign(accuracy=said["hard"][0]["score"], speedup=said["hard"][0]["speedup"]))
    every = pd.concat(values)
    every = every[every.metric == "average_precision"]
    own, rows = every[every.method == "cp_carried"], []
    others = every[(every.split == "test") & every.method.isin(OTHERS)]
    table = others.groupby(["method", "layer", "document"]).value.mean()
    for annotated, part in own.groupby("annotated"):
        layer = part[part.split == "val"].groupby("layer").value.mean().idxmax()
        there = part[(part.split == "test") & (part.layer == layer)].groupby("document").value.mean()
        for method in others.method.unique():
            best = table[method].groupby("layer").mean().idxmax()
            both = pd.concat([there, table[method, best]], axis=1, keys=["own", "other"]).dropna().T.to_numpy()
            low, high = (float(one[0]) for one in bootstrap_intervals((both[0] - both[1])[None])[1:3])
            p = float(paired_permutation_test(both[:1], both[1:])[0])
            known = {
                "annotated": annotated,
                "layer": layer,
                "method": method,
                "its_layer": best,
                "posts": both.shape[1],
            }
            rows.append(known | {"own": both[0].mean(), "other": both[1].mean(), "low": low, "high": high, "p": p})
    return pd.concat(means), pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("task", "marked", "finetuned", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--annotated", type=int, nargs="+", default=[0, 50, 200, 1000, 2973])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--others", type=int, default=0, help="for N = 0, posts of test that other methods score, too")
    options = parser.parse_args(argv)
    tokenizer = AutoTokenizer.from_pretrained(options.finetuned)
    for annotated in options.annotated:
        condition(options, annotated, read(options.marked), tokenizer)
    for name, table in zip(("means", "paired"), summary(options.output), strict=True):
        table.round(4).to_csv(options.output / f"{name}.csv", index=False)


if __name__ == "__main__":
    main()
