"""Style of the figures: widths, fonts, and a colour, line and marker for each method.

Fonts are embedded as TrueType (type 42, which every publisher takes). The colours are those of Okabe and Ito (2008),
which colour-blind readers tell apart; for grey print every method also has a marker and a line style of its own.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache, wraps
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

import numpy as np
from matplotlib import rc_context, rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from adapler.errors import ArgumentError
from analysis.metrics import METRICS

if TYPE_CHECKING:
    from analysis.report import RationaleReport


class Venue(NamedTuple):
    """Inches: `column`, the width of a small figure, and `text`, that of a large one."""

    column: float
    text: float


VENUES = {"acl": Venue(column=3.03, text=6.30), "neurips": Venue(column=5.5, text=5.5)}
_INSTALLED = {font.name for font in fontManager.ttflist}
# DejaVu comes with matplotlib, and has the characters that the others lack
FAMILIES = [*[name for name in ("Arial", "Helvetica", "Liberation Sans") if name in _INSTALLED][:1], "DejaVu Sans"]
_FONTS: dict[str, Any] = {
    "font.family": FAMILIES,
    "mathtext.fontset": "custom",
    **{f"mathtext.{name}": FAMILIES[0] for name in ("rm", "cal", "tt", "sf")},
    "mathtext.it": f"{FAMILIES[0]}:italic",
    "mathtext.bf": f"{FAMILIES[0]}:bold",
    "mathtext.bfit": f"{FAMILIES[0]}:italic:bold",
}
STYLE: Any = rc_params_from_file(Path(__file__).with_name("paper.mplstyle"), use_default_template=False) | _FONTS
DASHES = {
    "dashed": (0, (4.5, 1.5)),
    "dashdot": (0, (6, 1.5, 1.2, 1.5)),
    "dotted": (0, (1.2, 1.2)),
    "long": (0, (9, 2)),
    "dashdotdot": (0, (4, 1.2, 1, 1.2, 1, 1.2)),
}
# The paper's own method has the strongest colour, the widest line and no dashes
LOOKS: dict[str, dict[str, Any]] = {
    "cp": {"color": "#D55E00", "marker": "o", "linestyle": "-", "linewidth": 1.8, "zorder": 5},
    "cp_carried": {"color": "#882255", "marker": "o", "linestyle": DASHES["dashed"], "zorder": 4},
    "saliency": {"color": "#0072B2", "marker": "s", "linestyle": DASHES["dashed"]},
    "saliency_gold": {"color": "#56B4E9", "marker": "D", "linestyle": DASHES["dashdotdot"]},
    "attention": {"color": "#009E73", "marker": "^", "linestyle": DASHES["dashdot"]},
    "attention_received": {"color": "#CC79A7", "marker": "v", "linestyle": DASHES["long"]},
    "rollout": {"color": "#E69F00", "marker": "X", "linestyle": DASHES["dotted"]},
    "random": {"color": "0.55", "marker": ".", "linestyle": (0, (1, 2)), "linewidth": 1.0, "zorder": 1},
    "human": {"color": "0.1", "marker": "*", "linestyle": "-", "linewidth": 1.0, "markersize": 6.5, "zorder": 4},
    "integrated_gradients": {"color": "#000000", "marker": "P", "linestyle": DASHES["dashdotdot"]},
}
# None of them is nearly black, as the line of chance is
_SPARE = [
    {"color": color, "marker": marker, "linestyle": DASHES[dash]}
    for (dash, marker), color in zip(
        product(("dashed", "dotted", "dashdot", "long"), ("P", "h", "<", ">", "d", "p")),
        ("#56B4E9", "#7B4FC9", "#7A5C00", "#009E73", "#0072B2", "#882255", "#E69F00", "#CC79A7") * 3,
        strict=True,
    )
]
# The colours of tokens, everywhere
AMBER = "#E68900"  # score; signed scores: for the target
VIOLET = "#5E3C99"  # signed scores: against the target
BLUE = "#0068C9"  # human rationale
GREY = "#9A9A9A"  # a token that was dropped
FULL_SHADE = 8  # times the uniform score at which the shade is darkest
# the family of `analysis.report.compare`
HOLM_FAMILY = "Holm-adjusted over the metric's cells, random scores and repeated methods left out"
TITLES = {
    "average_precision": "Average precision",
    "fpr": "FPR",
    "tpr": "TPR",
    "j": "J = TPR - FPR",
    "aopc_comprehensiveness": "Comprehensiveness (AOPC)",
    "aopc_sufficiency": "Sufficiency (AOPC), lower is better",
}
LEVELS = {
    "": "selected at 1/n, n = tokens of the input",
    "_present": "selected at 1/n, n = tokens present at the layer",
    "_content": "selected at 1/n, n = content tokens, scores renormalised over them",
}
EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
LEGEND = {"handlelength": 3.0, "columnspacing": 1.2, "handletextpad": 0.5, "labelspacing": 0.5}  # in font sizes
LEGEND_ROWS = 4  # that a figure's height has room for
P = ParamSpec("P")


class PaperFigure(Figure):
    """A figure that is also saved in STYLE: fonts as TrueType (type 42), whatever the caller's settings are."""

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        with rc_context(STYLE):
            super().savefig(*args, **kwargs)


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw the figure in STYLE, whatever matplotlib's settings are; they are left as they were."""

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def venue(name: str) -> Venue:
    """The venue of that name; ArgumentError lists the ones there are."""
    if name not in VENUES:
        raise ArgumentError(f"style: got {name!r}, allowed are {', '.join(VENUES)}")
    return VENUES[name]


def looks(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """method -> colour, marker and line style, the same in every figure of the same methods."""
    chosen: dict[str, dict[str, Any]] = {}
    spare = cycle(_SPARE)
    for method in methods:
        look = LOOKS.get(method.partition("(")[0])  # integrated_gradients(n_steps=20)
        chosen[method] = next(spare) if look is None or look in chosen.values() else look
    return chosen


# Text: always measured, since the font differs from machine to machine


@cache
def text_width(text: str, size: float) -> float:
    """Points that the text takes in print."""
    font = FontProperties(family=FAMILIES, size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def fitted(text: str, width: float, size: float) -> str:
    """The text, or of one wider than `width` points as much of both its ends as fits: options differ at the end."""

    def cut(kept: int) -> str:
        head = (2 * kept + 2) // 3
        return f"{text[:head].rstrip()}…{text[len(text) - kept + head :].lstrip()}"

    if text_width(text, size) <= width:
        return text
    return cut(max(0, bisect_right(range(len(text)), width, key=lambda kept: text_width(cut(kept), size)) - 1))


def shortened(names: Sequence[str], letters: int, size: float) -> list[str]:
    """Names along an axis, each at most as wide as so many letters of a middle width."""
    return [fitted(name, letters * text_width("n", size), size) for name in names]


def literal(text: str) -> str:
    """Text from outside, such that matplotlib prints it as it is: no formulas, nothing hidden from a legend."""
    return drawable(text.replace("$", r"\$").lstrip("_")) or "-"


@cache
def drawable(text: str) -> str:
    """Characters that no font has become a box, without a warning for each of them."""
    fonts = [get_font(findfont(FontProperties(family=family))) for family in FAMILIES]
    return "".join(c if any(font.get_char_index(ord(c)) for font in fonts) else "\u25a1" for c in text)


# Metrics and numbers, as they are written


def metric_title(metric: str) -> str:
    """`fpr_present` -> "FPR (selected at 1/n, n = tokens present at the layer)"."""
    base, sign, variant = metric.partition("_")
    if base in ("fpr", "tpr", "j") and sign + variant in LEVELS:
        return f"{TITLES[base]} ({LEVELS[sign + variant]})"
    return TITLES.get(metric) or (METRICS[metric].title if metric in METRICS else metric.replace("_", " "))


def higher_is_better(metric: str) -> bool:
    return METRICS[metric].higher_is_better if metric in METRICS else True


def judges_rationales(metrics: Sequence[str]) -> bool:
    """Whether one of the metrics needs human rationales; an unknown metric is taken to need them."""
    return any(metric not in METRICS or METRICS[metric].needs_rationale for metric in metrics)


def number(value: float | None, decimals: int = 3) -> str:
    """.254, -.031, 1.000; "-" where undefined."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # no "-.000"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


# What figures of a report share


def label(report: RationaleReport, method: str) -> str:
    """The method's name in a figure, with a real multiplication sign."""
    return literal(report.title(method).replace(" x ", " × "))


def select(report: RationaleReport, methods: Sequence[str] | str | None) -> tuple[str, ...]:
    """The methods to draw: all, or the given ones, each once."""
    methods = [methods] if isinstance(methods, str) else methods
    for method in methods or ():
        if method not in report.methods:
            raise ArgumentError(f"method {method!r} is not in the report, which has {', '.join(report.methods)}")
    return tuple(dict.fromkeys(methods)) if methods else report.methods


def chosen_layers(layers: Sequence[int] | int | None, default: Sequence[int], n_layers: int) -> tuple[int, ...]:
    """The layers to draw."""
    chosen = tuple(default if layers is None else [layers] if isinstance(layers, int) else layers)
    if unknown := set(chosen) - set(range(n_layers)):
        raise ArgumentError(f"layer: got {min(unknown)}, there are 0 to {n_layers - 1}")
    return chosen


def some_layers(n_layers: int, at_most: int) -> tuple[int, ...]:
    """Evenly spaced layers, the first and the last among them: 12 layers, at most 3 -> 0, 6, 11."""
    if n_layers <= at_most:
        return tuple(range(n_layers))
    return tuple(int(i * (n_layers - 1) / (at_most - 1) + 0.5) for i in range(at_most))


def layer_axis(ax: Axes, n_layers: int, *, at_input: Sequence[float] = ()) -> None:
    """Ticks at the layers, and one tick `in` under the positions of methods with a meaning at the input only."""
    ax.set_xlabel("Layer")
    ax.set_xlim(min(at_input) - max(0.4, 0.05 * n_layers) if at_input else -0.3, n_layers - 0.7)
    ticks = range(0, n_layers, layer_step(n_layers))
    middle = [sum(at_input) / len(at_input)] if at_input else []
    ax.set_xticks([*middle, *ticks], ["in"] * len(middle) + [str(layer) for layer in ticks])


def layer_step(n_layers: int) -> int:
    return 1 if n_layers <= 7 else 2 if n_layers <= 14 else 4


def short_numbers(ax: Axes) -> None:
    """.25 and not 0.25 on the y axis, as in the tables; at most five of them."""
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))

    def text(value: float, _: int | None = None) -> str:
        ticks = ax.get_yticks()
        step = float(np.diff(ticks).min()) if len(ticks) > 1 else 0.1
        decimals = next((d for d in (0, 1, 2) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 3)
        whole = abs(value - round(value)) < 1e-6
        return (str(round(value)) if whole else number(float(value), max(1, decimals))).replace("-", "−")

    ax.yaxis.set_major_formatter(FuncFormatter(text))


def shared_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend under all panels, each name with a defined point once, chance last, as many columns as fit."""
    named: dict[str, Any] = {}
    for ax in axes:
        handles: tuple[list[Any], list[str]] = ax.get_legend_handles_labels()
        for handle, name in zip(*handles, strict=True):
            if np.isfinite(handle.get_ydata()).any():
                named.setdefault(name, handle)
    if order := sorted(named, key="Chance".__eq__):
        names, n_columns = room_for_legend(figure, order)
        look: Any = {"loc": "outside lower center", "frameon": False, "borderaxespad": 0.2, **LEGEND}
        figure.legend([named[name] for name in order], names, ncols=n_columns, **look)


def room_for_legend(figure: Figure, names: Sequence[str], *, most_columns: int | None = None) -> tuple[list[str], int]:
    """The names, cut to the figure's width, and how many columns of a legend they take; the figure grows by the rows
    that its height has no room for."""
    size, width = float(STYLE["legend.fontsize"]), figure.get_figwidth()
    sample = size * float(LEGEND["handlelength"] + LEGEND["handletextpad"])  # points of an item without its name
    gap = size * float(LEGEND["columnspacing"])
    names = [fitted(name, 72 * width - size - sample, size) for name in names]
    widest = sample + max(text_width(name, size) for name in names)
    fit = max(1, int((72 * width - size + gap) // (widest + gap)))
    n_columns = min(most_columns or len(names), -(-len(names) // -(-len(names) // fit)))  # none of them half empty
    more = max(0, -(-len(names) // n_columns) - LEGEND_ROWS)
    figure.set_size_inches(width, figure.get_figheight() + more * size * (1 + LEGEND["labelspacing"]) / 72)
    return names, n_columns
