from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from adapler.backbones.decomposition import token_relevance
from adapler.errors import ArgumentError
from tests.adapler.backbones.test_backbones import FAMILIES, batch_for
from tests.adapler.model import reference
from tests.conftest import LAYERS, random_batch, tiny_adapler, tiny_classifier

SIZES = [9, 4, 1]
saliency = partial(token_relevance, kind="saliency")


def slow_saliency(classifier: Any, inputs: dict[str, Tensor], layer: int, label: int) -> Tensor:
    """(n,) of one sequence: the layer's input becomes a leaf, one backward pass for it alone."""
    leaf: list[Tensor] = []

    def cut(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaf.append(args[0].detach().requires_grad_())
        return (leaf[0], *args[1:]), kwargs

    handle = reference.layers(classifier)[layer].register_forward_pre_hook(cut, with_kwargs=True)
    try:
        classifier(**inputs).logits[0, label].backward()
    finally:
        handle.remove()
    assert leaf[0].grad is not None
    scores = (leaf[0].grad * leaf[0].detach())[0].norm(dim=-1)
    return scores / scores.sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_slow_reference(family: str) -> None:
    batch = batch_for(family, SIZES)
    classifier = tiny_classifier(family)
    labels = torch.tensor([2, 0, 1])
    scores = saliency(classifier, batch, target=labels)
    for row, n in enumerate(SIZES):
        inputs = {name: value[row : row + 1, :n] for name, value in batch.items()}
        for layer in range(LAYERS):
            expected = slow_saliency(tiny_classifier(family), inputs, layer, int(labels[row]))
            assert_close(scores[row, layer, :n], expected, atol=1e-5, rtol=1e-3)
            assert scores[row, layer, n:].abs().sum() == 0
    assert_close(scores.sum(-1), torch.ones(3, LAYERS))
    assert not scores.requires_grad


def test_works_on_the_backbone_of_an_adapler_model() -> None:
    batch = random_batch(SIZES)
    plain = saliency(tiny_classifier(), batch, target="predicted")
    assert_close(saliency(tiny_adapler().backbone, batch, target="predicted"), plain, atol=1e-5, rtol=1e-3)


def test_targets() -> None:
    classifier, batch = tiny_classifier(), random_batch(SIZES)
    with torch.no_grad():
        predicted = classifier(**batch).logits.argmax(-1)
    by_index = saliency(classifier, batch, target=predicted)
    assert torch.equal(saliency(classifier, batch, target="predicted"), by_index)
    other = (predicted + 1) % 3
    gold = saliency(classifier, {**batch, "labels": other}, target="gold")
    assert torch.equal(gold, saliency(classifier, batch, target=other))
    assert (gold - by_index).abs().max() > 1e-3


def hooks_of(classifier: Any) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in classifier.modules()]


class Products(TorchDispatchMode):
    """Counts the matrix products of dense layers, with and without a bias: forward and backward."""

    forward = backward = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.forward += func is torch.ops.aten.addmm.default
        self.backward += func is torch.ops.aten.mm.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_are_asked_for_alone(family: str) -> None:
    classifier, batch = tiny_classifier(family), batch_for(family, SIZES)
    every = saliency(classifier, batch, target="predicted")
    for layers in ((0,), (2,), (2, 0), (1, 2)):
        assert torch.equal(saliency(classifier, batch, target="predicted", layers=layers), every[:, list(layers)])


@pytest.mark.parametrize(("layer", "backward"), [(0, 3), (2, 1)])
def test_the_backward_pass_ends_at_the_lowest_layer_and_computes_no_gradient_of_a_weight(
    layer: int, backward: int
) -> None:
    classifier, batch = tiny_classifier(), random_batch([6, 6])
    with Products() as products:
        saliency(classifier, batch, target="predicted", layers=(layer,))
    per_layer, head = 6, 2  # dense layers
    assert products.forward == LAYERS * per_layer + head
    assert products.backward == backward * per_layer + head, "one product a dense layer: the gradient of its input"


@pytest.mark.parametrize("layers", [(), (3,), (-1,), (1, 1)])
def test_layers_that_the_model_does_not_have(layers: tuple[int, ...]) -> None:
    message = rf"^layers: \[{', '.join(map(str, layers))}\] are not distinct layers from 0 to 2$"
    with pytest.raises(ArgumentError, match=message):
        saliency(tiny_classifier(), random_batch(SIZES), target="predicted", layers=layers)


def test_leaves_the_model_as_found() -> None:
    classifier, batch = tiny_classifier(), random_batch(SIZES)
    classifier.train()
    classifier.bert.encoder.layer[1].eval()  # a mixture of modes
    classifier.bert.embeddings.requires_grad_(False)
    classifier.classifier.weight.grad = torch.full_like(classifier.classifier.weight, 7.0)
    modes = [m.training for m in classifier.modules()]
    needs = [p.requires_grad for p in classifier.parameters()]
    hooks = hooks_of(classifier)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with torch.no_grad():
        scores = saliency(classifier, batch, target="predicted")
        assert not torch.is_grad_enabled()
    assert_close(scores, saliency(tiny_classifier(), batch, target="predicted"))  # dropout was off
    assert [m.training for m in classifier.modules()] == modes
    assert [p.requires_grad for p in classifier.parameters()] == needs
    assert hooks_of(classifier) == hooks
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    grads = {name: p.grad for name, p in classifier.named_parameters() if p.grad is not None}
    assert list(grads) == ["classifier.weight"] and bool((grads["classifier.weight"] == 7).all())


def test_is_left_as_found_after_an_error() -> None:
    classifier = tiny_classifier().train()
    hooks = hooks_of(classifier)
    with pytest.raises(ArgumentError):
        saliency(classifier, random_batch(SIZES), target="gold")
    assert classifier.training
    assert hooks_of(classifier) == hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_works_with_frozen_weights(family: str) -> None:
    batch = batch_for(family, SIZES)
    classifier = tiny_classifier(family)
    expected = saliency(classifier, batch, target="predicted")
    classifier.requires_grad_(False)
    assert_close(saliency(classifier, batch, target="predicted"), expected)


def test_batch_mates_and_padding_do_not_matter() -> None:
    classifier, batch = tiny_classifier(), random_batch(SIZES)
    scores = saliency(classifier, batch, target="predicted")
    for row, n in enumerate(SIZES):
        single = saliency(classifier, {k: v[row : row + 1, :n] for k, v in batch.items()}, target="predicted")
        assert_close(scores[row, :, :n], single[0], atol=1e-5, rtol=1e-3)


def test_without_mask_every_token_is_real() -> None:
    classifier, batch = tiny_classifier(), random_batch([6, 6])
    masked = saliency(classifier, batch, target="predicted")
    assert_close(saliency(classifier, {"input_ids": batch["input_ids"]}, target="predicted"), masked)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gold", "^target: 'gold' needs the gold labels, and the batch has none$"),
        (
            "best",
            r"^target: 'best' is no class of this model; allowed are predicted, gold, a class - LABEL_0 \(0\), "
            r"LABEL_1 \(1\), LABEL_2 \(2\) - or contrast, contrast:gold, contrast:CLASS$",
        ),
        (torch.tensor([0, 3, 1]), r"^target: labels must be among the model's 3, got \[0, 1, 3\]$"),
        (torch.tensor([0, -1, 1]), "^target: labels must be among the model's 3"),
    ],
)
def test_errors(target: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        saliency(tiny_classifier(), random_batch(SIZES), target=target)
