"""The page: load, guard, compute, draw.

Run it with `streamlit run app/main.py`, or with more models and corpora in its menus
`streamlit run app/main.py -- --checkpoints DIR --data DIR_OR_TAR`.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Streamlit puts this file's folder on the path, not the repository that holds the packages.
if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.insert(0, root)

import streamlit as st

from adapler.errors import AdapLeRError
from app import loading, panels, render

st.set_page_config(page_title="AdapLeR, layer by layer", layout="wide")
st.html(render.style())
st.title("AdapLeR, layer by layer")
st.caption(
    "A text classifier that drops the tokens it does not need, layer by layer, and shows which ones it read to the end."
)

try:
    arguments = loading.read_arguments(sys.argv[1:])
except AdapLeRError as error:
    panels.problem(error)
    st.stop()

checkpoints = loading.list_checkpoints((*arguments.checkpoints, loading.CHECKPOINTS))
chosen = panels.choose_checkpoint(checkpoints)

corpora = loading.list_corpora(arguments.data)
if panels.choose_source() == panels.OWN_TEXT or not corpora:
    document = panels.write_text()
else:
    try:
        corpus = loading.load_corpus(panels.choose_corpus(corpora))
    except AdapLeRError as error:
        panels.problem(error)
        st.stop()
    document = panels.choose_document(corpus)
scale = panels.choose_scale()

if not document.text.strip():
    st.info("There is no text yet: type or paste some above.")
    st.stop()

try:
    checkpoint = loading.find_checkpoint(checkpoints, chosen)
except AdapLeRError as error:
    panels.problem(error)
    panels.text_alone(document)
    st.stop()

trace = loading.load_trace(checkpoint, document.text, document.spans, threshold_scale=scale)
panels.verdict(trace, document)
every, single, table = st.tabs(["Layer by layer", "One layer", "Numbers"])
with every:
    panels.all_layers(trace)
with single:
    panels.one_layer(trace)
with table:
    panels.numbers(trace, document)
