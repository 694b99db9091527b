from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.contribution import ContributionPredictor, retention, soft_removal, threshold
from adapler.errors import ArgumentError


def test_threshold() -> None:
    # eta / n: .25 / 4, .25 / 8
    torch.testing.assert_close(threshold(torch.tensor(0.25), torch.tensor([4, 8])), torch.tensor([0.0625, 0.03125]))
    torch.testing.assert_close(threshold(torch.tensor(0.5), torch.tensor([5.0]), scale=2.0), torch.tensor([0.2]))
    assert threshold(torch.tensor(1.0), torch.tensor([7]), scale=0.0).item() == 0


def test_retention_keeps_cls_and_what_reaches_the_threshold() -> None:
    scores = torch.tensor([[0.01, 0.25, 0.24, 0.5], [0.2, 0.3, 0.3, 0.2]])
    is_cls = torch.tensor([[True, False, False, False]]).expand(2, -1)
    keep = retention(scores, torch.tensor([[0.25], [0.3]]), is_cls=is_cls)
    assert keep.tolist() == [[True, True, False, True], [True, True, True, False]]


def test_retention_compares_in_float32() -> None:
    # .0999 and .1 are the same bfloat16 number neighbourhood; the scores are what they are, delta is float32
    score = torch.tensor([0.1001], dtype=torch.bfloat16)  # stored as .10009765625
    not_cls = torch.tensor([False])
    assert retention(score, torch.tensor([0.1002]), is_cls=not_cls).tolist() == [False]
    assert retention(score, torch.tensor([0.10009]), is_cls=not_cls).tolist() == [True]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        # delta = .2, lambda = 10, beta = .1, so lambda/delta = 50 and beta/lambda = .01
        (0.1, 50 * (0.1 - 0.2) - 0.01),  # below: -5.01
        (0.2, -0.01),  # at delta: -beta/lambda from both branches
        (0.6, (0.6 - 1) * 0.01 / 0.8),  # above: -.005
        (1.0, 0.0),
        (0.0, -10.01),  # below: -lambda - beta/lambda
    ],
)
def test_soft_removal_by_hand(score: float, expected: float) -> None:
    mask = soft_removal(torch.tensor([score]), torch.tensor(0.2), slope=10.0, beta=0.1)
    assert mask.item() == pytest.approx(expected, abs=1e-6)


def test_soft_removal_is_clipped() -> None:
    # lambda = 1e5: at S = 0 the first branch is -1e5, far below the clip
    assert soft_removal(torch.tensor([0.0]), torch.tensor(0.2), slope=1e5).item() == -1e4
    # delta = 1: the room 1 - delta is taken as .01, so at S = .999 the mask is -.001 * .01 / .01, not -inf or nan;
    # first branch: 10 * (.999 - 1) - .01 = -.02, the smaller
    assert soft_removal(torch.tensor([0.999]), torch.tensor(1.0), slope=10.0).item() == pytest.approx(-0.02, abs=1e-5)
    assert soft_removal(torch.tensor([1.0]), torch.tensor(1.0), slope=10.0).item() == pytest.approx(-0.01, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 0.95), st.floats(1, 1e5), st.floats(0.01, 1))
def test_soft_removal_grows_with_the_score(one: float, two: float, delta: float, slope: float, beta: float) -> None:
    low, high = soft_removal(
        torch.tensor(sorted([one, two]), dtype=torch.float64),
        torch.tensor(delta, dtype=torch.float64),
        slope=slope,
        beta=beta,
    )
    assert -1e4 <= low <= high <= 0


@settings(max_examples=40, deadline=None)
@given(st.floats(0.001, 0.95), st.floats(1, 1e4), st.floats(0.01, 1))
def test_soft_removal_switches_branch_at_the_threshold(delta: float, slope: float, beta: float) -> None:
    """Just below the threshold M falls with slope lambda/delta, just above it rises with (beta/lambda)/(1-delta)."""
    step = delta * 1e-4
    scores = torch.tensor([delta - step, delta, delta + step], dtype=torch.float64)
    below, at, above = soft_removal(scores, torch.tensor(delta, dtype=torch.float64), slope=slope, beta=beta).tolist()
    assert at == pytest.approx(-beta / slope)
    steep, flat = slope / delta, beta / slope / (1 - delta)
    if steep > flat:  # the minimum of the two lines is the steep one on the left
        assert at - below == pytest.approx(steep * step, rel=1e-5)
        assert above - at == pytest.approx(flat * step, rel=1e-3, abs=1e-12)


def test_gradient_slope_bounds_the_gradient_and_leaves_the_value() -> None:
    # just below the threshold .2: dM/dS = lambda/delta = 1000/.2 there, and 50/.2 with the bound
    def mask_and_gradients(**options: float) -> list[float]:
        score, delta = (torch.tensor([value], requires_grad=True) for value in (0.199, 0.2))
        mask = soft_removal(score, delta, slope=1000.0, beta=0.1, **options)
        return [mask.item(), *(g.item() for g in torch.autograd.grad(mask.sum(), [score, delta]))]

    steep, bounded = mask_and_gradients(), mask_and_gradients(gradient_slope=50.0)
    assert steep[0] == bounded[0] == pytest.approx(-5.0001, abs=1e-3)
    # dM/d delta = -lambda S / delta^2
    assert steep[1:] == pytest.approx([5000, -1000 * 0.199 / 0.04], rel=1e-3)
    assert bounded[1:] == pytest.approx([250, -50 * 0.199 / 0.04], rel=1e-3)
    assert mask_and_gradients(gradient_slope=2000.0) == steep
    with pytest.raises(ArgumentError, match="gradient_slope: 0.0 is not above 0"):
        mask_and_gradients(gradient_slope=0.0)


def test_soft_removal_errors() -> None:
    score, delta = torch.tensor([0.5]), torch.tensor(0.2)
    with pytest.raises(ArgumentError, match=r"^slope: 0 is not above 0$"):
        soft_removal(score, delta, slope=0)
    with pytest.raises(ArgumentError, match=r"^slope: nan"):
        soft_removal(score, delta, slope=math.nan)
    with pytest.raises(ArgumentError, match=r"^beta: -1 is not above 0$"):
        soft_removal(score, delta, slope=1, beta=-1)


def test_predictor_by_hand() -> None:
    cp = ContributionPredictor(2, contribution_hidden_size=2, activation="relu")
    with torch.no_grad():
        cp.dense.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        cp.dense.bias.copy_(torch.tensor([0.5, 0.0]))
        cp.score.weight.copy_(torch.tensor([[2.0, 3.0]]))
        cp.score.bias.fill_(0.25)
    # h = (1, 2): relu(1.5, -2) = (1.5, 0) -> 3 + .25;  h = (-1, -2): relu(-.5, 2) = (0, 2) -> 6 + .25
    torch.testing.assert_close(cp(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])), torch.tensor([3.25, 6.25]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_predictor_scores_in_float32_whatever_it_is_stored_in(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cp = ContributionPredictor(16).to(dtype)
    hidden = torch.randn(5, 16).to(dtype)
    torch.nn.init.normal_(cp.score.weight)
    scores = cp(hidden)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, cp.float()(hidden.float()))


def test_predictor_scores_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    cp = ContributionPredictor(16)
    hidden = torch.randn(5, 16)
    plain = cp(hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cp(hidden), plain)
