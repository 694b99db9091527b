"""One results object: every value of every method, layer, document and metric, and what they were made with.

M methods, L layers, D documents, K metrics
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from adapler.errors import ArgumentError, DataError, counted
from adapler.files import replacing
from analysis.metrics.plausibility import RECALL_GRID
from analysis.metrics.statistics import LEVEL, RESAMPLES, bootstrap_intervals, compare
from analysis.results import report_json
from analysis.results.records import DocumentRecord, DocumentScores
from analysis.results.report_json import SCHEMA, SCHEMA_VERSION
from analysis.results.wording import OF_REMOVAL, higher_is_better, reference_among

__all__ = ["SCHEMA", "SCHEMA_VERSION", "DocumentRecord", "DocumentScores", "ReportData"]


FACTS = b"adapler.report"  # key of the facts in a Parquet file's metadata


@dataclass(frozen=True, eq=False, repr=False)
class ReportData:
    """Results of `analysis.evaluation.run.run_evaluation`, as data; `analysis.output.report` prints and draws them.

    values        (M, L, D, K) float64; NaN where a metric is not defined or the document was skipped. A method
                  with a meaning at the input only has values at layer 0 and NaN at the others.
    meta          models, data and checksum, policy, protocol, aggregation, truncation account, density, chance
                  AP, versions, seed, command, ..., and "layerwise": {method: bool}
    examples      a few documents token by token
    curves        method -> (L, 101) mean interpolated precision at the recalls 0, .01, ..., 1
    curve_errors  method -> (L, 101) standard error of each of these means; empty in reports of older versions
    correlations  (L, M, M) mean over documents of Spearman's rho between two methods' scores; NaN: not defined
    run_facts     of this run and no other (how much came out of the cache): for the screen, never written

    Raises ArgumentError for an array of another shape.
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    documents: tuple[DocumentRecord, ...]
    values: NDArray[np.float64]
    meta: dict[str, Any]
    examples: tuple[DocumentScores, ...] = ()
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    correlations: NDArray[np.float64] | None = None
    run_facts: Mapping[str, Any] = field(default_factory=dict)
    curve_errors: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_methods, n_layers = len(self.methods), self.n_layers
        expected = (n_methods, n_layers, len(self.documents), len(self.metrics))
        if self.values.shape != expected:
            raise ArgumentError(f"values: shape {self.values.shape}, must be {expected}")
        for name, curves in (("curves", self.curves), ("curve_errors", self.curve_errors)):
            for method, curve in curves.items():
                if method not in self.methods or curve.shape != (n_layers, len(RECALL_GRID)):
                    raise ArgumentError(
                        f"{name}: {method!r} of shape {curve.shape}, must be one of {', '.join(self.methods)} "
                        f"and of shape {(n_layers, len(RECALL_GRID))}"
                    )
        square = (n_layers, n_methods, n_methods)
        if self.correlations is not None and self.correlations.shape != square:
            raise ArgumentError(f"correlations: shape {self.correlations.shape}, must be {square}")

    @property
    def n_layers(self) -> int:
        return int(self.values.shape[1]) if self.values.ndim == 4 else 0

    @property
    def n_skipped(self) -> int:
        """Documents without metrics."""
        return sum(document.skipped is not None for document in self.documents)

    @property
    def accuracy(self) -> float:
        """Of the plain classifier, over all documents; NaN when no model was run."""
        if any(d.prediction is None for d in self.documents):
            return math.nan
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

    def title(self, method: str) -> str:
        """The method's name in figures and tables for print."""
        return str(self.meta.get("titles", {}).get(method, method))

    def is_layerwise(self, method: str) -> bool:
        """False for a method with a meaning at the input only, such as integrated gradients or a human."""
        return bool(self.meta.get("layerwise", {}).get(method, True))

    def is_repeated(self, metric: str) -> bool:
        """Whether a metric at n = tokens present is there at n = tokens of the input, too, and all such pairs are the
        same: no method dropped tokens."""
        place = {name: k for k, name in enumerate(self.metrics)}
        twins = {name: twin for name in place if (twin := name.removesuffix("_present")) != name and twin in place}
        pairs = [(self.values[..., place[name]], self.values[..., place[twin]]) for name, twin in twins.items()]
        return metric in twins and all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)

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
            row = document.to_dict()
            lengths = row.pop("lengths") or ()
            rows.append(row | row.pop("account") | {f"length_{layer}": n for layer, n in enumerate(lengths)})
        return pd.DataFrame(rows).rename(columns={"id": "document"})

    def summary(self) -> pd.DataFrame:
        """A row a cell: method, layer, metric, mean, low, high (95 % bootstrap of documents), n, skipped.

        A method with a meaning at the input only has cells at layer 0 only.
        """
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
        layerwise = frame["method"].map({method: self.is_layerwise(method) for method in self.methods})
        return frame[layerwise.astype(bool) | (frame["layer"] == 0)].reset_index(drop=True)

    def comparisons(self, reference: str | None = None, metric: str = "average_precision") -> pd.DataFrame:
        """`metrics.statistics.compare` of `reference` (`cp`, or else `policy`) with every other method at each layer.

        A method with a meaning at the input only is compared with the reference's every layer; the layers of two
        such methods would all be the same comparison, which is made once. Raises ArgumentError for a method or
        metric that the report does not have.
        """
        reference = reference or reference_among(self.methods) or OF_REMOVAL[0]
        for kind, name, names in (("metric", metric, self.metrics), ("reference", reference, self.methods)):
            if name not in names:
                raise ArgumentError(f"{kind} {name!r} is not in the report, which has {', '.join(names)}")
        key = (reference, metric)
        if key not in self._comparisons:
            self._comparisons[key] = self._compare(reference, metric)
        return self._comparisons[key].copy()

    @cached_property
    def _comparisons(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {}

    def _compare(self, reference: str, metric: str) -> pd.DataFrame:
        at_input = [method for method in self.methods if not self.is_layerwise(method)]
        return compare(
            self.values[..., self.metrics.index(metric)],  # (M, L, D)
            self.methods,
            reference=reference,
            higher_is_better=higher_is_better(metric),
            input_level=[reference] if reference in at_input else at_input,
            seed=int(self.meta.get("seed", 0)),
        )

    def to_json(self, path: str | Path | None = None) -> str:
        """The whole report, lossless; written to `path` if there is one."""
        return write_text(report_json.dumps(self.to_dict()), path)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain lists and dictionaries; values by method, metric, layer and document."""
        return {
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
            "documents": [document.to_dict() for document in self.documents],
            "values": {
                method: dict(zip(self.metrics, self.values[m].transpose(2, 0, 1).tolist(), strict=True))
                for m, method in enumerate(self.methods)
            },
            "examples": [example.to_dict() for example in self.examples],
            "curves": {method: curve.tolist() for method, curve in self.curves.items()},
            "curve_errors": {method: errors.tolist() for method, errors in self.curve_errors.items()},
            "correlations": None if self.correlations is None else self.correlations.tolist(),
        }

    @classmethod
    def from_json(cls, source: str | Path) -> Self:
        """Read what `to_json` wrote: a path, or the text itself.

        Raises DataError for a file that is not there, is no JSON or no report, or has another schema version.
        """
        return report_json.loads(source, cls)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The summary as CSV: method, layer, metric, mean, low, high, n, skipped."""
        return write_text(self._summary.to_csv(index=False, lineterminator="\n"), path)

    def to_parquet(self, path: str | Path) -> None:
        """`to_frame()` as a Parquet file, with what `recompute` needs beside it; small: names are stored once."""
        frame = self.to_frame()
        table = pa.Table.from_pandas(frame, preserve_index=False)
        facts = {
            "methods": self.methods,
            "metrics": self.metrics,
            "documents": [one.id for one in self.documents],
            "layers": self.n_layers,
            "seed": int(self.meta.get("seed", 0)),
            "layerwise": {method: self.is_layerwise(method) for method in self.methods},
        }
        known = table.schema.metadata or {}
        table = table.replace_schema_metadata({**known, FACTS: json.dumps(facts, ensure_ascii=False).encode()})
        with replacing(Path(path)) as temporary:
            parquet.write_table(table, temporary, compression="zstd", compression_level=15)

    @classmethod
    def from_parquet(cls, path: str | Path) -> Self:
        """The values of a `documents.parquet`, to compute intervals and tests from again.

        What else a report holds is not in the file: its documents have a name only. Raises DataError for a file
        that cannot be read or was not written by `to_parquet`.
        """
        try:
            table = parquet.read_table(path)
            if FACTS not in (table.schema.metadata or {}):
                raise ValueError(f"it has no metadata '{FACTS.decode()}'")
            facts = json.loads(table.schema.metadata[FACTS])
            seed = int(facts["seed"])
            names = [facts["methods"], range(facts["layers"]), facts["documents"], facts["metrics"]]
            index = pd.MultiIndex.from_product(names, names=["method", "layer", "document", "metric"])
            values = table.to_pandas().set_index(index.names)["value"].reindex(index).to_numpy(dtype=np.float64)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or 'cannot be read as Parquet'}") from error
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            raise DataError(f"{path}: no documents.parquet of a report ({' '.join(str(error).split())})") from error
        documents = tuple(DocumentRecord.of_id(name) for name in facts["documents"])
        meta = {"data": {"name": Path(path).parent.name}, "seed": seed, "layerwise": facts["layerwise"]}
        shape = tuple(len(one) for one in names)
        return cls(tuple(facts["methods"]), tuple(facts["metrics"]), documents, values.reshape(shape), meta)

    def __repr__(self) -> str:
        """Two lines, not the arrays."""
        data = self.meta.get("data", {}).get("name", "?")
        scored = len(self.documents) - self.n_skipped
        return (
            f"<{type(self).__name__}: {data} {self.meta.get('split', '')}, "
            f"{counted(scored, 'document')} scored, {self.n_skipped} skipped, {counted(self.n_layers, 'layer')}\n"
            f"  methods {_few(self.methods)}; metrics {_few(self.metrics)}>"
        )


def _few(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _mean(values: list[bool]) -> float:
    return float(np.mean(values)) if values else math.nan


def write_text(text: str, path: str | Path | None) -> str:
    """Write `text` to `path`, if there is one, whole or not at all; returns it."""
    if path is not None:
        with replacing(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return text
