"""Edits of a text: words deleted, masked, replaced, or forced to be kept or dropped.

W words of the text, W' of the edited one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.documents import Document
from app.tracing import Trace

DELETE, MASK, REPLACE, STAY, GO = KINDS = "Delete", "Mask", "Replace", "Keep always", "Drop at once"
MOST_WORDS = 20  # in place of one


@dataclass(frozen=True)
class Edit:
    """kind: one of KINDS; text: what stands in the word's place, of REPLACE only."""

    kind: str
    text: str = ""

    def said(self, word: str) -> str:
        """In words: Replace dull by bright."""
        return f"{self.kind}: {word}" + (f" \N{RIGHTWARDS ARROW} {self.text}" if self.kind == REPLACE else "")


@dataclass(frozen=True, eq=False)
class Edited:
    """
    words   W' words
    origin  (W',) the word of the text that each comes from
    marked  (W',) bool, the human rationale
    fate    (W',) 1 for a word that stays whatever it scores, -1 for one that goes at once, else 0
    """

    words: tuple[str, ...]
    origin: NDArray[np.int64]
    marked: NDArray[np.bool_]
    fate: NDArray[np.int64]

    def at(self, word: int) -> str:
        """Replacement of a word of the text."""
        return " ".join(self.words[index] for index in np.flatnonzero(self.origin == word))


def apply(words: tuple[str, ...], marked: NDArray[np.bool_], edits: Mapping[int, Edit], *, mask: str | None) -> Edited:
    """The edited text. `edits` are by the index of a word; `mask` is the tokenizer's mask token, None where it has
    none: a masked word is then deleted. A replacement has MOST_WORDS words at most, and marks what the word marked."""
    found: list[str] = []
    origin, fate = [], []
    for index, word in enumerate(words):
        edit = edits.get(index)
        put = [word]
        if edit is not None and edit.kind in (DELETE, MASK):
            put = [mask] if edit.kind == MASK and mask else []
        elif edit is not None and edit.kind == REPLACE:
            put = edit.text.split()[:MOST_WORDS]
        found += put
        origin += [index] * len(put)
        fate += [{STAY: 1, GO: -1}.get(edit.kind, 0) if edit else 0] * len(put)
    places = np.array(origin, dtype=np.int64)
    return Edited(tuple(found), places, marked[places], np.array(fate, dtype=np.int64))


def read_to_the_end(trace: Trace) -> set[int]:
    """Words of which some token enters the last layer. `trace` has tokens or words."""
    return {int(word) for word in trace.words[trace.enters[-1] & (trace.words >= 0)]}


def changed(before: Trace, after: Trace, origin: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """(words of the text that are now read to the end and were not, those that were and now are not), in order.

    Words that an edit has pushed behind what the model reads are in neither.
    """
    old = read_to_the_end(before)
    new = {int(origin[word]) for word in read_to_the_end(after)}
    beyond = {int(word) for word in origin[len(origin) - after.unread_words :]}
    return sorted(new - old), sorted(old - new - beyond)


# ---- The edits of a session; each entry has all edits of the text by then, and the last one counts

History = list[dict[int, Edit]]


def history_of(document: Document) -> History:
    """The edits of this text; those of another one are forgotten. The address has the last entry: one that was opened,
    or that Back has brought, begins with it."""
    kept, address = st.session_state, st.query_params.get("edits", "")
    if "edits_of" not in kept or (kept.edits_of == document and address != kept.get("edits_told", "")):
        opened = read_edits(address, len(document.words))
        kept.update(edits_of=document, edits=[{}, opened] if opened else [{}], undone=[])
    elif kept.edits_of != document:
        kept.update(edits_of=document, edits=[{}], undone=[])
    history: History = kept.edits
    return history


def tell(edits: Mapping[int, Edit]) -> None:
    """Write edits into the address: `3-Delete`, `5-Replace-quite bright`, one after the other."""
    told = ";".join(f"{word}-{edit.kind}" + f"-{edit.text}" * bool(edit.text) for word, edit in sorted(edits.items()))
    if told != st.query_params.get("edits", ""):
        st.query_params.update(edits=told) if told else st.query_params.pop("edits")
    st.session_state.edits_told = told


def read_edits(address: str, words: int) -> dict[int, Edit]:
    """Read what `tell` wrote, ignoring anything invalid."""
    found = {}
    for one in address.split(";"):
        word, kind, text = (*one.split("-", 2), "", "")[:3]
        if word.isdecimal() and int(word) < words and kind in KINDS:
            found[int(word)] = Edit(kind, text if kind == REPLACE else "")
    return found


def start(document: Document, words: Sequence[int]) -> None:
    """Callback: open the view What if with these words deleted."""
    edits: History = [{}, {word: Edit(DELETE) for word in words}]
    st.session_state.update(edits_of=document, edits=edits, undone=[], go="what_if")
