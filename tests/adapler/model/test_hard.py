"""Packed hard removal against a loop over sequences that deletes rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.adapler.backbones.test_backbones import FAMILIES, batch_for, flipped
from tests.adapler.model import reference
from tests.conftest import LAYERS, padding_of, random_batch, tiny_adapler


@cache
def shared(family: str, seed: int = 0, predictor: str = "mlp") -> tuple[Any, Any]:
    model = tiny_adapler(family, seed=seed, predictor=predictor)
    return model, reference.plain_backbone(model)


def compare(out: Any, row: int, trace: reference.Trace, columns: list[int]) -> None:
    """One row of a batch against the reference; columns: where the row's real tokens stand in the batch."""
    assert_close(out.logits[row], trace.logits, atol=1e-5, rtol=1e-5)
    assert out.lengths[row].tolist() == trace.lengths.tolist()
    for layer in range(LAYERS):
        kept = out.retention_mask[row, layer].nonzero()[:, 0].tolist()
        assert kept == [columns[i] for i in trace.kept[layer]]
        assert_close(out.contribution_scores[row, layer, columns], trace.scores[layer], atol=1e-6, rtol=1e-4)
    outside = [c for c in range(out.retention_mask.shape[-1]) if c not in columns]
    assert out.contribution_scores[row][:, outside].abs().sum() == 0


PREDICTORS = ["mlp", "contextual"]
LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(FAMILIES),
    st.sampled_from(PREDICTORS),
    LENGTHS,
    st.integers(0, 999),
    st.sampled_from([0.01, 0.25, 0.6, 0.9, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0, 1.5]),
    st.sampled_from(["right", "left"]),
    st.integers(0, 4),
)
def test_equals_slow_reference(
    family: str, predictor: str, lengths: list[int], seed: int, eta: float, scale: float, side: str, extra: int
) -> None:
    model, bare = shared(family, seed % 3, predictor)
    model.eta.data.fill_(eta)
    batch = batch_for(family, lengths, seed=seed)
    fill = padding_of(family)
    for name, value in batch.items():  # `extra` columns of padding that nobody needs
        batch[name] = torch.nn.functional.pad(value, (0, extra), value=fill if name == "input_ids" else 0)
    width = batch["input_ids"].shape[1]
    if side == "left":
        batch = flipped(batch, lengths)
    with torch.no_grad():
        out = model(**batch, threshold_scale=scale)
    for row, n in enumerate(lengths):
        start = width - n if side == "left" else 0
        columns = list(range(start, start + n))
        types = batch["token_type_ids"][row, columns] if "token_type_ids" in batch else None
        ids = batch["input_ids"][row, columns]
        trace = reference.hard(model, ids, types=types, scale=scale, bare=bare)
        assume(trace.margin > 1e-5)  # a score on the threshold may fall on either side by rounding
        compare(out, row, trace, columns)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(FAMILIES),
    st.sampled_from(PREDICTORS),
    LENGTHS,
    st.integers(0, 999),
    st.randoms(use_true_random=False),
)
def test_batch_mates_and_order_do_not_matter(
    family: str, predictor: str, lengths: list[int], seed: int, random: Any
) -> None:
    model, _ = shared(family, predictor=predictor)
    model.eta.data.fill_(0.9)
    batch = batch_for(family, lengths, seed=seed)
    order = list(range(len(lengths)))
    random.shuffle(order)
    with torch.no_grad():
        out = model(**batch)
        shuffled = model(**{name: value[order] for name, value in batch.items()})
        assert_close(shuffled.logits, out.logits[order], atol=1e-5, rtol=1e-5)
        assert torch.equal(shuffled.retention_mask, out.retention_mask[order])
        for row, n in enumerate(lengths):
            single = model(**{name: value[row : row + 1, :n] for name, value in batch.items()})
            assert_close(single.logits[0], out.logits[row], atol=1e-5, rtol=1e-5)
            assert torch.equal(single.retention_mask[0], out.retention_mask[row, :, :n])


@pytest.mark.parametrize("removal", ["hard", "none"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_side_of_the_padding_does_not_matter(family: str, removal: str) -> None:
    lengths = [7, 3, 11]
    model, batch = tiny_adapler(family), batch_for(family, lengths)
    right, left = model(**batch, removal=removal), model(**flipped(batch, lengths), removal=removal)
    assert_close(right.logits, left.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(right.lengths, left.lengths)


@torch.no_grad()
def test_transformers_own_bert_does_depend_on_left_padding() -> None:
    """What the docstring of `forward` says of it; when this fails, the docstring has to change."""
    lengths = [7, 3, 11]
    bert, batch = tiny_adapler("bert").backbone, batch_for("bert", lengths)
    assert (bert(**batch).logits - bert(**flipped(batch, lengths)).logits).abs().max() > 1e-3


def steer(model: Any, worth: dict[int, float]) -> None:
    """Make every predictor score a token by the sign of one feature that only embeddings of these ids have."""
    table = model.backbone.bert.embeddings
    with torch.no_grad():
        for part in (table.token_type_embeddings, table.position_embeddings):
            part.weight.zero_()
        table.word_embeddings.weight.zero_()
        for token, value in worth.items():
            table.word_embeddings.weight[token, 0] = value
            table.word_embeddings.weight[token, 1] = -value  # survives the layer norm
        predictor = model.contribution_predictors[0]
        predictor.dense.weight.zero_()
        predictor.dense.weight[0, 0] = 1.0
        predictor.score.weight.zero_()
        predictor.score.weight[0, 0] = 5.0


@torch.no_grad()
def test_sep_can_be_dropped_and_cls_cannot() -> None:
    cls, sep, word = 3, 4, 5
    model = tiny_adapler(eta=1.0)
    steer(model, {cls: -1.0, sep: -1.0, word: 1.0})
    out = model(torch.tensor([[cls, word, word, sep]]))
    # gelu of the norm's large values: [CLS] and [SEP] get the same low score, only [SEP] leaves
    assert out.contribution_scores[0, 0, 0] == pytest.approx(float(out.contribution_scores[0, 0, 3]))
    assert out.contribution_scores[0, 0, 0] < 1 / 4
    assert out.retention_mask[0, 0].tolist() == [True, True, True, False]


@torch.no_grad()
def test_cls_alone_survives() -> None:
    model = tiny_adapler(eta=1.0)
    steer(model, {3: 1.0, 5: -1.0})
    ids = torch.tensor([[3, 5, 5, 5, 5]])
    out = model(ids)
    assert out.lengths.tolist() == [[1, 1, 1]]
    assert out.retention_mask[0].tolist() == [[True, False, False, False, False]] * LAYERS
    assert out.contribution_scores[0, 0].sum().item() == pytest.approx(1)
    assert out.contribution_scores[0, 1].tolist() == [1, 0, 0, 0, 0]  # dropped tokens have no share any more
    # from then on it is the backbone on [CLS] alone
    assert_close(out.logits, model(ids[:, :1], removal="none").logits, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_large_scale_leaves_cls_alone() -> None:
    model, batch = tiny_adapler(), random_batch([9, 2, 1])
    out = model(**batch, threshold_scale=1e6)
    assert out.lengths.tolist() == [[1, 1, 1]] * 3


@pytest.mark.parametrize("eta", [0.01, 1.0])
@pytest.mark.parametrize("removal", ["hard", "soft"])
def test_bounds_of_eta_and_shortest_inputs(eta: float, removal: str) -> None:
    model, batch = tiny_adapler(eta=eta), random_batch([2, 1, 2])
    out = model(**batch, removal=removal)
    out.logits.sum().backward()
    assert out.logits.isfinite().all()
    assert out.retention_mask[:, :, 0].all() and not out.retention_mask[1, :, 1].any()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@torch.no_grad()
def test_scores_sum_to_one_over_present_tokens_and_tokens_never_return() -> None:
    model, batch = tiny_adapler(), random_batch([15, 8, 20], seed=4)
    out = model(**batch)
    assert_close(out.contribution_scores.sum(-1), torch.ones(3, LAYERS))
    assert (out.retention_mask[:, 1:] <= out.retention_mask[:, :-1]).all()
    assert torch.equal(out.lengths, out.retention_mask.sum(-1))
    before = torch.cat([batch["attention_mask"].bool()[:, None], out.retention_mask[:, :-1]], dim=1)
    assert torch.equal(out.contribution_scores > 0, before)
    assert out.lengths[:, -1].sum() < 43 and (out.lengths[:, -1] > 1).any()  # it drops some, not all


@torch.no_grad()
def test_theta_has_no_effect() -> None:
    model, batch = tiny_adapler(), random_batch([9, 5])
    before = [model(**batch, removal=r).logits for r in ("hard", "soft", "none")]
    model.theta.data.uniform_(0.1, 9.0)
    for removal, logits in zip(("hard", "soft", "none"), before, strict=True):
        assert torch.equal(model(**batch, removal=removal).logits, logits)
