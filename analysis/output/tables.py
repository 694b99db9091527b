"""Tables of a report as text: method x layer, one block a metric."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from adapler.errors import ArgumentError, counted
from analysis.documents.annotators import AUTO
from analysis.metrics.registry import metric_names
from analysis.results.report import ReportData
from analysis.results.wording import (
    HOLM_FAMILY,
    higher_is_better,
    judges_rationales,
    metric_title,
    number,
    reference_among,
)

COLUMNS = 12  # layers side by side in a terminal of 100 columns
SIGNIFICANT = 0.05  # of Holm-adjusted p
# One of a pair alone says nothing: a method that selects no token has a perfect FPR, so none of them is marked best
HALF_METRICS = ("fpr", "tpr", "precision", "recall")
AT_EQUAL_FPR = "tpr_at_fpr_"  # the other half is the same for all methods


@dataclass(frozen=True)
class Row:
    """One method in the table of one metric; every list has an entry a layer (one, if not `layerwise`).

    differs: Holm-adjusted p < .05 against the reference method; best: no method's mean is better at the layer.
    """

    method: str
    title: str
    layerwise: bool
    mean: list[float]
    low: list[float]
    high: list[float]
    differs: list[bool]
    best: list[bool]


def main_metrics(report: ReportData) -> tuple[str, ...]:
    """The report's metrics without the variants of a selection and the single bins of a faithfulness curve.

    FPR, TPR and J at 1/n are shown with both n, the tokens of the input and the tokens present at the layer, where a
    method drops tokens: the order of the methods can change between them.
    """

    def is_detail(metric: str) -> bool:
        if report.is_repeated(metric):
            return True
        if metric in ("fpr_present", "tpr_present", "j_present") or metric.startswith(AT_EQUAL_FPR):
            return False
        bin_of_a_curve = metric in metric_names("faithfulness") and metric.rpartition("_")[2].isdigit()
        return metric.endswith(("_present", "_content")) or bin_of_a_curve

    return tuple(metric for metric in report.metrics if not is_detail(metric)) or report.metrics


def cells(report: ReportData, metric: str) -> dict[str, list[float]]:
    """method -> mean by layer (one entry for a method at the input only), NaN where no document is defined."""
    return {row.method: row.mean for row in _rows(report, metric, reference=None)}


def rows(report: ReportData, metric: str) -> list[Row]:
    """The table of one metric, with the comparison against the reference method if the report has it."""
    return _rows(report, metric, reference=reference_of(report))


def reference_of(report: ReportData) -> str | None:
    """`cp`, or another policy's scores, where there is something to compare them with and more than one document."""
    scored = len(report.documents) - report.n_skipped
    return reference_among(report.methods) if len(report.methods) > 1 and scored > 1 else None


def _rows(report: ReportData, metric: str, *, reference: str | None) -> list[Row]:
    if metric not in report.metrics:
        raise ArgumentError(f"metric {metric!r} is not in the report, which has {', '.join(report.metrics)}")
    summary = report.summary()
    chosen = summary[summary["metric"] == metric].sort_values("layer")
    different = set()
    if reference is not None:
        tests = report.comparisons(reference, metric)
        significant = tests[tests["p_holm"] < SIGNIFICANT]
        different = set(zip(significant["method"], significant["layer"], strict=True))
    best = _best(chosen[chosen["method"].map(report.is_layerwise)], metric)
    table = []
    for method in report.methods:
        part = chosen[chosen["method"] == method]
        layerwise = report.is_layerwise(method)
        table.append(
            Row(
                method=method,
                title=report.title(method),
                layerwise=layerwise,
                mean=part["mean"].tolist(),
                low=part["low"].tolist(),
                high=part["high"].tolist(),
                differs=[layerwise and (method, layer) in different for layer in part["layer"]],
                best=[
                    layerwise and best.get(layer) == mean
                    for layer, mean in zip(part["layer"], part["mean"], strict=True)
                ],
            )
        )
    return table


def _best(summary: pd.DataFrame, metric: str) -> dict[int, float]:
    """layer -> the best mean of the methods that are neither chance nor a human; summary: of methods with layers."""
    if metric.partition("_")[0] in HALF_METRICS and not metric.startswith(AT_EQUAL_FPR):
        return {}
    names = summary["method"].map(lambda key: key.partition("(")[0])  # a key may have options behind its name
    layers = summary[~names.isin(("random", "human"))].groupby("layer")["mean"]
    best = layers.max() if higher_is_better(metric) else layers.min()
    return {int(str(layer)): float(mean) for layer, mean in best.items()}


def plain(report: ReportData, metrics: Sequence[str] | None = None) -> str:
    """Aligned columns for a terminal of 100 columns; more than 12 layers are folded."""
    width = max(len(name) for name in (*report.methods, "chance")) + 2
    blocks = []
    for metric in metrics or main_metrics(report):
        values = {
            name: [*means, mean(means)] for name, means in cells(report, metric).items() if report.is_layerwise(name)
        }
        if metric == "average_precision":
            values["chance"] = [report.meta["chance_average_precision"]] * (report.n_layers + 1)
        lines = [metric_title(metric)]
        if any(report.is_layerwise(name) for name in report.methods):
            lines += folded(values, [*map(str, range(report.n_layers)), "mean"], width)
        for name, means in cells(report, metric).items():
            if not report.is_layerwise(name):
                lines.append("  " + name.ljust(width) + f"{number(means[0]):>6}  at the input")
        blocks.append("\n".join(lines))
    said = scopes(report)
    return "\n\n".join([*blocks, textwrap.fill(said, width=100)] if said else blocks)


def plain_comparisons(report: ReportData, metrics: Sequence[str] | None = None) -> str:
    """The reference method minus each other method, by layer, with a star where the test finds a difference.

    Empty without a reference, see `reference_of`.
    """
    reference = reference_of(report)
    if reference is None:
        return ""
    others = [method for method in report.methods if method != reference]
    width = max(len(name) for name in others) + 2
    blocks = []
    for metric in metrics or main_metrics(report):
        frame = report.comparisons(reference, metric)
        keys = zip(frame["method"], frame["layer"], strict=True)
        tests = dict(zip(keys, zip(frame["difference"], frame["p_holm"], strict=True), strict=True))
        texts = {
            method: [_difference(tests.get((method, layer))) for layer in range(report.n_layers)] for method in others
        }
        lines = [f"{metric_title(metric)}: {reference} minus the other method"]
        for start in range(0, report.n_layers, COLUMNS):
            layers = range(start, min(start + COLUMNS, report.n_layers))
            lines.append("  " + "layer".ljust(width) + "".join(f"{layer:>6} " for layer in layers).rstrip())
            for method in others:
                line = "  " + method.ljust(width) + "".join(f"{texts[method][layer]:<7}" for layer in layers)
                lines.append(line.rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, textwrap.fill(legend(report), width=100)])


def _difference(test: tuple[float, float] | None) -> str:
    difference, p = test or (math.nan, math.nan)
    return f"{number(difference):>6}" + ("*" if p < SIGNIFICANT else "")


def folded(values: dict[str, list[float]], heads: Sequence[str], width: int) -> list[str]:
    """Lines of a table, a row for each name; more than COLUMNS + 1 columns go on below."""
    lines = []
    for start in range(0, len(heads), COLUMNS + 1):
        part = slice(start, start + COLUMNS + 1)
        lines.append("  " + "layer".ljust(width) + "".join(f"{head:>6}" for head in heads[part]))
        for name, row in values.items():
            lines.append("  " + name.ljust(width) + "".join(f"{number(value):>6}" for value in row[part]))
    return lines


def legend(report: ReportData, metrics: Sequence[str] = ()) -> str:
    """What a star means; empty without a comparison. metrics: of tables in which the best of a layer is in bold: what
    that means, too."""
    bold = any(any(row.best) for metric in metrics for row in rows(report, metric) if row.layerwise)
    said = ["Bold: best of a layer."] if bold else []
    reference = reference_of(report)
    if reference is not None:
        said.append(
            f"* differs from {report.title(reference)} at the same layer: p < .05, paired permutation test over "
            f"documents, {HOLM_FAMILY}."
        )
    return " ".join(said)


def scopes(report: ReportData) -> str:
    """One sentence on what "per layer" means for each method; empty for a report that does not say."""
    known: dict[str, list[str]] = {}
    for method in report.methods:
        if scope := report.meta.get("scopes", {}).get(method):
            known.setdefault(scope, []).append(report.title(method))
    said = "; ".join(f"{', '.join(names)}: {scope}" for scope, names in known.items())
    return f"What a score at one layer is about - {said}." if said else ""


def note(report: ReportData) -> str:
    """On what data the numbers are, and what must be known to read them."""
    meta = report.meta
    scored = len(report.documents) - report.n_skipped
    extra = "".join(
        f", {name} {meta[name]}" for name in ("aggregation", "protocol") if meta.get(name) not in (None, "none")
    )
    if meta.get("people") and meta["people"]["rule"] != AUTO:
        extra += f", annotators {meta['people']['rule']}"
    if report.speedup is not None and meta.get("threshold_scale", 1) != 1:
        extra += f", AdapLeR at threshold scale {meta['threshold_scale']:.4g}"
    view = f"{meta['max_length']} wordpieces, policy {meta['policy']}"
    what, judged = "Scores by layer", ""
    if judges_rationales(report.metrics):
        what = "Agreement with human rationales by layer"
        judged = (
            f"; rationale density {number(meta['density'])}, average precision at chance "
            f"{number(meta['chance_average_precision'])}"
        )
    if meta.get("tokens") == "words":
        view = "whole documents, tokens are words"
    if meta.get("dtype", "float32") != "float32":  # older reports have none, and are in float32
        extra += f", computed in {meta['dtype']}"
    return (
        f"{what} (0 = first): {meta['data']['name']}, {meta['split']}, "
        f"{counted(scored, 'document')} ({report.n_skipped} skipped), {view}{extra}{judged}."
        + "".join(
            f" {report.title(name)} has nothing for {number_of} of {counted(len(report.documents), 'document')}."
            for name, number_of in meta.get("missing", {}).items()
            if number_of
        )
        + "".join(f" {remark[:1].upper()}{remark[1:]}." for remark in meta.get("notes", ()))
    )


def mean(values: Sequence[float]) -> float:
    """Of the values that are defined; NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
