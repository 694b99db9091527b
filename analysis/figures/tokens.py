"""Figures of one document: a passage as text, its scores as a heat map, one layer as bars.

Amber is the score (violet where a signed score speaks against the target), blue the human rationale; tokens that the
model has dropped fade to grey. L layers, n tokens
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.figures import paper

if TYPE_CHECKING:
    from analysis.report import RationaleReport

OF_REMOVAL = ("cp", "policy")  # the scores by which a model drops tokens: among dropped tokens they have no order
PREFIXES = ("##", "\u0120", "\u2581")  # of wordpieces that go on (BERT) or begin a word (GPT-2, SentencePiece)

# A passage, in points (1/72 inch). A row is the passage at one layer.
TEXT_SIZE = 6.5
LABEL = 46  # for the layers' names, left of the text
LINE = 9.6  # from base line to base line
FIRST_BASE = 7  # from the top of a row to its first base line
ROW_GAP = 4.5  # between two rows
TITLE = 15  # above a panel with a title
SHADE_ABOVE, SHADE_HEIGHT, SHADE_SIDE = 6.2, 8.0, 0.4  # a token's shade: from above the base line down, at each side
UNDERLINE = 2.3  # of the rationale, below the base line
DARKEST = 0.75  # opacity: black text stays readable on it
FAINT = "0.35"  # what is not text of the document
TEXT: dict[str, Any] = {"va": "baseline", "parse_math": False, "family": paper.FAMILIES}
DOTS = "…"

# The palest shade is not white: white is for tokens that are not there
UNSIGNED = ListedColormap(colormaps["YlOrBr"](np.linspace(0.08, 0.85, 256)), name="scores")
SIGNED = colormaps["PuOr_r"]
MOST_TOKENS = 40  # so many are written under a heat map, more are counted
LONGEST_TOKEN = 24  # letters
SIDE = 0.75  # inches that the colour bar and the layers' numbers take next to a heat map


# A text, token by token


@dataclass(frozen=True, eq=False)
class DocumentScores:
    """A text with the scores of several methods.

    tokens      the n wordpieces, special tokens included
    words       (n,) int64, index of the word a wordpiece comes from; -1 for a special token
    rationale   (n,) bool, the wordpiece's word is in a human rationale
    scores      method -> (L', n) float32
    retention   (L, n) bool, the tokens that enter each layer of the AdapLeR model; None without one
    prediction  of the AdapLeR model if there is one, else of the plain classifier
    """

    id: str
    tokens: tuple[str, ...]
    words: NDArray[np.int64]
    rationale: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float32]]
    retention: NDArray[np.bool_] | None = None
    prediction: str | None = None
    label: str | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a float32 is written with the fewest digits that give it back."""
        return vars(self) | {
            "tokens": list(self.tokens),
            "words": self.words.tolist(),
            "rationale": self.rationale.astype(int).tolist(),
            "scores": {name: [[float(str(x)) for x in line] for line in rows] for name, rows in self.scores.items()},
            "retention": None if self.retention is None else self.retention.astype(int).tolist(),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> DocumentScores:
        arrays = {
            "tokens": tuple(row["tokens"]),
            "words": np.array(row["words"], dtype=np.int64),
            "rationale": np.array(row["rationale"], dtype=bool),
            "scores": {name: np.array(rows, dtype=np.float32) for name, rows in row["scores"].items()},
            "retention": None if row["retention"] is None else np.array(row["retention"], dtype=bool),
        }
        return cls(**{**row, **arrays})


def token_text(token: str) -> str:
    """A wordpiece as it is read: `##ing` -> `ing`; control characters are spelled out."""
    for prefix in PREFIXES:
        if token.startswith(prefix) and len(token) > len(prefix):
            token = token.removeprefix(prefix)
    return visible(token)


def visible(text: str) -> str:
    """The text with control characters and bidirectional overrides spelled out."""
    return "".join(character if character.isprintable() else f"[U+{ord(character):04X}]" for character in text)


def starts_word(words: NDArray[np.int64], token: int) -> bool:
    """Whether a token is set apart from the one before it by a space."""
    return token > 0 and bool(words[token] < 0 or words[token] != words[token - 1])


def ratios(document: DocumentScores, method: str) -> NDArray[np.float64]:
    """(L', n) scores as multiples of the uniform one, among the tokens of `present`; signed scores keep their sign."""
    if method not in document.scores:
        known = ", ".join(document.scores) or "none"
        raise ArgumentError(f"method {method!r} is not in document {document.id}, which has {known}")
    scores = document.scores[method].astype(np.float64)
    total = np.abs(scores).sum(axis=1, keepdims=True)
    there = present(document, method)
    n_tokens = len(document) if there is None else there.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(scores, total, out=np.zeros_like(scores), where=total > 0) * n_tokens)


def present(document: DocumentScores, method: str) -> NDArray[np.bool_] | None:
    """(L, n) the tokens among which the scores of a layer are shared out; None for a method that always has all.

    Of a method of OF_REMOVAL those that entered the layer before, or, of a policy that decides after a layer's
    attention, this one. Where another token has a score all the same, they are saved scores of that name.
    """
    if method not in OF_REMOVAL or document.retention is None:
        return None
    entered, scores = document.retention, document.scores[method]
    if scores.shape != entered.shape:
        return None
    if method == "policy" and not scores[~entered].any():
        return entered
    before = np.vstack([np.ones((1, len(document)), dtype=bool), entered[:-1]])
    return None if scores[~before].any() else before


def shade(ratio: float) -> float:
    """0 for no score, 1 from FULL_SHADE times the uniform one on; a logarithm in between."""
    return min(1.0, math.log1p(max(0.0, ratio)) / math.log1p(paper.FULL_SHADE))


def main_method(document: DocumentScores) -> str:
    """`cp` or `policy` if there, else the first one that has a score at every layer, else the first one."""
    removal = [method for method in OF_REMOVAL if method in document.scores]
    layered = [method for method, rows in document.scores.items() if len(rows) > 1]
    return next(iter(removal or layered or document.scores))


# A passage


class Placed(NamedTuple):
    """A token in a passage: left edge and width in points, and index of its line."""

    token: int
    x: float
    line: int
    width: float


@dataclass(frozen=True)
class Panel:
    """One document under one method. layers: those to draw, default six, the first and the last among them."""

    document: DocumentScores
    method: str
    title: str = ""
    layers: Sequence[int] | None = None
    layerwise: bool = True

    def shown(self) -> tuple[int, ...]:
        n_layers = len(ratios(self.document, self.method))
        return paper.chosen_layers(self.layers, paper.some_layers(n_layers, 6), n_layers)


def passage(document: DocumentScores, *, width: float, n_lines: int, start: int | None = None) -> list[Placed]:
    """As many words as go into `n_lines` lines of `width` points, special tokens left out. start: the first word;
    default: that of the sentence from which on most rationale tokens are in view, the first of several."""
    words = document.words
    begins = [token for token in range(len(words)) if words[token] >= 0 and words[token] not in words[:token]]
    if not begins:
        raise ArgumentError(f"document {document.id}: no token of the text to draw")
    if start is not None:
        return _layout(document, words.tolist().index(start), width=width, n_lines=n_lines)
    sentences = [token for token in begins if token == begins[0] or document.tokens[token - 1] in (".", "!", "?")]
    starts = sentences if len(sentences) > 1 else begins
    last, found = int(np.flatnonzero(words >= 0)[-1]), list[list[Placed]]()
    for token in starts:
        found.append(_layout(document, token, width=width, n_lines=n_lines))
        if found[-1][-1].token == last:
            break  # later starts only show less
    return max(found, key=lambda placed: int(document.rationale[[one.token for one in placed]].sum()))


def _layout(document: DocumentScores, start: int, *, width: float, n_lines: int) -> list[Placed]:
    """From token `start` on. A word that is wider than a line goes on in the next one."""
    placed: list[Placed] = []
    x, line, words = 0.0, 0, document.words
    for token in range(start, len(document)):
        if words[token] < 0:
            continue
        size = min(width, _width(_text(document, token)))
        if not placed or words[token] != words[placed[-1].token]:  # a new word
            x += paper.text_width("n", TEXT_SIZE) * 0.5 if placed and x else 0.0
            same = range(token, int(np.flatnonzero(words == words[token])[-1]) + 1)
            whole = sum(_width(_text(document, piece)) for piece in same)
            if x and x + whole > width:
                x, line = 0.0, line + 1
        if x and x + size > width:
            x, line = 0.0, line + 1
        if line == n_lines:
            break
        placed.append(Placed(token, x, line, size))
        x += size
    return placed


def _width(text: str) -> float:
    return paper.text_width(text, TEXT_SIZE)


def _text(document: DocumentScores, token: int) -> str:
    return paper.drawable(token_text(document.tokens[token]))


def _row_height(placed: Sequence[Placed]) -> float:
    return max(2, 1 + placed[-1].line) * LINE + ROW_GAP


def _set_title(ax: Axes, title: str, width: float) -> None:
    ax.set_title(paper.literal(paper.fitted(title, width, float(paper.STYLE["axes.titlesize"]))), loc="left")


def _room(width: float) -> float:
    """Points for the text in a figure: beside it are the layers' names, and the dots of a passage that is cut."""
    return width - LABEL - _width(DOTS) - 2


@paper.styled
def passages_figure(
    panels: Sequence[Panel],
    *,
    n_lines: int = 3,
    start: int | None = None,
    key: bool = False,
    unit: str = "tokens",
    style: str = "acl",
) -> Figure:
    """Documents as text, layer by layer, one below the other; for the options see `plot_document`."""
    width = paper.venue(style).text
    options: dict[str, Any] = {"n_lines": n_lines, "start": start}
    heights = []  # points
    for panel in panels:
        placed = passage(panel.document, width=_room(72 * width), **options)
        heights.append(len(panel.shown()) * _row_height(placed) - 2)
    heights[-1] += LINE + ROW_GAP if key else 0
    total = sum(heights) + sum(TITLE for panel in panels if panel.title) + 6 * (len(panels) - 1)
    figure = paper.PaperFigure(figsize=(width, total / 72))
    top = total
    for index, (panel, height) in enumerate(zip(panels, heights, strict=True)):
        top -= TITLE if panel.title else 0
        ax = figure.add_axes((0, (top - height) / total, 1, height / total))
        plot_document(panel, ax, key=key and index == len(panels) - 1, unit=unit, **options)
        if panel.title:
            _set_title(ax, panel.title, 72 * width)
        top -= height + 6
    return figure


def document_figure(
    report: RationaleReport,
    *,
    example: int = 0,
    method: str | None = None,
    layers: Sequence[int] | None = None,
    style: str = "acl",
    **options: Any,
) -> Figure:
    """An example of the report as text, layer by layer. options: n_lines, start, key and unit of `plot_document`."""
    document = report.examples[example]
    method = method or main_method(document)
    panel = Panel(document, method, layers=layers, layerwise=report.is_layerwise(method))
    return passages_figure([panel], style=style, **options)


def plot_document(
    panel: Panel, ax: Axes, *, n_lines: int = 3, start: int | None = None, key: bool = False, unit: str = "tokens"
) -> None:
    """A passage, as far as it fits the axes, at each layer: shades for the scores, human rationale underlined, dropped
    tokens pale (of `cp` and `policy` only: the other methods score a model that keeps all of them). start: see
    `passage`. key: a line below that says what they mean. unit: what the tokens are called."""
    document, method = panel.document, panel.method
    values = ratios(document, method)
    extent = ax.get_window_extent()
    width, height = (side * 72 / ax.figure.dpi for side in (extent.width, extent.height))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    placed = passage(document, width=_room(width), n_lines=n_lines, start=start)
    kept = document.retention if present(document, method) is not None else None
    glued = [token > 0 and not starts_word(document.words, token) for token in range(len(document))] + [False]
    boxes: list[tuple[Rectangle, Any]] = []
    lines: list[list[tuple[float, float]]] = []

    def write(x: float, y: float, text: str, **look: Any) -> None:
        ax.text(x, y, text, **{"size": TEXT_SIZE, "color": FAINT, **TEXT, **look})

    def box(x: float, base: float, wide: float, ratio: float) -> None:
        color = to_rgba(paper.AMBER if ratio >= 0 else paper.VIOLET, DARKEST * shade(abs(ratio)))
        boxes.append((Rectangle((x, base - SHADE_ABOVE), wide, SHADE_HEIGHT), color))

    top = 0.0
    for layer in panel.shown():
        base = top + FIRST_BASE
        if top:
            ax.plot([0, width], [top - 2.6] * 2, color="0.85", linewidth=0.4)
        name = f"Layer {layer}" if panel.layerwise else "Input"
        write(0, base, name, size=TEXT_SIZE + 0.5, weight="bold", color="black")
        if kept is not None:
            count = int(kept[layer].sum())
            write(0, base + LINE, f"{count} {unit.removesuffix('s') if count == 1 else unit}")
        for index, one in enumerate(placed):
            x, y = LABEL + one.x, base + one.line * LINE
            gone = kept is not None and not kept[layer, one.token]
            text = paper.fitted(_text(document, one.token), one.width + 0.01, TEXT_SIZE)
            write(x, y, text, color=paper.GREY if gone else "black")
            after = placed[index + 1] if index + 1 < len(placed) else None
            if not gone:  # shades of one word's pieces meet and do not overlap
                before, behind = (SHADE_SIDE * (not joined) for joined in glued[one.token : one.token + 2])
                box(x - before, y, before + one.width + behind, float(values[layer, one.token]))
            if document.rationale[one.token]:
                joins = after is not None and after.line == one.line and document.rationale[after.token]
                right = LABEL + after.x if joins and after is not None else x + one.width
                lines.append([(x, y + UNDERLINE), (right, y + UNDERLINE)])
        inside = np.flatnonzero(document.words >= 0)
        first, last = placed[0], placed[-1]
        if first.token > inside[0]:
            write(LABEL - 1.5, base, DOTS, ha="right")
        if last.token < inside[-1]:
            write(LABEL + last.x + last.width + 1.5, base + last.line * LINE, DOTS)
        top += _row_height(placed)
    if key:
        x, base = float(LABEL), top + FIRST_BASE
        ax.plot([0, width], [top - 2.6] * 2, color="0.85", linewidth=0.4)
        write(0, base, "Score", size=TEXT_SIZE + 0.5)
        for ratio in (-3, 1, 3, 8) if (values < 0).any() else (1, 3, 8):
            box(x, base, 9, ratio)
            said = f"{ratio}/n".replace("-", "−")
            write(x + 11, base, said)
            x += 20 + _width(said)
        if kept is not None:
            write(x, base, "dropped", color=paper.GREY)
            x += _width("dropped") + 9
        if document.rationale.any():
            write(x, base, "human rationale")
            lines.append([(x, base + UNDERLINE), (x + _width("human rationale"), base + UNDERLINE)])
    patches, colors = zip(*boxes, strict=True) if boxes else ((), ())
    ax.add_collection(PatchCollection(patches, facecolors=colors, linewidths=0, zorder=0), autolim=False)
    ax.add_collection(LineCollection(lines, colors=paper.BLUE, linewidths=1.0, zorder=2), autolim=False)


# Heat map


def plot_heatmap(
    document: DocumentScores, method: str, ax: Axes, *, signed: bool = False, layerwise: bool | None = None
) -> AxesImage:
    """Each token's score at each layer; blank: not there any more; blue strip above: human rationale; signed: violet
    for scores below 0."""
    values = ratios(document, method)  # (L, n)
    if (there := present(document, method)) is not None:
        values = np.where(there, values, np.nan)
    levels = np.sign(values) * np.log1p(np.minimum(np.abs(values), paper.FULL_SHADE))
    top = math.log1p(paper.FULL_SHADE)
    look: dict[str, Any] = {"cmap": SIGNED, "vmin": -top} if signed else {"cmap": UNSIGNED, "vmin": 0}
    image = ax.imshow(levels, aspect="auto", vmax=top, interpolation="none", **look)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_xlim(-0.5, len(document) - 0.5)
    n_layers = len(values)
    layerwise = n_layers > 1 if layerwise is None else layerwise
    ticks = list(range(0, n_layers, paper.layer_step(n_layers)))
    ax.set_yticks(ticks, [str(tick) for tick in ticks] if layerwise else ["in"])
    ax.tick_params(length=0)
    strip = 3.0 / (ax.get_window_extent().height * 72 / ax.figure.dpi)
    marks = [Rectangle((token - 0.5, 1.02), 1, strip) for token in np.flatnonzero(document.rationale)]
    look = {"facecolor": paper.BLUE, "linewidth": 0, "transform": ax.get_xaxis_transform(), "clip_on": False}
    ax.add_collection(PatchCollection(marks, **look), autolim=False)
    return image


def token_names(document: DocumentScores, size: float) -> list[str]:
    """The tokens as they stand along an axis, long ones such as web addresses shortened."""
    return paper.shortened([_text(document, token) for token in range(len(document))], LONGEST_TOKEN, size)


@paper.styled
def heatmaps_figure(
    document: DocumentScores,
    methods: Sequence[str],
    *,
    titles: Mapping[str, str],
    layerwise: Mapping[str, bool],
    style: str = "acl",
) -> Figure:
    """Scores of a document by layer and token, a panel a method, above up to MOST_TOKENS tokens, or the positions of
    more. titles: as matplotlib takes them."""
    width, heights = paper.venue(style).text, [max(2, min(8, len(document.scores[method]))) + 2.2 for method in methods]
    signed = any((document.scores[method] < 0).any() for method in methods)
    meaning = "Score / uniform score"
    rows = max(0.11 * sum(heights), paper.text_width(meaning, float(paper.STYLE["axes.labelsize"])) / 72)  # inches
    names = token_names(document, TEXT_SIZE) if len(document) <= MOST_TOKENS else []
    longest = max(map(_width, names), default=0.0) / 72
    turned = bool(names) and longest + 2 / 72 > (width - SIDE) / len(names)  # too long to stand side by side
    figure = paper.PaperFigure(figsize=(width, rows + 0.45 + longest * turned), layout="constrained")
    axes = figure.subplots(len(methods), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
    for ax, method in zip(axes, methods, strict=True):
        image = plot_heatmap(document, method, ax, signed=signed, layerwise=layerwise.get(method))
        ax.set_title(titles.get(method, method), loc="left", pad=6)
    if names:
        look: dict[str, Any] = {"size": TEXT_SIZE, "family": paper.FAMILIES, "parse_math": False}
        axes[-1].set_xticks(range(len(names)), names, rotation=90 * turned, **look)
    else:
        axes[-1].set_xlabel("Token")
    figure.supylabel("Layer", fontsize=8)
    bar = figure.colorbar(image, ax=axes, fraction=0.025, pad=0.01, aspect=30)
    ticks = [-paper.FULL_SHADE, -2, 0, 2, paper.FULL_SHADE] if signed else [0, 1, 2, 4, paper.FULL_SHADE]
    shown = [f"{'≥' if tick == paper.FULL_SHADE else '≤' if tick == -paper.FULL_SHADE else ''}{tick}" for tick in ticks]
    bar.set_ticks([math.copysign(math.log1p(abs(t)), t) for t in ticks], labels=[t.replace("-", "−") for t in shown])
    bar.set_label(meaning)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return figure


def heatmap_figure(
    report: RationaleReport, *, example: int = 0, methods: Sequence[str] | str | None = None, style: str = "acl"
) -> Figure:
    """Scores of an example by layer and token, a panel a method that it has scores of (default: up to four, the
    paper's first)."""
    document = report.examples[example]
    names = [name for name in paper.select(report, methods) if name in document.scores]
    if not methods:
        order = [*OF_REMOVAL, "saliency", "attention", "rollout", *names]
        names = sorted((name for name in names if name != "random"), key=order.index)[:4]
    if not names:
        raise ArgumentError(f"document {document.id}: has no scores of {', '.join(methods or ['any method'])}")
    titles = {name: paper.label(report, name) for name in names}
    layerwise = {name: report.is_layerwise(name) for name in names}
    return heatmaps_figure(document, names, titles=titles, layerwise=layerwise, style=style)


# Bars: one layer


class Level(NamedTuple):
    """A line across a panel of bars, with a name at its right end."""

    value: float
    name: str
    dashed: bool = False


def plot_bars(document: DocumentScores, method: str, layer: int, ax: Axes, *, levels: Sequence[Level] = ()) -> None:
    """One bar a token: its score at a layer, amber above 0 and violet below. Hollow: the model drops it there; a grey
    cross: it was dropped before."""
    scores, position = document.scores[method][layer], np.arange(len(document))
    kept = np.ones(len(document), dtype=bool)
    if (there := present(document, method)) is not None and document.retention is not None:
        kept, gone = document.retention[layer], np.flatnonzero(~there[layer])
        if gone.size:
            ax.plot(gone, 0.0 * gone, "x", color=paper.GREY, markersize=3, markeredgewidth=0.7, clip_on=False)
    colors = np.where(scores < 0, paper.VIOLET, paper.AMBER)
    ax.bar(position, scores, width=0.75, color=np.where(kept, colors, "none"), edgecolor=colors, linewidth=0.6)
    highest = max((level.value for level in levels), default=0.0)
    for level in levels:
        ax.axhline(level.value, color="0.35", linewidth=0.7, linestyle=(0, (4, 2)) if level.dashed else "-")
        look: dict[str, Any] = {"textcoords": "offset points", "size": 6.5, "color": "0.35", "annotation_clip": False}
        place: Any = {"xycoords": ax.get_yaxis_transform(), "va": "bottom" if level.value == highest else "top"}
        ax.annotate(level.name, (1, level.value), xytext=(2, 0), **place, **look)
    if (scores < 0).any():
        ax.axhline(0, color="0.3", linewidth=0.6)
    ax.set_xlim(-0.6, len(document) - 0.4)
    ax.grid(False, axis="x")
    ax.tick_params(axis="x", length=0)
    paper.short_numbers(ax)


@paper.styled
def bars_figure(
    document: DocumentScores, panels: Sequence[tuple[str, str, int, Sequence[Level]]], *, style: str = "acl"
) -> Figure:
    """Panels of bars below each other; a panel is (title, method, row of its scores, levels)."""
    size, n = float(paper.STYLE["axes.titlesize"]), len(document)
    names = token_names(document, float(paper.STYLE["xtick.labelsize"]))
    longest = max(paper.text_width(title, size) for title, *_ in panels) / 72
    beside = 0.45 + max((_width(level.name) for *_, levels in panels for level in levels), default=0.0) / 72
    width = min(paper.venue(style).text, max(paper.venue(style).column, 0.24 * n + 0.7, longest + beside))
    deep = math.sin(math.radians(60)) * max(paper.text_width(name, 7.5) for name in names) / 72
    figure = paper.PaperFigure(figsize=(width, 1.0 * len(panels) + 0.25 + deep), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0].tolist()
    for ax, (title, method, row, levels) in zip(axes, panels, strict=True):
        plot_bars(document, method, row, ax, levels=levels)
        _set_title(ax, title, 72 * (width - beside))
    axes[-1].set_xticks(range(n), list(map(paper.literal, names)), rotation=60, ha="right", rotation_mode="anchor")
    for token in np.flatnonzero(document.rationale):
        axes[-1].get_xticklabels()[token].set(color=paper.BLUE, fontweight="bold")
    return figure
