"""Seconds and budgets of one text."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch

from adapler.flops import speedup
from app.model.tracing import encode

REPEATS = 5
SCALES = tuple(round(0.2 * step, 1) for step in range(11))


@dataclass(frozen=True)
class Timing:
    """Milliseconds of forward passes on this server, taken in turn: with removal and without, one pair a repeat."""

    removal: tuple[float, ...]
    plain: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as fast removal makes a pass, for each pair."""
        return tuple(plain / removal for removal, plain in zip(self.removal, self.plain, strict=True))

    @property
    def ratio(self) -> float:
        return median(self.ratios)


@torch.inference_mode()
def measure(
    model: Any, tokenizer: Any, words: tuple[str, ...], *, query: tuple[str, ...] = (), threshold_scale: float
) -> Timing:
    """Time both passes in turn, so that whatever else the machine does hits both alike.

    The first pair, which sets up memory and kernels, is not counted.
    """
    batch, _ = encode(model, tokenizer, words, query)
    taken: dict[str, list[float]] = {"hard": [], "none": []}
    for repeat in range(1 + REPEATS):
        for removal, milliseconds in taken.items():
            started = time.perf_counter()
            out = model(**batch, removal=removal, threshold_scale=threshold_scale, return_dict=True)
            out.logits.cpu()  # waits for a GPU
            if repeat:
                milliseconds.append(1000 * (time.perf_counter() - started))
    return Timing(tuple(taken["hard"]), tuple(taken["none"]))


@torch.inference_mode()
def sweep(model: Any, tokenizer: Any, words: tuple[str, ...], *, query: tuple[str, ...] = ()) -> pd.DataFrame:
    """A row for each of SCALES: scale, speedup, tokens (in the last layer), label, and the probability of the label
    that the model gives without removal."""
    batch, _ = encode(model, tokenizer, words, query)
    length = torch.tensor([batch["input_ids"].shape[1]])
    without = int(model(**batch, removal="none", return_dict=True).logits[0].argmax())
    rows = []
    for scale in SCALES:
        out = model(**batch, removal="hard", threshold_scale=scale, return_dict=True)
        probabilities = out.logits[0].double().softmax(-1).cpu().numpy()
        rows.append(
            {
                "scale": scale,
                "speedup": speedup(model.config, length, out.lengths.cpu()),
                "tokens": int(out.lengths[0, -1]),
                "label": model.config.id2label[int(np.argmax(probabilities))],
                "probability": float(probabilities[without]),
            }
        )
    return pd.DataFrame(rows)
