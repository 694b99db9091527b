"""Reading a whole split, when somebody asks for it: with its progress, and a way to stop it."""

from __future__ import annotations

import streamlit as st

from app.model.survey import Survey
from app.panels import common
from app.sources.loading import Checkpoint
from app.work import surveys


def finished(checkpoint: Checkpoint, survey: Survey, *, what: str) -> bool:
    """Whether all documents are read; until then there is a button, or the progress of what it has asked for.

    What a run of the page has read stays when it is ended: the next one goes on there. what: the documents, in words.
    """
    if survey.finished:
        return True
    place = st.empty()
    with place.container(horizontal=True, vertical_alignment="bottom"):
        size, done = len(survey.documents), survey.done
        if st.session_state.get("surveyed") is not survey:
            label = f"Read all {size} documents of {what}" if not done else f"Go on: {done} of {size} are read"
            st.button(common.literal(label), key="survey", on_click=_ask, args=[survey])
            return False
        bar = st.progress(0.0, text="Reading ...")
        st.button("Stop", key="stop-survey", on_click=_ask, args=[None])
        while not survey.finished:
            done = survey.done  # another session may read with us
            bar.progress(done / size, text=f"{done} of {size} documents are read")
            surveys.advance(checkpoint, survey)
    place.empty()
    return True


def _ask(survey: Survey | None) -> None:
    st.session_state.surveyed = survey
