"""A report that can be printed, drawn and saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from adapler.errors import ArgumentError
from analysis import figures
from analysis.metrics.comparison import merge_runs
from analysis.output import markup
from analysis.output.html import page, summary_table
from analysis.results.report import ReportData, write_text

__all__ = ["RationaleReport"]

# settings without which two runs are not the same evaluation, beside those that every report has
OF_EVALUATION = (
    *("limit", "annotators", "queries", "threshold_scale", "faithfulness_variant", "faithfulness_layers"),
    "selection",  # how many tokens or words the metrics at a density take
)


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
    def merge(reports: Sequence[ReportData]) -> pd.DataFrame:
        """Several runs of the same evaluation, one a seed or checkpoint: `statistics.merge_runs` of their summaries.

        Columns method, layer, metric, mean, sd (over the runs, n - 1), min, max, runs. Raises ArgumentError for
        reports of other data, split, documents, tokens, policy, protocol, aggregation, metrics, dtype or one of
        OF_EVALUATION than the first one's.
        """
        for report in reports[1:]:
            for name in ("data", "split", "policy", "protocol", "aggregation", "max_length"):
                ours, theirs = reports[0].meta.get(name), report.meta.get(name)
                if ours != theirs:
                    raise ArgumentError(f"reports: {name} differs, {ours!r} and {theirs!r}; such runs cannot be merged")
            for name in OF_EVALUATION:  # older reports do not say all of them
                ours, theirs = reports[0].meta.get(name), report.meta.get(name)
                if name in reports[0].meta and name in report.meta and ours != theirs:
                    raise ArgumentError(f"reports: {name} differs, {ours!r} and {theirs!r}; such runs cannot be merged")
            formats = [one.meta.get("dtype", "float32") for one in (reports[0], report)]  # older ones do not say it
            if formats[0] != formats[1]:
                raise ArgumentError(
                    f"reports: dtype differs, {formats[0]} and {formats[1]}; such runs cannot be merged"
                )
            if {one.id for one in report.documents} != {one.id for one in reports[0].documents}:
                raise ArgumentError(
                    "reports: the documents differ (with --limit each seed draws its own); such runs cannot be merged"
                )
            sizes = {one.id: (one.tokens, one.rationale_tokens) for one in reports[0].documents}
            other = [one.id for one in report.documents if (one.tokens, one.rationale_tokens) != sizes[one.id]]
            if other:  # another tokenizer, or what another version of it does
                share = f"{len(other)} of {len(sizes)} documents have"
                raise ArgumentError(f"reports: {other[0]} has other tokens ({share}); such runs cannot be merged")
            if report.metrics != reports[0].metrics or report.n_layers != reports[0].n_layers:
                raise ArgumentError("reports: metrics or layers differ; such runs cannot be merged")
        return merge_runs([report.summary() for report in reports])

    def _repr_html_(self) -> str:
        """In a notebook: the first metrics' tables, and what they were computed from."""
        return summary_table(self)

    def to_latex(self, path: str | Path | None = None, *, metrics: tuple[str, ...] | None = None) -> str:
        """Method x layer as a table, one block a metric, ready to paste; needs the package booktabs."""
        return write_text(markup.latex(self, metrics), path)

    def to_markdown(self, path: str | Path | None = None, *, metrics: tuple[str, ...] | None = None) -> str:
        """Method x layer as Markdown, one table a metric."""
        return write_text(markup.markdown(self, metrics), path)

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one page that needs no other file, no script and no network."""
        return write_text(page(self), path)

    def figure(self, kind: str = "agreement", **options: Any) -> Figure:
        """The figure of that kind, see `analysis.figures`: `report.figure("agreement", panels=("fpr", "tpr"))`."""
        return figures.draw(self, kind, **options)

    def save(self, directory: str | Path, *, progress: bool = False) -> list[Path]:
        """Write report.json, layers.csv, documents.parquet, table.tex, table.md, report.html and figures/.

        progress: whether bars tell how far it is; drawing takes most of the time. Figures that another report left in
        figures/, and that this one has none of (of a further example, of an AdapLeR model), are removed.
        """
        folder = Path(directory)
        writers: dict[str, Callable[[Path], object]] = {
            "report.json": self.to_json,
            "layers.csv": self.to_csv,
            "documents.parquet": self.to_parquet,
            "table.tex": self.to_latex,
            "table.md": self.to_markdown,
            "report.html": self.to_html,
        }
        track = partial(tqdm, disable=not progress)
        for name in track(list(writers), desc="writing the report", unit="file"):
            writers[name](folder / name)
        track = partial(track, desc="drawing the figures", unit="figure")
        drawn = figures.save_all(self, folder / "figures", track=track)
        figures.remove_others(folder / "figures", drawn)
        return [folder / name for name in writers] + drawn
