"""What can be taken away: tables, the figure of a document, and the token grid as a page of its own."""

from __future__ import annotations

from functools import partial
from html import escape
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.results.records import DocumentScores
from app.html import pictures, render
from app.model.tracing import SPECIAL, Trace
from app.sources.documents import Document

MIME = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
PAGE_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: light-dark(#fff, #0e1117);
  color: light-dark(#31333f, #fafafa); }
main { max-width: 82rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
.al-legend { margin: 1rem 0; }
"""


def layer_table(trace: Trace) -> pd.DataFrame:
    """A row a layer."""
    return pd.DataFrame(
        {
            "layer": range(trace.layers),
            "tokens": trace.lengths,
            "dropped": trace.present - trace.lengths,
            "threshold": trace.thresholds,
            "FLOPs share": trace.layer_flops / trace.layer_flops.sum(),
            "speedup": trace.plain_layer_flops / trace.layer_flops,
        }
    )


def token_table(trace: Trace, document: str) -> pd.DataFrame:
    """Tidy: a row for each layer and token. Special tokens have no word."""
    layers, size = trace.layers, len(trace)
    words = pd.array([None if word == SPECIAL else int(word) for word in trace.words], dtype="Int64")
    return pd.DataFrame(
        {
            "document": document,
            "layer": np.repeat(np.arange(layers), size),
            "position": np.tile(np.arange(size), layers),
            "word": pd.concat([pd.Series(words)] * layers, ignore_index=True),
            "token": np.tile(np.array(trace.pieces, dtype=object), layers),
            "rationale": np.tile(trace.gold, layers),
            "score": trace.scores.ravel(),
            "threshold": np.repeat(trace.thresholds, size),
            "enters": trace.enters.ravel(),
        }
    )


def csv(table: pd.DataFrame) -> bytes:
    """Text that a spreadsheet would take for a formula is kept from being one by an apostrophe."""
    guarded = table.copy()
    for name in ("document", "token"):
        if name in guarded:
            guarded[name] = guarded[name].map(lambda text: f"'{text}" if len(text) > 1 and text[0] in "=+-@" else text)
    return guarded.to_csv(index=False, lineterminator="\n").encode()


def html_page(trace: Trace, document: Document, *, tokens: Trace | None = None) -> bytes:
    """The verdict and all layers as one file that needs no other and runs nothing."""
    body = (
        f"<h1>{render.visible(document.name)}</h1>"
        + render.verdict(tokens or trace, document.label)
        + render.legend(rationale=bool(trace.gold.any()))
        + render.layer_grid(trace, tokens=tokens)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.name)}, layer by layer</title>\n<style>{PAGE_STYLE}</style>\n{render.style()}\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    ).encode()


def record(trace: Trace, document: Document) -> DocumentScores:
    """The document as figures of the analysis layer take it."""
    return DocumentScores(
        id=document.name,
        tokens=trace.pieces,
        words=trace.words,
        rationale=trace.gold,
        scores={"cp": trace.scores.astype(np.float32)},
        retention=trace.enters,
        prediction=trace.label,
        label=document.label,
    )


def figure(trace: Trace, document: Document, *, kind: str, lines: int) -> bytes:
    """The document's figure for a paper as png, svg or pdf: `lines` lines of the text at up to six layers."""
    return pictures.draw(partial(_figure, trace, document, lines), kind)


def preview(trace: Trace, document: Document, *, lines: int) -> str:
    """The same figure as HTML."""
    return pictures.picture(partial(_figure, trace, document, lines), "The figure")


def _figure(trace: Trace, document: Document, lines: int) -> Figure:
    from analysis.figures.document import document_figure

    # the figure of a report's example needs nothing of the report but its examples
    report: Any = SimpleNamespace(examples=(record(trace, document),))
    return document_figure(report, n_lines=lines)
