"""The table of scores and speedups for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.tradeoff.data import METRICS, task_title
from benchmarks.tradeoff.report.comparison import as_json
from benchmarks.tradeoff.systems import in_order, system_of


def star(row: Mapping[str, Any]) -> str:
    """A star for a system that is not within the allowed drop on validation, in at least one seed."""
    return "" if row["qualified"] == row["seeds"] else "*"


def latex(table: pd.DataFrame) -> str:
    """A booktabs table a backbone: systems by tasks, score and FLOPs speedup; needs booktabs and graphicx."""
    blocks = []
    for backbone, rows in table.groupby("backbone", sort=False):
        tasks = list(dict.fromkeys(zip(rows["task"], rows["coverage"], rows["metric"], strict=True)))
        lines = [
            f"% {backbone}: score in percent and speedup in FLOPs on true lengths; *: not within the allowed drop on "
            "validation; raised: seeds, where there are several",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{l{'rr' * len(tasks)}}}",
            r"\toprule",
            "System"
            + "".join(
                rf" & \multicolumn{{2}}{{c}}{{{_escaped(task_title(task, coverage))}, {METRICS[metric]}}}"
                for task, coverage, metric in tasks
            )
            + r" \\",
            "".join(rf"\cmidrule(lr){{{2 * n + 2}-{2 * n + 3}}}" for n in range(len(tasks))),
        ]
        for system in in_order(rows["system"]):
            own = {row["task"]: row for row in as_json(rows[rows["system"] == system])}
            cells = [
                rf"{100 * own[task]['score']:.1f}{star(own[task])}{_raised(own[task])} & "
                rf"{own[task]['speedup']:.2f}$\times$"
                if task in own
                else "-- & --"
                for task, _, _ in tasks
            ]
            # In braces, since a row that begins with a bracket would be an argument of the line break before it.
            lines.append(" & ".join([f"{{{_escaped(system_of(system).title)}}}", *cells]) + r" \\")
        blocks.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}}"]))
    return "\n\n".join(blocks) + "\n"


def _raised(row: Mapping[str, Any]) -> str:
    return "" if row["seeds"] == 1 else rf"\textsuperscript{{{row['seeds']}}}"


def _escaped(text: str) -> str:
    return text.replace("&", r"\&").replace("_", r"\_").replace("%", r"\%")
