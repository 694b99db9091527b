"""A report <-> JSON, lossless. NaN is null; infinities are the texts "Infinity" and "-Infinity".

M methods, L layers, D documents, K metrics
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError, DataError
from analysis.results.records import DocumentRecord, DocumentScores

SCHEMA = "adapler.rationale-report"
SCHEMA_VERSION = 2
INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}
Report = TypeVar("Report")
_NAMES = {str: "a text", int: "a whole number", list: "a list", dict: "a mapping", float: "a number"}
_RECORD: dict[str, type] = {"id": str, "label": str, "tokens": int, "content_tokens": int, "rationale_tokens": int}
_EXAMPLE: dict[str, type] = {"id": str, "tokens": list, "words": list, "rationale": list, "scores": dict}


def dumps(content: Mapping[str, Any]) -> str:
    """A report's `to_dict()` as one line of JSON."""
    headed = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **content}
    return json.dumps(plain(headed), ensure_ascii=False, allow_nan=False) + "\n"


def loads(source: str | Path, build: Callable[..., Report]) -> Report:
    """The report in a file, or in the text itself, made by `build` from its fields.

    Raises DataError, which names the field, for a file that is not there, is no JSON or no report, has another
    schema version, or is damaged.
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
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        known = isinstance(error, ArgumentError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        raise DataError(f"{name}: a damaged rationale report ({reason})") from error


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    methods, metrics = _texts(content, "methods"), _texts(content, "metrics")
    n_layers = _need(content, "layers", int)
    rows = _need(content, "documents", list)
    documents = tuple(_record(row, f"documents[{i}]", n_layers) for i, row in enumerate(rows))
    by_method = _need(content, "values", dict)
    values = np.full((len(methods), n_layers, len(documents), len(metrics)), np.nan)
    for m, method in enumerate(methods):
        by_metric = _need(by_method, method, dict, "values.")
        for k, metric in enumerate(metrics):
            where = f"values.{method}.{metric}"
            rows = _need(by_metric, metric, list, f"values.{method}.")
            values[m, :, :, k] = numbers(rows, (n_layers, len(documents)), where)
    meta = _meta(content)
    examples = _need(content, "examples", list)
    known = ["curves", *(["curve_errors"] if "curve_errors" in content else [])]  # older versions wrote no errors
    curves = {name: _need(content, name, dict) for name in known}
    correlations = content.get("correlations")
    square = (n_layers, len(methods), len(methods))
    return {
        "methods": methods,
        "metrics": metrics,
        "documents": documents,
        "values": values,
        "meta": meta,
        "examples": tuple(_example(row, f"examples[{i}]") for i, row in enumerate(examples)),
        **{
            name: {method: numbers(rows, (n_layers, 101), f"{name}.{method}") for method, rows in by_method.items()}
            for name, by_method in curves.items()
        },
        "correlations": None if correlations is None else numbers(correlations, square, "correlations"),
    }


def numbers(value: Any, shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    """Nested lists of numbers, null (NaN) and infinities -> an array of that shape.

    Raises ArgumentError that names `where` for another shape, and for anything that is no number.
    """
    try:
        array = np.array(value, dtype=object)
    except ValueError as error:
        raise ArgumentError(f"{where}: rows of different lengths, must be {shape}") from error
    if array.shape != shape:
        raise ArgumentError(f"{where}: shape {array.shape}, must be {shape}")
    return np.array([_number(one, where) for one in array.ravel().tolist()], dtype=np.float64).reshape(shape)


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str) and value in INFINITIES:
        return INFINITIES[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{where}: got {_short(value)}, must be a number or null")
    return float(value)


def _need(row: Any, key: str, kind: type, where: str = "") -> Any:
    """row[key], of that type; ArgumentError that names the field if it is not."""
    if not isinstance(row, dict):
        raise ArgumentError(f"{where.rstrip('.')}: got {_short(row)}, must be a mapping")
    if key not in row:
        raise ArgumentError(f"{where}{key}: is missing")
    value = row[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ArgumentError(f"{where}{key}: got {_short(value)}, must be {_NAMES[kind]}")
    if isinstance(value, int) and value < 0:
        raise ArgumentError(f"{where}{key}: got {value}, must be at least 0")
    return value


def _texts(content: dict[str, Any], key: str) -> tuple[str, ...]:
    names = _need(content, key, list)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ArgumentError(f"{key}: got {_short(names)}, must be different texts")
    return tuple(names)


def _optional(row: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in keys:
        if row.get(key) is not None and not isinstance(row[key], str):
            raise ArgumentError(f"{where}.{key}: got {_short(row[key])}, must be a text or null")


def _record(row: Any, where: str, n_layers: int) -> DocumentRecord:
    for key, kind in _RECORD.items():
        _need(row, key, kind, where + ".")
    _optional(row, ("prediction", "adapler_prediction", "skipped"), where)
    lengths = row.get("lengths")
    if lengths is not None:
        numbers(lengths, (n_layers,), f"{where}.lengths")
    account = _need(row, "account", dict, where + ".")
    for key in account:
        _need(account, key, int, f"{where}.account.")
    return DocumentRecord.from_dict(row)


def _example(row: Any, where: str) -> DocumentScores:
    for key, kind in _EXAMPLE.items():
        _need(row, key, kind, where + ".")
    if not all(isinstance(token, str) for token in row["tokens"]):
        raise ArgumentError(f"{where}.tokens: must be texts")
    n = len(row["tokens"])
    _optional(row, ("prediction", "label"), where)
    for key in ("words", "rationale"):
        numbers(row[key], (n,), f"{where}.{key}")
    for method, rows in row["scores"].items():
        numbers(rows, (len(rows) if isinstance(rows, list) else 0, n), f"{where}.scores.{method}")
    return DocumentScores.from_dict(row)


def _meta(content: dict[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = _with_infinities(_need(content, "meta", dict))
    _need(_need(meta, "data", dict, "meta."), "name", str, "meta.data.")
    _need(meta, "split", str, "meta.")
    for key in ("titles", "scopes", "layerwise", "missing", "diagnostics", "truncation"):
        if meta.get(key) is not None:
            _need(meta, key, dict, "meta.")
    if "seed" in meta:  # older versions may not have written it
        _need(meta, "seed", int, "meta.")
    if math.isnan(_number(meta.get("threshold_scale", 1.0), "meta.threshold_scale")):
        raise ArgumentError("meta.threshold_scale: got None, must be a number")
    for key in ("density", "chance_average_precision", "speedup", "max_length"):
        _number(meta.get(key), f"meta.{key}")
    return meta


def _read(source: str | Path) -> tuple[str, Any]:
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    name = "report" if is_text else str(source)
    try:
        return name, json.loads(str(source) if is_text else Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or 'cannot be read'}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{name}: not valid JSON ({error})") from error


def plain(value: Any) -> Any:
    """Lists, mappings and numbers as JSON has them: what is no finite number is null, or one of INFINITIES."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _with_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_infinities(item) for item in value]
    return INFINITIES.get(value, value) if isinstance(value, str) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
