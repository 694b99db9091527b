"""Accuracy against speedup of a checkpoint, from the files that its runs left in results/ and reports/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from adapler.errors import DataError
from app.html import pictures


def find_tables(folders: Sequence[Path], checkpoint: str) -> dict[str, Path]:
    """Trade-off CSVs and evaluation*.json in the folders' subfolder of the checkpoint's name, by file name."""
    inside = [folder / checkpoint for folder in folders]
    return {
        path.name: path for folder in inside for pattern in ("*.csv", "evaluation*.json") for path in
        sorted(folder.glob(pattern))
    }  # fmt: skip


@st.cache_data(max_entries=8, show_spinner="Drawing ...")
def figure(path: Path, stamp: int) -> str | None:
    """The curve as HTML; None for a file that is none of the kind. `stamp`: when it was written."""
    from analysis.figures.tradeoff import tradeoff_figure

    table = _read(path)
    if table is None or len(table) < 2:
        return None
    return pictures.picture(lambda: tradeoff_figure(table), "Accuracy against speedup")


def _read(path: Path) -> pd.DataFrame | None:
    from analysis.figures.tradeoff import read_tradeoff

    if path.suffix == ".csv":
        try:
            return read_tradeoff(path)
        except DataError:  # results hold other tables too
            return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [(one["threshold_scale"], one["score"], one["speedup"]) for one in content["hard"]]
        table = pd.DataFrame(rows, columns=["scale", "accuracy", "speedup"])
        mode = f"{content.get('task')}, {content.get('split')}"
        return table.assign(reference=float(content["none"]["score"]), mode=mode)
    except (OSError, ValueError, KeyError, TypeError):
        return None
