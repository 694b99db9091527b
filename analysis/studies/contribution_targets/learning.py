"""Predictors trained on given states, several pairs of predictor and target in one pass over them.

T tokens of all documents of a batch one after the other, n tokens of one document, L layers, D hidden size
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from adapler.backbones.packing import Segments, segment_softmax
from adapler.model.predictors import PackedRow, Predictor, predictor_class
from analysis.studies.contribution_targets.documents import SMOOTH, Document


class Pair(NamedTuple):
    """What is trained: a predictor by its registered name, and a target by its name in `Document.targets`."""

    predictor: str
    target: str


def train_predictors(
    documents: Sequence[Document],
    pairs: Sequence[Pair],
    *,
    epochs: int,
    rate: float,
    hidden: int,
    batch_size: int,
    seed: int,
) -> dict[Pair, list[Predictor]]:
    """One predictor a layer and pair, each by its own KL(target || scores); linear decay of the rate to 0.

    All pairs see the same batches in the same order, and each has the weights and gradients that it would have alone:
    they are trained together only because reading the states takes longer than training a predictor on them.
    """
    n_layers, _, width = documents[0].states.shape
    made: dict[Pair, list[Predictor]] = {}
    for pair in pairs:
        torch.manual_seed(seed)
        kind = predictor_class(pair.predictor)
        made[pair] = [kind(width, contribution_hidden_size=hidden) for _ in range(n_layers)]
    parameters = {pair: [p for one in made[pair] for p in one.parameters()] for pair in pairs}
    optimiser = torch.optim.AdamW([p for group in parameters.values() for p in group], lr=rate, weight_decay=0.0)
    steps = epochs * -(-len(documents) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    generator = np.random.default_rng(seed)
    with tqdm(total=steps, desc=f"training {len(pairs)} pairs", unit="batch") as bar:
        for _ in range(epochs):
            order = generator.permutation(len(documents))
            for start in range(0, len(order), batch_size):
                batch = [documents[i] for i in order[start : start + batch_size]]
                optimiser.zero_grad()
                _add_gradients(made, batch)
                for group in parameters.values():
                    torch.nn.utils.clip_grad_norm_(group, 1.0)
                optimiser.step()
                schedule.step()
                bar.update()
    return made


def _add_gradients(made: dict[Pair, list[Predictor]], batch: Sequence[Document]) -> None:
    """Back-propagate the sum over layers of KL(target || scores), mean over the documents, of every pair."""
    segments = Segments(torch.tensor([len(document.window) for document in batch]))
    row = PackedRow(segments, torch.arange(int(segments.lengths.sum())))
    goals = {
        target: torch.cat([document.targets[target] for document in batch], dim=1)  # (L, T)
        for target in {pair.target for pair in made}
    }
    for layer in range(len(batch[0].states)):
        states = torch.cat([document.states[layer] for document in batch]).float()  # (T, D)
        losses = []
        for pair, predictors in made.items():
            scores = segment_softmax(predictors[layer](states, row), segments)  # (T,)
            losses.append(-(goals[pair.target][layer] * scores.clamp_min(SMOOTH).log()).sum() / len(batch))
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]


@torch.no_grad()
def predictor_scores(predictors: Sequence[Predictor], document: Document) -> Tensor:
    """(L, n) scores, with nothing removed."""
    row = PackedRow.of_one_text(document.states[0])
    return torch.stack([one(document.states[layer], row).softmax(-1) for layer, one in enumerate(predictors)])
