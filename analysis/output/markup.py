"""Tables of a report as Markdown and as LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.documents.values import listed
from analysis.output.eraser_table import HEADING, eraser_cells
from analysis.output.tables import legend, main_metrics, note, rows, scopes
from analysis.results.report import ReportData
from analysis.results.wording import metric_title, number

WIDE = 12  # layers; more of them get two decimals and small print, to fit the text width of a paper


def markdown(report: ReportData, metrics: Sequence[str] | str | None = None) -> str:
    """One table a metric, the best of a layer in bold, with a line on what it was computed from."""
    lines, shown = [note(report)], listed("metrics", metrics or main_metrics(report))
    if marks := legend(report, shown):
        lines += ["", escape_markdown(marks)]
    if said := scopes(report):
        lines += ["", escape_markdown(said)]
    for metric in shown:
        heads = [str(layer) for layer in range(report.n_layers)]
        lines += ["", f"**{metric_title(metric)}**", "", "| layer | " + " | ".join(heads) + " |"]
        lines.append("|---|" + "---:|" * report.n_layers)
        for row in rows(report, metric):
            if row.layerwise:
                texts = [
                    (f"**{number(value)}**" if best else number(value)) + (r"\*" if differs else "")
                    for value, best, differs in zip(row.mean, row.best, row.differs, strict=True)
                ]
            else:
                texts = [f"{number(row.mean[0])} (input)"] + [""] * (report.n_layers - 1)
            lines.append(f"| {escape_markdown(row.method)} | " + " | ".join(texts) + " |")
    for title, by_method in ({} if metrics else eraser_cells(report)).items():
        lines += ["", f"**{HEADING}: {title}**", "", "| layer | " + " | ".join(map(str, range(report.n_layers))) + " |"]
        lines.append("|---|" + "---:|" * report.n_layers)
        for name, values in by_method.items():
            at_input = "" if report.is_layerwise(name) else " (input)"
            texts = [number(value) + at_input for value in values] + [""] * (report.n_layers - len(values))
            lines.append(f"| {escape_markdown(name)} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def latex(report: ReportData, metrics: Sequence[str] | str | None = None) -> str:
    """A `table*` with one block a metric, the best of a layer in bold; needs the package booktabs."""
    wide = report.n_layers > WIDE
    columns = report.n_layers + 1
    heads = " & ".join(str(layer) for layer in range(report.n_layers))
    lines = [r"\begin{table*}[t]", r"\centering", r"\scriptsize" if wide else r"\small"]
    if wide:
        lines.append(r"\setlength{\tabcolsep}{2.5pt}")
    lines.append(rf"\begin{{tabular}}{{l{'r' * report.n_layers}}}")
    lines += [r"\toprule", rf"Layer & {heads} \\"]
    shown = listed("metrics", metrics or main_metrics(report))
    for metric in shown:
        title = escape(metric_title(metric))
        lines += [r"\midrule", rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{title}}}}} \\"]
        for row in rows(report, metric):
            decimals = 2 if wide else 3
            if row.layerwise:
                cells = [
                    _cell(value, decimals, best=best, differs=differs)
                    for value, best, differs in zip(row.mean, row.best, row.differs, strict=True)
                ]
                text = " & ".join(cells)
            else:
                text = rf"\multicolumn{{{report.n_layers}}}{{l}}{{{_cell(row.mean[0], decimals)} (input)}}"
            lines.append(rf"{escape(row.title)} & {text} \\")
    for title, by_method in ({} if metrics else eraser_cells(report)).items():
        said = escape(f"{HEADING}: {title}")
        lines += [r"\midrule", rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{said}}}}} \\"]
        for name, values in by_method.items():
            row_text = " & ".join(_cell(value, 2 if wide else 3) for value in values)
            if not report.is_layerwise(name):
                row_text = rf"\multicolumn{{{report.n_layers}}}{{l}}{{{row_text} (input)}}"
            lines.append(rf"{escape(report.title(name))} & {row_text} \\")
    caption = [note(report), scopes(report), legend(report, shown)]
    text = escape(" ".join(part for part in caption if part)).replace("p < .05", "$p < .05$")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{text}}}"]
    lines += [rf"\label{{tab:rationales-{_slug(report)}}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _cell(value: float, decimals: int, *, best: bool = False, differs: bool = False) -> str:
    if math.isnan(value):
        return "--"
    text = number(value, decimals)
    # \rlap: a star takes no room, so that the digits of a column stay under each other
    return (rf"$\mathbf{{{text}}}$" if best else f"${text}$") + (r"\rlap{$^*$}" if differs else "")


def escape(text: str) -> str:
    r"""LaTeX's special characters, escaped: `50 %` -> `50 \%`."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"[": "{[}", "]": "{]}"}  # a row must not start with a bare [ after the break
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
    r"""`|` would end the cell of a table and `*` start bold print: `a|b` -> `a\|b`."""
    return "".join("\\" + character if character in "|*<`\\" else character for character in text)


def _slug(report: ReportData) -> str:
    text = f"{report.meta['data']['name']}-{report.meta['split']}"
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text)
