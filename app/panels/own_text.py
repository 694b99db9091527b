"""A text of one's own, typed or uploaded; and what the chosen checkpoint is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from adapler.errors import AdapLeRError, DataError
from app.markup import export
from app.model.tracing import read_limit
from app.panels import choosing, common
from app.server import state
from app.sources import loading, uploads
from app.sources.documents import MAX_CHARACTERS, Document
from app.sources.loading import Checkpoint
from app.work import results


def write_text() -> Document | None:
    """The text area and the upload, which wins; what is longer than the page takes is cut, with a note.

    None for a file that cannot be read, after saying why: no other text stands in for it.
    """
    uploaded = st.session_state.get("upload") is not None
    left, right = st.columns([3, 2])
    with left:
        typed = st.text_area(
            "Your own text",
            value=state.EXAMPLE,
            height=110,
            key="text",
            bind="query-params" if state.bind_text("text") else None,
            on_change=choosing.text_changed,
            persist_state="session",
            help=f"Up to {MAX_CHARACTERS:,} characters. This server's model reads it; the text and what is computed "
            "from it stay in the server's memory until your session ends, soon after the page is closed. "
            f"The page's address holds it too, up to {state.ADDRESS_CHARACTERS:,} characters, so that a reload finds "
            "it again: whoever gets the address gets the text.",
            placeholder="Type or paste a review",
            disabled=uploaded,
        )
        query = st.text_input(
            "A second text, for models of pairs",
            key="query",
            bind="query-params" if state.bind_text("query") else None,
            on_change=choosing.text_changed,
            persist_state="session",
            help="A question or a hypothesis, read behind the text as its second part. Leave it empty for one text.",
            placeholder="None",
            disabled=uploaded,
        )
    with right:
        file = st.file_uploader(
            "Or a file of your own",
            type=list(uploads.SUFFIXES),
            key="upload",
            on_change=choosing.text_changed,
            max_upload_size=uploads.MAX_MEGABYTES,
            help=uploads.LIMITS,
        )
        st.session_state.file = ()
        second = " ".join(str(query or "").split())
        document = (
            Document("own text", typed, query=second)
            if file is None
            else _uploaded(Path(file.name).name, file.getvalue())
        )
        if document is None:
            return None
        if file is not None:
            st.caption(common.literal(f"Shown is the file {Path(file.name).name}, not the text beside it."))
    return common.shortened(document)


def _uploaded(name: str, content: bytes) -> Document | None:
    """The file's document, or the one of its lines that is chosen; None where it cannot be read."""
    try:
        found = uploads.read_upload(name, content)
    except DataError as error:
        common.problem(error)
        return None
    st.session_state.file = found
    if len(found) == 1:
        return found[0]
    state.fit("row", range(len(found)))
    row = st.selectbox(
        f"Line ({len(found)})",
        range(len(found)),
        format_func=lambda number: f"{found[number].name}: {found[number].text[:60]}",
        key="row",
        on_change=choosing.text_changed,
    )
    return found[row]


def verdicts(checkpoint: Checkpoint, *, scale: float, name: str) -> None:
    """A table of the verdicts on all lines of the file, if it has several; a row that is clicked is shown."""
    found: tuple[Document, ...] = st.session_state.get("file", ())
    if st.session_state.source != state.OWN_TEXT or len(found) < 2:
        return
    with st.expander(f"Verdicts on all {len(found)} lines", key="verdicts-open", on_change="rerun") as place:
        if not place.open:
            return  # as many passes as there are lines
        table = results.load_verdicts(checkpoint, found, threshold_scale=scale)
        if "error" in table:
            failed = table.dropna(subset=["error"])
            common.refused(zip(failed["line"], failed["error"], strict=True), of=len(table))
            if len(failed) == len(table):
                return
        common.cut_of(checkpoint, int(table["cut"].sum()), of=len(table), what="lines")
        common.read_otherwise(checkpoint, tokens=int(table["tokens"].max()))
        judged = table["right"].dropna()
        none = "No line has a label" if table["gold"].isna().all() else "No line has a label of this model's"
        said = f"{int(judged.sum())} of {len(judged)} labelled lines are right" if len(judged) else none
        read = table.dropna(subset="verdict")
        flips = int((read["verdict"] != read["without removal"]).sum())
        st.caption(f"{said}; removal changes the verdict on {flips}. Click a column to sort, a row's box to show it.")
        st.dataframe(
            table,
            hide_index=True,
            height=min(360, 38 + 35 * len(table)),
            key="rows",
            on_select=_show_row,
            selection_mode="single-row",
            column_config={
                "probability": st.column_config.NumberColumn(format="%.3f"),
                "FLOPs speedup": st.column_config.NumberColumn(format="%.2fx"),
            },
        )
        st.download_button(
            "Verdicts as CSV",
            partial(
                export.rows_csv,
                table,
                origin=common.origin(None, checkpoint, name=name, scale=scale),
            ),
            file_name="verdicts.csv",
            mime="text/csv",
            key="save-verdicts",
            on_click="ignore",
        )


def _show_row() -> None:
    if rows := st.session_state.rows["selection"]["rows"]:
        st.session_state.row = rows[0]
        choosing.text_changed()


def _removal(model: Any) -> dict[str, str]:
    """What the model drops tokens by."""
    config = model.config
    if config.policy == "adapler":
        factors = model.removal_policy.factors.tolist()
        return {"Thresholds": ", ".join(f"{eta:.2f}/n" if eta else "none" for eta in factors)}
    options = ", ".join(f"{name} {value}" for name, value in (config.policy_options or {}).items())
    return {"Removal policy": f"{config.policy}, {options}" if options else str(config.policy)}


def about_model(found: Mapping[str, Path], name: str) -> None:
    """What the chosen checkpoint of the menu `found` is, and how to have another one in the menu."""
    with st.sidebar.expander("About this checkpoint", key="about", on_change="rerun") as place:
        if not place.open:
            return  # a model takes seconds to load, and nobody has asked yet
        try:
            checkpoint = loading.find_checkpoint(found, name)
        except AdapLeRError:
            return  # the page itself says what is wrong
        model = checkpoint.model
        facts = {
            "Backbone": f"{model.config.backbone_config.model_type}, {model.num_layers} layers, "
            f"{sum(weights.numel() for weights in model.backbone.parameters()) / 1e6:.1f} M parameters",
            "Labels": ", ".join(model.config.id2label[number] for number in range(model.config.num_labels)),
            "Reads": f"{read_limit(model, checkpoint.tokenizer)} tokens at a time",
            **_removal(model),
        }
        for what, fact in facts.items():
            st.caption(common.literal(f"{what}: {fact}"))
        st.caption(
            "The menu shows what is in checkpoints/ and in the folders that the server was started with; "
            "a browser cannot name others. Yours:"
        )
        command = f"streamlit run app/main.py -- {loading.USAGE}"
        st.code(command, language=None, wrap_lines=True)
