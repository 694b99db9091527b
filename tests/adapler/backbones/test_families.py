"""Families by another name, relative positions and sliding windows by the tokens' places in the input."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    CamembertConfig,
    CamembertForSequenceClassification,
    ErnieConfig,
    ErnieForSequenceClassification,
    MPNetConfig,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification, ArgumentError
from adapler.backbones import attention
from adapler.backbones.attention import Segments, adapler_attention
from adapler.backbones.decomposition import token_relevance
from adapler.backbones.families import MPNet, relative_bias, view
from tests.adapler.backbones.conftest import OnCuda
from tests.conftest import HEADS, INNER, LAYERS, VOCABULARY, WIDTH, random_batch, tiny_classifier

OTHER_NAMES = {
    "ernie": (ErnieConfig, ErnieForSequenceClassification, 0),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForSequenceClassification, 1),
    "camembert": (CamembertConfig, CamembertForSequenceClassification, 1),
}


def wrapped(classifier: Any) -> Any:
    """AdapLeR on a classifier, with random predictors that drop tokens."""
    torch.manual_seed(1)
    model = AdapLeRForSequenceClassification(
        AdapLeRConfig(backbone_config=classifier.config.to_dict()), backbone=classifier
    )
    with torch.no_grad():
        for predictor in model.contribution_predictors:
            predictor.dense.weight.normal_(std=0.3)
            predictor.score.weight.normal_(std=0.3)
        model.eta.fill_(0.6)
    return model.eval()


@pytest.mark.parametrize("family", sorted(OTHER_NAMES))
@torch.no_grad()
def test_a_family_by_another_name(family: str) -> None:
    configuration, kind, pad = OTHER_NAMES[family]
    torch.manual_seed(0)
    classifier = kind(
        configuration(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            max_position_embeddings=40,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.25,
            num_labels=3,
            pad_token_id=pad,
        )
    ).eval()
    lengths = [9, 4, 13]
    batch = random_batch(lengths, pad=pad)
    expected = classifier(**batch).logits
    model = wrapped(copy.deepcopy(classifier))
    assert_close(model(**batch, removal="none").logits, expected, atol=1e-5, rtol=0)
    hard = model(**batch)
    assert hard.lengths.sum() < LAYERS * sum(lengths)
    for row, n in enumerate(lengths):
        alone = model(batch["input_ids"][row : row + 1, :n])
        assert_close(alone.logits[0], hard.logits[row], atol=1e-5, rtol=1e-5)
        # layer by layer, with the rows of dropped tokens deleted
        ids, layers = batch["input_ids"][row : row + 1, :n], view(classifier).layers
        hidden, alive = view(classifier).encoder.embeddings(input_ids=ids), torch.arange(n)
        for layer, module in enumerate(layers):
            stay = hard.retention_mask[row, layer, alive]
            hidden, alive = hidden[:, stay], alive[stay]
            hidden = module(hidden, None)
        assert_close(view(classifier).head(hidden[:, 0])[0], hard.logits[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@torch.no_grad()
def test_modernbert_with_either_head(pooling: str) -> None:
    batch, lengths = random_batch([9, 4, 20]), [9, 4, 20]
    classifier = tiny_classifier("modernbert", classifier_pooling=pooling)
    expected = classifier(**batch).logits
    model = wrapped(classifier)
    assert_close(model(**batch, removal="none").logits, expected, atol=1e-5, rtol=0)
    few = {"threshold_scale": 0.3}
    hard, soft = model(**batch, **few), model(**batch, **few, removal="soft", slope=1e8)
    assert hard.lengths.sum() < LAYERS * sum(lengths)
    assert_close(soft.logits, hard.logits, atol=1e-5, rtol=0)
    assert (hard.lengths[:, -1] > 2).any()
    if pooling == "mean":
        cls = tiny_classifier("modernbert", classifier_pooling="cls")
        assert (wrapped(cls)(**batch, **few).logits - hard.logits).abs().max() > 1e-3


@torch.no_grad()
def test_a_token_outside_the_window_stays_outside_when_those_between_are_dropped() -> None:
    """Layer 1 has a window of 4 tokens to each side; tokens 0 and 9 are neighbours in the packed row."""
    classifier = tiny_classifier("modernbert")
    torch_states = torch.randn(1, 3, WIDTH)
    wrapped(classifier)  # sets the attention implementation
    family = view(classifier)
    segments = Segments(torch.tensor([3]))
    near, far = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 9]])

    def first(positions: Tensor, last: float) -> Tensor:
        states = torch_states.clone()
        states[0, 2] *= last
        return family.layer(1, states, positions=positions, segments=segments)[0, 0]

    assert (first(near, 1.0) - first(near, -3.0)).abs().max() > 1e-3
    assert torch.equal(first(far, 1.0), first(far, -3.0))


def test_mpnet_s_bias_is_that_of_the_places_in_the_input() -> None:
    encoder = tiny_classifier("mpnet").mpnet.encoder
    whole = encoder.compute_position_bias(torch.zeros(1, 30, WIDTH))[0]  # (H, n, n), transformers' own
    positions = torch.tensor([0, 3, 4, 11, 29])
    bias = relative_bias(encoder, (positions[None] - positions[:, None])[None])[0]
    assert torch.equal(bias, whole[:, positions][:, :, positions])
    assert bias.std() > 0.05


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_packed_pairs_equal_a_plain_softmax_and_padded_ones(learned: bool, biased: bool) -> None:
    """One sequence at a time, written out; the padded form is the one that runs on CUDA. Gradients too."""
    torch.manual_seed(0)
    sizes, table = [5, 1, 8], torch.randn(HEADS, 64, requires_grad=learned)
    total = sum(sizes)
    positions = torch.cat([torch.arange(n) * 3 for n in sizes])[None]
    bias = (-torch.rand(1, total) * 5).requires_grad_() if biased else None
    inputs = [torch.randn(1, HEADS, total, 6, requires_grad=True) for _ in range(3)]

    def term(distance: Tensor) -> Tensor:
        far = attention.window(distance, reach=9)
        return table[:, distance + 32].transpose(0, 1) + far

    def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, start = [], 0
        for n in sizes:
            part = slice(start, start + n)
            logits = query[0, :, part] @ key[0, :, part].transpose(1, 2) * 0.3
            logits = logits + term((positions[0, part][None] - positions[0, part][:, None])[None])[0]
            logits = logits if bias is None else logits + bias[0, part]
            rows.append(logits.softmax(-1) @ value[0, :, part])
            start += n
        return torch.cat(rows, dim=1)[None]

    segments = Segments(torch.tensor(sizes))
    options = {"term": term, "positions": positions, "scale": 0.3, "segments": segments, "key_bias": bias}

    def on_cuda(*inputs: Tensor) -> Tensor:
        """Without the kernel, which a sequence without a term would get."""
        return attention.packed_attention(*(one.as_subclass(OnCuda) for one in inputs), **options).as_subclass(Tensor)

    trained = [*inputs, *([table] if learned else []), *([bias] if bias is not None else [])]
    weights, results = torch.randn(1, HEADS, total, 6), []
    for attend in (
        written_out,
        partial(attention.packed_attention, **options),
        on_cuda,
    ):
        out = attend(*inputs)
        results.append([out, *torch.autograd.grad((out * weights).sum(), trained)])
    for result in results[1:]:
        for mine, expected in zip(result, results[0], strict=True):
            assert_close(mine, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("learns", [False, True])
def test_layers_share_a_term_that_does_not_learn(learns: bool) -> None:
    """Once for equal positions; a term that learns is made for every sequence in every layer."""
    torch.manual_seed(0)
    table = torch.randn(HEADS, 64, requires_grad=learns)
    calls: list[int] = []

    def term(distance: Tensor) -> Tensor:
        calls.append(distance.shape[-1])
        return table[:, distance + 32].transpose(0, 1)

    sizes = [4, 4, 4, 3]
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 9, 0, 1, 2]])
    states = torch.randn(1, HEADS, sum(sizes), 6)
    segments = Segments(torch.tensor(sizes))

    def attend(segments: Segments) -> Tensor:
        options = {"term": term, "positions": positions, "scale": 0.3}
        return attention.packed_attention(states, states, states, segments=segments, **options)

    with torch.no_grad():
        first, second = attend(segments), attend(segments)
    assert calls == [4, 4, 3]
    assert torch.equal(first, second)
    assert_close(first, attend(Segments(torch.tensor(sizes))).detach())
    calls.clear()
    assert attend(segments).requires_grad == learns
    assert calls == ([4, 4, 4, 3] if learns else [4, 4, 3])


def test_a_window_without_positions_is_refused() -> None:
    query = torch.randn(1, 2, 4, 8)
    with pytest.raises(ArgumentError, match="^attention: the backbone's layers ask for sliding_window=3"):
        adapler_attention(
            torch.nn.Identity(), query, query, query, None, sliding_window=3, segments=Segments(torch.tensor([4]))
        )


def test_mpnet_counts_positions_from_one_padding_id_only() -> None:
    config = MPNetConfig(hidden_size=8, num_attention_heads=1, pad_token_id=0)
    with pytest.raises(ArgumentError, match="^pad_token_id: 0 is not 1, which MPNet's positions begin after$"):
        MPNet.check(config)


@pytest.mark.parametrize("family", ["mpnet", "modernbert"])
def test_saliency_is_gradient_times_input(family: str) -> None:
    classifier, ids = tiny_classifier(family), random_batch([7])["input_ids"]
    scores = token_relevance(classifier, {"input_ids": ids}, kind="saliency", target=1)
    states = classifier(ids, output_hidden_states=True)
    layers = states.hidden_states[:-1]
    gradients = torch.autograd.grad(states.logits[0, 1], layers)
    norms = torch.stack([(g * h)[0].norm(dim=-1) for g, h in zip(gradients, layers, strict=True)])
    assert scores.shape == (1, LAYERS, 7)
    assert_close(scores[0], (norms / norms.sum(-1, keepdim=True)).detach(), atol=1e-6, rtol=1e-4)
