"""Rationales in ERASER's format (DeYoung et al., 2020), https://aclanthology.org/2020.acl-main.408: one JSON
object a line, which the benchmark's own scorer reads.

    {"annotation_id": ..., "classification": label, "classification_scores": {label: probability},
     "comprehensiveness_classification_scores": {...}, "sufficiency_classification_scores": {...},
     "thresholded_scores": [{"threshold": share, "comprehensiveness_classification_scores": {...}, ...}],
     "rationales": [{"docid": ..., "soft_rationale_predictions": [one number a word],
                     "hard_rationale_predictions": [{"start_token": i, "end_token": j}, ...]}]}

Reading takes such predictions, soft or hard, and also annotations ("evidences", as in the data's own files), so
that a file of one human against another can be scored like a method.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.eraser import excerpt, json_lines
from adapler.errors import DataError
from adapler.files import replacing

__all__ = ["Prediction", "Predictions", "read_rationales", "spans_of", "write_rationales"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Scores of one example's words and, if they are known, the class probabilities.

    scores         (W,) float64, higher = more important; a hard rationale is 0 and 1. Scores that do not come from a
                   file may be (L', W), one row a layer
    hard           (W,) bool, the words of the hard rationale, or None
    probabilities  of the classes for the whole document; without: without the words of the hard rationale; only: for
                   them alone (ERASER's comprehensiveness and sufficiency are differences of these)
    at_shares      share of the words -> (without, only) for that share of the best words, for ERASER's AOPC
    """

    id: str
    scores: NDArray[np.float64]
    hard: NDArray[np.bool_] | None = None
    probabilities: Mapping[str, float] | None = None
    without: Mapping[str, float] | None = None
    only: Mapping[str, float] | None = None
    at_shares: Mapping[float, tuple[Mapping[str, float], Mapping[str, float]]] = field(default_factory=dict)


def spans_of(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open ranges of the True runs.

    >>> spans_of(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def write_rationales(path: str | Path, predictions: Iterable[Prediction], examples: Mapping[str, Any]) -> None:
    """One line a prediction; `examples` are the annotated documents by id, which know their documents' ids.

    Scores that are not the words' in number raise DataError. The file is written whole or not at all.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for prediction in predictions:
            row = _row(prediction, examples[prediction.id])
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _row(prediction: Prediction, example: Any) -> dict[str, Any]:
    if len(prediction.scores) != len(example.words):
        raise DataError(f"document {prediction.id}: {len(prediction.scores)} scores, {len(example.words)} words")
    rationales, start = [], 0
    for docid, length in _documents(example):
        part = slice(start, start + length)
        rationale: dict[str, Any] = {
            "docid": docid,
            # all digits: rounded ones would tie, or part, words that the metrics here see otherwise
            "soft_rationale_predictions": [float(score) for score in prediction.scores[part]],
        }
        if prediction.hard is not None:
            spans = spans_of(prediction.hard[part])
            rationale["hard_rationale_predictions"] = [{"start_token": i, "end_token": j} for i, j in spans]
        rationales.append(rationale)
        start += length
    row: dict[str, Any] = {"annotation_id": prediction.id, "rationales": rationales}
    if prediction.probabilities is not None:
        scores = dict(prediction.probabilities)
        row |= {"classification": max(scores, key=lambda label: scores[label]), "classification_scores": scores}
    if prediction.without is not None and prediction.only is not None:
        row |= _faithfulness_fields(prediction.without, prediction.only)
    if prediction.at_shares:
        row["thresholded_scores"] = [
            {"threshold": share, **_faithfulness_fields(*pair)} for share, pair in prediction.at_shares.items()
        ]
    return row


def _faithfulness_fields(without: Mapping[str, float], only: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Under the names that ERASER's scorer reads."""
    return {
        "comprehensiveness_classification_scores": dict(without),
        "sufficiency_classification_scores": dict(only),
    }


class Predictions(dict[str, Prediction]):
    """Predictions by annotation id.

    signed: whether a score in their source is below 0, be it of a document that is not among them.
    """

    signed = False


def read_rationales(path: str | Path, examples: Sequence[Any]) -> Predictions:
    """Predictions for those of the examples that the file has; of others in it only the sign of their scores counts.

    Raises DataError, with file and line, for a file that is not there, a line that is no such object, an
    annotation id twice, scores that are not the document's in number or not finite, spans outside it, soft scores of
    some of the examples and hard rationales alone of others, hard rationales beside the scores of some only, and a
    file that has none of the examples.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error
    known = {example.id: example for example in examples}
    found, others = Predictions(), False
    first: dict[bool, str] = {}  # whether scores are soft -> where the first such line is
    chosen: dict[bool, str] = {}  # of those: whether hard rationales stand beside them -> where the first such line is
    for line, row in json_lines(text, str(path)):
        where = f"{path}:{line}"
        name = _identifier(row, "annotation_id", where)
        if name in found:
            raise DataError(f"{where}: annotation id {name!r} appears twice")
        if name in known:
            found[name] = _prediction(row, known[name], where)
            if (soft := _is_soft(row)) is not None:
                first.setdefault(soft, f"line {line}")
            if soft:
                chosen.setdefault(found[name].hard is not None, f"line {line}")
            if len(chosen) == 2:  # the size of a rationale would be the file's in some documents, ours in others
                raise DataError(
                    f"{path}: has hard_rationale_predictions beside the scores in {chosen[True]} and none in "
                    f"{chosen[False]}, the documents of a method must have them all, or none"
                )
            if len(first) == 2:  # no metric of a ranking means the same for both
                raise DataError(
                    f"{path}: has soft_rationale_predictions in {first[True]} and hard rationales alone in "
                    f"{first[False]}, the documents of a method must have one kind"
                )
        else:
            others = others or _has_negative(row)
    if not found:
        raise DataError(f"{path}: has none of the {len(known)} documents that are evaluated")
    found.signed = others or any((one.scores < 0).any() for one in found.values())
    return found


def _is_soft(row: Mapping[str, Any]) -> bool | None:
    """Whether a checked line has scores, and no hard rationale alone; None without any entry, as of no word."""
    parts = row.get("rationales", row.get("evidences"))
    if not parts:
        return None
    return "rationales" in row and any(part.get("soft_rationale_predictions") is not None for part in parts)


def _has_negative(row: Mapping[str, Any]) -> bool:
    """Whether a line that is not checked otherwise has a score below 0."""
    rationales = row.get("rationales")
    parts = [one for one in rationales if isinstance(one, Mapping)] if isinstance(rationales, list) else []
    scores = [part.get("soft_rationale_predictions") for part in parts]
    return any(isinstance(value, int | float) and value < 0 for one in scores if isinstance(one, list) for value in one)


def _prediction(row: Mapping[str, Any], example: Any, where: str) -> Prediction:
    lengths = dict(_documents(example))
    if "rationales" in row:
        soft, hard = _predicted(row["rationales"], lengths, where)
    elif "evidences" in row:
        soft, hard = {}, _annotated(row["evidences"], lengths, where)
    else:
        raise DataError(f"{where}: has neither 'rationales' nor 'evidences'")
    mask = np.concatenate([hard.get(docid, np.zeros(n, dtype=bool)) for docid, n in lengths.items()])
    if soft and len(soft) < len(lengths):
        missing = next(docid for docid in lengths if docid not in soft)
        raise DataError(f"{where}: no soft_rationale_predictions for document {missing!r}, others have them")
    scores = np.concatenate([soft[docid] for docid in lengths]) if soft else mask.astype(np.float64)
    # no entry at all is a rationale of no word, and not one whose size is still to be chosen
    return Prediction(example.id, scores, mask if hard or not soft else None, row.get("classification_scores"))


def _predicted(
    rationales: Any, lengths: Mapping[str, int], where: str
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.bool_]]]:
    soft: dict[str, NDArray[np.float64]] = {}
    hard: dict[str, NDArray[np.bool_]] = {}
    for rationale in _objects(rationales, "rationales", where):
        docid = _docid(rationale, lengths, where)
        if docid in soft or docid in hard:
            raise DataError(f"{where}: document {docid!r} appears twice in 'rationales'")
        scores, spans = rationale.get("soft_rationale_predictions"), rationale.get("hard_rationale_predictions")
        if scores is None and spans is None:
            raise DataError(f"{where}: document {docid!r} has neither soft nor hard rationale predictions")
        if scores is not None:
            soft[docid] = _soft(scores, docid, lengths[docid], where)
        if spans is not None:
            hard[docid] = np.zeros(lengths[docid], dtype=bool)
            for span in _objects(spans, "hard_rationale_predictions", where):
                _mark(hard[docid], span, docid, where)
    return soft, hard


def _annotated(groups: Any, lengths: Mapping[str, int], where: str) -> dict[str, NDArray[np.bool_]]:
    hard = {docid: np.zeros(n, dtype=bool) for docid, n in lengths.items()}
    if not isinstance(groups, list):
        raise DataError(f"{where}: field 'evidences' must be a list of groups, found {excerpt(groups)}")
    for group in groups:
        for evidence in _objects(group, "evidences", where):
            docid = _docid(evidence, lengths, where)
            if evidence.get("start_token") != evidence.get("end_token") or evidence.get("text") != "":
                _mark(hard[docid], evidence, docid, where)  # [n, n) with no text marks nothing
    return hard


def _soft(values: Any, docid: str, n_words: int, where: str) -> NDArray[np.float64]:
    most = sys.float_info.max  # an int may be larger
    numbers = isinstance(values, list) and all(isinstance(v, int | float) and -most <= v <= most for v in values)
    if not numbers:
        raise DataError(f"{where}: soft_rationale_predictions of {docid!r} must be a list of finite numbers")
    if len(values) != n_words:
        raise DataError(
            f"{where}: soft_rationale_predictions of {docid!r} has {len(values)} numbers, the document {n_words} words"
        )
    return np.array(values, dtype=np.float64)


def _mark(mask: NDArray[np.bool_], span: Mapping[str, Any], docid: str, where: str) -> None:
    start, end = span.get("start_token"), span.get("end_token")
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(mask)):
        raise DataError(
            f"{where}: span [{excerpt(start)}, {excerpt(end)}) is out of range, "
            f"document {docid!r} has {len(mask)} words"
        )
    mask[start:end] = True


def _documents(example: Any) -> tuple[tuple[str, int], ...]:
    documents: tuple[tuple[str, int], ...] = getattr(example, "documents", ())
    return documents or ((example.id, len(example.words)),)


def _docid(row: Mapping[str, Any], lengths: Mapping[str, int], where: str) -> str:
    docid = _identifier(row, "docid", where)
    if docid not in lengths:
        raise DataError(f"{where}: docid {docid!r} is not the example's, which has {', '.join(lengths)}")
    return docid


def _identifier(row: Mapping[str, Any], field: str, where: str) -> str:
    """A name; BoolQ's files have whole numbers for names."""
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: field {field!r} must be a string or a whole number, found {excerpt(value)}")
    return str(value)


def _objects(rows: Any, name: str, where: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{where}: field {name!r} must be a list of objects, found {excerpt(rows)}")
    return rows
