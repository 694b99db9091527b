"""Packed rows, which hold the real tokens of a batch one after the other, and attention on them.

On a CPU a row is worked on a thousand tokens at a time, so that intermediate results stay in the cache. The function
that is registered with transformers' AttentionInterface as "adapler" takes packed sequences (hard removal), with a bias
per key (soft removal), or neither (plain SDPA, so that the backbone also works on its own).

Dimensions: B sequences, H heads, N padded length, T packed tokens, t tokens of a piece, D hidden size, E head size,
F extra features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from itertools import groupby
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from adapler.errors import ArgumentError
from adapler.system import AMPERE

HALF = (torch.bfloat16, torch.float16)
# Tokens of a piece: without pieces a batch of long texts takes 6 to 18 % longer.
ROWS = 1024
# In half precision a CPU's matrix products are compiled for every new number of rows (.6 to .9 MB each), so they are
# multiples of this.
GRAIN = 16


@dataclass(frozen=True)
class Segments:
    """Boundaries of the sequences in a packed row."""

    lengths: Tensor  # (B,) long, each at least 1
    owners: Tensor | None = None  # (T,) long, the sequence of each token, where it is known already
    bound: int | None = None  # no sequence is longer; known without waiting for a GPU
    # What the attention adds to each pair of tokens, where layers share it; see pairwise_attention.
    terms: list[tuple[Tensor, Tensor, bool]] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def sizes(self) -> list[int]:
        """The lengths as Python numbers (on a GPU this waits for the device, once)."""
        return [int(n) for n in self.lengths.tolist()]

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(sequences, tokens of each) of every run of neighbours that are equally long."""
        return [(len(list(run)), size) for size, run in groupby(self.sizes)]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sequence; waits as `sizes` does."""
        return max(self.sizes)

    @cached_property
    def bounds(self) -> Tensor:
        """(B + 1,) long: sequence b is the tokens bounds[b]:bounds[b + 1]."""
        return pad(self.lengths.cumsum(0), (1, 0))

    @property
    def single(self) -> bool:
        """Whether the row is known to hold a single sequence; not while a graph for any number of them is exported."""
        return not torch.compiler.is_exporting() and self.lengths.shape[0] == 1

    @cached_property
    def first(self) -> Tensor:
        """(B,) long: position of each sequence's first token, [CLS]."""
        return torch.zeros_like(self.lengths) if self.single else self.bounds[:-1]

    @cached_property
    def owner(self) -> Tensor:
        """(T,) long: the sequence that each token belongs to."""
        if self.owners is not None:
            return self.owners
        return torch.arange(len(self.lengths), device=self.lengths.device).repeat_interleave(self.lengths)

    @cached_property
    def columns(self) -> Tensor:
        """(T,) long: the place of each token in its own sequence."""
        return torch.arange(len(self.owner), device=self.lengths.device) - self.first[self.owner]

    def mask_of(self, width: int) -> Tensor:
        """(B, width) bool: real tokens of a padded form that is wider than needed."""
        return torch.arange(width, device=self.lengths.device) < self.lengths[:, None]

    def select(self, index: Tensor) -> Segments:
        """The segments that are left when only the tokens at `index`, (n,) long, stay, in their order."""
        if self.single:
            owner = self.owner[: index.shape[0]]  # (n,)
            return Segments(torch.full_like(self.lengths, index.shape[0]), owners=owner, bound=self.bound)
        owner = self.owner.index_select(0, index)  # (n,)
        lengths = torch.zeros_like(self.lengths).index_add_(0, owner, torch.ones_like(owner))
        return Segments(lengths, owners=owner, bound=self.bound)

    def spread(self, values: Tensor) -> Tensor:
        """Repeat a value of each sequence, (B, ...), for its tokens: (T, ...). A single sequence keeps (1, ...)."""
        return values if self.single else values.index_select(0, self.owner)

    def by_length(self) -> tuple[Segments, Tensor, Tensor]:
        """The same sequences, longest first, so that equally long ones are neighbours; (B,) the sequence that each of
        them was before; (T,) the token that each token was before."""
        order = self.lengths.argsort(descending=True, stable=True)  # (B,)
        longest_first = Segments(self.lengths[order], bound=self.bound)
        moved = order[longest_first.owner]  # (T,) each token's sequence before
        return longest_first, order, self.first[moved] + longest_first.columns


def real_lengths(real: Tensor) -> Tensor:
    """(B,) the number of real tokens of each row, from (B, N) bool; ArgumentError for a row without one."""
    lengths = real.sum(-1)
    if bool((lengths == 0).any()):
        raise ArgumentError(f"attention_mask: row {int((lengths == 0).nonzero()[0])} has no real token")
    return lengths


def to_padded(packed: Tensor, segments: Segments, *, width: int | None = None) -> Tensor:
    """(T, ...) -> (B, width, ...), zeros at padding. No sequence may be longer than width; default: the longest."""
    width = segments.longest if width is None else width
    padded = packed.new_zeros(len(segments.lengths) * width, *packed.shape[1:])
    place = segments.owner * width + segments.columns  # (T,)
    return padded.index_copy(0, place, packed).view(len(segments.lengths), width, *packed.shape[1:])


def from_padded(padded: Tensor, segments: Segments) -> Tensor:
    """(B, N, ...) -> (T, ...)."""
    return padded.flatten(0, 1).index_select(0, segments.owner * padded.shape[1] + segments.columns)


def segment_softmax(scores: Tensor, segments: Segments) -> Tensor:
    """Softmax of (T,) scores within each sequence."""
    if computes_in_pieces(scores):  # a call for each run of equally long sequences takes less than eight for all tokens
        if len(segments.runs) == 1:
            return scores.view(segments.runs[0]).softmax(-1).view(-1)
        runs = torch.split(scores, [count * size for count, size in segments.runs])
        parts = [part.view(run).softmax(-1).view(-1) for part, run in zip(runs, segments.runs, strict=True)]
        return joined(parts)
    weights = _below_the_top(scores, segments).exp()
    return weights / segment_sum(weights, segments)[segments.owner]


def segment_sum(values: Tensor, segments: Segments) -> Tensor:
    """(T, ...) -> (B, ...): the sum over each sequence."""
    total = values.new_zeros(segments.lengths.shape[0], *values.shape[1:])
    return total.index_add(0, segments.owner, values)


def segment_log_softmax(scores: Tensor, segments: Segments) -> Tensor:
    """Logarithm of the softmax of (T,) scores within each sequence; finite where the softmax itself is 0."""
    shifted = _below_the_top(scores, segments)  # (T,)
    return shifted - segment_sum(shifted.exp(), segments).log()[segments.owner]


def _below_the_top(scores: Tensor, segments: Segments) -> Tensor:
    """(T,) scores minus the highest of their sequence."""
    top = scores.new_full((len(segments.lengths),), float("-inf"))
    return scores - top.scatter_reduce(0, segments.owner, scores.detach(), "amax")[segments.owner]


def narrowed(states: Tensor, dense: Any) -> Tensor:
    """States as a dense layer reads them: in its dtype where that is half precision, else as they are."""
    weight = dense.weight  # of an int8 layer a method
    return states.to(weight.dtype) if isinstance(weight, Tensor) and weight.dtype in HALF else states


def states_dtype(layer: nn.Module) -> torch.dtype:
    """Dtype of the states between layers: the widest of a layer's parameters."""
    return reduce(torch.promote_types, {parameter.dtype for parameter in layer.parameters()})


def products_dtype(layer: nn.Module) -> torch.dtype:
    """Dtype of a layer's matrix products; float32 for int8 layers, which are no nn.Linear."""
    return next((part.weight.dtype for part in layer.modules() if isinstance(part, nn.Linear)), torch.float32)


def own_formats(layer: nn.Module, states: Tensor) -> AbstractContextManager[Any]:
    """Context in which transformers' own code runs a layer with products in half precision and states in float32."""
    products = products_dtype(layer)
    mixed = products in HALF and states.dtype not in HALF
    return torch.autocast(states.device.type, products) if mixed else nullcontext()


def computes_in_pieces(tensor: Tensor) -> bool:
    """Whether work on this tensor is done in pieces: on a CPU, without gradients."""
    return tensor.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def pieces(rows: Tensor) -> Sequence[Tensor]:
    """(T, ...) as pieces of `ROWS` tokens, each (t, ...); a single one where work is not done in pieces."""
    # In this order: the exporter to ONNX cannot compare a number of tokens that depends on the data.
    return torch.split(rows, ROWS) if computes_in_pieces(rows) and len(rows) > ROWS else (rows,)


def joined(parts: Sequence[Tensor], *, dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def in_pieces(
    function: Callable[..., tuple[Tensor, ...]], *rows: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """A function that treats every token alone, (1, t, ...) -> (1, t, ...), on all rows (1, T, ...): `ROWS` tokens at a
    time where work is done in pieces. `dtype` of its products is by default that of the first argument; autocast comes
    before both.
    """
    if not computes_in_pieces(rows[0]):
        return function(*rows)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype or rows[0].dtype
    results = []
    whole = rows[0].shape[1] <= ROWS  # as a text alone is; a split into one takes its time too
    for parts in (rows,) if whole else zip(*(torch.split(row, ROWS, dim=1) for row in rows), strict=True):
        size = parts[0].shape[1]
        if missing := -size % GRAIN if dtype in HALF else 0:
            longer = (torch.cat([part, part.new_zeros(1, missing, *part.shape[2:])], dim=1) for part in parts)
            results.append(tuple(out[:, :size] for out in function(*longer)))
        else:
            results.append(function(*parts))
    return results[0] if len(results) == 1 else tuple(joined(parts, dim=1) for parts in zip(*results, strict=True))


ATTENTION = "adapler"
# The gradient of SDPA on a CPU is slow in half precision where sequences are shorter than this: float32 takes a fifth
# to a half of the time at 16 to 64 tokens, both conversions included.
SHORT = 160


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """SDPA of sequences of one length, (B, H, N, E)."""
    attend = partial(scaled_dot_product_attention, scale=scale)
    return _fast_gradient(lambda q, k, v, mask: attend(q, k, v, attn_mask=mask), query, key, value, mask)


def _fast_gradient(
    attend: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Attention, in float32 where its gradient is slow in half precision (see `SHORT`)."""
    short = query.dtype in HALF and query.device.type == "cpu" and query.shape[-2] < SHORT
    if not (short and (query.requires_grad or key.requires_grad or value.requires_grad)):
        return attend(query, key, value, mask)
    mask = mask.float() if mask is not None and mask.is_floating_point() else mask
    with torch.autocast("cpu", enabled=False):
        return attend(query.float(), key.float(), value.float(), mask).to(query.dtype)


# Relative positions (MPNet) and sliding windows (ModernBERT): a term for each pair of tokens, which depends on how far
# apart they were in the input, before any token was removed. So it is made anew from the positions of the tokens left.
# Distances (B, N, N), key's position minus query's -> what the logits get, (B, H, N, N) or (B, 1, N, N).
Term = Callable[[Tensor], Tensor]


def window(distance: Tensor, *, reach: int) -> Tensor:
    """A sliding window as a `Term`: 0 for tokens at most `reach` positions apart, minus infinity for others."""
    return torch.zeros_like(distance, dtype=torch.float32).masked_fill(distance.abs() > reach, -torch.inf)[:, None]


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    segments: Segments,
    scale: float,
    key_bias: Tensor | None = None,
    term: Term | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """Attention within each sequence of a packed row, (1, H, T, E) as query, key and value; differentiable.

    On CUDA in half precision it is `varlen_attn`, a flash kernel for GPUs of compute capability 8.0 (Ampere) and
    above; on older GPUs, in other precisions and with a term padded SDPA. On a CPU it is one SDPA call for each run of
    neighbours of one length (with a term for each sequence), which was faster than padding at every length measured.

    Args:
        key_bias: (1, T), at most 0, added to the logits of each key. A mask that needs a gradient forces SDPA onto its
            slow path, so one more feature carries the bias: [q, 1] . [k, bias / scale] * scale = q . k * scale + bias.
            On CUDA, fused kernels need a multiple of 8 features: further ones are zeros.
        term, positions: what is added for each pair of tokens, from their positions (1, T) in the input. All layers
            that run on these segments and have a term must have the same.
    """
    size = query.shape[-1]
    if key_bias is not None:
        features = 8 - size % 8 if query.is_cuda else 1
        query, key, value = _with_bias(query, key, value, key_bias / scale, features=features)
    if query.is_cuda:
        if query.dtype in HALF and term is None and torch.cuda.get_device_capability(query.device) >= AMPERE:
            return _varlen_attention(query, key, value, segments=segments, scale=scale)[..., :size]
        by_pair: dict[str, Any] = {"term": term, "positions": positions}
        return _padded_attention(query, key, value, segments=segments, scale=scale, **by_pair)[..., :size]
    runs = segments.runs if term is None else [(1, length) for length in segments.sizes]
    sizes = [count * length for count, length in runs]
    parts = [(x,) if len(runs) == 1 else torch.split(x, sizes, dim=2) for x in (query, key, value)]
    masks: Sequence[Tensor | None] = [None] * len(runs)
    if term is not None and positions is not None:
        masks = [_mask(term, at, dtype=query.dtype, made=segments.terms) for at in torch.split(positions, sizes, dim=1)]
    rows = zip(*parts, runs, masks, strict=True)
    out = joined([_run_attention(q, k, v, run=run, mask=mask, scale=scale) for q, k, v, run, mask in rows])
    out = out.transpose(0, 1)[None]  # (T, H, E) -> (1, H, T, E)
    return out if key_bias is None else out[..., :size]


def _run_attention(
    query: Tensor, key: Tensor, value: Tensor, *, run: tuple[int, int], mask: Tensor | None, scale: float
) -> Tensor:
    """Attention within sequences of one length: (1, H, t, E) -> (t, H, E)."""
    q, k, v = (x.reshape(x.shape[1], *run, x.shape[-1]).transpose(0, 1) for x in (query, key, value))  # (b, H, n, E)
    return sdpa(q, k, v, mask=mask, scale=scale).transpose(1, 2).flatten(0, 1)


def _padded_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    segments: Segments,
    scale: float,
    term: Term | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    if single := len(segments.lengths) == 1:
        q, k, v, at, mask = query, key, value, positions, None
    else:
        width = segments.longest  # waits for the device: attention over the input's whole width would cost far more
        q, k, v = (to_padded(x[0].transpose(0, 1), segments, width=width).transpose(1, 2) for x in (query, key, value))
        at = None if positions is None else to_padded(positions[0], segments, width=width)  # (B, N)
        mask = segments.mask_of(width)[:, None, None, :]  # (B, 1, 1, N)
    if term is not None and at is not None:
        by_pair = _mask(term, at, dtype=query.dtype)  # (B, H or 1, N, N)
        # A finite number at padding: a row of nothing but minus infinity would be NaN.
        mask = by_pair if mask is None else by_pair.masked_fill(~mask, torch.finfo(query.dtype).min / 2)
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)  # (B, H, N, E)
    return out if single else from_padded(out.transpose(1, 2), segments).transpose(0, 1)[None]  # (1, H, T, E)


def _varlen_attention(query: Tensor, key: Tensor, value: Tensor, *, segments: Segments, scale: float) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))  # (T, H, E)
    longest = segments.longest if segments.bound is None else segments.bound  # a bound is enough, and waits for nothing
    bounds = segments.bounds.to(torch.int32)
    out = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scale)
    return cast(Tensor, out).transpose(0, 1)[None]


def _with_bias(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, features: int) -> tuple[Tensor, ...]:
    """Query, key and value (B, H, N, E) with F more features, the first of which carries a bias on each key, (B, N)."""
    # Half of the smallest number, because a head adds q.k to it; its weight is 0 all the same.
    bias = bias.clamp(min=torch.finfo(query.dtype).min / 2).to(query.dtype)
    column = bias[:, None, :, None].expand(*key.shape[:-1], 1)  # (B, H, N, 1)
    zeros = column.new_zeros(*column.shape[:-1], features - 1)  # (B, H, N, F - 1)
    query, key = torch.cat([query, torch.ones_like(column), zeros], dim=-1), torch.cat([key, column, zeros], dim=-1)
    return query, key, pad(value, (0, features))  # (B, H, N, E + F): fused kernels want one head size


def _mask(
    term: Term, positions: Tensor, *, dtype: torch.dtype, made: list[tuple[Tensor, Tensor, bool]] | None = None
) -> Tensor:
    """A term at positions (B, N): (B, H or 1, N, N). `made` are those of the same term before, and gets this one.

    Learnable parts are rebuilt for each layer, since gradients may be taken layer by layer (gradient checkpointing).
    """
    learning = torch.is_grad_enabled()
    for at, mask, learnt in made or ():
        if learnt == learning and mask.dtype == dtype and torch.equal(at, positions):
            return mask
    mask = term(positions[:, None, :] - positions[:, :, None]).to(dtype)
    if made is not None and not mask.requires_grad:
        made.append((positions, mask, learning))
    return mask


def cls_attention(query: Tensor, hidden: Tensor, *, segments: Segments, key_bias: Tensor | None = None) -> Tensor:
    """Attention of [CLS] alone, over the hidden states themselves: softmax(q . h) h in each sequence; see
    Family.last_layer. Differentiable.

    query (B, H, D), scale included, and hidden (1, T, D) -> (B, H, D); `key_bias` (1, T) is added to each key's logits.
    """
    bias = None if key_bias is None else key_bias[0]  # (T,)
    if query.is_cuda:
        width = segments.longest if segments.bound is None else segments.bound
        bias = torch.zeros_like(hidden[0, :, 0], dtype=torch.float32) if bias is None else bias
        padded = to_padded(bias, segments, width=width).masked_fill(~segments.mask_of(width), -torch.inf)  # (B, N)
        return _attend_cls(query, to_padded(hidden[0], segments, width=width), bias=padded[:, None])
    counts, sizes = [count for count, _ in segments.runs], [count * size for count, size in segments.runs]
    biases = [None] * len(sizes) if bias is None else torch.split(bias, sizes)
    found = [
        _attend_cls(q, h.reshape(*run, -1), bias=None if b is None else b.reshape(*run)[:, None])
        for q, h, b, run in zip(
            torch.split(query, counts), torch.split(hidden[0], sizes), biases, segments.runs, strict=True
        )
    ]
    return joined(found)


def _attend_cls(query: Tensor, states: Tensor, *, bias: Tensor | None) -> Tensor:
    """softmax(query . states) states, with (b, H, D) and (b, N, D); the softmax is in float32 or better."""
    logits = query @ states.mT  # (b, H, N)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = logits if bias is None else logits + bias
    return logits.softmax(-1).to(states.dtype) @ states


def adapler_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    key_bias: Tensor | None = None,
    segments: Segments | None = None,
    positions: Tensor | None = None,
    sliding_window: int | None = None,
    deterministic: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The function that transformers calls in every layer; see the top of this file.

    `positions` are the tokens' in the input, which a sliding window needs: tokens as far apart as it, or farther, do
    not see each other. `deterministic` is of flash attention's own kernels; nothing here.

    Raises:
        ArgumentError: the layer asks for something that soft and hard removal do not compute: attention dropout, a
            sliding window without positions, or a keyword of another kind of attention (`softcap`).
    """
    if segments is None:
        plain = partial(sdpa_attention_forward, module, scaling=scaling, dropout=dropout, **kwargs)
        return _fast_gradient(lambda q, k, v, mask: plain(q, k, v, mask)[0], query, key, value, attention_mask), None
    if dropout:
        raise ArgumentError(f"attention dropout: {dropout} is not 0, and only the backbone's own forward pass has it")
    term = None if sliding_window is None else partial(window, reach=sliding_window - 1)
    if positions is None:
        kwargs["sliding_window"] = sliding_window
    if unknown := sorted(name for name, given in kwargs.items() if given is not None):
        raise ArgumentError(
            f"attention: the backbone's layers ask for {unknown[0]}={kwargs[unknown[0]]!r}, "
            "which AdapLeR does not compute; only attention between all tokens is supported"
        )
    options: dict[str, Any] = {"key_bias": key_bias, "term": term, "positions": positions}
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = packed_attention(query, key, value, segments=segments, scale=scale, **options)
    return out.transpose(1, 2).contiguous(), None  # (B, N, H, E)


# Attention that is looked at: fused kernels never hold the weights, so what is read of them is computed explicitly,
# which is slower. b sequences of a group, h heads of a block, t tokens of a group, n tokens of one sequence.

Reads = Literal["all", "cls", "nothing"]  # of a layer's attention weights: all, the row of [CLS], or none
# Attention weights that are held at once (4 MB in float32): more of them leave the processor's cache between two steps,
# which takes longer. One head of one sequence is never split.
MOST_WEIGHTS = 1 << 20


class Received(NamedTuple):
    """Attention weights of a layer, the mean of its heads, (T,) each; None where the policy does not read it, see
    `Policy.reads`. They depend on a sequence's own tokens only: the sum over all its queries, what a token gives to
    itself, and what [CLS] gives."""

    total: Any = None
    own: Any = None
    from_cls: Any = None


def _softmax(logits: Tensor, *, dim: int = -1) -> Tensor:
    """In float32 or better."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim)


def _groups(segments: Segments, *, heads: int) -> Iterator[tuple[int, int]]:
    """(sequences, tokens of each) of neighbours that are equally long, few enough for MOST_WEIGHTS."""
    for count, size in segments.runs:
        most = max(1, MOST_WEIGHTS // (heads * size * size))
        for start in range(0, count, most):
            yield min(most, count - start), size


def _sequences(row: Tensor, groups: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """The row's sequences, a group at a time: (1, H, T, E) -> (b, H, n, E) each.

    One split and not many slices: the gradient of a slice is as large as the row.
    """
    parts = torch.split(row[0], [count * size for count, size in groups], dim=1)
    for part, group in zip(parts, groups, strict=True):
        yield torch.unflatten(part, 1, group).transpose(0, 1)


def _weighed(query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """Attention within sequences of one length, a block of heads at a time.

    query, key, value (b, H, n, E), and a bias (b, H or 1, n, n) on the logits -> (b, H, n, E), and `total`, `own` and
    `from_cls`, (b, n) each: what is not read of them costs no gradient.
    """
    batch, heads, size, _ = query.shape
    block = max(1, min(heads, MOST_WEIGHTS // (batch * size * size)))
    contexts, totals, own, from_cls = [], [], [], []
    for start in range(0, heads, block):
        end = min(start + block, heads)
        logits = query[:, start:end] @ key[:, start:end].mT  # (b, h, n, n)
        if bias is not None:
            logits = logits + (bias if bias.shape[1] == 1 else bias[:, start:end]).to(logits.dtype)
        weights = _softmax(logits)
        contexts.append(weights.to(value.dtype) @ value[:, start:end])
        totals.append(weights.sum((1, 2)))  # (b, n) each
        own.append(weights.diagonal(dim1=2, dim2=3).sum(1))
        from_cls.append(weights[:, :, 0].sum(1))
    return joined(contexts, dim=1), [sum(each[1:], each[0]) / heads for each in (totals, own, from_cls)]


def received_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    reads: Reads,
    segments: Segments,
    scale: float,
    term: Term | None = None,
    positions: Tensor | None = None,
) -> tuple[Tensor, Received]:
    """`packed_attention` and the part of its weights that is read, in float32 or better; arguments as there.
    Differentiable in everything.

    Other weights are not computed: a fused kernel holds none. With a term all are computed all the same.
    """
    if reads != "all" and term is None:
        context = packed_attention(query, key, value, segments=segments, scale=scale)
        cls = _received_from_cls(query, key, segments=segments, scale=scale) if reads == "cls" else None
        return context, Received(from_cls=cls)
    groups = list(_groups(segments, heads=query.shape[1]))
    contexts, parts, begin = [], [], 0
    for (count, size), q, k, v in zip(groups, *(_sequences(x, groups) for x in (query, key, value)), strict=True):
        bias = None
        if term is not None and positions is not None:
            at = positions[0, begin : begin + count * size].view(count, size)
            bias = term(at[:, None, :] - at[:, :, None])  # (b, H or 1, n, n)
        context, part = _weighed(q * scale, k, v, bias=bias)  # q, k, v: (b, H, n, E)
        contexts.append(context.transpose(1, 2).flatten(0, 1))  # (t, H, E)
        parts.append([each.flatten() for each in part])  # (t,) each
        begin += count * size
    total, own, from_cls = map(joined, zip(*parts, strict=True))
    return joined(contexts).transpose(0, 1)[None], Received(total, own, from_cls)


def _received_from_cls(query: Tensor, key: Tensor, *, segments: Segments, scale: float) -> Tensor:
    """(T,) attention from [CLS] to each token of its sequence."""
    first = query.index_select(2, segments.first) * scale  # (1, H, B, E)
    of_cls = torch.split(first[0], [count for count, _ in segments.runs], dim=1)
    found = []
    for cls, keys in zip(of_cls, _sequences(key, segments.runs), strict=True):  # (H, b, E), (b, H, n, E)
        found.append(_softmax(keys @ cls.transpose(0, 1)[..., None], dim=2).mean(1).flatten())  # (t,)
    return joined(found)


AttentionInterface.register(ATTENTION, adapler_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
