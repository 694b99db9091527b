"""Tables of a report as text: method x layer, one block a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapler.errors import ArgumentError

if TYPE_CHECKING:
    from analysis.report import RationaleReport

PAPER_METRICS = ("average_precision", "fpr", "tpr", "j")
TITLES = {"average_precision": "Average precision", "fpr": "FPR", "tpr": "TPR", "j": "J = TPR - FPR"}
LEVELS = {
    "": "selected at 1/n",
    "_present": "selected at 1/n, n = tokens present at the layer",
    "_content": "selected at 1/n, scores over content tokens only",
}
COLUMNS = 12  # layers side by side in a terminal of 100 columns


def metric_title(metric: str) -> str:
    """`fpr_content` -> "FPR (selected at 1/n, scores over content tokens only)"."""
    if metric in TITLES and metric not in ("fpr", "tpr", "j"):
        return TITLES[metric]
    base, _, variant = metric.partition("_")
    if base not in TITLES:
        return metric
    return f"{TITLES[base]} ({LEVELS['_' + variant if variant else '']})"


def cells(report: RationaleReport, metric: str) -> dict[str, list[float]]:
    """method -> mean by layer, NaN where no document is defined."""
    if metric not in report.metrics:
        raise ArgumentError(f"metric {metric!r} is not in the report, which has {', '.join(report.metrics)}")
    summary = report.summary()
    chosen = summary[summary["metric"] == metric].sort_values("layer")
    return {method: chosen.loc[chosen["method"] == method, "mean"].tolist() for method in report.methods}


def number(value: float | None, decimals: int = 3) -> str:
    """.254, -.031, 1.000; "-" where undefined."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # no "-.000"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def plain(report: RationaleReport, metrics: Sequence[str] = PAPER_METRICS) -> str:
    """Aligned columns for a terminal of 100 columns; more than 12 layers are folded."""
    width = max(len(name) for name in (*report.methods, "chance")) + 2
    blocks = []
    for metric in metrics:
        rows = {name: [*values, _mean(values)] for name, values in cells(report, metric).items()}
        if metric == "average_precision":
            rows["chance"] = [report.meta["chance_average_precision"]] * (report.n_layers + 1)
        heads = [*(str(layer) for layer in range(report.n_layers)), "mean"]
        lines = [metric_title(metric)]
        for start in range(0, len(heads), COLUMNS + 1):
            part = slice(start, start + COLUMNS + 1)
            lines.append("  " + "layer".ljust(width) + "".join(f"{head:>6}" for head in heads[part]))
            for name, values in rows.items():
                lines.append("  " + name.ljust(width) + "".join(f"{number(value):>6}" for value in values[part]))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def markdown(report: RationaleReport, metrics: Sequence[str] = PAPER_METRICS) -> str:
    """One table a metric, with a line on what it was computed from."""
    lines = [note(report)]
    for metric in metrics:
        heads = [str(layer) for layer in range(report.n_layers)]
        lines += ["", f"**{metric_title(metric)}**", "", "| layer | " + " | ".join(heads) + " |"]
        lines.append("|---|" + "---:|" * report.n_layers)
        for name, values in cells(report, metric).items():
            lines.append(f"| {name} | " + " | ".join(number(value) for value in values) + " |")
    return "\n".join(lines) + "\n"


def latex(report: RationaleReport, metrics: Sequence[str] = PAPER_METRICS) -> str:
    """A `table*` with one block a metric; needs the package booktabs."""
    columns = report.n_layers + 1
    heads = " & ".join(str(layer) for layer in range(report.n_layers))
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        r"\small",
        rf"\begin{{tabular}}{{l{'r' * report.n_layers}}}",
    ]
    lines += [r"\toprule", rf"Layer & {heads} \\"]
    for metric in metrics:
        title = escape(metric_title(metric))
        lines += [r"\midrule", rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{title}}}}} \\"]
        for name, values in cells(report, metric).items():
            row = " & ".join(f"${number(v)}$" if not math.isnan(v) else "--" for v in values)
            lines.append(rf"{escape(report.meta.get('titles', {}).get(name, name))} & {row} \\")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{escape(note(report))}}}"]
    lines += [rf"\label{{tab:rationales-{_slug(report)}}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def note(report: RationaleReport) -> str:
    """One sentence on the data behind the numbers."""
    meta = report.meta
    scored = len(report.documents) - report.n_skipped
    return (
        f"Agreement with human rationales by layer (0 = first): {meta['data']['name']}, {meta['split']}, "
        f"{scored} documents ({report.n_skipped} skipped), {meta['max_length']} wordpieces, "
        f"policy {meta['policy']}; rationale density {number(meta['density'])}, average precision at chance "
        f"{number(meta['chance_average_precision'])}."
    )


def escape(text: str) -> str:
    r"""LaTeX's special characters, escaped: `50 %` -> `50 \%`."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"[": "{[}", "]": "{]}"}  # a row must not start with a bare [ after the break
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _slug(report: RationaleReport) -> str:
    text = f"{report.meta['data']['name']}-{report.meta['split']}"
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
