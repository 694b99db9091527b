"""Take away: the figure, tables, a page of the token grid, and a link that shows this again."""

from __future__ import annotations

from functools import partial

import streamlit as st

from adapler.errors import AdapLeRError
from app.markup import animation, export
from app.markup.export import Origin
from app.model import comparing, joining
from app.model.tracing import ADAPLER, Trace
from app.panels import common, player
from app.server import state
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results

MOST_LAYERS = 6  # in a figure, to begin with
BY_ITSELF = "the most evidence"


def show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float, name: str) -> None:
    """name: of the checkpoint in the menu."""
    drawn = player.in_units(trace, most=joining.WORDS)
    stem = _plain(document.name)[:60] or "document"
    if document.excerpt:
        stem += f"-{_plain(document.excerpt.partition(',')[0])}"
    origin = common.origin(document, checkpoint, name=name, scale=scale)
    st.header("Figure for a paper")
    layout = _layout(drawn, document)
    try:
        preview = results.load_preview(drawn, document, checkpoint.key, scale=scale, unit=drawn.unit, layout=layout)
    except AdapLeRError as error:  # a text without a word to draw
        common.problem(error)
    else:
        st.html(preview)
        uniform = "1/n" if trace.policy == ADAPLER else "the mean, which the key calls 1/n"
        st.caption(
            f"The stronger a token's shade, the higher its score, from 0 to 8 times {uniform}; dropped tokens are "
            "faint, the human rationale is underlined."
        )
        with st.container(horizontal=True):
            for kind, mime in export.MIME.items():
                st.download_button(
                    kind.upper(),
                    partial(export.figure, drawn, document, kind=kind, layout=layout, origin=origin),
                    file_name=f"{stem}.{kind}",
                    mime=mime,
                    key=f"save-{kind}",
                    on_click="ignore",
                )
        _animation(drawn, document, stem, origin=origin)
    st.header("Tables and page")
    st.caption(
        "Every token's score, threshold and fate; the numbers of the layers; all layers as one HTML file. Text that a "
        "spreadsheet would run as a formula has an apostrophe before it. Each file, and each figure in its properties, "
        "says checkpoint with the weights' checksum, scale, number format, date and how to have it again."
    )
    scores = partial(export.csv, export.token_table(trace), trace, document, origin=origin)
    numbers = partial(export.csv, export.layer_table(drawn), trace, document, origin=origin)
    with st.container(horizontal=True):
        for key, label, data, file in (
            ("save-scores", "Token scores as CSV", scores, "scores.csv"),
            ("save-csv", "Layers as CSV", numbers, "layers.csv"),
            (
                "save-html",
                "Token grid as HTML",
                partial(export.html_page, drawn, document, origin=origin),
                "layers.html",
            ),
        ):
            mime = f"text/{file.rpartition('.')[2]}"
            st.download_button(label, data, file_name=f"{stem}-{file}", mime=mime, key=key, on_click="ignore")
    _link()


def _plain(name: str) -> str:
    """As a file may be called."""
    return "".join(char if char.isalnum() and char.isascii() else "_" for char in name)


def _layout(drawn: Trace, document: Document) -> export.Layout:
    """What the reader chooses of the figure."""
    left, right = st.columns(2)
    lines = left.slider("Lines of text for each layer", 1, 12, value=3, key="lines", persist_state="session")
    if st.session_state.get("layers_of", (document, drawn.layers)) != (document, drawn.layers):
        st.session_state.pop("layers", None)  # of another text, or of a model that has more
    st.session_state.layers_of = (document, drawn.layers)
    layers = right.multiselect(
        "Layers",
        range(drawn.layers),
        default=export.telling_layers(drawn, MOST_LAYERS),
        key="layers",
        persist_state="session",
        help="At first those before which most tokens go.",
    )
    begins = {BY_ITSELF: None, **export.sentences(drawn, document)}
    if st.session_state.get("begins", BY_ITSELF) not in begins:
        del st.session_state["begins"]  # of another text
    begin = left.selectbox("The passage begins with", list(begins), key="begins", persist_state="session")
    key = right.toggle(
        "Key below the text",
        value=True,
        key="figure-key",
        persist_state="session",
        help="A line that says what shade, paleness and underline mean.",
    )
    return export.Layout(lines=lines, layers=tuple(sorted(layers)) or (0,), start=begins[begin], key=key)


def _animation(drawn: Trace, document: Document, stem: str, *, origin: Origin) -> None:
    st.header("Animation")
    can_film = animation.encoder() is not None
    st.caption(
        f"What Play shows, a layer after the other, for slides; of a text of more than {animation.LINES} lines, "
        "a passage."
        + ("" if can_film else " An MP4 needs ffmpeg on the server's path, or `pip install imageio-ffmpeg`.")
    )
    with st.container(horizontal=True):
        for kind, mime in animation.MIME.items():
            st.download_button(
                kind.upper(),
                partial(animation.animation, drawn, document, kind, origin=origin),
                file_name=f"{stem}.{kind}",
                mime=mime,
                key=f"save-{kind}",
                on_click="ignore",
                disabled=kind == "mp4" and not can_film,
            )


def _link() -> None:
    st.header("Link")
    if st.session_state.source == state.OWN_TEXT:
        if st.session_state.get("upload") is not None:
            st.info("The link does not hold your file: it shows the page with these settings.")
        elif missing := state.too_long():
            are = "is" if len(missing) == 1 else "are"
            st.info(
                f"Your {' and '.join(missing)} {are} too long for a link: it shows the page with these settings, "
                f"without the {' and the '.join(missing)}."
            )
        held = [name for name in state.OWN_TEXTS if st.session_state.get(name) and state.fits_address(name)]
        if st.session_state.get("upload") is None and held:
            said = " and ".join(state.OWN_TEXTS[name] for name in held)
            stands = "stands" if len(held) == 1 else "stand"
            st.caption(f"Your {said} {stands} in the link: whoever has it, and servers on its way, can read it.")
    st.caption("It restores document, layer, view, methods, scale and checkpoint, as the page's own address does.")
    parameters = state.link_parameters(comparing.titles(), view=st.session_state.get("seen", state.LAYERS))
    st.code(state.link(st.context.url or "", parameters), language=None, wrap_lines=True)
