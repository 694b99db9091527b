"""The last layer for [CLS] only, against the whole layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapler.backbones.attention import Segments, cls_attention
from adapler.backbones.families import Bert, view
from tests.adapler.backbones.conftest import OnCuda
from tests.adapler.backbones.test_backbones import FAMILIES
from tests.conftest import HEADS, LAYERS, WIDTH, tiny_adapler

# The last layer of ModernBERT ends in the final norm and the mean that its head reads: see test_families.py.
SHORT = [family for family in FAMILIES if family != "modernbert"]


def inputs(sizes: list[int]) -> tuple[Tensor, Segments, Tensor]:
    torch.manual_seed(0)
    return torch.randn(1, sum(sizes), WIDTH), Segments(torch.tensor(sizes)), torch.arange(sum(sizes))[None]


@pytest.mark.parametrize("family", SHORT)
@pytest.mark.parametrize("sizes", [[1], [7], [5, 3, 3, 1], [4, 4]])
def test_equals_the_whole_layer(family: str, sizes: list[int]) -> None:
    classifier = tiny_adapler(family).backbone
    hidden, segments, positions = inputs(sizes)
    whole = view(classifier).layer(LAYERS - 1, hidden, positions=positions, segments=segments)
    short = view(classifier).last_layer(hidden, positions=positions, segments=segments)
    assert short.shape == (1, len(sizes), WIDTH)
    assert_close(short, whole[:, segments.first], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", SHORT)
def test_gradients_equal_those_of_the_whole_layer(family: str) -> None:
    classifier = tiny_adapler(family).backbone
    hidden, segments, positions = inputs([5, 3, 3])
    hidden.requires_grad_()
    layer = view(classifier).layers[-1]
    found = []
    for last in (True, False):
        classifier.zero_grad()
        if last:
            out = view(classifier).last_layer(hidden, positions=positions, segments=segments)
        else:
            out = view(classifier).layer(LAYERS - 1, hidden, positions=positions, segments=segments)
            out = out[:, segments.first]
        (gradient,) = torch.autograd.grad((out**3).sum(), hidden, retain_graph=True)
        (out**3).sum().backward()
        found.append([gradient, *(p.grad.clone() for p in layer.parameters())])
    for short, whole in zip(*found, strict=True):
        assert_close(short, whole, atol=1e-4, rtol=1e-3)


def test_a_bias_on_the_keys_is_added_to_their_logits() -> None:
    hidden, segments, _ = inputs([3, 2, 2])
    query, bias = torch.randn(3, HEADS, WIDTH), torch.tensor([[0.0, -1e4, -0.5, 0.0, -0.2, 0.0, -1e4]])
    out = cls_attention(query, hidden, segments=segments, key_bias=bias)
    for number, states, own in zip(range(3), hidden[0].split([3, 2, 2]), bias[0].split([3, 2, 2]), strict=True):
        expected = (query[number] @ states.T + own).softmax(-1) @ states
        assert_close(out[number], expected)


def test_on_a_gpu_sequences_are_padded() -> None:
    hidden, segments, _ = inputs([3, 1, 2])
    query, bias = torch.randn(3, HEADS, WIDTH), -torch.rand(1, 6)
    for limit in (None, 5):
        known = Segments(segments.lengths, bound=limit)
        on_gpu = cls_attention(query.as_subclass(OnCuda), hidden, segments=known, key_bias=bias)
        assert_close(on_gpu.as_subclass(Tensor), cls_attention(query, hidden, segments=segments, key_bias=bias))


def test_a_layer_that_is_not_as_transformers_built_it_runs_whole() -> None:
    """Folded weights would pass by an adapter around a projection, and by a hook, without a word."""
    hidden, segments, positions = inputs([4, 2])

    class Doubled(torch.nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    def doubled(classifier: Any) -> None:
        module = view(classifier).layers[-1].attention.self
        new = Doubled(WIDTH, WIDTH)
        new.load_state_dict(module.value.state_dict())
        module.value = new

    def hooked(classifier: Any) -> None:
        view(classifier).layers[-1].attention.self.key.register_forward_hook(lambda *args: 3 * args[2])

    for change in (doubled, hooked):
        classifier = tiny_adapler("bert").backbone
        before = view(classifier).last_layer(hidden, positions=positions, segments=segments)
        change(classifier)
        whole = view(classifier).layer(LAYERS - 1, hidden, positions=positions, segments=segments)
        short = view(classifier).last_layer(hidden, positions=positions, segments=segments)
        assert_close(short, whole[:, segments.first])
        assert not torch.allclose(short, before, atol=1e-3)


def test_a_family_with_layers_of_its_own_runs_its_last_one_whole() -> None:
    class Halved(Bert):
        def layer(self, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
            return super().layer(index, hidden, positions=positions, **attention) / 2

    classifier = tiny_adapler("bert").backbone
    hidden, segments, positions = inputs([4, 2])
    out = Halved(classifier).last_layer(hidden, positions=positions, segments=segments)
    plain = view(classifier).last_layer(hidden, positions=positions, segments=segments)
    assert_close(out, plain / 2)
