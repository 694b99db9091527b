"""What each figure draws: the report's own numbers, bands and labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis import figures
from analysis.figures import style
from analysis.figures.curves import correlation_layers
from analysis.figures.token_scores import main_method
from analysis.metrics.plausibility import RECALL_GRID
from analysis.output import tables
from analysis.output.html_tokens import grid
from analysis.output.report import RationaleReport
from tests.analysis.figures.drawn import lines
from tests.analysis.sample_report import AT_INPUT, FAITHFUL, METHODS, METRICS, full_report, make_example, make_report

NOTHING_ELSE = {"values": full_report().values[:1], "curves": {}, "curve_errors": {}, "correlations": None}


def test_agreement_draws_the_means_bands_and_chance(report: RationaleReport) -> None:
    figure = make_report().figure(panels=("average_precision", "fpr", "j"))
    left, middle, right = figure.axes
    means = tables.cells(make_report(), "fpr")
    np.testing.assert_allclose(lines(middle)["AdapLeR CP"].get_ydata(), means["cp"])
    assert list(lines(middle)["AdapLeR CP"].get_xdata()) == [0, 1, 2, 3]
    assert len(middle.collections) == len(METHODS)  # one band each
    band = middle.collections[METHODS.index("cp")].get_paths()[0].vertices
    summary = make_report().summary()
    cells = summary[(summary["method"] == "cp") & (summary["metric"] == "fpr")]
    assert band[:, 1].min() == pytest.approx(cells["low"].min())
    assert band[:, 1].max() == pytest.approx(cells["high"].max())
    assert set(lines(left)["Chance"].get_ydata()) == {1 / 3} and set(lines(right)["Chance"].get_ydata()) == {0}
    assert "random" not in lines(left) and "random" not in lines(middle)
    np.testing.assert_allclose(lines(middle)["Chance"].get_ydata(), means["random"])
    assert middle.get_ylim()[0] == 0


def test_methods_at_the_input_stand_left_of_the_first_layer_with_a_line_across(report: RationaleReport) -> None:
    (ax,) = report.figure(panels=("tpr",)).axes
    mean = tables.cells(report, "tpr")["human"][0]
    marker = lines(ax)["Human"]
    assert marker.get_xdata()[0] < -0.3 and marker.get_ydata()[0] == mean
    across = [line for line in ax.get_lines() if list(line.get_ydata()) == [mean, mean]]
    assert len(across) == 1 and list(across[0].get_xdata()) == [0, 1]  # of the axes' width
    assert [text.get_text() for text in ax.get_xticklabels()][0] == "in"
    positions = style.input_positions(12, 8)
    assert positions == sorted(positions) and positions[-1] < -0.5 and len(set(positions)) == 8


def test_precision_recall_draws_the_curves(report: RationaleReport) -> None:
    figure = report.figure("precision_recall", layers=(0, 3))
    for ax, layer in zip(figure.axes, (0, 3), strict=True):
        np.testing.assert_array_equal(lines(ax)["AdapLeR CP"].get_ydata(), report.curves["cp"][layer])
        np.testing.assert_array_equal(lines(ax)["AdapLeR CP"].get_xdata(), RECALL_GRID)
        np.testing.assert_array_equal(lines(ax)["Human"].get_ydata(), report.curves["human"][0])
        np.testing.assert_array_equal(lines(ax)["Chance"].get_ydata(), report.curves["random"][layer])
        at = list(lines(ax)).index("AdapLeR CP")
        band = ax.collections[at].get_paths()[0].get_extents()
        errors = report.curve_errors["cp"][layer]
        assert band.ymax == pytest.approx((report.curves["cp"][layer] + 1.96 * errors).max(), rel=1e-6)
    plain = replace(report, curve_errors={}).figure("precision_recall", layers=(0,))
    assert not plain.axes[0].collections, "a report of an older version has no bands"
    without = replace(report, curves={name: curve for name, curve in report.curves.items() if name != "random"})
    assert "Chance" not in lines(without.figure("precision_recall", layers=(0,)).axes[0])


def test_faithfulness_draws_means_by_share(report: RationaleReport) -> None:
    figure = report.figure("faithfulness", layers=(3,))
    comprehensiveness = lines(figure.axes[0])["AdapLeR CP"]
    assert list(comprehensiveness.get_xdata()) == [1, 5, 10, 20, 50]
    column = report.metrics.index(FAITHFUL[1])
    assert comprehensiveness.get_ydata()[1] == pytest.approx(np.nanmean(report.values[2, 3, :, column]))
    human = lines(figure.axes[0])["Human"].get_ydata()
    assert human[1] == pytest.approx(np.nanmean(report.values[report.methods.index("human"), 0, :, column]))


def test_faithfulness_of_one_layer_has_no_panels_of_methods_without_layers(report: RationaleReport) -> None:
    values = report.values.copy()
    values[: len(METHODS), :3, :, len(METRICS) :] = np.nan  # of --faithfulness-layers 3
    titles = [ax.get_title(loc="left") for ax in replace(report, values=values).figure("faithfulness").axes]
    assert [title.partition("\n")[2] for title in titles] == ["layer 3", "layer 3"]
    values[: len(METHODS), ..., len(METRICS) :] = np.nan
    assert len(replace(report, values=values).figure("faithfulness").axes) == 2, "those of methods at the input"


def test_correlation_leaves_out_methods_without_one(report: RationaleReport) -> None:
    figure = report.figure("correlation", layers=(0, 3))
    first, last = figure.axes[:2]
    assert report.correlations is not None
    below = np.tri(len(report.methods), k=-1, dtype=bool)  # each pair once, no method with itself
    drawn = np.ma.filled(first.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(drawn[below], report.correlations[0][below])
    assert np.isnan(drawn[~below]).all() and first.images[0].get_clim() == (-1, 1), "white is 0"
    assert last.images[0].get_array().shape == (len(METHODS), len(METHODS))
    assert [text.get_text() for text in last.get_yticklabels()] == [report.title(name) for name in METHODS]


def test_names_of_many_methods_do_not_overlap_beside_a_correlation() -> None:
    names, rng = tuple(f"integrated_gradients_{i}" for i in range(19)), np.random.default_rng(0)
    correlations = np.stack([np.corrcoef(rng.random((19, 9))) for _ in range(4)])
    values = np.zeros((19, *make_report().values.shape[1:]))
    report = replace(make_report(), methods=names, values=values, correlations=correlations)
    figure = report.figure("correlation")
    figure.draw_without_rendering()
    first, last = figure.axes[:2]
    assert last.get_position().y1 < first.get_position().y0, "below each other"
    for ax in (first, last):
        boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
        assert all(above.y0 >= below.y1 for above, below in zip(boxes, boxes[1:], strict=False))
    assert report.figure("correlation", methods=names[:4]).get_size_inches()[0] == style.VENUES["acl"].text


def test_lengths_are_means_over_documents() -> None:
    (ax,) = make_report().figure("lengths").axes
    assert [list(line.get_ydata()) for line in ax.get_lines()][1] == [20, 19, 18, 17]
    assert {"input: 22", "20", "17"} <= {text.get_text() for text in ax.texts}


def only(report: RationaleReport, methods: tuple[str, ...]) -> RationaleReport:
    chosen = [report.methods.index(method) for method in methods]
    assert report.correlations is not None
    curves = {method: report.curves[method] for method in methods}
    correlations = report.correlations[:, chosen][:, :, chosen]
    known = {"curves": curves, "curve_errors": {}, "correlations": correlations}
    return replace(report, methods=methods, values=report.values[chosen], **known)


@pytest.mark.parametrize("methods", [("random",), ("random", "human"), ("random", *AT_INPUT)])
def test_random_as_the_only_method_with_layers(report: RationaleReport, methods: tuple[str, ...]) -> None:
    alone = only(report, methods)  # a warning of matplotlib is an error here
    assert ("correlation" in figures.kinds(alone)) == (len(methods) > 1)
    for kind in figures.kinds(alone):
        figures.draw(alone, kind).draw_without_rendering()
    if len(methods) == 3:  # at the other layers `random` is alone
        assert [ax.get_title(loc="left") for ax in alone.figure("correlation").axes[:-1]] == ["Layer 0"]
        with pytest.raises(ArgumentError, match="no two of the methods have a correlation at layer 3"):
            alone.figure("correlation", layers=(3,))


def test_agreement_shows_fpr_at_both_levels(report: RationaleReport) -> None:
    titles = {"cp": "CP", "saliency": "Gradient x input"}
    figure = replace(report, meta=report.meta | {"titles": titles}).figure("agreement")
    shown = [ax.get_title(loc="left") for ax in figure.axes]
    assert shown == [
        "Average precision ↑",
        "FPR at 1/$n$, input ↓",
        "FPR at 1/$n$, present ↓",
        "J = TPR − FPR, input ↑",
    ]
    np.testing.assert_allclose(lines(figure.axes[2])["CP"].get_ydata(), tables.cells(report, "fpr_present")["cp"])
    assert figure.axes[1].get_ylim() == figure.axes[2].get_ylim(), "to be compared by eye"
    assert "Gradient × input" in lines(figure.axes[0])


def test_a_heat_map_does_not_leave_out_a_name_that_is_not_in_the_report() -> None:
    report = full_report()
    with pytest.raises(ArgumentError, match="^method 'salience' is not in the report, which has attention, saliency"):
        report.figure("heatmap", methods=["cp", "salience"])
    drawn = report.figure("heatmap", methods=["cp", "human"])  # of whom this document has no scores
    assert [ax.get_title(loc="left") for ax in drawn.axes if ax.get_title(loc="left")] == ["AdapLeR CP"]
    with pytest.raises(ArgumentError, match="^methods: got none, at least one is needed"):
        report.figure("heatmap", methods=[])


def test_a_method_that_is_named_twice_is_drawn_once() -> None:
    """The correlation of two rows of the same method would say 1, which says nothing."""
    report = full_report()
    assert correlation_layers(report, ["cp", "cp"]) == ()
    drawn = report.figure("heatmap", methods=["cp", "cp"])
    assert [ax.get_title(loc="left") for ax in drawn.axes if ax.get_title(loc="left")] == ["AdapLeR CP"]


def test_all_figures_of_methods_that_the_examples_have_no_scores_of(tmp_path: Path) -> None:
    """As of a human who annotated other documents: the heat maps are left out, and the rest is drawn."""

    def drawn(*methods: str) -> list[str]:
        names: list[str] = []
        figures.save_all(full_report(), tmp_path, methods=methods, track=lambda every: names.extend(every) or ())
        return names

    assert {"heatmap", "heatmap-2"} <= set(drawn("cp", "human"))
    assert set(drawn("human")) == set(drawn("cp", "human")) - {"heatmap", "heatmap-2", "correlation"}
    with pytest.raises(ArgumentError, match="^method 'salience' is not in the report, which has attention, saliency"):
        drawn("salience")


def test_figures_of_methods_that_no_value_of_is_defined(report: RationaleReport, tmp_path: Path) -> None:
    values = report.values.copy()
    values[METHODS.index("saliency")] = np.nan
    curves = {name: curve for name, curve in report.curves.items() if name != "saliency"}
    nothing = replace(report, values=values, curves=curves)
    assert figures.kinds(nothing, ["saliency"]) == ("lengths", "document", "heatmap")
    drawn = {path.stem for path in figures.save_all(nothing, tmp_path, methods=["saliency"])}
    assert drawn == {"lengths", "document", "document-2", "heatmap", "heatmap-2"}
    assert not nothing.figure("agreement", methods=["saliency"], panels=("fpr",)).legends
    with pytest.raises(ArgumentError, match="^method 'lime' is not in the report"):
        figures.kinds(nothing, ["lime"])


@pytest.mark.parametrize("place", ["before", "between"])
def test_a_heat_map_is_white_where_a_policy_judges_nothing(place: str) -> None:
    document = make_example()
    assert document.retention is not None
    entered = document.retention
    above = np.vstack([np.ones((1, len(document)), dtype=bool), entered[:-1]])
    judged = above if place == "before" else entered
    policy = np.where(judged, 1 / judged.sum(1, keepdims=True), 0.0)  # every token has the uniform score
    drawn = replace(document, scores={"policy": policy})
    (ax,) = replace(full_report(), methods=("policy",), examples=(drawn,), **NOTHING_ELSE).figure("heatmap").axes[:1]
    levels = ax.images[0].get_array().filled(np.nan)
    assert np.array_equal(~np.isnan(levels), judged)
    np.testing.assert_allclose(levels[judged], np.log1p(1), rtol=1e-6)


def test_saved_scores_called_like_the_model_s_own_are_drawn_as_saved_scores() -> None:
    document = make_example()
    drawn = replace(document, scores={"cp": np.arange(10.0)[None]})
    meta = full_report().meta | {"layerwise": {"cp": False}}
    report = replace(full_report(), methods=("cp",), examples=(drawn,), meta=meta, **NOTHING_ELSE)
    assert report.figure("heatmap").axes[0].images[0].get_array().shape == (1, 10)
    written = [text.get_text() for text in report.figure("document").axes[0].texts]
    assert written[:3] == ["Input", "a", "un"], "without a number of tokens that the model keeps"
    block = grid(drawn, "cp", layerwise=False)
    assert block.count('<div class="layer">') == 1 and 'class="x"' not in block


def test_an_example_of_another_policy_is_drawn_with_what_it_drops() -> None:
    document = make_example()
    names = ("attention", "attention_received", "rollout", "saliency", "policy", "random")  # as an evaluation has them
    drawn = replace(document, scores=dict.fromkeys(names, document.scores["cp"]))
    assert main_method(drawn) == "policy"
    axes = replace(full_report(), examples=(drawn,)).figure("heatmap").axes
    titles = [ax.get_title(loc="left") for ax in axes if ax.get_title(loc="left")]
    assert titles == ["policy", "saliency", "attention", "rollout"]


@pytest.mark.parametrize("kind", ["document", "faithfulness", "precision_recall", "correlation"])
def test_no_layer_at_all_is_one_line(kind: str) -> None:
    with pytest.raises(ArgumentError, match="^layers: got none, at least one is needed"):
        full_report().figure(kind, layers=[])


def test_a_report_keeps_no_figure_of_the_one_that_it_replaces(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    foreign = ("tradeoff.pdf", "lengths-of-mine.pdf", "lengths.txt", "document.tex")
    for name in ("lengths.pdf", "document.png", "document-12.svg", "faithfulness.pdf", *foreign):
        (folder / name).write_text("another report's")
    make_report(with_adapler=False).save(tmp_path)
    drawn = {f"agreement.{suffix}" for suffix in ("pdf", "png", "svg")}
    assert {path.name for path in folder.iterdir()} == drawn | set(foreign)
