"""Annotated documents as plain JSON lines, in the style of HateXplain (Mathew et al., 2021),
https://arxiv.org/abs/2012.10289:

    {"id": ..., "tokens": ["so", "dull"], "label": 0, "rationale": [0, 1], "query": ...}

`label` is a name, or the index of one in meta.json's labels (without that file, see
`analysis.evaluation.fit.gold_indices`); `rationale` is 0 or 1 for each token, or null where nobody annotated the text,
or a list with such a list for each annotator. Then a token is in the rationale when the majority marked it: more than
half of the annotators who annotated the text. One who marked no token counts among them (a list of 0); one with null or
an empty list did not annotate the text and does not count. So of two annotators both must have marked a token.
HateXplain's authors, and ferret, take the union, which says more but agrees less. A line may have both: the lists in
`rationales_raw`, and in `rationale` what its authors made of them, which then counts. The argument `annotators` says
otherwise. `id` and `query` need not be there. A file is one split; a folder may have one a split, and a meta.json whose
`labels` are the names in the order of the indices.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.eraser import EraserCorpus, EraserExample, excerpt, has_documents, json_lines
from adapler.errors import DataError, ambiguous
from analysis.documents.annotators import (
    AUTO,
    MAJORITY,
    annotator_masks,
    annotator_numbers,
    check_followed,
    check_rule,
    combine,
    is_annotated,
)
from analysis.documents.eraser_format import spans_of

__all__ = ["combined_by", "holds_json_lines", "read_json_lines", "split_name"]

_FILES = {"train": ("train",), "val": ("val", "validation", "dev"), "test": ("test",)}


def split_name(name: str) -> str:
    """The split that a name means; training and the names of files say "validation" or "dev" where ERASER says "val".

    >>> split_name("validation"), split_name("test"), split_name("mine")
    ('val', 'test', 'mine')
    """
    return next((split for split, stems in _FILES.items() if name in stems), name)


def holds_json_lines(path: str | Path) -> bool:
    """Whether a path is a .jsonl file, or a folder of split files without documents in ERASER layout.

    Raises DataError for a folder with two files of one split.
    """
    path = Path(path)
    if path.is_dir():
        return not has_documents(path) and bool(_split_files(path))
    return path.suffix == ".jsonl" and path.is_file()


def read_json_lines(path: str | Path, *, split: str, annotators: str = AUTO) -> EraserCorpus:
    """The corpus with the split that is asked for; a file by itself is that split, whatever its name.

    annotators: which words count where several people marked a text: majority, union, or one annotator's number, from
        0. auto: the line's own combined list where it has one, else the majority.
    Its other splits come along, for what is measured on them (how long a rationale is, whether queries differ),
    unless they are empty or their first line has no `tokens`: such a split holds something else, as the training split
    often does. The checksum is of the split that is asked for.

    Raises DataError, with file and line, for a split that is not there and, in any split that comes along, for a line
    without tokens, with a label outside meta.json's, or with a rationale that does not fit its tokens; ArgumentError
    for another rule and for a number that no document has.
    """
    path = Path(path)
    check_rule(annotators)
    files = {split: path} if path.is_file() else _split_files(path)
    if split not in files:
        raise DataError(f"{path}: no split {split!r}, there are {', '.join(files) or 'none'}")
    names = _meta_labels(path / "meta.json" if path.is_dir() else path.with_name("meta.json"))
    examples = _read_split(files[split], split, names=names, rule=annotators)
    check_followed(annotators, examples)
    splits = {
        one: examples if one == split else _read_split(file, one, names=names, rule=annotators)
        for one, file in files.items()
        if one == split or _has_tokens(file)
    }
    labels = names or tuple(sorted({example.label for one in splits.values() for example in one}))
    name = path.resolve().name if path.is_dir() else path.stem
    return EraserCorpus(name, str(path), _checksum(split, examples), labels, splits, annotators)


def _read_split(file: Path, split: str, *, names: Sequence[str], rule: str) -> tuple[EraserExample, ...]:
    examples: dict[str, EraserExample] = {}
    for line, row in json_lines(_text(file), str(file)):
        example = _example(row, f"{file}:{line}", default_id=f"{split}-{line}", names=names, rule=rule)
        if example.id in examples:
            raise DataError(f"{file}:{line}: id {example.id!r} appears twice")
        examples[example.id] = example
    if not examples:
        raise DataError(f"{file}: holds no examples")
    return tuple(examples.values())


def _has_tokens(file: Path) -> bool:
    """Whether the first line of a split has the field `tokens`, so that the split is meant for the analysis."""
    return any("tokens" in row for _, row in itertools.islice(json_lines(_text(file), str(file)), 1))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def combined_by(corpus: EraserCorpus, *, split: str, annotators: str) -> EraserCorpus:
    """A corpus that was read already, with the words that count by another rule; see `read_json_lines`.

    auto leaves it as it is, and so it stays where a document does not tell its annotators apart. All splits follow the
    rule, since the size of rationales is measured on another one than is evaluated.
    """
    if annotators == AUTO or split not in corpus.splits:  # who asks for such a split is told what there is
        return corpus
    check_followed(annotators, corpus.splits[split])
    splits = {
        name: tuple(
            replace(
                one,
                spans=tuple(spans_of(combine(annotator_masks(one), annotators, one.places))),
                annotated=is_annotated(annotator_numbers(one), annotators),
            )
            if one.annotators
            else one
            for one in examples
        )
        for name, examples in corpus.splits.items()
    }
    if splits == corpus.splits:
        return corpus
    same = splits[split] == corpus.splits[split]
    checksum = corpus.checksum if same else _checksum(split, splits[split])
    return replace(corpus, splits=splits, checksum=checksum, annotators=annotators)


def _checksum(split: str, examples: Sequence[EraserExample]) -> str:
    rows = [[e.id, e.words, e.label, e.spans, e.query] for e in examples]
    return hashlib.sha256(json.dumps([split, rows]).encode()).hexdigest()


def _split_files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, stems in _FILES.items():
        there = [name for stem in stems if (folder / (name := f"{stem}.jsonl")).is_file()]
        if len(there) > 1:
            raise DataError(f"{folder}: {' and '.join(there)} would be one split; keep one of them there")
        if there:
            found[split] = folder / there[0]
    return found


def _meta_labels(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        meta = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # lists nested thousands deep
        raise DataError(f"{path}: not JSON ({error})") from error
    if isinstance(meta, dict) and meta.get("labels") is None:
        return ()
    labels = meta["labels"] if isinstance(meta, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{path}: 'labels' must be a list of names, found {excerpt(labels)}")
    if len(set(labels)) < len(labels):  # two indices would be one class
        raise DataError(f"{path}: 'labels' must be different names, found {excerpt(labels)}")
    return tuple(labels)


def _example(row: dict[str, Any], where: str, *, default_id: str, names: Sequence[str], rule: str) -> EraserExample:
    tokens = row.get("tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        others = "" if "tokens" in row else f"; the line has {', '.join(map(repr, row)) or 'no field'}"
        raise DataError(f"{where}: field 'tokens' must be a list of strings, found {excerpt(tokens)}{others}")
    query, name = row.get("query"), row.get("id", default_id)
    if not isinstance(name, str | int):
        raise DataError(f"{where}: field 'id' must be a string or a number, found {excerpt(name)}")
    if not isinstance(query, str | None):
        raise DataError(f"{where}: field 'query' must be a text or null, found {excerpt(query)}")
    if "rationale" not in row and (misspelt := get_close_matches("rationale", row, n=1, cutoff=0.8)):
        raise DataError(
            f"{where}: no field 'rationale', found {misspelt[0]!r}; null says that nobody annotated the text"
        )
    raw = row.get("rationales_raw")
    if raw and (not isinstance(raw, list) or not all(isinstance(one, list | None) for one in raw)):
        raise DataError(
            f"{where}: field 'rationales_raw' must be a list of 0 and 1 for each annotator, found {excerpt(raw)}"
        )
    marks = raw or row.get("rationale")
    masks = _annotators(marks, len(tokens), where)
    numbers = () if masks is None else tuple(number for number, one in enumerate(marks or ()) if one)
    combined = row.get("rationale")
    if not isinstance(combined, list | None):
        _mask(combined, len(tokens), where)
    if masks is None or (rule == AUTO and row.get("rationales_raw") and combined and not isinstance(combined[0], list)):
        mask = read_rationale(combined, len(tokens), where=where)
        annotated = bool(combined)
    else:
        mask = combine(masks, rule, numbers)
        annotated = is_annotated(numbers, rule)
    return EraserExample(
        str(name),
        tuple(tokens),
        _label(row.get("label"), names, where),
        tuple(spans_of(mask)),
        query or "",
        annotators=() if masks is None else tuple(tuple(spans_of(one)) for one in masks),
        places=() if numbers == tuple(range(len(numbers))) else numbers,
        annotated=annotated,
    )


def _label(label: Any, names: Sequence[str], where: str) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        if names and not 0 <= label < len(names):
            raise DataError(f"{where}: label {label}, meta.json has {len(names)} labels")
        if reason := ambiguous(label, dict(enumerate(names))):
            raise DataError(f"{where}: label {reason}")
        return names[label] if names else str(label)
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{where}: field 'label' must be a name or an index, found {excerpt(label)}")
    if names and label not in names:
        raise DataError(f"{where}: label {label!r} is not in meta.json, which has {', '.join(names)}")
    return label


def read_rationale(values: Any, n_tokens: int, *, where: str) -> NDArray[np.bool_]:
    """(n_tokens,) bool, the field `rationale` of a line. Raises DataError.

    Of several annotators' lists the strict majority: marked by more than half of those who annotated the text.

    >>> read_rationale([[1, 1, 0], [1, 0, 0], [0, 0, 0], None], 3, where="line 1").tolist()
    [True, False, False]
    """
    if values is None or values == []:
        return np.zeros(n_tokens, dtype=bool)
    masks = _annotators(values, n_tokens, where)
    return _mask(values, n_tokens, where) if masks is None else combine(masks, MAJORITY)


def _annotators(values: Any, n_tokens: int, where: str) -> NDArray[np.bool_] | None:
    """(A, n_tokens) of those who annotated the text; None unless there is one list an annotator."""
    if not isinstance(values, list) or not values or not all(one is None or isinstance(one, list) for one in values):
        return None
    masks = [_mask(one, n_tokens, where) for one in values if one]  # without null and []
    return np.array(masks, dtype=bool).reshape(len(masks), n_tokens)


def _mask(values: Any, n_tokens: int, where: str) -> NDArray[np.bool_]:
    if not isinstance(values, list) or any(value not in (0, 1) for value in values):
        raise DataError(
            f"{where}: field 'rationale' must be null, a list of 0 and 1, or one such list an annotator, "
            f"found {excerpt(values)}"
        )
    if len(values) != n_tokens:
        raise DataError(f"{where}: the rationale covers {len(values)} tokens, the text has {n_tokens}")
    return np.array(values, dtype=bool)
