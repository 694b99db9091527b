"""What a report keeps of a document: its record, and for a few documents the scores of every token.

L layers, n tokens of one window (special tokens included)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapler.errors import ArgumentError
from analysis.documents.alignment import Account


@dataclass(frozen=True)
class DocumentRecord:
    """What is known of one document, apart from its metrics.

    tokens            real tokens of the input, special tokens included
    content_tokens    those of them that come from the text; rationale_tokens: those of them in the rationale
    lengths           tokens that enter each layer of the AdapLeR model, or None
    prediction        of the plain classifier, None when no model was run
    skipped           why the document has no metrics, or None
    account           words and rationale words of the whole document, and those in view
    """

    id: str
    label: str
    prediction: str | None
    adapler_prediction: str | None
    tokens: int
    content_tokens: int
    rationale_tokens: int
    lengths: tuple[int, ...] | None
    skipped: str | None
    account: Account

    @classmethod
    def of_id(cls, name: str) -> DocumentRecord:
        """A document of which no more than its name is known."""
        return cls(name, "", None, None, 0, 0, 0, None, None, Account())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> DocumentRecord:
        """What `to_dict` gave."""
        lengths = row["lengths"]
        read = {"account": Account(**row["account"]), "lengths": None if lengths is None else tuple(lengths)}
        return cls(**{**row, **read})


@dataclass(frozen=True, eq=False)
class DocumentScores:
    """One window of a document, token by token, for the figures that draw a document.

    tokens      the n wordpieces, special tokens included
    words       (n,) int64, index of the word a wordpiece comes from; -1 for a special token
    rationale   (n,) bool, the wordpiece's word is in a human rationale
    scores      method -> (L, n) float32, or (1, n) for a method with a meaning at the input only
    retention   (L, n) bool, the tokens that enter each layer of the AdapLeR model; None without one
    prediction  of the AdapLeR model where there is one, else of the plain classifier

    Raises ArgumentError for an array of another shape.
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
        scores = {name: np.asarray(rows, dtype=np.float32) for name, rows in self.scores.items()}
        arrays: dict[str, Any] = {
            "tokens": tuple(self.tokens),
            "words": np.asarray(self.words, dtype=np.int64),
            "rationale": np.asarray(self.rationale, dtype=bool),
            "scores": scores,
            "retention": None if self.retention is None else np.asarray(self.retention, dtype=bool),
        }
        for name, value in arrays.items():
            object.__setattr__(self, name, value)
        for name in ("words", "rationale"):
            if arrays[name].shape != (n,):
                raise ArgumentError(f"document {self.id}: {name} of shape {arrays[name].shape}, must be ({n},)")
        rows = dict(scores) if self.retention is None else {**scores, "retention": arrays["retention"]}
        for name, value in rows.items():
            if value.ndim != 2 or value.shape[1] != n:
                raise ArgumentError(f"document {self.id}: {name} of shape {value.shape}, must be (layers, {n})")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def special(self) -> NDArray[np.bool_]:
        """(n,) bool, True for the tokens that the tokenizer added."""
        return np.asarray(self.words < 0)

    @property
    def n_layers(self) -> int:
        """Layers of the model: of the retention, else of the method with most of them."""
        rows = [len(rows) for rows in self.scores.values()]
        return len(self.retention) if self.retention is not None else max(rows, default=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a float32 is written with the fewest digits that give it back."""
        return {
            "id": self.id,
            "tokens": list(self.tokens),
            "words": self.words.tolist(),
            "rationale": self.rationale.astype(int).tolist(),
            "scores": {name: [_short(row) for row in rows] for name, rows in self.scores.items()},
            "retention": None if self.retention is None else self.retention.astype(int).tolist(),
            "prediction": self.prediction,
            "label": self.label,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> DocumentScores:
        """What `to_dict` gave."""
        n = len(row["tokens"])
        scores = {
            name: np.array(rows, dtype=np.float64).astype(np.float32).reshape(-1, n)  # None has become NaN
            for name, rows in row["scores"].items()
        }
        return cls(**{**row, "tokens": tuple(row["tokens"]), "scores": scores})


def _short(row: NDArray[np.float32]) -> list[float]:
    return [float(str(value)) for value in row]  # str: .1, not the .10000000149011612 of float()
