"""Pages that stand alone: one file each, which needs no other file, no server and no network.

A page with the player runs two scripts of this package and nothing else: its policy names them by their checksum.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

from app.markup import render

QUIET = "default-src 'none'; style-src 'unsafe-inline'"  # runs nothing
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: light-dark(#fff, #0e1117);
  color: light-dark(#31333f, #fafafa); }
main { max-width: 82rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
p { overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.75rem; }
a { color: light-dark(#0057a8, #6cb6ff); }
nav { display: flex; flex-wrap: wrap; gap: 0 1.5rem; margin-bottom: 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 0.6rem 0.9rem; border-radius: 0.5rem;
  background: light-dark(#f0f2f6, #1a1c24); font-size: 0.85rem; }
footer { margin-top: 2rem; font-size: 0.85rem; color: light-dark(#5b6270, #a6adba); }
.al-legend { margin: 1rem 0; }
.al-strip { margin: 1rem 0; }
.al-facts { color: light-dark(#5b6270, #a6adba); font-size: 0.9rem; }
.al-words { display: inline-flex; gap: 0.5rem; align-items: center; min-height: 2.5rem; }
.al-table { overflow-x: auto; }
.al-table table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.al-table th, .al-table td { text-align: left; padding: 0.45rem 1rem 0.45rem 0; vertical-align: top;
  border-bottom: 1px solid light-dark(#d9dce3, #3a3f4a); }
.al-table td:not(:nth-child(2)) { white-space: nowrap; }
.al-table td:nth-child(2) { min-width: 14rem; }
"""


def whole(title: str, body: str, *, data: Mapping[str, Any] | None = None) -> str:
    """A page. `title` is plain text, `body` is HTML, `data` is for the players of the body, see `player`."""
    script = "" if data is None else f'{_data(data)}\n<script type="module">{_script()}</script>\n'
    policy = QUIET if data is None else f"{QUIET}; script-src '{_checksum()}'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n{render.style()}\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n{script}</body>\n</html>\n"
    )


def player(name: str) -> str:
    """The place of a player: `whole(data={name: {"tokens": drawn, "words": drawn}})` has what it plays, see
    `app.markup.player.drawn`. A box tells whether it shows tokens or words."""
    return (
        f'<div data-player="{escape(name)}"><label class="al-words"><input type="checkbox"> Whole words</label>'
        '<div class="al-place"></div></div>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML, the first of a row is its head."""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    looks = 'class="al-table" role="region" tabindex="0" aria-label="Texts"'  # it scrolls on a phone, by keyboard too
    return f"<div {looks}><table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>"


def _data(data: Mapping[str, Any]) -> str:
    """JSON in a script element that no browser runs; `<` is written so that no text can end the element."""
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="al-data">{written}</script>'


@cache
def _script() -> str:
    folder = render.STYLE.parent
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in ("player.js", "page.js"))


@cache
def _checksum() -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()
