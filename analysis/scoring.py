"""Methods and models on windows: attribution scores and logits, out of files where they are there.

On disk there is one .npz a (model, method, split), so that a second look at the same texts runs no model. A file's name
has the hash of all that its values depend on besides the text: the model's weights, the method with its options, the
code of `adapler`, `analysis.scores` and `analysis.metrics`, dtype, device. In it arrays stand under the hash of their
text, so that a sample and the whole split share a file.

B windows of a batch, N padded length, n wordpieces of a window; L' layers that a method scores, L all; C classes
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from adapler.inference import batches_by_length
from adapler.system import cache_folder, replacing
from analysis.alignment import Window, WindowScores, collate
from analysis.scores import Batch, LayerScores, ScoringMethod
from analysis.scores.base import adapler_pass, classifier_logits, run_format
from analysis.settings import Settings

Arrays = dict[str, NDArray[Any]]
ROOT = Path(__file__).resolve().parent.parent
_KNOWN = ("torch", "transformers", "adapler")  # whose modules compute what their versions, or `code_hash`, say
CLASSIFIER, ADAPLER = "classifier", "adapler"  # what is computed besides the methods, whose names are their keys
DIAGNOSTIC = "diagnostic:"  # prefix of a diagnostic's array


def _tensors(result: LayerScores) -> dict[str, Tensor]:
    """A method's result as tensors (B, ...); those by token are (B, L', N)."""
    found = {"scores": result.scores.float(), "signed": torch.full((len(result.scores),), result.signed)}
    if result.present is not None:
        found["present"] = result.present.bool()
    return found | {DIAGNOSTIC + one: values.float() for one, values in result.diagnostics.items()}


def default_folder() -> Path:
    """$ADAPLER_CACHE, or else `scores` in the user's cache folder."""
    folder = os.environ.get("ADAPLER_CACHE")
    return Path(folder).expanduser() if folder else cache_folder() / "scores"


class ScoreFile:
    """Arrays by key; those of an existing file, and those to be written by `save`."""

    def __init__(self, folder: Path | None = None, name: str = "", facts: Mapping[str, Any] | None = None) -> None:
        self.hits = self.misses = 0
        self.path, self._new, self._stored = None, {}, {}  # type: Path | None, dict[str, Arrays], dict[str, Any]
        if folder is None or facts is None:
            return
        digest = hashlib.sha256(json.dumps({"code": code_hash(), **facts}, sort_keys=True, default=str).encode())
        self.path = folder / f"{file_name(name)[:80]}-{digest.hexdigest()[:24]}.npz"
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                for name, values in stored.items():
                    key, _, part = name.partition("/")
                    self._stored.setdefault(key, {})[part] = values
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            self._stored = {}  # not there, or damaged: it is computed again

    def get(self, key: str) -> Arrays | None:
        """The arrays under a key, or None."""
        found = self._stored.get(key) or self._new.get(key)
        self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep arrays until `save`."""
        if self.path is not None:
            self._new[key] = arrays

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is None or not self._new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entries = self._stored | self._new
        with replacing(self.path) as partial, partial.open("wb") as stream:
            np.savez(stream, **{f"{key}/{part}": one for key, row in entries.items() for part, one in row.items()})
        self._stored, self._new = entries, {}


def file_name(method: str) -> str:
    """A method's key as a file name: letters, digits, "_", ".", "=" and "-"."""
    return re.sub(r"[^\w.=-]+", "-", method).strip("-")


def window_key(window: Window, **facts: Any) -> str:
    """Hash of a window's tokens, and of a label or a seed where values depend on them."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    types = window.input_ids * 0 - 1 if window.token_type_ids is None else window.token_type_ids
    for values in (window.input_ids, types, window.special.astype(np.int64)):
        digest.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    return digest.hexdigest()[:32]


def model_hash(model: Any) -> str | None:
    """Hash of a model's configuration and weights; None for one with hooks, or with modules of somebody's own, whose
    code is not known."""
    for module in model.modules():
        if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
            return None
        if type(module).__module__.partition(".")[0] not in _KNOWN:
            return None
    config = {name: value for name, value in model.config.to_dict().items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


@lru_cache(maxsize=1)  # the code that runs is the code that was there when it was imported
def code_hash() -> str:
    """Hash of the code that makes scores and values, and of the libraries below."""
    digest = hashlib.sha256(f"{torch.__version__} {transformers.__version__}".encode())
    folders = [ROOT / "adapler", ROOT / "analysis" / "scores", ROOT / "analysis" / "metrics"]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    for path in sorted([*files, *(ROOT / "analysis" / name for name in ("alignment.py", "faithfulness.py"))]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """Everything the models say about one window.

    scores            method's key -> its scores, in the given order
    logits            (C,) of the plain classifier
    adapler_logits    (C,), lengths (L,), retention (L, n): of the AdapLeR model, None without one
    """

    window: Window
    scores: Mapping[str, WindowScores]
    logits: NDArray[np.float32]
    adapler_logits: NDArray[np.float32] | None = None
    lengths: NDArray[np.int64] | None = None
    retention: NDArray[np.bool_] | None = None


@dataclass(eq=False)
class Scorer:
    """Models, methods and settings: windows -> scores. model None: there is nothing to compute.

    files: what is kept on disk, by method's key, CLASSIFIER, ADAPLER, and "faithfulness KEY".
    """

    model: Any
    adapler: Any
    tokenizer: Any
    settings: Settings
    methods: dict[str, ScoringMethod] = field(default_factory=dict)
    files: dict[str, ScoreFile] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Values of windows out of files, and computed ones."""
        files = [file for name, file in self.files.items() if not name.startswith("faithfulness ")]
        return {"from_cache": sum(file.hits for file in files), "computed": sum(file.misses for file in files)}

    def open_files(self, cache: str | Path | bool | None, given: Sequence[str]) -> None:
        """Find what earlier runs left in a folder, for methods of this package; given: names of saved scores."""
        if cache in (None, False) or self.model is None:
            return
        folder = default_folder() if cache is True else Path(str(cache)).expanduser()
        own = [name for name, one in self.methods.items() if one.of_package]
        hashes = {
            "model": model_hash(self.model),
            "adapler": None if self.adapler is None else model_hash(self.adapler),
        }
        how, device = self.settings, next(self.model.parameters()).device
        common = {
            "dtype": how.dtype,
            "device": device.type,
            "pad": self.tokenizer.pad_token_id,
            "mask": self.tokenizer.mask_token_id,
        }
        for name in [*own, CLASSIFIER, *([ADAPLER] if self.adapler is not None else [])]:
            method = self.methods.get(name)
            reduced = name == ADAPLER or method is not None and "adapler" in method.needs
            scaled = name == ADAPLER or method is not None and method.depends_on("threshold_scale")
            facts = common | {"of": hashes["adapler" if reduced else "model"], "method": name}
            facts["threshold_scale"] = how.threshold_scale if scaled else None
            if facts["of"] is not None:
                self.files[name] = ScoreFile(folder, f"{name}-{how.split}", facts)
        if how.faithfulness_metrics and hashes["model"] is not None:
            facts = common | {"of": hashes["model"], "metrics": how.faithfulness_metrics, "how": str(how.faithfulness)}
            facts |= {"layers": how.faithfulness_layers, "aggregation": how.aggregation, "seed": how.seed}
            for name in [*self.methods, *given]:
                self.files[f"faithfulness {name}"] = ScoreFile(folder, f"faithfulness-{name}-{how.split}", facts)

    def save_files(self) -> None:
        for file in self.files.values():
            file.save()

    def score(
        self,
        windows: Sequence[Window],
        labels: Sequence[int] | None = None,
        *,
        tick: Callable[[int], object] = lambda n: None,
    ) -> list[ScoredWindow]:
        """Every method and both models on every window. labels: the model's index of each window's gold class."""
        if self.model is None:
            tick(len(windows))
            return [ScoredWindow(window, {}, np.zeros(0, dtype=np.float32)) for window in windows]
        names = [*self.methods, CLASSIFIER, *([ADAPLER] if self.adapler is not None else [])]
        keys: list[dict[str, str]] = [{} for _ in windows]
        found: list[dict[str, dict[str, NDArray[Any]]]] = [{} for _ in windows]
        missing: dict[tuple[str, ...], list[int]] = {}  # windows that miss the same values share passes
        for i, window in enumerate(windows):
            for name in self.files.keys() & set(names):
                facts = self._read_by(name, window, None if labels is None else labels[i])
                keys[i][name] = window_key(window, **facts)
                if (stored := self.files[name].get(keys[i][name])) is not None:
                    found[i][name] = stored
            missing.setdefault(tuple(name for name in names if name not in found[i]), []).append(i)
        device = next(self.model.parameters()).device
        for wanted, members in missing.items():
            lengths = [len(windows[i]) for i in members]
            for places in (
                batches_by_length(lengths, token_budget=self.settings.batch_tokens(device.type)) if wanted else ()
            ):
                chosen = [members[place] for place in places]
                batch = self.batch(
                    [windows[i] for i in chosen], None if labels is None else [labels[i] for i in chosen]
                )
                computed: dict[str, dict[str, Tensor]] = {}
                with run_format(self.settings.dtype, device):
                    for name in wanted:
                        if name == CLASSIFIER:
                            computed[name] = {"logits": classifier_logits(self.model, batch)}
                        elif name == ADAPLER:
                            output = adapler_pass(self.adapler, batch)
                            computed[name] = {"logits": output.logits.float(), "lengths": output.lengths}
                            computed[name]["retention"] = output.retention_mask.bool()
                        else:
                            method = self.methods[name]
                            result = method(self.adapler if "adapler" in method.needs else self.model, batch)
                            computed[name] = _tensors(result)
                arrays = {
                    name: {part: one.detach().cpu().numpy() for part, one in tensors.items()}
                    for name, tensors in computed.items()
                }
                for row, i in enumerate(chosen):
                    for name in wanted:
                        n = len(windows[i])
                        found[i][name] = {
                            k: a[row, :, :n].copy() if a.ndim == 3 else a[row] for k, a in arrays[name].items()
                        }
                        if name in keys[i]:
                            self.files[name].put(keys[i][name], found[i][name])
                tick(len(chosen))
            tick(0 if wanted else len(members))
        return [self._scored(window, arrays) for window, arrays in zip(windows, found, strict=True)]

    def batch(self, windows: Sequence[Window], labels: Sequence[int] | None = None) -> Batch:
        return collate(
            windows,
            labels=labels,
            pad_token_id=self.tokenizer.pad_token_id,
            mask_token_id=self.tokenizer.mask_token_id,
            device=next(self.model.parameters()).device,
            seed=self.settings.seed,
            threshold_scale=self.settings.threshold_scale,
        )

    def _read_by(self, name: str, window: Window, label: int | None) -> dict[str, Any]:
        """Inputs of a method besides a window's tokens: a label, or a seed with the window's name."""
        method = self.methods.get(name)
        facts: dict[str, Any] = {}
        if method is not None and method.depends_on("labels"):
            facts["label"] = label
        if method is not None and method.depends_on("seed"):
            facts |= {"seed": self.settings.seed, "id": window.id}
        return facts

    def _scored(self, window: Window, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> ScoredWindow:
        reduced = arrays.get(ADAPLER, {})
        scores = {}
        for key in self.methods:
            own = arrays[key]
            said = {name.removeprefix(DIAGNOSTIC): row for name, row in own.items() if name.startswith(DIAGNOSTIC)}
            scores[key] = WindowScores(own["scores"], own.get("present"), bool(own["signed"]), said)
        names = ("logits", "lengths", "retention")
        return ScoredWindow(window, scores, arrays[CLASSIFIER]["logits"], *(reduced.get(name) for name in names))
