"""Take away: the figure, tables, a page of the token grid, and a link that shows this again."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any

import streamlit as st

from adapler.errors import AdapLeRError
from app.markup import export
from app.model import comparing
from app.model.tracing import Trace, join_words
from app.panels import common
from app.server import state
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results


def show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float, name: str) -> None:
    """name: of the checkpoint in the menu."""
    joined = bool(st.session_state.get("joined"))
    drawn = join_words(trace) if joined else trace
    stem = "".join(char if char.isalnum() and char.isascii() else "_" for char in document.name)[:60] or "document"
    st.subheader("Figure for a paper")
    lines = st.slider("Lines of text for each layer", 1, 12, value=3, key="lines", persist_state="session")
    try:
        preview = results.load_preview(drawn, document, checkpoint.key, scale=scale, joined=joined, lines=lines)
    except AdapLeRError as error:  # a text without a word to draw
        common.problem(error)
    else:
        st.html(preview)
        st.caption("Up to six layers, the passage with the most evidence; dropped tokens are pale.")
        with st.container(horizontal=True):
            for kind, mime in export.MIME.items():
                st.download_button(
                    kind.upper(),
                    partial(export.figure, drawn, document, kind=kind, lines=lines),
                    file_name=f"{stem}.{kind}",
                    mime=mime,
                    key=f"save-{kind}",
                    on_click="ignore",
                )
    st.subheader("Tables and page")
    st.caption(
        "Every token's score, threshold and fate; the numbers of the layers; all layers as one HTML file. Text that a "
        "spreadsheet would run as a formula has an apostrophe before it."
    )
    facts: dict[str, Any] = {"checkpoint": name, "scale": scale}
    subject = f"{common.subject(document, **facts)} \N{MIDDLE DOT} {date.today().isoformat()}"
    scores = partial(export.csv, export.token_table(trace), trace, document, **facts)
    numbers = partial(export.csv, export.layer_table(drawn), trace, document, **facts)
    with st.container(horizontal=True):
        for key, label, data, file in (
            ("save-scores", "Token scores as CSV", scores, "scores.csv"),
            ("save-csv", "Layers as CSV", numbers, "layers.csv"),
            (
                "save-html",
                "Token grid as HTML",
                partial(export.html_page, drawn, document, subject=subject),
                "layers.html",
            ),
        ):
            mime = f"text/{file.rpartition('.')[2]}"
            st.download_button(label, data, file_name=f"{stem}-{file}", mime=mime, key=key, on_click="ignore")
    _link()


def _link() -> None:
    st.subheader("Link")
    if st.session_state.source == state.OWN_TEXT:
        if st.session_state.get("upload") is not None:
            st.info("The link does not hold your file: it shows the page with these settings.")
        elif len(st.session_state.text) > state.ADDRESS_CHARACTERS:
            st.info("Your text is too long for a link: it shows the page with these settings, without the text.")
        else:
            st.caption("Your text stands in the link: whoever has it, and servers on its way, can read it.")
    st.caption("It restores document, layer, view, methods, scale and checkpoint, as the page's own address does.")
    parameters = state.link_parameters(comparing.titles(), view=st.session_state.get("seen", state.LAYERS))
    st.code(state.link(st.context.url or "", parameters), language=None, wrap_lines=True)
