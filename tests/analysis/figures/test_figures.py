"""Figures of a report: kinds, widths, looks, fonts, files and the command."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontManager
from PIL import Image

from adapler.errors import ArgumentError, DataError
from analysis import figures
from analysis.figures import __main__ as command
from analysis.figures import style
from analysis.output.report import RationaleReport
from tests.analysis.figures.drawn import lines
from tests.analysis.sample_report import AT_INPUT, full_report, make_report

KINDS = ("agreement", "lengths", "precision_recall", "correlation", "faithfulness", "document", "heatmap")


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
        ({"panels": "auc"}, "panel 'auc' is not in the report"),
        ({"kind": "heatmap", "layers": (0,)}, "figure 'heatmap' has no option 'layers', but example, methods, style"),
        ({"methods": ("lrp",)}, "method 'lrp' is not in the report, which has attention, saliency"),
        ({"kind": "precision_recall", "layers": (4,)}, "layer: got 4, the model has 0 to 3"),
        ({"kind": "correlation", "layers": ()}, "layers: got none"),
        ({"kind": "correlation", "layers": "12"}, "layers: got '12', must be a whole number or a list of them"),
        ({"kind": "correlation", "layers": 1.5}, "layers: got 1.5, must be a whole number or a list of them"),
        ({"methods": 3}, "methods: got 3, must be a name or a list of names"),
        ({"methods": "lrp"}, "method 'lrp' is not in the report, which has attention, saliency"),
        ({"kind": "document", "layers": (7,)}, "layer: got 7, document d.c_0 has 0 to 3 for 'cp'"),
        ({"kind": "document", "example": 2}, "example: got 2, the report has 2 examples"),
        ({"kind": "document", "method": "lrp"}, "method 'lrp' is not in document d.c_0, which has attention"),
        ({"kind": "heatmap", "methods": ("random",)}, "method 'random' is not in document d.c_0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            report.figure(**options)  # type: ignore[arg-type]


def test_one_layer_and_one_method_need_no_list(report: RationaleReport) -> None:
    one, listed = (report.figure("precision_recall", layers=layers) for layers in (1, [1]))
    assert [ax.get_title() for ax in one.axes] == [ax.get_title() for ax in listed.axes] != []
    one, listed = (report.figure(methods=methods) for methods in ("saliency", ["saliency"]))
    assert [len(lines(ax)) for ax in one.axes] == [len(lines(ax)) for ax in listed.axes]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_figure_without_results_says_so(kind: str) -> None:
    messages = {"lengths": "no AdapLeR model", "document": "0 examples", "heatmap": "0 examples"}
    with pytest.raises(ArgumentError, match=messages.get(kind, f"figure '{kind}': the report has no")):
        make_report(with_adapler=False).figure(kind)


def test_every_method_looks_different(report: RationaleReport) -> None:
    names = [*style.LOOKS, "lime(n_samples=8)", "globenc", "deeplift", *(f"method_{i}" for i in range(12))]
    chosen = style.looks(names)
    looks = {(look["color"], look["marker"], str(look["linestyle"])) for look in chosen.values()}
    grey = {(look["marker"], str(look["linestyle"])) for look in chosen.values()}
    assert len(looks) == len(grey) == len(names), "two methods look the same in grey print"
    dark = [name for name in names if name not in style.LOOKS and sum(to_rgb(chosen[name]["color"])) < 0.75]
    assert not dark, "as dark as the line of chance"
    assert style.looks(["integrated_gradients(n_steps=20)"]).popitem()[1] == style.LOOKS["integrated_gradients"]


def test_characters_without_a_glyph_and_formulas_are_harmless(report: RationaleReport) -> None:
    titles = {
        "attention": r"$\frac$",
        "saliency": "_hidden",
        "cp": "a $b$ c",
        "my_own_100%": "\U000f0000\U000f0001 \U000f0002",
    }
    odd = replace(report, meta=report.meta | {"titles": titles})
    for kind in ("correlation", "document", "heatmap"):  # a missing glyph would be a warning, which is an error here
        odd.figure(kind).draw_without_rendering()
    (ax,) = odd.figure(panels=("tpr",)).axes
    assert {r"\$\frac\$", "hidden", r"a \$b\$ c", "□□ □"} <= set(lines(ax))


def test_a_font_for_chinese_is_used_where_it_can_be_embedded(tmp_path: Path) -> None:
    def entry(name: str, content: bytes) -> FontEntry:
        (tmp_path / name).write_bytes(content)
        return FontEntry(fname=str(tmp_path / name), name=name)

    arial, truetype = FontEntry(name="Arial"), b"\0\1\0\0"
    assert style.families([arial, FontEntry(name="Helvetica")]) == ["Arial", "DejaVu Sans"]
    postscript = entry("Noto Sans CJK SC", b"ttcf\0\1\0\0" + (1).to_bytes(4) + (16).to_bytes(4) + b"OTTO")
    gone = FontEntry(fname=str(tmp_path / "none"), name="Noto Sans SC")
    assert style.families([arial, postscript, gone]) == ["Arial", "DejaVu Sans"], "not in a PDF of type 42"
    collection = entry("WenQuanYi Zen Hei", b"ttcf\0\1\0\0" + (1).to_bytes(4) + (16).to_bytes(4) + truetype)
    plain = entry("MS Gothic", truetype)
    assert style.families([plain, postscript, arial]) == ["Arial", "DejaVu Sans", "MS Gothic"]
    assert style.families([plain, collection])[1:] == ["WenQuanYi Zen Hei"]


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


@pytest.mark.parametrize("kind", [*KINDS, "tradeoff"])
def test_every_font_is_found(
    report: RationaleReport, csv: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    FontManager._findfont_cached.cache_clear()  # matplotlib complains about a font once
    with caplog.at_level("WARNING", logger="matplotlib"):
        figure = figures.tradeoff_figure(csv) if kind == "tradeoff" else report.figure(kind)
        figure.savefig(tmp_path / "mine.pdf")
    assert not caplog.records


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
    for option in ("--output", "--tradeoff"):
        with pytest.raises(ArgumentError, match=f"^{option}: got an empty name"):
            command.main([str(tmp_path), option, ""])
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
