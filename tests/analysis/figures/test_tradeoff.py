"""Accuracy against speedup: what is read, what is drawn, and that splits are not joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from adapler.errors import DataError
from analysis.figures import curves

HEAD = "mode,accuracy,speedup,reference"
ROWS = ["post-hoc,.86,2,.88", "full,.87,3,.88", "full,.88,1.5,.88", "full,.80,2,.88", "$f_2$,.85,5,.88"]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "tradeoff.csv"
    path.write_text("\n".join([HEAD, *ROWS]))
    return path


def lines(ax: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in ax.get_lines()}


def test_points_steps_and_the_plain_classifier(csv: Path) -> None:
    front = curves.pareto_front(curves.read_tradeoff(csv))
    assert list(zip(front["speedup"], front["accuracy"], strict=True)) == [(1.5, 0.88), (3, 0.87), (5, 0.85)]
    (ax,) = curves.tradeoff_figure(csv).axes
    drawn = lines(ax)
    assert list(drawn["full"].get_xdata()) == [3, 1.5, 2] and drawn["full"].get_linestyle() == "None"
    steps = [line for line in ax.get_lines() if line.get_drawstyle() == "steps-pre" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in steps] == [[2], [1.5, 3], [5]], "the best epochs of each mode"
    assert drawn["plain classifier"].get_ydata()[0] == pytest.approx(88)
    assert drawn["one point below"].get_ydata()[0] == pytest.approx(87) and r"\$f_2\$" in drawn


def test_the_table_of_a_run_has_a_series_for_each_split(csv: Path) -> None:
    rows = ["adapler,.001,.8,2,.7,2.5,phi", "adapler,.002,.7,3,.6,3.5,phi-2"]
    head = "policy,phi,validation_f1,validation_speedup,test_accuracy,test_speedup,model"
    csv.write_text("\n".join([head, *rows]))
    table = curves.read_tradeoff(csv)
    assert table["accuracy"].tolist() == [0.8, 0.7, 0.7, 0.6] and table["speedup"].tolist() == [2, 3, 2.5, 3.5]
    assert {"adapler, validation", "adapler, test"} <= set(lines(curves.tradeoff_figure(table).axes[0]))


def test_a_legend_with_long_names_fits(csv: Path) -> None:
    modes = ("frozen backbone with our predictors and contrastive target, seed 43", "full training", "x", "last")
    rows = [f'"{mode}",.9,{i + 2},.91,{split}' for i, mode in enumerate(modes) for split in ("test", "dev")]
    csv.write_text("\n".join([f"{HEAD},split", *rows]))
    figure = curves.tradeoff_figure(csv)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.x1 <= figure.get_figwidth() and len(figure.legends[0].get_texts()) == 12
    series = [line for name, line in lines(figure.axes[0]).items() if ", " in name and "plain" not in name]
    assert len({(line.get_color(), line.get_marker()) for line in series}) == len(series) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no trade-off"),
        ("mode,phi\nx,1\n", "no column accuracy, speedup; found mode, phi"),
        (f"{HEAD}\n", "there must be a row"),
        (f"{HEAD}\nx,88,2,.9\n", "accuracy must be a number from 0 to 1"),
        (f"{HEAD}\nx,.9,fast,.9\n", "fast"),
    ],
)
def test_bad_files(csv: Path, text: str, message: str) -> None:
    csv.write_text(text)
    with pytest.raises(DataError, match=message):
        curves.read_tradeoff(csv)
