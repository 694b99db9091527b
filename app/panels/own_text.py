"""Your text, your model: typing, uploading, and what the chosen checkpoint is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from adapler.errors import DataError
from app.model.tracing import Trace, read_limit
from app.panels import common
from app.server import state
from app.sources import uploads
from app.sources.documents import MAX_CHARACTERS, Document
from app.sources.loading import Checkpoint


def write_text() -> Document | None:
    """The text area and the upload, which wins; what is longer than the page takes is cut, with a note.

    None for a file that cannot be read, after saying why: no other text stands in for it.
    """
    left, right = st.columns([3, 2])
    with left:
        typed = st.text_area(
            "Your own text",
            height=150,
            key="text",
            help=f"Up to {MAX_CHARACTERS:,} characters. This server's model reads it; the text and what is computed "
            "from it stay in the server's memory until your session ends, soon after the page is closed.",
            placeholder="Type or paste a review",
            disabled=st.session_state.get("upload") is not None,
        )
    with right:
        file = st.file_uploader(
            "Or a file of your own",
            type=["txt", "jsonl"],
            key="upload",
            max_upload_size=uploads.MAX_MEGABYTES,
            help=uploads.LIMITS,
        )
        document = Document("own text", typed) if file is None else _uploaded(Path(file.name).name, file.getvalue())
        if document is None:
            return None
        if file is not None:
            st.caption(common.literal(f"Shown is the file {Path(file.name).name}, not the text beside it."))
    short = document.cut()
    if short is not document:
        st.info(f"The text has {len(document.text):,} characters; only the first {MAX_CHARACTERS:,} are used.")
    return short


def _uploaded(name: str, content: bytes) -> Document | None:
    """The file's document, or the one of its lines that is chosen; None where it cannot be read."""
    try:
        found = uploads.read_upload(name, content)
    except DataError as error:
        common.problem(error)
        return None
    if len(found) == 1:
        return found[0]
    state.fit("row", range(len(found)))
    row = st.selectbox(
        f"Line ({len(found)})",
        range(len(found)),
        format_func=lambda number: f"{found[number].name}: {found[number].text[:60]}",
        key="row",
    )
    return found[row]


def about_model(name: str, checkpoint: Checkpoint, trace: Trace) -> None:
    """What the chosen checkpoint is, and how to have another one in the menu."""
    config = checkpoint.model.config
    st.subheader("The model")
    facts = {
        "Checkpoint": name,
        "Backbone": f"{config.backbone_config.model_type}, {trace.layers} layers, "
        f"{sum(weights.numel() for weights in checkpoint.model.parameters()) / 1e6:.1f} M parameters",
        "Labels": ", ".join(trace.labels),
        "Reads": f"{read_limit(checkpoint.model, checkpoint.tokenizer)} tokens at a time",
        "Thresholds": ", ".join(f"{eta:.2f}/n" for eta in checkpoint.model.eta.tolist()),
    }
    st.dataframe(pd.DataFrame({"": facts.keys(), "of this model": facts.values()}), hide_index=True)
    st.caption(
        "The menu shows what is in checkpoints/ and in the folders that the server was started with; "
        "a browser cannot name others. Yours:"
    )
    st.code("streamlit run app/main.py -- --checkpoints DIR --reports DIR --data DIR_OR_TAR", language=None)
