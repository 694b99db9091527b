from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontManager
from PIL import Image

from adapler.errors import ArgumentError, DataError
from analysis import figures
from analysis.figures import __main__ as command
from analysis.figures import style
from analysis.metrics.curves import RECALL_GRID
from analysis.output import tables
from analysis.output.report import RationaleReport
from tests.analysis.figures.drawn import TRADEOFF, lines
from tests.analysis.sample_report import AT_INPUT, FAITHFUL, METHODS, full_report, make_report

KINDS = ("agreement", "lengths", "precision_recall", "correlation", "faithfulness", "document", "heatmap")


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "tradeoff.csv"
    path.write_text(TRADEOFF)
    return path


@pytest.fixture
def report() -> RationaleReport:
    return full_report()


def test_kinds_follow_what_the_report_has(report: RationaleReport) -> None:
    assert figures.kinds(report) == KINDS
    assert figures.kinds(make_report(with_adapler=False)) == ("agreement",)


def test_a_report_with_the_mean_of_faithfulness_only_has_no_curve_of_it(report: RationaleReport) -> None:
    metrics = tuple(re.sub(r"^(comprehensiveness|sufficiency)_.*", r"aopc_\1", metric) for metric in report.metrics)
    kept = [i for i, metric in enumerate(metrics) if metric not in metrics[:i]]
    means = replace(report, metrics=tuple(metrics[i] for i in kept), values=report.values[..., kept])
    assert "aopc_sufficiency" in means.metrics and "faithfulness" not in figures.kinds(means)
    with pytest.raises(ArgumentError, match="^figure 'faithfulness': the report has no comprehensiveness_1"):
        figures.draw(means, "faithfulness")


@pytest.mark.parametrize("panels", [("average_precision",), ("average_precision", "j")])
def test_twenty_methods_leave_room_for_the_panels(report: RationaleReport, panels: tuple[str, ...]) -> None:
    copies = 20 // len(report.methods) + 1
    names = tuple(f"m{i}({name})" for i in range(copies) for name in report.methods)
    values = np.concatenate([report.values] * copies)
    figure = figures.draw(
        replace(make_report(), methods=names, values=values[: len(names)][:, :4, :5, :10]), "agreement", panels=panels
    )
    with matplotlib.rc_context(figures.STYLE):
        figure.draw_without_rendering()
        drawn = figure.get_tightbbox()  # inches
    assert drawn.x0 > -0.02 and drawn.x1 < figure.get_figwidth() + 0.02, "the legend is clipped"
    for ax in figure.axes:
        assert ax.get_window_extent().height > 0.8 * figure.dpi, "nothing is left of the panel"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("venue", ["acl", "neurips"])
def test_every_figure_has_the_width_of_the_venue_and_nothing_outside(
    report: RationaleReport, kind: str, venue: str
) -> None:
    figure = figures.draw(report, kind, style=venue)
    widths = {"acl": (3.03, 6.3), "neurips": (5.5, 5.5)}[venue]
    assert figure.get_figwidth() in widths
    with matplotlib.rc_context(figures.STYLE):
        figure.draw_without_rendering()
        drawn = figure.get_tightbbox()  # inches
    assert drawn.x0 > -0.02 and drawn.y0 > -0.02, "something is clipped"
    assert drawn.x1 < figure.get_figwidth() + 0.02 and drawn.y1 < figure.get_figheight() + 0.02
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 6, "too small to read in print"


def test_figures_leave_the_settings_of_matplotlib_alone(report: RationaleReport, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figures.save_figure(figures.draw(report, "lengths"), tmp_path / "lengths")
    assert dict(matplotlib.rcParams) == before


def test_unknown_figures_styles_methods_and_layers(report: RationaleReport) -> None:
    for options, message in (
        ({"kind": "heat"}, "figure 'heat' is not known, there are agreement, lengths, precision_recall"),
        ({"kind": "lengths", "style": "emnlp"}, "style: got 'emnlp', allowed are acl, neurips"),
        ({"panels": ("auc",)}, "panel 'auc' is not in the report"),
        ({"panels": ()}, "panels: got none"),
        ({"methods": ("lrp",)}, "method 'lrp' is not in the report, which has attention, saliency"),
        ({"kind": "precision_recall", "layers": (4,)}, "layer: got 4, the model has 0 to 3"),
        ({"kind": "correlation", "layers": ()}, "layers: got none"),
        ({"kind": "document", "layers": (7,)}, "layer: got 7, document d.c_0 has 0 to 3 for 'cp'"),
        ({"kind": "document", "example": 2}, "example: got 2, the report has 2 examples"),
        ({"kind": "document", "method": "lrp"}, "method 'lrp' is not in document d.c_0, which has attention"),
        ({"kind": "heatmap", "methods": ("random",)}, "method 'random' is not in document d.c_0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            report.figure(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_figure_without_results_says_so(kind: str) -> None:
    messages = {"lengths": "no AdapLeR model", "document": "0 examples", "heatmap": "0 examples"}
    with pytest.raises(ArgumentError, match=messages.get(kind, f"figure '{kind}': the report has no")):
        make_report(with_adapler=False).figure(kind)


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


def test_every_method_looks_different(report: RationaleReport) -> None:
    names = [*style.LOOKS, "lime(n_samples=8)", "globenc", "deeplift", *(f"method_{i}" for i in range(12))]
    chosen = style.looks(names)
    looks = {(look["color"], look["marker"], str(look["linestyle"])) for look in chosen.values()}
    grey = {(look["marker"], str(look["linestyle"])) for look in chosen.values()}
    assert len(looks) == len(grey) == len(names), "two methods look the same in grey print"
    assert style.looks(["integrated_gradients(n_steps=20)"]).popitem()[1] == style.LOOKS["integrated_gradients"]


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


def test_lengths_are_means_over_documents() -> None:
    (ax,) = make_report().figure("lengths").axes
    assert [list(line.get_ydata()) for line in ax.get_lines()][1] == [20, 19, 18, 17]
    assert {"input: 22", "20", "17"} <= {text.get_text() for text in ax.texts}


def test_characters_without_a_glyph_and_formulas_are_harmless(report: RationaleReport) -> None:
    titles = {"attention": r"$\frac$", "saliency": "_hidden", "cp": "a $b$ c", "my_own_100%": "日本 \U0001f3ac"}
    odd = replace(report, meta=report.meta | {"titles": titles})
    for kind in ("correlation", "document", "heatmap"):  # a missing glyph would be a warning, which is an error here
        odd.figure(kind).draw_without_rendering()
    (ax,) = odd.figure(panels=("tpr",)).axes
    assert {r"\$\frac\$", "hidden", r"a \$b\$ c", "□□ □"} <= set(lines(ax))


def test_figures_are_saved_with_truetype_fonts(tmp_path: Path) -> None:
    pdf, png, svg = figures.save_figure(make_report().figure(), tmp_path / "agreement")
    data = pdf.read_bytes()
    inflated = data + b"".join(_inflate(s) for s in re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL))
    assert b"/FontFile2" in inflated, "fonts must be embedded as TrueType"
    assert b"/Type3" not in inflated
    with Image.open(png) as image:
        assert image.size[0] == pytest.approx(6.3 * 300, abs=2)
    assert "<text" not in svg.read_text(), "text is drawn as outlines, whatever fonts there are"
    again = figures.save_figure(make_report().figure(), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in (pdf, png, svg)]
    names = {f"{stem}.{suffix}" for stem in ("again", "agreement") for suffix in ("pdf", "png", "svg")}
    assert {p.name for p in tmp_path.iterdir()} == names


def test_a_figure_that_the_user_saves_has_truetype_fonts_as_well(tmp_path: Path) -> None:
    make_report().figure("agreement").savefig(tmp_path / "mine.pdf")
    data = (tmp_path / "mine.pdf").read_bytes()
    inflated = data + b"".join(_inflate(s) for s in re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL))
    assert b"/FontFile2" in inflated and b"/Type3" not in inflated


def test_half_a_layer_is_rounded_up() -> None:
    assert style.some_layers(6, 3) == (0, 3, 5) and style.some_layers(12, 3) == (0, 6, 11)
    assert style.some_layers(3, 3) == (0, 1, 2) and style.some_layers(4, 3) == (0, 2, 3)


def _inflate(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream.strip(b"\r\n"))
    except zlib.error:
        return b""


def test_legend_columns_fit_the_width() -> None:
    from analysis.figures.layers import legend_columns

    assert legend_columns(["a", "b", "c"], 6.3) == 3
    assert legend_columns(["a very long name of a method"] * 4, 3.03) == 1
    assert legend_columns(["Integrated gradients"] * 8, 6.3) in (3, 4)


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


@pytest.mark.parametrize("kind", [*KINDS, "tradeoff"])
def test_every_font_is_found(
    report: RationaleReport, csv: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    FontManager._findfont_cached.cache_clear()  # matplotlib complains about a font once
    with caplog.at_level("WARNING", logger="matplotlib"):
        figure = figures.tradeoff_figure(csv) if kind == "tradeoff" else report.figure(kind)
        figure.savefig(tmp_path / "mine.pdf")
    assert not caplog.records


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


def test_the_command_draws_everything(tmp_path: Path, csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "report"
    full_report(2).to_json(folder / "report.json")
    arguments = [str(folder), "--style", "neurips", "--tradeoff", str(csv), "--methods", "cp", "saliency", AT_INPUT[0]]
    assert command.main(arguments) == 0
    stems = {*KINDS, "document-2", "heatmap-2", "tradeoff"}
    written = {path.name for path in (folder / "figures").iterdir()}
    assert written == {f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "png", "svg")}
    assert len(capsys.readouterr().out.splitlines()) == len(stems)
    with Image.open(folder / "figures" / "agreement.png") as image:
        assert image.size[0] == 5.5 * 300


def test_the_command_on_bad_input(report: RationaleReport, tmp_path: Path, csv: Path) -> None:
    with pytest.raises(DataError, match="report.json: No such file"):
        command.main([str(tmp_path)])
    report.to_json(tmp_path / "report.json")
    with pytest.raises(ArgumentError, match="--output: .*tradeoff.csv is a file, must be a folder"):
        command.main([str(tmp_path), "--output", str(csv)])
    with pytest.raises(DataError, match="none.csv"):
        command.main([str(tmp_path), "--tradeoff", str(tmp_path / "none.csv")])
    assert not (tmp_path / "figures").exists(), "nothing is written after an error"


def test_functions_draw_into_the_caller_s_axes(report: RationaleReport, csv: Path) -> None:
    figure = Figure()
    axes = figure.subplots(2, 4).ravel()
    figures.plot_metric(report, "fpr", axes[0], methods=("cp",))
    figures.plot_lengths(report, axes[1])
    figures.plot_precision_recall(report, 0, axes[2])
    figures.plot_correlation(report, 0, axes[3])
    figures.plot_faithfulness(report, "sufficiency", 0, axes[4])
    figures.plot_document(report.examples[0], axes[5])
    figures.plot_heatmap(report.examples[0], "cp", axes[6])
    figures.plot_tradeoff(figures.read_tradeoff(csv), axes[7])
    assert all(ax.has_data() or ax.texts for ax in axes)
