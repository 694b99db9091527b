"""Every method and both models on the windows of documents, out of the cache where they are there.

Windows are scored a chunk of documents at a time, in batches of similar length, and written to the cache chunk by
chunk. So a run that was killed and goes on ends with the numbers of a run that was not, to the last bit. A value that
another run left in the cache can differ from a new one in the last bits of a float32: it was computed in a batch with
other windows.

n wordpieces of a window; L' layers that a method scores, L all; C classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapler.model.batching import batches_by_length
from analysis.documents.batching import collate
from analysis.documents.units import WindowScores
from analysis.documents.windows import Window
from analysis.evaluation.cache import Arrays, ScoreCache
from analysis.evaluation.cache.entries import DIAGNOSTIC, Entry, adapler_entry, classifier_entry, method_entry
from analysis.evaluation.cache.fingerprints import facts_key, model_fingerprint, window_key
from analysis.evaluation.plan import Plan
from analysis.evaluation.settings import Settings
from analysis.scores import Batch, ScoringMethod
from analysis.scores.passes import in_format, run_format

CLASSIFIER, ADAPLER = "classifier", "adapler"  # entries beside those of the methods, whose names are their keys


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """Everything the models say about one window.

    scores            method's key -> its scores, in the order asked for
    logits            (C,) of the plain classifier
    adapler_logits    (C,), lengths (L,), retention (L, n): of the AdapLeR model, None without one
    """

    window: Window
    scores: Mapping[str, WindowScores]
    logits: NDArray[np.float32]
    adapler_logits: NDArray[np.float32] | None = None
    lengths: NDArray[np.int64] | None = None
    retention: NDArray[np.bool_] | None = None


class Scorer:
    """Scores windows; holds nothing of them once they are given out.

    methods: what to score with; the models are left as found.
    from_cache, computed: windows times entries so far.
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
        self.model, self.adapler, self.tokenizer = model, in_format(adapler, settings.dtype), tokenizer
        self.methods, self.settings, self.cache = tuple(methods), settings, cache
        n_layers = int(model.config.num_hidden_layers)
        self.entries = {method.key: method_entry(method, n_layers) for method in methods}
        self.entries[CLASSIFIER] = classifier_entry()
        if adapler is not None:
            self.entries[ADAPLER] = adapler_entry(n_layers)
        # an AdapLeR model is known by its own weights and its backbone's; hashing takes a second for a gigabyte
        on_disk = cache.folder is not None
        self.fingerprint = model_fingerprint(model) if on_disk else None
        self.adapler_fingerprint = model_fingerprint(self.adapler) if on_disk and adapler is not None else None
        self._bases = {name: self._base(entry) for name, entry in self.entries.items()}
        self.from_cache = self.computed = 0

    @property
    def device(self) -> torch.device:
        """Where the classifier's weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def _base(self, entry: Entry) -> str | None:
        """Hash of everything that an entry depends on but the window; None when it cannot be kept."""
        model = self.adapler_fingerprint if entry.of_adapler else self.fingerprint
        if model is None or entry.facts is None:
            return None
        facts = {
            "model": model,
            "dtype": self.settings.dtype,
            "device": self.device.type,
            "pad": self.tokenizer.pad_token_id,
            "mask": self.tokenizer.mask_token_id,
            "threshold_scale": self.settings.threshold_scale if entry.scale else None,
        }
        return facts_key({**facts, **entry.facts})

    def key(self, name: str, window: Window, label: int) -> str | None:
        """Cache key of one entry of one window; None when it cannot be kept."""
        base, entry = self._bases[name], self.entries[name]
        if base is None:
            return None
        seed = self.settings.seed if entry.seed else None
        return window_key(base, window, label=label if entry.label else None, seed=seed)

    def score(
        self, windows: Sequence[Window], labels: Sequence[int], tick: Callable[[int], object] = lambda n: None
    ) -> list[ScoredWindow]:
        """labels: the model's index of each window's gold class; `tick(n)` is called for every n windows done."""
        keys = [
            {name: self.key(name, window, label) for name in self.entries}
            for window, label in zip(windows, labels, strict=True)
        ]
        stored = self.cache.load_many(key for row in keys for key in row.values() if key is not None)
        found: list[dict[str, Arrays]] = []
        for window, row in zip(windows, keys, strict=True):
            there = {name: stored[key] for name, key in row.items() if key in stored}
            found.append({name: a for name, a in there.items() if self.entries[name].fits(a, len(window))})
        self.from_cache += sum(map(len, found))
        self._complete(found, keys, windows, labels, tick)
        return [self._scored(window, arrays) for window, arrays in zip(windows, found, strict=True)]

    def _complete(
        self,
        found: list[dict[str, Arrays]],
        keys: Sequence[Mapping[str, str | None]],
        windows: Sequence[Window],
        labels: Sequence[int],
        tick: Callable[[int], object],
    ) -> None:
        """Compute what is missing, and keep it; windows that miss the same entries share passes.

        Two windows that are the same get one value, computed once: as they will when it comes from the cache.
        """
        groups: dict[tuple[str, ...], list[int]] = {}
        known: set[str | None] = set()
        for i, there in enumerate(found):
            missing = [name for name in self.entries if name not in there and keys[i][name] not in known]
            groups.setdefault(tuple(missing), []).append(i)
            known |= {keys[i][name] for name in missing} - {None}
        fresh: dict[str, Arrays] = {}
        for names, members in groups.items():
            if not names:
                tick(len(members))
                continue
            budget = self.settings.batch_tokens(self.device.type)
            for places in batches_by_length([len(windows[i]) for i in members], token_budget=budget):
                batch = [members[place] for place in places]
                computed = self._compute(names, [windows[i] for i in batch], [labels[i] for i in batch])
                for i, arrays in zip(batch, computed, strict=True):
                    found[i] |= arrays
                    fresh |= {key: arrays[name] for name in names if (key := keys[i][name]) is not None}
                self.computed += len(batch) * len(names)
                tick(len(batch))
        self.cache.save_many(fresh)
        for row, there in zip(keys, found, strict=True):
            there |= {name: fresh[key] for name, key in row.items() if name not in there and key is not None}

    def _compute(
        self, names: Sequence[str], windows: Sequence[Window], labels: Sequence[int]
    ) -> list[dict[str, Arrays]]:
        """The entries of one batch's windows."""
        batch = self._collate(windows, labels)
        lengths = [len(window) for window in windows]
        rows: list[dict[str, Arrays]] = [{} for _ in windows]
        with run_format(self.settings.dtype, self.device):
            for name in names:
                entry = self.entries[name]
                computed = entry.compute(self.adapler if entry.of_adapler else self.model, batch, lengths)
                for row, arrays in zip(rows, computed, strict=True):
                    row[name] = arrays
        return rows

    def _collate(self, windows: Sequence[Window], labels: Sequence[int]) -> Batch:
        return collate(
            windows,
            labels=labels,
            pad_token_id=self.tokenizer.pad_token_id,
            mask_token_id=self.tokenizer.mask_token_id,
            device=self.device,
            seed=self.settings.seed,
            threshold_scale=self.settings.threshold_scale,
        )

    def _scored(self, window: Window, arrays: Mapping[str, Arrays]) -> ScoredWindow:
        reduced = arrays.get(ADAPLER, {})
        return ScoredWindow(
            window=window,
            scores={method.key: _window_scores(arrays[method.key]) for method in self.methods},
            logits=arrays[CLASSIFIER]["logits"],
            adapler_logits=reduced.get("logits"),
            lengths=reduced.get("lengths"),
            retention=reduced.get("retention"),
        )


def score_documents(
    plan: Plan, scorer: Scorer, *, tick: Callable[[int], object] = lambda n: None
) -> Iterator[tuple[int, tuple[ScoredWindow, ...]]]:
    """(document's index, its windows), document after document."""
    for documents, alignments in plan.chunks():
        windows = [window for alignment in alignments for window in alignment.windows]
        gold = zip(documents, alignments, strict=True)
        labels = [plan.gold[i] for i, alignment in gold for _ in alignment.windows]
        scored = iter(scorer.score(windows, labels, tick))
        for i, alignment in zip(documents, alignments, strict=True):
            yield i, tuple(next(scored) for _ in alignment.windows)


def _window_scores(arrays: Arrays) -> WindowScores:
    return WindowScores(
        arrays["scores"],
        arrays.get("present"),
        bool(arrays["signed"]),
        {name.removeprefix(DIAGNOSTIC): row for name, row in arrays.items() if name.startswith(DIAGNOSTIC)},
    )
