"""Figures: bands, marks and shades lie where the numbers are."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from analysis.figures import STYLE, tradeoff
from analysis.figures.document import DARKEST
from analysis.figures.token_scores import FULL_SHADE, ratios, shade
from analysis.output.report import RationaleReport
from analysis.results.wording import number
from tests.analysis.figures.drawn import lines
from tests.analysis.sample_report import METHODS, full_report


def test_the_band_of_lengths_is_the_middle_half(report: RationaleReport) -> None:
    documents = tuple(replace(one, lengths=(10 * i,) * 4) for i, one in enumerate(report.documents))  # 0 to 40
    (ax,) = replace(report, documents=documents).figure("lengths").axes
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((10, 30)), "the middle half"


def test_the_band_of_precision(report: RationaleReport) -> None:
    (ax,) = report.figure("precision_recall", layers=(3,)).axes
    band = ax.collections[list(lines(ax)).index("AdapLeR CP")].get_paths()[0].get_extents()
    low = report.curves["cp"][3] - 1.96 * report.curve_errors["cp"][3]
    assert band.ymin == pytest.approx(low.min(), abs=1e-6)


def test_the_band_of_faithfulness(report: RationaleReport) -> None:
    ax = report.figure("faithfulness", layers=(3,)).axes[0]
    summary = report.summary()
    of_cp = summary[(summary["method"] == "cp") & (summary["layer"] == 3)]
    cells = of_cp[of_cp["metric"].str.startswith("comprehensiveness_")]
    band = ax.collections[report.methods.index("cp")].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((cells["low"].min(), cells["high"].max()))


def test_the_interval_at_a_point(report: RationaleReport) -> None:
    (ax,) = report.figure(panels=("tpr",)).axes
    summary = report.summary().set_index(["method", "layer", "metric"])
    ends = summary.loc[("human", 0, "tpr"), ["low", "high"]].tolist()
    assert any(list(line.get_ydata()) == pytest.approx(ends) for line in ax.get_lines() if len(line.get_ydata()) == 2)


def test_an_interval_without_neighbours_is_a_line(report: RationaleReport) -> None:
    """A band has no width there: at the only layer, and between layers at which the method is not defined."""
    values = report.values.copy()
    saliency = report.methods.index("saliency")
    values[saliency, [0, 2]] = np.nan
    (ax,) = replace(report, values=values).figure(panels=("tpr",), methods=["saliency", "cp"]).axes
    summary = replace(report, values=values).summary().set_index(["method", "layer", "metric"])
    (alone,) = [drawn for drawn in ax.collections if isinstance(drawn, matplotlib.collections.LineCollection)]
    expected = [[(layer, summary.loc[("saliency", layer, "tpr"), end]) for end in ("low", "high")] for layer in (1, 3)]
    np.testing.assert_allclose(alone.get_segments(), expected)
    single = full_report(1).figure(panels=("tpr",), methods=["cp", "random"]).axes[0]
    assert len([c for c in single.collections if isinstance(c, matplotlib.collections.LineCollection)]) == 2
    assert lines(single)["Chance"].get_marker() == "_", "a line of one point is not seen"


def test_an_interval_of_faithfulness_at_one_share(report: RationaleReport) -> None:
    kept = [k for k, name in enumerate(report.metrics) if name == "sufficiency_5"]
    one = replace(report, metrics=("sufficiency_5",), values=report.values[..., kept])
    ax = one.figure("faithfulness", layers=(0,), methods=["cp"]).axes[0]
    (segment,) = ax.collections[-1].get_segments()
    low, high = one.summary().set_index(["method", "layer"]).loc[("cp", 0), ["low", "high"]]
    np.testing.assert_allclose(segment, [(5, low), (5, high)])


def test_a_method_that_is_not_defined_anywhere_is_not_in_the_legend(report: RationaleReport) -> None:
    values = report.values.copy()
    values[report.methods.index("saliency")] = np.nan
    values[report.methods.index("attention"), ..., report.metrics.index("fpr")] = np.nan  # in one panel
    figure = replace(report, values=values).figure(panels=("fpr", "tpr"), methods=["attention", "saliency", "cp"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["attention", "AdapLeR CP"]


def test_bands_of_many_methods_are_paler(report: RationaleReport) -> None:
    alphas = []
    for copies in (1, 2):
        names = tuple(f"{name}{i}" for i in range(copies) for name in METHODS)
        values = np.concatenate([report.values[: len(METHODS)]] * copies)
        many = replace(report, methods=names, values=values, curves={}, curve_errors={}, correlations=None)
        alphas.append({band.get_alpha() for band in many.figure(panels=("tpr",)).axes[0].collections})
    assert alphas == [{0.2}, {0.08}]


def test_no_number_of_the_lengths_crosses_the_axis() -> None:
    for n_layers in (4, 24):
        figure = full_report(n_layers).figure("lengths")
        with matplotlib.rc_context(STYLE):
            figure.draw_without_rendering()
            (ax,) = figure.axes
            numbers = [text.get_window_extent() for text in ax.texts if text.get_text().isdigit()]
            assert len(numbers) > 3 and min(box.x0 for box in numbers) >= ax.get_window_extent().x0
        assert (ax.get_xlim()[0] == -0.3) == (n_layers == 4), "few layers leave room for it"


def test_marks_of_the_rationale_in_a_heat_map(report: RationaleReport) -> None:
    first = report.figure("heatmap", methods=("cp", "lime(n_samples=8)")).axes[0]
    marks = [path.get_extents() for path in first.collections[0].get_paths()]
    assert [one.x0 for one in marks] == pytest.approx([1.5, 2.5, 3.5]), "un, forgettable, film"


def test_shades_of_a_heat_map_have_no_sign(report: RationaleReport) -> None:
    second = report.figure("heatmap", methods=("cp", "lime(n_samples=8)")).axes[1]
    sizes = np.abs(ratios(report.examples[0], "lime(n_samples=8)"))
    np.testing.assert_allclose(second.images[0].get_array(), np.log1p(np.minimum(sizes, FULL_SHADE)))


def test_layers_of_a_heat_map(report: RationaleReport) -> None:
    first, second = report.figure("heatmap", methods=("cp", "lime(n_samples=8)")).axes[:2]
    assert [one.get_text() for one in first.get_yticklabels()] == ["0", "1", "2", "3"]
    assert first.get_yticks().tolist() == [0, 1, 2, 3] and [one.get_text() for one in second.get_yticklabels()] == [
        "in"
    ]


def test_shades_of_a_text(report: RationaleReport) -> None:
    (ax,) = report.figure("document", layers=(0,)).axes
    shades = next(c for c in ax.collections if isinstance(c, matplotlib.collections.PatchCollection))
    row = ratios(report.examples[0], "cp")[0]
    expected = [DARKEST * shade(row[token]) for token in range(2, 9)]  # all but special tokens and the one dropped here
    np.testing.assert_allclose(shades.get_facecolors()[:, 3], expected)


def test_the_rationale_of_dropped_tokens_is_pale(report: RationaleReport) -> None:
    (ax,) = report.figure("document").axes
    gold = next(c for c in ax.collections if isinstance(c, matplotlib.collections.LineCollection))
    pale = [tuple(color) == to_rgba("0.6") for color in gold.get_colors()]
    assert sum(pale) == 3 + 2 + 1 and len(pale) == 12, "un, forgettable and film are dropped at layers 1, 2 and 3"


def test_chance_of_each_j(report: RationaleReport) -> None:
    for panel in ("j_present", "j_content"):
        (ax,) = report.figure(panels=(panel,)).axes
        assert set(lines(ax)["Chance"].get_ydata()) == {0}


def test_correlations_keep_their_sign(report: RationaleReport) -> None:
    names = ["attention", "saliency", "cp"]
    ax = report.figure("correlation", layers=(0,), methods=names).axes[0]
    assert report.correlations is not None
    chosen = [report.methods.index(name) for name in names]
    matrix = report.correlations[0][np.ix_(chosen, chosen)]
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    assert shown == {
        (column, row): number(matrix[row, column], 2).replace("-", "\N{MINUS SIGN}")
        for row in range(3)
        for column in range(row)
    }
    assert (matrix < 0).any()


def test_curves_lie_within_the_frame(report: RationaleReport) -> None:
    for ax in report.figure("faithfulness").axes:
        low, high = ax.get_ylim()
        assert all(low <= line.get_ydata().min() and line.get_ydata().max() <= high for line in ax.get_lines())


def test_of_equal_speeds_the_better_is_in_front() -> None:
    table = pd.DataFrame({"speedup": [2.0, 2.0, 3.0], "accuracy": [0.8, 0.9, 0.7]})
    front = tradeoff.pareto_front(table)
    assert list(zip(front["speedup"], front["accuracy"], strict=True)) == [(2.0, 0.9), (3.0, 0.7)]
