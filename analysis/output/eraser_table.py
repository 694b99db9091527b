"""What ERASER's own scorer prints (`--protocol eraser`), as tables: a method a row, a layer a column.

These are not means of the documents' values beside them: IOU F1 is of mean precision and mean recall, and documents
count that the other metrics leave out (DeYoung et al. 2020, rationale_benchmark/metrics.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.output.tables import folded
from analysis.results.report import ReportData
from analysis.results.wording import number

HEADING = "ERASER's own scores, over all annotated documents, also those without a rationale in view"
COLUMNS = {
    "IOU F1 (macro)": ("iou_scores", 0, "macro", "f1"),
    "Token F1 (instance macro)": ("token_prf", "instance_macro", "f1"),
    "AUPRC": ("token_soft_metrics", "auprc"),
    "Average precision": ("token_soft_metrics", "average_precision"),
    "ROC-AUC": ("token_soft_metrics", "roc_auc_score"),
}


def eraser_cells(report: ReportData) -> dict[str, dict[str, list[float]]]:
    """Score -> method -> its value at each layer, or one value at the input; NaN where the scorer gives none.

    Empty for a report of another protocol.
    """
    found: Mapping[str, Any] = report.meta.get("eraser_scores") or {}
    return {
        title: {method: [_value(layer, path) for layer in layers] for method, layers in found.items()}
        for title, path in COLUMNS.items()
        if found
    }


def _value(scores: Any, path: tuple[str | int, ...]) -> float:
    for key in path:
        try:
            scores = scores[key]
        except (KeyError, IndexError, TypeError):
            return float("nan")
    return float("nan") if scores is None else float(scores)


def plain_eraser(report: ReportData) -> str:
    """For a terminal of 100 columns; empty for a report of another protocol."""
    width = max(len(name) for name in report.methods) + 2
    blocks = []
    for title, by_method in eraser_cells(report).items():
        layered = {name: row for name, row in by_method.items() if report.is_layerwise(name)}
        lines = [f"{HEADING}: {title}"]
        if layered:
            lines += folded(layered, [str(layer) for layer in range(report.n_layers)], width)
        for name, row in by_method.items():
            if name not in layered:
                lines.append("  " + name.ljust(width) + f"{number(row[0]):>6}  at the input")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
