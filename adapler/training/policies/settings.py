"""What `adapler run --policy NAME` takes; known without loading torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapler.errors import ArgumentError
from adapler.training.settings import check_numbers

ADAPLER = "adapler"
# Names of the trainings that are ours, and the module of each in this package. A policy without one has the default.
OURS = {
    "cls_topk": "adapler.training.policies.base",
    "distilbert": "adapler.training.policies.distilbert",
    "ltp": "adapler.training.policies.ltp",
    "power": "adapler.training.policies.power",
    "random_topk": "adapler.training.policies.base",
    "transkimmer": "adapler.training.policies.transkimmer",
    "trbert": "adapler.training.policies.trbert.training",
}


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """The removal policy, where it is not AdapLeR's."""

    policy: str = ADAPLER
    """what drops tokens: adapler, a comparison system (transkimmer, ltp, power, trbert, distilbert), a control
    (cls_topk, random_topk), or one's own by its registered name"""

    policy_weight: float | None = field(default=None, metadata={"several": True})
    """weight of the loss that makes it drop: lambda of transkimmer, ltp and power, alpha of trbert (default: that of
    its paper)"""

    keep: float | None = field(default=None, metadata={"several": True})
    """share of the tokens that stays in each layer, of a policy with a fixed share (default: 0.7)"""

    policy_learning_rate: float | None = None
    """of the policy's own parameters (default: that of its paper)"""

    policy_epochs: tuple[int, ...] | None = None
    """epochs of each stage of its training (default: --max-steps in each where that is given, else those of its
    paper)"""

    policy_temperature: float | None = None
    """of ltp's soft thresholds, or of both distributions where trbert and distilbert distil (default: that of its
    paper; distilbert: 2, trbert: 1)"""

    student_cosine: float = 0.0
    """of distilbert: weight of 1 - the cosine of [CLS]'s last hidden states, the student's and the teacher's"""

    def __post_init__(self) -> None:
        check_numbers(self, ("policy_weight", "student_cosine"), low=0)
        check_numbers(self, ("policy_learning_rate", "policy_temperature"), low=0, strict=True)
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ArgumentError(f"--keep: {self.keep} is not above 0 and at most 1")
        for epochs in self.policy_epochs or ():
            if epochs < 1:
                raise ArgumentError(f"--policy-epochs: {epochs} is not at least 1")
        if self.policy != ADAPLER and self.policy not in OURS:
            from adapler.policies import policy_class

            try:
                policy_class(self.policy, others=OURS)  # distilbert removes nothing, and is no policy of a model
            except ArgumentError as error:
                raise ArgumentError(f"--{error}") from None
