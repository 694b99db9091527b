"""Many documents through one model: the verdict of each with and without removal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pandas as pd
import torch
from scipy.stats import binomtest

from adapler.errors import ArgumentError
from adapler.flops import speedup
from adapler.inference import pad_rows
from adapler.passes import check_finite
from app.documents import Document
from app.tracing import encode

BATCH = 8  # documents of similar length: whoever waits for the model waits for one batch
LEVEL = 0.95  # of intervals
TABLE = (
    "document",
    "label",
    "verdict",
    "probability",
    "right",
    "without removal",
    "probability without",
    "changed",
    "tokens",
    "cut",
    "last layer",
    "FLOPs speedup",
)


@dataclass(frozen=True, eq=False)
class Reading:
    """A document as the model reads it; of a longer one than its input, as far as it reads.

    verdict, probability  with removal; full_verdict, full_probability: without
    right    of the verdict; None where the document's label is none of the model's
    tokens, last  in the input, and in the last layer
    cut      the document is longer than the input
    speedup  of FLOPs
    """

    verdict: str
    probability: float
    full_verdict: str
    full_probability: float
    right: bool | None
    tokens: int
    cut: bool
    last: int
    speedup: float


@torch.inference_mode()
def read(model: Any, tokenizer: Any, found: Sequence[Document], *, threshold_scale: float = 1.0) -> list[Reading]:
    """One batch, in the order of `found`. model: AdapLeRForSequenceClassification in evaluation mode.

    Raises:
        ArgumentError: as `tracing.encode`, of the first that it refuses, and logits that are not finite.
    """
    encoded = [encode(model, tokenizer, document.words, document.query_words) for document in found]
    rows = [{name: values[0].tolist() for name, values in batch.items()} for batch, _ in encoded]
    batch = pad_rows(rows, pad_token_id=tokenizer.pad_token_id, device=model.device)
    hard = model(**batch, removal="hard", threshold_scale=threshold_scale, return_dict=True)
    full = model(**batch, removal="none", return_dict=True)
    check_finite(torch.cat([hard.logits, full.logits]))
    sizes, lengths = batch["attention_mask"].sum(1).cpu(), hard.lengths.cpu()  # (B,), (B, L)
    shares, full_shares = (out.logits.double().softmax(-1).cpu().numpy() for out in (hard, full))
    names = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    made = []
    for row, document in enumerate(found):
        best, plain = int(shares[row].argmax()), int(full_shares[row].argmax())
        size = sizes[row : row + 1]
        made.append(
            Reading(
                verdict=names[best],
                probability=float(shares[row, best]),
                full_verdict=names[plain],
                full_probability=float(full_shares[row, plain]),
                right=None if (gold := document.gold_index(names)) is None else gold == best,
                tokens=int(size),
                cut=bool(encoded[row][1].overflowing),
                last=int(lengths[row, -1]),
                speedup=speedup(model.config, size, lengths[row : row + 1]),
            )
        )
    return made


class Survey:
    """All documents, read batch by batch: whoever asks goes on where the one before has stopped.

    refused: those that `tracing.encode` refuses, which have no reading: their number -> why.
    """

    def __init__(self, documents: Sequence[Document], *, threshold_scale: float) -> None:
        self.documents, self.threshold_scale = tuple(documents), threshold_scale
        self._readings: list[Reading | None] = [None] * len(self.documents)
        self.refused: dict[int, str] = {}
        order = sorted(range(len(self.documents)), key=lambda number: len(self.documents[number].words))
        self._waiting = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        self._lock = Lock()

    @property
    def done(self) -> int:
        """Documents that have been read or refused."""
        return len(self.refused) + sum(reading is not None for reading in self._readings)

    @property
    def finished(self) -> bool:
        return self.done == len(self.documents)

    def advance(self, model: Any, tokenizer: Any) -> None:
        """Read the next batch, if there is one. Raises ArgumentError for logits that are not finite."""
        with self._lock:
            if not self._waiting:
                return
            chosen = self._waiting[-1]
            for number in chosen:
                document = self.documents[number]
                try:
                    encode(model, tokenizer, document.words, document.query_words)
                except ArgumentError as error:
                    self.refused[number] = str(error)
            kept = [number for number in chosen if number not in self.refused]
            if kept:
                found = [self.documents[number] for number in kept]
                made = read(model, tokenizer, found, threshold_scale=self.threshold_scale)
                for number, reading in zip(kept, made, strict=True):
                    self._readings[number] = reading
            self._waiting.pop()

    @property
    def readings(self) -> list[tuple[Document, Reading]]:
        """Readings so far, in the order of the documents."""
        pairs = zip(self.documents, self._readings, strict=True)
        return [(document, reading) for document, reading in pairs if reading is not None]

    def table(self) -> pd.DataFrame:
        """TABLE, a row for each document that has been read, its number the index; right: <NA> where the label says
        nothing; changed: by removal; cut: longer than the model's input."""
        rows = {
            number: (
                self.documents[number].name,
                self.documents[number].label,
                one.verdict,
                one.probability,
                one.right,
                one.full_verdict,
                one.full_probability,
                one.verdict != one.full_verdict,
                one.tokens,
                one.cut,
                one.last,
                one.speedup,
            )
            for number, one in enumerate(self._readings)
            if one is not None
        }
        return pd.DataFrame(list(rows.values()), index=list(rows), columns=list(TABLE)).astype(
            {"right": "boolean", "cut": "boolean"}
        )


def share_interval(hits: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, at LEVEL."""
    found = binomtest(hits, of).proportion_ci(confidence_level=LEVEL, method="wilson")
    return float(found.low), float(found.high)
