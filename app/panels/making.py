"""No checkpoint anywhere: one is trained on the embedded sample when asked for, with its progress in view."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from adapler.errors import AdapLeRError
from app.panels import common
from app.sources import loading
from app.work import jobs

SECONDS_PER_LOOK = 1.0
STAGES = ("fine-tuning", "saliency", "training AdapLeR")
MISSING = "There is no AdapLeR checkpoint in checkpoints/ or in a folder named with --checkpoints."


def show(folders: Sequence[Path]) -> None:
    """A timer looks after the training, whichever session has started it, until `folders` hold a checkpoint."""
    waiting = st.session_state.get("job") is not None or _training() is not None
    st.fragment(_show, run_every=SECONDS_PER_LOOK if waiting else None)(folders)


def _show(folders: Sequence[Path]) -> None:
    remembered = st.session_state
    job: jobs.Job | None = remembered.get("job") or _training()
    if job is None:
        if loading.list_checkpoints(folders):
            st.rerun()
        _ask()
        return
    remembered.job = job
    code = job.code
    if code is None:
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        done, stages = jobs.trained_stages()
        now = STAGES[min(done, stages - 1)] if job.begun else "it waits for what the server runs"
        left.progress(
            min(1.0, (done + job.progress) / stages),
            text=f"{MISSING} Training one on the embedded sample, some two minutes: {now} ...",
        )
        if right.button("Stop", key="stop", width="stretch"):
            job.stop()
            _end(None)
        return
    failed = not job.stopped and (code or not loading.list_checkpoints(folders))
    _end(job.message if failed else None)


def _training() -> jobs.Job | None:
    """The one that runs or waits, whichever session has asked for it."""
    return next((job for job in jobs.queue() if job.kind == jobs.TRAINING), None)


def _ask() -> None:
    """Nothing is trained before somebody wants it."""
    if problem := st.session_state.get("making_problem"):
        common.problem(f"{MISSING} None could be made: {problem}")
    else:
        st.warning(MISSING)
    if st.button("Train one on the embedded sample (some two minutes)", key="make"):
        try:
            st.session_state.job = jobs.train_sample()
            st.session_state.making_problem = None if st.session_state.job else "many jobs wait; try again later"
        except AdapLeRError as error:
            _end(str(error))
        st.rerun()


def _end(problem: str | None) -> None:
    """Show why there is nothing to wait for any more, without a timer."""
    st.session_state.update(job=None, making_problem=problem)
    st.rerun()
