"""Take away: a figure for a paper, an animation, tables, and the token grid as a page."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial

import streamlit as st

from adapler.errors import AdapLeRError
from app import context as shared
from app import export, joining, markup
from app.context import KEPT, Context, file_name

FIRST_LAYERS = 6


def render(context: Context) -> None:
    context.head.html(markup.title("Take away", "Each file says which checkpoint, scale and text it is of."))
    document, trace = context.read()
    drawn, subject = context.in_units(most=joining.WORDS), context.subject()
    stem = file_name(document.name)
    left, right = st.columns(2)
    lines = left.slider("Lines of text for each layer", 1, 12, value=3, key="lines", **KEPT)
    if st.session_state.get("layers_of") != (document, drawn.layers):
        st.session_state.pop("layers", None)  # of another text
        st.session_state.layers_of = (document, drawn.layers)
    chosen = right.multiselect(
        "Layers", range(drawn.layers), default=export.telling_layers(drawn, FIRST_LAYERS), key="layers", **KEPT
    )
    begins = {"the most evidence": None, **export.sentences(drawn, document)}
    if st.session_state.get("begins") not in begins:
        st.session_state.pop("begins", None)
    begin = left.selectbox("The passage begins with", list(begins), key="begins", **KEPT)
    key = right.toggle("Key below the text", value=True, key="figure-key", **KEPT)
    draw = partial(
        export.figure,
        drawn,
        document,
        layers=tuple(sorted(chosen)) or (0,),
        lines=lines,
        start=begins[begin],
        key=key,
        subject=subject,
    )
    try:
        picture = base64.b64encode(draw("svg")).decode()
    except AdapLeRError as error:  # a text without a word to draw
        shared.problem(error)
        return
    said = markup.visible(f"A passage of {document.name} at {len(chosen)} layers; dropped words are grey")
    image = f'<img alt="{said}" src="data:image/svg+xml;base64,{picture}">'
    st.html(f'<div class="al-figure" style="background:#fff">{image}</div>')
    film = partial(export.animation, drawn, document)
    tables: dict[str, tuple[str, Callable[[], bytes]]] = {
        "Token scores, CSV": ("scores.csv", lambda: export.csv(export.token_table(trace), subject=subject)),
        "Layers, CSV": ("layers.csv", lambda: export.csv(export.layer_table(drawn), subject=subject)),
        "All layers, HTML": ("layers.html", partial(export.html_page, drawn, document, subject=subject)),
    }
    with st.container(horizontal=True):
        for kind in ("pdf", "svg", "png"):
            st.download_button(
                kind.upper(), partial(draw, kind), f"{stem}.{kind}", export.MIME[kind], on_click="ignore"
            )
        for kind in ("gif", "mp4"):
            off = kind == "mp4" and export.encoder() is None
            st.download_button(
                f"Animation, {kind.upper()}",
                partial(film, kind),
                f"{stem}.{kind}",
                export.MIME[kind],
                on_click="ignore",
                disabled=off,
                help="Needs ffmpeg on the server." if off else None,
            )
        for label, (name, make) in tables.items():
            mime = f"text/{name.rpartition('.')[2]}"
            st.download_button(label, make, f"{stem}-{name}", mime, on_click="ignore")
    st.caption(markup.literal(f"{subject}. The address of this page shows all of it again."))
