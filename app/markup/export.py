"""What can be taken away: tables, the figure of a document, and the token grid as a page of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.tokens import PREFIXES, DocumentScores
from app.markup import cards, pages, pictures, render
from app.model.joining import sentence_starts
from app.model.tracing import SPECIAL, Trace
from app.sources.documents import Document

MIME = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
SENTENCE_WORDS = 6  # that a sentence is shown by
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@dataclass(frozen=True)
class Origin:
    """What made a table, a page, a figure or an animation; it stands in the file.

    Attributes:
        checkpoint: its name in the menu.
        weights: their checksum, which tells it from others of its name.
        scale: the threshold scale.
        dtype: the number format that the model computed in.
        text: where the text comes from, and its name.
        made: the day.
        again: the command, and the address to open then.
    """

    checkpoint: str
    weights: str
    scale: float
    dtype: str
    text: str
    made: str
    again: str

    def line(self) -> str:
        """All of it, plain text without control characters, which XML has no way to write."""
        whose = f"checkpoint {self.checkpoint} (weights {self.weights})"
        parts = (whose, f"threshold scale {self.scale:g}", self.dtype, self.text, self.made)
        return render.seen(" \N{MIDDLE DOT} ".join((*filter(None, parts), f"to make it again: {self.again}")))


def layer_table(trace: Trace) -> pd.DataFrame:
    """A row a layer: tokens (or words) that enter it, those present before, those dropped in between, the threshold
    of a wordpiece (none where nothing is decided), and FLOPs, which are of tokens in both cases."""
    return pd.DataFrame(
        {
            "layer": range(trace.layers),
            trace.unit: trace.lengths,
            "present": trace.present,
            "dropped": trace.present - trace.lengths,
            "threshold": trace.known_thresholds,
            "FLOPs share": trace.layer_flops / trace.layer_flops.sum(),
            "speedup": trace.plain_layer_flops / trace.layer_flops,
        }
    )


def token_table(trace: Trace) -> pd.DataFrame:
    """Tidy: a row for each layer and token. Special tokens and a query's have no word; a token that was dropped
    before has no score, and nobody has one where nothing is decided."""
    layers, size = trace.layers, len(trace)
    words = pd.array([int(word) if word >= 0 else None for word in trace.words], dtype="Int64")
    present = np.vstack([np.ones((1, size), dtype=bool), trace.enters[:-1]])
    decided = ~np.isnan(trace.known_thresholds)[:, None]  # (L, 1)
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), size),
            "position": np.tile(np.arange(size), layers),
            "word": pd.concat([pd.Series(words)] * layers, ignore_index=True),
            "token": np.tile(np.array(trace.pieces, dtype=object), layers),
            "rationale": np.tile(trace.gold, layers),
            "present": present.ravel(),
            "score": np.where(present & decided, trace.scores, np.nan).ravel(),
            "threshold": np.repeat(trace.known_thresholds, size),
            "enters": trace.enters.ravel(),
        }
    )


def csv(table: pd.DataFrame, trace: Trace, document: Document, *, origin: Origin) -> bytes:
    """The table with whose numbers they are in its first columns, and how to have it again in the last. Words are
    counted from 0 in the part of a longer text that `excerpt`, a column of such a part alone, says.

    Text that a spreadsheet would take for a formula is kept from being one by an apostrophe; signs alone, "--" say,
    and numbers are left as they are.
    """
    facts: dict[str, Any] = {
        "document": document.name,
        **({"excerpt": document.excerpt} if document.excerpt else {}),
        **_whose(origin),
        "gold": document.label,
        "prediction": trace.label,
    }
    return _written(table, facts, origin)


def rows_csv(table: pd.DataFrame, *, origin: Origin) -> bytes:
    """A table of many documents, as `csv`."""
    return _written(table, _whose(origin), origin)


def _whose(origin: Origin) -> dict[str, Any]:
    return {
        "checkpoint": origin.checkpoint,
        "weights": origin.weights,
        "scale": origin.scale,
        "dtype": origin.dtype,
    }


def _written(table: pd.DataFrame, facts: dict[str, Any], origin: Origin) -> bytes:
    whole = table.assign(made=origin.made, again=origin.again)
    for place, (name, value) in enumerate(facts.items()):
        whole.insert(place, name, value)
    for name in whole.columns:
        if not pd.api.types.is_numeric_dtype(whole[name]):
            whole[name] = whole[name].map(_guarded)
    return whole.to_csv(index=False, lineterminator="\n").encode()


def _guarded(value: Any) -> Any:
    # Programs pass over white space before a formula.
    formula = isinstance(value, str) and value.lstrip()[:1] in tuple("=+-@") and any(char.isalnum() for char in value)
    return f"'{value}" if formula and not NUMBER.fullmatch(value) else value


def html_page(trace: Trace, document: Document, *, origin: Origin) -> bytes:
    """The verdict and all layers as one file that needs no other and runs nothing."""
    body = (
        f"<h1>{render.visible(document.name)}</h1><p>{render.visible(origin.line())}</p>"
        + cards.verdict(trace.tokens or trace, document.label, known=document.labels)
        + render.legend(trace)
        + render.layer_grid(trace)
    )
    return pages.whole(f"{document.name}, layer by layer", body).encode()


def _shown(trace: Trace, token: int) -> str:
    """A token's letters; a dot for one that shares its letter with the one before it, as byte-level ones may."""
    shown = trace.pieces[token] if trace.words[token] == SPECIAL else trace.surfaces[token] or "\N{MIDDLE DOT}"
    # figures take one such sign of a wordpiece away: a text's own, as of ##this, has to stay
    return f"{PREFIXES[-1]}{shown}" if shown.startswith(PREFIXES) else shown


def record(trace: Trace, document: Document) -> DocumentScores:
    """The document as figures of the analysis layer take it."""
    return DocumentScores(
        id=document.name,
        tokens=tuple(_shown(trace, token) for token in range(len(trace))),
        words=np.maximum(trace.words, SPECIAL),  # there, a query has no words
        rationale=trace.gold,
        scores={"cp": trace.scores.clip(min=0).astype(np.float32)},  # a negative one is none, see `Trace.ratios`
        retention=trace.enters,
        prediction=trace.label,
        label=document.label,
    )


@dataclass(frozen=True)
class Layout:
    """What the reader chose of a figure.

    Attributes:
        lines: of the text, for each layer.
        layers: that are drawn.
        start: the word that the passage begins with; None: the passage with the most evidence.
        key: whether a line below says what shade, paleness and underline mean.
    """

    lines: int
    layers: tuple[int, ...] | None = None
    start: int | None = None
    key: bool = True


def sentences(trace: Trace, document: Document) -> dict[str, int]:
    """Where a passage may begin: the start of each sentence that the model reads, for people, with its first word."""
    read = sorted({int(one) for one in trace.words if one >= 0})
    starts = (read[place] for place in sentence_starts([document.words[word] for word in read]))
    return {f"{word}: {' '.join(document.words[word : word + SENTENCE_WORDS])} ...": word for word in starts}


def figure(trace: Trace, document: Document, *, kind: str, layout: Layout, origin: Origin | None = None) -> bytes:
    """The document's figure for a paper as png, svg or pdf; what made it stands in the file's properties."""
    return pictures.draw(partial(_figure, trace, document, layout), kind, note=origin.line() if origin else "")


def preview(trace: Trace, document: Document, *, layout: Layout) -> str:
    """The same figure as HTML."""
    return pictures.picture(partial(_figure, trace, document, layout), _said(trace, document, layout))


def _said(trace: Trace, document: Document, layout: Layout) -> str:
    """What the figure shows, for who does not see it."""
    layers = range(trace.layers) if layout.layers is None else layout.layers
    rows = "; ".join(f"layer {layer}, {trace.lengths[layer]} of {len(trace)} {trace.unit}" for layer in layers)
    marked = ", the evidence is underlined" if trace.gold.any() else ""
    return (
        f"A passage of {document.name} before each of these layers, with what enters it: {rows}. The stronger the "
        f"shade, the higher the score; what is dropped is faint{marked}."
    )


def _figure(trace: Trace, document: Document, layout: Layout) -> Figure:
    from analysis.figures.tokens import Panel, passages_figure

    panel = Panel(record(trace, document), "cp", layers=layout.layers, layerwise=True)
    return passages_figure([panel], unit=trace.unit, n_lines=layout.lines, start=layout.start, key=layout.key)


def telling_layers(trace: Trace, most: int) -> list[int]:
    """At most so many layers for a figure: the first, then those before which most tokens go, in order."""
    gone = trace.present - trace.lengths
    order = sorted(range(1, trace.layers), key=lambda layer: (-int(gone[layer]), layer))
    return sorted([0, *order[: most - 1]])
