"""The results folder's tables: CSV, JSON, Markdown and LaTeX, all from the records beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adapler.errors import DataError
from adapler.files import replacing
from benchmarks.tradeoff.data import METRICS, TASK_TITLES, task_title
from benchmarks.tradeoff.records import predictions, read_records
from benchmarks.tradeoff.report.comparison import curve_rows, paired_tests, table_rows
from benchmarks.tradeoff.report.figures import save_figures
from benchmarks.tradeoff.systems import system_of

NOTE = """\
Score: mean over seeds on test, in percent. In brackets: 95 % percentile bootstrap over test examples, and over seeds
too where there are several. The point of each system was chosen on validation: the most FLOPs saved at a score at most
{drop:g} (of 100) below the fine-tuned classifier's, else the best score (marked *: so in at least one seed). Speedups
are FLOPs of the fine-tuned backbone over those of the system: `paper` on true lengths, every layer whole; `executed` as
this library computes both; `padded` with the backbone padded to the longest input, as much of the literature counts.
Milliseconds a text, and how many times faster than the packed backbone that took turns with the system: medians over
rounds; where the load is above the benchmark's own processes, the machine did other work too. Epochs and minutes: all
training from the encoder on, without the search for settings.
"""


def write_results(output: Path, *, style: str = "acl") -> list[Path]:
    """Tables, tests and figures of all records in a results folder.

    Raises:
        DataError: there are no records, or one of them, or a task's predictions, is damaged.
    """
    records = read_records(output)
    if not records:
        raise DataError(f"{output}: no records, so there is nothing to report")
    read: dict[str, pd.DataFrame] = {}

    def of_task(task: str) -> pd.DataFrame:
        if task not in read:
            own = [record for record in records if record["task"] == task]
            read[task] = predictions(output, task, records=own)
        return read[task]

    table, curves, tests = table_rows(records, of_task), curve_rows(records), paired_tests(records, of_task)
    drops = sorted({float(record["max_drop"]) for record in records})
    if len(drops) > 1:
        names = " and ".join(f"{drop:g}" for drop in drops)
        raise DataError(f"{output}: records of --max-drop {names}, but a table is of one; use an --output for each")
    paths = [write_csv(output / "table.csv", table), write_csv(output / "curves.csv", curves)]
    paths.append(write_csv(output / "tests.csv", tests))
    content = {"table": as_json(table), "tests": as_json(tests), "curves": as_json(curves)}
    paths.append(write_text(output / "table.json", json.dumps(content, indent=1) + "\n"))
    paths.append(write_text(output / "table.md", markdown(table, tests, drop=100 * drops[0])))
    paths.append(write_text(output / "table.tex", latex(table)))
    return paths + save_figures(table, curves, output, style=style)


def write_text(path: Path, text: str) -> Path:
    """A text file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Six significant digits."""
    return write_text(path, table.to_csv(index=False, float_format="%.6g"))


def as_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows; None where a number is not defined."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def markdown(table: pd.DataFrame, tests: pd.DataFrame, *, drop: float) -> str:
    """Score and speedup of all systems and tasks, one block a backbone; then a table a task, with everything."""
    lines = [NOTE.format(drop=drop)]
    for backbone, rows in table.groupby("backbone", sort=False):
        tasks = list(dict.fromkeys(zip(rows["task"], rows["coverage"], rows["metric"], strict=True)))
        heads = [f"{task_title(task, coverage)}, {METRICS[metric]}" for task, coverage, metric in tasks]
        lines += [f"## {backbone}", "", _line(["system", *heads]), _line(["---"] * (1 + len(heads)))]
        for system in dict.fromkeys(rows["system"]):
            own = {row["task"]: row for row in as_json(rows[rows["system"] == system])}
            cells = [_cell(own[task]) if task in own else "" for task, _, _ in tasks]
            lines.append(_line([system_of(system).title, *cells]))
        for (task, coverage), part in rows.groupby(["task", "coverage"], sort=False):
            lines += ["", *_task_table(str(task), str(coverage), as_json(part))]
        if len(own_tests := tests[tests["backbone"] == backbone]):
            lines += ["", *_tests_table(as_json(own_tests))]
        lines.append("")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(row: Mapping[str, Any]) -> str:
    return f"{100 * row['score']:.1f}{_mark(row)} ({row['speedup']:.2f}x)"


def _mark(row: Mapping[str, Any]) -> str:
    """A star for a system that is not within the allowed drop on validation, in at least one seed."""
    return "" if row["qualified"] == row["seeds"] else "*"


def _task_table(task: str, coverage: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    first = rows[0]
    title = (
        f"### {task_title(task, coverage)}: {first['train_rows']} training rows, {first['test_examples']} test examples"
    )
    heads = ["system", "seeds", METRICS[first["metric"]], "paper", "executed", "padded"]
    heads += ["ms in batches", "faster", "ms one by one", "faster", "load", "epochs", "minutes", "budget", "scale"]
    lines = [title, "", _line(heads), _line(["---"] * len(heads))]
    for row in rows:
        interval = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        cells = [system_of(row["system"]).title, str(row["seeds"]), f"{100 * row['score']:.1f}{_mark(row)} {interval}"]
        cells += [f"{row[name]:.2f}x" for name in ("speedup", "speedup_executed", "speedup_padded")]
        cells += [f"{row['milliseconds']:.2f}", f"{row['faster']:.2f}x"]
        cells += [f"{row['milliseconds_one']:.2f}", f"{row['faster_one']:.2f}x", f"{row['load']:.1f}"]
        cells += [f"{row['epochs']:.1f}", f"{row['minutes']:.1f}", row["budget"], row["scale"]]
        lines.append(_line(cells))
    return lines


def _tests_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paired tests; a speedup of AdapLeR that is not within 10 % is in brackets."""
    heads = [
        "task",
        "system",
        "seeds",
        "score",
        "AdapLeR",
        "difference",
        "p",
        "p (Holm)",
        "speedup",
        "AdapLeR's",
        "against",
    ]
    lines = ["### Against AdapLeR at the nearest speedup (in brackets: not within 10 %)", ""]
    lines += [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        speed = f"{row['adapler_speedup']:.2f}x"
        difference = f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        cells = [TASK_TITLES.get(row["task"], row["task"]), system_of(row["system"]).title, str(row["seeds"])]
        cells += [f"{100 * row['score']:.1f}", f"{100 * row['adapler_score']:.1f}", difference]
        cells += [_p(row["p"]), _p(row["p_holm"]), f"{row['speedup']:.2f}x"]
        cells += [speed if row["equal_speed"] else f"({speed})", row["against"]]
        lines.append(_line(cells))
    return lines


def _p(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else "<.001" if value < 0.001 else f"{value:.3f}".lstrip("0")


def latex(table: pd.DataFrame) -> str:
    """A booktabs table a backbone: systems by tasks, score and FLOPs speedup; needs booktabs and graphicx."""
    blocks = []
    for backbone, rows in table.groupby("backbone", sort=False):
        tasks = list(dict.fromkeys(zip(rows["task"], rows["coverage"], rows["metric"], strict=True)))
        lines = [
            f"% {backbone}: score in percent and speedup in FLOPs on true lengths; *: not within the allowed drop on "
            "validation",
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
        for system in dict.fromkeys(rows["system"]):
            own = {row["task"]: row for row in as_json(rows[rows["system"] == system])}
            cells = [
                rf"{100 * own[task]['score']:.1f}{_mark(own[task])} & {own[task]['speedup']:.2f}$\times$"
                if task in own
                else "-- & --"
                for task, _, _ in tasks
            ]
            # In braces, since a row that begins with a bracket would be an argument of the line break before it.
            lines.append(" & ".join([f"{{{_escaped(system_of(system).title)}}}", *cells]) + r" \\")
        blocks.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}}"]))
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    return text.replace("&", r"\&").replace("_", r"\_").replace("%", r"\%")
