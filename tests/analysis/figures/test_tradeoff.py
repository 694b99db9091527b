"""Accuracy against speedup: what is read, what is drawn, and that nothing is averaged without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from adapler.errors import DataError
from analysis import figures
from analysis.figures import tradeoff

HEAD = "mode,phi,epoch,scale,accuracy,speedup,reference"
ROWS = [
    "post-hoc,1e-3,1,1,.86,2,.88",
    "full,1e-3,1,1,.87,3,.88",
    "full,1e-3,2,1,.88,1.5,.88",
    "full,1e-3,3,1,.80,2,.88",
    "$f_2$,1e-3,3,1,.85,5,.88",
]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "tradeoff.csv"
    path.write_text("\n".join([HEAD, *ROWS]))
    return path


def lines(ax: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in ax.get_lines()}


def test_points_steps_and_the_plain_classifier(csv: Path) -> None:
    front = tradeoff.pareto_front(tradeoff.read_tradeoff(csv))
    assert list(zip(front["speedup"], front["accuracy"], strict=True)) == [(1.5, 0.88), (3, 0.87), (5, 0.85)]
    (ax,) = figures.tradeoff_figure(csv).axes
    drawn = lines(ax)
    assert list(drawn["full"].get_xdata()) == [3, 1.5, 2] and drawn["full"].get_linestyle() == "None"
    steps = [line for line in ax.get_lines() if line.get_drawstyle() == "steps-pre" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in steps] == [[2], [1.5, 3], [5]], "the best epochs of each mode"
    assert not ax.collections, "without the number of examples there is no standard error"
    assert drawn["plain classifier"].get_ydata()[0] == pytest.approx(88)
    assert drawn["one point below"].get_ydata()[0] == pytest.approx(87) and r"\$f_2\$" in drawn


def test_metrics_splits_and_tasks_are_not_joined(csv: Path) -> None:
    head = "mode,phi,epoch,scale,metric,score,speedup,reference,split,examples,task"
    rows = [
        "full,1,1,1,accuracy,.8,2,.88,validation,100,a",
        "full,1,2,1,accuracy,.5,3,.88,validation,,a",
        "full,1,2,1,accuracy,.7,3,.84,test,400,b",
    ]
    csv.write_text("\n".join([head, *rows]))
    table = figures.read_tradeoff(csv)
    np.testing.assert_allclose(tradeoff.standard_errors(table), [0.04, np.nan, (0.21 / 400) ** 0.5])
    (ax,) = figures.tradeoff_figure(table).axes
    assert {"full, a, validation", "full, b, test", "plain classifier, a, validation"} <= set(lines(ax))
    assert lines(ax)["plain classifier, b, test"].get_ydata()[0] == pytest.approx(84)
    assert np.isnan(tradeoff.standard_errors(table.assign(metric="f1"))).all(), "F1 is no share of the examples"
    csv.write_text("\n".join([head, *rows]).replace("accuracy,.5", "f1,.5"))
    with pytest.raises(DataError, match=r"scores of several metrics \(accuracy, f1\), a figure shows one"):
        figures.read_tradeoff(csv)


def test_a_legend_with_long_names_fits(csv: Path) -> None:
    modes = ("frozen backbone with our predictors and contrastive target, seed 43", "full training", "x", "last")
    rows = [f'"{mode}",1,1,1,.9,{i + 2},.91,{split}' for i, mode in enumerate(modes) for split in ("test", "dev")]
    csv.write_text("\n".join([f"{HEAD},split", *rows]))
    figure = figures.tradeoff_figure(csv)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.x1 <= figure.get_figwidth() and len(figure.legends[0].get_texts()) == 12
    series = [line for name, line in lines(figure.axes[0]).items() if ", " in name and "plain" not in name]
    assert len({(line.get_color(), line.get_marker()) for line in series}) == len(series) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV"),
        ("mode,phi\nx,1\n", "no column epoch, scale, accuracy, speedup, reference; found mode, phi"),
        (f"{HEAD}\n", "no rows"),
        (f"{HEAD}\nx,1,1,1,88,2,.9\n", "accuracy is .*88.*, must be a number from 0 to 1"),
        (f"{HEAD}\nx,1,1,1,.9,fast,.9\n", "speedup is 'fast', must be"),
    ],
)
def test_bad_files(csv: Path, text: str, message: str) -> None:
    csv.write_text(text)
    with pytest.raises(DataError, match=message):
        figures.read_tradeoff(csv)
