"""The command `python -m analysis.results.recompute`: published intervals and tests, computed again from the documents.

It reads the `documents.parquet` of a report (or its `report.json`) and compares with the `layers.csv` beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from adapler.errors import ArgumentError, CommandParser, DataError, counted, run_command
from analysis.results.report import ReportData
from analysis.results.wording import number, reference_among

CELL = ["method", "layer", "metric"]
NUMBERS = ["mean", "low", "high", "n"]
TOLERANCE = 1e-6

EXAMPLE = """examples:
  python -m analysis.results.recompute results/movies-minilm/truncate
  python -m analysis.results.recompute results/movies-minilm/truncate --method saliency --layer 3 --metric fpr
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = CommandParser(
        prog="python -m analysis.results.recompute",
        description="Compute the intervals of layers.csv again from the values of every document, and compare.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("report", metavar="DIR", help="a folder with documents.parquet or report.json, and layers.csv")
    parser.add_argument("--method", metavar="NAME", help="print this method's cell and its test instead of comparing")
    parser.add_argument("--layer", type=int, help="of that cell (default: 0)")
    parser.add_argument("--metric", metavar="NAME", help="of that cell (default: average_precision)")
    parser.add_argument(
        "--reference", metavar="NAME", help="the other side of the test (default: cp, or else policy, if it is there)"
    )
    return parser


def read_values(folder: str | Path) -> ReportData:
    """The values of every document: of documents.parquet if it is there, else of report.json."""
    small, whole = Path(folder) / "documents.parquet", Path(folder) / "report.json"
    if not small.is_file() and not whole.is_file():
        raise DataError(f"{folder}: holds neither documents.parquet nor report.json")
    return ReportData.from_parquet(small) if small.is_file() else ReportData.from_json(whole)


def differences(report: ReportData, published: pd.DataFrame) -> pd.DataFrame:
    """The cells of `published` (the columns of layers.csv) that differ from the report's by more than TOLERANCE.

    Both sides' numbers stand side by side (mean, mean_again, ...); a cell that one side lacks differs, too.
    """
    again = report.summary()[[*CELL, *NUMBERS]]
    both = published[[*CELL, *NUMBERS]].merge(again, on=CELL, how="outer", suffixes=("", "_again"), indicator=True)
    wrong = (both["_merge"] != "both").to_numpy()
    for name in NUMBERS:
        ours, theirs = both[name].to_numpy(dtype=float), both[f"{name}_again"].to_numpy(dtype=float)
        wrong = wrong | ~np.isclose(ours, theirs, rtol=0, atol=TOLERANCE, equal_nan=True)
    return both[wrong].drop(columns="_merge").reset_index(drop=True)


def read_published(path: Path) -> pd.DataFrame:
    """layers.csv.

    Raises DataError for a file that cannot be read, lacks a column, has something else than a number where one must be
    (an empty field is a number that is not defined), or has a cell twice.
    """
    try:
        # a method may be called NA; only an empty field is no number
        table = pd.read_csv(path, dtype={"method": str, "metric": str}, keep_default_na=False, na_values=[""])
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error
    if missing := [name for name in (*CELL, *NUMBERS) if name not in table.columns]:
        raise DataError(f"{path}: no column {', '.join(missing)}")
    for name in ("layer", *NUMBERS):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = numbers.isna() if name == "layer" else numbers.isna() & table[name].notna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            found = "nothing" if pd.isna(table[name][row]) else repr(table[name][row])
            raise DataError(f"{path}:{row + 2}: column {name}: must be a number, found {found}")
    if (again := table.duplicated(CELL)).any():
        row = int(again.to_numpy().argmax())
        method, layer, metric = table.loc[row, CELL]
        raise DataError(f"{path}:{row + 2}: method {method}, layer {layer}, metric {metric} comes twice")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 when a published number is not what the documents give. Errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    folder = Path(arguments.report)
    if arguments.method is None:
        for name in ("layer", "metric", "reference"):
            if getattr(arguments, name) is not None:
                raise ArgumentError(
                    f"--{name}: is of one cell, name its --method; without, all of layers.csv is compared"
                )
    report = read_values(folder)
    if arguments.method is not None:
        layer, metric = arguments.layer or 0, arguments.metric or "average_precision"
        print("\n".join(_cell(report, arguments.method, layer, metric, arguments.reference)))
        return 0
    published = read_published(folder / "layers.csv")
    wrong = differences(report, published)
    if wrong.empty:
        documents = counted(len(report.documents), "document")
        print(f"{folder}: all {len(published)} cells of layers.csv follow from {documents}")
        return 0
    print(f"{folder}: {len(wrong)} of {len(published)} cells of layers.csv do not follow from the documents, such as")
    print(wrong.head(10).to_string(index=False))
    return 1


def _cell(report: ReportData, method: str, layer: int, metric: str, reference: str | None) -> list[str]:
    if reference is not None and reference not in report.methods:
        raise ArgumentError(f"--reference: got {reference!r}, the report has {', '.join(report.methods)}")
    reference = reference or reference_among(report.methods)
    for name, value, there in (("method", method, report.methods), ("metric", metric, report.metrics)):
        if value not in there:
            raise ArgumentError(f"--{name}: got {value!r}, the report has {', '.join(there)}")
    summary = report.summary()
    found = summary[(summary["method"] == method) & (summary["layer"] == layer) & (summary["metric"] == metric)]
    if found.empty:
        layers = f"0 to {report.n_layers - 1}" if report.is_layerwise(method) else "0 only, it is at the input"
        raise ArgumentError(f"--layer: got {layer}, {method!r} has {layers}")
    cell = found.iloc[0]
    lines = [
        f"{method}, layer {layer}, {metric}: mean {number(cell['mean'])}, 95 % interval {number(cell['low'])} to "
        f"{number(cell['high'])}, {counted(cell['n'], 'document')}"
    ]
    if reference is not None and method != reference:
        tests = report.comparisons(reference, metric)
        row = tests[(tests["method"] == method) & (tests["layer"] == layer)]
        if not row.empty:
            test = row.iloc[0]
            lines.append(
                f"{reference} minus {method}: {number(test['difference'])}, {number(test['low'])} to "
                f"{number(test['high'])}; p {test['p']:.3g}, Holm-adjusted {test['p_holm']:.3g}"
            )
    return lines


if __name__ == "__main__":
    sys.exit(run_command(main))
