"""Transkimmer: what its draws are, and that evaluation has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.policies import LayerView
from tests.adapler.policies.policy_models import one_text, tiny_policy
from tests.conftest import LAYERS, random_batch, tiny_classifier


def test_evaluation_is_deterministic_and_soft_keeps_what_hard_keeps() -> None:
    model, batch = tiny_policy("transkimmer"), random_batch([12, 7])
    with torch.no_grad():
        first, second = model(**batch, removal="soft"), model(**batch, removal="soft")
        hard = model(**batch)
    assert torch.equal(first.logits, second.logits)
    # In a gate of 0 a token's attention weight is a millionth.
    torch.testing.assert_close(first.logits, hard.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(first.lengths, hard.lengths.float())
    assert bool((hard.lengths < torch.tensor([[12], [7]])).any())


def test_training_draws() -> None:
    """Gates are 0 or 1, as often 1 as the probability says, and their gradient is that of the drawn sigmoid."""
    policy = tiny_policy("transkimmer").policy.train()
    hidden = torch.zeros(20_000, 16)
    view = LayerView(0, hidden, one_text(hidden))
    for probability in (0.1, 0.5, 0.9):
        torch.manual_seed(0)
        scores = torch.full((20_000,), probability, requires_grad=True)
        gates = policy.gate(view, scores)
        assert set(gates.detach().round(decimals=4).tolist()) == {0.0, 1.0}
        assert abs(float(gates.detach().mean()) - probability) < 0.01
        gates.sum().backward()
        torch.manual_seed(0)
        noise = torch.rand(20_000).logit()
        soft = (torch.tensor(probability).logit() + noise).sigmoid()
        expected = soft * (1 - soft) / (probability * (1 - probability))
        torch.testing.assert_close(scores.grad, expected, atol=1e-4, rtol=1e-3)


def test_a_new_model_keeps_all() -> None:
    classifier = tiny_classifier()
    config = AdapLeRConfig(backbone_config=classifier.config.to_dict(), policy="transkimmer")
    model = AdapLeRForSequenceClassification(config, backbone=classifier).eval()
    with torch.no_grad():
        output = model(**random_batch([9, 4]))
    assert torch.equal(output.lengths, torch.tensor([[9] * LAYERS, [4] * LAYERS]))
    assert all(abs(float(one.choice.bias.detach().diff()) + 10) < 0.3 for one in model.policy.predictors)


def test_gradients_reach_the_predictors() -> None:
    model, batch = tiny_policy("transkimmer").train(), random_batch([12, 7])
    output = model(**batch, labels=torch.tensor([0, 1]), removal="soft")
    (output.loss + output.lengths.mean()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.policy.parameters())


@pytest.mark.parametrize("closed", [[], [3], [3, 8], list(range(1, 12))])
def test_what_a_gate_does_to_the_logits_is_its_gradient_also_where_it_is_closed(
    closed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against differences. Without it a skimmed token hears of its price only, never that the classifier misses it."""
    model, batch = tiny_policy("transkimmer").double(), random_batch([12])
    gates = torch.ones(LAYERS, 12, dtype=torch.float64)
    gates[:, closed] = 0.0

    def logit(gates: Tensor) -> Tensor:
        monkeypatch.setattr(model.policy, "gate", lambda view, scores: gates[view.index])
        return model(**batch, removal="soft").logits[0, 0]

    gates.requires_grad_()
    (gradient,) = torch.autograd.grad(logit(gates), gates)
    step = 1e-5
    with torch.no_grad():
        for layer in range(LAYERS):
            for token in (3, 8, 10):
                moved = gates.detach().clone()
                moved[layer, token] += step if token in closed else -step
                difference = (logit(moved) - logit(gates)) / (moved - gates)[layer, token]
                torch.testing.assert_close(gradient[layer, token], difference, atol=1e-4, rtol=2e-3)
                assert layer or len(closed) != 1 or abs(difference) > 1e-3  # there is something to hear
