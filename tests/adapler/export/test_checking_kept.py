"""What the check of a graph finds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from adapler.export import compare
from tests.adapler.export.test_export import drawn, dropping


def stand_in(*answers: tuple[object, object]) -> SimpleNamespace:
    left = iter(answers)
    inputs = [SimpleNamespace(name=name) for name in ("input_ids", "threshold_scale")]
    return SimpleNamespace(get_inputs=lambda: inputs, run=lambda *_: next(left))


def test_a_score_on_a_later_layers_threshold_may_fall_either_way() -> None:
    """The tokens that the layer decides on are those of the layer before, also where PyTorch dropped nearly all."""
    model, (text,) = dropping(eta=1.0 + 1e-5), drawn([10])
    model.config.policy_options = {"first_layer": 1}
    model.removal_policy.options  # noqa: B018
    with torch.no_grad():
        for predictor in model.contribution_predictors:
            predictor.score.weight.zero_()
        out = model(torch.tensor([text]), removal="hard")
    assert out.lengths.tolist() == [[10, 1, 1]]
    graph = stand_in((out.logits.numpy() + 1, np.array([[10, 10, 10]])))
    assert compare(model, graph, [text], where="a stand-in") == (0.0, 1)


def test_the_largest_difference_is_reported() -> None:
    model, texts = dropping(), drawn([9, 12])
    with torch.no_grad():
        outs = [model(torch.tensor([text]), removal="hard") for text in texts]
    answers = [(out.logits.numpy() + by, out.lengths.numpy()) for out, by in zip(outs, (5e-5, 1e-5), strict=True)]
    assert compare(model, stand_in(*answers), texts, where="a stand-in")[0] > 4e-5
