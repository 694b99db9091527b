"""The scores of one document as a heat map, layer by token.

L layers, n tokens
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from adapler.errors import ArgumentError
from analysis.figures.style import (
    FAMILIES,
    STYLE,
    PaperFigure,
    drawable,
    fitted,
    label,
    select,
    styled,
    text_width,
    venue,
)
from analysis.figures.token_scores import FULL_SHADE, main_method, pick, present, ratios, token_text
from analysis.results.records import DocumentScores
from analysis.results.report import ReportData
from analysis.results.wording import OF_REMOVAL

# the palest shade is not white: white is for tokens that are not there
SCORES = ListedColormap(colormaps["Blues"](np.linspace(0.12, 1, 256)), name="scores")
MOST_TOKENS = 40  # so many are written under the map, more are counted
TOKEN_SIZE = 6.5  # points
LONGEST_TOKEN = 24  # letters of a middle width
COLORBAR = 0.75  # inches that the colour bar and the layers' numbers take
BEYOND_BAR = 0.4  # inches by which the name of the colour bar may be longer than the rows of all panels
_FIRST = (*OF_REMOVAL, "saliency", "attention", "rollout")  # the paper's methods, which are shown by default


def plot_heatmap(document: DocumentScores, method: str, ax: Axes, *, layerwise: bool | None = None) -> AxesImage:
    """Size of each token's score at each layer, whatever its sign; white: not there any more; black marks above: the
    rationale.

    Up to MOST_TOKENS tokens are written below the map, of longer documents their positions.
    layerwise: whether the method has a meaning at every layer; default: whether it has scores of several.
    """
    values = ratios(document, method)  # (L, n)
    if (there := present(document, method)) is not None:
        values = np.where(there, values, np.nan)
    levels = np.log1p(np.clip(np.abs(values), 0, FULL_SHADE))
    image = ax.imshow(levels, aspect="auto", cmap=SCORES, vmin=0, vmax=math.log1p(FULL_SHADE), interpolation="none")
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.set_xlim(-0.5, len(document) - 0.5)
    n_layers = len(values)
    step = 1 if n_layers <= 7 else 2 if n_layers <= 14 else 4
    ticks = list(range(0, n_layers, step))
    layerwise = n_layers > 1 if layerwise is None else layerwise
    ax.set_yticks(ticks, [str(t) for t in ticks] if layerwise else ["in"])
    ax.tick_params(length=0)
    if len(document) <= MOST_TOKENS:
        names, size = token_names(document, TOKEN_SIZE), ax.get_window_extent().width * 72 / ax.figure.dpi
        rotation = 90 if _are_turned(names, size) else 0
        ax.set_xticks(range(len(names)), names, size=TOKEN_SIZE, family=FAMILIES, parse_math=False, rotation=rotation)
    marks = [Rectangle((token - 0.5, 1.02), 1, 3.0 / _height(ax)) for token in np.flatnonzero(document.rationale)]
    strip = PatchCollection(marks, facecolor="black", linewidth=0, transform=ax.get_xaxis_transform(), clip_on=False)
    ax.add_collection(strip, autolim=False)
    return image


def token_names(document: DocumentScores, size: float) -> list[str]:
    """The tokens as they are written along an axis, at so many points: a web address would leave no room for more."""
    widest = LONGEST_TOKEN * text_width("n", size)
    return [fitted(drawable(token_text(token)), widest, size) for token in document.tokens]


def _are_turned(names: Sequence[str], width: float) -> bool:
    """Whether the tokens are too long to stand side by side in so many points."""
    return max(text_width(name, TOKEN_SIZE) for name in names) + 2 > width / len(names)


def _label_height(document: DocumentScores, width: float) -> float:
    """Inches that the tokens below a map of so many inches take, beyond those of numbers."""
    names = token_names(document, TOKEN_SIZE)
    if len(names) > MOST_TOKENS or not _are_turned(names, 72 * width):
        return 0.0
    return max(text_width(name, TOKEN_SIZE) for name in names) / 72


def _height(ax: Axes) -> float:
    return float(ax.get_window_extent().height * 72 / ax.figure.dpi)


@styled
def heatmap_figure(
    report: ReportData,
    *,
    example: int = 0,
    methods: Sequence[str] | None = None,
    style: str = "acl",
) -> Figure:
    """Scores of an example by layer and token, a panel a method (default: up to four)."""
    document = pick(report, example)
    if methods is None:
        names = [name for name in document.scores if name != "random"]
        order = {name: index for index, name in enumerate(_FIRST)}
        methods = sorted(names, key=lambda name: order.get(name, len(order)))[:4] or [main_method(document)]
    elif not methods:
        raise ArgumentError("methods: got none, at least one is needed")
    else:
        methods = select(report, methods)  # one that the report does not have is refused, one without scores left out
    methods = [method for method in methods if method in document.scores] or list(methods)
    for method in methods:
        ratios(document, method)  # says so if none of them has scores
    heights = [max(2, min(8, len(document.scores[method]))) + 2.2 for method in methods]
    width = venue(style).text
    signed = any((document.scores[method] < 0).any() for method in methods)
    meaning = "|Score| / uniform score" if signed else "Score / uniform score"
    lacking = text_width(meaning, float(STYLE["axes.labelsize"])) / 72 - BEYOND_BAR - 0.11 * sum(heights)
    height = 0.11 * sum(heights) + max(0.0, lacking) + 0.45 + _label_height(document, width - COLORBAR)
    figure = PaperFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(methods), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
    for ax, method in zip(axes, methods, strict=True):
        image = plot_heatmap(document, method, ax, layerwise=report.is_layerwise(method))
        ax.set_title(label(report, method), loc="left", pad=6)
    if len(document) > MOST_TOKENS:
        axes[-1].set_xlabel("Token")
    figure.supylabel("Layer", fontsize=8)
    bar = figure.colorbar(image, ax=axes, fraction=0.025, pad=0.01, aspect=30)
    ticks = [0, 1, 2, 4, FULL_SHADE]
    bar.set_ticks([math.log1p(t) for t in ticks], labels=["0", "1", "2", "4", f"≥{FULL_SHADE}"])
    bar.set_label(meaning)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return figure
