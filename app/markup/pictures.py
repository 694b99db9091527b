"""Figures of the analysis layer as pictures: drawn one at a time, and shown as an <img>, in which nothing can run."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape

from matplotlib.figure import Figure

from app.server import locks

SCREEN = 150  # pixels for an inch of paper: print is held closer than a screen
LEAST = 98  # on a narrow screen; a wide figure then scrolls


# On the screen a figure follows the page's theme: an SVG in an <img> has the colour scheme of its place. In a dark one
# light and dark change places and the hues stay.
DARK = b"<style>@media (prefers-color-scheme: dark) { svg { filter: invert(0.9) hue-rotate(180deg); } }</style>"


NOTES = {"pdf": "Subject", "png": "Description", "svg": "Description"}  # the property that holds a note


def draw(make: Callable[[], Figure], kind: str, *, note: str = "") -> bytes:
    """What `make` draws, as png, svg or pdf; the same figure gives the same bytes. note: for the file's properties."""
    return _drawn(make, kind, note=note)[0]


def picture(make: Callable[[], Figure], alt: str) -> str:
    """The figure as HTML, as wide as it is in print where there is room; it scrolls where there is not."""
    drawn, inches = _drawn(make, "svg")
    source = base64.b64encode(drawn.replace(b"<defs>", DARK + b"<defs>", 1)).decode()
    size = f"width:min(100%, {SCREEN * inches:.0f}px);min-width:{LEAST * inches:.0f}px"
    return (
        f'<div class="al-figure" tabindex="0" role="group" aria-label="{escape(alt)}">'
        f'<img alt="{escape(alt)}" style="{size}" '
        f'src="data:image/svg+xml;base64,{source}"></div>'
    )


def _drawn(make: Callable[[], Figure], kind: str, *, note: str = "") -> tuple[bytes, float]:
    """(the file's content, the figure's width in inches)."""
    from matplotlib import rc_context  # it takes a second to import, and the opening view needs none of it

    from analysis.figures import FORMATS, STYLE

    stream = io.BytesIO()
    with locks.DRAWING, rc_context(STYLE):
        figure = make()
        figure.savefig(stream, format=kind, metadata=FORMATS[f".{kind}"] | ({NOTES[kind]: note} if note else {}))
    return stream.getvalue(), float(figure.get_figwidth())
