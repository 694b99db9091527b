"""AdapLeR whose first layers drop nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification, ArgumentError
from adapler import passes as soft
from adapler.flops import adapler_flops
from adapler.inference import weights_checksum
from tests.adapler.training.common import trainer
from tests.conftest import LAYERS, random_batch, tiny_adapler

LENGTHS = [9, 2, 14, 1]
PREDICTORS = ["mlp", "contextual"]


def sparing(first: int, *, family: str = "bert", **options: Any) -> Any:
    """A model that drops tokens from layer `first` on."""
    model = tiny_adapler(family, spread=0.3, **options)
    model.config.policy_options = {"first_layer": first}
    return model


def with_eta_of_zero(model: Any, layers: int) -> Any:
    """All layers may drop, and the first of them have a threshold that no score is below."""
    other = copy.deepcopy(model)
    other.config.policy_options = None
    with torch.no_grad():
        other.eta[:layers] = 0.0
    return other


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("first", range(LAYERS))
@torch.no_grad()
def test_the_layers_before_it_read_every_token(family: str, predictor: str, first: int) -> None:
    model, batch = sparing(first, family=family, predictor=predictor), random_batch(LENGTHS, seed=1)
    found, expected = model(**batch), with_eta_of_zero(model, first)(**batch)
    assert found.lengths[:, :first].tolist() == [[n] * first for n in LENGTHS]
    assert (found.lengths[:, first] < torch.tensor(LENGTHS)).any()
    for name in ("logits", "lengths", "contribution_scores", "retention_mask", "bars"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert_close(found.contribution_scores.sum(-1), torch.ones(len(LENGTHS), LAYERS)), "every layer scores"


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_flops_are_those_of_the_counter(predictor: str) -> None:
    """The layers that drop nothing score their tokens all the same, and that is counted."""
    model = sparing(1, predictor=predictor)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = model(**random_batch([23]))
    assert 23 == out.lengths[0, 0] > out.lengths[0, 1]
    found = adapler_flops(model.config, torch.tensor([23]), out.lengths, convention="executed")
    assert found.tolist() == [counter.get_total_flops()]


@pytest.mark.parametrize("local", [False, True])
def test_soft_lengths_are_whole_and_their_eta_has_no_gradient(local: bool) -> None:
    model, batch = sparing(2), random_batch(LENGTHS, seed=1)
    probe = torch.ones(LAYERS, requires_grad=True)
    out = model(**batch, removal="soft", slope=10.0, probe=probe, local_losses=local)
    assert out.lengths[:, :2].tolist() == [[n] * 2 for n in LENGTHS]
    assert (out.lengths[:, 2] < torch.tensor(LENGTHS)).any()
    assert bool(out.retention_mask[:, :2].sum(-1).eq(torch.tensor(LENGTHS)[:, None]).all())
    assert_close(out.log_scores.exp().sum(-1), torch.ones(len(LENGTHS), LAYERS))
    (out.logits.square().sum() + out.lengths.sum()).backward()
    assert model.eta.grad[:2].tolist() == [0, 0] and model.eta.grad[2] != 0
    assert probe.grad is not None and probe.grad[:2].tolist() == [0, 0] and probe.grad[2] != 0


def test_steep_soft_removal_is_hard_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft, "GONE", -1e9)
    model, batch = sparing(1).double(), random_batch(LENGTHS, seed=1)
    hard, steep = (model(**batch, removal=kind, **more) for kind, more in (("hard", {}), ("soft", {"slope": 1e9})))
    assert torch.equal(hard.retention_mask, steep.retention_mask)
    assert_close(hard.logits, steep.logits, atol=1e-6, rtol=1e-5)


def test_one_that_trains_drops_nothing_there(tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = sparing(1, eta=0.5)
    before = model.eta.detach().clone()
    trainer(tmp_path, tiny_tokenizer, model=model, first_layer=1).train()
    assert model.eta[0] == before[0], "it moves no threshold that nothing is compared with"
    assert bool((model.eta[1:] != before[1:]).all())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "--first-layer: -1 is not at least 0"),
        (LAYERS, f"first_layer: {LAYERS} is not below the model's {LAYERS} layers"),
    ],
)
def test_a_layer_that_is_none(value: Any, message: str) -> None:
    backbone = tiny_adapler().config.backbone_config
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        AdapLeRConfig(backbone_config=backbone, policy_options={"first_layer": value})
    with pytest.raises(ArgumentError, match="'layer' is no option of policy 'adapler'; it has first_layer"):
        AdapLeRConfig(backbone_config=backbone, policy_options={"layer": 1})


def test_a_saved_model_has_it_and_a_trained_one_can_be_given_it(tmp_path: Path) -> None:
    model, batch = tiny_adapler(spread=0.3), random_batch(LENGTHS, seed=1)
    model.save_pretrained(tmp_path / "all")
    load = AdapLeRForSequenceClassification.from_pretrained
    changed = load(tmp_path / "all", policy_options={"first_layer": 1})
    changed.save_pretrained(tmp_path / "later")
    again = load(tmp_path / "later")
    assert again.config.policy_options == {"first_layer": 1}
    assert torch.equal(again(**batch).logits, changed(**batch).logits)
    assert again(**batch).lengths[:, 0].tolist() == LENGTHS != load(tmp_path / "all")(**batch).lengths[:, 0].tolist()
    assert weights_checksum(again) != weights_checksum(model), "a calibration is of one of them"
    assert again.for_inference()(**batch).lengths[:, 0].tolist() == LENGTHS
