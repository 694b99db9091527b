"""Outputs that an explanation attributes: the logit of a class, or its margin over the strongest other class.

B batch, C classes
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adapler.errors import ArgumentError, ambiguous

PREDICTED, GOLD, CONTRAST = "predicted", "gold", "contrast"

Target = str | int


def target_weights(
    target: Target | Tensor, logits: Tensor, *, labels: Tensor | None = None, id2label: Mapping[int, str] | None = None
) -> Tensor:
    """The weights (B, C) of the logits in the explained value: value_b = sum over c of weight_bc * logit_bc.

    A class has weight 1. In a contrast the strongest other class of the same row has weight -1: "which tokens speak
    for this class rather than for that one". Both classes are those of these logits, and stay fixed when the input
    is changed afterwards, so that the value is linear in the logits.

    Args:
        target: "predicted", "gold" (from `labels`), the name of a class in any case, its index, or a contrast:
            "contrast" (of the predicted class), "contrast:gold", "contrast:NAME", "contrast:INDEX".
            A tensor (B,) of class indices is taken as it is.
        logits: (B, C), of the input as it is.
        labels: (B,) gold class indices, read for "gold" only.
        id2label: the model's names, `config.id2label`.

    Raises:
        ArgumentError: a name or index that is not the model's, "gold" without labels.
    """
    classes, contrast = _classes(target, logits.detach(), labels, id2label or {})
    weights = torch.zeros_like(logits, requires_grad=False).scatter_(-1, classes[:, None], 1.0)
    if contrast:
        others = logits.detach().scatter(-1, classes[:, None], -torch.inf).argmax(-1)
        weights.scatter_(-1, others[:, None], -1.0)
    return weights


def needs_labels(target: object) -> bool:
    """Whether a target is about the gold class.

    >>> needs_labels("contrast:gold"), needs_labels("contrast: gold"), needs_labels("predicted")
    (True, True, False)
    """
    return isinstance(target, str) and _parts(target)[0] == GOLD


def _parts(target: str) -> tuple[str, bool]:
    """The class that a target is about, and whether it is a contrast of it."""
    kind, _, name = target.partition(":")
    return (name.strip() or PREDICTED, True) if kind.strip() == CONTRAST else (target, False)


def class_index(name: Target, id2label: Mapping[int, str], n_classes: int) -> int:
    """The index of a class by its name, in any case, or by its index.

    >>> class_index("neg", {0: "NEG", 1: "POS"}, 2), class_index("1", {0: "NEG", 1: "POS"}, 2)
    (0, 1)

    Raises ArgumentError, naming what is allowed, for any other name, for a name that two classes share, and for a
    number that may be the index of one class and the name of another; as text it is the name.
    """
    names = {int(index): str(label) for index, label in id2label.items() if 0 <= int(index) < n_classes}
    if reason := ambiguous(name, names):
        raise ArgumentError(f"target: {reason}")
    text = str(name).strip()
    exact = [index for index, label in names.items() if label == text]
    found = exact or [index for index, label in names.items() if label.casefold() == text.casefold()]
    if len(found) == 1:
        return found[0]
    numbers = [str(index) for index in range(n_classes)]  # compared as text: Python reads no number of 5000 digits
    if not found and text in numbers:
        return numbers.index(text)
    listed = ", ".join(f"{names.get(index, '?')} ({index})" for index in range(n_classes))
    because = "is the name of several classes" if found else "is no class of this model"
    raise ArgumentError(
        f"target: {name!r} {because}; allowed are {PREDICTED}, {GOLD}, a class - {listed} - "
        f"or {CONTRAST}, {CONTRAST}:{GOLD}, {CONTRAST}:CLASS"
    )


def _classes(
    target: Target | Tensor, logits: Tensor, labels: Tensor | None, id2label: Mapping[int, str]
) -> tuple[Tensor, bool]:
    """(B,) class indices, and whether the value is a contrast."""
    n_classes = logits.shape[-1]
    if isinstance(target, Tensor):
        return _checked(target, "target", logits), False
    name, contrast = _parts(target) if isinstance(target, str) else (target, False)
    if name == PREDICTED:
        return logits.argmax(-1), contrast
    if name == GOLD:
        if labels is None:
            raise ArgumentError(f"target: {target!r} needs the gold labels, and the batch has none")
        return _checked(labels, "labels", logits), contrast
    index = class_index(name, id2label, n_classes)
    return torch.full((len(logits),), index, device=logits.device), contrast


def _checked(classes: Tensor, argument: str, logits: Tensor) -> Tensor:
    n_classes = logits.shape[-1]
    if int(classes.min()) < 0 or int(classes.max()) >= n_classes:
        raise ArgumentError(
            f"{argument}: labels must be among the model's {n_classes}, got {sorted(set(classes.tolist()))}"
        )
    return classes.to(logits.device)
