"""Many documents through one model: each one's verdict with and without removal, and how far each of its words comes.

W words of a document that the model reads, L layers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from adapler.errors import ArgumentError
from adapler.flops import speedup
from adapler.inference import pad_rows
from adapler.outputs import check_finite
from app.model.tracing import encode, read_limit
from app.sources import labels
from app.sources.documents import Document, check_readable

BATCH = 8  # documents of similar length: whoever waits for the model waits for one batch
LEVEL = 0.95  # of intervals
CONTEXT = 5  # words on either side
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
    depth    (W,) layers that each word enters: L for a word that is read to the end
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
    depth: NDArray[np.int8]


@torch.inference_mode()
def read(model: Any, tokenizer: Any, found: Sequence[Document], *, threshold_scale: float = 1.0) -> list[Reading]:
    """One batch, in the order of `found`. model: AdapLeRForSequenceClassification in evaluation mode.

    Raises:
        ArgumentError: as `documents.check_readable`, of the first that it refuses, and logits that are not finite.
    """
    encoded = [encode(model, tokenizer, document.words, document.query_words) for document in found]
    rows = [{name: values[0].tolist() for name, values in batch.items()} for batch, _ in encoded]
    batch = pad_rows(rows, pad_token_id=tokenizer.pad_token_id, device=model.device)
    hard = model(**batch, removal="hard", threshold_scale=threshold_scale, return_dict=True)
    full = model(**batch, removal="none", return_dict=True)
    check_finite(torch.cat([hard.logits, full.logits]))
    sizes, lengths = batch["attention_mask"].sum(1).cpu(), hard.lengths.cpu()  # (B,), (B, L)
    depths = hard.retention_mask.sum(1).cpu().numpy()  # (B, N)
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
                right=_right(document, best, names),
                tokens=int(size),
                cut=bool(encoded[row][1].encodings[0].overflowing),
                last=int(lengths[row, -1]),
                speedup=speedup(model.config, size, lengths[row : row + 1]),
                depth=_word_depths(encoded[row][1], depths[row]),
            )
        )
    return made


def _word_depths(encoding: Any, depths: NDArray[np.int64]) -> NDArray[np.int8]:
    """(W,) a word enters a layer while one of its wordpieces does; a word that the tokenizer sees nothing in: 0."""
    places = zip(encoding.word_ids(), encoding.sequence_ids(), strict=True)
    words = [(token, word) for token, (word, segment) in enumerate(places) if word is not None and segment == 0]
    found = np.zeros(1 + max((word for _, word in words), default=-1), dtype=np.int8)
    for token, word in words:
        found[word] = max(found[word], depths[token])
    return found


def _right(document: Document, verdict: int, names: Sequence[str]) -> bool | None:
    if document.label is None:
        return None
    gold = labels.match(document.label, names, known=document.labels).index
    return None if gold is None else gold == verdict


class Survey:
    """All documents, read batch by batch: whoever asks goes on where the one before has stopped.

    refused: those that `documents.check_readable` refuses, which have no reading: their number -> why.
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
            limit = read_limit(model, tokenizer)
            for number in chosen:
                document = self.documents[number]
                try:
                    check_readable(tokenizer, document.words, document.query_words, limit=limit)
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
        """Those that have been read, in the order of the documents."""
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

    def occurrences(self, word: str) -> pd.DataFrame:
        """Where a word stands, in any case: document, label, verdict, at (its number, from 1), context, survives (the
        last layer that reads it; -1 for none, <NA> where the model does not read so far)."""
        wanted, rows = word.lower(), []
        for document, one in self.readings:
            words = document.words
            for place, written in enumerate(words):
                if written.lower() != wanted:
                    continue
                near = words[max(0, place - CONTEXT) : place], words[place + 1 : place + 1 + CONTEXT]
                rows.append(
                    {
                        "document": document.name,
                        "label": document.label,
                        "verdict": one.verdict,
                        "at": place + 1,
                        "context": " ".join([*near[0], f"[{written}]", *near[1]]),
                        "survives": int(one.depth[place]) - 1 if place < len(one.depth) else None,
                    }
                )
        columns = ["document", "label", "verdict", "at", "context", "survives"]
        return pd.DataFrame(rows, columns=columns).astype({"survives": "Int64"})


def share_interval(hits: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, at LEVEL."""
    found = binomtest(hits, of).proportion_ci(confidence_level=LEVEL, method="wilson")
    return float(found.low), float(found.high)
