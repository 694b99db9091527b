"""Where else in a corpus a word stands, and until which layer it is read there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from adapler.eraser import EraserCorpus
from adapler.errors import AdapLeRError
from app.panels import choosing, common, surveying
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import surveys

MOST = 200  # rows that are listed


@dataclass(frozen=True)
class Place:
    """The split to look in. load: reads the corpus, which is called `title` in the menu; split: None for its test
    split, or else its first; checkpoint: its name in the menu."""

    load: Callable[[], EraserCorpus]
    title: str
    split: str | None
    checkpoint: str
    scale: float


def show(checkpoint: Checkpoint, word: str, place: Place, *, shown: Document, layers: int) -> None:
    """shown: the document on the page, which is left out; layers: of the model."""
    try:
        corpus = place.load()
    except AdapLeRError as error:
        common.problem(error)
        return
    split = place.split or ("test" if "test" in corpus.splits else next(iter(corpus.splits)))
    survey = surveys.find(checkpoint, corpus, title=place.title, split=split, scale=place.scale)
    st.markdown(f"**{common.literal(word)}** elsewhere")
    if not surveying.finished(checkpoint, survey, what=f"{place.title}, {split}", in_fragment=True):
        return
    table = survey.occurrences(word)
    here = shown.name if shown.source == f"{place.title}, {split}" else None
    table = table[table["document"] != here]
    st.caption(common.literal(_said(table, documents=len(survey.readings) - (here is not None), layers=layers)))
    if table.empty:
        return
    target = {"corpus": place.title, "split": split, "checkpoint": place.checkpoint, "scale": place.scale}
    listed = table.sort_values("survives", ascending=False, na_position="last", kind="stable").head(MOST)
    names = listed["document"].tolist()
    listed = listed.assign(survives=[_until(value, layers) for value in listed["survives"]])
    st.dataframe(
        listed.rename(columns={"survives": "read until"}),
        hide_index=True,
        height=min(320, 38 + 35 * len(listed)),
        key="elsewhere",
        on_select=partial(choosing.open_picked, "elsewhere", names, target),
        selection_mode="single-row",
        column_config={"context": st.column_config.TextColumn(width="large")},
    )


def _said(table: pd.DataFrame, *, documents: int, layers: int) -> str:
    """How often, and how far it comes; documents: that were looked at."""
    if table.empty:
        return f"None of {documents} other documents has this word."
    read = table["survives"].dropna().astype(int)
    times = "once" if len(table) == 1 else f"{len(table)} times"
    said = f"{times} in {table['document'].nunique()} of {documents} other documents"
    if len(read) < len(table):
        said += f", {len(table) - len(read)} of them behind what the model reads"
    steps = [f"layer {layer} {int((read >= layer).sum())}" for layer in range(layers)]
    return f"{said}. Of {len(read)}, so many are read by {', '.join(steps)}."


def _until(value: Any, layers: int) -> str:
    if pd.isna(value):
        return "not read"
    if value < 0:
        return "no layer"
    return "the end" if value == layers - 1 else f"layer {value}"
