"""Figures of a report: its own numbers, within the paper's width, fonts embedded, in whatever font the machine has."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from adapler.errors import ArgumentError, DataError
from analysis import figures
from analysis.figures import __main__ as command
from analysis.figures import paper
from analysis.figures.paper import fitted, text_width
from analysis.metrics.plausibility import RECALL_GRID
from analysis.report import RationaleReport
from tests.analysis.sample_report import FAITHFUL, METHODS, METRICS, full_report, make_report, report_of

KINDS = ("agreement", "lengths", "precision_recall", "correlation", "faithfulness", "document", "heatmap")
LONG = "my_very_long_method_name_with_many_underscores_and_60_chars_x"


@pytest.fixture(scope="module")
def report() -> RationaleReport:
    return full_report()


def lines(ax: Axes) -> dict[str, Any]:
    """The lines of a panel by the name that they have in the legend."""
    return {str(line.get_label()): line for line in ax.get_lines()}


def drawn_box(figure: Figure) -> Bbox:
    """What is drawn, in inches; a warning that the layout collapsed is an error here."""
    with matplotlib.rc_context(paper.STYLE):
        figure.draw_without_rendering()
        return figure.get_tightbbox()


def test_kinds_follow_what_the_report_has(report: RationaleReport) -> None:
    assert figures.kinds(report) == KINDS
    assert figures.kinds(make_report(with_adapler=False)) == ("agreement",)
    assert figures.kinds(report, ["human"]) == tuple(kind for kind in KINDS if kind != "correlation")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("venue", ["acl", "neurips"])
def test_every_figure_has_the_width_of_the_venue_and_nothing_outside(
    report: RationaleReport, kind: str, venue: str
) -> None:
    figure = figures.draw(report, kind, style=venue)
    assert figure.get_figwidth() in {"acl": (3.03, 6.3), "neurips": (5.5, 5.5)}[venue]
    box = drawn_box(figure)
    assert box.x0 > -0.02 and box.y0 > -0.02, "something is clipped"
    assert box.x1 < figure.get_figwidth() + 0.02 and box.y1 < figure.get_figheight() + 0.02
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 6, "too small to read in print"


@pytest.mark.parametrize("panels", [("average_precision",), ("average_precision", "j")])
def test_many_methods_with_long_names_leave_room_for_the_panels(
    report: RationaleReport, panels: tuple[str, ...]
) -> None:
    names = [f"{LONG}{i}" for i in range(20)]
    values = np.concatenate([report.values] * 3)[:20, ..., : len(METRICS)]
    many = report_of(values, make_report().meta | {"methods": names})
    figure = many.figure("agreement", panels=panels)
    box = drawn_box(figure)
    assert box.x0 > -0.02 and box.x1 < figure.get_figwidth() + 0.02, "the legend is clipped"
    assert all(ax.get_window_extent().height > 0.8 * figure.dpi for ax in figure.axes)
    assert 0.2 not in {band.get_alpha() for band in figure.axes[0].collections}, "bands of many methods are paler"


def test_a_text_is_cut_to_a_width_and_keeps_both_ends() -> None:
    cut = fitted(LONG, 100, 7)
    assert fitted("film", 100, 7) == "film" and text_width(cut, 7) <= 100
    assert cut.startswith("my_very_long") and cut.endswith("chars_x")


def test_every_method_looks_different() -> None:
    names = [*paper.LOOKS, "lime(n_samples=8)", "globenc", "deeplift", *(f"method_{i}" for i in range(12))]
    grey = {(look["marker"], str(look["linestyle"])) for look in paper.looks(names).values()}
    assert len(grey) == len(names), "two methods look the same in grey print"
    assert paper.looks(["integrated_gradients(n_steps=20)"]).popitem()[1] == paper.LOOKS["integrated_gradients"]


def test_characters_without_a_glyph_and_formulas_are_harmless(report: RationaleReport) -> None:
    titles = {"attention": r"$\frac$", "saliency": "_hidden", "cp": "a $b$ c", "my_own_100%": "\U000f0000 \U000f0002"}
    odd = RationaleReport(report.frame, report.meta | {"titles": titles})
    for kind in ("correlation", "document", "heatmap"):  # a missing glyph would be a warning, which is an error here
        odd.figure(kind).draw_without_rendering()
    (ax,) = odd.figure(panels=("tpr",)).axes
    assert {r"\$\frac\$", "hidden", r"a \$b\$ c", "□ □"} <= set(lines(ax))


def test_figures_are_saved_with_truetype_fonts_whatever_the_settings_are(tmp_path: Path) -> None:
    before, figure = dict(matplotlib.rcParams), make_report().figure()
    pdf, png, svg = figures.save_figure(figure, tmp_path / "agreement")
    figure.savefig(tmp_path / "mine.pdf")  # the user's own
    for path in (pdf, tmp_path / "mine.pdf"):
        streams = re.findall(rb"stream\r?\n(.*?)endstream", path.read_bytes(), re.DOTALL)
        inflated = path.read_bytes() + b"".join(
            zlib.decompressobj().decompress(one) for one in streams if one[:1] == b"x"
        )
        assert b"/FontFile2" in inflated and b"/Type3" not in inflated, "fonts must be embedded as TrueType"
    with Image.open(png) as image:
        assert image.size[0] == pytest.approx(6.3 * 300, abs=2)
    assert "<text" not in svg.read_text(), "text is drawn as outlines, whatever fonts there are"
    assert dict(matplotlib.rcParams) == before


def test_agreement_draws_the_summary(report: RationaleReport) -> None:
    figure = report.figure("agreement")
    shown = [ax.get_title(loc="left") for ax in figure.axes]
    assert shown == [
        "Average precision ↑",
        "FPR at 1/$n$, input ↓",
        "FPR at 1/$n$, present ↓",
        "J = TPR − FPR, input ↑",
    ]
    assert figure.axes[1].get_ylim() == figure.axes[2].get_ylim(), "to be compared by eye"
    cells = report.summary().set_index(["method", "metric", "layer"]).sort_index()
    cp = lines(figure.axes[2])["AdapLeR CP"].get_ydata()
    np.testing.assert_allclose(cp, cells.loc[("cp", "fpr_present"), "mean"])
    (ax,) = report.figure(panels=("tpr",)).axes  # a method at the input: a point with its interval
    ends = cells.loc[("human", "tpr", 0), ["low", "high"]].tolist()
    assert any(list(line.get_ydata()) == pytest.approx(ends) for line in ax.get_lines() if len(line.get_ydata()) == 2)
    for panel in ("j_present", "j_content"):
        assert set(lines(report.figure(panels=panel).axes[0])["Chance"].get_ydata()) == {0}


def test_an_interval_without_neighbours_is_a_line(report: RationaleReport) -> None:
    values = report.values.copy()
    values[report.methods.index("saliency"), [0, 2]] = np.nan
    gaps = report_of(values, report.meta)
    (ax,) = gaps.figure(panels=("tpr",), methods=["saliency", "cp"]).axes
    cells = gaps.summary().set_index(["method", "layer", "metric"])
    (alone,) = [drawn for drawn in ax.collections if isinstance(drawn, LineCollection)]
    expected = [[(layer, cells.loc[("saliency", layer, "tpr"), end]) for end in ("low", "high")] for layer in (1, 3)]
    np.testing.assert_allclose(alone.get_segments(), expected)


def test_a_method_that_is_not_defined_anywhere_is_not_in_the_legend(report: RationaleReport) -> None:
    values = report.values.copy()
    values[report.methods.index("saliency")] = np.nan
    figure = report_of(values, report.meta).figure(panels=("fpr", "tpr"), methods=["attention", "saliency", "cp"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["attention", "AdapLeR CP"]


def test_lengths_are_means_with_the_middle_half_of_the_documents(report: RationaleReport) -> None:
    (ax,) = report.figure("lengths").axes
    assert [list(line.get_ydata()) for line in ax.get_lines()][1] == [20, 19, 18, 17]
    assert {"input: 22", "20", "17"} <= {text.get_text() for text in ax.texts}
    documents = [one | {"lengths": [10 * i] * 4} for i, one in enumerate(report.meta["documents"])]  # 0 to 40
    (ax,) = RationaleReport(report.frame, report.meta | {"documents": documents}).figure("lengths").axes
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((10, 30))


def test_precision_recall_draws_the_curves_and_their_bands(report: RationaleReport) -> None:
    figure = report.figure("precision_recall", layers=(0, 3))
    for ax, layer in zip(figure.axes, (0, 3), strict=True):
        np.testing.assert_array_equal(lines(ax)["AdapLeR CP"].get_xdata(), RECALL_GRID)
        np.testing.assert_array_equal(lines(ax)["Human"].get_ydata(), report.curves["human"][0])
        np.testing.assert_array_equal(lines(ax)["Chance"].get_ydata(), report.curves["random"][layer])
        band = ax.collections[list(lines(ax)).index("AdapLeR CP")].get_paths()[0].get_extents()
        top = (report.curves["cp"][layer] + 1.96 * report.curve_errors["cp"][layer]).max()
        assert band.ymax == pytest.approx(top, rel=1e-6)


def test_faithfulness_draws_means_by_share_and_layers_that_have_some(report: RationaleReport) -> None:
    figure = report.figure("faithfulness", layers=3)
    drawn = lines(figure.axes[0])["AdapLeR CP"]
    assert list(drawn.get_xdata()) == [1, 5, 10, 20, 50]
    assert drawn.get_ydata()[1] == pytest.approx(np.nanmean(report.values[2, 3, :, report.metrics.index(FAITHFUL[1])]))
    values = report.values.copy()
    values[: len(METHODS), :3, :, len(METRICS) :] = np.nan  # of --faithfulness-layers 3
    titles = [ax.get_title(loc="left") for ax in report_of(values, report.meta).figure("faithfulness").axes]
    assert [title.partition("\n")[2] for title in titles] == ["layer 3", "layer 3"]


def test_correlation_shows_each_pair_once_and_leaves_out_methods_without_one(report: RationaleReport) -> None:
    first, last = report.figure("correlation", layers=(0, 3)).axes[:2]
    assert report.correlations is not None
    below = np.tri(len(report.methods), k=-1, dtype=bool)
    drawn = np.ma.filled(first.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(drawn[below], report.correlations[0][below])
    assert np.isnan(drawn[~below]).all() and first.images[0].get_clim() == (-1, 1), "white is 0"
    assert [text.get_text() for text in last.get_yticklabels()] == [report.title(name) for name in METHODS]
    with pytest.raises(ArgumentError, match="has no results for it"):
        report.figure("correlation", methods=["cp", "cp"])


@pytest.mark.parametrize("n_methods", [5, 19])
def test_names_beside_a_correlation_do_not_overlap(n_methods: int) -> None:
    names = [f"{LONG[:20]}_{i}" for i in range(n_methods)]
    correlations = np.stack([np.corrcoef(np.random.default_rng(0).random((n_methods, 9)))] * 4).tolist()
    values = np.zeros((n_methods, *make_report().values.shape[1:]))
    many = report_of(values, make_report().meta | {"methods": names, "correlations": correlations})
    figure = many.figure("correlation")
    box = drawn_box(figure)
    assert box.x0 > -0.02 and box.x1 < figure.get_figwidth() + 0.02 and box.y0 > -0.02
    for ax in figure.axes[:2]:
        boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
        assert all(above.y0 >= below.y1 for above, below in zip(boxes, boxes[1:], strict=False))
        assert min(ax.get_window_extent().width, ax.get_window_extent().height) > 0.8 * figure.dpi


def test_unknown_figures_styles_methods_and_layers(report: RationaleReport) -> None:
    for options, message in (
        ({"kind": "heat"}, "figure 'heat' is not known, there are agreement, lengths, precision_recall"),
        ({"kind": "lengths", "style": "emnlp"}, "style: got 'emnlp', allowed are acl, neurips"),
        ({"panels": ("auc",)}, "panel 'auc' is not in the report"),
        ({"methods": ("lrp",)}, "method 'lrp' is not in the report, which has attention, saliency"),
        ({"kind": "precision_recall", "layers": (4,)}, "layer: got 4, there are 0 to 3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            report.figure(**options)  # type: ignore[arg-type]
    for kind in ("lengths", "correlation"):
        with pytest.raises(ArgumentError, match="has no results for it"):
            make_report(with_adapler=False).figure(kind)


def test_the_command_draws_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, csv = tmp_path / "report", tmp_path / "tradeoff.csv"
    csv.write_text("mode,phi,epoch,scale,accuracy,speedup,reference\nfull,1e-3,1,1,.87,3,.88\n")
    full_report(2).save(folder, draw=False)
    (folder / "figures").mkdir()
    (folder / "figures" / "document-12.svg").write_text("another report's")
    (folder / "figures" / "mine.svg").write_text("mine")
    arguments = [str(folder), "--style", "neurips", "--tradeoff", str(csv), "--methods", "cp", "saliency"]
    assert command.main(arguments) == 0
    stems = {*KINDS, "document-2", "heatmap-2", "tradeoff"}
    written = {path.name for path in (folder / "figures").iterdir()}
    assert written == {f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "png", "svg")} | {"mine.svg"}
    assert len(capsys.readouterr().out.splitlines()) == len(stems)
    with pytest.raises(DataError, match="report.json: no report"):
        command.main([str(tmp_path)])
