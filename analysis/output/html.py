"""A report as one HTML page: no other file, no script, no network.

Text of documents, names of methods and paths come from outside: all of it is escaped, and a content security
policy forbids whatever would be left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from adapler.errors import counted
from analysis import figures
from analysis.output import html_tokens
from analysis.output.eraser_table import HEADING, eraser_cells
from analysis.output.tables import cells as cells_of
from analysis.output.tables import legend, main_metrics, note, reference_of, rows, scopes
from analysis.results.report import ReportData
from analysis.results.wording import HOLM_FAMILY, judges_rationales, metric_title, number

STYLE_SHEET = Path(__file__).with_name("report.css")
FIGURE_TITLES = {
    "agreement": "Metrics by layer",
    "lengths": "Tokens that enter each layer",
    "precision_recall": "Precision and recall",
    "correlation": "Rank correlation of the methods",
    "faithfulness": "Faithfulness",
    "document": "A document, layer by layer",
    "heatmap": "Scores of a document",
}
SCREEN = 160  # pixels for an inch of paper: print is held closer than a screen
LEAST = 98  # on a narrow screen; a wide figure then scrolls
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: ReportData, drawn: Mapping[str, str] | None = None) -> str:
    """The whole page.

    drawn: SVG files by kind of figure, where `figures.save_all` wrote them; what is not there is drawn.
    """
    name = f"{report.meta['data']['name']}, {report.meta['split']}"
    what = "Rationales" if judges_rationales(report.metrics) else "Scores"
    parts = [
        f"<h1>{what}: {escape(name)}</h1>",
        f"<p>{escape(note(report))}</p>",
        _facts(report),
        "<h2>Figures</h2>",
        *(_figure(report, kind, drawn or {}) for kind in figures.kinds(report) if kind != "document"),
        "<h2>Tables</h2>",
        "<p>Mean over documents, and below it the 95 % bootstrap interval. "
        f"{escape(legend(report, main_metrics(report)))}</p>",
        f"<p>{escape(scopes(report))}</p>" if scopes(report) else "",
        *(_table(report, metric) for metric in main_metrics(report)),
        *(_eraser_table(report, title, values) for title, values in eraser_cells(report).items()),
        *_comparisons(report),
        *html_tokens.examples(report),
        "<h2>How this was made</h2>",
        _provenance(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{what}: {escape(name)}</title>\n"
        f"<style>\n{STYLE_SHEET.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def summary_table(report: ReportData) -> str:
    """A small table without styles of its own, for a notebook: the first two main metrics, means only."""
    scored = len(report.documents) - report.n_skipped
    name = f"{report.meta['data']['name']} {report.meta.get('split', '')}"
    heads = "".join(f"<th>{layer}</th>" for layer in range(report.n_layers))
    parts = [f"<p><b>{escape(name)}</b>, {counted(scored, 'document')} scored, {report.n_skipped} skipped</p>"]
    for metric in main_metrics(report)[:2]:
        lines = []
        for method, means in cells_of(report, metric).items():
            values = "".join(f"<td>{_minus(number(mean))}</td>" for mean in means)
            lines.append(f"<tr><th>{escape(report.title(method))}</th>{values}</tr>")
        title = escape(metric_title(metric))
        parts.append(f"<table><caption>{title}</caption><tr><th>layer</th>{heads}</tr>{''.join(lines)}</table>")
    return "<div>" + "".join(parts) + "</div>"


def _facts(report: ReportData) -> str:
    scored = len(report.documents) - report.n_skipped
    lost = report.meta.get("truncation") or {}
    no_model = report.meta.get("tokens") == "words"
    units = "words" if no_model or report.meta.get("aggregation", "none") != "none" else "tokens"
    facts = [
        ("Documents", f"{scored}", f"scored; {report.n_skipped} skipped"),
    ]
    if judges_rationales(report.metrics):
        facts.append(("Rationale density", number(report.meta.get("density")), f"of the {units} in view"))
        facts.append(("AP at chance", number(report.meta.get("chance_average_precision")), "random scores"))
    if not no_model:
        facts.append(("Accuracy", number(report.accuracy), "fine-tuned classifier"))
    if lost.get("rationale_words"):
        seen = 1 - lost["rationale_words_lost"] / lost["rationale_words"]
        view = "whole documents" if no_model else f"policy {report.meta['policy']}"
        facts.insert(1, ("Rationale in view", f"{seen:.0%}", view))
    if report.adapler_accuracy is not None:
        facts.append(("AdapLeR accuracy", number(report.adapler_accuracy), f"same label on {number(report.agreement)}"))
    if report.speedup is not None:
        facts.append(("Speedup", f"{report.speedup:.2f}×", "fewer FLOPs with AdapLeR"))
    cards = (f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in facts)
    return f'<dl class="facts">{"".join(cards)}</dl>'


def _figure(report: ReportData, kind: str, known: Mapping[str, str]) -> str:
    title = FIGURE_TITLES[kind]
    options: dict[str, Any] = {}
    if kind == "heatmap":  # of the first one with scores: saved ones need not be there for every document
        index, example = next((i, one) for i, one in enumerate(report.examples) if one.scores)
        title, options = f"Scores of document {example.id}", {"example": index}
    title = html_tokens.visible(title)
    drawn = svg(known[kind] if kind in known else figures.svg_file(figures.draw(report, kind, **options)), kind, title)
    return f'<figure tabindex="0">{drawn}<figcaption>{title}</figcaption></figure>'  # scrolls, also by keyboard


def svg(file: str, name: str, title: str) -> str:
    """An <svg> element to put into a page, its ids made different from those of other figures.

    file: as matplotlib writes it. title: as HTML.
    """
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", file[file.index("<svg") :], flags=re.DOTALL).strip()
    inches = float(re.search(r'width="([\d.]+)pt"', text)[1]) / 72  # type: ignore[index]
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    size = f"width:{SCREEN * inches:.0f}px;min-width:{LEAST * inches:.0f}px"
    return text.replace("<svg", f'<svg role="img" aria-label="{title}" style="{size}"', 1)


def _table(report: ReportData, metric: str) -> str:
    body = []
    for row in rows(report, metric):
        if row.layerwise:
            cells = "".join(
                _cell(mean, low, high, best=best, differs=differs)
                for mean, low, high, best, differs in zip(
                    row.mean, row.low, row.high, row.best, row.differs, strict=True
                )
            )
        else:
            value = _value(row.mean[0], row.low[0], row.high[0])
            cells = f'<td class="input" colspan="{report.n_layers}">{value} <small>input</small></td>'
        body.append(f'<tr><th scope="row">{escape(row.title)}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{layer}</th>' for layer in range(report.n_layers))
    return _wide(
        f"<table><caption>{escape(metric_title(metric))}</caption>"
        f'<thead><tr><th scope="col">Layer</th>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def _eraser_table(report: ReportData, title: str, by_method: Mapping[str, Sequence[float]]) -> str:
    """ERASER's own scores, of all documents together."""
    body = []
    for method, values in by_method.items():
        at_input = "" if report.is_layerwise(method) else f' class="input" colspan="{report.n_layers}"'
        cells = "".join(f"<td{at_input}>{_minus(number(value))}</td>" for value in values)
        body.append(f'<tr><th scope="row">{escape(report.title(method))}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{layer}</th>' for layer in range(report.n_layers))
    return _wide(
        f"<table><caption>{escape(f'{HEADING}: {title}')}</caption>"
        f'<thead><tr><th scope="col">Layer</th>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def _cell(mean: float, low: float, high: float, *, best: bool, differs: bool) -> str:
    marks = ' class="best"' if best else ""
    return f"<td{marks}>{_value(mean, low, high)}{'<sup>*</sup>' if differs else ''}</td>"


def _value(mean: float, low: float, high: float) -> str:
    if math.isnan(mean):
        return "–"
    return f"<b>{_minus(number(mean))}</b><i>{_minus(number(low, 2))} – {_minus(number(high, 2))}</i>"


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _comparisons(report: ReportData) -> Iterable[str]:
    """A table a metric, folded: difference, interval, p, effect size and share of documents won."""
    reference = reference_of(report)
    if reference is None:
        return
    yield f"<h2>{escape(report.title(reference))} against the other methods</h2>"
    yield (
        f"<p>{escape(report.title(reference))} minus the other method on the same documents; paired permutation test, "
        f"{HOLM_FAMILY}. Won: share of documents on which it is better.</p>"
    )
    heads = ("Method", "Layer", "Difference", "95 % interval", "p", "p (Holm)", "d<sub>z</sub>", "Won", "n")
    for metric in main_metrics(report):
        body = []
        for record in report.comparisons(reference, metric).to_dict("records"):
            if not record["n"]:
                continue
            cells = [
                _minus(number(record["difference"])) + ("<sup>*</sup>" if record["p_holm"] < 0.05 else ""),
                f"{_minus(number(record['low']))} – {_minus(number(record['high']))}",
                _p(record["p"]),
                _p(record["p_holm"]),
                _minus(f"{record['d_z']:.2f}") if not math.isnan(record["d_z"]) else "–",
                f"{record['won']:.0%}",
                f"{record['n']}",
            ]
            body.append(
                f'<tr><th scope="row">{escape(report.title(record["method"]))}</th><td>{record["layer"]}</td>'
                + "".join(f"<td>{cell}</td>" for cell in cells)
                + "</tr>"
            )
        yield (
            f"<details><summary>{escape(metric_title(metric))}</summary>"
            + _wide(
                f'<table class="plain"><caption class="unseen">{escape(metric_title(metric))}</caption>'
                f"<thead><tr>{''.join(f'<th scope=col>{head}</th>' for head in heads)}</tr></thead>"
                f"<tbody>{''.join(body)}</tbody></table>"
            )
            + "</details>"
        )


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "&lt; .001" if value < 0.001 else number(value)


def _provenance(report: ReportData) -> str:
    """Everything in `meta`, as it is; nested values one below the other."""
    lines = "".join(
        f"<tr><th scope='row'>{escape(key.replace('_', ' '))}</th><td>{_nested(value)}</td></tr>"
        for key, value in report.meta.items()
        if value not in (None, {}, []) and key != "eraser_scores"  # which have tables
    )
    return _wide(f'<table class="plain meta"><tbody>{lines}</tbody></table>')


def _nested(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{escape(str(key))}: {_nested(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_nested(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    text = escape(str(value))
    return f'<a href="{text}" rel="noreferrer">{text}</a>' if re.fullmatch(r"https://[^\s\"'<>]+", str(value)) else text


def _wide(table: str) -> str:
    return f'<div class="wide" tabindex="0">{table}</div>'  # scrolls, also by keyboard
