"""Transkimmer: what its draws are, and that evaluation has none."""

from __future__ import annotations

import torch

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.model.predictors import PackedRow
from adapler.policies import LayerView
from tests.adapler.policies.policy_models import tiny_policy
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
    view = LayerView(0, hidden, PackedRow.of_one_text(hidden))
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
