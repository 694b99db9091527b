"""Names that are longer than a figure has room for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from analysis import figures
from analysis.figures import style
from analysis.figures.style import fitted, text_width
from analysis.output.report import RationaleReport
from tests.analysis.sample_report import make_report

LONG = "my_very_long_method_name_with_many_underscores_and_60_chars_x"


def renamed(report: RationaleReport, *titles: str) -> RationaleReport:
    """The first methods of the report, by other names."""
    return replace(report, meta=report.meta | {"titles": dict(zip(report.methods, titles, strict=False))})


def drawn_box(figure: Figure) -> Bbox:
    """What is drawn, in inches; a warning that the layout collapsed is an error here."""
    with matplotlib.rc_context(figures.STYLE):
        figure.draw_without_rendering()
        return figure.get_tightbbox()


def test_a_text_is_cut_to_a_width_and_keeps_both_ends() -> None:
    assert fitted("film", 100, 7) == "film"
    cut = fitted(LONG, 100, 7)
    assert text_width(cut, 7) <= 100 < text_width(f"{cut}mm", 7)
    assert cut.startswith("my_very_long") and cut.endswith("chars_x") and "…" in cut
    assert fitted(LONG, 1, 7) == "…"


def test_a_legend_with_a_long_name_keeps_its_samples(report: RationaleReport) -> None:
    figure = renamed(report, LONG, LONG[:-1] + "y").figure(panels="fpr")
    box = drawn_box(figure)
    assert box.x0 >= 0 and box.x1 <= figure.get_figwidth()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[0].startswith("my_very") and names[0].endswith("chars_x") and names[1].endswith("chars_y")
    assert figure.axes[0].get_legend_handles_labels()[1][0] == LONG, "the panel itself has the whole name"


def test_a_tradeoff_with_long_names_has_room_for_all_of_them(tmp_path: Path) -> None:
    csv = tmp_path / "tradeoff.csv"
    modes = ("frozen backbone with our predictors and contrastive target, seed 43", "full training", "another", "last")
    rows = [f'"{mode}",1,1,1,.9,{i + 2},.91,{split}' for i, mode in enumerate(modes) for split in ("test", "dev")]
    csv.write_text("\n".join(["mode,phi,epoch,scale,accuracy,speedup,reference,split", *rows]))
    figure = figures.tradeoff_figure(csv)
    box = drawn_box(figure)
    assert box.x0 >= 0 and box.x1 <= figure.get_figwidth() and box.y0 >= 0
    assert figure.axes[0].get_window_extent().height > figure.dpi
    assert len(figure.legends[0].get_texts()) == 12


@pytest.mark.parametrize("venue", ["acl", "neurips"])
def test_a_correlation_with_a_long_name_is_large_enough_to_read(venue: str) -> None:
    names = ("cp", LONG, LONG[:-1] + "y", "attention", "random")
    correlations = np.stack([np.corrcoef(np.random.default_rng(0).random((5, 9)))] * 4)
    report = renamed(replace(make_report(), correlations=correlations), *names)
    figure = report.figure("correlation", style=venue)
    box = drawn_box(figure)
    assert box.x0 > -0.02 and box.x1 < figure.get_figwidth() + 0.02 and box.y0 > -0.02
    for ax in figure.axes[:2]:
        assert min(ax.get_window_extent().width, ax.get_window_extent().height) > 0.85 * figure.dpi
        shown = [text.get_text() for text in ax.get_xticklabels()]
        assert shown[1].startswith("my_very") and shown[1].endswith("x") and "…" in shown[1] and shown[2][-1] == "y"
    assert figure.get_figwidth() <= style.VENUES[venue].text
    first, second, third = report.figure("correlation", layers=(0, 1, 2), style=venue).axes[:3]
    heights = [ax.get_subplotspec().rowspan.start for ax in (first, second, third)]
    assert heights == [0, 1, 2], "three do not fit beside each other"
