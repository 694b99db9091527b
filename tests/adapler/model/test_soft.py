"""Soft removal against a float64 loop over sequences, and against hard removal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from adapler import passes
from adapler.contribution import MASKED
from adapler.policies.adapler import contribution_loss, contribution_target, length_loss
from tests.adapler.backbones.test_backbones import FAMILIES, batch_for, flipped
from tests.adapler.model import padded, reference
from tests.adapler.model.test_hard import LENGTHS, PREDICTORS, shared
from tests.conftest import LAYERS, padding_of, random_batch, tiny_adapler


@pytest.fixture
def float64() -> Iterator[None]:
    """New tensors are float64, so that nothing in a float64 model is rounded on the way."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slope", [1.0, 10.0, 200.0])
@pytest.mark.parametrize("predictor", PREDICTORS)
@torch.no_grad()
def test_equals_slow_reference(family: str, slope: float, predictor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "GONE", -1e9)  # its own test is below
    lengths = [9, 2, 14, 1]
    model = tiny_adapler(family, predictor=predictor).double()
    model.config.beta = 0.3
    batch = random_batch(lengths, seed=1, pad=padding_of(family))
    out = model(**batch, removal="soft", slope=slope)
    for row, n in enumerate(lengths):
        logits, scores, presence, soft_lengths = reference.soft(
            model, batch["input_ids"][row, :n], slope=slope, beta=0.3
        )
        assert_close(out.logits[row], logits, atol=1e-9, rtol=1e-6)
        assert_close(out.contribution_scores[row, :, :n], scores, atol=1e-9, rtol=1e-6)
        assert_close(out.log_scores[row, :, :n].exp(), scores, atol=1e-9, rtol=1e-6)
        assert_close(out.log_presence[row, :, :n].exp(), presence, atol=1e-9, rtol=1e-6)
        assert_close(out.lengths[row], soft_lengths, atol=1e-9, rtol=1e-6)
        assert out.contribution_scores[row, :, n:].abs().sum() == 0
        assert out.log_presence[row, :, n:].exp().sum() == 0
    assert_close(out.contribution_scores.sum(-1), torch.ones(len(lengths), LAYERS, dtype=torch.float64))


@settings(max_examples=35, deadline=None)
@given(
    st.sampled_from(FAMILIES),
    st.sampled_from(PREDICTORS),
    LENGTHS,
    st.integers(0, 999),
    st.sampled_from([0.01, 0.25, 0.9, 1.0]),
)
def test_steep_soft_removal_is_hard_removal(
    family: str, predictor: str, lengths: list[int], seed: int, eta: float
) -> None:
    model, bare = shared(family, predictor=predictor)
    model.eta.data.fill_(eta)
    batch = batch_for(family, lengths, seed=seed)
    for row, n in enumerate(lengths):
        types = batch["token_type_ids"][row, :n] if "token_type_ids" in batch else None
        trace = reference.hard(model, batch["input_ids"][row, :n], types=types, bare=bare)
        assume(trace.margin > 1e-4)
    with torch.no_grad():
        hard, soft = model(**batch), model(**batch, removal="soft", slope=1e8)
    assert torch.equal(soft.retention_mask, hard.retention_mask)
    assert_close(soft.logits, hard.logits, atol=1e-5, rtol=0)
    assert_close(soft.lengths, hard.lengths.float(), atol=1e-4, rtol=0)
    assert_close(soft.contribution_scores, hard.contribution_scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("predictor", PREDICTORS)
@torch.no_grad()
def test_neither_padding_nor_its_side_matters(family: str, predictor: str) -> None:
    lengths = [9, 3, 6]
    model, batch = tiny_adapler(family, predictor=predictor), batch_for(family, lengths, seed=2)
    out, left = model(**batch, removal="soft", slope=30.0), model(**flipped(batch, lengths), removal="soft", slope=30.0)
    assert torch.equal(left.logits, out.logits) and torch.equal(left.lengths, out.lengths)
    for row, n in enumerate(lengths):
        single = model(**{name: x[row : row + 1, :n] for name, x in batch.items()}, removal="soft", slope=30.0)
        assert_close(single.logits[0], out.logits[row], atol=1e-5, rtol=0)
        assert_close(single.lengths[0], out.lengths[row])
        assert torch.equal(left.log_scores[row, :, -n:], out.log_scores[row, :, :n])


def _with_gradients(model: Any, out: Any, probe: torch.Tensor, *, saliency: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every number that training takes from a soft pass, gradients of the three losses among them."""
    labels = torch.arange(len(out.logits)) % 3
    target = contribution_target(saliency, out.log_presence, model.theta)
    losses = [
        cross_entropy(out.logits, labels),
        contribution_loss(out.log_scores, target),
        length_loss(out.lengths),
    ]
    names = [name for name, _ in model.named_parameters() if name != "theta"]
    parameters = [model.get_parameter(name) for name in names]
    numbers = {name: value.detach() for name, value in out.items()}
    for number, loss in enumerate(losses):
        found = torch.autograd.grad(loss, [*parameters, probe], retain_graph=True, allow_unused=True)
        gradients = zip([*names, "probe"], found, strict=True)
        numbers |= {f"d loss {number} / d {name}": g for name, g in gradients if g is not None}
    return numbers


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("gone", "tolerance"), [(passes.GONE, 1e-4), (-1e9, 1e-9)])
@pytest.mark.parametrize("gradient_slope", [float("inf"), 30.0])
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded_in_values_and_gradients(
    family: str, predictor: str, gradient_slope: float, gone: float, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to rounding (float64) without removal; with it, what may differ is e^-15 of a weight, times the slope."""
    monkeypatch.setattr(passes, "GONE", gone)
    batch = batch_for(family, [20, 13, 17, 3, 1], seed=5)
    model = tiny_adapler(family, spread=0.1, predictor=predictor).double()
    saliency = torch.rand(5, 20) * batch["attention_mask"]
    results = []
    for run in (partial(model, **batch, removal="soft"), partial(padded.soft, model, batch)):
        probe = torch.ones(LAYERS).requires_grad_()
        out = run(slope=100.0, gradient_slope=gradient_slope, probe=probe)
        results.append(_with_gradients(model, out, probe, saliency=saliency))
    packed, slow = results
    assert packed.keys() == slow.keys() and len(packed) > 3 * 30  # ModernBERT has hardly a bias
    left = (packed["log_presence"] == MASKED).sum() > (slow["log_presence"] == MASKED).sum()
    assert bool(left) == (gone > -1e4)
    for name, value in slow.items():
        mine, value = packed[name].double(), value.double()
        if name in ("log_scores", "log_presence"):  # of a token that has left, what matters is that it counts nothing
            mine, value = mine.exp(), value.exp()
        difference = (mine - value).abs().max() / max(1.0, float(value.abs().max()))
        assert difference <= tolerance, name


def test_scale_zero_keeps_every_token() -> None:
    model, batch = tiny_adapler(), random_batch([9, 3])
    out = model(**batch, removal="soft", threshold_scale=0.0, slope=1e6)
    assert_close(out.logits, model(**batch, removal="none").logits, atol=1e-5, rtol=0)
    assert_close(out.lengths, torch.tensor([[9.0] * LAYERS, [3.0] * LAYERS]))
    assert torch.equal(out.retention_mask, batch["attention_mask"].bool()[:, None].expand(-1, LAYERS, -1))


@pytest.mark.parametrize("slope", [0.1, 10.0, 1e5])
def test_retained_tokens_never_return(slope: float) -> None:
    model, batch = tiny_adapler(), random_batch([15, 8, 20], seed=4)
    mask = model(**batch, removal="soft", slope=slope).retention_mask
    assert (mask[:, 1:] <= mask[:, :-1]).all() and (mask[:, 0] <= batch["attention_mask"].bool()).all()
    assert mask.sum() < 3 * 43  # it would drop some


@pytest.mark.parametrize("slope", [20.0, 500.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_physical_removal_changes_nothing(family: str, slope: float, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_for(family, [20, 13, 17, 3], seed=5)
    labels, saliency = torch.tensor([0, 1, 2, 0]), torch.rand(4, 20) * batch["attention_mask"]
    widths: list[int] = []
    results = []
    for gone in (passes.GONE, -1e9):
        monkeypatch.setattr(passes, "GONE", gone)
        # scores of a realistic range: a faded token must not win the softmax of a later layer by 15 nats
        model = tiny_adapler(family, spread=0.1)
        predictors = model.contribution_predictors
        predictors[-1].register_forward_pre_hook(lambda _, inputs: widths.append(len(inputs[0])))
        out = model(**batch, labels=labels, removal="soft", slope=slope)
        target = contribution_target(saliency, out.log_presence, model.theta)
        (out.loss + 0.01 * contribution_loss(out.log_scores, target) + 0.01 * length_loss(out.lengths)).backward()
        results.append((out, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (fast, fast_grads), (slow, slow_grads) = results
    assert widths[0] < widths[1] == 20 + 13 + 17 + 3  # it did remove some
    assert_close(fast.logits, slow.logits, atol=3e-5, rtol=0)
    # what is gone has exactly 0 in the one, and in the other e^-15 times what its score is above the others
    assert_close(fast.contribution_scores, slow.contribution_scores, atol=5e-5, rtol=0)
    assert_close(fast.lengths, slow.lengths, atol=1e-5, rtol=0)
    assert torch.equal(fast.retention_mask, slow.retention_mask)
    assert fast_grads.keys() == slow_grads.keys()
    for name, grad in slow_grads.items():
        scale = max(1.0, float(grad.abs().max()))
        assert (fast_grads[name] - grad).abs().max() / scale < 1e-4, name


def _loss(logits: torch.Tensor, lengths: torch.Tensor, label: int, phi: float) -> torch.Tensor:
    return cross_entropy(logits[None], torch.tensor([label])) + phi * lengths.sum()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("slope", [3.0, 8.0])
def test_gradients_of_probe_and_eta_equal_finite_differences(slope: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe multiplies [CLS]'s score, before the scores are renormalised."""
    monkeypatch.setattr(passes, "GONE", -1e9)
    model = tiny_adapler(eta=0.6, spread=0.3)
    ids, phi, step = random_batch([8], seed=3)["input_ids"], 0.05, 1e-6
    exact = copy.deepcopy(model).double()
    probe = torch.ones(LAYERS, dtype=torch.float64, requires_grad=True)
    out = exact(ids, removal="soft", slope=slope, probe=probe)
    _loss(out.logits[0], out.lengths[0], 1, phi).backward()

    def at(factors: torch.Tensor, eta: torch.Tensor) -> float:
        logits, _, _, lengths = reference.soft(model, ids[0], slope=slope, beta=0.1, probe=factors, eta=eta)
        return float(_loss(logits, lengths, 1, phi))

    ones, eta = torch.ones(LAYERS, dtype=torch.float64), exact.eta.detach()
    with torch.no_grad():
        for layer in range(LAYERS):
            move = torch.zeros(LAYERS, dtype=torch.float64)
            move[layer] = step
            by_probe = (at(ones + move, eta) - at(ones - move, eta)) / (2 * step)
            by_eta = (at(ones, eta + move) - at(ones, eta - move)) / (2 * step)
            assert float(probe.grad[layer]) == pytest.approx(by_probe, rel=1e-5, abs=1e-9)
            assert float(exact.eta.grad[layer]) == pytest.approx(by_eta, rel=1e-5, abs=1e-9)
    assert probe.grad.abs().min() > 1e-6 and exact.eta.grad.abs().min() > 1e-6  # none of it is zero by accident


def test_a_probe_of_ones_changes_nothing() -> None:
    model, batch = tiny_adapler(), random_batch([8, 5])
    out = model(**batch, removal="soft")
    probed = model(**batch, removal="soft", probe=torch.ones(LAYERS))
    assert torch.equal(out.logits, probed.logits)


def test_every_trained_part_gets_a_gradient() -> None:
    model, batch = tiny_adapler(), random_batch([9, 5])
    out = model(**batch, labels=torch.tensor([0, 1]), removal="soft", slope=5.0)
    target = contribution_target(torch.rand(2, 9) * batch["attention_mask"], out.log_presence, model.theta)
    (out.loss + contribution_loss(out.log_scores, target)).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias before a softmax has no gradient but rounding; theta is trained through the probe
    missing = [n for n in missing if not n.endswith(("key.bias", "score.bias"))]
    assert missing == ["theta"]
