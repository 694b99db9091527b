"""What every removal policy promises, on every backbone family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification, ArgumentError
from adapler.flops import adapler_flops, backbone_flops
from adapler.policies import policy, policy_class, policy_names
from tests.adapler.policies.policy_models import OTHERS, tiny_policy
from tests.conftest import CLASSIFIERS, LAYERS, padding_of, random_batch

LENGTHS = [12, 3, 7, 12, 1]


def run(model: Any, batch: dict[str, torch.Tensor], **options: Any) -> Any:
    with torch.no_grad():
        return model(**batch, **options)


def test_adapler_is_one_of_them() -> None:
    assert "adapler" in policy_names() and set(OTHERS) >= {"cls_topk", "random_topk"}


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
@pytest.mark.parametrize("name", OTHERS)
def test_with_scale_0_it_is_the_backbone(name: str, family: str) -> None:
    model, batch = tiny_policy(name, family), random_batch(LENGTHS, pad=padding_of(family))
    kept = run(model, batch, threshold_scale=0.0)
    torch.testing.assert_close(kept.logits, run(model, batch, removal="none").logits, atol=2e-6, rtol=1e-5)
    assert torch.equal(kept.lengths, torch.tensor(LENGTHS)[:, None].expand(-1, LAYERS))


@pytest.mark.parametrize("name", ["trbert", "transkimmer"])
def test_at_its_last_scale_nothing_but_cls_stays(name: str) -> None:
    model, batch, last = tiny_policy(name), random_batch(LENGTHS), policy_class(name).last_scale
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(0.2)  # logits of some hundred would be probabilities of 1
    assert run(model, batch, threshold_scale=last).lengths[:, -1].tolist() == [1] * len(LENGTHS)
    assert run(model, batch).lengths[:, -1].sum() > len(LENGTHS)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_fixed_share_stays_where_attention_is_local(family: str) -> None:
    """ModernBERT's [CLS] sees four other tokens in layer 1 and gives exactly 0 to the rest; eight are to stay."""
    model, batch = tiny_policy("cls_topk", family), random_batch([20, 9], pad=padding_of(family))
    whole = run(model, batch)
    assert whole.lengths.tolist() == [[20, 12, 8], [9, 6, 4]]
    alone = run(model, {key: value[:1] for key, value in batch.items()})
    assert torch.equal(alone.retention_mask[0], whole.retention_mask[0])
    assert run(model, batch, threshold_scale=0.5).lengths.tolist() == [[20, 20, 20], [9, 9, 9]]


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
@pytest.mark.parametrize("name", OTHERS)
def test_batch_mates_order_and_padding_change_nothing(name: str, family: str) -> None:
    pad = padding_of(family)
    model, batch = tiny_policy(name, family), random_batch(LENGTHS, pad=pad)
    whole = run(model, batch)
    assert 0 < whole.retention_mask.sum() < LAYERS * sum(LENGTHS), "nothing, or everything, is dropped"
    mixed = {key: value.flip(0) for key, value in batch.items()}
    turned = run(model, mixed)
    torch.testing.assert_close(turned.logits.flip(0), whole.logits, atol=2e-6, rtol=1e-5)
    assert torch.equal(turned.retention_mask.flip(0), whole.retention_mask)
    for number, length in enumerate(LENGTHS):
        alone = run(model, {key: value[number : number + 1, :length] for key, value in batch.items()})
        torch.testing.assert_close(alone.logits[0], whole.logits[number], atol=2e-6, rtol=1e-5)
        assert torch.equal(alone.lengths[0], whole.lengths[number])
        assert torch.equal(alone.retention_mask[0], whole.retention_mask[number, :, :length])
        torch.testing.assert_close(alone.bars[0], whole.bars[number])
    # [CLS] stays, lengths never grow, and a score says what became of its token.
    assert bool(whole.retention_mask[:, :, 0].all())
    assert bool((whole.lengths[:, 1:] <= whole.lengths[:, :-1]).all())
    after = whole.retention_mask if model.policy.place == "before" else whole.retention_mask.roll(-1, dims=1)
    there = batch["attention_mask"].bool()[:, None].expand(-1, LAYERS, -1)
    if model.policy.place == "before":
        there = torch.cat([there[:, :1], whole.retention_mask[:, :-1]], dim=1)
    else:
        there = whole.retention_mask
    for index in (i for i in range(LAYERS) if model.policy.decides(i, layers=LAYERS)):
        above = (whole.contribution_scores[:, index] >= whole.bars[:, index, None]) & there[:, index]
        above[:, 0] = True
        assert torch.equal(above, after[:, index])


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
@pytest.mark.parametrize("name", ["transkimmer", "ltp", "power"])
def test_soft_removal_knows_no_batch_mates_order_or_padding(name: str, family: str) -> None:
    """In evaluation mode, where nothing is drawn."""
    pad = padding_of(family)
    searching = {"lengths": None, "longest": 12} if name == "power" else {}
    model, batch = tiny_policy(name, family, **searching), random_batch(LENGTHS, pad=pad)
    if name == "power":
        model.policy.r.data.uniform_()
    whole = run(model, batch, removal="soft")
    turned = run(model, {key: value.flip(0) for key, value in batch.items()}, removal="soft")
    torch.testing.assert_close(turned.logits.flip(0), whole.logits, atol=2e-6, rtol=1e-5)
    for number, length in enumerate(LENGTHS):
        alone = run(model, {key: value[number : number + 1, :length] for key, value in batch.items()}, removal="soft")
        torch.testing.assert_close(alone.logits[0], whole.logits[number], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(alone.lengths[0], whole.lengths[number], atol=1e-5, rtol=1e-5)
    if name == "transkimmer":  # a gate of 0 leaves a millionth of the attention weight
        hard = run(model, batch)
        torch.testing.assert_close(whole.logits, hard.logits, atol=5e-4, rtol=0)
        torch.testing.assert_close(whole.lengths, hard.lengths.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", OTHERS)
def test_flops_are_pytorchs_own_count(name: str) -> None:
    model, batch = tiny_policy(name), random_batch([11])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it counts no fused attention
        output = run(model, batch)
    expected = adapler_flops(model.config, torch.tensor([11]), output.lengths, convention="executed")
    assert counter.get_total_flops() == float(expected)
    assert float(expected) < float(backbone_flops(model.config, torch.tensor([11]), convention="executed")) * 1.5


@pytest.mark.parametrize("name", OTHERS)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model, batch = tiny_policy(name), random_batch(LENGTHS)
    model.save_pretrained(tmp_path)
    again = AdapLeRForSequenceClassification.from_pretrained(tmp_path)
    assert type(again.policy) is type(model.policy) and again.policy.options == model.policy.options
    before, after = run(model, batch), run(again, batch)
    assert torch.equal(before.logits, after.logits) and torch.equal(before.retention_mask, after.retention_mask)
    half = AdapLeRForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert all(parameter.dtype == torch.float32 for parameter in half.policy.parameters())
    assert run(half, batch).logits.isfinite().all()


def test_any_seed_of_the_command_line_draws_tokens() -> None:
    model, batch, kept = tiny_policy("random_topk", keep=0.5), random_batch([30]), []
    for seed in (0, 1, 2**32 - 1):
        model.policy.options = replace(model.policy.options, seed=seed)
        kept.append(run(model, batch).retention_mask)
    assert not torch.equal(kept[0], kept[1]) and not torch.equal(kept[1], kept[2])


@pytest.mark.parametrize("name", OTHERS)
def test_a_lower_scale_keeps_more(name: str) -> None:
    model, batch = tiny_policy(name), random_batch(LENGTHS)
    kept = [int(run(model, batch, threshold_scale=scale).lengths.sum()) for scale in (0.0, 0.5, 1.0, 1.5)]
    assert kept == sorted(kept, reverse=True) and kept[0] > kept[-1]


@pytest.mark.parametrize("name", OTHERS)
def test_fate(name: str) -> None:
    model, batch = tiny_policy(name), random_batch([9, 5])
    stays = run(model, batch, fate=torch.ones_like(batch["input_ids"]))
    assert torch.equal(stays.lengths, torch.tensor([[9] * LAYERS, [5] * LAYERS]))
    gone = run(model, batch, fate=-torch.ones_like(batch["input_ids"]))
    assert gone.lengths[:, -1].tolist() == [1, 1]


def test_fate_at_scale_0_leaves_all_other_tokens_where_scores_are_negative() -> None:
    model, batch = tiny_policy("cls_topk", "modernbert"), random_batch([20], pad=padding_of("modernbert"))
    fate = torch.zeros_like(batch["input_ids"])
    fate[:, 3] = 1
    assert run(model, batch, threshold_scale=0.0, fate=fate).lengths.tolist() == [[20] * LAYERS]
    fate[:, 3] = -1
    assert run(model, batch, threshold_scale=0.0, fate=fate).lengths[:, -1].tolist() == [19]


def test_received_attention_is_the_eager_one() -> None:
    """Against transformers' own attention weights, text by text."""
    model, batch = tiny_policy("cls_topk", keep=1.0), random_batch([9, 4])
    found = run(model, batch)
    model.backbone.set_attn_implementation("eager")
    for number, length in enumerate((9, 4)):
        with torch.no_grad():
            weights = model.backbone(
                batch["input_ids"][number : number + 1, :length], output_attentions=True
            ).attentions
        for index in range(LAYERS - 1):
            own = found.contribution_scores[number, index, :length]
            torch.testing.assert_close(own, weights[index][0, :, 0].mean(0), atol=1e-6, rtol=1e-5)


def test_a_policy_that_is_not_known() -> None:
    with pytest.raises(ArgumentError, match=r"^policy: 'nobody' is not one of adapler, cls_topk"):
        AdapLeRConfig(policy="nobody")
    with pytest.raises(ArgumentError, match=r"^policy_options: 'depth' is no option of policy 'cls_topk'; it has keep"):
        AdapLeRConfig(policy="cls_topk", policy_options={"depth": 3})
    with pytest.raises(ArgumentError, match=r"^--keep: 1.5 is not above 0 and at most 1"):
        AdapLeRConfig(policy="cls_topk", policy_options={"keep": 1.5})
    with pytest.raises(ArgumentError, match=r"^policy: 'cls_topk' is adapler.policies.top_k.ClsTopK already"):
        policy("cls_topk")(type("Other", (policy_class("random_topk"),), {}))


def test_controls_have_no_soft_removal() -> None:
    with pytest.raises(ArgumentError, match=r"^policy: 'cls_topk' has no soft removal"):
        tiny_policy("cls_topk")(**random_batch([5]), removal="soft")
