"""The groups of parameters: backbone, Contribution Predictors, thresholds.

The first two belong to the objective CE + gamma * L_CP, eta and theta to CE + phi * L_len. L is the number of layers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

THRESHOLDS = "eta and theta"  # the name of their group

Groups = dict[str, list[tuple[str, nn.Parameter]]]  # group -> names and parameters


def group_of(parameter: str) -> str:
    """The name of a parameter's group, as error messages and the optimiser call it."""
    name = parameter.removeprefix("module.")
    if name in ("eta", "theta"):
        return THRESHOLDS
    return "predictors" if name.startswith("contribution_predictors.") else "backbone"


def weight_groups(model: nn.Module) -> Groups:
    """Trainable parameters of the first objective, by group; a group without any is left out."""
    groups: Groups = {"backbone": [], "predictors": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and group_of(name) in groups:
            groups[group_of(name)].append((name, parameter))
    return {name: parameters for name, parameters in groups.items() if parameters}


def optimizer_groups(
    model: Any, *, rates: dict[str, float], decayed: Collection[str], weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for the optimiser: backbone and predictors with and without decay; the thresholds last.

    Args:
        model: an AdapLeRForSequenceClassification.
        rates: learning rate of each group.
        decayed: names of the parameters that have weight decay; eta and theta never have.
        weight_decay: of those.
    """
    groups: list[dict[str, Any]] = []
    for name, parameters in weight_groups(model).items():
        for decay in (True, False):
            chosen = [p for n, p in parameters if (n in decayed) == decay]
            if chosen:
                groups.append(
                    {
                        "name": name,
                        "params": chosen,
                        "lr": rates[name],
                        "weight_decay": weight_decay if decay else 0.0,
                    }
                )
    thresholds = [model.eta, model.theta]
    groups.append({"name": THRESHOLDS, "params": thresholds, "lr": rates[THRESHOLDS], "weight_decay": 0.0})
    return groups


def clip_apart(model: Any, *, most: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Clip the two objectives' gradients, each by its own norm, in place.

    Args:
        model: an AdapLeRForSequenceClassification whose parameters have gradients.
        most: largest norm of an objective's gradient.

    Returns:
        The norm of the first objective's gradient before clipping, and that of each group; scalars. Each is computed
        once.
    """
    groups = {name: [p for _, p in parameters] for name, parameters in weight_groups(model).items()}
    groups[THRESHOLDS] = [model.eta, model.theta]
    norms = {
        name: torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        for name, parameters in groups.items()
    }
    total: Tensor = torch.stack([norm for name, norm in norms.items() if name != THRESHOLDS]).norm()
    for name, parameters in groups.items():
        norm = norms[name] if name == THRESHOLDS else total
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return total, norms
