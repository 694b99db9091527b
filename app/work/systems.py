"""Other systems' curves: a curves.csv of `python -m benchmarks.tradeoff`, where it has a checkpoint's task and encoder.

Nothing is compared by a guess: without the same task, encoder and metric there is a sentence that says what is missing.
What the CSV does not say (titles, coverage, which rows) is in the records beside it, where there are any.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from scipy.stats import hmean

from adapler.errors import DataError
from adapler.files import visible
from app.sources.loading import public_name
from app.sources.menus import Stamp, stamp
from app.work.origin import Training, same_encoder

NAME = "curves.csv"
FINETUNED = "finetuned"  # the classifier without removal
SPLITS = TEST, VALIDATION = "test", "validation"
TEXTS = ("task", "system", "backbone", "metric")
SHARES = ("validation_score", "score")
SPEEDUPS = ("validation_speedup", "speedup")
SETTINGS = ("budget", "scale")  # empty for a system without one
USELESS = 0.15  # of the score: as in the benchmark's figure, nobody wants what is so far below the classifier
COVERAGE = {"complete": "complete, all published rows", "subset": "a subset of the published rows"}
TITLES = {
    FINETUNED: "Fine-tuned classifier",
    "distilbert": "DistilBERT",
    "power": "PoWER-BERT",
    "trbert": "TR-BERT",
    "transkimmer": "Transkimmer",
    "ltp": "LTP",
    "cls_topk": "[CLS] attention, top-k",
    "random_topk": "Random, top-k",
    "adapler": "AdapLeR",
    "adapler-post-hoc": "AdapLeR, post hoc",
}


@dataclass(frozen=True)
class Systems:
    """Systems on one task with one encoder.

    rows      of curves.csv, a seed each
    file      what the file is called on the page
    backbone  what it calls the encoder
    called    what the checkpoint calls it; "" where it is known by its weights
    coverage  of the published data, in words; "" where that is not known
    same_rows whether the checkpoint was trained on the same data; None where that is not known
    """

    rows: pd.DataFrame
    file: str
    task: str
    backbone: str
    called: str
    metric: str
    coverage: str
    same_rows: bool | None

    def seeds(self) -> tuple[int, int]:
        """Fewest and most of a system."""
        counts = self.rows.groupby("system")["seed"].nunique()
        return int(counts.min()), int(counts.max())

    def points(self, split: str) -> pd.DataFrame:
        """A row for each system, budget and scale, of the mean over seeds, by system and speedup: system, title,
        budget, scale, score, low, high (lowest and highest seed), speedup (the harmonic mean), seeds, drawn.

        drawn: whether all seeds of the system have it, as a line joins means over the same ones, and validation would
        choose it at some speed, that is, no other point of the system is faster and better there, and it is at most
        USELESS below the classifier there.
        """
        score, speedup = ("score", "speedup") if split == TEST else ("validation_score", "validation_speedup")
        found = (
            self.rows.groupby(["system", "title", "budget", "scale"], sort=False, dropna=False)
            .agg(
                score=(score, "mean"),
                low=(score, "min"),
                high=(score, "max"),
                speedup=(speedup, hmean),
                seeds=("seed", "nunique"),
                chosen_score=("validation_score", "mean"),
                chosen_speedup=("validation_speedup", hmean),
            )
            .reset_index()
        )
        plain = found.loc[found["system"] == FINETUNED, "chosen_score"]
        least = float(plain.iloc[0]) - USELESS if len(plain) else 0.0
        parts = []
        seeds = self.rows.groupby("system")["seed"].nunique()
        for system, own in found.groupby("system", sort=False):
            good = (own["chosen_score"] >= least) & (own["seeds"] == seeds[system])
            parts.append(own.assign(drawn=_on_front(own[good]).reindex(own.index, fill_value=False)))
        table = pd.concat(parts).sort_values("speedup", kind="stable").sort_values("system", kind="stable")
        return table.drop(columns=["chosen_score", "chosen_speedup"]).reset_index(drop=True)


def _on_front(rows: pd.DataFrame) -> pd.Series[bool]:
    both = list(zip(rows["chosen_score"], rows["chosen_speedup"], strict=True))
    kept = [not any(a >= x and b >= y and (a, b) != (x, y) for a, b in both) for x, y in both]
    return pd.Series(kept, index=rows.index, dtype=bool)


def find(
    folders: Sequence[Path], *, training: Training, task: str | None, metric: str | None, layers: int
) -> tuple[Systems | None, list[str]]:
    """The systems of the first results folder that has some for a checkpoint, and sentences for a reader: what is
    wrong with a file, and, where there are none, why.

    task, metric: what was measured of the checkpoint; None: nothing, so that its training alone says the task.
    layers: of the checkpoint.
    """
    problems, reasons = [], []
    for folder in dict.fromkeys(one.resolve() for one in folders):
        name = public_name(folder / NAME, f"{folder.name}/{NAME}")
        try:
            found = _match(folder, name, training=training, task=task or training.task, metric=metric, layers=layers)
        except DataError as error:
            problems.append(f"{error}, so it is left out.")
            continue
        if isinstance(found, Systems):
            return found, problems
        reasons.append(found)
    return None, problems + reasons


def _match(
    folder: Path, name: str, *, training: Training, task: str | None, metric: str | None, layers: int
) -> Systems | str:
    """Systems, or a sentence that says why there are none."""
    path = folder / NAME
    try:
        rows = read(str(path), stamp(path), name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error
    if task is None:
        return f"{name}: not shown, as nothing in the checkpoint's folder says for which task it was trained."
    own = rows[rows["task"] == task]
    if own.empty:
        return f"{name} has no curves for {task}, but for {_listed(rows['task'])}."
    why = []
    for backbone, part in own.groupby("backbone", sort=False):
        facts = _facts(folder, str(backbone), task)
        called = _called(str(backbone), facts, training)
        if called is None or facts.layers not in (None, layers):
            why.append(str(backbone))
            continue
        other = [one for one in dict.fromkeys(part["metric"]) if metric not in (None, one)]
        if other:
            return f"{name}: not shown, as its metric for {task} is {_listed(other)}, and the checkpoint's {metric}."
        titles = [facts.titles.get(one) or title(one) for one in part["system"]]
        return Systems(
            rows=part.assign(title=titles),
            file=name,
            task=task,
            backbone=str(backbone),
            called=called,
            metric=str(part["metric"].iloc[0]),
            coverage=COVERAGE.get(facts.coverage, facts.coverage),
            same_rows=training.data in facts.data if facts.data and training.data else None,
        )
    mine = f"is {training.encoders[0]}, {layers} layers" if training.encoders else "is not known by name"
    return f"{name}: not shown, as its curves for {task} are of the encoder {_listed(why)}; the checkpoint's {mine}."


def _listed(names: Any) -> str:
    return ", ".join(dict.fromkeys(str(one) for one in names))


def _called(backbone: str, facts: _Facts, training: Training) -> str | None:
    """What the checkpoint calls this encoder; "" where the weights say it; None: another encoder."""
    if training.started is not None and training.started in facts.models:
        return ""
    if training.encoder is not None and facts.encoders:
        return "" if training.encoder in facts.encoders else None
    surest = next(iter(training.encoders), "")
    return surest if surest and same_encoder(surest, backbone) else None


def title(system: str) -> str:
    """What a reader calls a system; NAME-ANYTHING is a variant of NAME."""
    for known in sorted(TITLES, key=len, reverse=True):
        rest = system.removeprefix(known)
        if rest != system and (not rest or rest.startswith("-")):
            return f"{TITLES[known]}{rest.replace('-', ', ', 1).replace('-', ' ')}"
    return system


@dataclass(frozen=True)
class _Facts:
    """What the records of a task and backbone say: titles of systems, coverage ("" if not said), checksums of the data,
    of the trained models and of the encoder, whose layers are counted."""

    titles: Mapping[str, str]
    coverage: str
    data: frozenset[str]
    models: frozenset[str]
    encoders: frozenset[str]
    layers: int | None


def _facts(folder: Path, backbone: str, task: str) -> _Facts:
    records = []
    if all(Path(name).name == name != ".." for name in (backbone, task)):  # a CSV leads nowhere else
        for path in visible((folder / "records" / backbone / task).glob("*.json")):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                records.append(record)

    def texts(name: str) -> frozenset[str]:
        return frozenset(one[name] for one in records if isinstance(one.get(name), str))

    titles = {str(one.get("system")): one["title"] for one in records if isinstance(one.get("title"), str)}
    titles.pop(FINETUNED, None)  # it is called as elsewhere in the app
    coverage = texts("coverage")
    plain = next((one for one in records if one.get("system") == FINETUNED), {})
    try:
        layers = len(plain["test"][0]["lengths"])
    except (KeyError, IndexError, TypeError):
        layers = None
    return _Facts(
        titles=titles,
        coverage=next(iter(coverage)) if len(coverage) == 1 else "",
        data=texts("data_checksum"),
        models=texts("model_checksum"),
        encoders=texts("encoder_checksum"),
        layers=layers,
    )


@st.cache_data(max_entries=8, show_spinner=False)
def read(path: str, version: Stamp, name: str) -> pd.DataFrame:
    """A curves.csv, called `name` on the page; `version` tells one version of it from the next.

    Raises:
        DataError: not such a table; the line and what was found are named.
    """
    needed = (*TEXTS, "seed", *SETTINGS, *SHARES, *SPEEDUPS)
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            lines = csv.DictReader(stream, strict=True)
            missing = [column for column in needed if column not in (lines.fieldnames or ())]
            if missing:
                raise DataError(f"{name}: no column {', '.join(missing)}")
            rows = [_row(line, needed, where=f"{name}, line {lines.line_num}") for line in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name}: is not a CSV table ({' '.join(str(error).split()):.100})") from error
    if not rows:
        raise DataError(f"{name}: has no rows")
    return pd.DataFrame(rows, columns=list(needed))


def _row(line: Mapping[str, Any], needed: Sequence[str], *, where: str) -> dict[str, Any]:
    if None in line or None in line.values():  # what DictReader makes of too many cells, and of too few
        raise DataError(f"{where}: not as many cells as the first line has")
    found: dict[str, Any] = {}
    for column in needed:
        text = line[column].strip()
        if column in TEXTS:
            found[column] = text
            good, allowed = bool(text), "a name"
        elif column in SETTINGS and not text:
            found[column] = math.nan
            continue
        else:
            found[column] = value = _number(text)
            most = 1.0 if column in SHARES else math.inf
            good = math.isfinite(value) and 0 <= value <= most and not (column in SPEEDUPS and value == 0)
            allowed = (
                "a number from 0 to 1" if column in SHARES else f"a number {'above 0' if column in SPEEDUPS else ''}"
            )
        if not good:
            raise DataError(f"{where}: {column} is {text[:40]!r}, not {allowed.strip()}")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
