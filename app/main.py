"""The page: load, guard, compute, draw.

Run it with `streamlit run app/main.py`, or with more models, reports, corpora and curves of other systems
`streamlit run app/main.py -- --checkpoints DIR --reports DIR --data DIR_OR_TAR --tradeoff DIR`.
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
from app.markup import render
from app.model import comparing
from app.model.tracing import read_limit
from app.panels import choosing, common, elsewhere, evaluating, making, own_text, player
from app.server import state
from app.sources import loading
from app.sources.documents import Document
from app.views import budget, compare, corpus, how, layers, side_by_side, take_away, trust, what_if
from app.work import reports, results

st.set_page_config(page_title="AdapLeR, layer by layer", layout="wide")
st.html(render.style())
player.address()
st.title("AdapLeR, layer by layer")
with st.container(key="head"):  # which style.css leaves out on a small screen
    st.caption(
        "A text classifier that drops the tokens it does not need, layer by layer, and shows which ones it read to the "
        f"end. {how.paper()}."
    )

try:
    arguments = loading.read_arguments(sys.argv[1:])
except AdapLeRError as error:
    common.problem(error)
    st.stop()

st.session_state.command = loading.command(arguments)  # for whoever takes a file away
checkpoint_folders = (*arguments.checkpoints, loading.CHECKPOINTS)
checkpoints = loading.list_checkpoints(checkpoint_folders)
corpora = loading.list_corpora(arguments.data)
report_folders = (*arguments.reports, *loading.REPORTS)
state.begin(comparing.titles())
st.session_state.pop("leaving", None)  # the whole page runs: whoever wanted to leave a fragment has left it

view = choosing.choose_view()
name = choosing.choose_checkpoint(checkpoints)
dtype = choosing.choose_format()
own = choosing.choose_source(has_corpora=bool(corpora)) == state.OWN_TEXT
document: Document | None
if own:
    document = own_text.write_text()
else:
    corpus_name = choosing.choose_corpus(list(corpora))
    try:
        document = choosing.choose_document(loading.find_corpus(corpora, corpus_name), title=corpus_name)
    except AdapLeRError as error:
        common.problem(error)
        st.stop()
scale = choosing.choose_scale(large=view in (state.BUDGET, state.TRUST))
talks = choosing.choose_talk()
how.tour()
if name is not None:
    own_text.about_model(checkpoints, name)
for folder in arguments.checkpoints:
    if not loading.list_checkpoints([folder]):
        st.warning(common.literal(f"{folder.resolve().name}: {loading.NO_MODEL}"))
if view in (state.CORPUS, state.TRUST):
    for folder in arguments.reports:
        if not reports.list_reports([folder]):
            st.warning(common.literal(f"{folder.resolve().name}: {reports.NO_REPORT}"))
notice = st.empty()
common.lost(notice)

if view == state.CORPUS:
    found = reports.list_reports(report_folders)
    corpus.show(found, corpora, checkpoints, chosen=name, makes=name is not None and not own)
    if name is not None and not own:
        evaluating.show(
            checkpoint=name,
            adapler=checkpoints[name],
            corpus=corpus_name,
            data=corpora[corpus_name],
            split=st.session_state.split,
            scale=scale,
            dtype=dtype,
        )
    st.stop()

if view == state.TRUST and name is not None:
    try:
        checkpoint = loading.find_checkpoint(checkpoints, name, dtype=dtype)
    except AdapLeRError as error:
        common.problem(error)
        st.stop()
    trust.show(
        checkpoint,
        name=name,
        scale=scale,
        checkpoints=checkpoints,
        folders=loading.REPORTS,
        found=reports.list_reports(report_folders),
        corpus=None if own else loading.find_corpus(corpora, corpus_name),
        title="" if own else corpus_name,
    )
    st.stop()

if document is None:
    st.stop()
if not document.words:
    st.info("There is no text yet: type or paste some above.")
    st.stop()

if name is None:
    making.show(checkpoint_folders)
    common.text_alone(document)
    st.stop()

try:
    checkpoint = loading.find_checkpoint(checkpoints, name, dtype=dtype)
    own_text.verdicts(checkpoint, scale=scale, name=name)  # also where the chosen line cannot be read
    parts = results.load_parts(checkpoint, document)
    limit = read_limit(checkpoint.model, checkpoint.tokenizer)
    document = choosing.choose_part(document, parts, limit=limit)
    common.lost(notice)  # the part too
    trace = results.load_trace(checkpoint, document, threshold_scale=scale)
except AdapLeRError as error:
    common.problem(error)
    common.text_alone(document)
    st.stop()

if view != state.SIDES or talks:  # there the right side may have more layers
    state.layer_of(trace.layers)
    common.lost(notice)
if talks:
    layers.talk(trace)
    st.stop()
common.verdict(trace, document, checkpoint=name, scale=scale, dtype=checkpoint.dtype)
common.read_otherwise(checkpoint, tokens=len(trace) if len(parts) == 1 else limit)

if view == state.COMPARE:
    compare.show(checkpoint, document, trace, scale=scale)
elif view == state.SIDES:
    side_by_side.show(
        checkpoint,
        document,
        trace,
        scale=scale,
        name=name,
        checkpoints=checkpoints,
        others=choosing.texts(None if own else loading.find_corpus(corpora, corpus_name)),
    )
    common.lost(notice)  # what stands on the right too, and the layer
elif view == state.WHAT_IF:
    what_if.show(checkpoint, document, trace, scale=scale)
elif view == state.BUDGET:
    budget.show(
        checkpoint,
        document,
        trace,
        scale=scale,
        name=name,
        checkpoints=checkpoints,
        tradeoffs=(*arguments.tradeoff, *(one for one in loading.TRADEOFF if one.is_dir())),
    )
elif view == state.TAKE_AWAY:
    take_away.show(checkpoint, document, trace, scale=scale, name=name)
elif view == state.HOW:
    config = checkpoint.model.config
    how.show(trace, scale=scale, policy=config.policy, predictor=config.predictor)
else:
    # a word of one's own text is looked for in the first corpus
    title = next(iter(corpora), None) if own else corpus_name
    place = None
    if title is not None:
        place = elsewhere.Place(
            load=partial(loading.find_corpus, corpora, title),
            title=title,
            split=None if own else st.session_state.split,
            checkpoint=name,
            scale=scale,
        )
    layers.show(checkpoint, document, trace, scale=scale, place=place)
