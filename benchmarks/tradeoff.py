"""Table, tests and figure of the comparison, from its records: `python -m benchmarks.tradeoff`.

Reads what `benchmarks.sweep` and `benchmarks.no_encoder` wrote (RESULTS/trained), and the records of before the
protocol (RESULTS/records, one model read at several threshold scales). Writes into RESULTS:

* table.csv: a row for each model and scale that was read on test
* speeds.csv: means over seeds at the speeds of the protocol
* tests.csv: every system against AdapLeR (ours) at a speed that both were trained to
* table.md: score and speedup by system and speed; losses.png, .pdf: points lost against the system's own classifier

An old point counts as trained at scale 1, for the speed it is within 10 % of; all its other scales are `extrapolated`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from analysis.report import holm

SPEEDS, NEAR, FURTHEST = (2.0, 3.0, 4.0, 6.0), 0.1, 1.2
CLASSIFIER, OURS = "classifier", "adapler"
TITLES = {
    CLASSIFIER: "Fine-tuned classifier",
    "distilbert": "DistilBERT",
    "power": "PoWER-BERT",
    "trbert": "TR-BERT",
    "transkimmer": "Transkimmer",
    "ltp": "LTP",
    "adapler-paper": "AdapLeR (paper)",
    OURS: "AdapLeR (ours)",
    "student-adapler": "Student x dropping",
    "cls_topk": "[CLS] attention, top-k",
    "random_topk": "Random, top-k",
    "tfidf": "TF-IDF, logistic regression",
    "static": "Static distillate",
}
OLD_NAMES = {"finetuned": CLASSIFIER, "adapler": "adapler-paper", "adapler-finetuned-contextual": OURS}
TASKS = {
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "hatexplain": "HateXplain",
    "movies": "Movies",
    "ag_news": "AG News",
    "imdb": "IMDB, subset",
    "dbpedia14": "DBpedia",
    "qnli": "QNLI, dev",
    "mnli": "MNLI, dev",
    "imdb_full": "IMDB",
    "news20": "20 Newsgroups",
}
COLUMNS = (
    *(
        "backbone",
        "task",
        "rows",
        "recipes",
        "system",
        "seed",
        "target",
        "kind",
        "budget",
        "scale",
        "trained",
        "validation",
    ),
    *("test", "lost", "speedup", "speedup_executed", "minutes", "milliseconds", "metric", "column"),
)
# What is compared: systems on the same training rows and with the same recipes, those of the sweep or of before.
STUDY = ["backbone", "task", "rows", "recipes"]


# Records


def read_table(results: Path) -> pd.DataFrame:
    """All points as rows with `COLUMNS`; `lost` is against the classifier of the same seed and training rows."""
    rows = [*_trained(results / "trained"), *_of_before(results / "records")]
    table = pd.DataFrame(rows, columns=[*COLUMNS])
    keys = pd.Series([*table[["task", "rows"]].itertuples(index=False, name=None)], index=table.index)
    swept = set(keys[table.recipes.eq("sweep") & table.system.eq(CLASSIFIER)])
    alone = table.system.isin(["tfidf", "static"]) & ~keys.isin(swept)
    table.loc[alone, "recipes"] = "before"  # the study that they stand in
    own = table[table.system == CLASSIFIER].set_index([*STUDY, "seed"]).test
    mean = table[table.system == CLASSIFIER].groupby(STUDY).test.mean()
    keys = table[[*STUDY, "seed"]].itertuples(index=False, name=None)
    table["lost"] = [own.get(key, mean.get(key[:-1], math.nan)) for key in keys] - table.test
    order = {name: place for place, name in enumerate(TITLES)}
    table["place"] = table.system.map(order).fillna(len(order))
    return table.sort_values([*STUDY, "place", "system", "seed", "trained", "scale"]).drop(columns="place")


def _trained(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*/*.json")):
        record = json.loads(path.read_text())
        plain = {"speedup": math.nan, "speedup_executed": math.nan, "target": None, "trained": math.nan, "scale": None}
        kind = "trained" if record.get("near", True) else "missed"
        known = (
            plain
            | {"backbone": "MiniLM-L6", "recipes": "sweep", "kind": kind, "column": path.stem, "milliseconds": math.nan}
            | record
        )
        known["system"] = record["system"].removesuffix("-part")
        known |= {"rows": record["rows"]["train"], "minutes": record["minutes"]["training"]}
        found.append({name: known.get(name) for name in COLUMNS})
    return found


def _of_before(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*/*/*.json")):
        record = json.loads(path.read_text())
        by_scale = {one["scale"]: one for one in record["validation"]}
        trained = record["validation"][0]["speedup"] or 1.0
        budget = "" if record["budget"] is None else f"-{record['budget']:g}"
        for point in record["test"]:
            first = point["scale"] in (None, 1.0)
            near = [speed for speed in SPEEDS if abs(trained / speed - 1) <= NEAR]
            time = (point.get("time") or {}).get("batches") or {}
            scale = "" if point["scale"] is None else f"@{point['scale']:g}"
            known = {
                **{name: record[name] for name in ("backbone", "task", "seed", "budget", "metric")},
                "system": OLD_NAMES.get(record["system"], record["system"]),
                "rows": (record.get("rows") or {}).get("train", 0),
                "recipes": "before",
                "target": near[0] if first and near else None,
                "kind": "trained" if first else "extrapolated",
                **{"scale": point["scale"], "trained": trained, "test": point["score"]},
                "validation": by_scale[point["scale"]]["score"],
                **{name: point[name] or 1.0 for name in ("speedup", "speedup_executed")},
                "minutes": record["cost"]["own_minutes"],
                "milliseconds": time.get("milliseconds", math.nan),
                "column": f"{record['backbone']}/{record['system']}{budget}-seed-{record['seed']}{scale}",
            }
            found.append(known)
    return found


def _of(table: pd.DataFrame, study: Sequence[Any]) -> pd.Series:
    """Which rows are of a study."""
    return (table[STUDY] == pd.Series(study, index=STUDY)).all(axis=1)


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """The points of the protocol's table: trained, at a target; of several of a system and seed the nearest one."""
    found = table[table.kind.eq("trained") & table.target.notna() & table.system.isin(TITLES)].copy()
    found["distance"] = np.abs(np.log(found.trained.astype(float) / found.target.astype(float)))
    found = found.sort_values("distance").drop_duplicates([*STUDY, "system", "seed", "target"])
    return found.drop(columns="distance").sort_index()


# Tests


def parts(predicted: NDArray[Any], gold: NDArray[Any], metric: str) -> NDArray[np.float64]:
    """(2, n) of each example what the score's numerator and denominator are sums of: accuracy, or F1 of label 1."""
    if metric == "f1":
        return np.stack([2.0 * ((predicted == 1) & (gold == 1)), (predicted == 1) * 1.0 + (gold == 1)])
    return np.stack([(predicted == gold) * 1.0, np.ones(len(gold))])


def permutation(ours: NDArray[np.float64], theirs: NDArray[np.float64], *, rounds: int = 5000) -> float:
    """Two-sided p of the mean difference over seeds; both (seeds, 2, n). An example is swapped in all seeds at once."""
    swaps = np.random.default_rng(0).integers(0, 2, (rounds, ours.shape[2])).astype(np.float32)
    observed = 0.0
    differences = np.zeros(rounds)
    for one, other in zip(ours, theirs, strict=True):
        moved = swaps @ (other - one).T.astype(np.float32)  # (rounds, 2)
        first, second = one.sum(1) + moved, other.sum(1) - moved
        differences += first[:, 0] / first[:, 1] - second[:, 0] / second[:, 1]
        observed += one[0].sum() / one[1].sum() - other[0].sum() / other[1].sum()
    return float((1 + (np.abs(differences) >= abs(observed) - 1e-6).sum()) / (1 + rounds))


def tests(results: Path, points: pd.DataFrame) -> pd.DataFrame:
    """Each system against AdapLeR (ours) at the same speed, over the seeds that both have; p after Holm by speed."""
    rows = []
    for (*study, speed), group in points.groupby([*STUDY, "target"]):
        by = {name: one.set_index("seed") for name, one in group.groupby("system")}
        for name in by if OURS in by else ():
            seeds = sorted(set(by[name].index) & set(by[OURS].index))
            if name == OURS or not seeds:
                continue
            found = [_parts_of(results, study[1], by[one], seeds) for one in (OURS, name)]
            difference = 100 * (by[OURS].test[seeds] - by[name].test[seeds]).astype(float)
            over_seeds = ttest_1samp(difference, 0).pvalue if len(seeds) > 1 and difference.std() > 0 else math.nan
            rows.append(
                {**dict(zip(STUDY, study, strict=True)), "speed": speed, "system": name, "seeds": len(seeds)}
                | {"difference": difference.mean(), "by_seed": " ".join(f"{one:+.2f}" for one in difference)}
                | {"p": permutation(*found), "p_seeds": over_seeds}
            )
    table = pd.DataFrame(rows)
    if len(table):
        adjusted = table.groupby([*STUDY, "speed"]).p.transform(holm)
        signs = table.by_seed.map(lambda text: len({one[0] for one in text.split()}) == 1)
        table["p_holm"], table["significant"] = adjusted, (adjusted < 0.05) & signs
    return table


def _parts_of(results: Path, task: str, own: pd.DataFrame, seeds: Sequence[int]) -> NDArray[np.float64]:
    """(seeds, 2, n) of a system's points, by seed."""
    folder = "predictions" if "/" in own.column.iloc[0] else "trained"
    table = pd.read_parquet(results / folder / f"{task}.parquet")
    gold, metric = table["label"].to_numpy(), own.metric.iloc[0]
    return np.stack([parts(table[own.column[seed]].to_numpy(), gold, metric) for seed in seeds])


# Pages


def speeds(table: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by study, system and speed; classifiers without a speed have an empty one. Scores in percent."""
    missed = table[(table.kind == "missed") & table.target.notna()]
    plain = table[table.system.isin([CLASSIFIER, "tfidf", "static"])].assign(target=1.0)
    every = pd.concat([points, missed, plain])
    every = every.assign(test=100 * every.test, lost=100 * every.lost, inverse=1 / every.speedup.astype(float))
    grouped = every.groupby([*STUDY, "system", "target", "kind"])
    found = grouped.agg(
        seeds=("seed", "nunique"), test=("test", "mean"), lost=("lost", "mean"), speedup=("inverse", "mean")
    )
    found["milliseconds"], found["minutes"] = grouped.milliseconds.mean(), grouped.minutes.mean()
    return found.assign(speedup=1 / found.speedup).reset_index()


def markdown(means: pd.DataFrame, tested: pd.DataFrame) -> str:
    """A table a study: systems by speeds."""
    text = (
        "# Trained to a speed\n\nScore on test in percent (speedup in FLOPs; seeds). Bold: better than AdapLeR (ours), "
    )
    text += "or `> n`: AdapLeR better than n of the others; p < .05 after Holm, and every seed on the same side.\n"
    for study, group in means.groupby(STUDY):
        asked = [speed for speed in SPEEDS if (group.target == speed).any()]
        text += f"\n## {TASKS.get(study[1], study[1])}: {study[0]}, {study[2]} training rows, recipes: {study[3]}\n\n"
        text += "<!-- from: results/tradeoff/speeds.csv -->\n"
        text += "| " + " | ".join(["system", "1x", *(f"{speed:g}x" for speed in asked)]) + " |\n"
        text += "| --- |" + " --- |" * (1 + len(asked)) + "\n"
        for name, title in TITLES.items():
            own = group[group.system == name].sort_values("kind", ascending=False)
            if len(own):
                cells = []
                for speed in (1.0, *asked):  # two in a cell where some of the seeds missed the speed
                    mark, there = _mark(tested, study, name, speed), own[own.target == speed]
                    cells.append(" ".join(_cell(one, mark) for _, one in there.iterrows()))
                text += f"| {title} | {' | '.join(cells)} |\n"
    return text


def _cell(mean: pd.Series, mark: str | None) -> str:
    about = f"{mean.speedup:.2f}x" if mean.speedup == mean.speedup else f"{mean.milliseconds:.2f} ms"
    said = f"{mean.test:.1f} ({about}; {mean.seeds:g}{', missed' if mean.kind == 'missed' else ''})"
    return said if mark is None else f"**{said}**{mark}"


def _mark(tested: pd.DataFrame, study: tuple[Any, ...], name: str, speed: float) -> str | None:
    """Suffix of a bold cell; None if the cell is not bold."""
    if tested.empty:
        return None
    here = tested[_of(tested, study) & (tested.speed == speed) & tested.significant]
    if name == OURS:
        better = int((here.difference > 0).sum())
        return f" > {better}" if better else None
    return "" if ((here.system == name) & (here.difference < 0)).any() else None


COLOURS = {
    **{"distilbert": "#000000", "power": "#0072B2", "trbert": "#009E73", "transkimmer": "#CC79A7", "ltp": "#56B4E9"},
    **{OURS: "#D55E00", "adapler-paper": "#7A2E00", "student-adapler": "#E69F00"},
    **{"cls_topk": "#888888", "random_topk": "#BBBBBB"},
}
MARKERS = dict(zip(COLOURS, "sD^vP" + "o*X" + "<>", strict=True))
MOST_LOST = 16.0


PANELS = {  # the tasks of each kind of text
    "Long reviews": ("movies", "imdb", "imdb_full"),
    "Topics": ("ag_news", "dbpedia14", "news20"),
    "Sentences and posts": ("sst2", "hatexplain"),
    "Pairs of texts": ("mrpc", "qnli", "mnli"),
}


def figure(table: pd.DataFrame) -> Any:
    """Points lost over speedup, a panel for each kind of text. Filled: trained there, with whiskers over seeds."""
    with plt.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42}):
        made, axes = plt.subplots(2, 2, figsize=(5.6, 5.6), sharex=True, sharey=True)
        for ax, (title, tasks) in zip(axes.flat, PANELS.items(), strict=True):
            _panel(ax, table[table.task.isin(tasks)])
            ax.set_title(title, loc="left", fontsize=9)
        for ax in axes[:, 0]:
            ax.set_ylabel("points lost")
        for ax in axes[1]:
            ax.set_xlabel("times fewer FLOPs")
        handles = [
            Line2D([], [], color=color, marker=MARKERS[name], linestyle="", markersize=5, label=TITLES[name])
            for name, color in COLOURS.items()
        ]
        for filled, label in (("#444444", "trained there"), ("none", "extrapolated")):
            style = {"color": "#444444", "markerfacecolor": filled, "marker": "o", "linestyle": "", "markersize": 4}
            handles.append(Line2D([], [], label=label, **style))
        made.legend(handles=handles, loc="lower center", ncol=4, frameon=False, fontsize=8, handletextpad=0.1)
        made.tight_layout(rect=(0, 0.11, 1, 1))
    return made


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    for name, color in COLOURS.items():
        own = table[(table.system == name) & (100 * table.lost < MOST_LOST)]
        style: dict[str, Any] = {"color": color, "marker": MARKERS[name], "linestyle": ""}
        hollow = own[(own.kind == "extrapolated") & (own.speedup > 1.05)]
        ax.plot(hollow.speedup, 100 * hollow.lost, markersize=2.5, markerfacecolor="none", markeredgewidth=0.3, **style)
        solid = own[own.kind != "extrapolated"].copy()
        solid["group"] = solid.target.astype(object).where(solid.target.notna(), solid.budget.astype(str))
        for _, seeds in solid.groupby([*STUDY, "group"], dropna=False):
            lost, speed = 100 * seeds.lost.astype(float), seeds.speedup.astype(float).mean()
            whiskers = [[lost.mean() - lost.min()], [lost.max() - lost.mean()]]
            ax.errorbar(speed, lost.mean(), yerr=whiskers, markersize=5, linewidth=0.6, zorder=3, **style)
    ax.axhline(0, color="#999999", linewidth=0.5)
    ax.set_xscale("log")
    ax.set_xticks([1, 2, 3, 4, 6, 10], ["1", "2", "3", "4", "6", "10"])
    ax.minorticks_off()
    ax.set_xlim(1, 11)
    ax.set_ylim(MOST_LOST, -4)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/tradeoff"))
    args = parser.parse_args(argv)
    table = read_table(args.results)
    points = chosen(table)
    tested = tests(args.results, points)
    table.drop(columns="column").to_csv(args.results / "table.csv", index=False, float_format="%.6g")
    tested.to_csv(args.results / "tests.csv", index=False, float_format="%.4g")
    means = speeds(table, points)
    means.to_csv(args.results / "speeds.csv", index=False, float_format="%.6g")
    (args.results / "table.md").write_text(markdown(means, tested))
    for suffix in ("png", "pdf"):
        figure(table).savefig(args.results / f"losses.{suffix}", dpi=200)
    trained = table[table.kind == "trained"]
    print(f"{len(table)} points, {len(trained)} trained, {len(points)} at a speed of the protocol, {len(tested)} tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
