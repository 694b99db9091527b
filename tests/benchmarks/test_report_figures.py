"""From records to figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.tradeoff.report.figures import means_over_seeds, scores_figure, times_figure
from benchmarks.tradeoff.report.tables import write_results
from tests.benchmarks.stand_ins import candidate, predicted, record, some_records, write


def test_bands_reach_from_the_lowest_to_the_highest_seed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    write(output, some_records())
    write_results(output)
    curves, table = pd.read_csv(output / "curves.csv"), pd.read_csv(output / "table.csv")
    means = means_over_seeds(curves).set_index(["system", "budget", "scale"])
    assert len(means) == 5  # of AdapLeR all three: none is faster and better than another
    assert means.loc[("adapler", 0.01, 1), ["low", "high"]].tolist() == [0.925, 0.925]
    figure = scores_figure(curves, table)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["SST-2 (subset), accuracy"]
    (line,) = [one for one in figure.axes[0].lines if one.get_label() == "AdapLeR"]
    assert line.get_xdata().tolist() == [2.0, 3.0, 5.0] and line.get_ydata().tolist() == [92.5, 90.0, 80.0]
    first, second = times_figure(table).axes
    (point,) = [one for one in second.lines if one.get_label() == "AdapLeR"]
    assert point.get_xdata()[0] == pytest.approx(3.3) and point.get_ydata()[0] == 1.5


def test_a_curve_leaves_out_what_validation_would_never_choose(tmp_path: Path) -> None:
    """A scale that is slower and worse than another on validation, however good it is on test; and untimed scales."""
    scales = [candidate(1.0, 0.9, 2.0), candidate(0.5, 0.89, 1.5), candidate(2.0, 0.8, 4.0)]
    tested = {1.0: predicted([1]), 0.5: predicted([]), 2.0: predicted(range(9))}
    own = record("adapler", tested=tested, validation=scales, budget=0.1, chosen=1.0)
    for row in own["test"][1:]:
        row["time"] = None
    plain = record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)])
    write(tmp_path, [plain, own])
    write_results(tmp_path)
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert curves["faster"].isna().tolist() == [False, False, True, True]
    found = means_over_seeds(curves[curves["system"] == "adapler"])
    assert found["scale"].tolist() == [1.0, 2.0] and found["speedup"].tolist() == [2.0, 4.0]


def test_a_curve_ends_where_nobody_wants_it(tmp_path: Path) -> None:
    """A speed that costs more than 15 points on validation is no part of it; the point that stands in the table is."""
    scales = [candidate(1.0, 0.9, 2.0), candidate(1.5, 0.76, 4.0), candidate(2.0, 0.74, 30.0)]
    tested = {1.0: predicted([1]), 1.5: predicted(range(9)), 2.0: predicted(range(20))}
    plain = record("finetuned", tested={None: predicted([])}, validation=[candidate(None, 0.9, 1.0)])
    own = record("adapler", tested=tested, validation=scales, budget=0.1, chosen=1.0)
    write(tmp_path, [plain, own])
    write_results(tmp_path)
    curves, table = pd.read_csv(tmp_path / "curves.csv"), pd.read_csv(tmp_path / "table.csv")
    assert sorted(curves["scale"].dropna()) == [1.0, 1.5, 2.0], "the file has all of them"
    found = means_over_seeds(curves)
    assert found.loc[found["system"] == "adapler", "scale"].tolist() == [1.0, 1.5]
    assert scores_figure(curves, table).axes[0].get_xlim()[1] < 5


def test_a_variant_looks_the_same_on_every_task() -> None:
    """Whatever other variants a task has."""
    found = {"sst2": ["adapler-one", "adapler-two"], "mrpc": ["adapler-two", "adapler-one"], "imdb": ["adapler-two"]}
    rows = [
        {"task": task, "backbone": "tiny", "system": system, "seed": 1, "budget": 0.1, "scale": 1.0, "score": 0.9}
        for task, systems in found.items()
        for system in ["finetuned", *systems]
    ]
    curves = pd.DataFrame(rows).assign(speedup=2.0, validation_score=0.9, validation_speedup=2.0)
    table = curves.assign(coverage="complete", metric="accuracy", speedup_executed=2.0, faster=2.0, faster_one=2.0)
    panels = [*scores_figure(curves, table).axes, *times_figure(table).axes]
    colors = [
        {line.get_label(): line.get_color() for line in ax.lines if str(line.get_label()).startswith("AdapLeR")}
        for ax in panels
    ]
    assert len(panels) == 5 and len(set(colors[0].values())) == len(colors[0]) == 2
    assert all(color == colors[0][name] for panel in colors for name, color in panel.items())


def test_a_curve_joins_means_over_the_same_seeds() -> None:
    """One seed was read at scale 2 and two at scale 1.9: neither is joined to what all three have."""
    rows = [
        {"seed": seed, "scale": scale, "score": score, "speedup": speed, "validation_score": 0.9 - 0.1 * scale}
        for seed, last in ((1, 2.0), (2, 1.9), (3, 1.9))
        for scale, score, speed in ((1.0, 0.8 + seed / 100, 2.0 * seed), (last, 0.7, 20.0))
    ]
    curves = pd.DataFrame(rows).assign(task="sst2", backbone="tiny", system="trbert", budget=0.1)
    found = means_over_seeds(curves.assign(validation_speedup=curves["speedup"]))
    assert found[["scale", "seeds"]].values.tolist() == [[1.0, 3]]
    assert found["speedup"].item() == pytest.approx(3 / (1 / 2 + 1 / 4 + 1 / 6)), "harmonic"
