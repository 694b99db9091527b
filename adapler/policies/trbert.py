"""TR-BERT's policy: a small network that keeps or drops each token, at two points (Ye et al., NAACL 2021).

Dimensions: B sequences, T tokens of a packed row, D hidden size, H hidden units, L layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from adapler.errors import ArgumentError
from adapler.policies.base import LayerView, Policy, policy
from adapler.predictors import Cost, ExactLinear

HIDDEN = 32  # H
# A new policy keeps a token with probability .88: at .5 two points would leave the backbone a quarter of a text.
FIRST_LOGIT = 2.0
KEEPS = 0.5
FEWEST_LAYERS = 3


@policy("trbert")
class TRBert(Policy):
    """Before the layers 1 and L // 2 a token stays if its probability p is at least a half.

        p_i = sigmoid(w . gelu(W h_i + b) + c)        W: D -> 32

    Training draws the decisions (see `adapler.training.policies.trbert`), so there is no soft removal. Tokens that were
    dropped are gone: the paper's skip the layers between and come back at the end, where a classifier does not read
    them.
    """

    last_scale = 1 / KEEPS

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.num_hidden_layers < FEWEST_LAYERS:
            raise ArgumentError(
                f"policy: 'trbert' needs {FEWEST_LAYERS} layers at least, the backbone has {config.num_hidden_layers}"
            )
        self.heads = nn.ModuleDict({str(at): _Head(config.hidden_size) for at in points(config.num_hidden_layers)})

    def reset_parameters(self) -> None:
        """Every token starts at the same probability, near 1."""
        for head in cast(Iterable[_Head], self.heads.values()):
            init.xavier_uniform_(head.dense.weight)
            init.zeros_(head.dense.bias)
            init.zeros_(head.keep.weight)
            init.constant_(head.keep.bias, FIRST_LOGIT)

    @classmethod
    def decides(cls, index: int, *, layers: int) -> bool:
        """At the points."""
        return index in points(layers)

    def logits(self, view: LayerView) -> Tensor:
        """(T,) log odds of staying, in float32 or better."""
        return self.heads[str(view.index)](view.hidden)  # type: ignore[no-any-return]

    def score(self, view: LayerView) -> Tensor:
        """(T,) the probability of staying."""
        return self.logits(view).sigmoid()

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        """(B,) a half, times the scale."""
        return scores.new_full((len(view.row.segments.lengths),), KEEPS * scale)

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        """Of the two products."""
        return Cost(token=2 * (config.hidden_size * HIDDEN + HIDDEN))


def points(layers: int) -> tuple[int, ...]:
    """The layers that TR-BERT decides before; with three layers the two are one."""
    return tuple(sorted({1, layers // 2}))


class _Head(nn.Module):
    """(T, D) states -> (T,) log odds."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = ExactLinear(hidden_size, HIDDEN)
        self.keep = ExactLinear(HIDDEN, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.keep(functional.gelu(self.dense(hidden)))  # (T, D) -> (T, H) -> (T, 1)
        return logits.squeeze(-1)
