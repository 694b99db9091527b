"""A report that can be printed, drawn and saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from analysis import figures
from analysis.output import markup
from analysis.output.html import page
from analysis.results.report import ReportData, write_text

__all__ = ["RationaleReport"]


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
            correlations=data.correlations,
            run_facts=data.run_facts,
        )

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

    def save(self, directory: str | Path) -> list[Path]:
        """Write report.json, layers.csv, documents.parquet, table.tex, table.md, report.html and figures/."""
        folder = Path(directory)
        writers: dict[str, Callable[[Path], object]] = {
            "report.json": self.to_json,
            "layers.csv": self.to_csv,
            "documents.parquet": self.to_parquet,
            "table.tex": self.to_latex,
            "table.md": self.to_markdown,
            "report.html": self.to_html,
        }
        for name, write in writers.items():
            write(folder / name)
        return [folder / name for name in writers] + figures.save_all(self, folder / "figures")
