"""A report that can be printed, drawn and saved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from adapler.errors import ArgumentError, counted
from analysis import figures
from analysis.metrics.statistics import merge_runs
from analysis.output import markup
from analysis.output.html import page, summary_table
from analysis.results.report import ReportData, write_text

__all__ = ["RationaleReport"]

# settings without which two runs are not the same evaluation, beside those that every report has
OF_EVALUATION = (
    *("limit", "annotators", "queries", "threshold_scale", "faithfulness_variant", "faithfulness_layers"),
    "selection",  # how many tokens or words the metrics at a density take
)


PAGE = "report.html"


class RationaleReport(ReportData):
    """What `analysis.rationale_eval.evaluate` returns: the data, and its tables, figures and pages."""

    @classmethod
    def of(cls, data: ReportData) -> RationaleReport:
        """The same results, with tables and figures."""
        return cls(
            methods=data.methods,
            metrics=data.metrics,
            documents=data.documents,
            values=data.values,
            meta=data.meta,
            examples=data.examples,
            curves=data.curves,
            curve_errors=data.curve_errors,
            correlations=data.correlations,
            run_facts=data.run_facts,
        )

    @staticmethod
    def merge(reports: Iterable[ReportData], *, names: Sequence[str] = ()) -> pd.DataFrame:
        """Several runs of the same evaluation, one a seed or checkpoint: `comparison.merge_runs` of their summaries.

        Columns method, layer, metric, mean, sd (over the runs, n - 1), min, max, runs. Raises ArgumentError for
        reports of other data, split, documents, tokens, policy, protocol, aggregation, metrics, dtype or one of
        OF_EVALUATION than the first one's (threshold scales may differ where one `speedup` chose them), and for a
        method that has nothing for other documents than there (saved scores need not have all); names: of the reports,
        for its message.
        """
        reports = list(reports)
        for number, report in enumerate(reports[1:], start=1):
            if why := _difference(reports[0], report):
                which = f" {names[0]} and {names[number]}:" if names else ""
                raise ArgumentError(f"reports:{which} {why}; such runs cannot be merged")
        return merge_runs([report.summary() for report in reports])

    def _repr_html_(self) -> str:
        """In a notebook: the first metrics' tables, and what they were computed from."""
        return summary_table(self)

    def to_latex(self, path: str | Path | None = None, *, metrics: Sequence[str] | str | None = None) -> str:
        """Method x layer as a table, one block a metric, ready to paste; needs the package booktabs."""
        return write_text(markup.latex(self, metrics), path)

    def to_markdown(self, path: str | Path | None = None, *, metrics: Sequence[str] | str | None = None) -> str:
        """Method x layer as Markdown, one table a metric."""
        return write_text(markup.markdown(self, metrics), path)

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one page that needs no other file, no script and no network."""
        return write_text(page(self), path)

    def figure(self, kind: str = "agreement", **options: Any) -> Figure:
        """The figure of that kind, see `analysis.figures`: `report.figure("agreement", panels=("fpr", "tpr"))`."""
        return figures.draw(self, kind, **options)

    def save(self, directory: str | Path, *, progress: bool = False, draw: bool = True) -> list[Path]:
        """Write report.json, layers.csv, documents.parquet, table.tex, table.md, report.html and figures/.

        progress: whether bars tell how far it is. draw: whether figures are drawn, which takes most of the time;
        without them there is no report.html either, which holds them. Files that another report left of these, and
        figures that this one has none of (of a further example, of an AdapLeR model), are removed.
        """
        folder = Path(directory)
        track = partial(tqdm, disable=not progress)
        files = list(WRITERS)
        for name in track(files, desc="writing the report", unit="file"):
            WRITERS[name](self, folder / name)
        (folder / PAGE).unlink(missing_ok=True)  # another report's, should this one not come to its end
        track = partial(track, desc="drawing the figures", unit="figure")
        drawn = figures.save_all(self, folder / FIGURES, track=track) if draw else []
        figures.remove_others(folder / FIGURES, drawn)
        if draw:
            texts = [(path.stem, path.read_text("utf-8")) for path in drawn if path.suffix == ".svg"]
            # the first figure of a kind that has one for each example
            write_text(page(self, {re.sub(r"-\d+$", "", stem): text for stem, text in reversed(texts)}), folder / PAGE)
            files.append(PAGE)
        return [folder / name for name in files] + drawn


WRITERS: dict[str, Callable[[RationaleReport, Path], object]] = {  # the files of a saved report, beside its page
    "report.json": RationaleReport.to_json,
    "layers.csv": RationaleReport.to_csv,
    "documents.parquet": RationaleReport.to_parquet,
    "table.tex": RationaleReport.to_latex,
    "table.md": RationaleReport.to_markdown,
}
FIGURES = "figures"  # and the folder of its figures


def _difference(one: ReportData, other: ReportData) -> str | None:
    """Why two reports are not of the same evaluation; None if they are."""
    speedups = [report.meta.get("asked_speedup") for report in (one, other)]
    at_one_speed = speedups[0] is not None and speedups[0] == speedups[1]  # each model has a scale of its own for it
    for name in ("data", "split", "policy", "protocol", "aggregation", "max_length", *OF_EVALUATION):
        ours, theirs = one.meta.get(name), other.meta.get(name)
        said = name not in OF_EVALUATION or (name in one.meta and name in other.meta)  # older reports do not say all
        if said and ours != theirs and not (name == "threshold_scale" and at_one_speed):
            return f"{name} differs, {ours!r} and {theirs!r}"
    formats = [report.meta.get("dtype", "float32") for report in (one, other)]  # older ones do not say it
    if formats[0] != formats[1]:
        return f"dtype differs, {formats[0]} and {formats[1]}"
    sizes = {document.id: (document.tokens, document.rationale_tokens) for document in one.documents}
    if {document.id for document in other.documents} != set(sizes):
        return "the documents differ (with --limit each seed draws its own)"
    changed = [each.id for each in other.documents if (each.tokens, each.rationale_tokens) != sizes[each.id]]
    if changed:  # another tokenizer, or what another version of it does
        return f"{changed[0]} has other tokens ({len(changed)} of {counted(len(sizes), 'document')} have)"
    if other.metrics != one.metrics or other.n_layers != one.n_layers:
        return "metrics or layers differ"
    for method in [name for name in one.methods if name in other.methods]:
        if differing := sorted(_without(one, method) ^ _without(other, method)):
            number = counted(len(differing), "such document")
            return f"{method} has no value for {differing[0]} in one of them, and some in the other ({number})"
    return None


def _without(report: ReportData, method: str) -> set[str]:
    """The documents of which a method has no value in any metric and layer."""
    values = report.values[report.methods.index(method)]  # (L, D, K)
    empty = np.isnan(values).all(axis=(0, 2)).tolist()
    return {document.id for document, nothing in zip(report.documents, empty, strict=True) if nothing}
