"""Saved scores and rationales: ERASER's format in and out, ERASER's own scores (DeYoung et al., 2020,
https://aclanthology.org/2020.acl-main.408), and scores given as dicts or frames. Each source is one more method.

A file has one JSON object a line:

    {"annotation_id": ..., "classification": label, "classification_scores": {label: probability},
     "comprehensiveness_classification_scores": {...}, "sufficiency_classification_scores": {...},
     "thresholded_scores": [{"threshold": share, "comprehensiveness_classification_scores": {...}, ...}],
     "rationales": [{"docid": ..., "soft_rationale_predictions": [one number a word],
                     "hard_rationale_predictions": [{"start_token": i, "end_token": j}, ...]}]}

or "evidences" instead of "rationales", as in the data's own files: one human against another is judged like a method.

    L' layers that the scores have, 1 for those with a meaning at the input only; W words of a document; D documents
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import classification_report
from torch import Tensor

from adapler.eraser import EraserCorpus, EraserExample
from adapler.errors import ArgumentError, DataError, validation_reason
from adapler.system import read_rows, replacing
from analysis.corpus import Window, WindowScores, word_scores
from analysis.faithfulness import version_logits
from analysis.marks import by_index
from analysis.metrics import plausibility as pl
from analysis.report import RationaleReport
from analysis.scores.base import ScoringMethod
from analysis.scoring import ScoredWindow, Scorer, Settings

if TYPE_CHECKING:
    from analysis.rationale_eval import Document, Plan

HUMAN = "human"  # the method of `human`
AOPC_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the official scorer
COMPREHENSIVENESS, SUFFICIENCY = (f"{kind}_classification_scores" for kind in ("comprehensiveness", "sufficiency"))
ANSWERS = ("classification", "classification_scores", COMPREHENSIVENESS, SUFFICIENCY, "thresholded_scores")
Span = tuple[int, int]
Source = str | Path | Mapping[str, Any] | pd.DataFrame


@dataclass(eq=False)
class Given:
    """One more method: scores of words by document id, which need not be there for every document.

    scores   (W,), or (L', W) with the same L' for all documents; of a hard rationale alone 0 and 1
    spans    (annotation id, document id) -> hard rationale as it stands in the source, where spans may touch; {}: none
    answers  annotation id -> the fields ANSWERS of the file
    signed   a score of the source is below 0, be it of a document that is not evaluated
    soft     False for hard rationales alone
    others   documents of the source that are in another split of the corpus
    """

    name: str
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    spans: dict[tuple[str, str], list[Span]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    signed: bool = False
    soft: bool = True
    others: int = 0

    @property
    def layers(self) -> int | None:
        """L' of scores by layer, None for scores with a meaning at the input only."""
        first = next(iter(self.scores.values()))
        return len(first) if first.ndim == 2 else None

    def windows(self, document: str, windows: Sequence[Window], truncation: str = "truncate") -> list[WindowScores]:
        """Every wordpiece gets its word's score, special tokens 0; nothing for a document that is not there.

        Scores without a sign become shares of the window; under "all-windows" of the document: all are divided by one
        number and then stitched as they are, so that equal words stay equal.
        """
        if document not in self.scores:
            return []
        by_word = np.atleast_2d(self.scores[document])  # (L', W)
        rows = [np.where(window.special, 0.0, by_word[:, window.words]) for window in windows]  # (L', n) each
        if self.signed:
            return [WindowScores(row, None, True, of_words=True) for row in rows]
        masses, weight = [row.sum(1, keepdims=True) for row in rows], None  # (L', 1) each
        if truncation == "all-windows":
            masses, weight = [np.sum(masses, axis=0)] * len(rows), 1.0
        pairs = zip(rows, masses, strict=True)
        shares = [np.divide(row, mass, out=np.zeros_like(row), where=mass > 0) for row, mass in pairs]
        return [WindowScores(row, weight=weight, of_words=True) for row in shares]

    def hard(self, example: EraserExample) -> NDArray[np.bool_] | None:
        """(W,) the words of a document's hard rationale, None without one."""
        if not self.spans or example.id not in self.scores:
            return None
        parts = parts_of(example).items()
        return np.concatenate([_mask(self.spans.get((example.id, name), []), p.stop - p.start) for name, p in parts])

    def faithfulness(self, document: str) -> dict[str, float]:
        """Metric -> value by the file's own classifications of a document."""
        row = self.answers.get(document, {})
        label, whole = row.get("classification"), row.get("classification_scores")
        if whole is None or COMPREHENSIVENESS not in row:
            return {}
        found = {}
        for kind, key in (("comprehensiveness", COMPREHENSIVENESS), ("sufficiency", SUFFICIENCY)):
            found[f"{kind}_at_density"] = whole[label] - row[key][label]
            drops = {one["threshold"]: whole[label] - one[key][label] for one in row.get("thresholded_scores", ())}
            found |= {f"{kind}_{100 * share:g}": drop for share, drop in drops.items()}
            if drops:
                found[f"aopc_{kind}"] = float(np.mean([drops[share] for share in _shares(drops)]))
        return found


def parts_of(example: EraserExample) -> dict[str, slice]:
    """The id and the words of each document that an example joins."""
    documents = dict(example.documents or ((example.id, len(example.words)),))
    ends = np.cumsum([*documents.values()]).tolist()
    return {name: slice(end - n, end) for (name, n), end in zip(documents.items(), ends, strict=True)}


def read_given(
    predictions: Any, human: Source | None, *, examples: Sequence[EraserExample], corpus: EraserCorpus
) -> list[Given]:
    """Saved scores as methods; the last one is the human row.

    predictions: one source or several; {name: source} names them. A source is
        * the path of a file in ERASER's format, whose name is the method's,
        * a dict {document id: scores of its words, (W,) or (layers, W)}, of 0 and 1 alone: hard rationales,
        * a data frame with document and score, and if need be word (without it the rows are in order), layer, method.
    human: one source more, of human annotators. examples: the documents that are evaluated; others of the corpus are
    passed over, and counted.

    Raises DataError by file and line or document, ArgumentError for two methods of one name.
    """
    known = {example.id for split in corpus.splits.values() for example in split}
    given: list[Given] = []
    sources = [*_named(() if predictions is None else predictions)]
    for name, source in sources if human is None else [*sources, (HUMAN, human)]:
        if isinstance(source, str | Path):
            given.append(_read_file(Path(source), name, examples, known))
        elif isinstance(source, pd.DataFrame):
            if missing := {"document", "score"} - set(source.columns):
                raise DataError(f"{name}: the data frame has no column {min(missing)!r}")
            several = source.groupby("method", sort=False) if "method" in source.columns else [(name, source)]
            given += [_given(_by_document(rows, str(one)), str(one), examples, known) for one, rows in several]
        elif isinstance(source, Mapping):
            given.append(_given(source, name, examples, known))
        else:
            raise ArgumentError(f"predictions: got a {type(source).__name__}, must be a path, a dict or a data frame")
    names = [one.name for one in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ArgumentError(f"predictions: two sources are named {twice!r}; {{name: source}} names them")
    return given


def _named(predictions: Any) -> Iterator[tuple[str, Any]]:
    """(name, source) of every source."""
    one = (str, Path, Mapping, pd.DataFrame)
    if isinstance(predictions, Mapping) and all(isinstance(source, one) for source in predictions.values()):
        yield from ((str(name), source) for name, source in predictions.items())
        return
    for source in [predictions] if isinstance(predictions, one) else predictions:
        yield (Path(source).stem if isinstance(source, str | Path) else "given"), source


def _given(scores: Mapping[Any, Any], name: str, examples: Sequence[EraserExample], known: set[str]) -> Given:
    """A method of scores by document id."""
    wanted = {example.id: example for example in examples}
    found, arrays = Given(name), {}
    for key, values in scores.items():
        where = f"{name}: document {key}"
        if str(key) not in known:
            raise DataError(f"{where} is not in the corpus")
        try:
            array = as_array(by_index(values, where))
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where}: scores must be numbers, one per word, or one row of them per layer") from error
        if not np.isfinite(array).all():
            raise DataError(f"{where}: scores must be finite, found {array[~np.isfinite(array)][0]}")
        arrays[str(key)] = array
        if str(key) not in wanted:
            found.others += 1
            continue
        n = len(wanted[str(key)].words)
        if array.ndim not in (1, 2) or array.shape[-1] != n:
            raise DataError(f"{where}: scores of shape {array.shape}, must be ({n} words,) or (layers, {n})")
        found.scores[str(key)] = array
    if not found.scores:
        raise DataError(f"{name}: has none of the {len(wanted)} documents that are evaluated")
    if len(layers := {one.shape[:-1] for one in found.scores.values()}) > 1:
        raise DataError(f"{name}: scores of {' and '.join(str(n[0] if n else 1) for n in layers)} layers")
    found.signed = any((one < 0).any() for one in arrays.values())
    if found.layers is None and all(np.isin(one, (0, 1)).all() for one in arrays.values()):
        spans = {
            (document, name): pl.spans_of(marks[part] == 1)
            for document, marks in found.scores.items()
            for name, part in parts_of(wanted[document]).items()
        }
        if any(spans.values()):  # zeros alone are scores
            found.soft, found.spans = False, spans
    return found


def as_array(values: Any) -> NDArray[np.float64]:
    """Convert to an array, also from a tensor on a GPU, in bfloat16 or with a gradient."""
    return np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)


def _by_document(rows: pd.DataFrame, name: str) -> dict[str, NDArray[np.float64]]:
    """Document id -> (W,), or (L', W) where there is a column `layer`; checked to be complete."""
    layered = "layer" in rows.columns
    rows = rows.assign(layer=rows["layer"] if layered else 0)
    if "word" not in rows.columns:
        rows["word"] = rows.groupby(["document", "layer"]).cumcount()
    found = {}
    for document, part in rows.groupby("document", sort=False, dropna=False):
        table = part.pivot_table("score", "layer", "word")  # smaller than the rows where a word has several scores
        complete = [list(axis) == list(range(len(axis))) for axis in table.axes]
        if table.size != len(part) or table.isna().any(axis=None) or not all(complete):
            raise DataError(f"{name}: document {document} must have one score for each word (and layer), from 0 on")
        found[str(document)] = table.to_numpy(dtype=np.float64)[slice(None) if layered else 0]
    return found


class _Span(BaseModel):
    start_token: int = Field(ge=0)
    end_token: int
    docid: str = ""  # of an evidence
    text: Any = None


class _Rationale(BaseModel, coerce_numbers_to_str=True):
    docid: str
    soft_rationale_predictions: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    hard_rationale_predictions: list[_Span] | None = None


class _Faithfulness(BaseModel, extra="allow"):
    comprehensiveness_classification_scores: dict[str, float] | None = None
    sufficiency_classification_scores: dict[str, float] | None = None


class _Threshold(_Faithfulness):
    threshold: float


class _Row(_Faithfulness, coerce_numbers_to_str=True):
    """A line: predictions, or annotations, whose classification is the gold label."""

    annotation_id: str
    rationales: list[_Rationale] | None = None
    evidences: list[list[_Span]] | None = None
    classification: str | None = None
    classification_scores: dict[str, float] | None = None
    thresholded_scores: list[_Threshold] | None = None

    @property
    def answers(self) -> dict[str, Any]:
        """The existing fields of ANSWERS; ValueError for one without the others that it needs."""
        if self.rationales is None:
            return {}
        found = {name: value for name, value in self.model_dump().items() if name in ANSWERS and value is not None}
        maps = [found.get(name) for name in ANSWERS[1:4]] if len(found) > 2 else [found.get(ANSWERS[1])]
        maps += [one[name] for one in found.get("thresholded_scores", ()) for name in ANSWERS[2:4]]
        if found and not all(one is not None and self.classification in one for one in maps):
            raise ValueError(f"{', '.join(found)}: {', '.join(ANSWERS[:4])} must stand together and name the class")
        return found

    def marks(self, lengths: Mapping[str, int]) -> tuple[dict[str, NDArray[np.float64]], dict[str, list[Span]]]:
        """Soft scores and hard rationales by document. lengths: words of each document of the example."""
        soft: dict[str, NDArray[np.float64]] = {}
        hard: dict[str, list[Span]] = {}
        if self.rationales is None:
            if self.evidences is None:
                raise ValueError("has neither 'rationales' nor 'evidences'")
            for one in itertools.chain(*self.evidences):
                marks = one.start_token != one.end_token or one.text != ""  # [n, n) with no text marks nothing
                hard.setdefault(one.docid, []).extend(_checked([one] if marks else [], one.docid, lengths))
            return soft, {docid: _apart(hard.get(docid, [])) for docid in lengths}
        for part in self.rationales:
            if part.docid in soft or part.docid in hard:
                raise ValueError(f"document {part.docid!r} appears twice")
            spans = _checked(part.hard_rationale_predictions or (), part.docid, lengths)
            if part.soft_rationale_predictions is not None:
                soft[part.docid] = np.array(part.soft_rationale_predictions)
                if (n := len(soft[part.docid])) != lengths[part.docid]:
                    raise ValueError(f"{n} scores, document {part.docid!r} has {lengths[part.docid]} words")
            if part.hard_rationale_predictions is not None:
                hard[part.docid] = sorted(set(spans))  # equal ones count once, ones that touch stay apart
                for (start, end), (after, _) in itertools.pairwise(hard[part.docid]):
                    if after < end:
                        raise ValueError(f"predicted spans of {part.docid!r} overlap: [{start}, {end}) and another")
        if soft and len(soft) < len(lengths):
            raise ValueError("some of its documents have soft_rationale_predictions, others have not")
        return soft, hard


def _apart(spans: Sequence[Span]) -> list[Span]:
    """Merge overlapping spans; adjacent spans stay apart."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _checked(spans: Sequence[_Span], docid: str, lengths: Mapping[str, int]) -> list[Span]:
    """Spans within a document of the example."""
    if docid not in lengths:
        raise ValueError(f"docid {docid!r} is not the example's, which has {', '.join(lengths)}")
    pairs = [(span.start_token, span.end_token) for span in spans]
    for start, end in pairs:
        if not start < end <= lengths[docid]:
            raise ValueError(f"span [{start}, {end}) is out of range, document {docid!r} has {lengths[docid]} words")
    return pairs


def _read_file(path: Path, name: str, examples: Sequence[EraserExample], known: set[str]) -> Given:
    """A file in ERASER's format. As for the official scorer, all lines must have the same fields."""
    wanted = {example.id: example for example in examples}
    found, kinds, seen = Given(name), {}, set()  # type: Given, dict[tuple[Any, ...], str], set[str]
    for line, where, content in read_rows(path, "jsonl"):
        try:
            row = _Row.model_validate(content)
            if row.annotation_id in seen or row.annotation_id not in known:
                why = "appears twice" if row.annotation_id in seen else "is not in the corpus"
                raise ValueError(f"annotation id {row.annotation_id!r} {why}")
            seen.add(row.annotation_id)
            scores = [score for part in row.rationales or () for score in part.soft_rationale_predictions or ()]
            found.signed = found.signed or min(scores, default=0) < 0
            if row.annotation_id not in wanted:
                found.others += 1
                continue
            lengths = {part: at.stop - at.start for part, at in parts_of(wanted[row.annotation_id]).items()}
            (soft, hard), answers = row.marks(lengths), row.answers
        except ValidationError as error:
            raise DataError(f"{where}: {validation_reason(error)}") from error
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        found.spans |= {(row.annotation_id, part): spans for part, spans in hard.items()}
        if answers:
            found.answers[row.annotation_id] = answers
        masks = {part: _mask(hard.get(part, []), n).astype(np.float64) for part, n in lengths.items()}
        found.scores[row.annotation_id] = np.concatenate([(soft or masks)[part] for part in lengths])
        if soft or hard:  # a line without any entry is a rationale of no word
            kinds.setdefault((bool(soft), bool(hard), *answers), f"line {line}")
    if not found.scores:
        raise DataError(f"{path}: has none of the {len(wanted)} documents that are evaluated")
    if len(kinds) > 1:
        one, other = itertools.islice(kinds.values(), 2)
        raise DataError(f"{path}: {one} and {other} have different fields; all documents must have them, or none")
    found.soft = next(iter(kinds), (False,))[0]
    return found


def _mask(spans: Sequence[Span], length: int) -> NDArray[np.bool_]:
    mask = np.zeros(length, dtype=bool)
    for start, end in spans:
        mask[start:end] = True
    return mask


def rationale_line(
    example: EraserExample, scores: NDArray[np.float64], hard: NDArray[np.bool_], answers: Mapping[str, Any]
) -> dict[str, Any]:
    """A line of a predictions file: scores (W,) with all their digits, hard (W,), and the fields ANSWERS."""
    rationales = []
    for docid, part in parts_of(example).items():
        spans = [{"start_token": i, "end_token": j} for i, j in pl.spans_of(hard[part])]
        soft = scores[part].tolist()
        rationales.append({"docid": docid, "soft_rationale_predictions": soft, "hard_rationale_predictions": spans})
    return {"annotation_id": example.id, "rationales": rationales, **answers}


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """A predictions file, whole or not at all."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def instance_of(
    length: int,
    *,
    truth: Sequence[Span],
    predicted: Sequence[Span] | None = (),
    scores: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Counts of one document of one example.

    truth: annotated spans as they stand in the file: equal ones count once, touching ones apart, an empty one as a span
    that nothing can match. predicted: likewise; None where the document is missing from the source, whose rationale
    then counts as not found. scores: (length,), or None.
    """
    gold, mine = set(truth), set(predicted or ())
    labels, chosen = _mask(sorted(gold), length), _mask(sorted(mine), length)
    row: dict[str, Any] = {
        "present": predicted is not None,
        "hits": pl.matching_spans(sorted(gold), sorted(mine), pl.IOU_THRESHOLD),
        "spans": (len(gold & mine), len(gold), len(mine)),
        "tokens": (int((labels & chosen).sum()), int(labels.sum()), int(chosen.sum())),
    }
    if scores is not None:
        both = labels.any() and not labels.all()
        area = pl.average_precision(labels, scores) if both else math.nan
        row["soft"] = (pl.auprc(labels, scores), area, pl.roc_auc(labels, scores))
    return row


def official_scores(instances: Sequence[Mapping[str, Any]], *, present_only: bool = False) -> dict[str, Any]:
    """The scores that ERASER's official scorer prints, by its definitions; {} where no document has a rationale.
    present_only: over the documents that the source has.

    iou_scores          macro F1 is of the mean precision (documents with predictions) and recall (with a rationale)
    rationale_prf       exact spans, token_prf single tokens; macro is the mean over documents with either, a missing
                        side counting 0
    token_soft_metrics  auprc over the documents with scores (.5 without rationale); average_precision and roc_auc_score
                        over those with both classes
    """
    rows = [row for row in instances if row["present"] or not present_only]
    result: dict[str, Any] = {}
    if not any(row["spans"][1] for row in rows):
        return result
    if any(row["spans"][2] for row in rows):
        hits = [(row["hits"], *row["spans"][1:]) for row in rows]
        right, truths, predictions = (sum(column) for column in zip(*hits, strict=True))
        recall = float(np.mean([found / total for found, total, _ in hits if total]))
        precision = float(np.mean([found / total for found, _, total in hits if total]))
        iou = {"micro": _prf(right / predictions, right / truths), "macro": _prf(precision, recall)}
        result["iou_scores"] = [{"threshold": pl.IOU_THRESHOLD, **iou}]
        result["rationale_prf"] = _set_scores([row["spans"] for row in rows])
        result["token_prf"] = _set_scores([row["tokens"] for row in rows])
    soft = np.array([row["soft"] for row in rows if "soft" in row])  # (D, 3)
    if len(soft):
        both = ~np.isnan(soft[:, 2])
        means = [soft[:, 0].mean(), *(soft[both, i].mean() if both.any() else math.nan for i in (1, 2))]
        names = ("auprc", "average_precision", "roc_auc_score")
        result["token_soft_metrics"] = dict(zip(names, map(float, means), strict=True))
    return result


def classification_scores(
    answers: Mapping[str, Mapping[str, Any]], gold: Mapping[str, str], *, present_only: bool = False
) -> dict[str, Any]:
    """ERASER's scores of a file's own classifications: accuracy, comprehensiveness, sufficiency, their entropies and
    divergences, AOPC. A document that the file lacks is classified wrongly; the others are means over the file.

    answers: annotation id -> the fields ANSWERS. gold: annotation id -> label.
    """
    rows = [answers[document] for document in gold if document in answers]
    judged = {document: label for document, label in gold.items() if document in answers or not present_only}
    truth = np.array(list(judged.values()))
    predicted = np.array([answers[one]["classification"] if one in answers else "" for one in judged])
    report = classification_report(truth, predicted, labels=np.unique(truth), output_dict=True, zero_division=0)
    result: dict[str, Any] = {"accuracy": float((truth == predicted).mean()), "prf": report}
    for kind, key in (("comprehensiveness", COMPREHENSIVENESS), ("sufficiency", SUFFICIENCY)):
        if key not in rows[0]:
            continue
        said = [(row["classification_scores"], row[key], row["classification"]) for row in rows]
        result[kind] = _mean([p[c] - q[c] for p, q, c in said])
        pairs = [([p[c] for c in p], [q[c] for c in p]) for p, q, _ in said]
        result[f"{kind}_entropy"] = _mean([entropy(p) - entropy(q) for p, q in pairs])
        result[f"{kind}_kl"] = _mean([entropy(q, p) for p, q in pairs])
        if "thresholded_scores" in rows[0]:
            shares = _shares([one["threshold"] for one in rows[0]["thresholded_scores"]])
            drops = [
                [p[c] - {one["threshold"]: one[key][c] for one in row["thresholded_scores"]}[share] for share in shares]
                for row, (p, _, c) in zip(rows, said, strict=True)
            ]  # (D, shares)
            points = np.mean(drops, axis=0)
            result["aopc_thresholds"] = list(shares)
            result[f"{kind}_aopc"] = float(points.mean())
            result[f"{kind}_aopc_points"] = points.tolist()
    return result


def _shares(there: Any) -> Sequence[float]:
    """The scorer's thresholds where a file has them all, else the file's own."""
    return AOPC_SHARES if set(AOPC_SHARES) <= set(there) else tuple(sorted(there))


def _mean(values: Sequence[float]) -> float | None:
    """None for what JSON has no number for: a class that loses all of its probability."""
    mean = float(np.mean(values))
    return mean if math.isfinite(mean) else None


def _set_scores(rows: Sequence[tuple[int, int, int]]) -> dict[str, dict[str, float]]:
    """Micro and macro over (right, annotated, predicted) of each document."""
    right, truths, predictions = (sum(column) for column in zip(*rows, strict=True))
    each = [_prf(hits / (mine or 1), hits / (gold or 1)) for hits, gold, mine in rows if gold or mine]
    macro = {name: sum(row[name] for row in each) / len(each) for name in ("p", "r", "f1")}
    return {"instance_micro": _prf(right / predictions, right / (truths or 1)), "instance_macro": macro}


def _prf(precision: float, recall: float) -> dict[str, float]:
    return {"p": precision, "r": recall, "f1": pl.f1_of(precision, recall)}


def judge_as_eraser(
    by_layer: list[list[dict[str, Any]]],
    document: Document,
    rows: Sequence[WindowScores] | None,
    source: Given | None,
    plan: Plan,
) -> None:
    """Add a document's instances to those of each layer of one method: every document that somebody annotated counts,
    also one without a rationale, and one that a file (source) lacks, as not found. rows: None without scores of it."""
    example = document.example
    n_layers = (source.layers or 1) if source is not None else len(rows[0].scores) if rows else 0
    by_layer += [[] for _ in range(n_layers - len(by_layer))]
    if not example.annotated:
        return
    words, how = None, plan.settings.aggregation
    if rows is not None:
        words = word_scores(document.windows, rows, n_words=len(example.words), aggregation=how)  # (L', W)
    own_spans, soft = ({}, True) if source is None else (source.spans, source.soft)
    for layer, instances in enumerate(by_layer):
        scores = None if words is None else words[layer]
        hard = None if scores is None or own_spans else plan.hard_rationale(scores, example.id)
        for docid, part in parts_of(example).items():
            truth: Sequence[Span] = [one[1:] for one in example.evidences or () if one[0] == docid]
            if example.evidences is None:
                truth = pl.spans_of(example.rationale()[part])
            predicted = own_spans.get((example.id, docid), []) if hard is None else pl.spans_of(hard[part])
            found: dict[str, Any] = {"predicted": None if scores is None else predicted}
            if scores is not None and soft:
                found["scores"] = scores[part]
            instances.append(instance_of(part.stop - part.start, truth=truth, **found))


def eraser_meta(
    official: Mapping[str, list[list[dict[str, Any]]]], given: Sequence[Given], examples: Sequence[EraserExample]
) -> dict[str, Any]:
    """eraser_scores: method -> for each layer what ERASER's scorer prints; a document that a file lacks counts as 0.
    eraser_scores_present: of methods that lack some, the same over the documents that they have."""
    gold = {example.id: example.label for example in examples}
    answers = {one.name: one.answers for one in given if one.answers}
    lacking = {one.name: len(one.scores) for one in given if len(one.scores) < len(examples)}
    found: dict[str, Any] = {"eraser_scores": {}, "eraser_scores_present": {}}
    for key, only in (("eraser_scores", False), ("eraser_scores_present", True)):
        for name, layers in official.items():
            if only and name not in lacking:
                continue
            rows = [official_scores(layer, present_only=only) for layer in layers]
            if name in answers:
                own = classification_scores(answers[name], gold, present_only=only)
                rows = [row | {"classification_scores": own} for row in rows]
            if any(rows):
                found[key][name] = {"documents": lacking[name], "layers": rows} if only else rows
    return found


def line_of(
    document: Document, scored: Sequence[ScoredWindow], method: ScoringMethod, layer: int, plan: Plan
) -> dict[str, Any]:
    """A method's line of a predictions file, see `analysis.eraser`.

    Class and probabilities, also those without, and of only, the words of the hard rationale, are of the model whose
    scores these are, and of the mean of its windows' logits; with faithfulness metrics also at ERASER's percentages.
    """
    example, how, scorer = document.example, plan.settings, plan.scorer
    rows = [one.scores[method.key] for one in scored]
    by_layer = word_scores(document.windows, rows, n_words=len(example.words), aggregation=how.aggregation)  # (L', W)
    scores = by_layer[layer if len(by_layer) > 1 else 0]
    shares = [percent / 100 for percent in how.faithfulness.bins] if how.faithfulness_metrics else []
    sets = [plan.hard_rationale(scores, example.id, share) for share in (None, *shares)]
    reduced = "adapler" in method.needs
    mask = scorer.tokenizer.mask_token_id if how.faithfulness.variant == "mask" else None
    logits = []  # of each window (1 + 2 sets, C): whole, then without and only each set
    for one in scored:
        kept = [one.window.special | words[one.window.words] for chosen in sets for words in (~chosen, chosen)]
        ids = one.window.input_ids
        versions = [ids[keep] if mask is None else np.where(keep, ids, mask) for keep in kept]
        changed = version_logits(one.window, versions, scorer, of_adapler=reduced)
        unchanged = one.adapler_logits if reduced else one.logits
        logits.append(np.vstack([np.asarray(unchanged, dtype=np.float64), changed]))
    names = [str(scorer.model.config.id2label[i]) for i in range(logits[0].shape[1])]
    means = np.mean(logits, axis=0)  # (1 + 2 sets, C)
    whole, *without_and_only = (dict(zip(names, map(float, softmax(row)), strict=True)) for row in means)
    pairs = [
        {COMPREHENSIVENESS: without, SUFFICIENCY: only}
        for without, only in zip(without_and_only[::2], without_and_only[1::2], strict=True)
    ]
    answers: dict[str, Any] = {"classification": max(whole, key=whole.__getitem__), "classification_scores": whole}
    answers |= pairs[0]
    if shares:
        at = zip(shares, pairs[1:], strict=True)
        answers["thresholded_scores"] = [{"threshold": share, **pair} for share, pair in at]
    return rationale_line(example, scores, sets[0], answers)


def layers_to_write(
    folder: Any,
    layers: str | Path | Mapping[str, int] | None,
    scorer: Scorer,
    *,
    corpus: EraserCorpus,
    facts: Mapping[str, Any],
) -> dict[str, int]:
    """Method -> the layer whose rationales are written. ArgumentError if none is chosen."""
    how = scorer.settings
    if not folder:
        raise ArgumentError("rationale_layer: a layer is named, but no rationales are written (--rationales)")
    if layers is not None and how.rationale_layer is not None:
        raise ArgumentError("rationale_layers: got layers, but rationale_layer names one, too")
    if isinstance(layers, str | Path):
        layers = best_layers(layers, corpus=corpus, settings=how, facts=facts)
    if not scorer.methods:
        raise ArgumentError("rationales: no method computes scores (--methods)")
    found = {}
    for key, method in scorer.methods.items():
        layer = 0 if method.layerwise is False else layers.get(key) if layers is not None else how.rationale_layer
        if layer is None or not 0 <= layer < scorer.model.config.num_hidden_layers:
            said = "name one (--rationale-layer), or a report of the validation split (--rationale-layers)"
            raise ArgumentError(f"rationale_layer: got {layer} for {key!r}; {said}")
        found[key] = layer
    return found


def best_layers(
    path: str | Path, *, corpus: EraserCorpus, settings: Settings, facts: Mapping[str, Any]
) -> dict[str, int]:
    """Method -> the layer with the best average precision in a saved report of another split than is evaluated.

    Raises ArgumentError for a report of that very split, of other models or another view of the documents.
    """
    report = RationaleReport.load(path)
    meta, data = report.meta, report.meta["data"]
    if meta["split"] == settings.split and (data["name"] == corpus.name or data.get("checksum") == corpus.checksum):
        said = "choose layers by a report of the validation split"
        raise ArgumentError(f"rationale_layers: {path} is a report of {settings.split!r}, which is evaluated; {said}")
    ours = {"data": {"name": corpus.name}, "checksums": facts.get("checksums")}
    ours |= {name: getattr(settings, name) for name in ("truncation", "max_length", "aggregation", "threshold_scale")}
    theirs = {**meta, "data": {"name": data["name"]}}
    if differs := [f"{name} {theirs.get(name)}, here {ours[name]}" for name in ours if theirs.get(name) != ours[name]]:
        raise ArgumentError(f"rationale_layers: {path} is of another evaluation: {'; '.join(differs)}")
    frame = report.frame[report.frame["metric"] == "average_precision"]
    if frame.empty:
        raise ArgumentError(f"rationale_layers: {path} has no average_precision")
    means = frame.groupby(["method", "layer", "document"])["value"].mean().groupby(["method", "layer"]).mean().unstack()
    return {str(method): int(layer) for method, layer in means.idxmax(axis=1).items()}
