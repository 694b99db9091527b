"""Accuracy against speedup of one checkpoint, out of what was measured of this checkpoint and of no other.

That is: the evaluation*.json of `python -m adapler evaluate` in its own folder, for the checkpoints of the repository
also those in results/ under its name, and the reports of it. What other runs of a training gave (a trade-off CSV) is
no curve of one model, and is not read; other systems are in `app.work.systems`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from adapler.errors import AdapLeRError
from adapler.training.records import read_json
from app.model.survey import share_interval
from app.sources.loading import CHECKPOINTS, model_checksum
from app.work import reports
from app.work.calibrated import Curve

SHOWN = ("measured", "scale", "score", "low", "high", "speedup", "reference", "agreement", "agreement_low",
         "agreement_high", "documents", "metric", "file")  # fmt: skip
USUAL_LENGTH = 512
# What reading a file of another version, or one that somebody has edited, may end in.
UNREADABLE = (AdapLeRError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
COLUMNS = (*SHOWN, "task", "split")  # which `measured` says in words


def curve(
    name: str, *, checkpoints: Mapping[str, Path], results: Sequence[Path], found: Mapping[str, Path]
) -> tuple[pd.DataFrame, list[str]]:
    """(COLUMNS, a row for each threshold scale that was measured; files that could not be read).

    name: of the checkpoint in the menu `checkpoints`; results: folders with one of its name below; found: the menu
    of reports. `score` is that with removal, `reference` that without, both on as many documents as it says;
    `agreement` is the share of the same label with and without. Intervals of both are Wilson's, of a share.
    """
    rows: list[dict[str, Any]] = []
    unread = []
    for path in evaluation_files(name, checkpoints[name], results):
        try:
            rows += [row | _intervals(row) for row in _evaluation(path, checkpoints[name])]
        except UNREADABLE:
            unread.append(path.name)
    for title, path in found.items():
        try:
            summary = _summary(path, reports.key_of(path))
        except UNREADABLE:
            unread.append(title)
            continue
        if summary is not None and reports.origin_of(summary["meta"], checkpoints).checkpoint == name:
            rows.append({**summary["point"], "file": title})
    return pd.DataFrame(rows, columns=COLUMNS), unread


def _intervals(row: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for value, low, high in (("score", "low", "high"), ("agreement", "agreement_low", "agreement_high")):
        share = row.get(value)
        if share is not None and row["documents"] and (value == "agreement" or row["metric"] == "accuracy"):
            found[low], found[high] = share_interval(round(share * row["documents"]), row["documents"])
    return found


def evaluation_files(name: str, folder: Path, results: Sequence[Path]) -> list[Path]:
    """Every evaluation*.json of a checkpoint."""
    folders = [folder]
    if folder.resolve() == (CHECKPOINTS / name).resolve():
        folders += [one / name for one in results]
    return [path for one in folders for path in sorted(one.glob("evaluation*.json"))]


def _measured(
    name: str, split: str, documents: str, dtype: str | None, *, policy: str | None, length: int | None
) -> str:
    """On what, in words: of which documents; in which number format, where that is not float32; and what of long texts
    was read, where that is not what 512 wordpieces hold of their beginning."""
    said = f"{name}, {split}, {documents}" + (f", {dtype}" if dtype not in (None, "float32") else "")
    if policy not in (None, "truncate"):
        said += f", {policy}"
    return said + (f", {length} wordpieces" if length not in (None, USUAL_LENGTH) else "")


def _evaluation(path: Path, folder: Path) -> list[dict[str, Any]]:
    """Rows of a file that `adapler evaluate` wrote; none where it is of another model than the one in `folder`."""
    content = read_json(path)
    own = path.parent.resolve() == folder.resolve()
    checksum = content.get("model_checksum")
    if checksum != model_checksum(folder) and not (own and checksum is None):  # older files do not say it
        return []
    encoding = content.get("encoding") or {}
    shared = {
        "measured": _measured(
            content["task"],
            content["split"],
            f"{content['examples']} documents",
            content.get("precision"),
            policy=encoding.get("long_documents"),
            length=encoding.get("max_length"),
        ),
        "reference": float(content["none"]["score"]),
        "documents": int(content["examples"]),
        "metric": str(content["metric"]),
        "file": path.name,
        "task": str(content["task"]),
        "split": str(content["split"]),
    }
    return [
        {
            "scale": float(one["threshold_scale"]),
            "score": float(one["score"]),
            "speedup": float(one["speedup"]),
            "agreement": float(one["agreement"]) if "agreement" in one else None,
        }
        | shared
        for one in content["hard"]
    ]


@st.cache_data(max_entries=64, show_spinner=False)
def _summary(path: Path, key: str) -> dict[str, Any] | None:
    """A report's facts and its point; None without AdapLeR. `key` tells one version of the report from the next."""
    report = reports.read(path)
    if report.meta.get("adapler_accuracy") is None:
        return None
    point = {
        "measured": _measured(
            report.meta["data"]["name"],
            report.meta["split"],
            report.meta.get("sample") or f"{len(report.documents)} documents",
            report.meta.get("dtype"),
            policy=report.meta.get("truncation"),
            length=report.meta.get("max_length"),
        ),
        "scale": float(report.meta.get("threshold_scale", 1.0)),
        "score": report.meta["adapler_accuracy"],
        "speedup": report.meta["speedup"],
        "reference": report.meta["accuracy"],
        "agreement": report.meta["agreement"],
        "documents": len(report.documents),
        "metric": "accuracy",
        "task": str(report.meta["data"]["name"]),
        "split": str(report.meta["split"]),
    }
    return {"meta": {name: report.meta.get(name) for name in reports.ORIGIN}, "point": point | _intervals(point)}


def by_split(table: pd.DataFrame, calibrated: Curve, *, task: str) -> dict[str, pd.DataFrame]:
    """The checkpoint's curve on each split of a task: scale, score, reference, speedup, measured, metric, file. Of
    several measurements of a split it is the one with the most scales: mixed, they would be no curve. Of two of one
    scale it has the last."""
    parts = [part for _, part in table[table["task"] == task].groupby("measured", sort=False)]
    if calibrated.calibration is not None and calibrated.calibration.task == task:
        parts.insert(0, calibrated.table())
    found: dict[str, pd.DataFrame] = {}
    for part in parts:
        split, part = str(part["split"].iloc[0]), part.drop_duplicates("scale", keep="last")
        if split not in found or len(part) > len(found[split]):
            found[split] = part
    return {
        split: part[["scale", "score", "reference", "speedup", "measured", "metric", "file"]].sort_values("scale")
        for split, part in found.items()
    }
