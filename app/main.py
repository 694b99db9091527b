"""The page: settings at the side, one view in the middle.

streamlit run app/main.py [-- --checkpoints DIR --reports DIR --data DIR_OR_TAR]
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

# Streamlit puts this file's folder on the path, not the repository that holds the packages.
if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, root)

import streamlit as st

from adapler.errors import AdapLeRError
from app import context, markup, tour
from app.views import budget, corpus, how, layers, sides, story, take_away, trust, what_if

st.set_page_config(page_title="AdapLeR, layer by layer", layout="wide")
st.markdown(markup.style(), unsafe_allow_html=True)  # there before the code that draws st.html is

VIEWS = {
    "See": {"layers": ("Layer by layer", layers), "story": ("Who finds it?", story), "sides": ("Side by side", sides)},
    "Try": {"what_if": ("What if?", what_if), "budget": ("Budget", budget)},
    "Check": {
        "trust": ("Trust", trust),
        "corpus": ("Corpus", corpus),
        "how": ("How it works", how),
        "take_away": ("Take away", take_away),
    },
}


def run(module: object) -> None:
    render = module.render  # type: ignore[attr-defined]
    render(st.session_state.context)


pages = {
    group: [
        st.Page(partial(run, module), title=title, url_path=name, default=name == "layers")
        for name, (title, module) in views.items()
    ]
    for group, views in VIEWS.items()
}
chosen = st.navigation(pages)
try:
    st.session_state.context = context.begin(sys.argv[1:])
except AdapLeRError as error:
    context.problem(error)
    st.stop()
wanted = st.session_state.pop("go", None)
for page in (page for group in pages.values() for page in group):
    if page.url_path == wanted or (wanted == "layers" and page.url_path == ""):
        st.switch_page(page, query_params={})  # None would clear those that widgets hold, which is refused
st.components.v2.component("adapler_history", js=(markup.STATIC / "history.js").read_text())(key="history")
with st.container():
    tour.show()
if chosen.url_path != "what_if":  # whose edits the address has no more
    st.session_state.pop("edits_told", None)
try:
    st.session_state.context.head = st.container()
    with st.container():  # a control whose place on the page changes loses its part of the address
        if chosen.url_path not in {"trust", "corpus"}:  # drawn here, since the address loses a text that a view draws
            context.read_text(st.session_state.context)
    chosen.run()
finally:
    st.html('<i class="al-ready"></i>')  # see style.css
