"""Reading a whole split, when somebody asks for it: with its progress, and a way to stop it."""

from __future__ import annotations

import streamlit as st

from adapler.errors import AdapLeRError
from app.model.survey import Survey
from app.panels import common
from app.sources.loading import Checkpoint
from app.work import surveys


def stop() -> None:
    """The button that ends a reading that goes on, if one does: for a view that reads in a fragment, outside of it,
    since a click in a fragment waits until the run that it is to end has ended."""
    survey = st.session_state.get("surveyed")
    if survey is not None and not survey.finished:
        st.button("Stop", key="stop-survey", on_click=_ask, args=[None])


def finished(checkpoint: Checkpoint, survey: Survey, *, what: str, in_fragment: bool = False) -> bool:
    """Whether all documents are read; until then there is a button, or the progress of what it has asked for.

    What a run of the page has read stays when it is ended: the next one goes on there. what: the documents, in words.
    in_fragment: whoever calls has drawn `stop`.
    """
    if survey.finished:
        return True
    place = st.empty()
    with place.container(horizontal=True, vertical_alignment="bottom"):
        size, done = len(survey.documents), survey.done
        if st.session_state.get("surveyed") is not survey:
            label = f"Read all {size} documents of {what}" if not done else f"Go on: {done} of {size} are read"
            if st.button(common.literal(label), key="survey"):
                _ask(survey)
                st.rerun()  # the whole page, which can be stopped
            return False
        bar = st.progress(0.0, text="Reading ...")
        if not in_fragment:
            stop()
        while not survey.finished:
            done = survey.done  # another session may read with us
            bar.progress(done / size, text=f"{done} of {size} documents are read")
            try:
                surveys.advance(checkpoint, survey)
            except AdapLeRError as error:
                _ask(None)  # the next run does not try again by itself
                common.problem(error)
                return False
    place.empty()
    return True


def _ask(survey: Survey | None) -> None:
    st.session_state.surveyed = survey
