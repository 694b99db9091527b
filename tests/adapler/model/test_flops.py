"""Analytic FLOPs against PyTorch's own counter and against arithmetic by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from adapler import AdapLeRConfig
from adapler.backbones.families import view
from adapler.errors import ArgumentError
from adapler.flops import adapler_flops, backbone_flops, layer_flops, policy_flops, speedup
from tests.adapler.backbones.test_backbones import FAMILIES
from tests.conftest import LAYERS, random_batch, tiny_adapler, tiny_classifier


def counted(model: Any, *args: Any, **options: Any) -> tuple[int, Any]:
    """FLOPs by PyTorch's counter; the math backend, since it counts no fused attention of a CPU."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = model(*args, **options)
    return counter.get_total_flops(), out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [1, 7, 20])
def test_backbone_flops_equal_the_counter(family: str, length: int) -> None:
    classifier = tiny_classifier(family)
    ids = random_batch([length])["input_ids"]
    expected, _ = counted(classifier, ids)
    assert backbone_flops(classifier.config, torch.tensor([length])).tolist() == [expected]
    assert backbone_flops(tiny_adapler(family).config, torch.tensor([length])).tolist() == [expected]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("predictor", ["mlp", "contextual"])
@pytest.mark.parametrize("convention", ["paper", "executed"])
def test_adapler_flops_equal_the_counter(family: str, predictor: str, convention: Any) -> None:
    model = tiny_adapler(family, predictor=predictor)
    if convention == "paper":  # a layer with a hook runs whole
        view(model.backbone).layers[-1].register_forward_hook(lambda *_: None)
    dropped = 0
    for seed, length in enumerate([1, 2, 9, 20]):
        expected, out = counted(model, random_batch([length], seed=seed)["input_ids"])
        flops = adapler_flops(model.config, torch.tensor([length]), out.lengths, convention=convention)
        assert flops.tolist() == [expected]
        dropped += length * LAYERS - int(out.lengths.sum())
    assert dropped > 10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengths", [[1], [9], [9, 4, 9, 7]])
def test_none_mode_costs_what_the_backbone_costs(family: str, lengths: list[int]) -> None:
    model, batch = tiny_adapler(family), random_batch(lengths, pad=1 if family == "roberta" else 0)
    expected, _ = counted(model, **batch, removal="none")
    assert float(backbone_flops(model.config, torch.tensor(lengths), convention="executed").sum()) == expected
    view(model.backbone).layers[-1].register_forward_hook(lambda *_: None)
    whole, _ = counted(model, **batch, removal="none")
    assert float(backbone_flops(model.config, torch.tensor(lengths)).sum()) == whole


def by_hand_config() -> AdapLeRConfig:
    return AdapLeRConfig(
        backbone_config=BertConfig(
            hidden_size=4, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, num_labels=2
        ),
        contribution_hidden_size=3,
    )


def test_speedup_by_hand() -> None:
    """D = 4, F = 8, L = 2, C = 2, predictor width 3.

    a layer on n tokens: n * 2 (4*4*4 + 2*4*8) + n^2 * 4*4 = 256 n + 16 n^2
    head: 2*4*4 + 2*4*2 = 48;  a predictor on n tokens: n * 2 (4*3 + 3) = 30 n
    """
    config = by_hand_config()
    lengths_in, lengths = torch.tensor([10, 4]), torch.tensor([[5, 2], [4, 1]])
    # n = 10: 2 (2560 + 1600) + 48 = 8368;  n = 4: 2 (1024 + 256) + 48 = 2608
    assert backbone_flops(config, lengths_in).tolist() == [8368, 2608]
    # layers (1280 + 400) + (512 + 64) = 2256, predictors read 10 and 5: 450, head 48: 2754
    # layers (1024 + 256) + (256 + 16) = 1552, predictors read 4 and 4: 240, head 48: 1840
    assert adapler_flops(config, lengths_in, lengths).tolist() == [2754, 1840]
    assert speedup(config, lengths_in, lengths) == pytest.approx((8368 + 2608) / (2754 + 1840))


def test_executed_by_hand() -> None:
    """As above, but the last of two layers for [CLS]: 256 + n * 4*4*2 = 256 + 32 n."""
    config = by_hand_config()
    lengths_in, lengths = torch.tensor([10, 4]), torch.tensor([[5, 2], [4, 1]])
    # n = 10: 4160 + 576 + 48 = 4784;  n = 4: 1280 + 384 + 48 = 1712
    assert backbone_flops(config, lengths_in, convention="executed").tolist() == [4784, 1712]
    # 1680 + 320 + 450 + 48 = 2498;  1280 + 288 + 240 + 48 = 1856
    assert adapler_flops(config, lengths_in, lengths, convention="executed").tolist() == [2498, 1856]
    gain = speedup(config, lengths_in, lengths, convention="executed")
    assert gain == pytest.approx((4784 + 1712) / (2498 + 1856))
    with pytest.raises(ArgumentError, match="^convention: 'padded' is not one of paper, executed$"):
        speedup(config, lengths_in, lengths, convention="padded")  # type: ignore[arg-type]


def test_keeping_everything_costs_a_little_more_than_the_backbone() -> None:
    config = by_hand_config()
    full = speedup(config, torch.tensor([10]), torch.tensor([[10, 10]]))
    assert full == pytest.approx(8368 / (8368 + 2 * 300))


@pytest.mark.parametrize(
    ("lengths_in", "lengths", "message"),
    [
        ([3], [[3, 2, 1]], r"^lengths: shape \(1, 3\) is not \(1, 2\), sequences x layers$"),
        ([3, 4], [[3, 2]], r"^lengths: shape \(1, 2\) is not \(2, 2\)"),
        ([3], [[2, 3]], "^lengths: a layer has more tokens than the one before it$"),
        ([3], [[4, 3]], "^lengths: a layer has more tokens"),
    ],
)
def test_errors(lengths_in: list[int], lengths: list[list[int]], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        adapler_flops(by_hand_config(), torch.tensor(lengths_in), torch.tensor(lengths))


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_layers_and_predictors_add_up(family: str) -> None:
    config = tiny_adapler(family).config
    lengths = torch.tensor([[9, 5, 2]])
    read = torch.tensor([[12, 9, 5]])
    whole = adapler_flops(config, torch.tensor([12]), lengths)
    head = backbone_flops(config, torch.tensor([0]))
    parts = layer_flops(config, lengths) + policy_flops(config, read)
    assert parts.shape == (1, 3) and float(parts.sum() + head) == float(whole)
    with_backbone_config = layer_flops(config.backbone_config, lengths)
    assert torch.equal(with_backbone_config, layer_flops(config, lengths))
