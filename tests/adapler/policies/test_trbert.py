"""TR-BERT's losses, against enumeration and by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch.nn import functional

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.backbones.decomposition import reference_layer, removal_guide
from adapler.backbones.families import position_ids
from adapler.errors import ArgumentError
from adapler.passes import hard_pass
from adapler.policies.trbert import (
    SampledPolicy,
    best_by_guide,
    points,
    policy_loss,
    reward,
)
from tests.adapler.policies.policy_models import one_text, tiny_policy
from tests.conftest import CLASSIFIERS, padding_of, random_batch, tiny_classifier


def inputs_of(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    mask = batch["attention_mask"]
    return {
        "input_ids": batch["input_ids"],
        "mask": mask,
        "positions": position_ids(model.backbone.config, mask),
        "token_type_ids": None,
    }


def drawn(model: Any, batch: dict[str, torch.Tensor], *, draws: torch.Tensor | None = None, **options: Any) -> Any:
    """The sampled policy after a pass, and the pass's output."""
    policy = SampledPolicy(
        model.policy,
        shape=batch["input_ids"].shape,
        layers=model.num_layers,
        generator=torch.Generator().manual_seed(3),
        **options,
    )
    if draws is not None:
        policy.draws = draws
    return policy, hard_pass(model.backbone, policy, **inputs_of(model, batch), scale=1.0, remove=True)


def soft_model(layers: int = 3) -> Any:
    """A tiny model whose probabilities are neither 0 nor 1."""
    model = tiny_policy("trbert")
    if layers != 3:
        classifier = tiny_classifier(num_hidden_layers=layers)
        config = AdapLeRConfig(backbone_config=classifier.config.to_dict(), policy="trbert")
        model = AdapLeRForSequenceClassification(config, backbone=classifier).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for head in model.policy.heads.values():
            head.dense.weight.normal_(std=0.3)
            head.keep.weight.normal_(std=0.3)
            head.keep.bias.fill_(0.3)
    return model


def test_reinforce_has_the_gradient_of_the_expected_reward() -> None:
    """Over all decisions on three tokens, and all pairs of them: -(K - 1) / (K n) of its gradient, n = 4 with [CLS]."""
    model, batch, alpha = soft_model(), random_batch([4]), 0.7
    labels, every = torch.tensor([1]), list(product([0.0, 1.0], repeat=3))
    rewards, nll = [], []
    for decisions in every:
        draws = 1 - torch.tensor([[[1.0, *decisions]]])  # 0 is below every probability, 1 below none
        policy, output = drawn(model, batch, draws=draws)
        assert int(output.lengths[0, 1]) == 1 + int(sum(decisions))
        losses = functional.cross_entropy(output.logits, labels, reduction="none")[None]
        rewards.append(reward(losses, policy.kept(torch.tensor([4]))[:, None], alpha=alpha))
        nll.append(policy.nll)
    reward_of, nll_of = torch.cat(rewards)[:, 0], torch.stack(nll)[:, 0]  # (8,) each
    assert reward_of.std() > 1e-3
    chance = (-4 * nll_of).exp()  # the mean over four tokens; [CLS] adds 0
    torch.testing.assert_close(chance.sum(), torch.tensor(1.0))
    parameters = list(model.policy.parameters())
    exact = torch.autograd.grad((chance * reward_of).sum(), parameters, retain_graph=True)
    expected = sum(
        float((chance[a] * chance[b]).detach())
        * policy_loss(torch.stack([reward_of[a], reward_of[b]])[:, None], torch.stack([nll_of[a], nll_of[b]])[:, None])
        for a, b in product(range(8), repeat=2)
    )
    found = torch.autograd.grad(expected, parameters)
    assert max(float(one.abs().max()) for one in exact) > 1e-3
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, -other / 2 / 4, atol=1e-7, rtol=1e-4)


def test_probabilities_of_one_are_the_backbone() -> None:
    model, batch = tiny_policy("trbert"), random_batch([9, 4, 7])
    with torch.no_grad():
        for head in model.policy.heads.values():
            head.keep.weight.zero_()
            head.keep.bias.fill_(80.0)
        policy, output = drawn(model, batch)
        plain = model(**batch, removal="none")
        torch.testing.assert_close(output.logits, plain.logits)
        torch.testing.assert_close(model(**batch).logits, plain.logits)
    assert policy.nll.abs().max() < 1e-30 and torch.equal(policy.kept(torch.tensor([9, 4, 7])), torch.ones(1, 3))


def test_evaluation_draws_nothing() -> None:
    model, batch = soft_model(), random_batch([12, 9, 4])
    state = torch.get_rng_state()
    with torch.no_grad():
        one, two = model(**batch), model(**batch)
    assert torch.equal(one.logits, two.logits) and torch.equal(one.retention_mask, two.retention_mask)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.lengths[0, 1] < 12


def test_draws_belong_to_cells_of_the_batch() -> None:
    """Rows that the pass sorts by length get their own draws, likelihoods and shares."""
    model, lengths = soft_model(4), [5, 12, 9, 12]
    batch = random_batch(lengths)
    policy, output = drawn(model, batch)
    kept = policy.kept(torch.tensor(lengths))
    assert points(4) == (1, 2) and kept.shape == (2, 4)
    torch.testing.assert_close(kept.T, output.lengths[:, 1:3] / torch.tensor(lengths)[:, None])
    for row, length in enumerate(lengths):
        alone = {name: value[row : row + 1, :length] for name, value in batch.items()}
        single, out = drawn(model, alone, draws=policy.draws[:, row : row + 1, :length])
        torch.testing.assert_close(out.logits[0], output.logits[row])
        assert torch.equal(out.lengths[0], output.lengths[row])
        torch.testing.assert_close(single.nll[0], policy.nll[row])
    # A token's share of the draws in which it stays is its probability.
    many = {name: value[1:2].repeat(4000, 1) for name, value in batch.items()}
    _, drawn_often = drawn(model, many)
    probability = model(**{name: value[1:2] for name, value in batch.items()}).contribution_scores[0, 1]
    shares = drawn_often.retention_mask[:, 1].float().mean(0)
    torch.testing.assert_close(shares[1:], probability[1:].detach(), atol=0.04, rtol=0)


def test_the_likelihood_does_not_reach_the_backbone() -> None:
    model, batch = soft_model(), random_batch([6])
    policy, _ = drawn(model, batch)
    policy.nll.sum().backward()
    assert model.backbone.bert.embeddings.word_embeddings.weight.grad is None
    assert model.policy.heads["1"].dense.weight.grad.abs().max() > 0


def test_imitation_keeps_the_best_by_guide() -> None:
    guide = torch.tensor([0.0, 0.4, 0.9, 0.1, 0.2])
    keep = torch.tensor([0.1, 0.5, 0.3, 0.4, 0.6])  # 1 for [CLS] and 1.8: 2.8, so three stay
    row = one_text(torch.zeros(5, 2))
    assert best_by_guide(guide, keep, row).tolist() == [True, True, True, False, False]
    model, lengths = soft_model(), [7, 5, 7]
    batch = random_batch(lengths)
    scores = torch.rand(3, 1, 7, generator=torch.Generator().manual_seed(5))
    imitates = torch.tensor([False, True, False])
    free, _ = drawn(model, batch)
    policy, output = drawn(model, batch, guide=scores, imitates=imitates)
    kept, usual = output.retention_mask[1, 1], drawn(model, batch)[1].retention_mask
    assert torch.equal(output.retention_mask[[0, 2]], usual[[0, 2]])
    order = scores[1, 0, 1:5].argsort(descending=True) + 1
    assert kept[0] and torch.equal(kept[order[: int(kept.sum()) - 1]], torch.ones(int(kept.sum()) - 1).bool())
    torch.testing.assert_close(policy.nll[[0, 2]], free.nll[[0, 2]])


def test_rewards_by_hand() -> None:
    losses, kept = torch.tensor([[1.0], [3.0]]), torch.tensor([[[0.5], [1.0]], [[0.3], [0.8]]])
    rewards = reward(losses, kept, alpha=2.0)
    torch.testing.assert_close(rewards, torch.tensor([[-1.8], [-4.8]]))
    nll = torch.tensor([[0.2], [0.6]], requires_grad=True)
    torch.testing.assert_close(policy_loss(rewards, nll), torch.tensor((1.5 * 0.2 - 1.5 * 0.6) / 2))


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
def test_the_guide_is_its_formula(family: str) -> None:
    classifier, batch = tiny_classifier(family), random_batch([8, 5], pad=padding_of(family))
    labels = torch.tensor([2, 0])
    found = removal_guide(classifier, {**batch, "labels": labels}, points=(1,))
    assert reference_layer(3, points=(1,)) == 2 and found.shape == (2, 1, 8)
    for row, length in enumerate((8, 5)):
        ids = batch["input_ids"][row : row + 1, :length]
        output = classifier(ids, output_hidden_states=True)
        states = output.hidden_states
        loss = functional.cross_entropy(output.logits, labels[row : row + 1])
        gradient = torch.autograd.grad(loss, states[2])[0]
        wanted = (gradient * (states[2] - states[1])).sum(-1).abs()[0]
        torch.testing.assert_close(found[row, 0, :length], wanted, atol=1e-6, rtol=1e-3)
        assert (found[row, 0, length:] == 0).all()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in classifier.parameters())


def test_where_the_guide_looks() -> None:
    assert [reference_layer(n, points=points(n)) for n in (12, 6, 4, 3)] == [9, 4, 3, 2]
    with pytest.raises(ArgumentError, match=r"^points: 1 is the last of 2 layers"):
        reference_layer(2, points=(1,))
