"""The command `python -m analysis.figures`: all figures of a report, again, at the widths of a venue."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapler.options import option, parse, user_errors
from analysis import figures
from analysis.figures import curves
from analysis.report import RationaleReport


@dataclass
class Options:
    """Draw all figures of a report as PDF (fonts embedded), PNG (300 dpi) and SVG."""

    report: str = option("output folder of analysis.rationale_eval", basic=True)
    style: Literal["acl", "neurips"] = option("widths", default="acl", basic=True)
    output: str | None = option("folder; default: REPORT/figures", default=None, basic=True)
    methods: list[str] | None = option("those to draw; default: all", default=None, basic=True)
    tradeoff: str | None = option("also accuracy against speedup, of this tradeoff.csv", default=None, basic=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    example = "python -m analysis.figures reports/sample-test --style acl --tradeoff runs/tradeoff.csv"
    given = parse(Options, argv, prog="python -m analysis.figures", positional="report", example=example)
    table = None if given.tradeoff is None else curves.read_tradeoff(given.tradeoff)
    report, folder = RationaleReport.load(given.report), Path(given.report)
    output = Path(given.output or (folder.parent if folder.is_file() else folder) / "figures")
    paths = figures.save_all(report, output, style=given.style, methods=given.methods)
    if table is not None:
        paths += figures.save_figure(curves.tradeoff_figure(table, style=given.style), output / "tradeoff")
    for stem in dict.fromkeys(path.with_suffix("") for path in paths):
        print(f"{stem}.{{pdf,png,svg}}")
    return 0


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
