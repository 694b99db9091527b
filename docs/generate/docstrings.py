"""Docstrings of the code as Markdown: their fields, formulas and addresses."""

from __future__ import annotations

import html
import inspect
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
METHOD_FIELDS = ("Formula", "Layer", "Cost", "Misleads", "Reference")
METRIC_FIELDS = ("Formula", "Selection", "Range", "Misleads", "Reference")
HEADINGS = {
    "Formula": "Formula",
    "Layer": "What the score of one layer means",
    "Cost": "Cost",
    "Selection": "What is selected",
    "Range": "Range",
    "Misleads": "When it misleads",
    "Reference": "Reference",
}


def sections(function: Any, fields: tuple[str, ...]) -> dict[str, str]:
    """A docstring's parts: "Summary", then what stands behind each field's name; fields that are missing are left out.

    A field begins at the start of a line and goes on in indented lines.
    """
    text = inspect.getdoc(function) or ""
    parts = re.split(rf"^({'|'.join(fields)}):[ \n]", text, flags=re.MULTILINE)
    found = {"Summary": parts[0].strip()}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = body.splitlines()
        end = next((i for i, line in enumerate(lines) if i and line and not line.startswith(" ")), len(lines))
        body = " ".join(line.strip() for line in lines[:end]).strip()
        found[name] = body if name == "Formula" else body[:1].upper() + body[1:]
    return found


def prose(text: str) -> str:
    """Text of a docstring as Markdown: stars, underscores and angles as they stand, addresses as links."""
    pieces = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(pieces), 2):
        piece = re.sub(r"([\\*_<>\[\]|#])", r"\\\1", pieces[i])
        pieces[i] = re.sub(r"https?://\S+[^\s.,;)]", lambda m: f"<{m.group().replace(chr(92), '')}>", piece)
    return "".join(pieces)


def formula(text: str) -> str:
    """A formula with the sentences around it, in the letters of the docstring."""
    return f'<div class="formula" markdown="0">{html.escape(text)}</div>'


def title_and_lead(summary: str) -> tuple[str, str]:
    """The first line of a docstring as a heading and the first sentence under it."""
    head, colon, rest = " ".join(summary.split()).partition(": ")
    if not colon or len(head) > 60:
        return "", " ".join(summary.split())
    return head, rest[:1].upper() + rest[1:]


def source_file(function: Any) -> str:
    """Where a function is written, from the root of the repository."""
    return Path(inspect.getsourcefile(function) or "").resolve().relative_to(ROOT).as_posix()


def docstring(value: Any) -> str:
    """A docstring as HTML and code: paragraphs are filled, entries (`name: text`) stand alone, examples are code."""
    text = inspect.getdoc(value) or ""
    if not text or text.startswith(f"{getattr(value, '__name__', '')}("):  # what a dataclass writes by itself
        return ""
    return "\n\n".join(map(_block, re.split(r"\n\s*\n", text)))


def _block(block: str) -> str:
    lines = block.splitlines()
    if block.lstrip().startswith(">>>"):
        return "```pycon\n" + inspect.cleandoc(block) + "\n```"
    entries = any(re.match(r"\s*[\w*., ]+: ", line) for line in lines)
    columns = any(re.search(r"\S {3,}\S", line) for line in lines)
    if columns or (all(line.startswith("    ") for line in lines) and not entries):  # a table, a formula, code
        return "```text\n" + inspect.cleandoc(block) + "\n```"
    found: list[tuple[int, str]] = []  # indentation and text of each paragraph
    for line in lines:
        indent, words = len(line) - len(line.lstrip()), line.strip()
        starts = re.match(r"([\w*., ]{1,40}:( |$)|\d+\. |\* |- )", words)
        if found and (
            indent > found[-1][0] and not found[-1][1].endswith(":") or not starts and indent == found[-1][0]
        ):
            found[-1] = (found[-1][0], f"{found[-1][1]} {words}")
        else:
            found.append((indent, words))
    return "\n".join(
        f'<p class="docstring" style="margin-left: {indent * 0.4:.1f}em">{_inline(words)}</p>'
        for indent, words in found
    )


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    text = re.sub(r"https?://[^\s<]+[^\s.,;)<]", lambda m: f'<a href="{m.group()}">{m.group()}</a>', text)
    return re.sub(r"^([\w*., ]{1,40}):( |$)", r"<strong>\1</strong>:\2", text)
