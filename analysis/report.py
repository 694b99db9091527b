"""One results object: every value of every method, layer, document and metric, and what they were made with.

M methods, L layers, D documents, K metrics
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapler.errors import DataError
from adapler.files import replacing
from analysis import tables
from analysis.alignment import Account
from analysis.statistics import LEVEL, RESAMPLES, bootstrap_intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "adapler.rationale-report"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DocumentRecord:
    """What is known of one document, apart from its metrics.

    tokens            real tokens of the input, special tokens included
    content_tokens    those of them that come from the text; rationale_tokens: those of them in the rationale
    lengths           tokens that enter each layer of the AdapLeR model, or None
    skipped           why the document has no metrics, or None
    account           words and rationale words of the whole document, and those in view
    """

    id: str
    label: str
    prediction: str
    adapler_prediction: str | None
    tokens: int
    content_tokens: int
    rationale_tokens: int
    lengths: tuple[int, ...] | None
    skipped: str | None
    account: Account


@dataclass(frozen=True, eq=False)
class RationaleReport:
    """Results of `analysis.evaluation.evaluate`.

    values: (M, L, D, K) float64; NaN where a metric is not defined or the document was skipped
    meta: models, data and checksum, policy, truncation account, density, chance AP, versions, seed, command,
        ...
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    documents: tuple[DocumentRecord, ...]
    values: NDArray[np.float64]
    meta: dict[str, Any]

    @property
    def n_layers(self) -> int:
        return int(self.values.shape[1])

    @property
    def n_skipped(self) -> int:
        """Documents without metrics."""
        return sum(document.skipped is not None for document in self.documents)

    @property
    def accuracy(self) -> float:
        """Of the plain classifier, over all documents."""
        return _mean([d.prediction == d.label for d in self.documents])

    @property
    def adapler_accuracy(self) -> float | None:
        """Of the AdapLeR model in hard mode, over all documents; None without one."""
        if self.mean_lengths is None:
            return None
        return _mean([d.adapler_prediction == d.label for d in self.documents])

    @property
    def agreement(self) -> float | None:
        """Share of documents to which both models give the same label; None without an AdapLeR model."""
        if self.mean_lengths is None:
            return None
        return _mean([d.adapler_prediction == d.prediction for d in self.documents])

    @property
    def speedup(self) -> float | None:
        """FLOPs of the plain classifier / FLOPs of AdapLeR, all documents; None without AdapLeR."""
        value = self.meta.get("speedup")
        return None if value is None else float(value)

    @property
    def mean_lengths(self) -> tuple[float, ...] | None:
        """(L,) mean number of tokens that enter each layer of the AdapLeR model; None without one."""
        rows = [d.lengths for d in self.documents if d.lengths is not None]
        return tuple(np.mean(rows, axis=0).tolist()) if rows else None

    def to_frame(self) -> pd.DataFrame:
        """Tidy, one value a row: method, layer (0-based), document, metric, value; no undefined ones."""
        index = pd.MultiIndex.from_product(
            [self.methods, range(self.n_layers), [d.id for d in self.documents], self.metrics],
            names=["method", "layer", "document", "metric"],
        )
        frame = pd.DataFrame({"value": self.values.ravel()}, index=index)
        return frame.dropna().reset_index()

    def documents_frame(self) -> pd.DataFrame:
        """One row a document: labels, predictions, lengths, words and rationale words in view."""
        rows = []
        for document in self.documents:
            row = asdict(document)
            lengths = row.pop("lengths") or ()
            rows.append(row | row.pop("account") | {f"length_{layer}": n for layer, n in enumerate(lengths)})
        return pd.DataFrame(rows).rename(columns={"id": "document"})

    def summary(self) -> pd.DataFrame:
        """A row a cell: method, layer, metric, mean, low, high (95 % bootstrap of documents), n, skipped."""
        return self._summary.copy()

    @cached_property
    def _summary(self) -> pd.DataFrame:
        cells = self.values.transpose(0, 1, 3, 2)  # (M, L, K, D)
        seed = int(self.meta.get("seed", 0))
        intervals = bootstrap_intervals(cells, level=LEVEL, resamples=RESAMPLES, seed=seed)
        index = pd.MultiIndex.from_product(
            [self.methods, range(self.n_layers), self.metrics], names=["method", "layer", "metric"]
        )
        columns = {name: getattr(intervals, name).ravel() for name in ("mean", "low", "high", "n")}
        frame = pd.DataFrame(columns, index=index).reset_index()
        frame["skipped"] = len(self.documents) - frame["n"]
        return frame

    def to_json(self, path: str | Path | None = None) -> str:
        """The whole report, lossless; written to `path` if there is one."""
        content = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "meta": self.meta,
            "overall": {
                "accuracy": self.accuracy,
                "adapler_accuracy": self.adapler_accuracy,
                "agreement": self.agreement,
                "mean_lengths": self.mean_lengths,
                "documents": len(self.documents),
                "skipped": self.n_skipped,
            },
            "methods": self.methods,
            "layers": self.n_layers,
            "metrics": self.metrics,
            "documents": [asdict(document) for document in self.documents],
            "values": {
                method: dict(zip(self.metrics, self.values[m].transpose(2, 0, 1).tolist(), strict=True))
                for m, method in enumerate(self.methods)
            },  # method -> metric -> layer -> document
        }
        return _write(json.dumps(_null_for_nan(content), ensure_ascii=False, allow_nan=False) + "\n", path)

    @classmethod
    def from_json(cls, source: str | Path) -> RationaleReport:
        """Read what `to_json` wrote: a path, or the text itself.

        Raises DataError for a file that is not there, is no JSON or no report, or has another schema version.
        """
        name, content = _read_json(source)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise DataError(f"{name}: not a rationale report (no schema {SCHEMA!r})")
        if content.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"{name}: schema version {content.get('schema_version')!r}, this version of analysis reads "
                f"{SCHEMA_VERSION}; write the report again with analysis.rationale_eval"
            )
        try:
            return cls._from_dict(content)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{name}: a damaged rationale report ({type(error).__name__}: {error})") from error

    @classmethod
    def _from_dict(cls, content: dict[str, Any]) -> RationaleReport:
        documents = []
        for row in content["documents"]:
            lengths = row["lengths"]
            row = row | {
                "account": Account(**row["account"]),
                "lengths": None if lengths is None else tuple(lengths),
            }
            documents.append(DocumentRecord(**row))
        methods, metrics = tuple(content["methods"]), tuple(content["metrics"])
        values = np.array(
            [[content["values"][method][metric] for metric in metrics] for method in methods],
            dtype=np.float64,
        )  # (M, K, L, D), null has become NaN
        expected = (len(methods), len(metrics), content["layers"], len(documents))
        if values.shape != expected:
            raise ValueError(f"values of shape {values.shape}, expected {expected}")
        values = np.ascontiguousarray(values.transpose(0, 2, 3, 1))  # (M, L, D, K)
        return cls(methods, metrics, tuple(documents), values, content["meta"])

    def to_csv(self, path: str | Path | None = None) -> str:
        """The summary as CSV: method, layer, metric, mean, low, high, n, skipped."""
        return _write(self._summary.to_csv(index=False, lineterminator="\n"), path)

    def to_parquet(self, path: str | Path) -> None:
        """`to_frame()` as a Parquet file."""
        with replacing(Path(path)) as temporary:
            self.to_frame().to_parquet(temporary, index=False)

    def to_latex(self, path: str | Path | None = None, *, metrics: tuple[str, ...] = tables.PAPER_METRICS) -> str:
        """Method x layer as a table, one block a metric, ready to paste; needs the package booktabs."""
        return _write(tables.latex(self, metrics), path)

    def to_markdown(self, path: str | Path | None = None, *, metrics: tuple[str, ...] = tables.PAPER_METRICS) -> str:
        """Method x layer as Markdown, one table a metric."""
        return _write(tables.markdown(self, metrics), path)

    def figure(self, kind: str = "agreement", **options: Any) -> Figure:
        """The figure of that kind, see `analysis.figures`: "agreement" (panels=...) or "lengths"."""
        from analysis import figures  # matplotlib takes a second to import

        return figures.draw(self, kind, **options)

    def save(self, directory: str | Path) -> list[Path]:
        """Write report.json, layers.csv, documents.parquet, table.tex, table.md and figures/."""
        from analysis import figures

        folder = Path(directory)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        self.to_json(folder / "report.json")
        self.to_csv(folder / "layers.csv")
        self.to_parquet(folder / "documents.parquet")
        self.to_latex(folder / "table.tex")
        self.to_markdown(folder / "table.md")
        names = ["report.json", "layers.csv", "documents.parquet", "table.tex", "table.md"]
        paths = [folder / name for name in names]
        for kind in figures.kinds(self):
            paths += figures.save_figure(self.figure(kind), folder / "figures" / kind)
        return paths


def _mean(values: list[bool]) -> float:
    return float(np.mean(values)) if values else math.nan


def _write(text: str, path: str | Path | None) -> str:
    if path is not None:
        with replacing(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return text


def _read_json(source: str | Path) -> tuple[str, Any]:
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    name = "report" if is_text else str(source)
    try:
        return name, json.loads(str(source) if is_text else Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or 'cannot be read'}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: not valid JSON ({error})") from error


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
