from __future__ import annotations

import math

import pytest
import torch

from adapler.policies.adapler import contribution_loss, contribution_target, length_loss


def test_target_by_hand() -> None:
    saliency = torch.tensor([[0.5, 0.3, 0.2]])
    # before layer 0 all present; before layer 1 the second token has presence 1/2, the third is gone
    log_presence = torch.tensor([[[0.0, 0.0, 0.0], [0.0, math.log(0.5), -1e4]]])
    target = contribution_target(saliency, log_presence, torch.tensor([0.3]))
    # layer 0 has no theta: the saliency itself.  layer 1: (.5 * .3, .3 * .5, 0) = (.15, .15, 0), sum .3
    torch.testing.assert_close(target, torch.tensor([[[0.5, 0.3, 0.2], [0.5, 0.5, 0.0]]]))


def test_target_of_each_layer_by_hand() -> None:
    saliency = torch.tensor([[[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]])
    log_presence = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, math.log(0.5)]]])
    target = contribution_target(saliency, log_presence, torch.tensor([0.5]))
    # layer 1: (.2 * .5, .2, .6 * .5) = (.1, .2, .3), sum .6
    torch.testing.assert_close(target, torch.tensor([[[0.5, 0.3, 0.2], [1 / 6, 1 / 3, 1 / 2]]]))


def test_target_is_a_constant_and_leaves_its_arguments_alone() -> None:
    saliency = torch.tensor([[0.5, 0.5]])
    presence = torch.zeros(1, 2, 2, requires_grad=True)
    theta = torch.tensor([0.1], requires_grad=True)
    assert not contribution_target(saliency, presence, theta).requires_grad
    assert saliency.tolist() == [[0.5, 0.5]]


def test_target_of_no_saliency_is_zero() -> None:
    target = contribution_target(torch.zeros(1, 3), torch.zeros(1, 2, 3), torch.ones(1))
    assert target.tolist() == [[[0.0] * 3] * 2]


def test_contribution_loss_by_hand() -> None:
    target = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]])
    scores = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]])
    # layer 0: KL = .5 ln(.5/.25) + .5 ln(.5/.75) = .5 ln(4/3) and 0, mean .25 ln(4/3), weight L - 0 = 2
    # layer 1: KL = ln 2 and 0, mean .5 ln 2, weight 1
    expected = 2 * 0.25 * math.log(4 / 3) + 0.5 * math.log(2)
    assert contribution_loss(scores.log(), target).item() == pytest.approx(expected, rel=1e-6)


def test_contribution_loss_at_padding_is_zero_and_finite() -> None:
    target = torch.tensor([[[0.5, 0.5, 0.0]]])
    log_scores = torch.tensor([[[math.log(0.5), math.log(0.5), -1e4]]], requires_grad=True)
    loss = contribution_loss(log_scores, target)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert log_scores.grad is not None
    assert log_scores.grad.tolist() == [[[-0.5, -0.5, 0.0]]]


def test_length_loss_by_hand() -> None:
    # (5 + 3) and (2 + 1), mean 5.5
    assert length_loss(torch.tensor([[5.0, 3.0], [2.0, 1.0]])).item() == 5.5
