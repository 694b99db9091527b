"""Settings of an evaluation, its models, and every method's scores of every window, kept on disk if asked for.

A settings field is declared once: it is an option of `python -m analysis.rationale_eval`, a key of a recipe and a
keyword of `evaluate`. Protocols are presets; numbers of different protocols are not comparable, not even where a metric
has the same name.

Scores are kept one file a (model, method, split), so that a second look at the same texts runs no model. A file's name
has the hash of all that its values depend on besides the text: the model's weights, the method with its options, the
code that computes, dtype, device. In it arrays stand under the hash of their text, so that a sample and the whole split
share a file.

B windows of a batch, N padded length, n wordpieces of a window; L' layers that a method scores, L all; C classes
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from adapler import AdapLeRForSequenceClassification
from adapler.backbones.families import check_task
from adapler.embedded import CHECKPOINT
from adapler.eraser import match_labels
from adapler.errors import ArgumentError
from adapler.inference import GRADIENT_TOKEN_BUDGET, batches_by_length
from adapler.modeling import is_local, load_any_classifier, read_config
from adapler.options import Checked, option
from adapler.system import cache_folder, choose_device, choose_dtype, describe_dtype, replacing
from adapler.text import load_tokenizer, reading
from analysis.corpus import Window, WindowScores, check_rule, collate
from analysis.marks import OTHER_NAMES
from analysis.metrics.faithfulness import BINS, FaithfulnessSettings
from analysis.metrics.plausibility import GROUPS, METRICS, get_metric, metric_names
from analysis.scores import Batch, LayerScores, ScoringMethod
from analysis.scores.base import adapler_pass, classifier_logits, run_format

TOKEN_BUDGET = 2048  # padded tokens of a batch on a GPU: the eager pass holds H x N x N weights a layer


@dataclass(frozen=True)
class Protocol:
    """A preset, whose parts options override; docs/explanation/protocols.md says where each comes from.

    faithfulness   how tokens are taken away, for metrics of that group
    all_rationale  judge documents too whose every token is rationale
    """

    truncation: str
    aggregation: str
    metrics: tuple[str, ...]
    faithfulness: FaithfulnessSettings = field(default_factory=FaithfulnessSettings)
    all_rationale: bool = False


_RATES = tuple(f"{rate}{variant}" for variant in ("", "_present", "_content") for rate in ("fpr", "tpr", "j"))
_DROPS = tuple(
    f"{mark}{kind}{part}"
    for kind in ("comprehensiveness", "sufficiency")
    for mark, part in [*(("", f"_{percent}") for percent in BINS), ("aopc_", "")]
)
PROTOCOLS = {
    "paper": Protocol("truncate", "none", ("average_precision", "roc_auc", *_RATES)),
    "eraser": Protocol(
        "all-windows",
        "max",
        ("auprc", "average_precision", "roc_auc", "token_f1", "iou_f1", *_DROPS)
        + ("comprehensiveness_at_density", "sufficiency_at_density"),
        all_rationale=True,
    ),
    "ferret": Protocol(
        "truncate",
        "none",
        ("auprc_positive", "token_f1_at_5", "token_iou_at_5", "token_f1_at_mean", "token_iou_at_mean")
        + ("aopc_comprehensiveness", "aopc_sufficiency", "loo_kendall"),
        faithfulness=FaithfulnessSettings(bins=tuple(range(10, 101, 10)), rounding="down", positive_only=True),
    ),
}


@dataclass
class Settings(Checked):
    """Scoring and evaluation. Truncation, aggregation and metrics that are not given are the protocol's."""

    split: str = option("split to evaluate: train, val or test", default="test", basic=True)
    limit: int | None = option("number of documents to sample, balanced over labels; default: all", default=None, low=1)
    methods: list[str] | None = option(
        'scoring methods, listed by python -m analysis.scores, with options as in "lime(n_samples=100)"; none: saved '
        "scores only; default: attention attention_received rollout saliency cp cp_carried random",
        default=None,
        basic=True,
    )
    metrics: list[str] = option(f"names or groups ({', '.join(GROUPS)}); default: protocol's", default=None, basic=True)
    protocol: Literal["paper", "eraser", "ferret"] = option(
        "preset of truncation, aggregation, metrics and faithfulness", default="paper", basic=True
    )
    truncation: Literal["truncate", "rationale-windows", "all-windows"] = option(
        "which part of a long document is read; default: the protocol's", default=None, basic=True
    )
    aggregation: Literal["none", "max", "mean", "sum"] = option(
        "how wordpiece scores become word scores; default: the protocol's", default=None
    )
    annotators: str = option("majority, union, or one's index; auto: as the file says, else majority", default="auto")
    queries: Literal["auto", "yes", "no"] = option("query as second segment; auto: if they differ", default="auto")
    faithfulness_variant: Literal["delete", "mask"] | None = option(
        "how faithfulness removes tokens; default: the protocol's", default=None
    )
    faithfulness_layers: list[int] | None = option("layers to measure faithfulness of; default: all", default=None)
    max_length: int | None = option("wordpieces of an input; default: 512, or the model's limit", default=None, low=1)
    threshold_scale: float = option("factor on the thresholds; 0 drops nothing", default=1.0, low=0, below=math.inf)
    speedup: float | None = option("FLOPs speedup by AdapLeR's calibration, instead of a scale", default=None)
    density: float | None = option("share in hard rationales; default: by validation", default=None, above=0, most=1)
    device: str = option("auto (the first GPU, if there is one), cpu, cuda, cuda:N or mps", default="auto")
    dtype: Literal["auto", "float32", "bfloat16"] = option("dtype of layers; published: float32", default="float32")
    token_budget: int | None = option("padded tokens of a batch; default: 1024 (GPU: 2048)", default=None, low=1)
    seed: int = option("random seed of the random baseline, resampling and --limit", default=0, low=0)
    examples: int = option("number of documents whose token scores the report shows", default=3, low=0)
    rationale_layer: int | None = option("layer that --rationales writes, of every method", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.queries, bool):  # YAML's yes and no
            self.queries = "yes" if self.queries else "no"
        for name, hint in get_type_hints(Settings).items():
            if get_origin(hint) is Literal and getattr(self, name) not in (None, *(allowed := get_args(hint))):
                raise ArgumentError(f"{name}: got {getattr(self, name)!r}, allowed are {', '.join(allowed)}")
        preset = PROTOCOLS[self.protocol]
        self.truncation = self.truncation or preset.truncation
        self.aggregation = self.aggregation or preset.aggregation
        self.metrics = expand_metrics(_listed(preset.metrics if self.metrics is None else self.metrics))
        self.methods = None if self.methods is None else _listed(self.methods)
        if self.methods == ["none"]:
            self.methods = []
        self.split = OTHER_NAMES.get(self.split, self.split)
        check_rule(self.annotators)
        bins = self.faithfulness.bins
        for name in self.faithfulness_metrics:
            share = name.rpartition("_")[2]
            if share.isdigit() and int(share) not in bins:
                raise ArgumentError(f"metrics: {name!r}: protocol {self.protocol!r} has the bins {bins}")

    @property
    def faithfulness(self) -> FaithfulnessSettings:
        """Settings of token removal: the protocol's, with the given variant."""
        preset = PROTOCOLS[self.protocol].faithfulness
        return preset if self.faithfulness_variant is None else replace(preset, variant=self.faithfulness_variant)

    @property
    def faithfulness_metrics(self) -> list[str]:
        """Metrics that run the model again."""
        return [name for name in self.metrics if get_metric(name).function is None]

    @property
    def plain_metrics(self) -> list[str]:
        """Metrics that do not run the model again."""
        return [name for name in self.metrics if get_metric(name).function is not None]

    @property
    def needs_rationale(self) -> bool:
        """Whether a document without a human rationale is skipped: not where no metric compares with one."""
        return any(get_metric(name).needs_rationale for name in self.metrics)

    @property
    def all_rationale(self) -> bool:
        """Whether units whose every token is rationale are judged, as ERASER's scorer does."""
        return PROTOCOLS[self.protocol].all_rationale

    @property
    def as_eraser(self) -> bool:
        """Whether ERASER's own scores are computed: they are of words of whole documents."""
        return self.protocol == "eraser" and self.truncation == "all-windows" and self.aggregation != "none"

    def batch_tokens(self, device: str) -> int:
        """Padded tokens of one batch on a device of this type."""
        return self.token_budget or (GRADIENT_TOKEN_BUDGET if device == "cpu" else TOKEN_BUDGET)


def expand_metrics(names: Sequence[str]) -> list[str]:
    """Names of metrics, and names of groups for all metrics of a group, in order and each once."""
    expanded: list[str] = []
    for name in names:
        if name not in METRICS and name not in GROUPS:
            raise ArgumentError(f"metric: got {name!r}, allowed are {', '.join([*METRICS, *GROUPS])}")
        expanded += metric_names(name) if name in GROUPS else (name,)
    if not expanded:
        raise ArgumentError("metrics: got none, at least one is needed")
    return list(dict.fromkeys(expanded))


def _listed(values: Any) -> list[Any]:
    """One name, or one function, is a list of one."""
    return list(values) if isinstance(values, list | tuple) else [values]


# ---- Models

MAX_LENGTH = 512  # wordpieces of an input when nobody says how many
DEFAULT_ADAPLER = CHECKPOINT


def short_path(path: str | Path, *, public: bool = False) -> str:
    """A path relative to the working directory where it lies below it; else as it is, or for others (public: in a
    report) without the folders above."""
    absolute, here = Path(path).expanduser().absolute(), Path.cwd()
    if absolute.is_relative_to(here):
        return absolute.relative_to(here).as_posix()
    return absolute.name if public else str(path)


def decided(settings: Settings, model: Any, adapler: Any) -> tuple[Settings, list[str]]:
    """The settings with dtype, threshold scale and length decided; notes for a reader.

    Raises ArgumentError for a length that the model does not take, a scale or a speedup without an AdapLeR model, both
    of them, and a speedup outside the curve that `adapler calibrate` stored.
    """
    device = next(model.parameters()).device
    notes = [] if settings.dtype == "float32" else [describe_dtype(settings.dtype, device)]
    length = input_length(model, settings.max_length)
    scale, speedup = settings.threshold_scale, settings.speedup
    if adapler is None and (speedup is not None or scale != 1):
        name, value = ("speedup", speedup) if speedup is not None else ("threshold_scale", scale)
        raise ArgumentError(f"{name}: got {value}, but there is no AdapLeR model (--adapler)")
    if speedup is not None:
        if scale != 1:
            raise ArgumentError("speedup and threshold_scale: only one of them can be given")
        choice = adapler.choose_scale(speedup=speedup)
        scale = choice.threshold_scale
        here = reading({"max_length": length, "long_documents": settings.truncation})
        notes += [note for note in (str(choice), choice.other_reading(here)) if note]
    dtype: Any = choose_dtype(settings.dtype, device)
    return replace(settings, dtype=dtype, threshold_scale=scale, speedup=None, max_length=length), notes


def uncompiled(model: Any) -> Any:
    """The model under `torch.compile`, whose modules methods read; anything else as it is."""
    return getattr(model, "_orig_mod", model)


def load_models(
    model: Any, adapler: Any, tokenizer: Any = None, *, device: str = "auto", words: bool = True
) -> tuple[Any, Any, Any]:
    """(classifier, AdapLeR model or None, tokenizer), each given as an object, a folder or a hub name.

    Neither model nor adapler: the embedded checkpoint; adapler alone: its backbone is the classifier. device "auto":
    models given as objects stay where they are, others go to them, or to the first GPU. words: as of `load_tokenizer`.

    Raises CheckpointError for what cannot be loaded, ArgumentError for two models that do not fit, for weights in
    another precision than float32, and for a device that is not there.
    """
    model, reducer = uncompiled(model), uncompiled(adapler)
    if model is None and reducer is None:
        reducer = DEFAULT_ADAPLER
    given = [one.device for one in (model, reducer) if hasattr(one, "device")]
    named = next((one for one in (reducer, model) if isinstance(one, str | os.PathLike)), None)
    if isinstance(reducer, str | os.PathLike):
        reducer = AdapLeRForSequenceClassification.from_pretrained(_name(reducer))
    elif reducer is not None and not isinstance(reducer, AdapLeRForSequenceClassification):
        raise ArgumentError(f"adapler: got a {type(reducer).__name__}, must be an AdapLeR model or its folder")
    if isinstance(model, str | os.PathLike):
        load = AdapLeRForSequenceClassification.from_pretrained if is_adapler(model) else load_any_classifier
        model = load(_name(model))
    model = reducer if model is None else model
    if isinstance(model, AdapLeRForSequenceClassification):
        model = model.backbone
    config, kinds = getattr(model, "config", None), type(model).__mro__
    headless = kinds[0].__module__.startswith("transformers.") and not any(
        one.__name__.endswith("ForSequenceClassification") for one in kinds
    )  # a class of one's own is taken at its word
    if headless or not isinstance(model, torch.nn.Module) or getattr(config, "is_encoder_decoder", config is None):
        wanted = "an encoder with a classification head (...ForSequenceClassification), a folder or a hub name"
        raise ArgumentError(f"model: got a {kinds[0].__name__}, must be {wanted}")
    for name, one in (("model", model), ("adapler", reducer)):
        dtypes = () if one is None else {p.dtype for p in one.parameters() if p.is_floating_point()}
        if other := next((str(dtype) for dtype in dtypes if dtype != torch.float32), ""):
            kind = other.removeprefix("torch.")  # what is computed would be called float32
            raise ArgumentError(f"{name}: its weights are {kind}; give it in float32, and dtype='bfloat16' for speed")
    if reducer is not None:
        _check_fit(model, reducer)
    place = given[0] if device == "auto" and given else choose_device(device)
    for one in (model, reducer):
        if one is not None:
            one.to(place)
    if tokenizer is None:
        tokenizer = named or getattr(reducer, "name_or_path", "") or getattr(model, "name_or_path", "")
        if not tokenizer:
            raise ArgumentError("tokenizer: the model does not say where it came from; pass tokenizer=")
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = load_tokenizer(_name(tokenizer), words=words)
    return model, reducer, tokenizer


def gold_indices(model: Any, corpus: Any, examples: Sequence[Any]) -> list[int]:
    """The model's index of each document's label.

    Raises ArgumentError where the names do not tell, and for a model that does not choose one of several labels.
    """
    if hasattr(model.config, "num_labels"):  # a class of one's own is taken at its word
        check_task(model.config)
    # Predictions go by id2label; label2id is another dictionary, which need not agree.
    names = [str(name) for _, name in sorted((int(index), name) for index, name in model.config.id2label.items())]
    indices = match_labels(list(corpus.labels), names)
    if indices is None:
        labels = ", ".join(corpus.labels)
        raise ArgumentError(f"{corpus.name}: its labels, {labels}, are not the model's: {', '.join(names)}")
    known = dict(zip(corpus.labels, indices, strict=True))
    return [known[example.label] for example in examples]


def input_length(model: Any, wanted: int | None) -> int:
    """`wanted`, or MAX_LENGTH as far as the model goes; ArgumentError for more than it takes."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet says -1
        return wanted or MAX_LENGTH
    for name, module in model.named_modules():
        # RoBERTa counts positions from padding_idx + 1
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1
            break
    if wanted is not None and wanted > positions:
        raise ArgumentError(f"max_length: got {wanted}, {type(model).__name__} takes at most {positions} tokens")
    return min(wanted or MAX_LENGTH, int(positions))


def is_adapler(model: Any) -> bool:
    """Whether an object, a folder or a hub name is an AdapLeR model. Raises CheckpointError if there is none."""
    if isinstance(model, str | os.PathLike):
        return bool(read_config(_name(model)).model_type == "adapler")
    return isinstance(uncompiled(model), AdapLeRForSequenceClassification)


def _name(source: str | os.PathLike[str]) -> str:
    source = source if isinstance(source, str) else Path(source)
    name = os.fspath(source)
    return os.path.expanduser(name) if is_local(source) else name


def _check_fit(model: Any, adapler: Any) -> None:
    mine = (model.config.num_hidden_layers, model.config.vocab_size, dict(model.config.id2label))
    theirs = (adapler.config.num_hidden_layers, adapler.backbone.config.vocab_size, dict(adapler.config.id2label))
    for what, one, other in zip(("layers", "vocabulary entries", "labels"), mine, theirs, strict=True):
        if one != other:
            raise ArgumentError(f"model and adapler do not fit: the model has {what} {one}, AdapLeR {other}")


# ---- Scores

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
    """Hash of a model's configuration and weights; None for one with hooks or own modules, whose code is not known."""
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
    for path in sorted([*files, *(ROOT / "analysis" / name for name in ("corpus.py", "faithfulness.py"))]):
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

    def __post_init__(self) -> None:
        if self.adapler is not None and self.settings.dtype != "float32":  # its own pass computes in that dtype
            self.adapler = self.adapler.for_inference(dtype=self.settings.dtype)

    @property
    def counts(self) -> dict[str, int]:
        """Values of windows out of files, and computed ones."""
        files = [file for name, file in self.files.items() if not name.startswith("faithfulness ")]
        return {"from_cache": sum(file.hits for file in files), "computed": sum(file.misses for file in files)}

    def open_files(self, cache: str | Path | bool | None, given: Sequence[str]) -> None:
        """Find what earlier runs left in a folder, for methods of this package; given: names of saved scores."""
        if cache in (None, False) or self.model is None:
            return
        default = os.environ.get("ADAPLER_CACHE") or cache_folder() / "scores"
        folder = Path(default if cache is True else str(cache)).expanduser()
        own = [name for name, one in self.methods.items() if one.of_package]
        hashes = {"model": model_hash(self.model), "adapler": self.adapler and model_hash(self.adapler)}
        how, device = self.settings, next(self.model.parameters()).device.type
        common = {"dtype": how.dtype, "device": device}
        common |= {"pad": self.tokenizer.pad_token_id, "mask": self.tokenizer.mask_token_id}
        for name in [*own, CLASSIFIER, *([ADAPLER] if self.adapler is not None else [])]:
            method = self.methods.get(name)
            reduced = name == ADAPLER or method and "adapler" in method.needs
            scaled = name == ADAPLER or method and method.depends_on("threshold_scale")
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
            budget = self.settings.batch_tokens(device.type)
            for places in batches_by_length(lengths, token_budget=budget) if wanted else ():
                chosen = [members[place] for place in places]
                golds = None if labels is None else [labels[i] for i in chosen]
                batch = self.batch([windows[i] for i in chosen], golds)
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
                for name, tensors in computed.items():
                    arrays = {part: one.detach().cpu().numpy() for part, one in tensors.items()}
                    for row, i in enumerate(chosen):
                        n = len(windows[i])
                        found[i][name] = {k: a[row, :, :n].copy() if a.ndim == 3 else a[row] for k, a in arrays.items()}
                        if name in keys[i]:
                            self.files[name].put(keys[i][name], found[i][name])
                tick(len(chosen))
            tick(0 if wanted else len(members))
        return [self._scored(window, arrays) for window, arrays in zip(windows, found, strict=True)]

    def batch(self, windows: Sequence[Window], labels: Sequence[int] | None = None) -> Batch:
        how, device = self.settings, next(self.model.parameters()).device
        tokens = {"pad_token_id": self.tokenizer.pad_token_id, "mask_token_id": self.tokenizer.mask_token_id}
        options: dict[str, Any] = {"seed": how.seed, "threshold_scale": how.threshold_scale, **tokens}
        return collate(windows, labels=labels, device=device, **options)

    def _read_by(self, name: str, window: Window, label: int | None) -> dict[str, Any]:
        """Inputs of a method besides a window's tokens: a label, or a seed with the window's name."""
        method = self.methods.get(name)
        facts: dict[str, Any] = {"label": label} if method and method.depends_on("labels") else {}
        return facts | ({"seed": self.settings.seed, "id": window.id} if method and method.depends_on("seed") else {})

    def _scored(self, window: Window, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> ScoredWindow:
        reduced = arrays.get(ADAPLER, {})
        scores = {}
        for key in self.methods:
            own = arrays[key]
            said = {name.removeprefix(DIAGNOSTIC): row for name, row in own.items() if name.startswith(DIAGNOSTIC)}
            scores[key] = WindowScores(own["scores"], own.get("present"), bool(own["signed"]), said)
        names = ("logits", "lengths", "retention")
        return ScoredWindow(window, scores, arrays[CLASSIFIER]["logits"], *(reduced.get(name) for name in names))
