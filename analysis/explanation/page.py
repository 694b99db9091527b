"""An explanation as HTML: for each method the whole text at every layer, shaded by score.

It needs no other file and runs no script; every piece of text that comes in is escaped here. Shades are transparent
and the letters keep the colour of the page around them, so that it reads on light and on dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from adapler.errors import counted
from analysis.explanation.data import ExplanationData, MethodScores
from analysis.figures.token_scores import FULL_SHADE, ratios, shade, token_text
from analysis.output.html_tokens import STEPS, visible

TIPS = 200  # tokens; in a longer text a token has no tip with its numbers, which would make the page large
UNFOLDED = 80  # tokens; of a longer text only the first method is unfolded
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_ORANGE, _BLUE = "213, 94, 0", "0, 114, 178"  # for and against, of the palette of Okabe and Ito


def _shades(letter: str, color: str) -> str:
    return " ".join(
        f".xpl .{letter}{step} {{ background: rgba({color}, {0.75 * step / STEPS:.2f}) }}"
        for step in range(1, STEPS + 1)
    )


STYLE = f"""
.xpl {{ font: 14px/1.6 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; max-width: 72rem }}
.xpl p {{ margin: 0; overflow-wrap: anywhere }}
.xpl .facts {{ margin: 0 0 6px }}
.xpl .note {{ border-left: 3px solid rgba({_ORANGE}, .8); padding-left: 8px; margin: 0 0 6px }}
.xpl .faint, .xpl small {{ opacity: .75; font-size: 12px; font-weight: 400 }}
.xpl summary {{ cursor: pointer; font-weight: 600; padding: 4px 0 }}
.xpl .row {{ display: grid; grid-template-columns: 7rem 1fr; gap: 10px; padding: 3px 0;
  border-top: 1px solid rgba(128, 128, 128, .3) }}
.xpl .row > div {{ font-size: 12px; font-weight: 600; line-height: 1.35 }}
.xpl .row small {{ display: block }}
.xpl .row span, .xpl .row s, .xpl .faint span {{ border-radius: 3px; padding: 1px 0 }}
.xpl s {{ opacity: .5; text-decoration: line-through }}
.xpl u {{ text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: 4px }}
{_shades("s", _ORANGE)}
{_shades("n", _BLUE)}
@media (max-width: 560px) {{ .xpl .row {{ grid-template-columns: 1fr; gap: 0 }} }}
"""


def fragment(data: ExplanationData) -> str:
    """What a notebook shows."""
    body = "".join([f"<style>{STYLE}</style>", *_head(data), *_methods(data), _legend(data)])
    return f'<div class="xpl">{body}</div>'


def whole_page(data: ExplanationData) -> str:
    """The same as a file of its own."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{visible(data.name)}, explained</title>\n"
        "<style>:root { color-scheme: light dark } body { margin: 24px }</style>\n"
        f"</head>\n<body>\n{fragment(data)}\n</body>\n</html>\n"
    )


def _head(data: ExplanationData) -> Iterator[str]:
    facts = [f"<b>{visible(data.prediction)}</b>"] if data.prediction is not None else []
    if facts and data.probabilities is not None and data.prediction in data.labels:
        facts[0] += f" {data.probabilities[data.labels.index(data.prediction)]:.1%}"
    if data.full_prediction is not None and data.kept is not None:
        facts.append(f"without removal {visible(data.full_prediction)}")
    if data.gold is not None:
        facts.append(f"gold label {visible(data.gold)}")
    facts += [visible(data.model)] if data.model else []
    facts += [f"in {data.dtype}"] if data.dtype not in (None, "float32") else []
    facts.append(f"{counted(len(data.words), 'word')}, n = {counted(data.n, 'token')} with the special ones")
    yield f'<p class="facts">{" &middot; ".join(facts)}</p>'
    if data.note:
        yield f'<p class="note">{visible(data.note)}</p>'


def _methods(data: ExplanationData) -> Iterator[str]:
    for index, method in enumerate(data.methods.values()):
        unfolded = " open" if index == 0 or data.n <= UNFOLDED else ""
        meaning = "; ".join(
            part for part in (method.scope, f"target {method.target}" if method.target else "", _level(method)) if part
        )
        yield f"<details{unfolded}><summary>{visible(method.title)} <small>{visible(meaning)}</small></summary>"
        values = ratios(data.document(), method.name)  # (L', n)
        for layer, row in enumerate(values):
            yield _row(data, method, layer, row)
        yield "</details>"


def _level(method: MethodScores) -> str:
    if method.signed:
        return "signed"
    return "n = tokens present at the layer" if method.present is not None else ""


def _row(data: ExplanationData, method: MethodScores, layer: int, values: NDArray[np.float64]) -> str:
    kept = data.kept[layer] if data.kept is not None and method.of_removal else None
    count = "" if kept is None else f"<small>{int(kept.sum())} of {data.n} tokens</small>"
    name = f"Layer {layer}" if method.layerwise else "Input"
    elements = [_token(data, method, layer, token, float(values[token])) for token in range(data.n)]
    return f'<div class="row"><div>{name}{count}</div><p dir="auto">{_joined(data, elements)}</p></div>'


def _token(data: ExplanationData, method: MethodScores, layer: int, token: int, ratio: float) -> str:
    gone = method.of_removal and data.kept is not None and not data.kept[layer, token]
    tip = f' title="{escape(_tip(data, method, layer, token))}"' if data.n <= TIPS else ""
    shown = visible(token_text(data.tokens[token]))
    if gone:
        return f"<s{tip}>{shown}</s>"
    level = round(STEPS * shade(abs(ratio)))
    look = f' class="{"n" if ratio < 0 else "s"}{level}"' if level else ""
    return f"<span{look}{tip}>{shown}</span>"


def _joined(data: ExplanationData, elements: Sequence[str]) -> str:
    """Tokens with a space before each new word, and one <u> around each run of the rationale."""
    words, marked = data.word_ids, data.document().rationale
    parts = []
    for token, element in enumerate(elements):
        before = bool(token and marked[token - 1])
        new_word = token > 0 and (words[token] < 0 or words[token] != words[token - 1])
        parts.append("</u>" if before and not marked[token] else "")
        parts.append(" " if new_word else "")
        parts.append("<u>" if marked[token] and not before else "")
        parts.append(element)
    return "".join(parts) + ("</u>" if len(marked) and marked[-1] else "")


def _tip(data: ExplanationData, method: MethodScores, layer: int, token: int) -> str:
    """What hovering over a token says; plain text."""
    name = "".join(c if c.isprintable() else f"[U+{ord(c):04X}]" for c in data.tokens[token])
    if method.present is not None and not method.present[layer, token]:
        return f"{name} | {'dropped before this layer' if method.of_removal else 'not among the tokens scored here'}"
    score = float(method.scores[layer, token])
    facts = [name, f"score {score:.4g}"]
    if not method.signed:
        facts[1] += f" = {score * method.n_present[layer]:.2f}/n"
    if method.of_removal and data.kept is not None:
        facts += [] if data.thresholds is None else [f"threshold {data.thresholds[layer]:.4g}"]
        facts.append("kept" if data.kept[layer, token] else "dropped here")
    return " | ".join(facts)


def _legend(data: ExplanationData) -> str:
    def sample(letter: str, ratio: float, text: str) -> str:
        return f'<span class="{letter}{round(STEPS * shade(ratio))}">&nbsp;{text}&nbsp;</span>'

    parts = [f"shade: {sample('s', 1, '1/n')} {sample('s', 3, '3/n')} {sample('s', FULL_SHADE, f'{FULL_SHADE}/n')}"]
    if any(method.signed for method in data.methods.values()):
        parts.append(f"signed scores as shares of their absolute sum, {sample('n', 3, 'against the target')}")
    if any(method.of_removal for method in data.methods.values()):
        parts.append("<s>dropped</s> by the model at this layer or before")
    if data.rationale is not None:
        parts.append("<u>underlined</u>: the human rationale")
    return f'<p class="faint">{" &middot; ".join(parts)}</p>' if data.methods else ""
