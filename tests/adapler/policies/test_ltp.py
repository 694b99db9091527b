"""LTP: its score is a mean over the text's own queries, and a steep soft threshold is the hard one."""

from __future__ import annotations

import torch

from adapler.passes import gated_pass
from adapler.policies import LayerView
from tests.adapler.policies.policy_models import tiny_policy
from tests.conftest import LAYERS, random_batch


def test_thresholds_do_not_depend_on_padding_and_spare_cls() -> None:
    model, short = tiny_policy("ltp", theta_final=5.0), random_batch([7])
    padded = {name: torch.nn.functional.pad(value, (0, 20)) for name, value in short.items()}
    with torch.no_grad():
        alone, wide = model(**short), model(**padded)
    assert torch.equal(alone.bars, wide.bars)
    assert torch.equal(alone.contribution_scores, wide.contribution_scores[..., :7])
    assert alone.lengths.tolist() == [[7, 7, 1]]  # layer 1's threshold is above every score: [CLS] is left
    torch.testing.assert_close(alone.contribution_scores[0, 0].sum(), torch.tensor(1.0))


def test_thresholds_rise_and_delta_moves_them() -> None:
    policy = tiny_policy("ltp", theta_final=0.3).policy
    assert [round(policy.threshold(index).item(), 6) for index in range(LAYERS)] == [1e-5, 0.1, 0.2]
    with torch.no_grad():
        policy.delta.fill_(0.05)
    assert round(policy.threshold(0).item(), 6) == 0.05


def test_a_gate_is_the_sigmoid_of_the_distance_to_the_threshold() -> None:
    model, batch = tiny_policy("ltp", theta_final=0.3, temperature=0.01), random_batch([6])
    seen: list[tuple[LayerView, torch.Tensor, torch.Tensor]] = []
    gate = model.policy.gate
    model.policy.gate = lambda view, scores: seen.append((view, scores, gate(view, scores))) or seen[-1][2]
    soft = model(**batch, removal="soft", labels=torch.tensor([0]))
    assert len(seen) == LAYERS - 1
    for view, scores, gates in seen:
        threshold = model.policy.threshold(view.index)
        torch.testing.assert_close(gates, torch.sigmoid((scores - threshold) / 0.01))
        total = gates.index_fill(0, view.row.segments.first, 1.0).sum()
        torch.testing.assert_close(soft.lengths[0, view.index], total)
    (soft.loss + soft.lengths.sum()).backward()
    assert bool((model.policy.delta.grad[1:2] != 0).all())


def test_soft_states_are_multiplied_after_the_layer() -> None:
    """With thresholds far below every score the soft pass is the backbone."""
    model, batch = tiny_policy("ltp", theta_final=1e-5, temperature=1e-4), random_batch([9, 4])
    mask = batch["attention_mask"]
    with torch.no_grad():
        plain = model(**batch, removal="none")
        soft = gated_pass(
            model.backbone,
            model.policy,
            input_ids=batch["input_ids"],
            mask=mask,
            positions=torch.arange(9)[None],
            token_type_ids=None,
        )
    torch.testing.assert_close(soft.logits, plain.logits, atol=1e-5, rtol=1e-5)
