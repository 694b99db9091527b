"""The command `python -m analysis.studies.seeds`: mean and spread over reports of several seeds or checkpoints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from adapler.errors import ArgumentError, CommandParser, counted, run_command
from analysis.output.report import RationaleReport
from analysis.results.report import write_text
from analysis.results.wording import number

EXAMPLE = """example:
  python -m analysis.studies.seeds reports/seed-1 reports/seed-2 reports/seed-3 --output reports/seeds.csv
"""
SHOWN = ("average_precision", "fpr", "fpr_present")
SOFTWARE = ("adapler", "torch", "transformers")  # of a report's versions, those that move a score


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = CommandParser(
        prog="python -m analysis.studies.seeds",
        description="Mean and standard deviation (n - 1) over several reports of the same evaluation.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("reports", nargs="+", metavar="REPORT", help="folders with report.json, or such files")
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="(default: those of average_precision, fpr, fpr_present there are)"
    )
    parser.add_argument("--output", metavar="CSV", help="all cells: method, layer, metric, mean, sd, min, max, runs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table a metric; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    paths = [Path(path) / "report.json" if Path(path).is_dir() else Path(path) for path in arguments.reports]
    places = [path.resolve() for path in paths]
    if twice := [given for given, place in zip(arguments.reports, places, strict=True) if places.count(place) > 1]:
        raise ArgumentError(f"REPORT: {' and '.join(twice)} are one report, each run counts once")
    reports = [RationaleReport.from_json(path) for path in paths]
    merged = RationaleReport.merge(reports, names=arguments.reports)
    for (one, first), (other, second) in combinations(zip(arguments.reports, reports, strict=True), 2):
        if np.array_equal(first.values, second.values, equal_nan=True):
            print(f"note: {one} and {other} have the same values everywhere; is one a copy?", file=sys.stderr)
    there = list(dict.fromkeys(merged["metric"]))
    if unknown := [name for name in arguments.metrics or () if name not in there]:
        raise ArgumentError(f"--metrics: {unknown[0]!r} is not in the reports, which have {', '.join(there)}")
    for note in _other_machines(reports):
        print(f"note: {note}, so the spread is not that of the seeds alone", file=sys.stderr)
    if arguments.output:  # before the tables: one that cannot be written is said first
        write_text(merged.to_csv(index=False, lineterminator="\n"), arguments.output)
    for metric in arguments.metrics or [name for name in SHOWN if name in there] or there:
        part = merged[merged["metric"] == metric]
        print(f"{metric}: mean ± standard deviation over {counted(len(paths), 'run')}")
        for method, rows in part.groupby("method", sort=False):
            cells = [f"{number(row.mean)} ± {number(row.sd)}" for row in rows.itertuples()]
            fewer = sorted({int(row.runs) for row in rows.itertuples()} - {len(paths)})
            remark = f"  (of {' or '.join(map(str, fewer))} runs)" if fewer else ""
            print(f"  {method!s:<24}" + "  ".join(cells) + remark)
    return 0


def _other_machines(reports: Sequence[RationaleReport]) -> Iterator[str]:
    """What differs between the reports that a seed does not change: the device, and SOFTWARE as far as they say it."""
    facts = [report.meta.get("versions", {}) | {"device": report.meta.get("device")} for report in reports]
    for name in ("device", *SOFTWARE):
        found = list(dict.fromkeys(str(one[name]) for one in facts if one.get(name) is not None))
        if len(found) > 1:
            yield f"reports were made with {name} {' and '.join(found)}"


if __name__ == "__main__":
    sys.exit(run_command(main))
