"""A report <-> JSON, lossless.

M methods, L layers, D documents, K metrics
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from adapler.errors import ArgumentError, DataError
from analysis.results.records import DocumentRecord, DocumentScores

SCHEMA = "adapler.rationale-report"
SCHEMA_VERSION = 2
Report = TypeVar("Report")


def dumps(content: Mapping[str, Any]) -> str:
    """A report's `to_dict()` as one line of JSON; NaN is written as null."""
    headed = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **content}
    return json.dumps(_null_for_nan(headed), ensure_ascii=False, allow_nan=False) + "\n"


def loads(source: str | Path, build: Callable[..., Report]) -> Report:
    """The report in a file, or in the text itself, made by `build` from its fields.

    Raises DataError for a file that is not there, is no JSON or no report, or has another schema version.
    """
    name, content = _read(source)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DataError(f"{name}: not a rationale report (no schema {SCHEMA!r})")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{name}: schema version {content.get('schema_version')!r}, this version of analysis reads "
            f"{SCHEMA_VERSION}; write the report again with analysis.rationale_eval"
        )
    try:
        return build(**_fields(content))
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{name}: a damaged rationale report ({type(error).__name__}: {error})") from error


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    methods, metrics = tuple(content["methods"]), tuple(content["metrics"])
    documents = tuple(DocumentRecord.from_dict(row) for row in content["documents"])
    values = np.array(
        [[content["values"][method][metric] for metric in metrics] for method in methods],
        dtype=np.float64,
    )  # (M, K, L, D), null has become NaN
    expected = (len(methods), len(metrics), content["layers"], len(documents))
    if values.shape != expected:
        raise ValueError(f"values of shape {values.shape}, expected {expected}")
    correlations = content["correlations"]
    return {
        "methods": methods,
        "metrics": metrics,
        "documents": documents,
        "values": np.ascontiguousarray(values.transpose(0, 2, 3, 1)),  # (M, L, D, K)
        "meta": content["meta"],
        "examples": tuple(DocumentScores.from_dict(row) for row in content["examples"]),
        "curves": {method: np.array(curve, dtype=np.float64) for method, curve in content["curves"].items()},
        "correlations": None if correlations is None else np.array(correlations, dtype=np.float64),
    }


def _read(source: str | Path) -> tuple[str, Any]:
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
