"""Attention that policies read: against weights written out, whatever is read and however it is split."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from adapler.backbones import attention as module
from adapler.backbones.attention import Received, Segments, received_attention
from adapler.policies import LayerView, policy_class
from tests.adapler.policies.policy_models import tiny_policy
from tests.conftest import random_batch

SIZES = (7, 7, 3, 7, 1)
HEADS, SCALE = 4, 0.3
SPLITS = {"all at once": 1 << 20, "blocks of heads": 3 * 7 * 7, "one head": 1}


def written_out(query: Tensor, key: Tensor, value: Tensor, bias: Callable[[Tensor], Tensor] | None) -> list[Tensor]:
    """What the heads give, total, own and from_cls, text by text with nothing but a softmax."""
    parts = []
    for q, k, v in zip(*(torch.split(x, SIZES, dim=2) for x in (query, key, value)), strict=True):
        logits = SCALE * torch.einsum("hie,hje->hij", q[0], k[0])
        if bias is not None:
            at = torch.arange(q.shape[2])
            logits = logits + bias(at[None, None, :] - at[None, :, None])[0]
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        mean = weights.mean(0)
        parts.append((torch.einsum("hij,hje->hie", weights, v[0]), mean.sum(0), mean.diagonal(), mean[0]))
    context, *rest = zip(*parts, strict=True)
    return [torch.cat(context, dim=1)[None], *(torch.cat(each) for each in rest)]


@pytest.mark.parametrize("most", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("biased", [False, True])
def test_received_is_what_the_weights_say(most: int, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WEIGHTS", most)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, HEADS, sum(SIZES), 8, dtype=torch.float64) for _ in range(3))
    slopes = torch.rand(HEADS, dtype=torch.float64)
    term = (lambda far: -slopes[:, None, None] * far.abs()[:, None]) if biased else None
    positions = torch.cat([torch.arange(size) for size in SIZES])[None]
    segments = Segments(torch.tensor(SIZES))
    context, total, own, from_cls = written_out(query, key, value, term)
    arguments = {"segments": segments, "scale": SCALE, "term": term, "positions": positions}
    for reads in ("all", "cls", "nothing"):
        given, found = received_attention(query, key, value, reads=reads, **arguments)
        torch.testing.assert_close(given, context)
        if reads == "all":
            torch.testing.assert_close(found.total, total)
            torch.testing.assert_close(found.own, own)
        if reads != "nothing":
            torch.testing.assert_close(found.from_cls, from_cls)


def test_a_split_does_not_change_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    leaves = [torch.randn(1, HEADS, sum(SIZES), 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    gradients = []
    for most in SPLITS.values():
        monkeypatch.setattr(module, "MOST_WEIGHTS", most)
        context, found = received_attention(*leaves, segments=Segments(torch.tensor(SIZES)), scale=SCALE, reads="all")
        loss = context.square().sum() + (found.total - found.own).square().sum() + found.from_cls.square().sum()
        gradients.append(torch.autograd.grad(loss, leaves))
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])


@pytest.mark.parametrize("name", ["random_topk", "cls_topk"])
def test_a_policy_gets_no_more_than_it_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its tokens are the same as when all is computed: reading less is faster and nothing else."""
    model, batch = tiny_policy(name), random_batch([30, 30, 17])
    seen: list[Received] = []
    score = type(model.policy).score

    def noted(self: object, view: LayerView) -> Tensor:
        seen.append(view.attention)
        return score(self, view)

    monkeypatch.setattr(type(model.policy), "score", noted)
    with torch.inference_mode():
        less = model(**batch)
    assert (seen[0].total if name == "cls_topk" else seen[0].from_cls) is None
    monkeypatch.setattr(type(model.policy), "reads", "all")
    with torch.inference_mode():
        more = model(**batch)
    assert len(seen[-1].total) > 0
    assert torch.equal(less.retention_mask, more.retention_mask)
    torch.testing.assert_close(less.logits, more.logits)


def test_what_the_policies_read() -> None:
    read = {name: policy_class(name).reads for name in ("random_topk", "cls_topk", "power", "ltp")}
    assert read == {"random_topk": "nothing", "cls_topk": "cls", "power": "all", "ltp": "all"}
