"""Documents as predictors see them: the states that enter each layer, and what the scores are trained to be.

n tokens of one document, L layers, D hidden size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from adapler.backbones.attribution.relevance import token_relevance
from adapler.backbones.attribution.saliency import layer_saliency
from adapler.errors import ArgumentError
from adapler.training.stages.targets import load_targets
from analysis.documents.alignment import Window
from analysis.documents.batching import collate
from analysis.scores import get_method
from analysis.scores.passes import run_format

SMOOTH = 1e-12
PAPER = "saliency, embedding output (paper)"
DECOMPOSITION = "contrastive decomposition, the layer's own input"
ATTENTION = "attention x gradient, embedding output"
HUMAN = "human rationale (ceiling)"


@dataclass(frozen=True, eq=False)
class Document:
    """One document as its predictors see it.

    states: (L, n, D) bfloat16, the input of every layer; targets: name -> (L, n) float32, each sums to 1 (absent for
    validation documents); saliency: (L, n), of the predicted class (absent for training documents).
    """

    window: Window
    states: Tensor
    targets: dict[str, Tensor]
    saliency: Tensor | None


def normalised(values: Tensor) -> Tensor:
    """(..., n) >= 0 -> sum 1 over n. Raises ArgumentError for a negative value: a target of KL is a distribution."""
    if bool((values < 0).any()):
        raise ArgumentError(f"target: must not be negative, the lowest value is {float(values.min()):.3g}")
    return values / values.sum(-1, keepdim=True).clamp_min(SMOOTH)


def targets_of(by_layer: Tensor, rationale: Tensor, gradients: Tensor | None) -> dict[str, Tensor]:
    """Every target (L, n) from the saliency at each layer's input (L, n), the rationale (n,) and the integrated
    gradients of the word embeddings (n,), where there are any; none of them negative."""
    first = by_layer[:1].expand_as(by_layer)
    mean = normalised(by_layer.mean(0, keepdim=True)).expand_as(by_layer)
    human = normalised(rationale.float() + 0.01)[None].expand_as(by_layer)
    found = {
        PAPER: first,
        "its square root": normalised(first.sqrt()),
        "its square": normalised(first**2),
        "saliency, the layer's own input": by_layer,
        "saliency, mean over layers": mean,
    }
    if gradients is not None:
        found["integrated gradients"] = normalised(gradients)[None].expand_as(by_layer)
    return {**found, HUMAN: human}


def read_documents(
    classifier: Any,
    windows: Sequence[Window],
    labels: Sequence[int] | None,
    *,
    ig_steps: int,
    title: str,
    mask_token_id: int | None = None,
    dtype: str = "float32",
) -> list[Document]:
    """States of every window, with targets (of the true class) where there are labels, else with saliency itself.

    Integrated gradients are their absolute values, of the decomposition the part above 0 counts: a target is a
    distribution over tokens.
    """
    found = []
    device = classifier.get_input_embeddings().weight.device
    for index, window in enumerate(tqdm(windows, desc=title, unit="doc")):
        batch = collate(
            [window], labels=None if labels is None else [labels[index]], mask_token_id=mask_token_id, device=device
        )
        inputs = batch.model_inputs()
        targets, predicted = {}, None
        with run_format(dtype, device):
            with torch.no_grad():
                hidden = classifier(**inputs, output_hidden_states=True).hidden_states[:-1]
            if batch.labels is None:
                predicted = layer_saliency(classifier, inputs, target="predicted")[0].float().cpu()  # (L, n)
            else:
                gold = layer_saliency(classifier, inputs, target=batch.labels)[0].cpu()
                gradients = None
                if ig_steps:
                    method = get_method("integrated_gradients", n_steps=ig_steps, target="gold", reduction="absolute")
                    gradients = method(classifier, batch).scores[0, 0].cpu()  # (n,)
                targets = targets_of(gold, torch.from_numpy(window.rationale), gradients)
                targets |= _from_relevance(classifier, {**inputs, "labels": batch.labels})
        states = torch.stack([layer[0].bfloat16().cpu() for layer in hidden])  # (L, n, D)
        found.append(Document(window, states, targets, predicted))
    return found


def _from_relevance(classifier: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """(L, n) of the methods that are no saliency, for a batch of one."""
    own = token_relevance(classifier, batch, kind="decomposition", target="contrast:gold")[0].cpu()  # (L, n)
    first = token_relevance(classifier, batch, kind="attention_gradient", target="gold", layers=(0,))[0].cpu()
    return {DECOMPOSITION: own, ATTENTION: first.expand_as(own)}


def add_averaged(documents: Sequence[Document], folder: str) -> list[Document]:
    """The same documents with the stored targets of `adapler saliency`; those without one are left out.

    Raises ArgumentError when none has one.
    """
    stored, n_layers = load_targets(folder), len(documents[0].states)
    place = {name: row for row, name in enumerate(stored["id"])}
    found = []
    for document in documents:
        row = place.get(document.window.document)
        if row is None:
            continue
        values = torch.tensor(stored[row]["saliency"])  # (n,), or (L, n) with --target-layer own
        if values.shape[-1] == len(document.window) and len(values.view(-1, values.shape[-1])) in (1, n_layers):
            extra = {f"stored in {Path(folder).name}": normalised(values).expand(n_layers, -1)}
            found.append(replace(document, targets=document.targets | extra))
    if not found:
        raise ArgumentError(f"--saliency: {folder} has no target for these documents at this length")
    return found
