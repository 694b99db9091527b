"""Scores where a speedup is asked for: "who is best at 4x?"

At each of ASKED, the point of a system is the best on validation of those at least so fast there; its score is test's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.metrics.statistics import holm
from benchmarks.tradeoff.report.comparison import (
    Predictions,
    bootstrap,
    difference_of,
    mean_score,
    mean_speedup,
    parts_of,
)
from benchmarks.tradeoff.selection import Count, Operating, Runs, Seeds, at_least, by_run, family_of
from benchmarks.tradeoff.systems import FAMILY, FINETUNED, system_of

ASKED = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # FLOPs speedups
ANY = f"{FAMILY}-any-option"  # AdapLeR in whichever of its options is best on validation at the speedup
LEVELS = (  # columns of level_rows
    *("task", "system", "backbone", "asked", "seeds", "metric", "validation_score", "validation_speedup", "useful"),
    *("score", "low", "high", "speedup", "speedup_executed", "point", "same_seeds"),
    *("difference", "difference_low", "difference_high", "p", "p_holm"),
)


def with_any_option(runs: Runs) -> Runs:
    """The runs without the plain classifiers, and with ANY behind the systems of each task that has AdapLeR."""
    found: Runs = {}
    for task, backbone in dict.fromkeys(name[:2] for name in runs):
        found |= {name: seeds for name, seeds in runs.items() if name[:2] == (task, backbone) and name[2] != FINETUNED}
        if family := family_of(runs, task, backbone):
            found[task, backbone, ANY] = family
    return found


def level_rows(
    records: Sequence[Mapping[str, Any]], predictions: Predictions, *, count: Count = "speedup"
) -> pd.DataFrame:
    """A row for each task, backbone, system and speedup asked for, where all seeds of the system have a point so fast.

    Columns: `useful` is false where a seed's point is more than USELESS below the classifier on validation; `speedup`
    and `speedup_executed` are those on test; `point` the chosen ones, one a seed. `difference` is the score minus that
    of ANY where the same is asked for, over the seeds that both have, with its interval over test examples and the p of
    a paired test; `p_holm` adjusts it for the other systems of the same task, backbone and speedup. `same_seeds`: these
    are all seeds of both, so that it is the difference of the two rows' scores. Of AdapLeR's own options these are nan
    and false.

    Args:
        records, predictions: of the results folder.
        count: the convention in which the speedup is asked for; `validation_speedup` is in it, too.
    """
    runs = with_any_option(by_run(records))
    rows: list[dict[str, Any]] = []
    known: dict[str, dict[str, Any]] = {}  # a point is often the best at several speedups
    for (task, backbone, system), seeds in runs.items():
        for asked in ASKED:
            own = _points_at(seeds, asked, count)
            if own is None:
                continue
            ours = {} if system_of(system).is_family else runs.get((task, backbone, ANY), {})
            family = _points_at(ours, asked, count)
            name = f"{task} {system} {_names(own)} against {_names(family or {})}"
            if name not in known:
                known[name] = _row(system, own, family=family or {}, table=predictions(task), count=count)
            rows.append(known[name] | {"asked": asked})
    table = pd.DataFrame(rows, columns=[name for name in LEVELS if name != "p_holm"])
    groups = table.groupby(["task", "backbone", "asked"], sort=False)["p"]
    table["p_holm"] = groups.transform(lambda values: holm(values.to_numpy())) if rows else []
    return table


def _points_at(seeds: Seeds, asked: float, count: Count) -> dict[int, Operating] | None:
    """The point of each seed; None if one of them has none, or there are no seeds."""
    found = {seed: at_least(points, asked, count=count) for seed, points in seeds.items()}
    whole = {seed: point for seed, point in found.items() if point is not None}
    return whole if whole and len(whole) == len(seeds) else None


def _names(points: Mapping[int, Operating]) -> str:
    return " ".join(point.column for point in points.values())


def _row(
    system: str, own: Mapping[int, Operating], *, family: Mapping[int, Operating], table: pd.DataFrame, count: Count
) -> dict[str, Any]:
    points = list(own.values())
    parts = parts_of(points, table)
    low, high = bootstrap(parts)
    common = [seed for seed in own if seed in family]
    against = difference_of([own[seed] for seed in common], [family[seed] for seed in common], table) if common else {}
    first = points[0].record
    return {
        "task": first["task"],
        "system": system,
        "backbone": first["backbone"],
        "seeds": len(points),
        "metric": first["metric"],
        "validation_score": float(np.mean([point.validation["score"] for point in points])),
        "validation_speedup": mean_speedup(point.validation[count] for point in points),
        "useful": all(point.is_useful for point in points),
        "score": mean_score(parts),
        "low": low,
        "high": high,
        **{name: mean_speedup(point.test[name] for point in points) for name in ("speedup", "speedup_executed")},
        "same_seeds": own.keys() == family.keys(),
        "point": " ".join(point.column.partition("/")[2] for point in points),
        "difference": against.get("difference", np.nan),
        "difference_low": against.get("low", np.nan),
        "difference_high": against.get("high", np.nan),
        "p": against.get("p", np.nan),
    }


def best_other(rows: pd.DataFrame, asked: float) -> Mapping[str, Any] | None:
    """Of the other systems that are useful where a speedup is asked for the best on validation; None if there is none.

    Args:
        rows: of level_rows, of one task and backbone.
        asked: the speedup.
    """
    useful = rows[(rows["asked"] == asked) & rows["useful"]].to_dict("records")
    others = [row for row in useful if not system_of(row["system"]).is_family]
    best = max(others, key=lambda row: (row["validation_score"], row["validation_speedup"]), default=None)
    return None if best is None else {str(name): value for name, value in best.items()}
