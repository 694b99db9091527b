from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from adapler.backbones import attention
from adapler.backbones.attention import (
    Segments,
    adapler_attention,
    from_padded,
    packed_attention,
    segment_log_softmax,
    segment_softmax,
    segment_sum,
    to_padded,
)
from adapler.errors import ArgumentError
from tests.adapler.backbones.conftest import OnCuda


def random_qkv(batch: int, length: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 2, length, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def slow(query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor, scale: float) -> Tensor:
    """softmax(q.k * scale + bias) v, written out."""
    return ((query @ key.transpose(-1, -2)) * scale + bias[:, None, None, :]).softmax(-1) @ value


def packed(x: Tensor) -> Tensor:
    """(B, H, N, E) of sequences of equal length -> (1, H, B N, E)."""
    return x.transpose(0, 1).flatten(1, 2)[None]


def biased(query: Tensor, key: Tensor, value: Tensor, *, key_bias: Tensor, **options: Any) -> Tensor:
    """`packed_attention` of sequences of equal length: (B, H, N, E) and biases (B, N)."""
    batch, length = key_bias.shape
    segments = Segments(torch.full((batch,), length))
    out = packed_attention(
        packed(query), packed(key), packed(value), key_bias=key_bias.view(1, -1), segments=segments, **options
    )
    return out[0].unflatten(1, (batch, length)).transpose(0, 1)


@pytest.mark.parametrize("scale", [8**-0.5, 1.0])
def test_attention_with_a_bias_equals_masked_attention_in_value_and_gradient(scale: float) -> None:
    results = []
    for use in ("bias", "mask", "slow"):
        query, key, value = random_qkv(3, 7)
        bias = (-4 * torch.rand(3, 7, generator=torch.Generator().manual_seed(1))).requires_grad_()
        if use == "bias":
            out = biased(query, key, value, key_bias=bias, scale=scale)
        elif use == "mask":
            mask = bias[:, None, None, :].expand(-1, 2, 7, -1)
            out = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        else:
            out = slow(query, key, value, bias=bias, scale=scale)
        (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        results.append([out, query.grad, key.grad, value.grad, bias.grad])
    for mine, masked, written in zip(*results, strict=True):
        assert_close(mine, masked, atol=1e-5, rtol=1e-4)
        assert_close(mine, written, atol=1e-5, rtol=1e-4)
    assert results[0][-1].abs().max() > 0.01


@pytest.mark.parametrize(("head", "wide"), [(64, 72), (8, 16), (20, 24), (31, 32)])
def test_on_cuda_the_head_size_is_a_multiple_of_eight(head: int, wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def attend(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        sizes.extend([query.shape[-1], key.shape[-1], value.shape[-1]])
        return value

    monkeypatch.setattr(attention, "_padded_attention", attend)
    query, key, value = (torch.randn(1, 2, 3, head).as_subclass(OnCuda) for _ in range(3))
    segments = Segments(torch.tensor([2, 1]))
    out = packed_attention(query, key, value, key_bias=torch.zeros(1, 3), segments=segments, scale=1.0)
    assert sizes == [wide] * 3 and out.shape[-1] == head


@pytest.mark.parametrize(
    ("dtype", "capability", "flash"),
    [
        (torch.bfloat16, (9, 0), True),
        (torch.float16, (8, 0), True),
        (torch.float16, (7, 5), False),
        (torch.bfloat16, (7, 0), False),
        (torch.float32, (9, 0), False),
    ],
)
def test_which_kernel_runs_on_which_gpu(
    dtype: torch.dtype, capability: tuple[int, int], flash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for name in ("_varlen_attention", "_padded_attention"):
        monkeypatch.setattr(attention, name, lambda q, *rest, name=name, **options: called.append(name) or q)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    query, key, value = (x.detach().as_subclass(OnCuda) for x in random_qkv(1, 5, dtype=dtype))
    packed_attention(query, key, value, segments=Segments(torch.tensor([5])), scale=1.0)
    assert called == ["_varlen_attention" if flash else "_padded_attention"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [8**-0.5, 0.7])
def test_varlen_attention_with_a_stand_in_for_the_kernel(
    scale: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reaches `varlen_attn` has the layout and the types it documents, and its output comes back in place."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    documented = inspect.signature(varlen.varlen_attn)

    def stand_in(*args: Any, **options: Any) -> Tensor:
        given = documented.bind(*args, **options).arguments  # TypeError for a keyword the real one does not have
        q, k, v, bounds = (given[name] for name in ("query", "key", "value", "cu_seq_q"))
        assert all(x.is_contiguous() and x.shape == (11, 2, 8) and x.dtype == dtype for x in (q, k, v))
        assert bounds.dtype == torch.int32 and bounds.tolist() == [0, 4, 5, 11]
        assert torch.equal(bounds, given["cu_seq_k"]) and given["max_q"] == given["max_k"] == 6
        parts = (x.split([4, 1, 6]) for x in (q, k, v))
        pieces = [
            scaled_dot_product_attention(*(x.transpose(0, 1) for x in part), scale=given["scale"]).transpose(0, 1)
            for part in zip(*parts, strict=True)
        ]
        return torch.cat(pieces)  # (T, H, E)

    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    query, key, value = (x.detach() for x in random_qkv(1, 11, dtype=dtype))
    segments = Segments(torch.tensor([4, 1, 6]))
    out = attention._varlen_attention(query, key, value, segments=segments, scale=scale)
    expected = packed_attention(query, key, value, segments=segments, scale=scale)
    assert_close(out, expected, atol=1e-2 if dtype == torch.bfloat16 else 1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("depth", [-1e4, -1e9])
def test_masked_keys_get_no_weight(dtype: torch.dtype, depth: float) -> None:
    query, key, value = (x.detach() for x in random_qkv(2, 6, dtype=dtype))
    bias = torch.tensor([[0, 0, 0, depth, depth, 0], [0, depth, depth, depth, depth, depth]])
    out = biased(query, key, value, key_bias=bias, scale=8**-0.5)
    assert out.isfinite().all()
    changed = value.clone()
    changed[bias[:, None, :, None].expand_as(value) < 0] = 1e3
    assert torch.equal(biased(query, key, changed, key_bias=bias, scale=8**-0.5), out)
    # a single key left: its value, whatever the query
    assert_close(out[1], value[1, :, :1].expand_as(out[1]), atol=1e-2 if dtype != torch.float32 else 1e-6, rtol=0)


def test_bfloat16_is_close_and_its_gradients_finite() -> None:
    query, key, value = random_qkv(2, 6, dtype=torch.bfloat16)
    bias = torch.tensor([[0, -1.0, -2.0, -1e4, -0.5, -3.0]] * 2, requires_grad=True)
    out = biased(query, key, value, key_bias=bias, scale=8**-0.5)
    exact = slow(query.float(), key.float(), value.float(), bias=bias, scale=8**-0.5)
    assert_close(out.float(), exact, atol=0.05, rtol=0.05)
    out.float().sum().backward()
    for x in (query, key, value, bias):
        assert x.grad is not None and bool(x.grad.isfinite().all())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from([packed_attention, attention._padded_attention]),
    st.integers(0, 99),
)
def test_packed_attention_equals_a_loop(sizes: list[int], attend: Any, seed: int) -> None:
    query, key, value = (x.detach() for x in random_qkv(1, sum(sizes), seed=seed))
    segments = Segments(torch.tensor(sizes))
    out = attend(query, key, value, segments=segments, scale=0.5)
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        q, k, v = query[:, :, part], key[:, :, part], value[:, :, part]
        expected = slow(q, k, v, bias=torch.zeros(1, size), scale=0.5)
        assert_close(out[:, :, part], expected, atol=1e-5, rtol=1e-5)
        start += size


def test_attention_function_returns_heads_last_and_its_default_scale() -> None:
    query, key, value = random_qkv(2, 5)
    module = SimpleNamespace(training=False, is_causal=False)
    expected = slow(query, key, value, bias=torch.zeros(2, 5), scale=8**-0.5).transpose(1, 2)  # (B, N, H, E)
    out, weights = adapler_attention(module, query, key, value, None)
    assert weights is None
    assert_close(out, expected, atol=1e-5, rtol=1e-5)
    segments = Segments(torch.tensor([5, 5]))
    for options in ({}, {"key_bias": torch.zeros(1, 10)}):
        row = (packed(x) for x in (query, key, value))
        out, weights = adapler_attention(module, *row, None, segments=segments, **options)
        assert weights is None
        assert_close(out, expected.reshape(1, 10, 2, 8), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"key_bias": torch.zeros(1, 4)}, {}])
def test_dropout_is_refused(options: dict[str, object]) -> None:
    query, key, value = random_qkv(1, 4)
    with pytest.raises(ArgumentError, match="^attention dropout: 0.1 is not 0"):
        adapler_attention(
            torch.nn.Identity(), query, key, value, None, dropout=0.1, segments=Segments(torch.tensor([4])), **options
        )


@pytest.mark.parametrize("options", [{"key_bias": torch.zeros(1, 4)}, {}])
@pytest.mark.parametrize("keyword", ["sliding_window", "softcap", "position_bias"])
def test_keywords_of_other_kinds_of_attention_are_refused(keyword: str, options: dict[str, object]) -> None:
    """Swallowed, they would give other numbers without a word."""
    query, key, value = random_qkv(1, 4)
    options = {**options, "segments": Segments(torch.tensor([4]))}
    with pytest.raises(ArgumentError, match=f"^attention: the backbone's layers ask for {keyword}=2, which AdapLeR"):
        adapler_attention(torch.nn.Identity(), query, key, value, None, **{keyword: 2}, **options)
    adapler_attention(torch.nn.Identity(), query, key, value, None, **{keyword: None}, **options)  # asks for nothing


def test_segments_by_hand() -> None:
    segments = Segments(torch.tensor([2, 1, 3]))
    assert segments.sizes == [2, 1, 3] and segments.longest == 3
    assert segments.bounds.tolist() == [0, 2, 3, 6]
    assert segments.first.tolist() == [0, 2, 3]
    assert segments.owner.tolist() == [0, 0, 1, 2, 2, 2]
    assert segments.mask_of(3).tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_padding_by_hand() -> None:
    segments = Segments(torch.tensor([2, 1]))
    packed = torch.tensor([[1.0, 10], [2, 20], [3, 30]])
    padded = to_padded(packed, segments)
    assert padded.tolist() == [[[1, 10], [2, 20]], [[3, 30], [0, 0]]]
    assert torch.equal(from_padded(padded, segments), packed)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_round_trip_and_softmax_of_each_segment(sizes: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    segments, scores = Segments(torch.tensor(sizes)), 30 * torch.randn(sum(sizes))
    assert torch.equal(from_padded(to_padded(scores, segments), segments), scores)
    expected = torch.cat([part.softmax(0) for part in scores.split(sizes)])
    for gradients in (True, False):  # for all tokens at once, and a call for each run of equally long sequences
        with torch.set_grad_enabled(gradients):
            assert_close(segment_softmax(scores, segments), expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_sums_and_log_softmax_of_each_segment_and_their_gradients(sizes: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    segments, scores = Segments(torch.tensor(sizes)), (30 * torch.randn(sum(sizes))).requires_grad_()
    parts, weights = scores.split(sizes), torch.randn(sum(sizes))
    assert_close(segment_sum(scores, segments), torch.stack([part.sum() for part in parts]), atol=1e-4, rtol=1e-5)
    found, expected = segment_log_softmax(scores, segments), torch.cat([part.log_softmax(0) for part in parts])
    assert_close(found, expected, atol=1e-4, rtol=1e-5)
    gradients = [torch.autograd.grad(x @ weights, scores)[0] for x in (found, expected)]
    assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_softmax_of_huge_scores_is_finite() -> None:
    scores = torch.tensor([1e4, 0.0, -1e4, -2e4])
    assert segment_softmax(scores, Segments(torch.tensor([2, 2]))).tolist() == [1, 0, 1, 0]
