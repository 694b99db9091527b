"""What the contribution scores are trained to be; `adapler saliency` and `adapler run` take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from adapler.errors import ArgumentError
from adapler.training.settings import check_choices

# Repeated from adapler.backbones.decomposition, which needs torch: options do without.
TargetMethod = Literal["saliency", "attention_gradient", "decomposition"]
TargetLayer = Literal["embeddings", "own"]
TargetLogit = Literal["gold", "predicted", "contrast"]


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """What the Contribution Predictors are trained to score; the defaults are the paper's."""

    target_method: tuple[TargetMethod, ...] = ("saliency",)
    """what tells each token's share in the fine-tuned classifier's output: saliency (gradient x input),
    attention_gradient, or decomposition (DecompX by a detached gradient); of the last two the part above 0; several:
    their mean"""

    target_layer: TargetLayer = "embeddings"
    """embeddings: every layer learns the shares of the tokens that enter layer 0; own: each learns those of the tokens
    that enter it"""

    target_logit: TargetLogit = "gold"
    """which output: the logit of the true class (gold) or of the predicted one, or the true class minus the strongest
    other one (contrast)"""

    def __post_init__(self) -> None:
        if not self.target_method:
            raise ArgumentError("--target-method: none is given")
        for method in self.target_method:
            if method not in get_args(TargetMethod):
                allowed = ", ".join(get_args(TargetMethod))
                raise ArgumentError(f"--target-method: {method!r} is not one of {allowed}")
        if len(set(self.target_method)) < len(self.target_method):
            raise ArgumentError(f"--target-method: {' '.join(self.target_method)} names one twice")
        check_choices(self, target_layer=TargetLayer, target_logit=TargetLogit)

    @property
    def explained(self) -> str:
        """The logit or contrast as `adapler.backbones.targets` calls it."""
        return "contrast:gold" if self.target_logit == "contrast" else self.target_logit
