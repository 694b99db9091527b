"""Annotated documents -> windows of wordpieces -> units of judgement, by index.

    W words of a document; n wordpieces of a window (special tokens included), N of all windows of a unit
    L' layers that a method scores; U words, or content wordpieces, of a unit

Nothing is looked up by its text: the tokenizer gets the words and says which word each wordpiece comes from. A document
longer than the model's input is cut into windows; `truncation` says how:

    truncate            the beginning, as in fine-tuning; whatever lies beyond is lost
    rationale-windows   consecutive windows, no rationale span cut in two unless it is longer than a window; those that
                        hold a rationale are seen, each as an input of its own (AdapLeR's protocol)
    all-windows         consecutive windows of whole words over the whole document, nothing is lost
"""

from __future__ import annotations

import os
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.convert_slow_tokenizer import bytes_to_unicode

from adapler.embedded import SAMPLE
from adapler.eraser import EraserCorpus, EraserExample, balanced_indices, has_documents, holds_corpus, read_corpus
from adapler.errors import ArgumentError
from adapler.text import Encoded, encode, is_byte_level
from analysis import marks
from analysis.marks import AUTO, MAJORITY, UNION
from analysis.metrics.plausibility import Unit
from analysis.scores.base import Batch

# where `adapler data download` puts the reviews, those of a clone, and the embedded sample
DEFAULT_DATA = (Path("data/eraser/movies"), SAMPLE.parent / "movies", SAMPLE)
SPACE = "\u0120"  # of byte-level BPE, the space before a word
SHARES = "\u00b7"  # a token that ends within a letter
SPECIAL = -1  # the word index of a token that is no word of the document


# ---- Documents


def default_data() -> Path:
    """The downloaded movies if they are there, else the embedded sample."""
    return next((path for path in DEFAULT_DATA if holds_corpus(path)), SAMPLE)


def load_corpus(
    data: str | os.PathLike[str] | pd.DataFrame | EraserCorpus | None, *, split: str = "test", annotators: str = AUTO
) -> EraserCorpus:
    """Documents with their rationales.

    data: a folder or archive in ERASER layout, JSON lines or a frame as in `analysis.marks`, or a corpus, whose words
        are combined again; None: the default data. split: that of a single file or of a frame without the column.
    annotators: which words count where several people marked a text: majority, union, or one annotator's number, from
        0; auto: the line's own combined list where it has one, else the majority.

    Raises ArgumentError for another rule or annotator, DataError for a file, by file and line.
    """
    check_rule(annotators)
    data = default_data() if data is None else data
    if isinstance(data, EraserCorpus):
        corpus = data
    elif isinstance(data, pd.DataFrame):
        corpus = marks.read_frame(data, split=split)
    elif holds_json_lines(data):
        corpus = marks.read_json_lines(Path(data), split=split)
    else:
        corpus = read_corpus(Path(data))
    return corpus if annotators == AUTO else marks.combined_by(corpus, split=split, annotators=annotators)


def holds_json_lines(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a .jsonl file, or a folder of split files without documents in ERASER layout."""
    path = Path(path)
    if path.is_dir():
        return not has_documents(path) and bool(marks.split_files(path))
    return path.suffix == ".jsonl" and path.is_file()


def check_rule(rule: str) -> None:
    """ArgumentError unless it is auto, majority, union or the number of an annotator, from 0."""
    if rule not in (AUTO, MAJORITY, UNION) and not rule.isdecimal():
        raise ArgumentError(f"annotators: got {rule!r}, allowed are auto, majority, union, or an annotator's index")


def documents_of(corpus: EraserCorpus, split: str, limit: int | None = None, *, seed: int = 0) -> list[EraserExample]:
    """The split's documents, or a random sample of `limit` of them with as many of one label as of another, in order
    (the first ones would not do: the movies come sorted by label)."""
    if split not in corpus.splits:
        raise ArgumentError(f"split: got {split!r}, {corpus.name} has {', '.join(corpus.splits)}")
    examples = list(corpus.splits[split])
    if not examples:
        raise ArgumentError(f"split: {split!r} of {corpus.name} has no documents")
    if limit is None:
        return examples
    return [examples[i] for i in balanced_indices([example.label for example in examples], limit, seed=seed)]


# ---- Windows


@dataclass(frozen=True, eq=False)
class Window:
    """One model input cut from one document.

    input_ids       (n,) int64, special tokens included
    token_type_ids  (n,) int64, or None if the tokenizer makes none
    words           (n,) int64, index of the word a wordpiece comes from; -1 for a special token and a query's tokens
    rationale       (n,) bool, the wordpiece's word is in a human rationale; False where words is -1
    """

    id: str
    document: str
    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64] | None
    words: NDArray[np.int64]
    rationale: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def special(self) -> NDArray[np.bool_]:
        """(n,) bool, True for the tokens that are not the document's: the tokenizer's own, and the query's."""
        return np.asarray(self.words == SPECIAL)


class Alignment(NamedTuple):
    """The windows of one document that are seen, at least one, and how much of it they cover.

    coverage: words, words_in_view, words_without_pieces (a control character, say: neither in view nor lost), and the
        same three of the words of the rationale. A word is in view when at least one of its wordpieces is.
    """

    windows: tuple[Window, ...]
    coverage: dict[str, int]


def align(
    example: EraserExample,
    tokenizer: Any,
    *,
    max_length: int = 512,
    truncation: str = "truncate",
    with_query: bool = False,
) -> Alignment:
    """Cut a document into windows of at most `max_length` wordpieces and label each wordpiece.

    tokenizer: a fast transformers tokenizer, whose first special token is where a classifier reads; or `WordTokens`.
    truncation: see the top of this file. A document without a rationale has no "rationale-windows": its first window
        stands in, so that it can be classified.
    with_query: give every window `example.query` as second segment; only the document is ever cut.

    Raises ArgumentError for a document without a wordpiece, and for a tokenizer that cannot be used.
    """
    rationale = np.asarray(example.rationale(), dtype=bool)  # (W,)
    n_words = len(example.words)
    if isinstance(tokenizer, WordTokens):
        ids = np.array(tokenizer.ids_of(example.words), dtype=np.int64)
        whole = Window(example.id, example.id, ids, None, np.arange(n_words), rationale)
        return Alignment((whole,), _coverage(rationale, np.ones(n_words, dtype=bool), [whole]))
    query = example.query.split() if with_query else []

    def cut(*ranges: tuple[int, int]) -> list[Window]:
        """Windows of ranges of words: one each, unless they do not fit."""
        parts = [list(example.words[start:end]) for start, end in ranges]
        seconds = [query] * len(parts) if query else None
        found = encode(parts, tokenizer, seconds=seconds, max_length=max_length, truncation="windows", stride=0)
        return [_window(example.id, found, k, ranges[owner][0], rationale) for k, owner in enumerate(found.owners)]

    if truncation == "truncate":
        every = cut((0, n_words))
        windows, has_pieces = every[:1], words_of(every, n_words)
    else:
        whole = encode([list(example.words)], tokenizer, max_length=10**9).encodings[0]
        found = [word for word in whole.word_ids if word is not None]
        pieces = np.bincount(np.array(found, dtype=np.int64), minlength=n_words)  # (W,) wordpieces of each word
        has_pieces = pieces > 0
        room = max_length - tokenizer.num_special_tokens_to_add(pair=bool(query))
        if query:
            room -= len(encode([query], tokenizer, max_length=10**9).rows[0]["input_ids"])
            room += tokenizer.num_special_tokens_to_add()
        spans = rationale & (truncation == "rationale-windows")
        ranges = list(_ranges(pieces, room, spans))
        marked = [part for part in ranges if spans[slice(*part)].any()] if truncation == "rationale-windows" else ranges
        windows = [window for window in cut(*marked) if not window.special.all()]
        if truncation == "rationale-windows":  # a word longer than a window makes several, some without a marked piece
            windows = [window for window in windows if window.rationale.any()]
        windows = windows or [window for window in cut(*ranges) if not window.special.all()][:1]
    if not has_pieces.any():
        raise ArgumentError(f"document {example.id}: its {n_words} words give no wordpiece")
    if windows[0].words[0] != SPECIAL:
        raise ArgumentError(
            f"tokenizer: {type(tokenizer).__name__} puts no special token first, where classifiers read"
        )
    windows = [replace(one, id=f"{one.document}#{k}" if k else one.document) for k, one in enumerate(windows)]
    return Alignment(tuple(windows), _coverage(rationale, has_pieces, windows))


def _window(name: str, encoded: Encoded, k: int, start: int, rationale: NDArray[np.bool_]) -> Window:
    """Input k of an encoding of words, the first of which is `start`."""
    record, row = encoded.encodings[k], encoded.rows[k]
    pairs = zip(record.word_ids, record.sequence_ids, strict=True)  # sequence 0: the document, 1: the query
    places = [start + word if sequence == 0 and word is not None else SPECIAL for word, sequence in pairs]
    words, ids = np.array(places, dtype=np.int64), np.array(row["input_ids"], dtype=np.int64)
    types = np.array(row["token_type_ids"], dtype=np.int64) if "token_type_ids" in row else None
    return Window(name, name, ids, types, words, np.where(words == SPECIAL, False, rationale[words]))


def _ranges(pieces: NDArray[np.int64], room: int, rationale: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of words [start, end) of at most `room` wordpieces (or one longer word), cut as late as
    possible; a cut inside a rationale span moves to the span's beginning, unless the range begins with it."""
    start, n_words = 0, len(pieces)
    totals = np.concatenate([[0], np.cumsum(pieces)])  # (W + 1,) wordpieces before each word
    while start < n_words:
        end = max(start + 1, int(np.searchsorted(totals, totals[start] + room, side="right")) - 1)
        outside = np.flatnonzero(~rationale[start:end])
        if end < n_words and rationale[end - 1] and rationale[end] and len(outside):
            end = start + int(outside[-1]) + 1
        yield start, end
        start = end


def words_of(windows: Sequence[Window], n_words: int) -> NDArray[np.bool_]:
    """(W,) bool, the words with a wordpiece in one of the windows."""
    found = np.zeros(n_words, dtype=bool)
    for window in windows:
        found[window.words[~window.special]] = True
    return found


def _coverage(rationale: NDArray[np.bool_], has_pieces: NDArray[np.bool_], seen: Sequence[Window]) -> dict[str, int]:
    sets = {"": np.ones_like(rationale), "_in_view": words_of(seen, len(rationale)), "_without_pieces": ~has_pieces}
    counted = {f"words{name}": int(one.sum()) for name, one in sets.items()}
    return counted | {f"rationale_words{name}": int((one & rationale).sum()) for name, one in sets.items()}


class WordTokens:
    """In the place of a tokenizer where no model runs: every word is one token, whole documents are in view."""

    pad_token_id = mask_token_id = None

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def ids_of(self, words: Sequence[str]) -> list[int]:
        return [self._ids.setdefault(word, len(self._ids)) for word in words]

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        words = list(self._ids)
        return [words[i] for i in ids]


def readable_tokens(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """A tokenizer's tokens, those of a byte-level one with their letters; the sign for a space before a word stays.

    A letter of several bytes may be shared by tokens: the last of them has it, one that has no other shows a dot.
    """
    bytes_of = {letter: byte for byte, letter in bytes_to_unicode().items()}  # GPT-2's letters for bytes
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(ids))]
    if not is_byte_level(tokenizer):
        return tuple(tokens)
    decoder = getincrementaldecoder("utf-8")("replace")
    shown = []
    whole = set(getattr(tokenizer, "added_tokens_decoder", ()))  # special ones, too: texts, and not bytes
    for number, token in zip(ids, tokens, strict=True):
        if number in whole or not bytes_of.keys() >= set(token):
            decoder.reset()
            shown.append(token)
            continue
        sign = SPACE if token.startswith(SPACE) else ""
        letters = decoder.decode(bytes(bytes_of[letter] for letter in token.removeprefix(sign)))
        shown.append(sign + letters if letters or token == sign else sign + SHARES)
    return tuple(shown)


def collate(
    windows: Sequence[Window],
    *,
    labels: Sequence[int] | None = None,
    pad_token_id: int | None = None,
    mask_token_id: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    threshold_scale: float = 1.0,
) -> Batch:
    """Pad windows on the right into one Batch. A tokenizer may have no token to pad or to mask with."""

    def padded(rows: Sequence[NDArray[Any]], value: int = 0) -> Tensor:
        return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=value).to(device)

    types = [window.token_type_ids for window in windows if window.token_type_ids is not None]
    return Batch(
        ids=tuple(window.id for window in windows),
        input_ids=padded([window.input_ids for window in windows], pad_token_id or 0),
        attention_mask=padded([np.ones_like(window.input_ids) for window in windows]),
        token_type_ids=padded(types) if len(types) == len(windows) else None,
        labels=None if labels is None else torch.tensor(list(labels), device=device),
        special=padded([window.special for window in windows]),
        mask_token_id=mask_token_id,
        seed=seed,
        threshold_scale=threshold_scale,
        pad_token_id=pad_token_id,
    )


# ---- Units


def aggregate(
    scores: NDArray[Any], words: NDArray[np.int64], *, how: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One score for each word: the max, mean or sum over its wordpieces; "none" gives back what it got.

    scores: (..., n); words: (n,) index of each wordpiece's word, in any order. Returns (..., W), and the words (W,) in
    order of their first wordpiece.

    >>> scores, words = aggregate(np.array([0.1, 0.3, 0.6]), np.array([4, 4, 7]), how="mean")
    >>> scores.tolist(), words.tolist()
    ([0.2, 0.6], [4, 7])
    """
    values = np.asarray(scores, dtype=np.float64)
    if how == "none" or len(words) == 0:
        return values, words
    order = np.argsort(words, kind="stable")  # a word that a window cut in two has its pieces apart
    ordered = words[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    result = (np.maximum if how == "max" else np.add).reduceat(values[..., order], starts, axis=-1)  # (..., W)
    if how == "mean":
        result = result / np.diff(starts, append=len(words))
    first = np.argsort(order[starts], kind="stable")
    return np.asarray(result[..., first]), ordered[starts][first]


@dataclass(frozen=True, eq=False)
class WindowScores:
    """Scores of one method for one window.

    scores       (L', n): float32 from a model, float64 where they were given
    present      (L', n) bool, the tokens present at the layer, or None for all
    diagnostics  name -> (L',)
    weight       of the window where several are stitched to one document; None: its share of the wordpieces, n/N
    of_words     every wordpiece carries its whole word's score, so that is the word's score under any aggregation
    """

    scores: NDArray[np.floating[Any]]
    present: NDArray[np.bool_] | None = None
    signed: bool = False
    diagnostics: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    weight: float | None = None
    of_words: bool = False


def unit_labels(windows: Sequence[Window], *, aggregation: str) -> NDArray[np.bool_]:
    """(U,) bool, the human rationale of a unit: of its content wordpieces, or of its words."""
    marked = np.concatenate([window.rationale[~window.special] for window in windows])
    return marked if aggregation == "none" else np.asarray(aggregate(marked, _words(windows), how="max")[0] > 0)


def marked_units(windows: Sequence[Window], words: NDArray[np.bool_], *, aggregation: str) -> NDArray[np.bool_]:
    """(U,) bool, the content wordpieces (or words) of a unit that `words` (W,), a mask of the document, marks."""
    others = [replace(window, rationale=np.where(window.special, False, words[window.words])) for window in windows]
    return unit_labels(others, aggregation=aggregation)


def is_judged(labels: NDArray[np.bool_], *, all_rationale: bool = False) -> bool:
    """Whether a unit has a rationale, and other tokens too unless `all_rationale`, as for ERASER's scorer."""
    return bool(labels.any() and (all_rationale or not labels.all()))


def why_skipped(units: Sequence[NDArray[np.bool_]], *, all_rationale: bool = False) -> str | None:
    """Why none of a document's units, given by their labels, can be judged; None when one can."""
    if any(is_judged(labels, all_rationale=all_rationale) for labels in units):
        return None
    return "nothing but rationale in view" if any(labels.any() for labels in units) else "no rationale in view"


def layer_units(
    windows: Sequence[Window],
    given: Sequence[WindowScores],
    labels: NDArray[np.bool_],
    *,
    aggregation: str,
    **options: Any,
) -> tuple[Unit, ...]:
    """One unit at each of the L' layers: the scores of its content wordpieces, or of its words.

    labels: (U,), `unit_labels` of the same windows; options: density, size, hard, shares and seed of `Unit`.

    Windows are stitched with the weight n/N, so that a document with uniform scores has 1/N everywhere; for the level
    "1/n, n = tokens present" with the weight of the tokens present. Scores of words are divided by their sum with that
    of the special tokens: shares of the input again, whose uniform level is one over the number of both. Signed scores
    are no shares; they are neither weighted nor divided.
    """
    signed = any(one.signed for one in given)
    how = "max" if aggregation != "none" and all(one.of_words for one in given) else aggregation
    special = np.concatenate([window.special for window in windows])  # (N,)
    there = [np.ones(one.scores.shape, dtype=bool) if one.present is None else one.present for one in given]
    present = np.concatenate(there, axis=1)  # (L', N)
    scores = _stitched(windows, given, how=how)  # (L', U)
    by_present: Any = [None] * len(scores)
    if len(given) > 1 and not signed and not present.all():
        by_present = _stitched(windows, given, how=how, counts=np.array([one.sum(1) for one in there]))
    if aggregation == "none":
        n_input, n_present = len(special), present.sum(1)
    else:
        words = _words(windows)
        n_input = len(np.unique(words)) + int(special.sum())
        n_present = aggregate(present[:, ~special], words, how="max")[0].sum(1) + present[:, special].sum(1)
    return tuple(
        Unit(labels, row, n_input, int(n), signed=signed, present_scores=other, **options)
        for row, n, other in zip(scores, n_present, by_present, strict=True)
    )


def word_scores(
    windows: Sequence[Window], given: Sequence[WindowScores], *, n_words: int, aggregation: str
) -> NDArray[np.float64]:
    """(L', W) scores of all words of a document, stitched as in `layer_units`; under "none" the highest of a word's
    wordpieces. A word out of view has the lowest score of its document, at most 0."""
    how = "max" if aggregation == "none" or all(one.of_words for one in given) else aggregation
    by_word = _stitched(windows, given, how=how)  # (L', words in view)
    _, first = np.unique(_words(windows), return_index=True)
    scores = np.repeat(np.min(by_word, axis=1, initial=0.0)[:, None], n_words, axis=1)
    scores[:, _words(windows)[np.sort(first)]] = by_word  # in the order of `aggregate`
    return scores


def _stitched(
    windows: Sequence[Window], given: Sequence[WindowScores], *, how: str, counts: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """(L', U) scores of the windows stitched, each with its share of the tokens unless it names a weight. counts:
    (windows, L') tokens; default: all."""
    signed = any(one.signed for one in given)
    counts = np.array([[len(window)] for window in windows]) if counts is None else counts
    parts = []
    for one, share in zip(given, counts / np.maximum(counts.sum(0), 1), strict=True):
        weight = 1.0 if signed else share[:, None] if one.weight is None else one.weight
        parts.append(one.scores.astype(np.float64) * weight)
    pieces = np.concatenate(parts, axis=1)  # (L', N)
    special = np.concatenate([window.special for window in windows])
    if how == "none":
        return np.asarray(pieces[:, ~special])
    by_word, _ = aggregate(pieces[:, ~special], _words(windows), how=how)
    if not signed:
        mass = by_word.sum(1, keepdims=True) + pieces[:, special].sum(1, keepdims=True)
        by_word = np.divide(by_word, mass, out=by_word, where=mass > 0)
    return by_word


def _words(windows: Sequence[Window]) -> NDArray[np.int64]:
    """Word index of each content wordpiece of a unit."""
    return np.concatenate([window.words[~window.special] for window in windows])
