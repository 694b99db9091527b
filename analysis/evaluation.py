"""Methods x layers x documents -> one report.

M methods, L layers, D documents, K metrics; n content tokens of one document
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tqdm import tqdm

import adapler as adapler_package
from adapler.errors import ArgumentError
from adapler.flops import speedup
from adapler.inference import batches_by_length
from analysis.alignment import Account, Alignment, Window, align
from analysis.batching import collate
from analysis.metrics import plausibility as pl
from analysis.report import DocumentRecord, RationaleReport
from analysis.scores import Batch, ScoringMethod, get_method
from analysis.scores.contribution import adapler_pass
from analysis.scores.forward import classifier_logits

PAPER_METHODS = ("attention", "attention_received", "rollout", "saliency", "cp", "random")
_VARIANTS = ("", "_present", "_content")
METRICS = (
    "average_precision",
    *(f"{rate}{variant}" for variant in _VARIANTS for rate in ("fpr", "tpr", "j")),
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOKEN_BUDGET = 2048  # a CPU gains nothing from more, and the eager pass holds H x N x N weights a layer


@dataclass(frozen=True)
class Settings:
    """What a run is made with, checked.

    max_length       wordpieces of one input, special tokens included
    token_budget     padded tokens of one batch
    threshold_scale  multiplies every eta of the AdapLeR model
    dtype            "float32", or "bfloat16" for autocast
    seed             of the random scores and of the bootstrap
    """

    policy: str = "truncate"
    max_length: int = 512
    token_budget: int = TOKEN_BUDGET
    threshold_scale: float = 1.0
    dtype: str = "float32"
    seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ArgumentError(f"dtype: got {self.dtype!r}, allowed are {', '.join(DTYPES)}")
        if not (self.threshold_scale >= 0 and math.isfinite(self.threshold_scale)):
            raise ArgumentError(f"threshold_scale: got {self.threshold_scale}, must be a number of at least 0")
        if self.seed < 0:
            raise ArgumentError(f"seed: got {self.seed}, must be at least 0")
        if self.limit is not None and self.limit < 1:
            raise ArgumentError(f"limit: got {self.limit}, must be at least 1")


def evaluate(
    *,
    model: Any,
    tokenizer: Any,
    corpus: Any,
    adapler: Any = None,
    split: str = "test",
    methods: Sequence[str] | None = None,
    settings: Settings | None = None,
    meta: dict[str, Any] | None = None,
    progress: bool = True,
) -> RationaleReport:
    """Score every document of a split with every method, and compare with its rationale, layer by layer.

    model: the plain classifier; adapler: the AdapLeR model, or None (then there is no `cp` and no speedup).
    corpus: an `EraserCorpus`; methods: names of the registry, default PAPER_METHODS.
    meta: facts to keep in the report beside the ones gathered here.

    Documents without a rationale token, or without any other, in view are classified, but skipped in the
    metrics, and counted. Models are left as found. Raises ArgumentError for an unknown split, method or
    label.
    """
    settings = settings or Settings()
    chosen = _methods(methods, adapler is not None)
    examples = _examples(corpus, split, settings.limit)
    gold = _gold_indices(model, corpus, examples)
    _check_length(model, settings.max_length)
    aligned = [
        align(example, tokenizer, max_length=settings.max_length, policy=settings.policy) for example in examples
    ]
    windows = [alignment.windows[0] for alignment in aligned]

    n_layers = int(model.config.num_hidden_layers)
    values = np.full((len(chosen), n_layers, len(examples), len(METRICS)), np.nan)  # (M, L, D, K)
    predicted = np.zeros(len(examples), dtype=np.int64)
    predicted_adapler = np.zeros(len(examples), dtype=np.int64)
    lengths = np.zeros((len(examples), n_layers), dtype=np.int64)  # (D, L)
    device = next(model.parameters()).device
    with tqdm(total=len(examples), desc=f"scoring {split}", unit="doc", disable=not progress) as bar:
        for indices in batches_by_length([len(window) for window in windows], token_budget=settings.token_budget):
            batch = collate(
                [windows[i] for i in indices],
                labels=[gold[i] for i in indices],
                pad_token_id=tokenizer.pad_token_id or 0,
                device=device,
                seed=settings.seed,
                threshold_scale=settings.threshold_scale,
            )
            low_precision = settings.dtype != "float32"
            with torch.autocast(device.type, dtype=DTYPES[settings.dtype], enabled=low_precision):
                for m, method in enumerate(chosen):
                    values[m, :, indices] = _score(method, model, adapler, batch, [windows[i] for i in indices])
                predicted[indices] = classifier_logits(model, batch).argmax(-1).cpu().numpy()
                if adapler is not None:
                    output = adapler_pass(adapler, batch)
                    predicted_adapler[indices] = output.logits.argmax(-1).cpu().numpy()
                    lengths[indices] = output.lengths.cpu().numpy()
            bar.update(len(indices))

    names = {int(index): str(name) for index, name in model.config.id2label.items()}
    records = tuple(
        DocumentRecord(
            id=example.id,
            label=names[gold[i]],
            prediction=names[int(predicted[i])],
            adapler_prediction=None if adapler is None else names[int(predicted_adapler[i])],
            tokens=len(windows[i]),
            content_tokens=int((~windows[i].special).sum()),
            rationale_tokens=int(windows[i].rationale.sum()),
            lengths=None if adapler is None else tuple(lengths[i].tolist()),
            skipped=_why_skipped(windows[i]),
            account=aligned[i].account,
        )
        for i, example in enumerate(examples)
    )
    facts = _meta(model, adapler, corpus, split, chosen, settings, aligned) | (meta or {})
    if adapler is not None:
        tokens = torch.tensor([record.tokens for record in records])
        facts["speedup"] = speedup(adapler.config, tokens, torch.from_numpy(lengths))
    return RationaleReport(
        methods=tuple(method.name for method in chosen),
        metrics=METRICS,
        documents=records,
        values=values,
        meta=facts,
    )


def _score(
    method: ScoringMethod, model: Any, adapler: Any, batch: Batch, windows: Sequence[Window]
) -> NDArray[np.float64]:
    """(B, L, K) metrics of one method on one batch, NaN for skipped documents."""
    result = method(adapler if "adapler" in method.needs else model, batch)
    scores = result.scores.double().cpu().numpy()  # (B, L, N)
    present = None if result.present is None else result.present.sum(-1).cpu().numpy()  # (B, L)
    values = np.full((*scores.shape[:2], len(METRICS)), np.nan)
    for row, window in enumerate(windows):
        if _why_skipped(window) is None:
            for layer in range(scores.shape[1]):
                n_present = len(window) if present is None else int(present[row, layer])
                values[row, layer] = layer_metrics(window, scores[row, layer, : len(window)], n_present=n_present)
    return values


def layer_metrics(window: Window, scores: NDArray[np.float64], *, n_present: int) -> list[float]:
    """METRICS of one document at one layer, on its content tokens; scores are those of all real tokens.

    fpr, tpr, j            selected at 1/n, n = real tokens of the input
    ..._present            n = tokens present at the layer, `n_present`
    ..._content            scores renormalised over the content tokens, n = their number
    """
    content = ~window.special
    labels, scores_in = window.rationale[content], scores[content]
    selections = (
        pl.select_uniform(scores_in, len(window)),
        pl.select_uniform(scores_in, n_present),
        pl.select_content(scores_in),
    )
    row = [pl.average_precision(labels, scores_in)]
    rates: tuple[Callable[..., float], ...] = (pl.false_positive_rate, pl.true_positive_rate, pl.youden_j)
    return row + [rate(labels, selected) for selected in selections for rate in rates]


def _why_skipped(window: Window) -> str | None:
    labels = window.rationale[~window.special]
    if not labels.any():
        return "no rationale in view"
    return "nothing but rationale in view" if labels.all() else None


def _methods(names: Sequence[str] | None, has_adapler: bool) -> list[ScoringMethod]:
    if names is None:
        names = [n for n in PAPER_METHODS if has_adapler or "adapler" not in get_method(n).needs]
    if not names:
        raise ArgumentError("methods: got none, at least one is needed")
    chosen = [get_method(name) for name in dict.fromkeys(names)]
    for method in chosen:
        if "adapler" in method.needs and not has_adapler:
            raise ArgumentError(f"methods: {method.name!r} needs an AdapLeR model, and none was given (--adapler)")
    return chosen


def _examples(corpus: Any, split: str, limit: int | None) -> list[Any]:
    if split not in corpus.splits:
        raise ArgumentError(f"split: got {split!r}, {corpus.name} has {', '.join(corpus.splits)}")
    examples = list(corpus.splits[split])[:limit]
    if not examples:
        raise ArgumentError(f"split: {split!r} of {corpus.name} has no documents")
    return examples


def _gold_indices(model: Any, corpus: Any, examples: Sequence[Any]) -> list[int]:
    """The model's index of each document's label; LABEL_i stands for the corpus's i-th label."""
    known = {str(name): int(index) for name, index in model.config.label2id.items()}
    generic = all(name.startswith("LABEL_") for name in known)
    if generic and len(known) == len(corpus.labels):
        known = {name: index for index, name in enumerate(corpus.labels)}
    for example in examples:
        if example.label not in known:
            raise ArgumentError(
                f"document {example.id}: label {example.label!r} is not among the model's labels, {', '.join(known)}"
            )
    return [known[example.label] for example in examples]


def _check_length(model: Any, max_length: int) -> None:
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return
    for name, module in model.named_modules():
        # RoBERTa counts positions from padding_idx + 1
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1
            break
    if max_length > positions:
        raise ArgumentError(f"max_length: got {max_length}, {type(model).__name__} takes at most {positions} tokens")


def _meta(
    model: Any,
    adapler: Any,
    corpus: Any,
    split: str,
    methods: Sequence[ScoringMethod],
    settings: Settings,
    aligned: Sequence[Alignment],
) -> dict[str, Any]:
    kept = [a.windows[0] for a in aligned if _why_skipped(a.windows[0]) is None]
    labels = [window.rationale[~window.special] for window in kept]
    chance = [pl.expected_average_precision(int(one.sum()), len(one)) for one in labels]
    return {
        "model": str(getattr(model, "name_or_path", "")) or type(model).__name__,
        "adapler": None if adapler is None else str(getattr(adapler, "name_or_path", "")) or type(adapler).__name__,
        "data": {"name": corpus.name, "checksum": corpus.checksum},
        "split": split,
        "policy": settings.policy,
        "max_length": settings.max_length,
        "threshold_scale": settings.threshold_scale,
        "dtype": settings.dtype,
        "seed": settings.seed,
        "truncation": sum((a.account for a in aligned), Account()).to_dict(),
        "density": float(np.mean([pl.density(one) for one in labels])) if labels else None,
        "chance_average_precision": float(np.mean(chance)) if chance else None,
        "titles": {method.name: method.title for method in methods},
        "papers": {method.name: method.paper for method in methods},
        "versions": {
            "adapler": adapler_package.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
