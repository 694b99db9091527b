"""The figures of the pages that summarise records: `python docs/figures.py` writes them below results/."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import pandas as pd  # noqa: E402

RESULTS = Path(__file__).parents[1] / "results"
PAPER, OURS, GREY = "#0072B2", "#D55E00", "#666666"
FAMILIES = {
    "one backward pass": (
        OURS, "o", {"decompx": "DecompX", "attention_gradient": "attention x gradient", "saliency": "saliency"},
    ),
    "one forward pass": (PAPER, "s", {"cp": "AdapLeR's cp", "attention": "[CLS] attention", "rollout": "rollout"}),
    "50 passes and more": (
        GREY, "^",
        {"integrated_gradients": "integrated gradients", "occlusion": "occlusion", "lime(n_samples=500)": "LIME"},
    ),
}  # fmt: skip


def targets(path: Path) -> None:
    """Accuracy at a speedup by predictor and training target, with the range of the seeds."""
    table = pd.read_csv(RESULTS / "at-speeds.csv")
    table = table[(table["file"] == "movies-minilm/predictors/scales.csv") & (table["split"] == "test")]
    figure, ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for row, name, colour, style in (
        ("contextual, decomposition", "AdapLeR (ours): contextual, decomposition", OURS, "-"),
        ("mlp, decomposition", "paper's predictor, our target", OURS, ":"),
        ("contextual, saliency", "our predictor, paper's target", PAPER, ":"),
        ("mlp, saliency", "AdapLeR (paper): MLP, saliency", PAPER, "-"),
    ):
        rows = table[table["row"] == row].sort_values("speedup")
        ax.plot(rows["speedup"], 100 * rows["mean"], style, color=colour, marker="o", markersize=4, label=name)
        if (rows["seeds"] > 1).all():
            ax.fill_between(rows["speedup"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.15, lw=0)
    ax.axhline(88.4, color=GREY, lw=0.8, ls="--")
    ax.annotate("classifier", (12, 88.4), xytext=(0, 3), textcoords="offset points", ha="right", color=GREY, fontsize=8)
    ax.set(xlabel="times fewer FLOPs", ylabel="test accuracy, %", xscale="log", ylim=(57, 92))
    ax.set_xticks([3, 4, 6, 8, 12], ["3", "4", "6", "8", "12"])
    ax.minorticks_off()
    ax.legend(fontsize=7.5, frameon=False, loc="lower left")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)
    plt.close(figure)


def methods(path: Path) -> None:
    """Agreement with people against faithfulness, the best layer of each method."""
    movies = RESULTS / "movies-minilm"
    agreement = pd.read_csv(movies / "whole-reviews-40" / "layers.csv")
    agreement = agreement[agreement["metric"] == "average_precision"].groupby("method")["mean"].max()
    faithful = pd.read_csv(movies / "faithfulness" / "layers.csv")
    faithful = faithful[faithful["metric"] == "aopc_comprehensiveness"].groupby("method")["mean"].max()
    figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for family, (colour, marker, names) in FAMILIES.items():
        found = {key: name for key, name in names.items() if key in agreement and key in faithful}
        ax.scatter(faithful[list(found)], agreement[list(found)], color=colour, marker=marker, s=45, label=family)
        for key, name in found.items():
            right = faithful[key] > 0.75
            ax.annotate(
                name, (faithful[key], agreement[key]), textcoords="offset points",
                xytext=(-6 if right else 6, -3 if right else -10 if name == "LIME" else 3),
                ha="right" if right else "left", fontsize=8, color=colour,
            )  # fmt: skip
    ax.axhline(0.328, color=GREY, lw=0.8, ls="--")
    ax.annotate("chance", (0.9, 0.331), ha="right", color=GREY, fontsize=8)
    ax.set(
        xlabel="faithfulness (comprehensiveness)",
        ylabel="agreement (average precision)",
        xlim=(0, 0.9),
        ylim=(0.3, 0.5),
    )
    ax.legend(fontsize=7.5, frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)
    plt.close(figure)


def padding(path: Path) -> None:
    """ToP's published speedups over GLUE beside those on the tokens of the texts."""
    table = pd.read_csv(RESULTS / "performance" / "padding.csv")
    places = range(len(table))
    figure, ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for shift, column, colour, name in (
        (-0.2, "reported", GREY, "published: padding counts as saved"),
        (0.2, "tokens_alone", OURS, "on the tokens of the texts"),
    ):
        bars = ax.bar([place + shift for place in places], table[column], 0.4, color=colour, label=name)
        ax.bar_label(bars, fmt="%.1f", fontsize=7)
    ax.set_xticks(list(places), table["task"].tolist())
    ax.set(ylabel="times fewer FLOPs")
    ax.axhline(1, color=GREY, lw=0.8, ls="--")
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=200)
    plt.close(figure)


if __name__ == "__main__":
    padding(RESULTS / "performance" / "padding.png")
    targets(RESULTS / "movies-minilm" / "predictors" / "targets.png")
    methods(RESULTS / "faithfulness" / "methods.png")
