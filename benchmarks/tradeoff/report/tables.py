"""The results folder's tables: CSV, JSON and Markdown (LaTeX: `latex`), all from the records beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adapler.errors import DataError
from adapler.files import replacing
from benchmarks.tradeoff.checks import SPEEDUPS
from benchmarks.tradeoff.data import METRICS, TASK_TITLES, task_title
from benchmarks.tradeoff.records import predictions, read_records
from benchmarks.tradeoff.report.comparison import as_json, curve_rows, paired_tests, table_rows
from benchmarks.tradeoff.report.costs import COSTS_NOTE, cost_table, machine_letters
from benchmarks.tradeoff.report.figures import save_figures
from benchmarks.tradeoff.report.latex import latex, star
from benchmarks.tradeoff.report.levels import ANY, ASKED, best_other, level_rows
from benchmarks.tradeoff.selection import USELESS, left_out
from benchmarks.tradeoff.systems import FINETUNED, in_order, system_of

NOTE = """\
Score: mean over seeds on test, in percent; `; 3` behind a speedup says of how many seeds, where there are several. In
brackets: 95 % percentile bootstrap over test examples, and over seeds too where there are several. The point of each
system was chosen on validation: the most FLOPs saved at a score at most {drop:g} (of 100) below the fine-tuned
classifier's, else the best score (marked *: so in at least one seed). Speedups are FLOPs of the fine-tuned backbone
over those of the system: `paper` on true lengths, every layer whole; `executed` as this library computes both; `padded`
with the backbone padded to the task's maximum length, as much of the literature counts. Milliseconds a text, and how
many times faster than the packed backbone that took turns with the system: medians over rounds; where the load is above
the benchmark's own processes, the machine did other work too. Epochs and minutes: all training from the encoder on,
without the search for settings.
"""
ASKED_NOTE = """\
Of each system, of its points at least so fast on validation, the one that is best there; its score on test, and its
FLOPs speedup (paper). AdapLeR: over all its options. Best other: of the other systems the one whose point is best on
validation. Bold: better than the other of the two, p < .05 after Holm over the task's systems at that speed, where both
have a point and the same seeds. `-`: in one of the seeds no point so fast, or none within {useless:g} (of 100) of the
classifier on validation. In the tables of the tasks + and - mark systems that are better and worse than AdapLeR at that
speed, by the same test. `levels.csv` has all of it.
"""
EXECUTED_NOTE = """\
The same where the speedup is of the FLOPs that this library computes, whose last layer runs for [CLS] alone: this is
what becomes time. A student of half the layers gains by it, and what drops tokens before the last layer loses. In
brackets the executed speedup; `levels_executed.csv` has all of it.
"""
KEPT_NOTE = """\
Measured speedup as a share of the executed FLOPs speedup, of the points in the first table: in batches / one by one.
"""
SIGNIFICANT = 0.05


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
    levels = level_rows(records, of_task)
    executed = level_rows(records, of_task, count="speedup_executed")
    drops = sorted({float(record["max_drop"]) for record in records})
    if len(drops) > 1:
        names = " and ".join(f"{drop:g}" for drop in drops)
        raise DataError(f"{output}: records of --max-drop {names}, but a table is of one; use an --output for each")
    paths = [write_csv(output / "table.csv", table), write_csv(output / "curves.csv", curves)]
    paths.append(write_csv(output / "tests.csv", tests))
    paths.append(write_csv(output / "levels.csv", levels))
    paths.append(write_csv(output / "levels_executed.csv", executed))
    frames = {"table": table, "levels": levels, "levels_executed": executed, "tests": tests, "curves": curves}
    content = {name: as_json(frame) for name, frame in frames.items()}
    paths.append(write_text(output / "table.json", json.dumps(content, indent=1) + "\n"))
    text = markdown(records, frames, drop=100 * drops[0])
    paths.append(write_text(output / "table.md", text))
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


def markdown(records: Sequence[Mapping[str, Any]], frames: Mapping[str, pd.DataFrame], *, drop: float) -> str:
    """Score and speedup of all systems and tasks, one block a backbone; the same where a speedup is asked for; then a
    table a task, with everything.

    Args:
        records: of the results folder.
        frames: table, levels, levels_executed and tests, of those records.
        drop: allowed on validation, of 100.
    """
    table, levels, tests = frames["table"], frames["levels"], frames["tests"]
    executed = frames["levels_executed"]
    executed = executed.assign(speedup_paper=executed["speedup"], speedup=executed["speedup_executed"])
    lines = [NOTE.format(drop=drop)]
    if left := left_out(records):
        lines += [f"Left out, since their seeds lack other points of the same system: {', '.join(left)}.", ""]
    for backbone, rows in table.groupby("backbone", sort=False):
        tasks = list(dict.fromkeys(zip(rows["task"], rows["coverage"], rows["metric"], strict=True)))
        heads = [f"{task_title(task, coverage)}, {METRICS[metric]}" for task, coverage, metric in tasks]
        lines += [f"## {backbone}", "", _line(["system", *heads]), _line(["---"] * (1 + len(heads)))]
        for system in in_order(rows["system"]):
            own = {row["task"]: row for row in as_json(rows[rows["system"] == system])}
            cells = [_cell(own[task]) if task in own else "" for task, _, _ in tasks]
            lines.append(_line([system_of(system).title, *cells]))
        own_levels = levels[levels["backbone"] == backbone]
        if len(own_levels):
            lines += ["", "### Where a speedup is asked for", "", ASKED_NOTE.format(useless=100 * USELESS)]
            lines += _asked_table(own_levels, rows)
        own_executed = executed[executed["backbone"] == backbone]
        if not own_executed["speedup"].equals(own_executed["speedup_paper"]):  # some run their last layer whole
            lines += ["", "### Where a speedup of executed FLOPs is asked for", "", EXECUTED_NOTE]
            lines += _asked_table(own_executed, rows)
        if len(faster := rows[rows["system"] != FINETUNED]):
            lines += ["", *_kept_table(faster)]
        lines += ["", *_cost_table([record for record in records if record["backbone"] == backbone])]
        for (task, coverage), part in rows.groupby(["task", "coverage"], sort=False):
            lines += ["", *_task_table(str(task), str(coverage), as_json(part))]
            if len(reached := own_levels[own_levels["task"] == task]):
                lines += ["", *_task_levels(reached)]
        if len(own_tests := tests[tests["backbone"] == backbone]):
            lines += ["", *_tests_table(as_json(own_tests))]
        lines.append("")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(row: Mapping[str, Any]) -> str:
    return f"{100 * row['score']:.1f}{star(row)} {_speed(row)}"


def _speed(row: Mapping[str, Any]) -> str:
    """`(3.00x)`, with the number of seeds where there are several: `(3.00x; 2)`."""
    seeds = "" if row["seeds"] == 1 else f"; {row['seeds']}"
    return f"({row['speedup']:.2f}x{seeds})"


def _once(values: str) -> str:
    """One value a seed, or the one that all seeds have: `0.1 0.1` -> `0.1`."""
    each = values.split()
    return each[0] if len(set(each)) == 1 else ", ".join(each)


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
        cells = [system_of(row["system"]).title, str(row["seeds"]), f"{100 * row['score']:.1f}{star(row)} {interval}"]
        cells += [f"{row[name]:.2f}x" for name in SPEEDUPS]
        cells += [f"{row['milliseconds']:.2f}", f"{row['faster']:.2f}x"]
        cells += [f"{row['milliseconds_one']:.2f}", f"{row['faster_one']:.2f}x", f"{row['load']:.1f}"]
        cells += [f"{row['epochs']:.1f}", f"{row['minutes']:.1f}", *map(_once, (row["budget"], row["scale"]))]
        lines.append(_line(cells))
    return lines


def _kept_table(rows: pd.DataFrame) -> list[str]:
    """How much of its FLOPs speedup each system keeps on the clock.

    Args:
        rows: of table_rows, of one backbone, without the plain classifier.
    """
    tasks = list(dict.fromkeys(rows["task"]))
    heads = ["system", *(TASK_TITLES.get(task, task) for task in tasks)]
    lines = ["### What becomes time", "", KEPT_NOTE, _line(heads), _line(["---"] * len(heads))]
    for system in in_order(rows["system"]):
        own = {row["task"]: row for row in as_json(rows[rows["system"] == system])}
        lines.append(_line([system_of(system).title, *(_kept(own[task]) if task in own else "" for task in tasks)]))
    return lines


def _kept(row: Mapping[str, Any]) -> str:
    shares = (row[name] / row["speedup_executed"] for name in ("faster", "faster_one"))
    return " / ".join(f"{share:.2f}".removeprefix("0") for share in shares)


def _cost_table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What training took, and the processors. records: of one backbone."""
    heads, *rows = cost_table(records)
    lines = ["### What training took", "", COSTS_NOTE, _line(heads), _line(["---"] * len(heads)), *map(_line, rows)]
    return [*lines, "", "; ".join(f"{letter}: {device}" for device, letter in machine_letters(records).items())]


def _asked_table(levels: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """AdapLeR and the best other system of each task at each of ASKED.

    Args:
        levels: of level_rows, of one backbone.
        rows: of table_rows, of the same.
    """
    heads = ["task", "classifier", "system", *(f"{asked:g}x" for asked in ASKED)]
    lines = [_line(heads), _line(["---"] * len(heads))]
    plain = {row["task"]: f"{100 * row['score']:.1f}" for row in as_json(rows[rows["system"] == FINETUNED])}
    for (task, coverage), _ in rows.groupby(["task", "coverage"], sort=False):
        own = levels[levels["task"] == task]
        if own.empty:
            continue
        family = {row["asked"]: row for row in as_json(own[own["system"] == ANY])}
        others = {asked: best_other(own, asked) for asked in ASKED}
        ours, theirs = [], []
        for asked in ASKED:
            sign = _sign(others[asked], family.get(asked))
            ours.append(_bold(_level(family.get(asked)), sign == "-"))
            theirs.append(_bold(_level(others[asked], named=True), sign == "+"))
        lines.append(_line([task_title(str(task), str(coverage)), plain.get(task, ""), "AdapLeR", *ours]))
        lines.append(_line(["", "", "best other", *theirs]))
    return lines


def _task_levels(levels: pd.DataFrame) -> list[str]:
    """All systems of a task at each of ASKED; AdapLeR over all options where there are several."""
    heads = ["where a speedup is asked for", *(f"{asked:g}x" for asked in ASKED)]
    lines = [_line(heads), _line(["---"] * len(heads))]
    options = [name for name in levels["system"].unique() if system_of(name).is_family and name != ANY]
    family = {row["asked"]: row for row in as_json(levels[levels["system"] == ANY])}
    for system in levels["system"].unique():
        if system == ANY and len(options) < 2:
            continue
        own = {row["asked"]: row for row in as_json(levels[levels["system"] == system])}
        cells = [_level(own.get(asked)) + _sign(own.get(asked), family.get(asked)) for asked in ASKED]
        lines.append(_line([system_of(system).title, *cells]))
    return lines


def _level(row: Mapping[str, Any] | None, *, named: bool = False) -> str:
    """`84.8 (6.41x)`, or `86.9 LTP (2.72x)`; `-` where a system has no useful point so fast."""
    if row is None or not row["useful"]:
        return "-"
    name = f" {system_of(row['system']).title}" if named else ""
    return f"{100 * row['score']:.1f}{name} {_speed(row)}"


def _sign(row: Mapping[str, Any] | None, ours: Mapping[str, Any] | None) -> str:
    """+ or - where a system is better or worse than AdapLeR, both are useful, and both cells are of the same seeds."""
    if row is None or ours is None or not (row["useful"] and ours["useful"] and row["same_seeds"]):
        return ""
    if row["p_holm"] is None or not row["p_holm"] < SIGNIFICANT:
        return ""
    return "+" if row["difference"] > 0 else "-"


def _bold(text: str, wanted: bool) -> str:
    return f"**{text}**" if wanted else text


def _tests_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Paired tests; AdapLeR's speedup is in brackets where the two are not equal."""
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
    lines = ["### Against AdapLeR, at least as fast (in brackets: by more than 10 %, or not as fast)", ""]
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
