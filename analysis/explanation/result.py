"""An explanation that can be printed, drawn and saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from adapler.errors import ArgumentError, counted
from adapler.files import replacing
from analysis.explanation import drawing, page
from analysis.explanation.data import ExplanationData, MethodScores
from analysis.figures import FORMATS, STYLE
from analysis.figures.token_scores import token_text
from analysis.results.report_json import plain

__all__ = ["Explanation", "MethodScores"]

SHOWN = 4  # tokens of a method in a terminal


class Explanation(ExplanationData):
    """What `analysis.explain` returns: the data of `ExplanationData`, and its page, figures and files."""

    def plot(
        self, layer: int | None = None, methods: Sequence[str] | str | None = None, *, style: str = "acl"
    ) -> Figure:
        """A matplotlib figure: every layer as a heat map, a panel a method; or one layer, token by token.

        methods: those to draw, default all; style: the widths of "acl" or "neurips".
        At one layer: a bar a token, hollow where the model drops it, with the level 1/n dashed and AdapLeR's threshold
        solid; a text of more than 48 tokens is drawn as an excerpt with shades instead.
        Raises ArgumentError for a layer or a method that is not there.
        """
        return drawing.draw(self, layer=layer, methods=methods, style=style)

    def save(self, path: str | Path, *, layer: int | None = None, methods: Sequence[str] | str | None = None) -> Path:
        """Write the file, whole or not at all; its ending says what: .pdf (fonts embedded), .png or .svg is the
        figure of `plot(layer, methods)`, .html the page that a notebook shows, .csv is `to_frame()` and .json
        everything (NaN is null, as in a report). Returns the path.

        Raises ArgumentError for another ending, and for `layer` or `methods` where there is no figure.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        writers: dict[str, Callable[[], str]] = {
            ".html": lambda: page.whole_page(self),
            ".csv": lambda: self.to_frame().to_csv(index=False, lineterminator="\n"),
            ".json": lambda: json.dumps(plain(self.to_dict()), ensure_ascii=False, allow_nan=False) + "\n",
        }
        if suffix in FORMATS:
            figure = self.plot(layer, methods)
            with rc_context(STYLE), replacing(target) as temporary:
                figure.savefig(temporary, format=suffix[1:], metadata=FORMATS[suffix])
        elif suffix in writers:
            if layer is not None or methods is not None:
                raise ArgumentError(f"save: layer and methods are for figures, {target.name} holds everything")
            text = writers[suffix]()
            with replacing(target) as temporary:
                temporary.write_text(text, encoding="utf-8")
        else:
            allowed = ", ".join([*FORMATS, *writers])
            raise ArgumentError(f"save: {target.name!r} must end in one of {allowed}")
        return target

    def to_html(self) -> str:
        """The page that a notebook shows, as a file of its own: no script, no other file."""
        return page.whole_page(self)

    def _repr_html_(self) -> str:
        return page.fragment(self)

    def __repr__(self) -> str:
        """What the model answers, and for each method the tokens with the highest scores of its last layer."""
        lines = [
            self._answer(),
            f"n = {counted(self.n, 'token')}, {counted(len(self.words), 'word')}: {_shortened(' '.join(self.words))}",
        ]
        if self.note:
            lines.append(f"note: {self.note}")
        rows = [("method", "layers", "a score is about", "highest at the last layer")]
        for method in self.methods.values():
            layers = f"0-{len(method.scores) - 1}" if method.layerwise and len(method.scores) > 1 else "0"
            about = method.scope + (f", target {method.target}" if method.target else "")
            rows.append((method.name, layers if method.layerwise else "input", about, self._highest(method)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
        return "\n".join(lines + (table if self.methods else []))

    def _answer(self) -> str:
        if self.prediction is None:
            return "no model ran"
        answer = f"{self.model}: {self.prediction}" if self.model else self.prediction
        if self.probabilities is not None:
            answer += f" {self.probabilities[self.labels.index(self.prediction)]:.3f}"
        if self.kept is not None and self.full_probabilities is not None and self.full_prediction is not None:
            full = self.full_probabilities[self.labels.index(self.full_prediction)]
            answer += f" (without removal {self.full_prediction} {full:.3f})"
        answer += f", gold label {self.gold}" if self.gold else ""
        return answer if self.dtype in (None, "float32") else f"{answer}, in {self.dtype}"

    def _highest(self, method: MethodScores) -> str:
        last = method.scores[-1]
        order = np.argsort(-last, kind="stable")
        if method.present is not None:  # those that were dropped before have no score
            order = order[method.present[-1][order]]
        return ", ".join(f"{token_text(self.tokens[token])} {last[token]:.3f}" for token in order[:SHOWN])


def _shortened(text: str, size: int = 60) -> str:
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= size else plain[: size - 4].rstrip() + " ..."
