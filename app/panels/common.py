"""What several views show: the verdict, an error, the text alone."""

from __future__ import annotations

import re

import streamlit as st

from app.html import render
from app.model.tracing import Trace
from app.sources.documents import Document


def problem(error: Exception | str) -> None:
    """An error's message, which Markdown must not touch: it holds names and what was found in files."""
    st.error(literal(str(error)))


def literal(text: str) -> str:
    """Text in Markdown that shows as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def verdict(trace: Trace, document: Document) -> None:
    """The four cards."""
    st.html(render.verdict(trace, document.label))
    if trace.unread_words:  # a single word longer than the model's input
        st.info(f"The model reads {trace.limit} tokens; {trace.unread_words} words behind them are not seen.")


def text_alone(document: Document) -> None:
    """The text with its rationale, for when there is no model to run."""
    st.html(render.plain_text(document.words, document.rationale))
