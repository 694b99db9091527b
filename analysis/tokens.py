"""What figures, pages and tables share: a text token by token, and how metrics are called and numbers are written.

L layers (L' = L, or 1 for a method with a meaning at the input only), n tokens
"""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.metrics.plausibility import METRICS

OF_REMOVAL = ("cp", "policy")  # the scores by which a model drops tokens: among dropped tokens they have no order
# the family of `analysis.metrics.statistics`
HOLM_FAMILY = "Holm-adjusted over the metric's cells, random scores and repeated methods left out"
TITLES = {
    "average_precision": "Average precision",
    "fpr": "FPR",
    "tpr": "TPR",
    "j": "J = TPR - FPR",
    "aopc_comprehensiveness": "Comprehensiveness (AOPC)",
    "aopc_sufficiency": "Sufficiency (AOPC), lower is better",
}
LEVELS = {
    "": "selected at 1/n, n = tokens of the input",
    "_present": "selected at 1/n, n = tokens present at the layer",
    "_content": "selected at 1/n, n = content tokens, scores renormalised over them",
}
# The colours of tokens, everywhere
AMBER = "#E68900"  # score; signed scores: for the target
VIOLET = "#5E3C99"  # signed scores: against the target
BLUE = "#0068C9"  # human rationale
GREY = "#9A9A9A"  # a token that was dropped
FULL_SHADE = 8  # times the uniform score at which the shade is darkest
SPACE = "\u0120"  # of byte-level BPE, the space before a word
SHARES = "\u00b7"  # a token that ends within a letter
PREFIXES = ("##", SPACE, "\u2581")  # of wordpieces that go on (BERT) or begin a word (GPT-2, SentencePiece)


@dataclass(frozen=True, eq=False)
class DocumentScores:
    """A text with the scores of several methods.

    tokens      the n wordpieces, special tokens included
    words       (n,) int64, index of the word a wordpiece comes from; -1 for a special token
    rationale   (n,) bool, the wordpiece's word is in a human rationale
    scores      method -> (L', n) float32
    retention   (L, n) bool, the tokens that enter each layer of the AdapLeR model; None without one
    prediction  of the AdapLeR model if there is one, else of the plain classifier
    """

    id: str
    tokens: tuple[str, ...]
    words: NDArray[np.int64]
    rationale: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float32]]
    retention: NDArray[np.bool_] | None = None
    prediction: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        n = len(self.tokens)
        arrays: dict[str, Any] = {
            "tokens": tuple(self.tokens),
            "words": np.asarray(self.words, dtype=np.int64).reshape(n),
            "rationale": np.asarray(self.rationale, dtype=bool).reshape(n),
            "scores": {name: np.asarray(rows, dtype=np.float32).reshape(-1, n) for name, rows in self.scores.items()},
            "retention": None if self.retention is None else np.asarray(self.retention, dtype=bool).reshape(-1, n),
        }
        for name, value in arrays.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_layers(self) -> int:
        rows = [len(rows) for rows in self.scores.values()]
        return len(self.retention) if self.retention is not None else max(rows, default=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a float32 is written with the fewest digits that give it back."""
        row: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        row |= {
            "tokens": list(self.tokens),
            "words": self.words.tolist(),
            "rationale": self.rationale.astype(int).tolist(),
        }
        row["scores"] = {
            name: [[float(str(value)) for value in line] for line in rows] for name, rows in self.scores.items()
        }
        row["retention"] = None if self.retention is None else self.retention.astype(int).tolist()
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> DocumentScores:
        return cls(**row)


def readable_tokens(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """A tokenizer's tokens, those of a byte-level one with their letters; the sign for a space before a word stays.

    A letter of several bytes may be shared by tokens: the last of them has it, one that has no other shows a dot.
    """
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    from adapler.text import is_byte_level

    bytes_of = {letter: byte for byte, letter in bytes_to_unicode().items()}  # GPT-2's letters for bytes
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(ids))]
    if not is_byte_level(tokenizer):
        return tuple(tokens)
    decoder = getincrementaldecoder("utf-8")("replace")
    shown = []
    whole = set(getattr(tokenizer, "added_tokens_decoder", ()))  # special ones, too: texts, and not bytes
    for number, token in zip(ids, tokens, strict=True):
        if number in whole or not bytes_of.keys() >= set(token):
            decoder.reset()
            shown.append(token)
            continue
        sign = SPACE if token.startswith(SPACE) else ""
        letters = decoder.decode(bytes(bytes_of[letter] for letter in token.removeprefix(sign)))
        shown.append(sign + letters if letters or token == sign else sign + SHARES)
    return tuple(shown)


def token_text(token: str) -> str:
    """A wordpiece as it is read: `##ing` -> `ing`; control characters are spelled out."""
    for prefix in PREFIXES:
        if token.startswith(prefix) and len(token) > len(prefix):
            token = token.removeprefix(prefix)
    return visible(token)


def visible(text: str) -> str:
    """The text with control characters and bidirectional overrides spelled out."""
    return "".join(character if character.isprintable() else f"[U+{ord(character):04X}]" for character in text)


def starts_word(words: NDArray[np.int64], token: int) -> bool:
    """Whether a token is set apart from the one before it by a space."""
    return token > 0 and bool(words[token] < 0 or words[token] != words[token - 1])


def ratios(document: DocumentScores, method: str) -> NDArray[np.float64]:
    """(L', n) scores as multiples of the uniform one; signed scores keep their sign.

    Uniform is a share of all n tokens; for `cp` and `policy`, whose scores are shared out among the tokens that are
    still there, one of those.
    """
    if method not in document.scores:
        known = ", ".join(document.scores) or "none"
        raise ArgumentError(f"method {method!r} is not in document {document.id}, which has {known}")
    scores = document.scores[method].astype(np.float64)
    total = np.abs(scores).sum(axis=1, keepdims=True)
    there = present(document, method)
    n_tokens = len(document) if there is None else there.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(scores, total, out=np.zeros_like(scores), where=total > 0) * n_tokens)


def present(document: DocumentScores, method: str) -> NDArray[np.bool_] | None:
    """(L, n) the tokens among which the scores of a layer are shared out; None for a method that always has all.

    Those are the tokens that entered the layer before, or, of a policy that decides after a layer's attention, those
    that enter this one. Where another token has a score all the same, they are saved scores that carry the name of
    a method of OF_REMOVAL.
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


def metric_title(metric: str) -> str:
    """`fpr_present` -> "FPR (selected at 1/n, n = tokens present at the layer)"."""
    base, sign, variant = metric.partition("_")
    if base in ("fpr", "tpr", "j") and sign + variant in LEVELS:
        return f"{TITLES[base]} ({LEVELS[sign + variant]})"
    return TITLES.get(metric) or (METRICS[metric].title if metric in METRICS else metric.replace("_", " "))


def higher_is_better(metric: str) -> bool:
    return METRICS[metric].higher_is_better if metric in METRICS else True


def judges_rationales(metrics: Sequence[str]) -> bool:
    """Whether one of the metrics needs human rationales; an unknown metric is taken to need them."""
    return any(metric not in METRICS or METRICS[metric].needs_rationale for metric in metrics)


def number(value: float | None, decimals: int = 3) -> str:
    """.254, -.031, 1.000; "-" where undefined."""
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # no "-.000"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
