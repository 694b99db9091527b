"""Local routing: one backward pass, in which contribution and length loss have no gradient in hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from adapler.contribution import soft_removal
from adapler.policies.adapler import contribution_loss, contribution_target, length_loss
from tests.adapler.training.common import gradients
from tests.conftest import random_batch, tiny_adapler

PREDICTORS = ("mlp", "contextual")
LENGTHS = [9, 2, 14, 5]
SLOPE, BETA = 4.0, 0.1


def noisy(predictor: str) -> Any:
    """A model whose predictors say something."""
    model = tiny_adapler(eta=0.5, predictor=predictor).double()
    generator = torch.Generator().manual_seed(5)
    for parameter in model.contribution_predictors.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def passed(model: Any, **options: Any) -> Any:
    return model(**random_batch(LENGTHS, seed=1), removal="soft", slope=SLOPE, **options)


def logits_by_layer(model: Any) -> list[torch.Tensor]:
    """What each predictor says in a soft pass, and nothing else."""
    said: list[torch.Tensor] = []
    hooks = [
        one.register_forward_hook(lambda module, given, out: said.append(out.detach()))
        for one in model.contribution_predictors
    ]
    with torch.no_grad():
        passed(model)
    for hook in hooks:
        hook.remove()
    return said


def soft_lengths(said: list[torch.Tensor], eta: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Soft lengths (B, L) of fixed logits, by a loop over texts and layers, from the paper's equations."""
    rows = []
    start = 0
    for n in LENGTHS:
        presence = torch.ones(n, dtype=torch.float64)
        row = []
        for layer, logits in enumerate(said):
            weights = logits[start : start + n].exp() * presence
            weights = torch.cat([weights[:1] * factors[layer], weights[1:]])
            scores = weights / weights.sum()
            faded = soft_removal(scores, eta[layer] / presence.sum(), slope=SLOPE, beta=BETA).exp()
            presence = presence * torch.cat([torch.ones(1, dtype=torch.float64), faded[1:]])
            row.append(presence.sum())
        rows.append(torch.stack(row))
        start += n
    return torch.stack(rows)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_numbers_are_those_of_the_exact_pass(predictor: str) -> None:
    model = noisy(predictor)
    with torch.no_grad():
        exact, local = passed(model), passed(model, local_losses=True)
    for name in exact:
        assert_close(local[name], exact[name], msg=name)
    assert float(local.log_presence[local.log_presence > -1e3].min()) < -0.1, "something fades"


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_logits_have_the_whole_gradient(predictor: str) -> None:
    model = noisy(predictor)
    labels = torch.arange(len(LENGTHS)) % 3
    names = [name for name, _ in model.named_parameters() if name != "theta"]
    found = []
    for local in (False, True):
        loss = cross_entropy(passed(model, local_losses=local).logits, labels)
        parameters = [model.get_parameter(name) for name in names]
        found.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    for name, exact, other in zip(names, *found, strict=True):
        assert (exact is None) == (other is None), name
        if exact is not None:
            assert_close(other, exact, msg=name)


def test_the_length_loss_is_that_of_constant_logits() -> None:
    model = noisy("contextual")
    said = logits_by_layer(model)
    probe = torch.ones(model.num_layers, dtype=torch.float64, requires_grad=True)
    out = passed(model, probe=probe, local_losses=True)
    own = torch.autograd.grad(length_loss(out.lengths), [model.eta, probe], retain_graph=True)
    eta = model.eta.detach().clone().requires_grad_()
    factors = torch.ones_like(probe).requires_grad_()
    lengths = soft_lengths(said, eta, factors)
    assert_close(out.lengths, lengths)
    for ours, theirs in zip(own, torch.autograd.grad(length_loss(lengths), [eta, factors]), strict=True):
        assert_close(ours, theirs)
        assert float(theirs.abs().min()) > 0
    others = [p for name, p in model.named_parameters() if name not in ("eta", "theta")]
    reached = torch.autograd.grad(length_loss(out.lengths), others, allow_unused=True)
    assert all(gradient is None for gradient in reached)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_contribution_loss_reaches_the_predictor_of_its_layer_only(predictor: str) -> None:
    model = noisy(predictor)
    probe = torch.ones(model.num_layers, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in model.named_parameters()]
    for layer in range(model.num_layers):
        out = passed(model, probe=probe, local_losses=True)
        parameters = [model.get_parameter(name) for name in names]
        score = out.log_scores[:, layer, 1].sum()
        found = torch.autograd.grad(score, [*parameters, probe], allow_unused=True)
        pairs = zip([*names, "probe"], found, strict=True)
        reached = {name for name, gradient in pairs if gradient is not None and float(gradient.abs().sum()) > 1e-12}
        assert all(name.startswith(f"contribution_predictors.{layer}.") for name in reached)
        assert f"contribution_predictors.{layer}.dense.weight" in reached
    # In layer 0 nothing lies between, so that its predictor's gradient is the exact one.
    own_names = [name for name in names if name.startswith("contribution_predictors.0.")]
    exact = passed(model).log_scores[:, 0, 1].sum()
    local = passed(model, local_losses=True).log_scores[:, 0, 1].sum()
    own_parameters = [model.get_parameter(name) for name in own_names]
    for one, other in zip(
        torch.autograd.grad(local, own_parameters), torch.autograd.grad(exact, own_parameters), strict=True
    ):
        assert_close(one, other)


def test_a_step_adds_each_loss_to_its_own_group(tmp_path: Path, tiny_tokenizer: Any) -> None:
    exact = gradients(tmp_path, tiny_tokenizer, gamma=0.0, phi=0.0)
    base = gradients(tmp_path, tiny_tokenizer, gamma=0.1, phi=0.01, routing="local")
    more_phi = gradients(tmp_path, tiny_tokenizer, gamma=0.1, phi=1.0, routing="local")
    more_gamma = gradients(tmp_path, tiny_tokenizer, gamma=5.0, phi=0.01, routing="local")
    for name, gradient in base.items():
        of_phi, of_gamma = (torch.equal(gradient, other[name]) for other in (more_phi, more_gamma))
        if name.startswith("backbone."):
            assert of_phi and of_gamma, f"{name} sees more than cross-entropy"
            assert_close(gradient, exact[name], msg=name)
        elif name in ("eta", "theta"):
            assert of_gamma and not of_phi, name
        else:
            assert of_phi, name
            assert not of_gamma, name


def test_without_either_loss_both_routings_are_one(tmp_path: Path, tiny_tokenizer: Any) -> None:
    exact = gradients(tmp_path, tiny_tokenizer, gamma=0.0, phi=0.0)
    local = gradients(tmp_path, tiny_tokenizer, gamma=0.0, phi=0.0, routing="local")
    assert exact.keys() == local.keys()
    for name, gradient in exact.items():
        assert_close(local[name], gradient, msg=name)


def test_the_targets_use_the_presence_of_the_pass() -> None:
    model = noisy("mlp")
    saliency = torch.rand(len(LENGTHS), max(LENGTHS), dtype=torch.float64)
    losses = []
    for local in (False, True):
        out = passed(model, local_losses=local)
        losses.append(contribution_loss(out.log_scores, contribution_target(saliency, out.log_presence, model.theta)))
    assert_close(*losses)
