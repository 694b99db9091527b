"""What is looked at: the view, and the menus of the sidebar. All of it stands in the page's address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from adapler.eraser import EraserCorpus
from app.panels import common
from app.server import state
from app.sources import documents
from app.sources.documents import Document


def choose_view() -> str:
    view = str(
        st.pills(  # they wrap on a narrow screen, each with its own border
            "View",
            state.VIEWS,
            default=state.LAYERS,
            key="view",
            required=True,
            label_visibility="collapsed",
            bind="query-params",
        )
    )
    if view not in (state.TAKE_AWAY, state.HOW):
        st.session_state.seen = view  # what a link leads back to
    return view


def choose_checkpoint(found: Mapping[str, Path]) -> str | None:
    names = list(found)
    state.found("checkpoint", names)
    return st.sidebar.selectbox("Checkpoint", names, key="checkpoint", bind="query-params") if found else None


def choose_format() -> str:
    """The number format that the page's model computes in."""
    return str(
        st.sidebar.selectbox(
            "Number format",
            state.FORMATS,
            key="dtype",
            bind="query-params",
            help="Of the layers of the model that drops tokens. float32 is what published numbers are in; bfloat16 is "
            "faster where the processor computes it in hardware, and rounds, so that a score near its threshold may "
            "fall on the other side; auto is bfloat16 on such a processor. Methods that score the model without "
            "removal stay in float32.",
        )
    )


def choose_source(*, has_corpora: bool) -> str:
    if not has_corpora:
        st.session_state.source = state.OWN_TEXT
    return str(
        st.sidebar.radio(
            "Text",
            state.SOURCES,
            horizontal=True,
            key="source",
            disabled=not has_corpora,
            on_change=text_changed,
            bind="query-params",
        )
    )


def choose_corpus(found: Sequence[str]) -> str:
    state.found("corpus", found)
    return st.sidebar.selectbox("Corpus", found, key="corpus", on_change=text_changed, bind="query-params")


def choose_document(corpus: EraserCorpus, *, title: str) -> Document:
    """A document of a split; `title` is the corpus's in the menu."""
    splits = list(corpus.splits)
    state.found("split", splits)
    first = splits.index("test") if "test" in splits else 0
    split = st.sidebar.selectbox("Split", splits, index=first, key="split", on_change=text_changed, bind="query-params")
    examples = {example.id: example for example in corpus.splits[split]}
    state.found("document", examples)
    chosen = st.sidebar.selectbox(
        f"Document ({len(examples)})", list(examples), key="document", on_change=text_changed, bind="query-params"
    )
    example = examples[chosen]
    st.sidebar.caption(common.literal(f"{len(example.words)} words, label {example.label}"))
    return documents.of_split(corpus, split, title=title, only=example)[0]


def texts(corpus: EraserCorpus | None) -> tuple[Document, ...]:
    """All texts that could have been chosen: those of the split, or the lines of an uploaded file."""
    if corpus is None:
        found: tuple[Document, ...] = st.session_state.get("file", ())
        return found
    split = st.session_state.split
    return documents.of_split(corpus, split, title=st.session_state.corpus)


def choose_scale(*, large: bool) -> float:
    """In the sidebar, or `large` where it is what the view is about."""
    return float(
        (st if large else st.sidebar).slider(
            "Threshold scale",
            0.0,
            state.MAX_SCALE,
            value=1.0,
            step=0.05,
            format=state.SCALE_FORMAT,
            key="scale",
            help="Multiplies every layer's threshold: 1 is the model as trained, less keeps more tokens, 0 keeps all. "
            "Of a policy that keeps a number of tokens it divides this number.",
            bind="query-params",
        )
    )


def choose_talk() -> bool:
    """Whether the player stands alone, in large type, for a room."""
    talks = st.sidebar.toggle(
        "Talk mode",
        key="talk",
        on_change=_talk_changed,
        bind="query-params",
        help="The text alone, in large type. Space plays and stops, the arrow keys change the layer, Escape leaves.",
    )
    return bool(talks) and st.session_state.view == state.LAYERS


def leave_talk() -> None:
    st.session_state.talk = False


def _talk_changed() -> None:
    st.session_state.view = state.LAYERS


def choose_part(document: Document, parts: Sequence[tuple[int, int]], *, limit: int) -> Document:
    """The part of a long document that is looked at; a short one is its own only part."""
    state.part_of(len(parts))
    if len(parts) == 1:
        return document
    marked = document.rationale
    if st.session_state.get("part", 1) > len(parts):
        st.session_state.part = 1
    part = int(
        st.slider(
            f"Part of the text (longer than the {limit} tokens that the model reads)",
            1,
            len(parts),
            key="part",
            bind="query-params",
        )
    )
    start, end = parts[part - 1]
    gold = int(marked[start:end].sum())
    evidence = f", {gold} of them marked as evidence" if gold else ""
    st.caption(f"Part {part} of {len(parts)}: words {start + 1} to {end}{evidence}")
    return replace(document.part(start, end), excerpt=f"part {part} of {len(parts)}, words {start + 1} to {end}")


def go_to(view: str) -> None:
    """Another view, from a callback; where that stands in a fragment, the fragment begins with `leave_fragment`."""
    st.session_state.update(view=view, leaving=True)


def leave_fragment() -> None:
    """Another view concerns the whole page and not only the fragment that a callback stands in."""
    if st.session_state.pop("leaving", False):
        st.rerun()


def open_document(name: str, target: Mapping[str, Any], *, layer: int = 0) -> None:
    """Show a document layer by layer, with the corpus, split, checkpoint and scale of `target`; for a callback, which
    runs while the menus can still be set."""
    st.session_state.update(target)
    st.session_state.update(document=name, source=state.REVIEW, part=1)
    go_to(state.LAYERS)
    st.query_params["layer"] = str(layer)


def open_picked(key: str, names: Sequence[str], target: Mapping[str, Any], *, layer: int = 0) -> None:
    """`open_document` of the row that is selected in the table of this key, if one is; its rows are of `names`."""
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < len(names):
        open_document(names[rows[0]], target, layer=layer)


def text_changed() -> None:
    """Another text is read from its beginning."""
    if "part" in st.session_state:
        st.session_state.part = 1
