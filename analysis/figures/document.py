"""A passage of one document, layer by layer: shades, dropped tokens and the human rationale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.figures.passage import (
    TEXT_SIZE,
    Placed,
    excerpt,
    is_cut,
    is_leftward,
    letters,
    margin,
    space,
    width_of,
)
from analysis.figures.style import FAMILIES, PaperFigure, drawable, fitted, some_layers, styled, venue
from analysis.figures.token_scores import main_method, pick, present, ratios, shade, token_text
from analysis.results.records import DocumentScores
from analysis.results.report import ReportData

RGBA = tuple[float, float, float, float]

# In points (1/72 inch). A row is the excerpt at one layer; a base is where a line of text stands.
LABEL = 46  # for the layers' names, left of the text
LINE = 9.6  # from base to base
FIRST_BASE = 7  # from the top of a row to its first base
ROW_GAP = 4.5  # between two rows
SEPARATOR = 2.6  # the line between two rows, above the lower one's top
SHADE_ABOVE, SHADE_HEIGHT, SHADE_SIDE = 6.2, 8.0, 0.4  # a token's shade: from above the base down, and at each side
UNDERLINE = 2.3  # of the rationale, below the base
KEYED = (1.0, 3.0, 8.0)  # scores of the key, times 1/n
SWATCH, KEY_GAP = 9.0, 9.0  # a shade of the key, and after what it stands for
DOTS_GAP = 1.5  # between the text and the dots where it was cut

POSITIVE, NEGATIVE = (0.835, 0.369, 0.0), (0.0, 0.447, 0.698)  # shades of scores above and below 0
DARKEST = 0.75  # opacity: black text stays readable on it
FAINT = "0.35"  # what is not text of the document
DROPPED = {"text": "0.72", "underline": "0.6"}
TEXT: dict[str, Any] = {"va": "baseline", "parse_math": False, "family": FAMILIES}


@dataclass
class _Marks:
    """Shades and underlines of all rows, drawn at once at the end."""

    shades: list[tuple[Rectangle, RGBA]] = field(default_factory=list)
    underlines: list[tuple[list[tuple[float, float]], str]] = field(default_factory=list)

    def draw(self, ax: Axes) -> None:
        boxes, colors = [box for box, _ in self.shades], [color for _, color in self.shades]
        ax.add_collection(PatchCollection(boxes, facecolors=colors, linewidths=0, zorder=0), autolim=False)
        lines, line_colors = [line for line, _ in self.underlines], [color for _, color in self.underlines]
        ax.add_collection(LineCollection(lines, colors=line_colors, linewidths=0.8, zorder=2), autolim=False)


def plot_document(
    document: DocumentScores,
    ax: Axes,
    *,
    method: str | None = None,
    layers: Sequence[int] | None = None,
    n_lines: int = 3,
    start: int | None = None,
    key: bool = False,
    unit: str = "tokens",
    layerwise: bool | None = None,
) -> None:
    """An excerpt at each layer: shades for the scores, gold rationale underlined, dropped tokens pale.

    ax: its size on paper decides what fits; the height needed is `document_height`.
    start: the word that the excerpt begins with, see `passage.excerpt`.
    key: a line below that says what shade, paleness and underline mean.
    unit: what the document's tokens are called, in the plural, where each is something larger.
    layerwise: whether the method has a meaning at every layer; default: whether it has scores of several.
    Tokens are dropped for `cp` and `policy` only; the other methods score a model that keeps all of them.

    Raises ArgumentError for a method or layer that the document has no scores of, and for such a word.
    """
    method = main_method(document) if method is None else method
    values = ratios(document, method)
    layerwise = len(values) > 1 if layerwise is None else layerwise
    shown = _layers_to_draw(document, method, layers)
    extent = ax.get_window_extent()
    width, height = (side * 72 / ax.figure.dpi for side in (extent.width, extent.height))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    placed = excerpt(document, width=width - LABEL - margin(), n_lines=n_lines, start=start)
    kept = document.retention if present(document, method) is not None else None
    marks = _Marks()
    for row, layer in enumerate(shown):
        top = row * _row_height(_lines_used(placed))
        base = top + FIRST_BASE
        dropped = None if kept is None else ~kept[layer].astype(bool)
        _write_label(ax, base, f"Layer {layer}" if layerwise else "Input", dropped, unit=unit)
        _write_dots(ax, base, placed, cut=is_cut(document, placed), leftward=is_leftward(document))
        _write_tokens(ax, base, document, placed, values[layer], dropped, marks)
        if row:
            _write_line(ax, top, width)
    if key:
        top = len(shown) * _row_height(_lines_used(placed))
        _write_line(ax, top, width)
        signed = bool((values[list(shown)] < 0).any())
        drops = kept is not None
        _write_key(ax, top + FIRST_BASE, marks, signed=signed, drops=drops, gold=bool(document.rationale.any()))
    marks.draw(ax)


def _layers_to_draw(document: DocumentScores, method: str, layers: Sequence[int] | None) -> tuple[int, ...]:
    n_layers = len(ratios(document, method))
    shown = some_layers(n_layers, 6) if layers is None else tuple(layers)
    if not shown:
        raise ArgumentError("layers: got none, at least one is needed")
    if bad := [layer for layer in shown if not 0 <= layer < n_layers]:
        raise ArgumentError(f"layer: got {bad[0]}, document {document.id} has 0 to {n_layers - 1} for {method!r}")
    return shown


def _write_label(ax: Axes, base: float, name: str, dropped: NDArray[np.bool_] | None, *, unit: str) -> None:
    ax.text(0, base, name, size=TEXT_SIZE + 0.5, weight="bold", **TEXT)
    if dropped is not None:
        count = int((~dropped).sum())
        said = f"{count} {unit.removesuffix('s') if count == 1 else unit}"
        ax.text(0, base + LINE, said, size=TEXT_SIZE, color=FAINT, **TEXT)


def _write_line(ax: Axes, top: float, width: float) -> None:
    """Between a row and the one above it."""
    ax.plot([0, width], [top - SEPARATOR] * 2, color="0.85", linewidth=0.4, solid_capstyle="butt")


def _write_key(ax: Axes, base: float, marks: _Marks, *, signed: bool, drops: bool, gold: bool) -> None:
    """Shades and what they stand for, in multiples of the uniform score; then a pale and an underlined word."""
    x = float(LABEL)

    def write(text: str, color: str = FAINT) -> float:
        """The width."""
        ax.text(x, base, text, size=TEXT_SIZE, color=color, **TEXT)
        return width_of(text)

    ax.text(0, base, "Score", size=TEXT_SIZE + 0.5, color=FAINT, **TEXT)
    for ratio in (-KEYED[0], *KEYED) if signed else KEYED:
        marks.shades.append((Rectangle((x, base - SHADE_ABOVE), SWATCH, SHADE_HEIGHT), _color(ratio)))
        x += SWATCH + 2
        x += write(f"{ratio:g}/n".replace("-", "−")) + KEY_GAP
    if drops:
        x += write("dropped", DROPPED["text"]) + KEY_GAP
    if gold:
        wide = write("human rationale")
        marks.underlines.append(([(x, base + UNDERLINE), (x + wide, base + UNDERLINE)], "black"))


def _write_dots(ax: Axes, base: float, placed: Sequence[Placed], *, cut: tuple[bool, bool], leftward: bool) -> None:
    """Before the first line and after the last one; leftward: a text from right to left."""
    for place, is_cut_here, at_left in zip((placed[0], placed[-1]), cut, (not leftward, leftward), strict=True):
        if is_cut_here:
            line = [one for one in placed if one.line == place.line]
            edge = min(one.x for one in line) if at_left else max(one.x + one.width for one in line)
            x = LABEL + edge + (-DOTS_GAP if at_left else DOTS_GAP)
            side = "right" if at_left else "left"
            ax.text(x, base + place.line * LINE, "…", ha=side, size=TEXT_SIZE, color=FAINT, **TEXT)


def _write_tokens(
    ax: Axes,
    first_base: float,
    document: DocumentScores,
    placed: Sequence[Placed],
    values: NDArray[np.float64],  # (n,) multiples of the uniform score
    dropped: NDArray[np.bool_] | None,  # (n,)
    marks: _Marks,
) -> None:
    for one in placed:
        left, base = LABEL + one.x, first_base + one.line * LINE
        is_gone = dropped is not None and bool(dropped[one.token])
        whole = drawable(token_text(document.tokens[one.token]))
        text = letters(fitted(whole, one.width, TEXT_SIZE), leftward=one.leftward)
        ax.text(left, base, text, size=TEXT_SIZE, color=DROPPED["text"] if is_gone else "black", **TEXT)
        if not is_gone:
            steps = (1, -1) if one.leftward else (-1, 1)
            before, after = (0 if _same_word(document, one.token, step) else SHADE_SIDE for step in steps)
            box = Rectangle((left - before, base - SHADE_ABOVE), before + one.width + after, SHADE_HEIGHT)
            marks.shades.append((box, _color(values[one.token])))
        if document.rationale[one.token]:
            right = left + one.width
            if _goes_on(document, placed, one):
                left, right = (left - space(), right) if one.leftward else (left, right + space())
            line = [(left, base + UNDERLINE), (right, base + UNDERLINE)]
            marks.underlines.append((line, DROPPED["underline"] if is_gone else "black"))


def _same_word(document: DocumentScores, token: int, step: int) -> bool:
    """Whether the token beside this one is a part of the same word: shades of both then meet and do not overlap."""
    other = token + step
    if not 0 <= other < len(document.tokens) or document.words[token] < 0:
        return False
    return bool(document.words[other] == document.words[token])


def _goes_on(document: DocumentScores, placed: Sequence[Placed], one: Placed) -> bool:
    """Whether the next word on the line is rationale as well, so that the space between them is underlined."""
    after = one.token + 1
    here = (one.line, one.leftward)
    if not any(next_.token == after and (next_.line, next_.leftward) == here for next_ in placed):
        return False
    return bool(document.rationale[after]) and document.words[after] != document.words[one.token]


def _color(ratio: float) -> RGBA:
    return (*(POSITIVE if ratio >= 0 else NEGATIVE), DARKEST * shade(abs(ratio)))


def _lines_used(placed: Sequence[Placed]) -> int:
    return 1 + max(one.line for one in placed)


def _row_height(n_lines: int) -> float:
    return max(2, n_lines) * LINE + ROW_GAP


def document_height(n_layers: int, n_lines: int, *, key: bool = False) -> float:
    """Inches that `plot_document` needs for that many layers."""
    return (n_layers * _row_height(n_lines) - 2 + (LINE + ROW_GAP if key else 0)) / 72


@styled
def document_figure(
    report: ReportData,
    *,
    example: int = 0,
    method: str | None = None,
    layers: Sequence[int] | None = None,
    n_lines: int = 3,
    start: int | None = None,
    key: bool = False,
    unit: str = "tokens",
    style: str = "acl",
) -> Figure:
    """An example of the report as text, layer by layer; the paper's qualitative figure. For `start`, `key` and
    `unit` see `plot_document`."""
    document = pick(report, example)
    method = main_method(document) if method is None else method
    shown = _layers_to_draw(document, method, layers)
    width = venue(style).text
    placed = excerpt(document, width=72 * width - LABEL - margin(), n_lines=n_lines, start=start)
    figure = PaperFigure(figsize=(width, document_height(len(shown), _lines_used(placed), key=key)))
    ax = figure.add_axes((0, 0, 1, 1))
    options: dict[str, Any] = {"n_lines": n_lines, "start": start, "key": key, "unit": unit}
    plot_document(document, ax, method=method, layers=shown, layerwise=report.is_layerwise(method), **options)
    return figure
