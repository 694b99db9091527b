"""Scores of removal policies, and the baselines."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapler import ArgumentError
from analysis.scores import Batch, get_method
from analysis.scores.base import adapler_pass
from tests.adapler.policies.policy_models import OTHERS, tiny_policy
from tests.analysis.conftest import batch_of, documents
from tests.analysis.scores.score_helpers import batch_for
from tests.conftest import tiny_adapler, tiny_classifier


def test_cp_is_the_model_s_own_and_zero_once_dropped(reducer: Any, batch: Batch, tiny_tokenizer: Any) -> None:
    result, output = get_method("cp")(reducer, batch), adapler_pass(reducer, batch)
    assert result.present is not None
    assert torch.equal(result.scores, output.contribution_scores)
    assert torch.equal(result.present[:, 0], batch.attention_mask.bool())
    assert torch.equal(result.present[:, 1:], output.retention_mask[:, :-1])
    assert not result.scores[~result.present].any() and (result.scores[result.present] > 0).all()
    assert (~result.present & batch.attention_mask.bool()[:, None]).any(), "the fixture must drop something"
    keep_all = batch_of(tiny_tokenizer, documents(), threshold_scale=0.0)
    present = get_method("cp")(reducer, keep_all).present
    assert present is not None and present[keep_all.attention_mask.bool()[:, None].expand_as(present)].all()


def test_carried_scores_are_one_distribution_in_which_dropped_tokens_keep_their_share(
    reducer: Any, batch: Batch, tiny_tokenizer: Any
) -> None:
    own, carried = get_method("cp")(reducer, batch), get_method("cp_carried")(reducer, batch)
    assert carried.present is None and own.present is not None
    for row in range(len(batch.ids)):
        share = own.scores[row, 0].tolist()
        for layer in range(1, own.scores.shape[1]):
            there = own.present[row, layer].tolist()
            left = 1 - sum(value for value, stays in zip(share, there, strict=True) if not stays)
            new = own.scores[row, layer].tolist()
            share = [left * n if stays else old for old, n, stays in zip(share, new, there, strict=True)]
            torch.testing.assert_close(carried.scores[row, layer], torch.tensor(share), atol=1e-5, rtol=1e-5)
    keep_all = batch_of(tiny_tokenizer, documents(), threshold_scale=0.0)
    same = get_method("cp_carried")(reducer, keep_all).scores
    torch.testing.assert_close(same, get_method("cp")(reducer, keep_all).scores)


@pytest.mark.parametrize("name", OTHERS)
def test_scores_of_a_policy(name: str) -> None:
    model, batch = tiny_policy(name), batch_for("bert")
    found = get_method("policy")(model, batch)
    with torch.no_grad():
        output = model(**batch.model_inputs())
    assert found.present is not None
    before = model.policy.place == "before"
    for index, decides in enumerate(model.policy.decides(i, layers=3) for i in range(3)):
        mine, raw = found.scores[:, index], output.contribution_scores[:, index]
        if not decides:
            assert not mine.any()
            continue
        torch.testing.assert_close(mine, raw / raw.sum(-1, keepdim=True))
        assert torch.equal(mine > 0, found.present[:, index] & (raw > 0))
        enters = output.retention_mask[:, index]
        assert bool((found.present[:, index] >= enters).all())
        assert before or torch.equal(found.present[:, index], enters)
    with pytest.raises(ArgumentError, match=f"^method 'cp': this model's policy is '{name}'; its scores are 'policy'$"):
        get_method("cp")(model, batch)


def test_the_policy_of_adapler_is_cp() -> None:
    model, batch = tiny_adapler(), batch_for("bert")
    assert torch.equal(get_method("policy")(model, batch).scores, get_method("cp")(model, batch).scores)


def test_baselines() -> None:
    scores = get_method("position")(tiny_classifier(), batch_for("bert", [1, 3])).scores[:, 0]
    torch.testing.assert_close(scores, torch.tensor([[4, 3, 2, 1], [3, 2, 1, 0]]) / torch.tensor([[10.0], [6.0]]))
    drawn = get_method("random")(tiny_classifier(), batch_for("bert")).scores
    assert not torch.equal(drawn[:, 0], drawn[:, 1])
