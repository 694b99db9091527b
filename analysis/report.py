"""The result of an evaluation: a tidy frame of values, a `meta` dict, and tables, figures and files made of them.

    frame   document, method, layer, unit, metric, value: one value a row, undefined ones left out
    meta    plain JSON: models, data, settings, documents, examples, curves, ...

M methods, L layers, D documents, K metrics
"""

from __future__ import annotations

import json
import math
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap
from tqdm import tqdm

from adapler.errors import ArgumentError, DataError
from adapler.options import counted
from adapler.system import replacing
from analysis import figures
from analysis.figures.paper import HOLM_FAMILY, higher_is_better, judges_rationales, metric_title, number
from analysis.figures.tokens import OF_REMOVAL, DocumentScores
from analysis.metrics.plausibility import metric_names
from analysis.page import report_page, summary_tables

SCHEMA = {"schema": "adapler.rationale-report", "schema_version": 3}
COLUMNS = ("document", "method", "layer", "unit", "metric", "value")
RESAMPLES = 5000
LEVEL = 0.95
SIGN_FLIPS = 9999
FEW = 20  # documents: below, a bootstrap interval covers the mean less often than it says
_CHUNK = 2_000_000  # signs in memory at once
_DRAWS = 8_000_000  # resampled values in memory at once
SIGNIFICANT = 0.05  # of Holm-adjusted p
WIDEST = 120  # columns of a terminal, for two tables side by side
# One of a pair alone says nothing: a method that selects no token has a perfect FPR, so none of them is marked best
HALF_METRICS = ("fpr", "tpr", "precision", "recall")
AT_EQUAL_FPR = "tpr_at_fpr_"  # here the other half is the same for all methods
ERASER = "ERASER's own scores, over all annotated documents, also those without a rationale in view"
ERASER_SCORES: dict[str, tuple[str | int, ...]] = {
    "IOU F1 (macro)": ("iou_scores", 0, "macro", "f1"),
    "Token F1 (instance macro)": ("token_prf", "instance_macro", "f1"),
    "AUPRC": ("token_soft_metrics", "auprc"),
    "Average precision": ("token_soft_metrics", "average_precision"),
    "ROC-AUC": ("token_soft_metrics", "roc_auc_score"),
}
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "≥": r"$\geq$"}
LATEX |= {character: "\\" + character for character in "&%$#_{}"} | {"[": "{[}", "]": "{]}", "<": "$<$"}


@dataclass(frozen=True)
class Table:
    """One metric by method and layer, every array (methods, layers).

    low, high: None for scores without an interval; best: the best mean of its layer; differs: from the reference.
    """

    title: str
    methods: tuple[str, ...]
    mean: NDArray[np.float64]
    best: NDArray[np.bool_]
    differs: NDArray[np.bool_]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class RationaleReport:
    """Result of `analysis.rationale_eval.evaluate`: `frame` and `meta`, described at the top of this file.

    unit: index of the judged unit in its document (a window, where windows are judged one by one); a document's value
    is the mean over its units. run_facts: how much came out of the cache; never written.
    """

    frame: pd.DataFrame
    meta: dict[str, Any]
    run_facts: dict[str, Any] = field(default_factory=dict)

    # What the frame and meta hold

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.meta["methods"])

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.meta["metrics"])

    @property
    def n_layers(self) -> int:
        return int(self.meta["n_layers"])

    @cached_property
    def documents(self) -> pd.DataFrame:
        """One row per document: id, label, prediction, adapler_prediction, tokens, lengths, skipped, ..."""
        return pd.DataFrame(self.meta["documents"])

    @property
    def n_skipped(self) -> int:
        """Documents without metrics."""
        return sum(document["skipped"] is not None for document in self.meta["documents"])

    @property
    def n_scored(self) -> int:
        return len(self.meta["documents"]) - self.n_skipped

    @cached_property
    def examples(self) -> tuple[DocumentScores, ...]:
        """A few documents token by token."""
        return tuple(DocumentScores.from_dict(row) for row in self.meta.get("examples", ()))

    @cached_property
    def curves(self) -> Mapping[str, NDArray[np.float64]]:
        """method -> (L, 101) mean interpolated precision at the recalls 0, .01, ..., 1."""
        return {name: np.array(rows, dtype=float) for name, rows in self.meta.get("curves", {}).items()}

    @cached_property
    def curve_errors(self) -> Mapping[str, NDArray[np.float64]]:
        """method -> (L, 101) standard error of each of these means."""
        return {name: np.array(rows, dtype=float) for name, rows in self.meta.get("curve_errors", {}).items()}

    @cached_property
    def correlations(self) -> NDArray[np.float64] | None:
        """(L, M, M) mean over documents of Spearman's rho between two methods' scores; NaN: not defined."""
        rows = self.meta.get("correlations")
        return None if rows is None else np.array(rows, dtype=float)

    def title(self, method: str) -> str:
        """The method's name in figures and tables for print."""
        return str(self.meta.get("titles", {}).get(method, method))

    def is_layerwise(self, method: str) -> bool:
        """False for a method with a meaning at the input only, such as integrated gradients or a human."""
        return bool(self.meta.get("layerwise", {}).get(method, True))

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(M, L, D, K) a document's value of each metric; NaN where it is not defined."""
        names = [self.methods, range(self.n_layers), [one["id"] for one in self.meta["documents"]], self.metrics]
        index = pd.MultiIndex.from_product(names, names=["method", "layer", "document", "metric"])
        means = self.frame.groupby(index.names, sort=False, observed=True)["value"].mean()
        return np.asarray(means.reindex(index), dtype=np.float64).reshape([len(one) for one in names])

    def is_repeated(self, metric: str) -> bool:
        """Whether a metric at n = tokens present is that at n = tokens of the input, as are all such metrics: no method
        dropped tokens."""
        of = {name: self.values[..., k] for k, name in enumerate(self.metrics)}
        twins = {name: twin for name in of if (twin := name.removesuffix("_present")) != name and twin in of}
        return metric in twins and all(np.array_equal(of[a], of[b], equal_nan=True) for a, b in twins.items())

    # Means, intervals, tests

    def to_frame(self) -> pd.DataFrame:
        """One value per row: document, method, layer (from 0), unit, metric, value."""
        return self.frame.copy()

    def summary(self) -> pd.DataFrame:
        """One row per cell: method, layer (0 alone for a method with a meaning at the input only), metric, mean, low,
        high (95 % bootstrap of documents), n, skipped."""
        return self._summary.copy()

    @cached_property
    def _summary(self) -> pd.DataFrame:
        cells = self.values.transpose(0, 1, 3, 2)  # (M, L, K, D)
        intervals = bootstrap_intervals(cells, seed=int(self.meta.get("seed", 0)))
        names: list[Any] = [self.methods, range(self.n_layers), self.metrics]
        index = pd.MultiIndex.from_product(names, names=["method", "layer", "metric"])
        columns = {name: values.ravel() for name, values in intervals._asdict().items()}
        frame = pd.DataFrame(columns, index=index).reset_index()
        frame["skipped"] = len(self.meta["documents"]) - frame["n"]
        layerwise = frame["method"].map(self.is_layerwise).astype(bool)
        return frame[layerwise | (frame["layer"] == 0)].reset_index(drop=True)

    def comparisons(self, reference: str | None = None, metric: str = "average_precision") -> pd.DataFrame:
        """`compare` of `reference` (`cp`, or else `policy`) with every other method at each layer."""
        reference = reference or self._of_removal() or OF_REMOVAL[0]
        for kind, name, names in (("metric", metric, self.metrics), ("reference", reference, self.methods)):
            if name not in names:
                raise ArgumentError(f"{kind} {name!r} is not in the report, which has {', '.join(names)}")
        if (reference, metric) not in self._comparisons:
            at_input = [method for method in self.methods if not self.is_layerwise(method)]
            self._comparisons[reference, metric] = compare(
                self.values[..., self.metrics.index(metric)],  # (M, L, D)
                self.methods,
                reference=reference,
                higher_is_better=higher_is_better(metric),
                input_level=[reference] if reference in at_input else at_input,
                seed=int(self.meta.get("seed", 0)),
            )
        return self._comparisons[reference, metric].copy()

    @cached_property
    def _comparisons(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {}

    def _of_removal(self) -> str | None:
        return next((method for method in OF_REMOVAL if method in self.methods), None)

    @property
    def reference(self) -> str | None:
        """`cp`, or another policy's scores, where there is another method and more than one document to compare on."""
        return self._of_removal() if len(self.methods) > 1 and self.n_scored > 1 else None

    # Tables

    def main_metrics(self) -> tuple[str, ...]:
        """The metrics without the variants of a selection and the single bins of a faithfulness curve. FPR, TPR and J
        are shown with both n, of the input and present at the layer, where a method drops tokens."""

        def is_detail(metric: str) -> bool:
            if self.is_repeated(metric):
                return True
            if metric in ("fpr_present", "tpr_present", "j_present") or metric.startswith(AT_EQUAL_FPR):
                return False
            bin_of_a_curve = metric in metric_names("faithfulness") and metric.rpartition("_")[2].isdigit()
            return metric.endswith(("_present", "_content")) or bin_of_a_curve

        return tuple(metric for metric in self.metrics if not is_detail(metric)) or self.metrics

    def table(self, metric: str) -> Table:
        """Means by method and layer, with what is best and what differs from the reference."""
        if metric not in self.metrics:
            raise ArgumentError(f"metric {metric!r} is not in the report, which has {', '.join(self.metrics)}")
        chosen = self._summary[self._summary["metric"] == metric]

        def grid(frame: pd.DataFrame, column: str) -> Any:
            wide = frame.pivot(index="method", columns="layer", values=column)
            return wide.reindex(index=self.methods, columns=range(self.n_layers)).to_numpy()

        mean = grid(chosen, "mean")
        layerwise = np.array([[self.is_layerwise(method)] for method in self.methods])
        scored = np.array([[method.partition("(")[0] not in ("random", "human")] for method in self.methods])
        best = np.zeros(mean.shape, dtype=bool)
        if metric.partition("_")[0] not in HALF_METRICS or metric.startswith(AT_EQUAL_FPR):
            ranked = np.where(layerwise & scored, mean if higher_is_better(metric) else -mean, np.nan)
            best = ranked == np.fmax.reduce(ranked, axis=0, initial=-np.inf)
        differs = np.zeros(mean.shape, dtype=bool)
        if self.reference is not None:
            differs = layerwise & (grid(self.comparisons(self.reference, metric), "p_holm") < SIGNIFICANT)
        return Table(metric_title(metric), self.methods, mean, best, differs, grid(chosen, "low"), grid(chosen, "high"))

    def tables(self, metrics: Sequence[str] | str | None = None) -> list[Table]:
        """Tables of the given metrics; default: the main ones, and ERASER's own scores under `--protocol eraser`, which
        are no means of the documents' values."""
        if metrics is not None:
            return [self.table(metric) for metric in ([metrics] if isinstance(metrics, str) else metrics)]
        found: dict[str, list[Any]] = self.meta.get("eraser_scores") or {}
        official = []
        for title, path in ERASER_SCORES.items() if found else ():
            mean = np.full((len(found), self.n_layers), np.nan)
            for row, layers in enumerate(found.values()):
                mean[row, : len(layers)] = [_at(layer, path) for layer in layers]
            none = np.zeros(mean.shape, dtype=bool)
            official.append(Table(f"{ERASER}: {title}", tuple(found), mean, none, none))
        return [self.table(metric) for metric in self.main_metrics()] + official

    def _rows(
        self, table: Table, write: Callable[[float, bool, bool], str], at_input: str = " (input)"
    ) -> Iterator[tuple[str, list[str]]]:
        """(method, text of each layer's cell). write: of a mean, whether it is best and whether it differs; at_input:
        the mark of a method with a meaning at the input only, whose other cells are empty."""
        for row, method in enumerate(table.methods):
            columns = (column[row].tolist() for column in (table.mean, table.best, table.differs))
            cells = [write(*cell) for cell in zip(*columns, strict=True)]
            if not self.is_layerwise(method):
                cells = [cells[0] + at_input, *[""] * (self.n_layers - 1)]
            yield method, cells

    def text(self) -> str:
        """All tables for a terminal of 100 columns, and the reference minus each other method."""
        blocks = [_block(table.title, self._means(table)) for table in self.tables()]
        if said := self.scopes():
            blocks.append(textwrap.fill(said, width=100))
        if (reference := self.reference) is not None:
            for metric in self.main_metrics():
                tests = self.comparisons(reference, metric)
                tests["text"] = tests["difference"].map(number) + np.where(tests["p_holm"] < SIGNIFICANT, "*", " ")
                wide = tests.pivot(index="method", columns="layer", values="text")
                wide = wide.reindex(index=[one for one in self.methods if one != reference]).fillna("")
                blocks.append(_block(f"{metric_title(metric)}: {reference} minus the other method", wide))
            blocks.append(textwrap.fill(self.legend(), width=100))
        return "\n\n".join(blocks)

    def _means(self, table: Table) -> pd.DataFrame:
        """The table as text, with the mean over layers and, of average precision, its level by chance."""
        rows = {}
        for row, (method, cells) in enumerate(self._rows(table, lambda value, *_: number(value), "")):
            layered = self.is_layerwise(method) and self.n_layers > 1 and np.isfinite(table.mean[row]).any()
            over = number(np.nanmean(table.mean[row])) if layered else "-" if self.is_layerwise(method) else ""
            rows[method if self.is_layerwise(method) else f"{method} (input)"] = [*cells, over]
        if table.title == metric_title("average_precision"):
            rows["chance"] = [number(self.meta.get("chance_average_precision"))] * (self.n_layers + 1)
        return pd.DataFrame.from_dict(rows, orient="index", columns=[*map(str, range(self.n_layers)), "mean"])

    def screen(self) -> str:
        """Tables that fit a screen: average precision, with ROC-AUC beside it if the layers leave room, and one of a
        selection; the first main metric of a report without these."""
        names = [one for one in ("average_precision", "roc_auc", "j_present") if one in self.metrics]
        tables = [self.table(one) for one in names or self.main_metrics()[:1]]
        if names[:2] == ["average_precision", "roc_auc"]:
            frames = [self._means(table).drop(columns="mean") for table in tables[:2]]
            beside = pd.concat(frames, axis=1, keys=[table.title for table in tables[:2]]).fillna("")
            lines = [f"  {line.rstrip()}" for line in beside.to_string(line_width=WIDEST + 1).splitlines()]
            if len(lines) == len(beside) + 2:  # else pandas has folded them
                return "\n".join(lines) + "".join(f"\n\n{_block(one.title, self._means(one))}" for one in tables[2:])
        return "\n\n".join(_block(table.title, self._means(table)) for table in tables)

    def to_markdown(self, path: str | Path | None = None, *, metrics: Sequence[str] | str | None = None) -> str:
        """Method x layer as Markdown, one table a metric, the best of a layer in bold."""

        def write(value: float, best: bool, differs: bool) -> str:
            return (f"**{number(value)}**" if best else number(value)) + r"\*" * differs

        tables = self.tables(metrics)
        lines = [_markdown(part) + "\n" for part in (self.note(), self.legend(tables), self.scopes()) if part]
        for table in tables:
            heads = " | ".join(map(str, range(self.n_layers)))
            lines.append(f"**{table.title}**\n\n| layer | {heads} |\n|---|{'---:|' * self.n_layers}")
            lines += [f"| {_markdown(method)} | {' | '.join(cells)} |" for method, cells in self._rows(table, write)]
            lines.append("")
        return write_text("\n".join(lines), path)

    def to_latex(self, path: str | Path | None = None, *, metrics: Sequence[str] | str | None = None) -> str:
        """Method x layer as LaTeX, a `table*` a metric, ready to paste; needs the package booktabs."""
        tables, name = self.tables(metrics), f"{self.meta['data']['name']}-{self.meta['split']}"
        slug = "".join(character if character.isascii() and character.isalnum() else "-" for character in name)
        decimals = 3 if self.n_layers <= 12 else 2
        size = r"\centering\small" if decimals == 3 else r"\centering\scriptsize\setlength{\tabcolsep}{2.5pt}"
        said = " ".join(part for part in ("", self.note(), self.scopes(), self.legend(tables)) if part)

        def write(value: float, best: bool, differs: bool) -> str:
            text = number(value, decimals)
            if text == "-":
                return "--"
            # \rlap: a star takes no room, so that the digits of a column stay under each other
            return (rf"$\mathbf{{{text}}}$" if best else f"${text}$") + r"\rlap{$^*$}" * differs

        parts = []
        for index, table in enumerate(tables):
            frame = pd.DataFrame([cells for _, cells in self._rows(table, write)])
            frame.index = pd.Index([latex_escape(self.title(method)) for method in table.methods])
            rest = f", as Table~\\ref{{tab:{slug}-1}}." if index else latex_escape(f". {said}")
            layout: dict[str, Any] = {"column_format": f"l{'r' * self.n_layers}", "position": "t", "escape": False}
            made = frame.to_latex(caption=latex_escape(table.title) + rest, label=f"tab:{slug}-{index + 1}", **layout)
            parts.append(made.replace("{table}", "{table*}").replace("[t]", f"[t]\n{size}", 1))
        return write_text("\n".join(parts), path)

    def to_html(self, path: str | Path | None = None, *, drawn: Mapping[str, str] | None = None) -> str:
        """The report as one page that needs no other file. drawn: SVG text of figures by kind, as far as drawn."""
        return write_text(report_page(self, drawn or {}), path)

    def figure(self, kind: str = "agreement", **options: Any) -> Figure:
        """The figure of that kind, see `analysis.figures`: `report.figure("agreement", panels=("fpr", "tpr"))`."""
        return figures.draw(self, kind, **options)

    def legend(self, tables: Sequence[Table] = ()) -> str:
        """Meaning of stars, and of bold print if a table has any."""
        said = ["Bold: best of a layer."] if any(table.best.any() for table in tables) else []
        if self.reference is not None:
            test = f"p < .05, paired permutation test over documents, {HOLM_FAMILY}"
            said.append(f"* differs from {self.title(self.reference)} at the same layer: {test}.")
        return " ".join(said)

    def scopes(self) -> str:
        """One sentence on what "per layer" means for each method."""
        known: dict[str, list[str]] = {}
        for method, scope in self.meta.get("scopes", {}).items():
            known.setdefault(scope, []).append(self.title(method))
        said = "; ".join(f"{', '.join(names)}: {scope}" for scope, names in known.items())
        return f"Scope of a score at one layer: {said}." if said else ""

    def note(self) -> str:
        """Notes on the data that a reader of the numbers must know."""
        meta, total = self.meta, len(self.meta["documents"])
        by_words = meta.get("tokens") == "words"
        what, judged = "Scores by layer", ""
        if judges_rationales(self.metrics):
            what = "Agreement with human rationales by layer"
            chance = number(meta.get("chance_average_precision"))
            judged = f"; rationale density {number(meta.get('density'))}, average precision at chance {chance}"
        parts = [
            f"{what} (0 = first): {meta['data']['name']}",
            str(meta["split"]),
            f"{counted(self.n_scored, 'document')} ({self.n_skipped} skipped)",
            "whole documents" if by_words else f"{meta['max_length']} wordpieces",
            "tokens are words" if by_words else f"truncation {meta['truncation']}",
        ]
        parts += [f"{k} {meta[k]}" for k in ("aggregation", "protocol") if meta.get(k) not in (None, "none")]
        if (people := meta.get("people")) and people["rule"] != "auto":
            parts.append(f"annotators {people['rule']}")
        if meta.get("speedup") is not None and meta.get("threshold_scale", 1) != 1:
            parts.append(f"AdapLeR at threshold scale {meta['threshold_scale']:.4g}")
        if meta.get("dtype", "float32") != "float32":
            parts.append(f"computed in {meta['dtype']}")
        of_all = f"of {counted(total, 'document')}"
        said = [f"{self.title(name)} has nothing for {n} {of_all}" for name, n in meta.get("missing", {}).items() if n]
        said += [f"{remark[:1].upper()}{remark[1:]}" for remark in meta.get("notes", ())]
        return ", ".join(parts) + judged + "." + "".join(f" {one}." for one in said)

    # Files

    def to_json(self, path: str | Path | None = None) -> str:
        """`meta` and the summary; together with `documents.parquet` nothing is lost. NaN is null."""
        summary = self._summary.to_dict("records")
        return write_text(json_text({**SCHEMA, "meta": self.meta, "summary": summary}), path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The summary as CSV: method, layer, metric, mean, low, high, n, skipped."""
        return write_text(self._summary.to_csv(index=False, lineterminator="\n"), path)

    def to_parquet(self, path: str | Path) -> None:
        """The frame."""
        with replacing(Path(path)) as temporary:
            self.frame.to_parquet(temporary, index=False, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> RationaleReport:
        """The report in a folder that `save` wrote, or of that report.json. Raises DataError for another version."""
        file = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if {name: content.get(name) for name in SCHEMA} != SCHEMA:
                version = content.get("schema_version")
                raise DataError(f"{file}: schema version {version}, this version of analysis reads {SCHEMA}")
            frame = pd.read_parquet(file.with_name("documents.parquet"), columns=list(COLUMNS))
        except (OSError, ValueError, AttributeError) as error:  # JSON's and pyarrow's errors are ValueErrors
            raise DataError(f"{file}: no report of analysis.rationale_eval ({error})") from error
        return cls(frame, content["meta"])

    def save(self, directory: str | Path, *, progress: bool = False, draw: bool = True) -> list[Path]:
        """Write report.json, layers.csv, documents.parquet, table.tex, table.md, and with `draw` report.html and
        figures/, which take most of the time. progress: show a bar."""
        names = ("report.json", "layers.csv", "documents.parquet", "table.tex", "table.md", "report.html")
        *paths, page = [Path(directory) / name for name in names]
        self.to_json(paths[0])
        self.to_csv(paths[1])
        self.to_parquet(paths[2])
        self.to_latex(paths[3])
        self.to_markdown(paths[4])
        page.unlink(missing_ok=True)  # another report's
        if not draw:
            return paths
        track = partial(tqdm, disable=not progress, desc="drawing the figures", unit="figure")
        drawn = figures.save_all(self, page.with_name("figures"), track=track)
        self.to_html(page, drawn={one.stem: one.read_text("utf-8") for one in drawn if one.suffix == ".svg"})
        return [*paths, page, *drawn]

    def __repr__(self) -> str:
        data = f"{self.meta['data']['name']} {self.meta['split']}"
        said = f"{data}, {counted(self.n_scored, 'document')} scored, {self.n_skipped} skipped"
        names = f"methods {', '.join(self.methods)}; metrics {', '.join(self.main_metrics())}"
        return f"<RationaleReport: {said}, {counted(self.n_layers, 'layer')}\n  {names}>"

    def _repr_html_(self) -> str:
        """In a notebook: the first two metrics' tables."""
        return summary_tables(self)


# Means over documents: intervals and paired tests


class Intervals(NamedTuple):
    """mean, low, high: (...,) float64, NaN where no document is defined; n: (...,) documents behind them."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.int64]


def bootstrap_intervals(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Intervals:
    """95 % bootstrap interval of the mean over the last axis, the documents: BCa (Efron, 1987).

    values: (..., D); a NaN is left out of its cell. Cells defined on the same documents share the resamples, so that
    they can be compared pairwise. With one document, or when all values are the same, the interval is the mean itself.
    """
    array = np.asarray(values, dtype=np.float64)
    cells = array.reshape(-1, array.shape[-1])  # (C, D)
    found = np.full((3, len(cells)), np.nan)  # mean, low, high
    for rows, columns in _patterns(cells):
        step = max(1, _DRAWS // (resamples * len(columns)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            sample = cells[np.ix_(part, columns)]
            found[:, part] = sample.mean(1)
            varied = np.ptp(sample, axis=1) > 0
            if varied.any():
                found[1:, part[varied]] = _bca(sample[varied], resamples, seed)
    mean, low, high = found.reshape(3, *array.shape[:-1])
    return Intervals(mean, low, high, (~np.isnan(array)).sum(-1, dtype=np.int64))


def _bca(sample: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """(2, rows) limits for a sample (rows, n) without NaN."""

    def mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(np.round(values.mean(axis), 12))  # BCa counts ties, which the last digits are not

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows without a BCa interval; they are NaN and dealt with below
        result = bootstrap(
            (sample,),
            mean,
            n_resamples=resamples,
            confidence_level=LEVEL,
            batch=max(1, _DRAWS // sample.size),  # of resamples, and of the jackknife's n samples of n - 1
            rng=np.random.default_rng(seed),
            axis=-1,
        )
    found = np.stack([result.confidence_interval.low, result.confidence_interval.high])
    # so few different values that no resample lies on one side of the mean: the percentile interval still exists
    percentiles = np.quantile(result.bootstrap_distribution, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=-1)
    return np.where(np.isnan(found).any(0), percentiles, found)


def _patterns(cells: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows, columns) of the cells (C, D) that are defined on the same documents, if on any."""
    patterns, group = np.unique(~np.isnan(cells), axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        if pattern.any():
            yield np.flatnonzero(group.reshape(-1) == index), np.flatnonzero(pattern)


def few_documents(n: int) -> str | None:
    """A warning for fewer than FEW documents, whose intervals are too narrow: by simulation, a 95 % interval of 6
    documents holds the true mean in about 85 of 100 cases, of 10 in about 92."""
    if n == 1:
        return "1 document has no interval: the limits that are given are its own value"
    too_narrow = f"(fewer than {FEW}) are too narrow: read them as a lower bound of the uncertainty"
    return f"intervals of {n} documents {too_narrow}" if n < FEW else None


def paired_permutation_test(
    a: ArrayLike, b: ArrayLike, *, resamples: int = SIGN_FLIPS, seed: int = 0
) -> NDArray[np.float64]:
    """(...,) two-sided p of the mean difference of pairs, by flipping their signs (Fisher, 1935).

        p = P(|mean of s_i · (a_i - b_i)| >= |mean of (a_i - b_i)|),     s_i = -1 or 1 with equal chance

    a, b: (..., D), the same documents in the same order; a pair with a NaN is left out. Exact, over all 2^n sign
    vectors, when there are at most resamples + 1 of them; otherwise `resamples` random ones and the observed one
    itself, so p is never 0. NaN without a pair. Sharing signs makes this 25 times as fast as scipy's, of the same p.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ArgumentError(f"a, b: got shapes {first.shape} and {second.shape}, must be equal, documents last")
    cells = (first - second).reshape(-1, first.shape[-1])  # (C, D)
    p = np.full(len(cells), np.nan)
    for rows, columns in _patterns(cells):
        n = len(columns)
        chosen = cells[np.ix_(rows, columns)]  # (rows, n)
        exact = 2**n <= resamples + 1
        # sums of the same numbers in another order differ in the last bits: those are ties
        observed = np.abs(chosen.sum(1)) - 1e-12 * np.abs(chosen).sum(1)
        extreme, total = np.zeros(len(rows)) if exact else np.ones(len(rows)), 2**n if exact else resamples
        generator, step = np.random.default_rng(seed), max(1, _CHUNK // n)
        for start in range(0, total, step):
            size = min(step, total - start)
            every = (np.arange(start, start + size)[:, None] >> np.arange(n)) & 1 if exact else None
            bits = generator.integers(0, 2, (size, n), dtype=np.int64) if every is None else every
            extreme += (np.abs(chosen @ (1.0 - 2 * bits).T) >= observed[:, None]).sum(1)
        p[rows] = extreme / (total if exact else total + 1)
    return p.reshape(first.shape[:-1])


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """p-values adjusted for multiple tests (Holm, 1979); same shape, NaN stays NaN.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.array(p, dtype=np.float64)
    known = ~np.isnan(adjusted)
    values = adjusted[known]
    order = np.argsort(values)
    values[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    adjusted[known] = values
    return adjusted


def compare(
    values: ArrayLike,
    methods: Sequence[str],
    reference: str = "cp",
    *,
    higher_is_better: bool = True,
    input_level: Collection[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """The reference against each other method, layer by layer, on the same documents.

    values: (M, L, D) of one metric, NaN where it is not defined; methods: M names. Methods in `input_level` have
    scores in layer 0 only, and are compared with every layer of the reference.

    A row per other method and layer: method, reference, layer, difference (mean of reference - method), low, high
    (its bootstrap interval), p (`paired_permutation_test`), p_holm, d_z (Cohen, 1988: mean / standard deviation of the
    differences), won (share of documents on which the reference is better, a tie half), n (documents). Rows with n = 0
    are NaN and no tests.

    The Holm family of p_holm: this metric's tests of the reference with every other method at every layer, without
    random scores (a check, not a hypothesis; their p is adjusted among themselves) and without exact duplicates: a
    method whose values are those of an earlier one has its p_holm, one whose values are the reference's has 1.
    """
    array = np.array(values, dtype=np.float64)
    for m, method in enumerate(methods):
        if method in input_level:
            array[m, 1:] = array[m, :1]
    others = [method for method in methods if method != reference]
    theirs = array[[method != reference for method in methods]]  # (M-1, L, D)
    ours = np.broadcast_to(array[list(methods).index(reference)], theirs.shape)
    intervals = bootstrap_intervals(ours - theirs, seed=seed)
    p = paired_permutation_test(ours, theirs, seed=seed)
    every = range(len(others))
    first = [next(k for k in every if np.array_equal(theirs[k], theirs[m], equal_nan=True)) for m in every]
    p_holm = p.copy()  # 1 where the values are the reference's
    for of_random in (False, True):
        rows = [m for m in every if first[m] == m and not np.array_equal(theirs[m], ours[m], equal_nan=True)]
        rows = [m for m in rows if (others[m].partition("(")[0] == "random") == of_random]
        p_holm[rows] = holm(p[rows])
    pairs = np.ma.masked_invalid(ours - theirs)
    spread = pairs.std(-1, ddof=1)  # of differences that are all the same: a few last bits
    d_z = np.ma.masked_where(spread <= 1e-12 * np.abs(pairs).max(-1), pairs.mean(-1) / spread)
    won = ((pairs > 0) + 0.5 * (pairs == 0)).mean(-1).filled(np.nan)
    columns = {
        "difference": intervals.mean,
        "low": intervals.low,
        "high": intervals.high,
        "p": p,
        "p_holm": p_holm[first],
        "d_z": d_z.filled(np.nan),
        "won": won if higher_is_better else 1 - won,
        "n": intervals.n,
    }
    names = ["method", "reference", "layer"]
    index = pd.MultiIndex.from_product([others, [reference], range(array.shape[1])], names=names)
    return pd.DataFrame({name: column.ravel() for name, column in columns.items()}, index=index).reset_index()


def latex_escape(text: str) -> str:
    r"""`50 %` -> `50 \%`, and so for every character that LaTeX reads as its own."""
    return "".join(LATEX.get(character, character) for character in text)


def json_text(value: Any) -> str:
    """Strict JSON, with null for numbers that are not finite."""
    finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
    return json.dumps(finite, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(text: str, path: str | Path | None) -> str:
    """Write `text` to `path`, if there is one, whole or not at all; returns it."""
    if path is not None:
        with replacing(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return text


def _markdown(text: str) -> str:
    r"""`|` would end the cell of a table and `*` start bold print: `a|b` -> `a\|b`."""
    return "".join("\\" + character if character in "|*<`\\" else character for character in text)


def _block(title: str, frame: pd.DataFrame) -> str:
    """A title and aligned columns; what is wider than 100 columns goes on below."""
    lines = frame.rename_axis(columns="layer", index=None).to_string(line_width=100, col_space=5).splitlines()
    return "\n".join([title, *(f"  {line.rstrip()}" for line in lines)])


def _at(scores: Any, path: Sequence[str | int]) -> float:
    """NaN for a number that is None or not there."""
    try:
        return float(reduce(getitem, path, scores))
    except (KeyError, IndexError, TypeError):
        return math.nan


def header(report: RationaleReport, data: str = "", remark: str = "") -> str:
    """Header of the tables: data, coverage, and the scores of the two models. data: where it is, remark: behind it."""
    meta, seen, documents = report.meta, report.meta["coverage"], report.meta["documents"]
    lines = [
        f"adapler    {meta.get('adapler') or '-'}",
        f"model      {meta.get('model') or 'none: saved scores only'}",
        f"data       {data or meta['data']['name']}, {meta['split']}{remark}",
        f"documents  {len(documents)}, {len(documents) - meta['skipped']} scored, {meta['skipped']} skipped "
        "(no rationale, or no other token, in view)",
    ]
    if meta["tokens"] == "words":
        lines.append(f"in view    whole documents, {seen['words']} words; no model was run, tokens are words")
    else:
        lost = 100 * seen["rationale_words_lost"] / max(1, seen["rationale_words"])
        how = meta["truncation"] + (f", {meta['windows']['total']} windows" if meta["truncation"] != "truncate" else "")
        lines.append(
            f"in view    {meta['max_length']} wordpieces ({how}): {seen['words_lost']} of {seen['words']} words and "
            f"{lost:.0f} % of the rationale words are lost"
        )
    units = "tokens" if meta["aggregation"] == "none" and meta["tokens"] != "words" else "words"
    lines.append(
        f"density    {number(meta['density'])} of the {units} in view are rationale; average precision at chance "
        f"{number(meta['chance_average_precision'])}"
    )
    if people := meta.get("people"):
        reached = ", ".join(f"{name} {number(value)}" for name, value in people["ceiling"].items())
        lines.append(
            f"annotators {people['fewest']} to {people['most']} a document ({people['rule']}), one against the others: "
            f"{reached}; Krippendorff's alpha {number(people['alpha'])}"
        )
    if "accuracy" in meta:
        lines.append(f"accuracy   {number(meta['accuracy'])} fine-tuned classifier")
    if "speedup" in meta:
        lines[-1] += f", {number(meta['adapler_accuracy'])} AdapLeR (same label on {number(meta['agreement'])})"
        scale = f" at threshold scale {meta['threshold_scale']:.4g}" if meta["threshold_scale"] != 1 else ""
        lengths = " ".join(f"{length:.0f}" for length in meta["mean_lengths"])
        fewer = f"{meta['speedup']:.2f}x fewer with AdapLeR{scale}"
        lines.append(f"FLOPs      {fewer}; tokens entering each layer: {lengths}")
    lines += [f"missing    {name} has nothing for {n} documents" for name, n in meta["missing"].items() if n]
    for method, found in meta["diagnostics"].items():
        for name, one in found.items():
            spread = f"{one['mean']:.2g} on average, {one['min']:.2g} to {one['max']:.2g}"
            lines.append(f"check      {method}: {name} {spread}")
    for note in meta["notes"]:
        lines += textwrap.wrap(note, 100, initial_indent="note       ", subsequent_indent=" " * 11)
    return "\n".join(lines)
