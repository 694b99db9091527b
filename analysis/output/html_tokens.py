"""The examples of a report as HTML: the whole text at each layer, shaded by score.

Neighbours that look the same share one element, which keeps a long document small.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from adapler.errors import counted
from analysis.figures.token_scores import FULL_SHADE, main_method, present, ratios, shade, token_text
from analysis.results.records import DocumentScores
from analysis.results.report import ReportData

STEPS = 8  # shades; class s0 is the palest, s8 the darkest


def examples(report: ReportData) -> Iterable[str]:
    """A section a document, with one folded block a method; the first document's main method is open."""
    drawn = [document for document in report.examples if document.scores]
    if not drawn:
        return
    yield "<h2>Documents, token by token</h2>"
    signed = any((values < 0).any() for document in drawn for values in document.scores.values())
    against = ", orange above 0 and blue below" if signed else ""
    yield (
        f"<p>Shade: the score, from none to {FULL_SHADE} times the uniform one{against}. "
        "<u>Underlined</u>: the human rationale. <s>Pale</s>: a token that is not in that layer any more.</p>"
    )
    for index, document in enumerate(drawn):
        yield f'<section class="document"><h3>{visible(document.id)}</h3><p>{_labels(document)}</p>'
        first = main_method(document)
        for method in sorted(document.scores, key=lambda name: name != first):
            opened = " open" if method == first and index == 0 else ""
            rows = grid(document, method, layerwise=report.is_layerwise(method))
            yield f"<details{opened}><summary>{escape(report.title(method))}</summary>{rows}</details>"
        yield "</section>"


def _labels(document: DocumentScores) -> str:
    labels = (("gold label", document.label), ("prediction", document.prediction))
    facts = [f"{name} {visible(value)}" for name, value in labels if value is not None]
    return "; ".join(
        [*facts, f"{counted(len(document), 'token')}, {int(document.rationale.sum())} of them in the rationale"]
    )


def grid(document: DocumentScores, method: str, *, layerwise: bool) -> str:
    """All layers of one method under each other."""
    values = ratios(document, method)  # (L, n)
    kept = document.retention if present(document, method) is not None else None
    layers = []
    for layer, row in enumerate(values):
        enters = None if kept is None else kept[layer]
        count = "" if enters is None else f"<small>{counted(int(enters.sum()), 'token')}</small>"
        name = f"Layer {layer}" if layerwise else "Input"
        layers.append(f'<div class="layer"><div>{name}{count}</div><p>{text(document, row, enters)}</p></div>')
    return f'<div class="grid">{"".join(layers)}</div>'


def text(document: DocumentScores, row: NDArray[np.float64], enters: NDArray[np.bool_] | None) -> str:
    """The document's tokens with one layer's ratios `row` (n,); `enters` (n,): the tokens that are still there."""
    looks, pieces = [], []
    for token in range(len(document)):
        gone = enters is not None and not enters[token]
        level = round(STEPS * shade(abs(float(row[token]))))
        sign = "n" if row[token] < 0 else "s"
        looks.append(("x" if gone else f"{sign}{level}", bool(document.rationale[token])))
        new_word = token > 0 and (document.words[token] < 0 or document.words[token] != document.words[token - 1])
        pieces.append((" " if new_word else "") + visible(token_text(document.tokens[token])))
    html, token = [], 0
    for (look, gold), group in groupby(looks):
        run = pieces[token : token + len(list(group))]
        token += len(run)
        joined = "".join(run)
        inner = joined.lstrip(" ")
        lead = joined[: len(joined) - len(inner)]  # the space before a token is not part of it
        element = f'<span class="{look}">{inner}</span>'
        html.append(lead + (f"<u>{element}</u>" if gold else element))
    return "".join(html)


def visible(value: str) -> str:
    """Escaped, with control characters and bidirectional overrides spelled out."""
    return escape("".join(character if character.isprintable() else f"[U+{ord(character):04X}]" for character in value))
