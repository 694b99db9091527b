"""What several views show: whose numbers they are, the verdict, an error, the text alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import Any

import streamlit as st

from app.markup import cards, render
from app.markup.export import Origin
from app.model import comparing
from app.model.tracing import Trace, read_limit
from app.panels import notes
from app.server import state
from app.sources.documents import MAX_CHARACTERS, Document
from app.sources.loading import Checkpoint

MOST_NAMED = 3  # texts in a note


def problem(error: Exception | str) -> None:
    """An error's message, which Markdown must not touch: it holds names and what was found in files."""
    st.error(literal(str(error)))


def literal(text: str) -> str:
    """Text in Markdown that shows as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def lost(place: Any) -> None:
    """What the page's address asks for and is not here, in `place`."""
    if found := state.lost():
        asked = ", ".join(found)
        place.warning(literal(f"The address asks for what is not here: {asked}. Shown is something else."))


def _called(document: Document) -> str:
    return f"{document.source}: {document.name}" if document.source else document.name


def subject(document: Document, *, checkpoint: str, scale: float, dtype: str) -> str:
    """Whose numbers a view shows: checkpoint, threshold scale, number format, and where the text comes from."""
    parts = [f"checkpoint {checkpoint}", f"threshold scale {scale:g}", dtype, _called(document)]
    return " \N{MIDDLE DOT} ".join([*parts, "with its query"] if document.query else parts)


def origin(document: Document | None, checkpoint: Checkpoint, *, name: str, scale: float) -> Origin:
    """What made a file that is taken away from this page now. document: None for a table of several; name: of the
    checkpoint in the menu."""
    address = state.link("", state.link_parameters(comparing.titles(), view=st.session_state.get("seen", state.LAYERS)))
    again = f"{st.session_state.command}, and open {address}"
    missing = ["text"] if st.session_state.get("upload") is not None else state.too_long()
    if missing and st.session_state.source == state.OWN_TEXT:
        are = "is" if len(missing) == 1 else "are"
        again += f" with the same {' and '.join(missing)}, which {are} no part of the address"
    text = "" if document is None else _called(document)
    if document is not None and document.excerpt:
        text += f", {document.excerpt}"
    return Origin(name, checkpoint.weights, scale, checkpoint.dtype, text, date.today().isoformat(), again)


def cut(trace: Trace) -> None:
    """What of a text the model does not read, where it is longer than its input."""
    if said := notes.cut(trace):
        st.info(said)


def shortened(document: Document) -> Document:
    """As much of a document of one's own as the page takes, with a note where that is not all."""
    for what, text in (("text", document.text), ("second text", document.query)):
        if len(text) > MAX_CHARACTERS:
            st.info(f"The {what} has {len(text):,} characters; only the first {MAX_CHARACTERS:,} are used.")
    return document.cut()


def cut_of(checkpoint: Checkpoint, number: int, *, of: int, what: str) -> None:
    """A note that so many texts are longer than the model's input. what: they are called."""
    if number:
        limit = read_limit(checkpoint.model, checkpoint.tokenizer)
        st.info(
            f"{number} of {of} {what} are longer than the {limit} tokens that the model reads: their verdicts are on "
            "the beginning."
        )


def read_otherwise(checkpoint: Checkpoint, *, tokens: int) -> None:
    """A note where `adapler predict` reads another part of a text of so many tokens, see `notes.read_otherwise`."""
    if said := notes.read_otherwise(checkpoint.exact, checkpoint.tokenizer, tokens=tokens):
        st.info(literal(said))


def refused(found: Iterable[tuple[str, str]], *, of: int) -> None:
    """A note on the texts that the model cannot read, each with why, of so many: numbers are of the others."""
    said = [f"{name} ({why})" for name, why in found]
    if said:
        more = f", and {len(said) - MOST_NAMED} more" if len(said) > MOST_NAMED else ""
        st.warning(literal(f"No verdict on {len(said)} of {of}: {', '.join(said[:MOST_NAMED])}{more}."))


def verdict(trace: Trace, document: Document, *, checkpoint: str, scale: float, dtype: str) -> None:
    """The four cards, of what they are, and what makes them doubtful."""
    st.caption(literal(subject(document, checkpoint=checkpoint, scale=scale, dtype=dtype)))
    st.html(cards.verdict(trace, document.label, known=document.labels))
    cut(trace)
    if said := notes.reading_notes(trace):
        st.warning(literal(". ".join(note[0].upper() + note[1:] for note in said) + "."))


def text_alone(document: Document) -> None:
    """The text with its rationale, for when there is no model to run."""
    st.html(render.plain_text(document.words, document.rationale))
