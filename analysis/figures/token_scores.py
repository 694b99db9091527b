"""The tokens of an example and how dark they are drawn, the same in figures and on the page.

L layers, n tokens
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.results.records import DocumentScores
from analysis.results.report import ReportData
from analysis.results.wording import OF_REMOVAL

FULL_SHADE = 8  # times the uniform score at which the shade is darkest
PREFIXES = ("##", "\u0120", "\u2581")  # of wordpieces that go on (BERT) or begin a word (GPT-2, SentencePiece)


def token_text(token: str) -> str:
    """A wordpiece as it is read: `##ing` -> `ing`; control characters are spelled out."""
    for prefix in PREFIXES:
        if token.startswith(prefix) and len(token) > len(prefix):
            token = token.removeprefix(prefix)
    return "".join(character if character.isprintable() else f"[U+{ord(character):04X}]" for character in token)


def ratios(document: DocumentScores, method: str) -> NDArray[np.float64]:
    """(L, n) scores, or (1, n), as multiples of the uniform one; signed scores keep their sign.

    Uniform is a share of all n tokens; for `cp` and `policy`, whose scores are shared out among the tokens that are
    still there, one of those.
    """
    if method not in document.scores:
        raise ArgumentError(
            f"method {method!r} is not in document {document.id}, which has {', '.join(document.scores) or 'none'}"
        )
    scores = document.scores[method].astype(np.float64)
    total = np.abs(scores).sum(axis=1, keepdims=True)
    n_tokens = np.full((len(scores), 1), float(len(document)))
    if (there := present(document, method)) is not None:
        n_tokens = there.sum(axis=1, keepdims=True)
    shares = np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)
    return np.asarray(shares * n_tokens)


def present(document: DocumentScores, method: str) -> NDArray[np.bool_] | None:
    """(L, n) the tokens among which the scores of a layer are shared out; None for a method that always has all.

    They are those that entered the layer before: the policy that judges them decides which of them enter this one. A
    policy that decides after a layer's attention judges those that enter it, so that no other has a score there. Where
    another one has a score all the same, or the layers are not the model's, saved scores have a name of OF_REMOVAL.
    """
    if method not in OF_REMOVAL or document.retention is None:
        return None
    entered, scores = document.retention, document.scores[method]
    if scores.shape != entered.shape:
        return None
    if method == "policy" and not scores[~entered].any():
        return entered
    before = np.vstack([np.ones((1, len(document)), dtype=bool), entered[:-1]])
    return None if scores[~before].any() else before


def shade(ratio: float) -> float:
    """0 for no score, 1 from FULL_SHADE times the uniform one on; a logarithm in between."""
    return min(1.0, math.log1p(max(0.0, ratio)) / math.log1p(FULL_SHADE))


def main_method(document: DocumentScores) -> str:
    """`cp` or `policy` if there, else the first one that has a score at every layer, else the first one."""
    removal = [method for method in OF_REMOVAL if method in document.scores]
    layered = [method for method, rows in document.scores.items() if len(rows) > 1]
    names = removal or layered or list(document.scores)
    if not names:
        raise ArgumentError(f"document {document.id}: no scores to draw")
    return names[0]


def pick(report: ReportData, example: int) -> DocumentScores:
    """The example of that index; ArgumentError says how many there are."""
    if not 0 <= example < len(report.examples):
        raise ArgumentError(f"example: got {example}, the report has {len(report.examples)} examples")
    return report.examples[example]
