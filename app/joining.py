"""A trace of tokens -> the same with one token a word, or one a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from app.tracing import QUERY, SPECIAL, TOKENS, Trace

WORDS, SENTENCES = "words", "sentences"
TEXT = 0  # what is neither SPECIAL nor QUERY
ENDS = ".!?"


def join(trace: Trace, unit: str) -> Trace:
    """A trace of tokens in TOKENS, as it is, in WORDS or in SENTENCES."""
    if unit == TOKENS:
        return trace
    return join_words(trace) if unit == WORDS else join_sentences(trace)


def join_words(trace: Trace) -> Trace:
    """The same with one token a word: it enters a layer while one of its wordpieces does, and has the sum of their
    scores. Whether a wordpiece is dropped is decided by its own score; `tokens` and `groups` have those."""
    groups: list[list[int]] = []
    for token, word in enumerate(trace.words):
        if groups and word != SPECIAL and trace.words[groups[-1][0]] == word:
            groups[-1].append(token)
        else:
            groups.append([token])
    joined = _join(trace, groups, unit=WORDS)
    names = (trace.pieces[group[0]] if len(group) == 1 else None for group in groups)
    surfaces = tuple("".join(trace.surfaces[token] for token in group) for group in groups)
    named = tuple(name or surface for name, surface in zip(names, surfaces, strict=True))
    return replace(
        joined,
        pieces=named,
        surfaces=surfaces,
        gold=np.array([bool(trace.gold[group[0]]) for group in groups]),
        unknown=np.array([bool(trace.unknown[group].any()) for group in groups]),
    )


def join_sentences(trace: Trace) -> Trace:
    """The same with one token a sentence, see `join_words`; a query is one, too. A sentence belongs to the rationale
    if more than half of its tokens do."""
    words = join_words(trace)
    kinds = [int(word) if word == SPECIAL else QUERY if word <= QUERY else TEXT for word in words.words]
    starts = set(sentence_starts(words.surfaces))
    places: list[list[int]] = []  # of the words of each sentence
    for place, kind in enumerate(kinds):
        if kind == SPECIAL or place == 0 or kind != kinds[place - 1] or (kind != QUERY and place in starts):
            places.append([place])
        else:
            places[-1].append(place)
    groups = [[token for place in sentence for token in words.groups[place]] for sentence in places]
    of = [kinds[sentence[0]] for sentence in places]
    numbers = np.cumsum([kind == TEXT for kind in of])
    return replace(
        _join(trace, groups, unit=SENTENCES),
        pieces=tuple(
            words.pieces[sentence[0]] if kind == SPECIAL else "the query" if kind == QUERY else f"sentence {number}"
            for sentence, kind, number in zip(places, of, numbers, strict=True)
        ),
        surfaces=tuple(" ".join(words.surfaces[place] for place in sentence) for sentence in places),
        gold=np.array([float(trace.gold[group].mean()) > 0.5 for group in groups]),
        unknown=np.zeros(len(groups), dtype=np.bool_),
    )


def words_of(trace: Trace, place: int) -> list[int]:
    """The words of one token, word or sentence of a trace, by their index in the text."""
    if trace.tokens is None:
        return [int(trace.words[place])]
    return sorted({int(trace.tokens.words[token]) for token in trace.groups[place]})


def sentence_starts(words: Sequence[str]) -> list[int]:
    """The place of each sentence's first word. A sentence ends with a word that ends with one of ENDS, and the next one
    begins with a letter or a digit: "mr . smith" are two."""
    found, ended = [], True
    for place, word in enumerate(words):
        if ended and any(map(str.isalnum, word)):
            found.append(place)
            ended = False
        ended = ended or (word != "" and word[-1] in ENDS)
    return found


def _join(trace: Trace, groups: list[list[int]], *, unit: str) -> Trace:
    """Words, scores and fate of groups of neighbours."""
    starts = [group[0] for group in groups]
    return replace(
        trace,
        unit=unit,
        words=trace.words[starts],
        scores=np.add.reduceat(trace.scores, starts, axis=1),
        enters=np.logical_or.reduceat(trace.enters, starts, axis=1),
        tokens=trace,
        groups=tuple(tuple(group) for group in groups),
    )
