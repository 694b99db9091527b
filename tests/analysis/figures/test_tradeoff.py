"""Accuracy against speedup: what is read, what is drawn, and that nothing is averaged without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adapler.errors import DataError
from analysis import figures
from analysis.figures import tradeoff
from tests.analysis.figures.drawn import TRADEOFF, lines


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "tradeoff.csv"
    path.write_text(TRADEOFF)
    return path


def test_pareto_front(csv: Path) -> None:
    table = tradeoff.read_tradeoff(csv)
    front = tradeoff.pareto_front(table)
    assert list(zip(front["speedup"], front["accuracy"], strict=True)) == [(1.5, 0.88), (3, 0.87), (5, 0.85)]


def test_tradeoff_draws_points_and_says_what_the_steps_are(csv: Path) -> None:
    (ax,) = figures.tradeoff_figure(csv).axes
    drawn = lines(ax)
    assert list(drawn["full"].get_xdata()) == [3, 1.5, 2] and drawn["full"].get_linestyle() == "None"
    steps = [line for line in ax.get_lines() if line.get_drawstyle() == "steps-pre" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in steps] == [[2], [1.5, 3], [5]], "not a line through the best epochs"
    assert list(steps[1].get_ydata()) == [88, 87] and drawn["best of all epochs"].get_drawstyle() == "steps-pre"
    assert not ax.collections, "without the number of examples there is no standard error"
    assert drawn["plain classifier"].get_ydata()[0] == pytest.approx(88)
    assert drawn["one point below"].get_ydata()[0] == pytest.approx(87)
    assert r"\$f_2\$" in drawn


@pytest.mark.parametrize("fastest", [3, 300])
def test_a_point_without_speedup_is_whole(csv: Path, fastest: int) -> None:
    csv.write_text(f"mode,phi,epoch,scale,accuracy,speedup,reference\nx,1,1,1,.9,1,.9\nx,1,1,1,.8,{fastest},.9\n")
    figure = figures.tradeoff_figure(csv)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    place = ax.transData.transform((1, 90))[0] - ax.get_window_extent().x0
    assert place >= tradeoff.POINT["markersize"] / 2 * figure.dpi / 72


def test_tradeoff_names_metric_and_split_and_averages_no_references(csv: Path) -> None:
    text = "mode,phi,epoch,scale,metric,score,speedup,reference,split,examples"
    rows = ["full,1,1,1,accuracy,.8,2,.88,validation,100", "full,1,2,1,accuracy,.5,3,.88,validation,"]
    csv.write_text("\n".join([text, *rows, "full,1,2,1,accuracy,.7,3,.84,test,400"]))
    table = figures.read_tradeoff(csv)
    np.testing.assert_allclose(tradeoff.standard_errors(table), [0.04, np.nan, (0.21 / 400) ** 0.5])
    (ax,) = figures.tradeoff_figure(table).axes
    assert {"full, validation", "full, test", "one point below"} <= set(lines(ax))
    for split, reference in (("validation", 88), ("test", 84)):
        assert lines(ax)[f"plain classifier, {split}"].get_ydata()[0] == pytest.approx(reference)
    bars = [segment for drawn in ax.collections for segment in drawn.get_segments() if len(segment)]
    np.testing.assert_allclose([bar[:, 1] for bar in bars if not np.isnan(bar).any()][0], [76, 84])
    f1 = pd.DataFrame({**table, "metric": "f1", "reference": np.nan})
    assert np.isnan(tradeoff.standard_errors(f1)).all(), "F1 is no share of the examples"
    (ax,) = figures.tradeoff_figure(f1).axes
    assert ax.get_ylabel() == "F1, %" and not any("plain" in name for name in lines(ax))
    csv.write_text("\n".join([text, *rows]).replace("accuracy,.5", "f1,.5"))
    with pytest.raises(DataError, match=r"scores of several metrics \(accuracy, f1\), a figure shows one"):
        figures.read_tradeoff(csv)


def test_scores_of_two_tasks_are_two_series(csv: Path) -> None:
    """An evaluation may be on another task than the training, and stands in the same file."""
    text = "mode,phi,epoch,scale,metric,score,speedup,reference,split,task"
    rows = ["full,1,1,1,accuracy,.8,3,.9,test,sst2", "full,1,1,1,accuracy,.7,2,.9,test,imdb"]
    csv.write_text("\n".join([text, *rows]))
    (ax,) = figures.tradeoff_figure(csv).axes
    drawn = lines(ax)
    assert [list(drawn[f"full, {task}"].get_xdata()) for task in ("sst2", "imdb")] == [[3], [2]]
    assert {"plain classifier, sst2, test", "plain classifier, imdb, test"} <= set(drawn)
    csv.write_text("\n".join([text, *rows]).replace("imdb", ""))  # of an older version: it may be the same one
    (ax,) = figures.tradeoff_figure(csv).axes
    assert list(lines(ax)["full"].get_xdata()) == [3, 2] and "plain classifier, test" in lines(ax)


def test_every_series_of_a_tradeoff_looks_different(csv: Path) -> None:
    rows = [f"mode {i},1,1,1,.8{i},2,.{88 + i % 2},{split}" for i in range(5) for split in ("validation", "test")]
    csv.write_text("\n".join(["mode,phi,epoch,scale,accuracy,speedup,reference,split", *rows]))
    (ax,) = figures.tradeoff_figure(csv).axes
    series = {name: line for name, line in lines(ax).items() if name.startswith("mode ")}
    assert len({(line.get_color(), line.get_marker()) for line in series.values()}) == len(series) == 10
    references = [line for name, line in lines(ax).items() if name.startswith("plain classifier")]
    assert len({line.get_color() for line in references}) == len(references) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tradeoff.csv: not a CSV file"),
        ("mode,phi\nx,1\n", "tradeoff.csv: no column epoch, scale, accuracy, speedup, reference; found mode, phi"),
        ("mode,phi,epoch,scale,accuracy,speedup,reference\n", "tradeoff.csv: no rows"),
        ("mode,phi,epoch,scale,accuracy,speedup,reference\nx,1,1,1,.9,2,.9\nx,1,1,1,88,2,.9\n", "line 3: accuracy is"),
        ("mode,phi,epoch,scale,accuracy,speedup,reference\nx,1,1,1,.9,fast,.9\n", "line 2: speedup is 'fast', must be"),
        ("mode,phi,epoch,scale,accuracy,speedup,reference\n\nx,1,1,1,.9,inf,.9\n", "line 3: speedup is inf, must be"),
        ("mode,phi,epoch,scale,accuracy,speedup,reference\nx,1,1,1,,2,.9\n", "line 2: accuracy is nan, must be"),
        ("mode,phi\nx,1\nx,1,1\n", r"^[^\n]*tradeoff.csv: not a CSV file \([^\n]*line 3[^\n]*\)$"),
    ],
)
def test_bad_tradeoff_files(csv: Path, text: str, message: str) -> None:
    csv.write_text(text)
    with pytest.raises(DataError, match=message):
        figures.read_tradeoff(csv)
    with pytest.raises(DataError, match="none.csv: No such file"):
        figures.read_tradeoff(csv.with_name("none.csv"))
