"""TR-BERT: a small network keeps or drops each token, at two points (Ye et al., NAACL 2021).

The policy trains alone first, from rewards of drawn decisions and by imitation of a guide, then together with the
backbone. Training starts from a fine-tuned classifier. What differs from the paper's own code is in
docs/explanation/policies.md.

Dimensions: B sequences (in training each sample of a text is one), T tokens of a packed row, N padded length, D hidden
size, H hidden units, L layers, K samples of each text, P points, C labels.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from adapler.backbones.attention import segment_sum
from adapler.contribution import Cost, ExactLinear, PackedRow
from adapler.options import option
from adapler.policies.base import LayerView, Policy, Stage, Step, Training, WeightedOptions, policy
from adapler.policies.top_k import kth_highest
from adapler.text import INPUTS

HIDDEN = 32  # H
# A new policy keeps a token with probability .88: at .5 two points would leave the backbone a quarter of a text.
FIRST_LOGIT = 2.0
KEEPS = 0.5
FEWEST_LAYERS = 3
SAMPLES = 8  # K
GUIDE_RATE = 0.5  # the share of the first stage's steps in which one sample of each text imitates


@policy("trbert")
class TRBert(Policy):
    """Before the layers 1 and L // 2 a token stays if its probability p is at least a half.

        p_i = sigmoid(w . gelu(W h_i + b) + c)        W: D -> 32

    Training draws the decisions (see `SampledPolicy`), so there is no soft removal. Tokens that were
    dropped are gone: the paper's skip the layers between and come back at the end, where a classifier does not read
    them.
    """

    last_scale: ClassVar[float] = 1 / KEEPS

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.heads = nn.ModuleDict({str(at): _Head(config.hidden_size) for at in points(config.num_hidden_layers)})

    def reset_parameters(self) -> None:
        for head in cast(Iterable[_Head], self.heads.values()):
            init.xavier_uniform_(head.dense.weight)
            init.zeros_(head.dense.bias)
            init.zeros_(head.keep.weight)
            init.constant_(head.keep.bias, FIRST_LOGIT)

    @classmethod
    def decides(cls, index: int, *, layers: int) -> bool:
        return index in points(layers)

    def logits(self, view: LayerView) -> Tensor:
        """(T,) log odds of staying, in float32 or better."""
        return self.heads[str(view.index)](view.hidden)

    def score(self, view: LayerView) -> Tensor:
        return self.logits(view).sigmoid()

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        return scores.new_full((len(view.row.segments.lengths),), KEEPS * scale)

    @classmethod
    def cost(cls, config: Any, index: int) -> Cost:
        return Cost(token=2 * (config.hidden_size * HIDDEN + HIDDEN))


def points(layers: int) -> tuple[int, ...]:
    """The layers that TR-BERT decides before; with two or three layers the two are one."""
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


# Training


class SampledPolicy(Policy):
    """Decides by the coin: a token stays with its probability p. Used for one pass of `hard_pass`, then read.

    The draws are made when it is built, one for each cell of the batch of shape (B, N), so they do not depend on how
    the pass orders its tokens. Rows that imitate, (B,) bool, keep instead the m tokens with the highest `guide` score,
    (B, P, N), m = the rounded sum of p.
    """

    def __init__(
        self,
        policy: TRBert,
        *,
        shape: torch.Size,
        layers: int,
        generator: torch.Generator,
        guide: Tensor | None = None,
        imitates: Tensor | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self._policy = (policy,)  # in a tuple: its parameters are not this module's
        self.points, self.width = points(layers), shape[1]
        self.draws = torch.rand(len(self.points), *shape, generator=generator)  # (P, B, N)
        self.guide, self.imitates = guide, imitates
        self._nll: list[Tensor] = []
        self._kept: list[Tensor] = []

    @classmethod
    def decides(cls, index: int, *, layers: int) -> bool:
        return TRBert.decides(index, layers=layers)

    def score(self, view: LayerView) -> Tensor:
        """(T,) 1 for tokens that stay, 0 for the others; their likelihood is noted."""
        logits = self._policy[0].logits(replace(view, hidden=view.hidden.detach()))  # (T,)
        stays = self._decisions(view, logits.detach().sigmoid()).index_fill(0, view.row.segments.first, True)
        rows = self._rows(view.row)
        self._nll.append(torch.zeros_like(logits[: len(rows)]).index_copy(0, rows, mean_nll(logits, stays, view.row)))
        kept = segment_sum(stays.to(logits.dtype), view.row.segments)
        self._kept.append(torch.zeros_like(kept).index_copy(0, rows, kept))
        return stays.to(logits.dtype)

    def bar(self, view: LayerView, scores: Tensor, *, scale: float) -> Tensor:
        return scores.new_full((len(view.row.segments.lengths),), KEEPS)

    def _rows(self, row: PackedRow) -> Tensor:
        """(B,) the row of the batch that each sequence is."""
        return row.place[row.segments.first] // self.width

    def _decisions(self, view: LayerView, keep: Tensor) -> Tensor:
        """(T,) bool, drawn or imitated, from the probabilities (T,)."""
        row, at = view.row, self.points.index(view.index)
        stays = self.draws[at].to(keep).flatten()[row.place] < keep
        if self.guide is None or self.imitates is None:
            return stays
        guide = self.guide[:, at].to(keep).flatten()[row.place]  # (T,)
        imitates = self.imitates.to(keep.device)[self._rows(row)]  # (B,) by sequence
        return torch.where(imitates[row.segments.owner], best_by_guide(guide, keep, row), stays)

    @property
    def nll(self) -> Tensor:
        """(B,) NLL = sum over the points of the mean over the tokens there, in the order of the batch."""
        return torch.stack(self._nll).sum(0)

    def kept(self, lengths: Tensor) -> Tensor:
        """(P, B) shares of the text's tokens, whose numbers are `lengths` (B,), that stayed at each point."""
        return torch.stack(self._kept) / lengths


def mean_nll(logits: Tensor, stays: Tensor, row: PackedRow) -> Tensor:
    """(B,) the mean over the tokens present of -a log p - (1 - a) log(1 - p), from log odds (T,) and a (T,), bool.

    [CLS] stays whatever p is, so its decision counts 0.
    """
    each = functional.binary_cross_entropy_with_logits(logits, stays.to(logits.dtype), reduction="none")  # (T,)
    each = each.index_fill(0, row.segments.first, 0.0)
    return segment_sum(each, row.segments) / row.segments.lengths


def best_by_guide(guide: Tensor, keep: Tensor, row: PackedRow) -> Tensor:
    """(T,) bool: the m tokens with the highest guide score in each sequence, m = round(sum p) with p = 1 for [CLS]; of
    tokens with equal scores all or none. `guide` and `keep`, p, are (T,)."""
    segments = row.segments
    wanted = segment_sum(keep.index_fill(0, segments.first, 1.0), segments).round().long()  # (B,), at least 1
    bar = kth_highest(guide, segments, count=wanted.clamp(min=1).minimum(segments.lengths))
    return (guide >= bar[segments.owner]).index_fill(0, segments.first, True)


def reward(losses: Tensor, kept: Tensor, *, alpha: float) -> Tensor:
    """R_k = -loss_k - alpha * mean over the points of (tokens kept / length), (K, B), without a gradient; losses (K, B)
    of what is left of each text, `kept` (P, K, B) the shares that stay."""
    return (-losses - alpha * kept.mean(0)).detach()


def policy_loss(rewards: Tensor, nll: Tensor) -> Tensor:
    """1 / (K B) sum (R_k - mean_k R) NLL_k, of (K, B) each: REINFORCE with the mean of a text's samples as baseline.

    Each sample is part of its own baseline, so the expected gradient is (K - 1) / K of the reward's.
    """
    return ((rewards - rewards.mean(0)).detach() * nll).mean()


def with_guide(rows: Any, classifier: Any, *, points: Sequence[int], pad_token_id: int, autocast: bool = False) -> Any:
    """The same rows with a column `targets`, (P, n) for each: the guide of the fine-tuned classifier at P points."""
    import datasets

    from adapler.backbones.decomposition import removal_guide
    from adapler.training.data import labelled_batches

    found: list[Any] = [None] * len(rows)
    device = classifier.device
    for places, lengths, batch in labelled_batches(rows, device=device, pad_token_id=pad_token_id, title="guide"):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
            guides = removal_guide(classifier, batch, points=points).cpu().numpy()  # (B, P, N)
        for place, length, guide in zip(places, lengths, guides, strict=True):
            found[place] = [*guide[:, :length]]  # arrow takes lists of vectors
    scores = datasets.List(datasets.List(datasets.Value("float32")))
    return rows.add_column("targets", found, new_fingerprint=uuid.uuid4().hex, feature=scores)


@dataclass(kw_only=True)
class Drawn(Stage):
    """A stage in which the decisions are drawn, K times for each text, and tokens really removed.

    The likelihood's gradient ends at the states that the policy reads: the policy's loss trains the policy, the task's
    loss the backbone.
    """

    alpha: float = 1.0  # what a token that stays costs, see `reward`
    samples: int = SAMPLES  # K
    temperature: float = 1.0  # of both distributions in distillation
    guide_rate: float = 0.0  # one sample of each text imitates the guide in this share of the steps, from the first on

    def rows(self, model: Any, training: Training) -> Any:
        rows, at = training.prepared.encoded["train"], points(model.num_layers)
        how = {"points": at, "pad_token_id": training.prepared.pad_token_id}
        autocast = training.config.optimisation.autocasts
        return with_guide(rows, training.load_teacher(), autocast=autocast, **how) if self.guide_rate else rows

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The task's loss, the policy's, and for the log the mean reward and the share of tokens kept."""
        from adapler.backbones.families import position_ids
        from adapler.passes import hard_pass

        samples, mask = self.samples, step.batch["attention_mask"]
        inputs = {name: step.batch[name].repeat(samples, 1) for name in INPUTS if name in step.batch}  # (K B, N)
        policy = SampledPolicy(
            step.core.policy,
            shape=inputs["input_ids"].shape,
            layers=step.core.num_layers,
            generator=step.generator,
            **self._imitation(step),
        )
        output = hard_pass(
            step.core.backbone,
            policy,
            input_ids=inputs["input_ids"],
            mask=inputs["attention_mask"],
            positions=position_ids(step.core.config.backbone_config, inputs["attention_mask"]),
            token_type_ids=inputs.get("token_type_ids"),
            scale=1.0,
            remove=True,
        )
        logits = cast(Tensor, output.logits)  # (K B, C)
        goal = step.batch["labels"].repeat(samples)  # (K B,)
        if step.taught is not None:
            goal = (step.taught.float() / self.temperature).softmax(-1).repeat(samples, 1)  # (K B, C)
        losses = functional.cross_entropy(logits.float() / self.temperature, goal, reduction="none")
        losses = losses.view(samples, len(mask))  # (K, B)
        kept = policy.kept(mask.sum(1).repeat(samples)).view(-1, *losses.shape)  # (P, K B) -> (P, K, B)
        rewards = reward(losses, kept, alpha=self.alpha)  # (K, B)
        return {
            "distillation" if self.distils else "cross_entropy": losses.mean(),
            "policy": policy_loss(rewards, policy.nll.view_as(losses)),
            "reward": rewards.mean(),
            "kept": kept.mean(),
        }

    def _imitation(self, step: Step) -> dict[str, Any]:
        """The first sample of each text imitates, while the guide lasts."""
        if step.progress >= self.guide_rate:
            return {}
        guide = step.batch["targets"]  # (B, P, N)
        rows = torch.arange(self.samples * len(guide), device=guide.device)
        return {"guide": guide.repeat(self.samples, 1, 1), "imitates": rows < len(guide)}


@dataclass(kw_only=True)
class TRBertOptions(WeightedOptions):
    """Training of TR-BERT."""

    policy_temperature: float = option("temperature of the distillation", default=1.0)


class TRBertTraining(Training):
    """3 epochs of the policy alone with imitation, 3 of joint training with distillation instead of cross-entropy."""

    Settings, budget, one_process, fewest_layers = TRBertOptions, "policy_weight", True, FEWEST_LAYERS

    @classmethod
    def defaults(cls, task: str, *, settings: Any, start: Any) -> dict[str, Any]:
        return {"policy_epochs": [3, 3], "policy_weight": [1.0], "policy_learning_rate": 3e-5}

    def stages(self) -> list[Stage]:
        options = self.options
        epochs, alpha, rate = options.policy_epochs, options.policy_weight[0], options.policy_learning_rate
        logged = {"reward": 0.0, "kept": 0.0}
        alone = Drawn(
            name="policy",
            epochs=epochs[0],
            rates={"policy": rate},
            weights={"cross_entropy": 0.0, **logged},
            selects="last",
            alpha=alpha,
            guide_rate=GUIDE_RATE,
        )
        joint = Drawn(
            name="joint",
            epochs=epochs[1],
            rates={"backbone": self.config.optimisation.learning_rate, "policy": rate},
            weights=logged,
            selects="budget",
            distils=True,
            alpha=alpha,
            temperature=self.options.policy_temperature,
        )
        return [alone, joint]


TRBert.Training = TRBertTraining
