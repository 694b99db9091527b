"""Two texts beside each other: which word is which, and what happens otherwise to it.

n tokens or words of the first trace, L its layers
"""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from app.tracing import SPECIAL, Trace

NOWHERE = -1


def align(first: Trace, second: Trace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each token of either trace the same one of the other, NOWHERE for none: the longest common runs, in order.

    Special tokens are the same at the ends whatever a tokenizer calls them.
    """
    matcher = SequenceMatcher(None, _names(first), _names(second), autojunk=False)
    there = np.full(len(first), NOWHERE, dtype=np.int64)
    back = np.full(len(second), NOWHERE, dtype=np.int64)
    for start, other, size in matcher.get_matching_blocks():
        there[start : start + size] = np.arange(other, other + size)
        back[other : other + size] = np.arange(start, start + size)
    return there, back


def _names(trace: Trace) -> list[str]:
    return [
        f"special {trace.words[: token + 1].tolist().count(SPECIAL)}" if trace.words[token] == SPECIAL else surface
        for token, surface in enumerate(trace.surfaces)
    ]


def differs(trace: Trace, other: Trace, match: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(L, n) the token enters a layer on one side only, or is not on the other side. Layers that the other model does
    not have are its last one."""
    marks = np.ones((trace.layers, len(trace)), dtype=np.bool_)
    found = match != NOWHERE
    for layer in range(trace.layers):
        enters = other.enters[min(layer, other.layers - 1)]
        marks[layer, found] = trace.enters[layer, found] != enters[match[found]]
    return marks


def read_only_here(trace: Trace, other: Trace, match: NDArray[np.int64]) -> list[str]:
    """Words that this side reads to the end and the other does not, in order. `trace` has words."""
    last, there = trace.enters[-1], other.enters[-1]
    return [
        trace.surfaces[token]
        for token in range(len(trace))
        if last[token] and trace.words[token] != SPECIAL and (match[token] == NOWHERE or not there[match[token]])
    ]
