"""Make a report: the menu of documents, and the queue of jobs with progress and a way to stop each."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.panels import common
from app.work import jobs

SECONDS_PER_LOOK = 1.0
LIMITS = {  # not the first ones: a corpus may come sorted by label
    "a sample of 25, labels balanced": 25,
    "a sample of 10, labels balanced": 10,
    "a sample of 100, labels balanced": 100,
    "all": None,
}


def show(*, checkpoint: str, adapler: Path, corpus: str, data: Path, split: str, scale: float, dtype: str) -> None:
    """A timer looks after the queue while there is one, whoever has filled it.

    checkpoint, corpus: names of the menus; adapler, data: the folders that they stand for; dtype: as chosen.
    """
    st.header("Make a report")
    st.fragment(_show, run_every=SECONDS_PER_LOOK if jobs.queue() or _seen() else None)(
        checkpoint=checkpoint, adapler=adapler, corpus=corpus, data=data, split=split, scale=scale, dtype=dtype
    )


def _seen() -> list[jobs.Job]:
    """The jobs that this session has seen and not yet seen end."""
    seen: list[jobs.Job] = st.session_state.setdefault("jobs", [])
    return seen


def _show(*, checkpoint: str, adapler: Path, corpus: str, data: Path, split: str, scale: float, dtype: str) -> None:
    queue = jobs.queue()
    if ended := [job for job in _seen() if job.code is not None]:
        st.session_state.jobs = queue
        for job in ended:
            _end(job)
        st.rerun()  # the whole page, whose menu has the new report
    st.session_state.jobs = queue
    for message in st.session_state.get("failed", []):
        common.problem(message)
    for before, job in enumerate(queue):
        _row(job, before=before)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    label = common.literal(f"Documents of {corpus}, {split}")
    limit = left.selectbox(label, list(LIMITS), key="limit", persist_state="session")
    if right.button("Evaluate", key="evaluate", width="stretch"):
        _start(
            checkpoint=checkpoint,
            adapler=adapler,
            corpus=corpus,
            data=data,
            split=split,
            scale=scale,
            dtype=dtype,
            limit=limit,
        )
    st.caption(
        common.literal(
            f"The methods of the paper with checkpoint {checkpoint} at threshold scale {scale:g}, "
            f"{'in the format that suits the machine' if dtype == 'auto' else f'in {dtype}'}. It runs "
            "beside the page after those that wait, goes on when the page is closed, and overwrites no other report."
        )
    )


def _start(
    *, checkpoint: str, adapler: Path, corpus: str, data: Path, split: str, scale: float, dtype: str, limit: str
) -> None:
    st.session_state.failed = []
    job = jobs.evaluate(
        adapler=adapler,
        checkpoint=checkpoint,
        data=data,
        corpus=corpus,
        split=split,
        threshold_scale=scale,
        dtype=dtype,
        limit=LIMITS[limit],
    )
    if job is None:
        st.info(f"{jobs.MOST} jobs run or wait on this server already; try again when one is done.")
        return
    st.session_state.setdefault("own_jobs", []).append(job.number)
    st.session_state.jobs = [*_seen(), job]
    st.rerun()


def _row(job: jobs.Job, *, before: int) -> None:
    """One job of the queue. before: how many are."""
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    what = "Evaluating" if job.kind == jobs.EVALUATION else "Training the checkpoint"
    stage, share = job.stage
    now = f"{stage} {share:.0%}" if stage else "loading the model"
    if before:
        now, share = f"waits for {before} other{'s' if before > 1 else ''}", 0.0
    left.progress(share, text=common.literal(f"{what} {job.name}: {now}, {job.seconds:.0f} s"))
    if right.button("Cancel" if before else "Stop", key=f"stop-job-{job.number}", width="stretch"):
        job.stop()
        st.rerun()


def _end(job: jobs.Job) -> None:
    """What remains of a job."""
    own = job.number in st.session_state.get("own_jobs", [])
    if job.code == 0:
        if own and job.kind == jobs.EVALUATION:
            st.session_state.report_made = job.name
    elif not job.stopped:
        st.session_state.failed = [*st.session_state.get("failed", []), f"{job.name}: {job.message}"]
