"""What is looked at: the view, and the menus of the sidebar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from adapler.data import queries_differ
from adapler.data.eraser import EraserCorpus, EraserExample
from app.server import state
from app.sources import documents
from app.sources.documents import Document


def choose_view() -> str:
    view = str(
        st.segmented_control(
            "View", state.VIEWS, key="view", required=True, label_visibility="collapsed", on_change=_view_changed
        )
    )
    if view != state.TAKE_AWAY:
        st.session_state.seen = view  # what a link leads back to
    return view


def choose_checkpoint(found: Mapping[str, Path]) -> str | None:
    state.fit("checkpoint", list(found))
    return st.sidebar.selectbox("Checkpoint", list(found), key="checkpoint") if found else None


def choose_source(*, has_corpora: bool) -> str:
    if not has_corpora:
        st.session_state.source = state.OWN_TEXT
    return str(
        st.sidebar.radio(
            "Text",
            [state.REVIEW, state.OWN_TEXT],
            horizontal=True,
            key="source",
            disabled=not has_corpora,
            on_change=_source_changed,
        )
    )


def choose_corpus(found: Sequence[str]) -> str:
    state.fit("corpus", found)
    return st.sidebar.selectbox("Corpus", found, key="corpus")


def choose_document(corpus: EraserCorpus, *, title: str) -> Document:
    """A document of a split; `title` is the corpus's in the menu."""
    splits = list(corpus.splits)
    state.fit("split", splits, default="test")
    split = st.sidebar.selectbox("Split", splits, key="split")
    examples = {example.id: example for example in corpus.splits[split]}
    state.fit("document", list(examples))
    chosen = st.sidebar.selectbox(
        f"Document ({len(examples)})",
        list(examples),
        format_func=lambda name: _title(examples[name]),
        key="document",
        on_change=_document_changed,
    )
    return documents.of_example(
        examples[chosen],
        with_query=queries_differ(corpus),
        labels=corpus.labels,
        source=f"{title}, {split}",
    )


def choose_scale(*, large: bool) -> float:
    """In the sidebar, or `large` where it is what the view is about."""
    return float(
        (st if large else st.sidebar).slider(
            "Threshold scale",
            0.0,
            state.MAX_SCALE,
            step=0.05,
            key="scale",
            help="Multiplies every layer's threshold: 1 is the model as trained, less keeps more tokens, 0 keeps all.",
        )
    )


def choose_part(document: Document, parts: Sequence[tuple[int, int]], *, limit: int) -> Document:
    """The part of a long document that is looked at; a short one is its own only part."""
    if len(parts) == 1:
        return document
    state.fit("part", range(len(parts)))
    marked = document.rationale

    def name(part: int) -> str:
        start, end = parts[part]
        gold = int(marked[start:end].sum())
        evidence = f", {gold} of them evidence" if gold else ""
        return f"{part + 1} of {len(parts)}: words {start + 1} to {end}{evidence}"

    chosen = st.selectbox(
        f"Part of the text (longer than the {limit} tokens that the model reads)",
        range(len(parts)),
        format_func=name,
        key="part",
    )
    return document.part(*parts[chosen])


def _title(example: EraserExample) -> str:
    return f"{example.id.removesuffix('.txt')} \N{MIDDLE DOT} {example.label} \N{MIDDLE DOT} {len(example.words)} words"


def _view_changed() -> None:
    if st.session_state.view == state.TEXT:
        st.session_state.source = state.OWN_TEXT


def _source_changed() -> None:
    st.session_state.part = 0
    if st.session_state.source == state.REVIEW and st.session_state.view == state.TEXT:
        st.session_state.view = state.LAYERS


def _document_changed() -> None:
    st.session_state.part = 0
