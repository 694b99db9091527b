"""The command `python -m analysis.figures`: all figures of a report, again, at the widths of a venue."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from adapler.errors import ArgumentError
from adapler.options import CommandParser, user_errors
from analysis import figures
from analysis.report import RationaleReport

EXAMPLE = """example:
  python -m analysis.figures reports/sample-test --style acl --tradeoff runs/tradeoff.csv
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    parser = CommandParser(
        prog="python -m analysis.figures",
        description="All figures of a report as PDF (fonts embedded), PNG (300 dpi) and SVG.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("report", metavar="REPORT", type=Path, help="output folder of analysis.rationale_eval")
    parser.add_argument("--style", choices=tuple(figures.VENUES), default="acl", help="widths (default: acl)")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: REPORT/figures")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="those to draw (default: all)")
    parser.add_argument("--tradeoff", metavar="CSV", help="also accuracy against speedup, from this file")
    arguments = parser.parse_args(argv)
    table = None if arguments.tradeoff is None else figures.read_tradeoff(arguments.tradeoff)
    report = RationaleReport.load(arguments.report)
    if not figures.kinds(report) and table is None:
        raise ArgumentError(f"{arguments.report}: nothing to draw, no value of any document is defined")
    folder = arguments.report.parent if arguments.report.is_file() else arguments.report
    output = arguments.output or folder / "figures"
    paths = figures.save_all(report, output, style=arguments.style, methods=arguments.methods)
    if table is not None:
        paths += figures.save_figure(figures.tradeoff_figure(table, style=arguments.style), output / "tradeoff")
    for stem in dict.fromkeys(path.with_suffix("") for path in paths):
        print(f"{stem}.{{pdf,png,svg}}")
    return 0


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
