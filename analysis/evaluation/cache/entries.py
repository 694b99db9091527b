"""What is kept of one window: an entry a scoring method, one for the classifier, one for the AdapLeR model.

Entry                arrays of one window
a method             scores (L', n) float32, signed (), present (L', n) bool if the method has it, and
                     "diagnostic:NAME" (L',) for each of its diagnostics
the classifier       logits (C,)
the AdapLeR model    logits (C,), lengths (L,), retention (L, n) bool

B windows of a batch, N padded length, n wordpieces of a window; L' layers that a method scores, L all; C classes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.evaluation.cache.fingerprints import code_fingerprint, method_fingerprint
from analysis.evaluation.cache.store import Arrays
from analysis.scores.base import Batch
from analysis.scores.passes import adapler_pass, classifier_logits
from analysis.scores.registry import ScoringMethod

DIAGNOSTIC = "diagnostic:"  # prefix of a diagnostic's array
_HERE = ("analysis.evaluation.cache.entries", "analysis.documents.batching")  # what makes batches and arrays
_ALONE = ("analysis.evaluation.scoring",)  # sets the precision; what it imports makes no value


@dataclass(frozen=True)
class Entry:
    """One kind of value.

    facts: what it depends on beside the model, the window and the libraries; None when it must not be kept.
    of_adapler: the model asked is the AdapLeR model.
    label, seed, scale: whether it depends on the gold label, the seed, the threshold scale.
    compute: (model, batch, lengths) -> the arrays of the batch's windows, one after the other.
    fits: whether arrays from the disk are those of a window of n wordpieces.
    """

    facts: Mapping[str, Any] | None
    of_adapler: bool
    label: bool
    seed: bool
    scale: bool
    compute: Callable[[Any, Batch, Sequence[int]], list[Arrays]]
    fits: Callable[[Arrays, int], bool]


def method_entry(method: ScoringMethod, n_layers: int) -> Entry:
    """The entry of a scoring method; n_layers: of the model."""
    rows = {None: (1, n_layers), True: (n_layers,), False: (1,)}[method.layerwise]

    def compute(model: Any, batch: Batch, lengths: Sequence[int]) -> list[Arrays]:
        result = method(model, batch)
        scores = _rows(result.scores.float(), lengths)
        found: list[Arrays] = [{"scores": one, "signed": np.array(result.signed)} for one in scores]
        if result.present is not None:
            for arrays, present in zip(found, _rows(result.present.bool(), lengths), strict=True):
                arrays["present"] = present
        for name, values in result.diagnostics.items():
            for arrays, row in zip(found, values.detach().float().cpu().numpy(), strict=True):
                arrays[DIAGNOSTIC + name] = row
        return found

    def fits(arrays: Arrays, n: int) -> bool:
        scores, signed, present = (arrays.get(name) for name in ("scores", "signed", "present"))
        return (
            scores is not None
            and signed is not None
            and scores.shape in [(layers, n) for layers in rows]
            and signed.shape == ()
            and (present is None or present.shape == scores.shape)
            and all(row.shape == scores.shape[:1] for name, row in arrays.items() if name.startswith(DIAGNOSTIC))
        )

    code = method_fingerprint(method.function)
    facts = {"entry": "method", "method": method.name, "options": dict(method.options), "source": code}
    return Entry(
        None if code is None else facts | {"code": code_fingerprint(*_HERE, alone=_ALONE)},
        of_adapler="adapler" in method.needs,
        label=method.depends_on("labels"),
        seed=method.depends_on("seed"),
        scale=method.depends_on("threshold_scale"),
        compute=compute,
        fits=fits,
    )


def classifier_entry() -> Entry:
    """The entry of the plain classifier's logits."""

    def compute(model: Any, batch: Batch, lengths: Sequence[int]) -> list[Arrays]:
        return [{"logits": row} for row in classifier_logits(model, batch).detach().cpu().numpy()]

    def fits(arrays: Arrays, n: int) -> bool:
        return "logits" in arrays and arrays["logits"].ndim == 1

    facts = {"entry": "classifier", "code": code_fingerprint(*_HERE, alone=_ALONE)}
    return Entry(facts, of_adapler=False, label=False, seed=False, scale=False, compute=compute, fits=fits)


def adapler_entry(n_layers: int) -> Entry:
    """The entry of the AdapLeR model's logits, lengths and retention."""

    def compute(model: Any, batch: Batch, lengths: Sequence[int]) -> list[Arrays]:
        output = adapler_pass(model, batch)
        logits = output.logits.detach().float().cpu().numpy()
        survivors = output.lengths.cpu().numpy()
        retention = _rows(output.retention_mask.bool(), lengths)
        names = ("logits", "lengths", "retention")
        return [dict(zip(names, rows, strict=True)) for rows in zip(logits, survivors, retention, strict=True)]

    def fits(arrays: Arrays, n: int) -> bool:
        logits, lengths, retention = (arrays.get(name) for name in ("logits", "lengths", "retention"))
        return (
            logits is not None
            and lengths is not None
            and retention is not None
            and logits.ndim == 1
            and lengths.shape == (n_layers,)
            and retention.shape == (n_layers, n)
        )

    facts = {"entry": "adapler", "code": code_fingerprint(*_HERE, alone=_ALONE)}
    return Entry(facts, of_adapler=True, label=False, seed=False, scale=True, compute=compute, fits=fits)


def _rows(values: torch.Tensor, lengths: Sequence[int]) -> list[NDArray[Any]]:
    """(B, L', N) padded -> B times (L', n)."""
    array = values.detach().cpu().numpy()
    return [array[row, :, :length].copy() for row, length in enumerate(lengths)]
