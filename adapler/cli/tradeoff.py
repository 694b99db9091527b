"""Runs side by side: score against speedup of every epoch and threshold scale, as one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adapler.errors import ArgumentError, CheckpointError
from adapler.files import visible
from adapler.text import reading
from adapler.training.records import check_evaluation, check_record, model_checksum, read_json

__all__ = ["COLUMNS", "tradeoff_table"]

COLUMNS = (
    *("mode", "phi", "gamma", "target", "rows", "epoch", "step", "scale", "metric", "score", "speedup", "reference"),
    *("precision", "examples", "run", "split", "task"),
)


def tradeoff_table(runs: Sequence[str | Path], *, split: str = "validation") -> pd.DataFrame:
    """Collect what training and evaluation recorded.

    A run is a folder that `adapler train` wrote, one that `adapler run` wrote (each of its phi counts), or a copy of
    a `run.json`. On validation every evaluated point is a row with scale 1. Files that `adapler evaluate --output`
    wrote into the run's folder give a row for each further threshold scale of the selected point. One that read texts
    otherwise than training did (`--max-length`, `--long-documents`) is left out, which a line on stderr says.

    Args:
        runs: folders or files.
        split: "validation" or "test"; on test there are the evaluation files only.

    Returns:
        COLUMNS: mode ("full" or "post-hoc"), phi, gamma, target (speedup that training aimed at; empty: none), rows (of
        the training split), epoch, step, scale, metric (accuracy, f1 or agreement), score, speedup (FLOPs of the
        fine-tuned classifier / AdapLeR's), reference (score of the fine-tuned classifier; empty where no file tells
        it), precision (what score and speedup were computed in), examples (how many were scored), run (name), split,
        task (whose rows these are: an evaluation may be on another task than the training). Precision, examples and
        task are empty in records of older versions.

    Raises:
        ArgumentError: another split, or nothing recorded of it.
        CheckpointError: a folder or file without the record of an AdapLeR training, a value of the wrong type in one,
            or an evaluation of another model than the one beside it.
    """
    if split not in ("validation", "test"):
        raise ArgumentError(f"split: {split!r} is not 'validation' or 'test'")
    rows = [row for run in runs for path in _records(Path(run)) for row in _rows(path, split)]
    if not rows:
        raise ArgumentError(f"split: no evaluation on {split} is recorded in {', '.join(map(str, runs))}")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _records(run: Path) -> list[Path]:
    """The run.json of each AdapLeR training in or below a run."""
    candidates = (
        [run] if run.is_file() else [run / "run.json", *(folder / "run.json" for folder in visible(run.glob("*")))]
    )
    found = [path for path in candidates if path.is_file() and read_json(path).get("command") == "train"]
    if not found:
        what = "is not the record" if run.is_file() else "holds no record (run.json)"
        raise CheckpointError(f"{run}: {what} of an AdapLeR training; `adapler train` and `adapler run` write one")
    return found


def _rows(path: Path, split: str) -> Iterator[dict[str, Any]]:
    record = read_json(path)
    check_record(record, where=path)
    try:
        objectives, metric, selected = record["objectives"], record["metric"], record["selected"]
        post_hoc = bool(objectives["freeze_backbone"])
        common = {
            "mode": "post-hoc" if post_hoc else "full",
            "phi": objectives["phi"],
            "gamma": objectives["gamma"],
            "target": objectives.get("target_speedup"),
            "rows": record["rows"]["train"],
            "metric": metric,
            "run": path.parent.resolve().name if path.name == "run.json" else path.stem,
            "split": split,
            "task": record.get("task"),
        }
        reference = record["reference_score"] if split == "validation" else None
        if split == "validation":
            for epoch in record["epochs"]:
                figures = {"score": epoch[metric], "speedup": epoch["speedup"], "reference": reference}
                precision = epoch.get("precision")
                figures |= {"precision": precision, "examples": record.get("examples", {}).get("validation")}
                yield {**common, "epoch": epoch["epoch"], "step": epoch.get("step"), "scale": 1.0, **figures}
        for result in _evaluations(path, record, split=split):
            told = {name: result.get(name, common[name]) for name in ("metric", "task")}
            own = told["task"] == common["task"]
            known = reference if own else None
            # Post-hoc training leaves the fine-tuned classifier as it was, so without removal it is the reference.
            known = result["none"]["score"] if known is None and post_hoc else known
            for hard in result["hard"]:
                if own and split == "validation" and hard["threshold_scale"] == 1 and not _rescaled(record):
                    continue  # the selected epoch's row
                figures = {"score": hard["score"], "speedup": hard["speedup"], "reference": known}
                figures |= {"precision": result.get("precision"), "examples": result.get("examples")}
                figures |= {"epoch": selected["epoch"], "step": selected.get("step"), "scale": hard["threshold_scale"]}
                yield {**common, **figures, **told}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: a record without {error}; another version of this package wrote it") from error


def _rescaled(record: dict[str, Any]) -> bool:
    """Whether the thresholds of the folder's model are others than the selected epoch's."""
    reached = record.get("reached") or {}
    return bool(reached.get("factor", 1) != 1 or record.get("threshold_scale", 1) != 1)


def _evaluations(path: Path, record: Mapping[str, Any], *, split: str) -> Iterator[dict[str, Any]]:
    """Evaluation files of a run's folder on a split, of texts that were read as in training; a copied record has
    none."""
    if path.name != "run.json":
        return
    own = reading(record.get("encoding", {}))
    for file in visible(path.parent.glob("*.json")):
        result = read_json(file) if file.name != "run.json" and not file.name.startswith("tokenizer") else {}
        if {"none", "hard"} <= result.keys() and result.get("split", file.stem.rpartition("-")[2]) == split:
            check_evaluation(result, where=file)
            checksum = result.get("model_checksum")
            if checksum is not None and checksum != model_checksum(path.parent):
                raise CheckpointError(f"{file}: an evaluation of another model than the one in {path.parent}")
            there = reading(result.get("encoding", {}))
            if None not in (own, there) and own != there:
                print(f"note: {file}: left out, it has {there}, training {own}", file=sys.stderr)
                continue
            yield result
