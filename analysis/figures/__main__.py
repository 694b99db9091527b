"""The command `python -m analysis.figures`: all figures of a report, again, at the widths of a venue."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from adapler.errors import ArgumentError, CommandParser, run_command
from analysis import figures
from analysis.results.report import ReportData

EXAMPLE = """example:
  python -m analysis.figures reports/sample-test --style acl --tradeoff runs/tradeoff.csv

REPORT is the output folder of analysis.rationale_eval, or its report.json.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = CommandParser(
        prog="python -m analysis.figures",
        description="All figures of a report as PDF (fonts embedded), PNG (300 dpi) and SVG.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("report", metavar="REPORT", help="a folder with report.json, or that file")
    parser.add_argument("--style", choices=tuple(figures.VENUES), default="acl", help="widths (default: acl)")
    parser.add_argument("--output", metavar="DIR", help="default: figures/ beside report.json")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="those to draw (default: all)")
    parser.add_argument("--tradeoff", metavar="CSV", help="also accuracy against speedup, from this file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    for option, what in (("output", "a folder"), ("tradeoff", "a CSV file")):
        if getattr(arguments, option) == "":  # of a variable that is not set
            raise ArgumentError(f"--{option}: got an empty name, must be {what}")
    source = Path(arguments.report)
    source = source / "report.json" if source.is_dir() else source
    output = Path(arguments.output) if arguments.output else source.parent / "figures"
    if file := next((path for path in (output, *output.parents) if path.is_file()), None):
        raise ArgumentError(f"--output: {file} is a file, must be a folder")
    # both are read before anything is written
    table = figures.read_tradeoff(arguments.tradeoff) if arguments.tradeoff else None
    report = ReportData.from_json(source)
    if not figures.kinds(report) and table is None:
        raise ArgumentError(f"{source}: nothing to draw, no value of any document is defined")
    paths = figures.save_all(report, output, style=arguments.style, methods=arguments.methods)
    if table is not None:
        paths += figures.save_figure(figures.tradeoff_figure(table, style=arguments.style), output / "tradeoff")
    for stem in dict.fromkeys(path.with_suffix("") for path in paths):
        print(f"{stem}.{{pdf,png,svg}}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
