"""What a method may ask for, and what it must give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores.base import Batch, LayerScores, normalise


def check_needs(name: str, needs: frozenset[str], labels: bool, model: Any, batch: Any) -> None:
    """Raises ArgumentError for a batch that is none, a model of the wrong kind, and gold labels that are not there."""
    if not isinstance(batch, Batch):
        raise ArgumentError(
            f"method {name!r}: batch must be a Batch, got {type(batch).__name__}; "
            "make one with Batch.from_encoding(encoding, tokenizer)"
        )
    reduces = hasattr(model, "removal_policy")
    if "adapler" in needs and not reduces:
        raise ArgumentError(f"method {name!r}: needs an AdapLeR model, got {type(model).__name__}")
    if reduces and needs & {"attention", "gradient"}:
        raise ArgumentError(f"method {name!r}: needs the plain classifier; give it model.backbone")
    if "gradient" in needs and (int8 := _int8_layer(model)) is not None:
        raise ArgumentError(f"method {name!r}: needs gradients, and none goes through the model's int8 layer {int8}")
    if labels and batch.labels is None:
        raise ArgumentError(f"method {name!r}: needs the gold labels, and the batch has none")


def _int8_layer(model: Any) -> str | None:
    """The name of a layer that PyTorch has quantised, None without one."""
    modules = model.named_modules() if isinstance(model, torch.nn.Module) else ()
    return next((name for name, one in modules if type(one).__module__.startswith("torch.ao.nn.quantized")), None)


@contextmanager
def on_device_of(model: Any, batch: Batch) -> Iterator[tuple[Batch, Callable[[LayerScores], LayerScores]]]:
    """The batch on the device of the model's word embeddings, and a function that brings scores back to the batch's.

    The moved batch is kept with the batch, so that methods go on sharing their passes.
    """
    device = device_of(model)
    home = batch.input_ids.device
    if device is None or device == home:
        yield batch, lambda result: result
        return

    def back(result: LayerScores) -> LayerScores:
        present = None if result.present is None else result.present.to(home)
        diagnostics = {name: values.to(home) for name, values in result.diagnostics.items()}
        return replace(result, scores=result.scores.to(home), present=present, diagnostics=diagnostics)

    yield batch.shared(None, f"batch on {device}", lambda: batch.to(device)), back


def device_of(model: Any) -> torch.device | None:
    """Where the inputs of a model have to be; None for a model without weights."""
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    weights = next(embeddings.parameters(), None) if isinstance(embeddings, torch.nn.Module) else None
    if weights is None and isinstance(model, torch.nn.Module):
        weights = next(model.parameters(), None)
    return None if weights is None else weights.device


def as_layer_scores(name: str, result: Any, batch: Batch) -> LayerScores:
    """What a function gave back as LayerScores: a tensor holds values that are not negative, and is normalised."""
    if isinstance(result, LayerScores):
        if not isinstance(result.scores, Tensor):
            kind = type(result.scores).__name__
            raise ArgumentError(f"method {name!r}: LayerScores must hold a Tensor, got {kind}")
        return result
    if not isinstance(result, Tensor):
        raise ArgumentError(f"method {name!r}: must return a Tensor or LayerScores, got {type(result).__name__}")
    n_batch, n_tokens = batch.attention_mask.shape
    if result.dim() != 3 or (result.shape[0], result.shape[2]) != (n_batch, n_tokens):
        raise ArgumentError(
            f"method {name!r}: the tensor must be (batch {n_batch}, layers, tokens {n_tokens}), "
            f"got {tuple(result.shape)}"
        )
    real = batch.attention_mask.bool()[:, None, :].to(result.device)  # (B, 1, N)
    values = result.detach().float().masked_fill(~real, 0)
    if bool((values < 0).any()):
        raise ArgumentError(
            f"method {name!r}: scores must not be negative, the lowest is {float(values.min()):.3g}; "
            "for scores with a sign return LayerScores(values, signed=True)"
        )
    return LayerScores(normalise(values, batch.attention_mask.to(result.device)))


def _check_present(name: str, present: Tensor, scores: Tensor, *, real: Tensor) -> None:
    """present, scores (B, L', N), real (B, 1, N)"""
    if present.shape != scores.shape or present.dtype != torch.bool:
        raise ArgumentError(
            f"method {name!r}: present must be bool {tuple(scores.shape)}, "
            f"got {str(present.dtype).removeprefix('torch.')} {tuple(present.shape)}"
        )
    if bool((present & ~real).any()):
        raise ArgumentError(f"method {name!r}: padding is never present")
    if bool((scores.masked_fill(present, 0) != 0).any()):
        raise ArgumentError(f"method {name!r}: scores of tokens that are not present must be 0")


def check_scores(name: str, layerwise: bool, result: LayerScores, model: Any, batch: Batch) -> None:
    """Raises ArgumentError for scores of another shape, that are not numbers, negative, or no shares."""
    scores = result.scores
    n_batch, n_tokens = batch.attention_mask.shape
    layers = getattr(getattr(model, "config", None), "num_hidden_layers", None) if layerwise else 1
    if (
        scores.dim() != 3
        or (scores.shape[0], scores.shape[2]) != (n_batch, n_tokens)
        or layers not in (None, scores.shape[1])
    ):
        expected = "layers" if layers is None else f"layers {layers}"
        hint = ""
        if layerwise and scores.dim() == 3 and scores.shape[1] == 1:
            hint = "; scores of the input only need @scoring_method(..., layerwise=False)"
        raise ArgumentError(
            f"method {name!r}: scores must be (batch {n_batch}, {expected}, tokens {n_tokens}), "
            f"got {tuple(scores.shape)}{hint}"
        )
    if not bool(torch.isfinite(scores).all()):
        where = batch.ids[int((~torch.isfinite(scores)).flatten(1).any(1).nonzero()[0])]
        raise ArgumentError(f"method {name!r}: a score of document {where} is NaN or infinite")
    if not result.signed and bool((scores < 0).any()):
        raise ArgumentError(f"method {name!r}: scores must not be negative, the lowest is {float(scores.min()):.3g}")
    if bool(((scores != 0) & (batch.attention_mask == 0)[:, None, :].to(scores.device)).any()):
        raise ArgumentError(f"method {name!r}: scores at padding must be 0")
    if result.present is not None:
        _check_present(name, result.present, scores, real=batch.attention_mask.bool()[:, None, :].to(scores.device))
    for key, value in result.diagnostics.items():
        if value.shape != scores.shape[:2]:
            raise ArgumentError(
                f"method {name!r}: diagnostic {key!r} must be {tuple(scores.shape[:2])}, got {tuple(value.shape)}"
            )
    if result.signed:
        return
    sums = scores.sum(-1)
    if bool((((sums - 1).abs() > 1e-3) & (sums != 0)).any()):
        raise ArgumentError(
            f"method {name!r}: each layer's scores must sum to 1 over the real tokens, or be 0 everywhere, "
            f"got sums from {float(sums.min()):.4g} to {float(sums.max()):.4g}"
        )
