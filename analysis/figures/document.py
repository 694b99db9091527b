"""A passage of one document, layer by layer: shades, dropped tokens and the human rationale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from adapler.errors import ArgumentError
from analysis.figures.passage import TEXT_SIZE, excerpt, is_cut, margin, space
from analysis.figures.style import FAMILIES, PaperFigure, drawable, some_layers, styled, venue
from analysis.figures.token_scores import main_method, pick, ratios, shade, token_text
from analysis.results.records import DocumentScores
from analysis.results.report import ReportData

LINE = 9.6  # points from line to line
LABEL = 46  # points for the layers' names, left of the text


def plot_document(
    document: DocumentScores,
    ax: Axes,
    *,
    method: str | None = None,
    layers: Sequence[int] | None = None,
    n_lines: int = 3,
) -> None:
    """An excerpt at each layer: shades for the scores, gold rationale underlined, dropped tokens pale.

    ax: its size on paper decides what fits; the height needed is `document_height`.
    Tokens are dropped for `cp` only; the other methods score a model that keeps all of them.
    """
    method = main_method(document) if method is None else method
    values = ratios(document, method)
    shown = some_layers(len(values), 6) if layers is None else tuple(layers)
    if bad := [layer for layer in shown if not 0 <= layer < len(values)]:
        raise ArgumentError(f"layer: got {bad[0]}, document {document.id} has 0 to {len(values) - 1} for {method!r}")
    extent = ax.get_window_extent()
    width, height = (side * 72 / ax.figure.dpi for side in (extent.width, extent.height))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    placed = excerpt(document, width=width - LABEL - margin(), n_lines=n_lines)
    cut = is_cut(document, placed)
    used = 1 + max(line for _, _, line, _ in placed)
    kept = document.retention if method == "cp" else None
    boxes, shades, rules, rule_colors = [], [], [], []
    for row, layer in enumerate(shown):
        top = row * _row_height(used)
        name = f"Layer {layer}" if len(values) > 1 else "Input"
        style: dict[str, Any] = {"va": "baseline", "parse_math": False, "family": FAMILIES}
        ax.text(0, top + 7, name, size=TEXT_SIZE + 0.5, weight="bold", **style)
        if kept is not None:
            ax.text(0, top + 7 + LINE, f"{kept[layer].sum()} tokens", size=TEXT_SIZE, color="0.35", **style)
        dots: dict[str, Any] = {"size": TEXT_SIZE, "color": "0.35", **style}
        if cut[0]:
            ax.text(LABEL - 1.5, top + 7, "…", ha="right", **dots)
        if cut[1]:
            _, x, line, size = placed[-1]
            ax.text(LABEL + x + size + 1.5, top + 7 + line * LINE, "…", **dots)
        for token, x, line, size in placed:
            left, base = LABEL + x, top + 7 + line * LINE
            dropped = kept is not None and not kept[layer, token]
            if not dropped:
                boxes.append(Rectangle((left - 0.4, base - 6.2), size + 0.8, 8.0))
                shades.append(_color(values[layer, token]))
            ax.text(
                left,
                base,
                drawable(token_text(document.tokens[token])),
                size=TEXT_SIZE,
                color="0.72" if dropped else "black",
                **style,
            )
            if document.rationale[token]:
                gap = space()  # the line goes on between two words of the rationale
                joined = any(t == token + 1 and document.rationale[t] and row_ == line for t, _, row_, _ in placed)
                starts_word = token + 1 < len(document) and document.words[token + 1] != document.words[token]
                rules.append([(left, base + 2.3), (left + size + (gap if joined and starts_word else 0), base + 2.3)])
                rule_colors.append("0.6" if dropped else "black")
        if row:
            ax.plot([0, width], [top - 2.6] * 2, color="0.85", linewidth=0.4, solid_capstyle="butt")
    ax.add_collection(PatchCollection(boxes, facecolors=shades, linewidths=0, zorder=0), autolim=False)
    ax.add_collection(LineCollection(rules, colors=rule_colors, linewidths=0.8, zorder=2), autolim=False)


def _color(ratio: float) -> tuple[float, float, float, float]:
    red, green, blue = (0.835, 0.369, 0.0) if ratio >= 0 else (0.0, 0.447, 0.698)
    return red, green, blue, 0.75 * shade(abs(ratio))


def _row_height(n_lines: int) -> float:
    return max(2, n_lines) * LINE + 4.5


def document_height(n_layers: int, n_lines: int) -> float:
    """Inches that `plot_document` needs for that many layers."""
    return (n_layers * _row_height(n_lines) - 2) / 72


@styled
def document_figure(
    report: ReportData,
    *,
    example: int = 0,
    method: str | None = None,
    layers: Sequence[int] | None = None,
    n_lines: int = 3,
    style: str = "acl",
) -> Figure:
    """An example of the report as text, layer by layer; the paper's qualitative figure."""
    document = pick(report, example)
    method = main_method(document) if method is None else method
    shown = some_layers(len(ratios(document, method)), 6) if layers is None else tuple(layers)
    width = venue(style).text
    placed = excerpt(document, width=72 * width - LABEL - margin(), n_lines=n_lines)
    used = 1 + max(line for _, _, line, _ in placed)
    figure = PaperFigure(figsize=(width, document_height(len(shown), used)))
    ax = figure.add_axes((0, 0, 1, 1))
    plot_document(document, ax, method=method, layers=shown, n_lines=n_lines)
    return figure
