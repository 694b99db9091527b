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
LONG = 45  # rows; what is longer than a page becomes several tables, as a float is never broken
LAST_LATIN = "\u017f"  # pdflatex knows letters up to here, as far as fonts go
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho varsigma sigma tau upsilon phi "
    "chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
MATH = dict(zip("αβγδεζηθικλμνξπρςστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", _GREEK.split(), strict=True))
MATH |= {"≤": "leq", "≥": "geq", "→": "rightarrow", "∞": "infty"}
PRINTED = "‘’“”–—…"  # beyond LAST_LATIN, and known to pdflatex all the same


def markdown(report: ReportData, metrics: Sequence[str] | str | None = None) -> str:
    """One table a metric, the best of a layer in bold, with a line on what it was computed from."""
    lines, shown = [escape_markdown(note(report))], listed("metrics", metrics or main_metrics(report))
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
    """A `table*` with one block a metric, the best of a layer in bold; needs the package booktabs.

    Several of them where one would be longer than a page. Letters that pdflatex has not are named in a comment.
    """
    wide, shown = report.n_layers > WIDE, listed("metrics", metrics or main_metrics(report))
    blocks = []
    for metric in shown:
        lines = _heading(metric_title(metric), report)
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
        blocks.append(lines)
    for title, by_method in ({} if metrics else eraser_cells(report)).items():
        lines = _heading(f"{HEADING}: {title}", report)
        for name, values in by_method.items():
            row_text = " & ".join(_cell(value, 2 if wide else 3) for value in values)
            if not report.is_layerwise(name):
                row_text = rf"\multicolumn{{{report.n_layers}}}{{l}}{{{row_text} (input)}}"
            lines.append(rf"{escape(report.title(name))} & {row_text} \\")
        blocks.append(lines)
    caption = [note(report), scopes(report), legend(report, shown)]
    text = escape(" ".join(part for part in caption if part)).replace("p < .05", "$p < .05$")
    label = f"tab:rationales-{_slug(report)}"
    parts = _pages(blocks) or [[]]
    tables = [_float(parts[0], report, caption=text, label=label)]
    for number_of, part in enumerate(parts[1:], start=2):
        again = rf"Continues Table~\ref{{{label}}}."
        tables.append(_float(part, report, caption=again, label=f"{label}-{number_of}"))
    whole = "\n\n".join(tables) + "\n"
    unknown = sorted({letter for letter in whole if letter > LAST_LATIN and letter not in PRINTED})
    return (f"% pdflatex has not: {' '.join(unknown)} (XeLaTeX and LuaLaTeX do)\n" if unknown else "") + whole


def _heading(title: str, report: ReportData) -> list[str]:
    """The first lines of a block."""
    return [r"\midrule", rf"\multicolumn{{{report.n_layers + 1}}}{{l}}{{\textit{{{escape(title)}}}}} \\"]


def _pages(blocks: Sequence[list[str]]) -> list[list[str]]:
    """The lines of whole blocks, as many as a page takes; one block at least."""
    pages: list[list[str]] = []
    for lines in blocks:
        if pages and len(pages[-1]) + len(lines) <= LONG:
            pages[-1] += lines
        else:
            pages.append(list(lines))
    return pages


def _float(body: Sequence[str], report: ReportData, *, caption: str, label: str) -> str:
    """One `table*`. body: lines of its rows. caption: as LaTeX."""
    wide = report.n_layers > WIDE
    lines = [r"\begin{table*}[t]", r"\centering", r"\scriptsize" if wide else r"\small"]
    if wide:
        lines.append(r"\setlength{\tabcolsep}{2.5pt}")
    heads = " & ".join(str(layer) for layer in range(report.n_layers))
    lines += [rf"\begin{{tabular}}{{l{'r' * report.n_layers}}}", r"\toprule", rf"Layer & {heads} \\", *body]
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", rf"\label{{{label}}}", r"\end{table*}"]
    return "\n".join(lines)


def _cell(value: float, decimals: int, *, best: bool = False, differs: bool = False) -> str:
    if math.isnan(value):
        return "--"
    text = number(value, decimals)
    # \rlap: a star takes no room, so that the digits of a column stay under each other
    return (rf"$\mathbf{{{text}}}$" if best else f"${text}$") + (r"\rlap{$^*$}" if differs else "")


def escape(text: str) -> str:
    r"""LaTeX's special characters, escaped: `50 %` -> `50 \%`. Greek letters and some signs become mathematics."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"[": "{[}", "]": "{]}"}  # a row must not start with a bare [ after the break
    special |= {character: "\\" + character for character in "&%$#_{}"}
    special |= {character: rf"$\{name}$" for character, name in MATH.items()} | {"−": "$-$"}
    return "".join(special.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
    r"""`|` would end the cell of a table and `*` start bold print: `a|b` -> `a\|b`."""
    return "".join("\\" + character if character in "|*<`\\" else character for character in text)


def _slug(report: ReportData) -> str:
    text = f"{report.meta['data']['name']}-{report.meta['split']}"
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text)
