"""Marks of human annotators: documents in JSON lines (a file, or a folder with one a split) or in a pandas frame, marks
given for one text, and several annotators of one document.

JSON lines, in the style of HateXplain (Mathew et al., 2021), https://arxiv.org/abs/2012.10289:

    {"id": ..., "tokens": ["so", "dull"], "label": 0, "rationale": [0, 1], "query": ...}

`label` is a name, or the index of one in meta.json's labels; `rationale` is 0 or 1 for each token, or null where nobody
annotated the text, or such a list (or null) for each annotator. A token is then in the rationale when more than half of
them marked it; HateXplain's authors, and ferret, take the union. A line may have both: the annotators' lists in
`rationales_raw`, and in `rationale` what its authors made of them, which then counts. The argument `annotators` says
otherwise. `id` and `query` need not be there.

A frame has the columns `tokens` (lists of words) or `text`, `label`, and `rationale`: 0 or 1 for each word (of a text:
each part between white space), or spans (start, end), the end not included. Spans are of words beside `tokens`, of
characters beside `text`. `id`, `query` and `split` need not be there.

    A annotators of a document, W words
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import krippendorff
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StrictInt, StrictStr, ValidationError

from adapler.eraser import EraserCorpus, EraserExample
from adapler.errors import ArgumentError, DataError, validation_reason
from adapler.options import ambiguous
from adapler.system import read_rows
from analysis.metrics.plausibility import average_precision, f1_score, spans_of, token_iou

OTHER_NAMES = {"validation": "val", "dev": "val"}  # of the split that ERASER calls "val"
AUTO, MAJORITY, UNION = "auto", "majority", "union"


def by_index(values: Any, where: str) -> Any:
    """A pandas Series in the order of its index, which must be 0 to n - 1; anything else as it is. A Series that was
    sorted by its values keeps its index: read by position, its numbers would be those of other words."""
    if not isinstance(values, pd.Series) or values.empty:
        return values
    if sorted(values.index) != list(range(len(values))):
        raise ArgumentError(f"{where}: a Series goes by its index, which must be 0 to {len(values) - 1}; use .tolist()")
    return values.sort_index().to_numpy()


def word_mask(
    rationale: Any, n_words: int, *, words: Sequence[tuple[int, int]] | None = None, where: str = "rationale"
) -> NDArray[np.bool_]:
    """(n_words,) bool, True for the marked words.

    rationale: 0 or 1 for each word; or spans (start, end), the end not included; or the indices of the marked words,
        each once. A list of 0 and 1 that is as long as the text is always the first.
    words: where each word begins and ends in the text; spans are then of characters, and a word that one touches counts

    Raises ArgumentError, which begins with `where`, for anything else.

    >>> word_mask([0, 1, 1, 0], 4).tolist(), word_mask([(1, 3)], 4).tolist(), word_mask([1, 2], 4).tolist()
    ([False, True, True, False], [False, True, True, False], [False, True, True, False])
    """
    mask = np.zeros(n_words, dtype=np.bool_)
    if len(rationale) == 0:
        return mask
    try:
        values = np.asarray(by_index(rationale, where))
    except ValueError:  # rows of different length
        values = np.empty(0, dtype=object)
    is_pair = isinstance(rationale, tuple) and values.shape == (2,) and n_words != 2  # one span, or two words?
    if values.ndim == 2 and values.shape[1] == 2 and values.dtype.kind in "iu":
        begins, ends = np.array([(i, i + 1) for i in range(n_words)] if words is None else words).T
        for start, end in values.tolist():
            if not 0 <= start < end <= ends[-1]:
                raise ArgumentError(f"{where}: span ({start}, {end}) is not within the text, 0 to {ends[-1]}")
            mask |= (begins < end) & (ends > start)
        return mask
    marks = values.dtype.kind == "b" or values.dtype.kind in "iuf" and bool(np.isin(values, (0, 1)).all())
    if values.ndim == 1 and not is_pair:
        if marks and len(values) == n_words:
            return values.astype(np.bool_)
        distinct = set(values.tolist())
        if values.dtype.kind in "iu" and len(distinct) == len(values) and distinct <= set(range(n_words)):
            mask[values] = True
            return mask
    wanted = f"0 or 1 for each of the {n_words} words, a list of spans (start, end), or the marked words' indices"
    raise ArgumentError(f"{where}: got {str(rationale)[:60]!r}, must be {wanted}")


def _rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as lines of JSON; spans of characters become marks of words."""
    names = set(frame.columns)
    if not {"label", "rationale"} <= names or not {"text", "tokens"} & names:
        needed = "'label', 'rationale', and 'tokens' or 'text'"
        raise DataError(f"frame: must have the columns {needed}, it has {', '.join(map(str, frame.columns))}")
    starts, inside = 0, 0  # of spans of characters, and those that begin within a word
    rows = []
    for i, record in enumerate(frame.to_dict("records")):
        there = {k: value for k, value in record.items() if not (pd.api.types.is_scalar(value) and pd.isna(value))}
        row: dict[str, Any] = {str(name): value for name, value in there.items()}
        offsets = None
        if "tokens" in frame.columns:
            row["tokens"] = [str(word) for word in row.get("tokens", ())]
        else:
            text = str(row.pop("text", ""))
            offsets = [match.span() for match in re.finditer(r"\S+", text)]
            row["tokens"] = [text[start:end] for start, end in offsets]
        given, row["rationale"] = row.get("rationale"), None
        if given is not None and row["tokens"]:
            marks = word_mask(given, len(row["tokens"]), words=offsets, where=f"row {i}")
            row["rationale"] = marks.astype(int).tolist()
            if offsets is not None and np.ndim(given) == 2:
                starts += len(given)
                inside += sum(text[s - 1 : s].isalnum() and text[s : s + 1].isalnum() for s, _ in given if s)
        rows.append(row)
    if inside > starts / 2:
        said = "beside 'text' spans are of characters, beside 'tokens' of words"
        raise DataError(f"frame: {inside} of {starts} spans begin within a word; {said}")
    return rows


class _Line(BaseModel, coerce_numbers_to_str=True):
    """A document of JSON lines, or of a frame."""

    tokens: list[str] = Field(min_length=1)
    label: StrictInt | Annotated[StrictStr, Field(pattern=r"\S")]
    rationale: list[Literal[0, 1]] | list[list[Literal[0, 1]] | None] | None
    rationales_raw: list[list[Literal[0, 1]] | None] | None = None
    id: str | None = None
    query: str | None = None

    def example(self, *, default_id: str, names: Sequence[str]) -> EraserExample:
        raw = self.rationales_raw or self.rationale or []
        by_annotator = raw if any(isinstance(one, list) for one in raw) or set(raw) == {None} else None
        label = self.label
        if isinstance(label, int):
            if names and not 0 <= label < len(names):
                raise ValueError(f"label {label}, meta.json has {len(names)} labels")
            if reason := ambiguous(label, dict(enumerate(names))):
                raise ValueError(f"label {reason}")
            label = names[label] if names else str(label)
        elif names and label not in names:
            raise ValueError(f"label {label!r} is not in meta.json, which has {', '.join(names)}")
        numbers = tuple(number for number, one in enumerate(by_annotator or ()) if one)
        rows: list[Any] = [by_annotator[number] for number in numbers] if by_annotator else []
        flat = bool(self.rationale) and not isinstance(self.rationale[0], list | None)  # type: ignore[index]
        combined: Any = self.rationale if flat else None
        for row in [*rows, *([combined] if combined else [])]:
            if len(row) != len(self.tokens):
                raise ValueError(f"the rationale covers {len(row)} tokens, the text has {len(self.tokens)}")
        masks = np.array(rows, dtype=bool).reshape(-1, len(self.tokens))
        mask = np.array(combined, dtype=bool) if combined else combine(masks, MAJORITY)
        return EraserExample(
            self.id or default_id,
            tuple(self.tokens),
            label,
            tuple(spans_of(mask)),
            self.query or "",
            annotators=tuple(tuple(spans_of(one)) for one in masks),
            places=() if numbers == tuple(range(len(numbers))) else numbers,
            annotated=bool(combined) or len(masks) > 0,
        )


def _corpus(
    name: str,
    source: str,
    lines: Mapping[str, Sequence[tuple[str, dict[str, Any]]]],
    *,
    split: str,
    names: tuple[str, ...] = (),
) -> EraserCorpus:
    """A corpus from (where, row) of each split. The checksum is that of the requested split."""
    splits: dict[str, tuple[EraserExample, ...]] = {}
    for one, rows in lines.items():
        examples: dict[str, EraserExample] = {}
        for number, (where, row) in enumerate(rows, start=1):
            try:
                example = _Line.model_validate(row).example(default_id=f"{one}-{number}", names=names)
            except ValidationError as error:
                raise DataError(f"{where}: {validation_reason(error)}; the line has {', '.join(row)}") from error
            except ValueError as error:
                raise DataError(f"{where}: {error}") from error
            if example.id in examples:
                raise DataError(f"{where}: id {example.id!r} appears twice")
            examples[example.id] = example
        splits[one] = tuple(examples.values())
    if not splits.get(split):
        raise DataError(f"{source}: split {split!r} holds no examples")
    labels = names or tuple(sorted({example.label for one in splits.values() for example in one}))
    return EraserCorpus(name, source, _checksum(split, splits[split]), labels, splits)


def read_frame(frame: pd.DataFrame, *, split: str) -> EraserCorpus:
    """The corpus of a frame; `split` is that of rows which name none."""
    by_split: dict[str, list[Any]] = {}
    for i, row in enumerate(_rows_of(frame)):
        name = str(row.pop("split", split))
        by_split.setdefault(OTHER_NAMES.get(name, name), []).append((f"row {i}", row))
    return _corpus("frame", "frame", by_split, split=split)


def read_json_lines(path: Path, *, split: str) -> EraserCorpus:
    """The corpus of a file, which is the split, or of a folder; DataError with file and line."""
    from adapler.data import read_meta  # datasets takes a second to import

    files = {split: path} if path.is_file() else split_files(path)
    if split not in files:
        raise DataError(f"{path}: no split {split!r}, there are {', '.join(files)}")
    lines = {one: [(where, row) for _, where, row in read_rows(file, "jsonl")] for one, file in files.items()}
    # a training split often holds something else
    lines = {one: rows for one, rows in lines.items() if one == split or rows and "rationale" in rows[0][1]}
    names = read_meta(path / "meta.json" if path.is_dir() else path.with_name("meta.json")).labels or ()
    name = path.resolve().name if path.is_dir() else path.stem
    return _corpus(name, str(path), lines, split=split, names=tuple(names))


def split_files(folder: Path) -> dict[str, Path]:
    """The file of each split that a folder has."""
    found: dict[str, Path] = {}
    for stem in ("train", "val", "validation", "dev", "test"):
        split, path = OTHER_NAMES.get(stem, stem), folder / f"{stem}.jsonl"
        if path.is_file():
            if split in found:
                raise DataError(f"{folder}: {found[split].name} and {path.name} would be one split")
            found[split] = path
    return found


def _checksum(split: str, examples: Sequence[EraserExample]) -> str:
    rows = [[e.id, e.words, e.label, e.spans, e.query] for e in examples]
    return hashlib.sha256(json.dumps([split, rows]).encode()).hexdigest()


def combine(masks: NDArray[np.bool_], rule: str, places: Sequence[int] = ()) -> NDArray[np.bool_]:
    """(A, W) -> (W,) the words that count: marked by more than half of the annotators (auto too), by any, or by one.

    places: the annotators' numbers; empty: 0, 1, 2, ... One whom this document does not have marked nothing in it.
    """
    if rule in (AUTO, MAJORITY):
        return np.asarray(masks.mean(0) > 0.5) if len(masks) else np.zeros(masks.shape[1], dtype=bool)
    if rule == UNION:
        return np.asarray(masks.any(0))
    numbers = list(places) or list(range(len(masks)))
    return masks[numbers.index(int(rule))] if int(rule) in numbers else np.zeros(masks.shape[1], dtype=bool)


def combined_by(corpus: EraserCorpus, *, split: str, annotators: str) -> EraserCorpus:
    """A corpus that was read already, with the words that count by another rule; auto leaves it as it is. All splits
    follow the rule, since the size of rationales is measured on another one than is evaluated."""
    if annotators in (AUTO, corpus.annotators) or split not in corpus.splits:
        return corpus
    numbers = {number for example in corpus.splits[split] for number in annotator_numbers(example)}
    if not numbers or annotators.isdecimal() and int(annotators) not in numbers:  # all would be as before, or unmarked
        there = f"have {min(numbers)} to {max(numbers)}" if numbers else "do not tell them apart"
        raise ArgumentError(f"annotators: got {annotators!r}, the documents {there}")

    def by_rule(one: EraserExample) -> EraserExample:
        if not one.annotators:
            return one
        there = not annotators.isdecimal() or int(annotators) in annotator_numbers(one)
        spans = spans_of(combine(annotator_masks(one), annotators, one.places))
        return replace(one, spans=tuple(spans), annotated=there)

    splits = {name: tuple(map(by_rule, examples)) for name, examples in corpus.splits.items()}
    if splits == corpus.splits:
        return corpus
    same = splits[split] == corpus.splits[split]
    checksum = corpus.checksum if same else _checksum(split, splits[split])
    return replace(corpus, splits=splits, checksum=checksum, annotators=annotators)


def annotator_numbers(example: EraserExample) -> Sequence[int]:
    """The number in the source of each annotator of a document."""
    return example.places or range(len(example.annotators))


def annotator_masks(example: EraserExample) -> NDArray[np.bool_]:
    """(A, W) what each annotator of a document marked."""
    masks = np.zeros((len(example.annotators), len(example.words)), dtype=bool)
    for row, spans in zip(masks, example.annotators, strict=True):
        for start, end in spans:
            row[start:end] = True
    return masks


def annotator_facts(examples: Sequence[EraserExample], rule: str) -> dict[str, Any]:
    """Agreement of the annotators, for a report, over the documents that have several.

    rule; fewest, most: annotators of one document, where there are several.
    alpha: Krippendorff's, nominal, of the marks of all words; None where all marks are the same.
    ceiling: the human performance: each annotator's 0 and 1 as scores of the words, judged against the others' marks by
        the rule (the majority for auto and for a single annotator): mean over a document's annotators, then over whole
        documents, of average precision, F1 and IOU of words; left out where the others marked nothing or everything.
        Marks have ties, so that their AP is below that of a ranking as good: compare F1 with a method's `f1_at_k`.
    """
    several = [example for example in examples if len(example.annotators) > 1]
    judge = UNION if rule == UNION else MAJORITY
    scores: dict[str, Any] = {"average_precision": average_precision, "f1": f1_score, "iou": token_iou}
    rows = []
    for example in several:
        masks = annotator_masks(example)
        for place, own in enumerate(masks):
            others = combine(np.delete(masks, place, axis=0), judge)
            if others.any() and not others.all():
                rows.append({"document": example.id} | {name: score(others, own) for name, score in scores.items()})
    ceiling = pd.DataFrame(rows, columns=["document", *scores]).groupby("document").mean().mean()
    counts = np.concatenate([np.stack([(~masks).sum(0), masks.sum(0)], 1) for masks in map(annotator_masks, several)])
    varied = bool(counts.any(0).all())
    people = [len(example.annotators) for example in several]
    return {
        "rule": rule,
        "fewest": min(people),
        "most": max(people),
        "alpha": float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")) if varied else None,
        "ceiling": {name: None if math.isnan(ceiling[name]) else float(ceiling[name]) for name in scores},
    }
