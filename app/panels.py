"""The parts of the page, each a function that draws it; what they draw comes in as an argument."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from adapler.data.eraser import EraserCorpus, EraserExample
from app import render
from app.loading import CORPORA, MAX_CHARACTERS, rationale_of
from app.tracing import SPECIAL, Trace

OWN_TEXT, REVIEW = "Your own text", "A review"
EXAMPLE = (
    "For the first half hour I was ready to leave . The plot is borrowed , the jokes are older than the cast , and "
    "somebody should have hidden the synthesiser . Then the two sisters meet on the ferry , nobody says a word for "
    "four minutes , and the film becomes one of the most moving things I have seen this year ."
)
SECONDS_PER_LAYER = 1.1


@dataclass(frozen=True)
class Document:
    """What is looked at: a text, and where it comes from a corpus its label and rationale."""

    name: str
    text: str
    label: str | None = None
    spans: tuple[tuple[int, int], ...] = ()


def choose_checkpoint(found: Mapping[str, Path]) -> str | None:
    return st.sidebar.selectbox("Checkpoint", list(found), key="checkpoint") if found else None


def choose_source() -> str:
    # Streamlit forgets a widget that is not drawn; assigned again, the text outlives a look at a review.
    st.session_state.text = st.session_state.get("text", EXAMPLE)
    return st.sidebar.radio("Text", [REVIEW, OWN_TEXT], horizontal=True, key="source")


def choose_corpus(found: Sequence[Path]) -> Path:
    titles = {CORPORA[0]: "Sample: invented films", CORPORA[1]: "ERASER Movie Reviews"}
    return st.sidebar.selectbox("Corpus", found, format_func=lambda path: titles.get(path, path.name), key="corpus")


def choose_document(corpus: EraserCorpus) -> Document:
    splits = list(corpus.splits)
    first = splits.index("test") if "test" in splits else 0
    split = st.sidebar.selectbox("Split", splits, index=first, key="split")
    examples = {example.id: example for example in corpus.splits[split]}
    chosen = st.sidebar.selectbox(
        f"Document ({len(examples)})", list(examples), format_func=lambda name: _title(examples[name]), key="document"
    )
    example = examples[chosen]
    return Document(example.id, " ".join(example.words), example.label, example.spans)


def write_text() -> Document:
    """The text area; what is longer than it takes is cut, with a note."""
    text = st.text_area(
        "Your own text",
        height=150,
        key="text",
        help=f"Up to {MAX_CHARACTERS:,} characters. It is read by this server's model and kept nowhere else.",
        placeholder="Type or paste a review",
    )
    if len(text) > MAX_CHARACTERS:
        st.info(f"The text has {len(text):,} characters; only the first {MAX_CHARACTERS:,} are used.")
    return Document("own text", text[:MAX_CHARACTERS])


def choose_scale() -> float:
    return st.sidebar.slider(
        "Threshold scale",
        0.0,
        2.0,
        1.0,
        0.05,
        key="scale",
        help="Multiplies every layer's threshold: 1 is the model as trained, less keeps more tokens, 0 keeps all.",
    )


def verdict(trace: Trace, document: Document) -> None:
    st.html(render.verdict(trace, document.label))
    if trace.unread_words:
        lost = f", {trace.unread_gold} of them in the rationale" if trace.unread_gold else ""
        st.info(
            f"The text is longer than the {trace.limit} tokens that the model reads: "
            f"its last {trace.unread_words} words are not seen{lost}."
        )


def problem(error: Exception) -> None:
    """An error's message, which Markdown must not touch: it holds paths and what was found in files."""
    st.error(re.sub(r"([^\w\s])", r"\\\1", str(error), flags=re.ASCII))


def text_alone(document: Document) -> None:
    """The text with its rationale, for when there is no model to run."""
    words = document.text.split()
    st.html(render.plain_text(words, rationale_of(len(words), document.spans)))


def all_layers(trace: Trace) -> None:
    st.html(render.legend(rationale=bool(trace.gold.any())))
    st.html(render.layer_grid(trace))


def one_layer(trace: Trace) -> None:
    """One layer at a time; while it plays, a timer runs this fragment again and not the whole page."""
    playing = st.session_state.setdefault("playing", False)
    st.fragment(_one_layer, run_every=SECONDS_PER_LAYER if playing else None)(trace, ticking=playing)


def numbers(trace: Trace, document: Document) -> None:
    table = layer_table(trace)
    left, right = st.columns([3, 2])
    with left:
        st.dataframe(
            table,
            hide_index=True,
            column_config={
                "threshold": st.column_config.NumberColumn(format="%.5f"),
                "FLOPs share": st.column_config.NumberColumn(
                    format="percent", help="Of all encoder layers with their predictors."
                ),
                "speedup": st.column_config.NumberColumn(
                    format="%.1fx", help="The same layer on the whole text, divided by this layer and its predictor."
                ),
            },
        )
        st.download_button(
            "Token scores as CSV",
            token_table(trace, document.name).to_csv(index=False).encode(),
            file_name="token_scores.csv",
            mime="text/csv",
            on_click="ignore",
        )
    with right:
        st.altair_chart(_length_chart(table, len(trace)))


def layer_table(trace: Trace) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": range(trace.layers),
            "tokens": trace.lengths,
            "dropped": trace.present - trace.lengths,
            "threshold": trace.thresholds,
            "FLOPs share": trace.layer_flops / trace.layer_flops.sum(),
            "speedup": trace.plain_layer_flops / trace.layer_flops,
        }
    )


def token_table(trace: Trace, document: str) -> pd.DataFrame:
    """Tidy: a row for each layer and token. Special tokens have no word."""
    layers, size = trace.layers, len(trace)
    return pd.DataFrame(
        {
            "document": document,
            "layer": np.repeat(np.arange(layers), size),
            "position": np.tile(np.arange(size), layers),
            "word": np.tile([None if word == SPECIAL else int(word) for word in trace.words], layers),
            "token": np.tile(np.array(trace.pieces, dtype=object), layers),
            "rationale": np.tile(trace.gold, layers),
            "score": trace.scores.ravel(),
            "threshold": np.repeat(trace.thresholds, size),
            "enters": trace.enters.ravel(),
        }
    )


def _one_layer(trace: Trace, *, ticking: bool) -> None:
    state, last = st.session_state, trace.layers - 1
    state.layer = min(state.get("layer", 0), last)
    if state.playing and time.monotonic() >= state.due:
        if state.layer < last:
            state.layer, state.due = state.layer + 1, time.monotonic() + 0.9 * SECONDS_PER_LAYER
        else:
            state.playing = False
    if state.playing != ticking:
        st.rerun()  # the whole page, which starts or stops the timer
    left, right = st.columns([7, 1], vertical_alignment="bottom")
    if last:
        left.slider("Layer", 0, last, key="layer")
        right.button("Stop" if ticking else "Play", width="stretch", key="play", on_click=_toggle, args=[last])
    st.html(f'<div class="al-large">{render.layer_row(trace, state.layer)}</div>')


def _toggle(last: int) -> None:
    """Start or stop playing; from the last layer it starts over."""
    state = st.session_state
    state.playing, state.due = not state.playing, time.monotonic() + SECONDS_PER_LAYER
    if state.playing and state.layer == last:
        state.layer = 0


def _title(example: EraserExample) -> str:
    return f"{example.id.removesuffix('.txt')} \N{MIDDLE DOT} {example.label} \N{MIDDLE DOT} {len(example.words)} words"


def _length_chart(table: pd.DataFrame, length: int) -> alt.LayerChart:
    base = alt.Chart(table).encode(
        x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("tokens:Q", title="Tokens that enter", scale=alt.Scale(domain=[0, length])),
    )
    bars = base.mark_bar(color="#d98200", cornerRadiusEnd=2)
    return bars + base.mark_text(dy=-7, color="gray").encode(text="tokens:Q")
