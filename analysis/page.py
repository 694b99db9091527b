"""Reports and explanations as HTML: self-contained, without scripts; Jinja2 escapes whatever comes from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.colors import to_rgb

from adapler.options import counted
from analysis import figures
from analysis.figures import paper
from analysis.figures.tokens import main_method, present, ratios, shade, starts_word, token_text, visible

if TYPE_CHECKING:
    from analysis.explanation import Explanation, MethodScores
    from analysis.figures.tokens import DocumentScores
    from analysis.report import RationaleReport

STEPS = 8  # shades
TIPS = 200  # tokens; in a longer text a token has no tip with its numbers, which would make the page large
UNFOLDED = 80  # tokens; of a longer text only the first method is unfolded
FIGURE_TITLES = {
    "agreement": "Metrics by layer",
    "lengths": "Tokens that enter each layer",
    "precision_recall": "Precision and recall",
    "correlation": "Rank correlation of the methods",
    "faithfulness": "Faithfulness",
    "heatmap": "Scores of a document, layer by layer",
}
RESULTS = ("documents", "examples", "eraser_scores", "correlations", "curves", "curve_errors")  # in a report's meta
SCREEN = 160  # pixels for an inch of paper: print is held closer than a screen
LEAST = 98  # on a narrow screen; a wide figure then scrolls


def _minus(value: float | None, decimals: int = 3) -> str:
    return paper.number(value, decimals).replace("-", "−") if value is not None and value == value else "–"


def _p(value: float | None) -> str:
    return "< .001" if value is not None and value < 0.001 else _minus(value)


def _rgb(color: str) -> str:
    return ", ".join(str(round(255 * part)) for part in to_rgb(color))


_ENVIRONMENT = Environment(
    loader=PackageLoader("analysis"), autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
_ENVIRONMENT.filters.update(number=_minus, p=_p, title=paper.metric_title, counted=counted, visible=visible)
_ENVIRONMENT.globals.update(steps=STEPS, full=paper.FULL_SHADE, family=paper.HOLM_FAMILY)
_ENVIRONMENT.globals.update(amber=_rgb(paper.AMBER), violet=_rgb(paper.VIOLET), blue=paper.BLUE, grey=paper.GREY)


def render(template: str, **values: Any) -> str:
    return _ENVIRONMENT.get_template(template).render(**values)


def report_page(report: RationaleReport, drawn: Mapping[str, str]) -> str:
    """The whole page. drawn: SVG files by kind of figure; what is not there is drawn."""
    pictures = []
    for kind in figures.kinds(report):
        if title := FIGURE_TITLES.get(kind):
            svg = drawn.get(kind) or figures.svg_file(figures.draw(report, kind))
            pictures.append((title, _svg(svg, kind, title)))
    comparisons = {}
    for metric in report.main_metrics() if report.reference else ():
        frame = report.comparisons(report.reference, metric)
        comparisons[metric] = frame[frame["n"] > 0].to_dict("records")
    documents = [document for document in report.examples if document.scores]
    grids = []
    for document in documents:
        names = sorted(document.scores, key=main_method(document).__ne__)
        grids.append((document, [(name, token_rows(document, name, report.is_layerwise(name))) for name in names]))
    return render(
        "report.html",
        report=report,
        judged=paper.judges_rationales(report.metrics),
        pictures=pictures,
        tables=report.tables(),
        comparisons=comparisons,
        grids=grids,
        signed=any((rows < 0).any() for document in documents for rows in document.scores.values()),
        provenance={k: value for k, value in report.meta.items() if value not in (None, {}, []) and k not in RESULTS},
    )


def summary_tables(report: RationaleReport) -> str:
    """The first two main metrics, means only, without styles of their own: for a notebook."""
    return render("summary.html", report=report, tables=[report.table(name) for name in report.main_metrics()[:2]])


def _svg(file: str, name: str, title: str) -> Markup:
    """An <svg> element to put into a page, its ids made different from those of other figures."""
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", file[file.index("<svg") :], flags=re.DOTALL).strip()
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    width = re.search(r'width="([\d.]+)pt"', text)
    inches = float(width[1]) / 72 if width else 6.0
    size = f"width:{SCREEN * inches:.0f}px;min-width:{LEAST * inches:.0f}px"
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{title}" style="{size}"', 1))  # noqa: S704


def token_rows(
    document: DocumentScores, method: str, layerwise: bool, tips: Sequence[Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """The text at each layer of one method, for the macro `rows` of tokens.html: runs of tokens that look the same.

    tips: (L', n) what hovering over a token says; then every token is a run of its own.
    """
    kept = document.retention if present(document, method) is not None else None
    rows = []
    for layer, line in enumerate(ratios(document, method)):
        here = np.ones(len(document), dtype=bool) if kept is None else kept[layer]
        css = [look(ratio) if there else "x" for ratio, there in zip(line.tolist(), here, strict=True)]
        row = {"name": f"Layer {layer}" if layerwise else "Input", "count": None if kept is None else int(here.sum())}
        rows.append(row | {"parts": list(_parts(document, css, None if tips is None else tips[layer]))})
    return rows


def explanation_fragment(explained: Explanation) -> str:
    """HTML that a notebook shows: for each method, the whole text at every layer."""
    document, blocks = explained.document(), []
    for method in explained.methods.values():
        about = [method.scope, f"target {method.target}" if method.target else "", *method.checks()]
        about.append("signed" if method.signed else "n = tokens present" if method.present is not None else "")
        layers = range(len(method.scores)) if explained.n <= TIPS else ()
        tips = [[_tip(explained, method, layer, token) for token in range(explained.n)] for layer in layers]
        rows = token_rows(document, method.name, method.layerwise, tips or None)
        blocks.append((method.title, "; ".join(part for part in about if part), rows))
    methods = explained.methods.values()
    return render(
        "explanation.html",
        explained=explained,
        blocks=blocks,
        unfolded=explained.n <= UNFOLDED,
        signed=any(method.signed for method in methods),
        drops=any(method.of_removal for method in methods),
    )


def explanation_page(explained: Explanation) -> str:
    """The same as a standalone page."""
    return render("page.html", name=explained.name, body=Markup(explanation_fragment(explained)))  # noqa: S704


def _tip(explained: Explanation, method: MethodScores, layer: int, token: int) -> str:
    """Tooltip of a token."""
    name = visible(explained.tokens[token])
    if method.present is not None and not method.present[layer, token]:
        return f"{name} | {'dropped before this layer' if method.of_removal else 'not among the tokens scored here'}"
    score = float(method.scores[layer, token])
    said = f"{name} | score {score:.4g}"
    said += "" if method.signed else f" = {score * method.n_present[layer]:.2f}/n"
    if method.of_removal and explained.kept is not None:
        said += "" if explained.thresholds is None else f" | threshold {explained.thresholds[layer]:.4g}"
        said += " | kept" if explained.kept[layer, token] else " | dropped here"
    return said


def look(ratio: float) -> str:
    """CSS class of a token: "s1" to "s8" for a score, "n1" to "n8" for one against the target, "" for none."""
    level = round(STEPS * shade(abs(ratio)))
    return f"{'n' if ratio < 0 else 's'}{level}" if level else ""


def _parts(
    document: DocumentScores, css: Sequence[str], tips: Sequence[str] | None
) -> Iterator[tuple[str, bool, list[tuple[str, str, str, str]]]]:
    """(space before, whether in the rationale, its runs: (space before, CSS class, tip, text))."""
    spaces = [" " if starts_word(document.words, token) else "" for token in range(len(document))]
    for gold, part in groupby(range(len(document)), key=lambda token: bool(document.rationale[token])):
        start, *_ = tokens = list(part)
        runs: list[tuple[str, str, str, str]] = []
        for _, group in groupby(tokens, key=lambda token: (css[token], tips and token)):
            first, *rest = group
            text = token_text(document.tokens[first])
            text += "".join(spaces[token] + token_text(document.tokens[token]) for token in rest)
            runs.append((spaces[first] if runs else "", css[first], tips[first] if tips else "", text))
        yield spaces[start], gold, runs
