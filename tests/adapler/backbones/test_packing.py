"""Equally long sequences as neighbours, and what is known on a GPU without waiting for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from adapler.backbones import attention
from adapler.backbones.attention import Segments, from_padded, packed_attention, to_padded
from tests.conftest import random_batch, tiny_adapler


def test_longest_first_by_hand() -> None:
    segments = Segments(torch.tensor([1, 3, 2, 3]))
    assert segments.runs == [(1, 1), (1, 3), (1, 2), (1, 3)]
    grouped, order, moved = segments.by_length()
    assert grouped.runs == [(2, 3), (1, 2), (1, 1)] and order.tolist() == [1, 3, 2, 0]
    assert moved.tolist() == [1, 2, 3, 6, 7, 8, 4, 5, 0]


def test_what_is_left_when_some_tokens_stay() -> None:
    segments = Segments(torch.tensor([2, 1, 3]), bound=9)
    left = segments.select(torch.tensor([0, 2, 3, 5]))
    assert left.sizes == [1, 1, 2] and left.owner.tolist() == [0, 1, 2, 2] and left.bound == 9
    alone = Segments(torch.tensor([4]), bound=9).select(torch.tensor([0, 3]))
    assert alone.sizes == [2] and alone.owner.tolist() == [0, 0] and alone.bound == 9
    assert alone.first.tolist() == [0] and left.first.tolist() == [0, 1, 2]


def test_what_a_sequence_has_for_each_of_its_tokens() -> None:
    values = torch.tensor([[1.0], [2.0], [3.0]])
    assert Segments(torch.tensor([2, 1, 3])).spread(values)[:, 0].tolist() == [1, 1, 2, 3, 3, 3]
    assert (torch.zeros(4, 1) + Segments(torch.tensor([4])).spread(values[:1])).tolist() == [[1.0]] * 4


def test_a_wider_padded_form() -> None:
    segments, packed = Segments(torch.tensor([2, 1])), torch.tensor([1.0, 2, 3])
    padded = to_padded(packed, segments, width=4)
    assert padded.tolist() == [[1, 2, 0, 0], [3, 0, 0, 0]]
    assert torch.equal(from_padded(padded, segments), packed)


def test_neighbours_of_one_length_share_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 12, 8) for _ in range(3))
    segments = Segments(torch.tensor([4, 3, 3, 1, 1]))
    expected = [
        torch.nn.functional.scaled_dot_product_attention(*part, scale=0.3)
        for part in zip(*(x.split(segments.sizes, dim=2) for x in (query, key, value)), strict=True)
    ]
    calls, plain = [], attention.scaled_dot_product_attention

    def counted(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", counted)
    out = packed_attention(query, key, value, segments=segments, scale=0.3)
    assert_close(out, torch.cat(expected, dim=2))
    assert len(calls) == 3


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_rows_of_a_batch_come_back_in_their_order(scale: float) -> None:
    """Sequences are sorted by length on the way; every output is of the row that it stands in."""
    model, lengths = tiny_adapler(), [3, 9, 3, 12, 1, 9]
    batch = random_batch(lengths)
    with torch.no_grad():
        together = model(**batch, threshold_scale=scale)
        for row, length in enumerate(lengths):
            alone = model(batch["input_ids"][row : row + 1, :length], threshold_scale=scale)
            assert_close(together.logits[row], alone.logits[0])
            assert torch.equal(together.lengths[row], alone.lengths[0])
            assert torch.equal(together.retention_mask[row, :, :length], alone.retention_mask[0])
            assert_close(together.contribution_scores[row, :, :length], alone.contribution_scores[0])
    assert not bool(together.retention_mask[..., ~batch["attention_mask"].bool().any(0)].any())


def test_varlen_attention_takes_a_bound_and_reads_no_length(monkeypatch: pytest.MonkeyPatch) -> None:
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    given: list[Any] = []

    def stand_in(q: Tensor, k: Tensor, v: Tensor, first: Tensor, last: Tensor, *longest: int, **options: Any) -> Tensor:
        given.extend(longest)
        return q

    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    monkeypatch.setattr(Segments, "sizes", property(lambda self: pytest.fail("waits for the GPU")))
    query = torch.randn(1, 2, 5, 8)
    attention._varlen_attention(query, query, query, segments=Segments(torch.tensor([2, 3]), bound=7), scale=1.0)
    assert given == [7, 7]
