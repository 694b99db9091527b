"""The evaluation that the Corpus view starts, as a process: `python -m app.work.evaluation`.

As `python -m analysis.rationale_eval`, with one difference for a page whose reports are handed on: the report names
checkpoint and corpus as the menus do, without a path of the server. The folder is written whole or not at all.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapler.devices import DTYPES
from adapler.errors import ArgumentError, CommandParser, run_command
from analysis.rationale_eval import evaluate
from analysis.report import RationaleReport
from app.sources.loading import public_name


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    parser = CommandParser(prog="python -m app.work.evaluation", description=__doc__)
    for name in ("--adapler", "--data", "--output"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--checkpoint", "--corpus", "--split"):
        parser.add_argument(name, required=True)
    parser.add_argument("--threshold-scale", type=float, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args(argv)
    if asked.output.exists():
        raise ArgumentError(f"--output: {asked.output.name} is there already")
    report = evaluate(
        adapler=asked.adapler,
        data=asked.data,
        split=asked.split,
        threshold_scale=asked.threshold_scale,
        dtype=asked.dtype,
        limit=asked.limit,
        cache=True,
    )
    adapler, data = public_name(asked.adapler, asked.checkpoint), public_name(asked.data, asked.corpus)
    command = ["python", "-m", "analysis.rationale_eval", "--adapler", adapler, "--data", data, "--split", asked.split]
    command += ["--threshold-scale", f"{asked.threshold_scale:g}"]
    command += [] if report.meta["dtype"] == "float32" else ["--dtype", report.meta["dtype"]]
    command += [] if asked.limit is None else ["--limit", str(asked.limit)]
    names = {"adapler": adapler, "model": f"backbone of {adapler}", "command": shlex.join(command)}
    _save(replace(report, meta={**report.meta, **names}), asked.output)
    return 0


def _save(report: RationaleReport, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=output.parent) as folder:
        report.save(Path(folder) / "report", progress=True)
        (Path(folder) / "report").rename(output)


if __name__ == "__main__":
    sys.exit(run_command(main))
