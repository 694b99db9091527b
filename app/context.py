"""State of the page, given to each view: the text, the model and the settings of the sidebar.

Every control that several views share is drawn here, at one place: its value stands in the address, and a control that
moved would lose it there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from adapler.errors import AdapLeRError
from adapler.text import part_read, read_run
from app import joining, loading, markup
from app.documents import LIMITS, Document, read_upload
from app.loading import Arguments, Checkpoint
from app.tracing import TOKENS, Trace, read_limit

OWN = "Your own sentence"
FIRST_TEXT = "i expected nothing and got less than that . the jokes are limp , but the cat is superb ."
MAX_TYPED = 1500  # characters that an address can hold; a longer text comes as a file
MAX_SCALE = 2.0
UNITS = {"Wordpieces": TOKENS, "Words": joining.WORDS, "Sentences": joining.SENTENCES}
KEPT: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


@dataclass
class Context:
    """
    checkpoints, corpora, reports: menus, name -> folder.
    name, checkpoint: of the model; None without one.
    corpus, split: names of the chosen ones; "" without any.
    texts: menu of texts, what it shows -> document; the first is the sentence that is typed.
    document: what is looked at, as much of it as the model reads; trace: what the model made of it.
    head: container of the view's title, above the text.
    """

    arguments: Arguments
    checkpoints: Mapping[str, Path]
    corpora: Mapping[str, Path]
    reports: Mapping[str, Path]
    scale: float = 1.0
    name: str = ""
    checkpoint: Checkpoint | None = None
    corpus: str = ""
    split: str = ""
    texts: Mapping[str, Document] | None = None
    document: Document | None = None
    trace: Trace | None = None
    head: Any = None

    @property
    def model(self) -> Checkpoint:
        """The checkpoint; ends the run with a message if there is none."""
        if self.checkpoint is None:
            st.info("Choose a checkpoint under Settings.")
            st.stop()
        return self.checkpoint

    def read(self) -> tuple[Document, Trace]:
        """The text and its trace; ends the run if there is none."""
        if self.document is None or self.trace is None:
            st.stop()
        return self.document, self.trace

    def in_units(self, *, most: str = joining.SENTENCES) -> Trace:
        """The trace in the chosen unit; most: joining.WORDS where sentences cannot be shown."""
        unit = UNITS[st.session_state.get("units", "Wordpieces")]
        return joining.join(self.read()[1], most if unit == joining.SENTENCES else unit)

    def subject(self) -> str:
        """Model and text that the numbers belong to."""
        document, dot = self.document, " \N{MIDDLE DOT} "
        parts = [f"checkpoint {self.name}", f"threshold scale {self.scale:g}", self.model.dtype]
        if document is not None:
            parts += [f"{document.source}: {document.name}" if document.source else document.name, document.part]
        return dot.join(filter(None, parts))


def problem(error: Exception | str) -> None:
    """An error's message, which Markdown must not touch: it holds names and what was found in files."""
    st.error(markup.literal(str(error)))


def begin(argv: list[str]) -> Context:
    """Arguments, menus and the sidebar."""
    arguments = loading.read_arguments(argv)
    folders = (*arguments.reports, loading.ROOT / "results", loading.ROOT / "reports")
    context = Context(
        arguments=arguments,
        checkpoints=loading.list_checkpoints(arguments.checkpoints),
        corpora=loading.list_corpora(arguments.data),
        reports=loading.list_reports(folders),
    )
    with st.sidebar:
        menu = st.container()
        context.scale = float(
            st.slider(
                "Threshold scale",
                0.0,
                MAX_SCALE,
                value=1.0,
                step=0.05,
                key="scale",
                help="Multiplies every layer's threshold: above 1 more tokens are dropped, 0 keeps all.",
                **KEPT,
            )
        )
        st.segmented_control("Shown in", list(UNITS), default="Wordpieces", key="units", required=True, **KEPT)
        with st.expander("Settings", key="settings"):
            _settings(context)
        with menu:
            _choose_text(context)
        st.button("Tour", key="tour", width="stretch", on_click=lambda: st.session_state.update(step=0, go="layers"))
    return context


def _settings(context: Context) -> None:
    context.name = st.selectbox("Checkpoint", list(context.checkpoints), key="checkpoint", **KEPT) or ""
    help_text = "bfloat16 halves the layers' weights; verdicts may differ in the third digit."
    dtype = st.selectbox("dtype", ("float32", "bfloat16"), key="dtype", help=help_text, **KEPT)
    context.corpus = st.selectbox("Corpus", list(context.corpora), key="corpus", **KEPT) or ""
    if context.name:
        try:
            folder = context.checkpoints[context.name]
            context.checkpoint = loading.find_checkpoint(folder, context.name, dtype=str(dtype))
        except AdapLeRError as error:
            problem(error)
    if context.corpus:
        try:
            splits = list(loading.find_corpus(context.corpora[context.corpus], context.corpus).splits)
            context.split = st.selectbox("Split", splits, index=len(splits) - 1, key="split", **KEPT) or splits[-1]
        except AdapLeRError as error:  # the typed sentence and other corpora are there all the same
            problem(error)
    st.file_uploader("Your own texts", type=["txt", "jsonl"], key="upload", help=LIMITS)


def _choose_text(context: Context) -> None:
    found: list[Document] = []
    upload = st.session_state.get("upload")
    if upload is not None:
        try:
            found += read_upload(upload.name, upload.getvalue())
        except AdapLeRError as error:
            problem(error)
    if context.split:
        corpus = loading.find_corpus(context.corpora[context.corpus], context.corpus)
        found += loading.documents_of(corpus, context.split, context.corpus)
    context.texts = {OWN: Document("your text", ""), **loading.told_apart((one.called(), one) for one in found)}
    wanted = st.session_state.pop("wanted", None)  # by its name in the corpus
    if opened := next((name for name, one in context.texts.items() if wanted and one.name == wanted), None):
        st.session_state.document = opened
    if st.session_state.get("document", OWN) not in context.texts:
        del st.session_state["document"]  # of another corpus
    st.selectbox("Text", list(context.texts), key="document", **KEPT)


def read_text(context: Context) -> None:
    """The box to type in, the part of a longer text, and the trace."""
    document = (context.texts or {})[st.session_state.document]
    if st.session_state.document == OWN:
        text = st.text_area("Type a sentence", value=FIRST_TEXT, key="text", height=68, max_chars=MAX_TYPED, **KEPT)
        query = ""
        if context.checkpoint is not None and _reads_pairs(str(context.checkpoints[context.name])):
            query = str(st.text_input("Second text", key="query", max_chars=MAX_TYPED, **KEPT))
        document = replace(document, text=" ".join(str(text).split()), query=" ".join(query.split()))
    if not document.words:
        st.info("There is no text yet.")
        return
    if context.checkpoint is None:
        context.document = document
        st.markdown(markup.literal(document.text))
        return
    try:
        if len(document.text) > len(document.cut().text):
            st.info("Of this text the first 20,000 characters are used.")
            document = document.cut()
        parts = loading.load_parts(context.checkpoint, document)
        if len(parts) > 1:
            named = [f"part {number + 1} of {len(parts)}" for number in range(len(parts))]
            if st.session_state.get("part") not in named:
                st.session_state.pop("part", None)
            limit = read_limit(context.checkpoint.model, context.checkpoint.tokenizer)
            chosen = st.selectbox(
                f"The text is longer than the {limit} tokens that the model reads", named, key="part", **KEPT
            )
            start, end = parts[named.index(chosen)]
            document = document.between(start, end, part=f"{chosen}, words {start + 1} to {end}")
        context.document = document
        context.trace = loading.load_trace(context.checkpoint, document, threshold_scale=context.scale)
    except AdapLeRError as error:
        problem(error)
        return
    notes = markup.doubts(context.trace)
    if len(parts) > 1 and (said := _read_otherwise(context.checkpoint)):
        notes.append(said)
    if notes:
        st.warning(markup.literal(". ".join(notes) + "."))


@st.cache_data(max_entries=16, show_spinner=False)
def _reads_pairs(folder: str) -> bool:
    """Whether the model learned from pairs of texts, as its run.json says."""
    try:
        encoding = read_run(folder)[1].get("encoding")
    except AdapLeRError:
        return False
    return isinstance(encoding, dict) and len(encoding.get("columns") or ()) == 2


def _read_otherwise(checkpoint: Checkpoint) -> str:
    """Part of a long text that `adapler predict` reads, if it differs from the page's; else ""."""
    try:
        how = checkpoint.exact.encoding()
    except AdapLeRError:  # run.json is damaged, which the commands say
        return ""
    limit = read_limit(checkpoint.exact, checkpoint.tokenizer)
    length = min(how.max_length or limit, limit)
    if (length, how.long_documents) == (limit, "truncate"):
        return ""
    read = part_read(how, length)
    return f"adapler predict reads {read} with this model, as in its training; this page reads the part that is chosen"


def open_document(document: str, **settings: Any) -> None:
    """Callback: show a document of the chosen split, by its name in the corpus."""
    st.session_state.update(settings, wanted=document, go="layers")


def file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text)[:60].strip("-") or "text"
