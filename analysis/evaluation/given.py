"""Scores that were made elsewhere - a file in ERASER's format, a dict, a data frame, or human annotators - as methods.

L' layers that the scores have, 1 for those with a meaning at the input only; W words of a document; n wordpieces
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from adapler.errors import ArgumentError, DataError
from analysis.documents.eraser_format import Prediction, Predictions, read_rationales
from analysis.documents.units import WindowScores
from analysis.documents.values import by_index
from analysis.documents.windows import AnnotatedDocument, Window

HUMAN = "human"  # the method of `human`
_LARGE, _BITS = 2.0**960, 64  # scores from _LARGE on lose _BITS of their exponent: 2^64 of them still have a sum
Source = str | Path | Mapping[str, Any] | pd.DataFrame


@dataclass(frozen=True, eq=False)
class GivenScores:
    """One more method: scores of words by document id, which need not be there for every document.

    predictions: their `scores` are (W,), or (L', W) with the same L' for all documents.
    signed: whether a score of the source is below 0, be it of a document that is not evaluated: which documents are
        drawn does not decide how a score is read.
    """

    name: str
    title: str
    predictions: Mapping[str, Prediction]
    signed: bool

    @property
    def layers(self) -> int | None:
        """L' of scores by layer, None for scores with a meaning at the input only."""
        first = next(iter(self.predictions.values()), None)
        return len(first.scores) if first is not None and first.scores.ndim == 2 else None

    def windows(self, document: str, windows: Sequence[Window], *, policy: str) -> tuple[WindowScores, ...] | None:
        """Every wordpiece gets its word's score, special tokens 0; None for a document that is not there.

        Scores without a sign become shares of the window; under "all-windows" shares of the document. All of them are
        divided by one number and then stitched as they are, in float64, so that equal words stay equal. Where no word
        in view has a score but 0, the shares are 0: the method selects nothing there.
        """
        if document not in self.predictions:
            return None
        by_word = np.atleast_2d(self.predictions[document].scores)  # (L', W)
        if not self.signed and by_word.max(initial=0) > _LARGE:
            by_word = np.ldexp(by_word, -_BITS)
        rows = [np.where(window.special, 0.0, by_word[:, window.words]) for window in windows]  # (L', n) each
        if self.signed:
            return tuple(WindowScores(row, None, True, of_words=True) for row in rows)
        if policy == "all-windows":
            whole = np.sum([row.sum(1) for row in rows], axis=0)
            return tuple(WindowScores(_shares(row, whole), weight=1.0, of_words=True) for row in rows)
        return tuple(WindowScores(_shares(row, row.sum(1)), of_words=True) for row in rows)

    def hard(self, document: str) -> NDArray[np.bool_] | None:
        """(W,) the words of the document's hard rationale, None without one."""
        return self.predictions[document].hard if document in self.predictions else None


def read_given(
    predictions: Source | Sequence[Source | tuple[str, Source]] | Mapping[str, Source],
    human: Source | None,
    examples: Sequence[AnnotatedDocument],
) -> tuple[GivenScores, ...]:
    """Saved scores as methods; the last one is the human row.

    predictions: one source or several. A source is
        * the path of a file in ERASER's format; the method is named after the file,
        * a dict {document id: scores of its words, (W,) or (layers, W)}; a pandas Series goes by its index; where all
          of a source are 0 and 1 they are hard rationales, as in ERASER's files,
        * a data frame with the columns document and score, and if need be word (or token: the word's index; without
          it the rows are in order), layer and method.
        A source gets a name in {name: source} or (name, source); otherwise dicts and frames are called "given".
    human: one source more, of human annotators.
    examples: the documents that are evaluated. Others in a source are passed over.

    Raises DataError for what is wrong in a source, naming file and line or the document; ArgumentError for two methods
    of one name.
    """
    given = [
        GivenScores(name, name, found, found.signed)
        for name, source in _named(predictions)
        for name, found in _read(source, name, examples)
    ]
    if human is not None:
        given += [GivenScores(HUMAN, "Human", found, found.signed) for _, found in _read(human, HUMAN, examples)]
    names = [one.name for one in given]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(
                f"predictions: two sources are named {name!r}, a method's name; {{name: source}} names them"
            )
    return tuple(given)


def _named(predictions: Any) -> Iterator[tuple[str, Source]]:
    """(name, source) of every source."""
    if isinstance(predictions, Mapping) and all(
        isinstance(one, str | Path | Mapping | pd.DataFrame) for one in predictions.values()
    ):
        yield from ((str(name), source) for name, source in predictions.items())
        return
    alone = isinstance(predictions, str | Path | Mapping | pd.DataFrame) or _is_named(predictions)
    if not alone and not isinstance(predictions, Iterable):
        kind = type(predictions).__name__
        raise ArgumentError(f"predictions: got a {kind}, must be a path, a dict, a data frame, or a list of them")
    for source in [predictions] if alone else predictions:
        if not isinstance(source, tuple):
            yield (Path(source).stem if isinstance(source, str | Path) else "given"), source
        elif len(source) == 2:
            yield str(source[0]), source[1]
        else:
            raise ArgumentError(f"predictions: a tuple must be (name, source), got one of {len(source)} values")


def _is_named(predictions: Any) -> bool:
    """Whether it is one (name, source); of two paths each is a source."""
    return (
        isinstance(predictions, tuple)
        and len(predictions) == 2
        and isinstance(predictions[0], str)
        and isinstance(predictions[1], Mapping | pd.DataFrame)
    )


def _read(source: Source, name: str, examples: Sequence[AnnotatedDocument]) -> Iterator[tuple[str, Predictions]]:
    """(method, its predictions); only a data frame can hold several methods."""
    if isinstance(source, str | Path):
        yield name, read_rationales(source, examples)
    elif isinstance(source, pd.DataFrame):
        if missing := {"document", "score"} - set(source.columns):
            raise DataError(f"{name}: the data frame has no column {min(missing)!r}")
        for column in ("document", "method"):  # groupby would leave such rows out
            if column in source.columns and source[column].isna().any():
                row = int(source[column].isna().to_numpy().argmax())
                raise DataError(f"{name}: row {row} of the data frame has no {column}")
        if "method" in source.columns:
            for method, rows in source.groupby("method", sort=False):
                yield str(method), _predictions(_by_document(rows, str(method)), str(method), examples)
        else:
            yield name, _predictions(_by_document(source, name), name, examples)
    elif isinstance(source, Mapping):
        yield name, _predictions(source, name, examples)
    else:
        kind = type(source).__name__
        raise DataError(f"{name}: scores must be a path, a dict or a data frame, found a {kind}")


def _predictions(scores: Mapping[Any, Any], name: str, examples: Sequence[AnnotatedDocument]) -> Predictions:
    known = {example.id: example for example in examples}
    found, others = Predictions(), False
    for key, values in scores.items():
        example = known.get(str(key))
        others = others or example is None and _has_negative(values)
        if example is not None:
            if example.id in found:
                raise DataError(f"{name}: document {key} comes twice, as a text and as a number")
            found[example.id] = Prediction(example.id, _checked(values, f"{name}: document {key}", len(example.words)))
    if not found:
        raise DataError(f"{name}: has none of the {len(known)} documents that are evaluated")
    layers = {identifier: _layers(one) for identifier, one in found.items()}
    first = next(iter(layers))
    for identifier, number in layers.items():
        if number != layers[first]:
            raise DataError(
                f"{name}: document {identifier} has scores of {number} layers, document {first} of {layers[first]}"
            )
    found.signed = others or any((one.scores < 0).any() for one in found.values())
    if _are_marks(scores.values()):
        for key, one in found.items():
            found[key] = replace(one, hard=one.scores == 1)
    return found


def _are_marks(sources: Iterable[Any]) -> bool:
    """Whether a whole source says 1 of words and 0 of all others, which is a hard rationale, as in ERASER's files."""
    some = False
    for values in sources:
        try:
            array = _array(values)
        except (TypeError, ValueError, OverflowError):
            return False
        if array.ndim != 1 or not np.isin(array, (0, 1)).all():
            return False
        some = some or bool(array.any())
    return some


def _has_negative(values: Any) -> bool:
    """Whether scores of a document that is not evaluated, hence not checked, hold one below 0."""
    try:
        return bool((_array(values) < 0).any())
    except (TypeError, ValueError, OverflowError):
        return False


def _array(values: Any) -> NDArray[np.float64]:
    """Also of a tensor on a GPU, one in bfloat16 and one that has a gradient, none of which NumPy takes."""
    return np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)


def _layers(prediction: Prediction) -> int:
    return len(prediction.scores) if prediction.scores.ndim == 2 else 1


def _checked(values: Any, where: str, n_words: int) -> NDArray[np.float64]:
    values = by_index(values, where, error=DataError)
    try:
        array = _array(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: scores must be numbers, one a word, or such a row for each layer") from error
    if array.ndim not in (1, 2) or array.shape[-1] != n_words or not array.size:
        raise DataError(f"{where}: scores of shape {array.shape}, must be ({n_words} words,) or (layers, {n_words})")
    if not np.isfinite(array).all():
        raise DataError(f"{where}: scores must be finite, found {array[~np.isfinite(array)][0]}")
    return array


def _by_document(rows: pd.DataFrame, name: str) -> dict[str, NDArray[np.float64]]:
    """Document id -> (W,), or (L', W) where there is a column `layer`; checked to be complete."""
    index = next((column for column in ("word", "token") if column in rows.columns), None)
    found = {}
    for document, part in rows.groupby("document", sort=False):
        where = f"{name}: document {document}"
        if str(document) in found:
            raise DataError(f"{where} comes twice, as a text and as a number")
        by_layer = "layer" in part.columns
        layers = part["layer"].to_numpy() if by_layer else np.zeros(len(part), dtype=np.int64)
        places = part.groupby(layers).cumcount().to_numpy() if index is None else part[index].to_numpy()
        for column, numbers in (("layer", layers), (index, places)):
            if not all(isinstance(number, int | np.integer) and number >= 0 for number in numbers):
                raise DataError(f"{where}: column {column!r} must hold whole numbers from 0")
            if (most := int(np.max(numbers))) >= len(part):  # one below it has no row; it may be far too many
                missing = min(set(range(len(part))).difference(map(int, numbers)))
                raise DataError(f"{where}: no score for {column} {missing}, and one for {column} {most}")
        scores = np.full((int(np.max(layers)) + 1, int(np.max(places)) + 1), math.nan)
        if len(set(zip(layers.tolist(), places.tolist(), strict=True))) < len(part):
            raise DataError(f"{where}: two scores for one word")
        try:
            scores[layers, places] = part["score"].to_numpy(dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where}: column 'score' must hold numbers ({error})") from error
        if np.isnan(scores).any():
            layer, word = np.argwhere(np.isnan(scores))[0]
            raise DataError(f"{where}: no score for word {word}" + (f" in layer {layer}" if by_layer else ""))
        found[str(document)] = scores if by_layer else scores[0]
    return found


def _shares(row: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """(L', n) divided by mass (L',); 0 where there is none."""
    return np.divide(row, mass[:, None], out=np.zeros_like(row), where=mass[:, None] > 0)
