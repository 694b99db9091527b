"""PoWER-BERT (Goyal et al., ICML 2020): a fixed number of tokens for each layer, found by a search.

Written from the paper's equations. Different from the public code: padded queries do not count in the significance, and
tokens that are extracted keep their own place in the mask.

Dimensions: B sequences, T tokens of a packed row, N longest text of the search, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import initialization as init

from adapler.backbones.attention import Segments, from_padded
from adapler.errors import ArgumentError
from adapler.options import Checked, option
from adapler.policies.base import Fades, LayerView, Stage, Step, Training, WeightedOptions, policy
from adapler.policies.top_k import TopK, cls_first

# The paper's lambda and learning rate of r, for the tasks of its table that are ours; the last is for all others.
WEIGHTS = {"mrpc": 3e-3, "sst2": 2e-4, "qnli": 1.5e-4, "mnli": 1e-4}
RATES = {"mrpc": 3e-3, "sst2": 5e-4, "qnli": 2e-4, "mnli": 2e-4}
OTHER_WEIGHT, OTHER_RATE = 3e-4, 1e-3


@dataclass(frozen=True, kw_only=True)
class PowerOptions(Checked):
    """The configuration: how many tokens stay in each layer."""

    lengths: list[int] | None = option("tokens left in each layer; None: not searched for yet", default=None, low=1)
    longest: int = option("tokens of the longest text in the search", default=512, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lengths is not None and self.lengths != sorted(self.lengths, reverse=True):
            raise ArgumentError(f"lengths: {self.lengths} grow")


@dataclass(kw_only=True)
class Search(Stage):
    """CE + lambda * sum over layers l = 1, 2, ... of l * ||r^l||_1; the last layer drops nothing and is left out."""

    def losses(self, step: Step) -> dict[str, Tensor]:
        output = step.model(**step.inputs, removal="soft")
        r = step.core.policy.r[:-1, 1:]  # (L - 1, N - 1)
        layer = torch.arange(1, len(r) + 1, device=r.device, dtype=r.dtype)
        return {"cross_entropy": output.loss.float(), "mass": (layer * r.abs().sum(1)).sum()}

    def after_step(self, model: Any) -> None:
        model.policy.clip()

    def numbers(self, model: Any) -> dict[str, Any]:
        return {"configuration": list(model.policy.configuration())}

    def finish(self, model: Any, training: Training) -> dict[str, Any]:
        """The configuration becomes the model's, and r goes."""
        options = {"lengths": list(model.policy.configuration()), "longest": model.policy.options.longest}
        model.config.policy_options = options
        model.policy = Power(model.config)
        return {}


class PowerTraining(Training):
    """3 epochs of search with soft extraction, 3 of retraining with tokens really removed."""

    Settings, budget = WeightedOptions, "policy_weight"

    @classmethod
    def defaults(cls, task: str, *, settings: Any, start: Any) -> dict[str, Any]:
        return {
            "policy_epochs": [3, 3],
            "policy_weight": [WEIGHTS.get(task, OTHER_WEIGHT)],
            "policy_learning_rate": RATES.get(task, OTHER_RATE),
        }

    def model_options(self) -> dict[str, Any]:
        """Ranks up to the longest text that the task has."""
        return {"longest": int(self.prepared.encoding["max_length"])}

    def stages(self) -> list[Stage]:
        rate, epochs = self.config.optimisation.learning_rate, self.options.policy_epochs
        search = Search(
            name="search",
            epochs=epochs[0],
            removal="soft",
            rates={"backbone": rate, "policy": self.options.policy_learning_rate},
            no_decay=("policy",),
            weights={"mass": self.options.policy_weight[0]},
            selects="last",
        )
        return [search, Stage(name="retrain", epochs=epochs[1], rates={"backbone": rate})]


@policy("power")
class Power(TopK):
    """After a layer's attention: [CLS] and the k^l - 1 tokens with the highest significance stay.

        Sig_w = sum over the text's other queries q of mean_h A_h[q, w]

    While the configuration is searched for, r^l in [0, 1]^N multiplies the token of each rank before the feed-forward
    network, and k^l = min(k^(l-1), max(1, floor(sum of r^l))). [CLS] has the first rank, and its factor is always 1.
    """

    fades: ClassVar[Fades] = "feed_forward"
    Options, Training = PowerOptions, PowerTraining

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        layers, lengths = int(config.num_hidden_layers), self.options.lengths
        if lengths is not None and len(lengths) != layers:
            raise ArgumentError(f"lengths: {len(lengths)} numbers, the model has {layers} layers")
        if lengths is None:
            self.r = nn.Parameter(torch.ones(layers, self.options.longest))

    def reset_parameters(self) -> None:
        if self.options.lengths is None:
            init.ones_(self.r)

    def configuration(self) -> tuple[int, ...]:
        """k^l of every layer, what was found or what r says now. The last layer drops none: k^L = k^(L-1)."""
        if self.options.lengths is not None:
            return tuple(self.options.lengths)
        found: list[int] = []
        for total in self.r.detach().cpu().double().sum(1).tolist()[:-1]:
            # A sum of ones that were stored in float32 is whole.
            found.append(min([max(1, int(total + 1e-6)), *found[-1:]]))
        return (*found, found[-1] if found else self.options.longest)

    def score(self, view: LayerView) -> Tensor:
        """(T,) significance: the attention received, without a token's own."""
        return view.attention.total - view.attention.own

    def count(self, view: LayerView) -> Tensor:
        """(B,) k^l for every sequence, whatever its length; on the CPU."""
        lengths = view.row.segments.lengths
        return torch.full_like(lengths, self.configuration()[view.index], dtype=torch.float64, device="cpu")

    def gate(self, view: LayerView, scores: Tensor) -> Tensor:
        """(T,) r^l at the token's rank; ArgumentError where the configuration was found already."""
        if self.options.lengths is not None:
            raise ArgumentError("policy: 'power' has a configuration; it trains with tokens really removed now")
        return self.r[view.index][ranks(scores, view.row.segments).clamp(max=self.options.longest - 1)]

    @torch.no_grad()
    def clip(self) -> None:
        """Keep r in [0, 1] and the factor of [CLS] at 1, in place."""
        self.r.clamp_(0, 1)
        self.r[:, 0] = 1


def ranks(scores: Tensor, segments: Segments) -> Tensor:
    """(T,) long, from scores (T,): 0 for [CLS], 1 for the highest among a sequence's others, and so on."""
    order = cls_first(scores.detach(), segments).argsort(dim=1, descending=True, stable=True)  # (B, N)
    return from_padded(order.argsort(dim=1), segments)  # (T,)
