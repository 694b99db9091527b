"""Every method and both models on a chunk of windows, out of the cache where they are there.

W windows of the chunk, T their wordpieces together; L' layers that a method scores, L all; C classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapler.model.batching import batches_by_length
from analysis.documents.batching import collate
from analysis.documents.units import WindowScores
from analysis.documents.windows import Window
from analysis.evaluation.cache import (
    Arrays,
    ScoreCache,
    chunk_key,
    code_fingerprint,
    model_fingerprint,
    source_fingerprint,
)
from analysis.evaluation.plan import Plan
from analysis.evaluation.settings import DTYPES, Settings
from analysis.scores import Batch, ScoringMethod
from analysis.scores.contribution import adapler_pass
from analysis.scores.shared.forward import classifier_logits

DIAGNOSTIC = "diagnostic:"  # prefix of a diagnostic's array in a file


@dataclass(frozen=True, eq=False)
class MethodChunk:
    """One method on the W windows; key: the name under which the cache keeps it.

    diagnostics: name -> (W, L').
    """

    key: str
    windows: tuple[WindowScores, ...]
    diagnostics: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Everything the models say about W windows.

    methods           in the order asked for
    logits            (W, C) of the plain classifier
    adapler_logits    (W, C), lengths (W, L), retention W times (L, n): of the AdapLeR model, None without one
    """

    windows: tuple[Window, ...]
    methods: tuple[MethodChunk, ...]
    logits: NDArray[np.float32]
    adapler_logits: NDArray[np.float32] | None = None
    lengths: NDArray[np.int64] | None = None
    retention: tuple[NDArray[np.bool_], ...] | None = None


class Scorer:
    """Scores chunk after chunk; holds nothing of a chunk once it is given out.

    methods: what to score with; the models are left as found. `tick(n)` is called for every n windows done.
    """

    def __init__(
        self,
        *,
        model: Any,
        adapler: Any,
        tokenizer: Any,
        methods: Sequence[ScoringMethod],
        settings: Settings,
        cache: ScoreCache,
    ) -> None:
        self.model, self.adapler, self.tokenizer = model, adapler, tokenizer
        self.methods, self.settings, self.cache = tuple(methods), settings, cache
        self.entries: dict[str, _Entry] = {method.key: _method_entry(method) for method in methods}
        self.entries["classifier"] = _Entry({"entry": "classifier"}, False, _classifier_arrays)
        if adapler is not None:
            self.entries["adapler"] = _Entry({"entry": "adapler"}, True, _adapler_arrays)
        # an AdapLeR model is known by its own weights and its backbone's; hashing takes a second for a gigabyte
        on_disk = cache.folder is not None
        self.fingerprint = model_fingerprint(model) if on_disk else ""
        self.adapler_fingerprint = model_fingerprint(adapler) if on_disk and adapler is not None else ""
        self.from_cache = self.computed = 0  # windows times entries

    def keys(self, windows: Sequence[Window], labels: Sequence[int]) -> dict[str, str]:
        """Cache keys of everything that is computed for these windows."""
        common = {
            "code": code_fingerprint(),
            "dtype": self.settings.dtype,
            "seed": self.settings.seed,
            "pad": self.tokenizer.pad_token_id,
            "mask": self.tokenizer.mask_token_id,
        }
        ours = {"model": self.fingerprint}
        reduced = {"adapler": self.adapler_fingerprint, "threshold_scale": self.settings.threshold_scale}
        return {
            name: chunk_key({**common, **entry.facts, **(reduced if entry.needs_adapler else ours)}, windows, labels)
            for name, entry in self.entries.items()
        }

    def score(
        self, windows: Sequence[Window], labels: Sequence[int], tick: Callable[[int], object] = lambda n: None
    ) -> Chunk:
        """labels: (W,) the model's index of each window's gold class."""
        keys = self.keys(windows, labels)
        total = sum(len(window) for window in windows)
        arrays = {name: self.cache.load(key) for name, key in keys.items()}
        missing = [name for name, found in arrays.items() if found is None or not _fits(found, len(windows), total)]
        self.computed += len(missing) * len(windows)
        self.from_cache += (len(keys) - len(missing)) * len(windows)
        if missing:
            for name, fresh in self._compute(missing, windows, labels, tick).items():
                self.cache.save(keys[name], fresh)
                arrays[name] = fresh
        else:
            tick(len(windows))
        return _chunk(windows, [method.key for method in self.methods], keys, arrays)

    def _compute(
        self,
        names: Sequence[str],
        windows: Sequence[Window],
        labels: Sequence[int],
        tick: Callable[[int], object],
    ) -> dict[str, Arrays]:
        parts: dict[str, list[Arrays]] = {name: [] for name in names}
        order: list[int] = []
        for indices in batches_by_length([len(w) for w in windows], token_budget=self.settings.token_budget):
            chosen = [windows[i] for i in indices]
            batch = self._collate(chosen, [labels[i] for i in indices])
            device = batch.input_ids.device.type
            low = self.settings.dtype != "float32"
            with torch.autocast(device, dtype=DTYPES[self.settings.dtype], enabled=low):
                for name in names:
                    entry = self.entries[name]
                    subject = self.adapler if entry.needs_adapler else self.model
                    parts[name].append(entry.compute(subject, batch, [len(window) for window in chosen]))
            order += indices
            tick(len(indices))
        return {name: _in_order(found, order, windows) for name, found in parts.items()}

    def _collate(self, windows: Sequence[Window], labels: Sequence[int]) -> Batch:
        return collate(
            windows,
            labels=labels,
            pad_token_id=self.tokenizer.pad_token_id or 0,
            mask_token_id=self.tokenizer.mask_token_id,
            device=next(self.model.parameters()).device,
            seed=self.settings.seed,
            threshold_scale=self.settings.threshold_scale,
        )


def score_chunks(
    plan: Plan, scorer: Scorer, *, tick: Callable[[int], object] = lambda n: None
) -> Iterator[tuple[list[tuple[int, slice]], Chunk]]:
    """([(document's index, its windows among the chunk's), ...], chunk), chunk after chunk."""
    for documents, alignments in plan.chunks():
        windows: list[Window] = []
        places = []
        for i, alignment in zip(documents, alignments, strict=True):
            places.append((i, slice(len(windows), len(windows) + len(alignment.windows))))
            windows += alignment.windows
        labels = [plan.gold[i] for i, place in places for _ in windows[place]]
        yield places, scorer.score(windows, labels, tick)


# Arrays of a file come in two kinds, told apart by their name: "tokens:..." are (T, L'), the windows' wordpieces
# one window after the other; all others are (W, ...), one row a window.
TOKENS = "tokens:"


@dataclass(frozen=True)
class _Entry:
    """What the cache keeps under one name: `compute(model, batch, lengths)` gives its arrays for one batch."""

    facts: Mapping[str, Any]
    needs_adapler: bool
    compute: Callable[[Any, Batch, Sequence[int]], Arrays]


def _method_entry(method: ScoringMethod) -> _Entry:
    def compute(model: Any, batch: Batch, lengths: Sequence[int]) -> Arrays:
        result = method(model, batch)
        arrays: Arrays = {f"{TOKENS}scores": _flat(result.scores.float(), lengths)}
        arrays["signed"] = np.full(len(lengths), result.signed)
        if result.present is not None:
            arrays[f"{TOKENS}present"] = _flat(result.present.bool(), lengths)
        for name, values in result.diagnostics.items():
            arrays[DIAGNOSTIC + name] = values.detach().float().cpu().numpy()
        return arrays

    facts = {
        "entry": "method",
        "method": method.name,
        "options": dict(method.options),
        "source": source_fingerprint(method.function),
    }
    return _Entry(facts, "adapler" in method.needs, compute)


def _classifier_arrays(model: Any, batch: Batch, lengths: Sequence[int]) -> Arrays:
    return {"logits": classifier_logits(model, batch).detach().cpu().numpy()}


def _adapler_arrays(model: Any, batch: Batch, lengths: Sequence[int]) -> Arrays:
    output = adapler_pass(model, batch)
    return {
        "logits": output.logits.detach().float().cpu().numpy(),
        "lengths": output.lengths.cpu().numpy(),
        f"{TOKENS}retention": _flat(output.retention_mask.bool(), lengths),
    }


def _flat(values: torch.Tensor, lengths: Sequence[int]) -> NDArray[Any]:
    """(B, L', N) padded -> (sum of lengths, L')."""
    array = values.detach().cpu().numpy()
    return np.concatenate([array[row, :, :length].T for row, length in enumerate(lengths)])


def _in_order(parts: Sequence[Arrays], order: Sequence[int], windows: Sequence[Window]) -> Arrays:
    """Batches' arrays, whose windows come in `order`, joined in the order of the windows."""
    back = np.argsort(order)  # (W,) where each window is now
    lengths = np.array([len(windows[i]) for i in order])
    ends = np.cumsum(lengths)
    tokens = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in back])  # (T,)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: array[tokens if name.startswith(TOKENS) else back] for name, array in joined.items()}


def _fits(arrays: Arrays, n_windows: int, n_tokens: int) -> bool:
    return bool(arrays) and all(
        array.ndim > 0 and len(array) == (n_tokens if name.startswith(TOKENS) else n_windows)
        for name, array in arrays.items()
    )


def _by_window(array: NDArray[Any], windows: Sequence[Window]) -> Iterator[NDArray[Any]]:
    """(T, L') -> W times (L', n)."""
    start = 0
    for window in windows:
        yield array[start : start + len(window)].T
        start += len(window)


def _chunk(
    windows: Sequence[Window], names: Sequence[str], keys: Mapping[str, str], arrays: Mapping[str, Arrays | None]
) -> Chunk:
    there = {name: found for name, found in arrays.items() if found is not None}
    methods = tuple(_method_chunk(keys[name], there[name], windows) for name in names)
    reduced = there.get("adapler")
    return Chunk(
        windows=tuple(windows),
        methods=methods,
        logits=there["classifier"]["logits"],
        adapler_logits=None if reduced is None else reduced["logits"],
        lengths=None if reduced is None else reduced["lengths"],
        retention=None if reduced is None else tuple(_by_window(reduced[f"{TOKENS}retention"], windows)),
    )


def _method_chunk(key: str, arrays: Arrays, windows: Sequence[Window]) -> MethodChunk:
    scores = _by_window(arrays[f"{TOKENS}scores"], windows)
    masks = arrays.get(f"{TOKENS}present")
    present = [None] * len(windows) if masks is None else list(_by_window(masks, windows))
    signed = arrays["signed"].tolist()
    return MethodChunk(
        key,
        tuple(WindowScores(s, p, sign) for s, p, sign in zip(scores, present, signed, strict=True)),
        {name.removeprefix(DIAGNOSTIC): a for name, a in arrays.items() if name.startswith(DIAGNOSTIC)},
    )
