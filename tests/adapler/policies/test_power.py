"""PoWER-BERT: its significance, ranks and configuration."""

from __future__ import annotations

import pytest
import torch

from adapler import AdapLeRConfig, ArgumentError
from adapler.backbones.attention import Segments
from adapler.policies.power import ranks
from tests.adapler.policies.policy_models import tiny_policy
from tests.conftest import LAYERS, random_batch


def test_significance_is_the_sum_over_other_queries_whatever_the_padding() -> None:
    model, short = tiny_policy("power"), random_batch([9])
    padded = {name: torch.nn.functional.pad(value, (0, 20)) for name, value in short.items()}
    with torch.no_grad():
        alone, wide = model(**short), model(**padded)
        model.backbone.set_attn_implementation("eager")
        weights = model.backbone(short["input_ids"], output_attentions=True).attentions[0][0].mean(0)  # (N, N)
    torch.testing.assert_close(alone.contribution_scores[0, 0], weights.sum(0) - weights.diagonal())
    assert torch.equal(alone.contribution_scores, wide.contribution_scores[..., :9])
    assert alone.lengths.tolist() == [[9, 8, 5]]


def test_with_all_tokens_it_is_the_backbone() -> None:
    model, batch = tiny_policy("power", lengths=[12] * LAYERS), random_batch([12, 5])
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, model(**batch, removal="none").logits)


def test_ranks_put_cls_first() -> None:
    scores = torch.tensor([0.1, 0.5, 0.9, 0.2, 0.3, 0.3, 0.7])
    assert ranks(scores, Segments(torch.tensor([3, 4]))).tolist() == [0, 2, 1, 0, 2, 3, 1]


def test_the_search_multiplies_by_rank_and_its_configuration_never_grows() -> None:
    model = tiny_policy("power", lengths=None, longest=12)
    model.policy.reset_parameters()
    assert model.policy.configuration() == (12,) * LAYERS
    batch = random_batch([12, 5])
    with torch.no_grad():
        torch.testing.assert_close(
            model(**batch, removal="soft").logits, model(**batch, removal="none").logits, atol=1e-5, rtol=1e-5
        )
        model.policy.r[0, 8:] = 0.05  # 8 + 4 * .05
        model.policy.r[1, 10:] = 0.0  # 10, but no more than before
    assert model.policy.configuration() == (8, 8, 8)
    soft = model(**batch, removal="soft", labels=torch.tensor([0, 1]))
    torch.testing.assert_close(soft.lengths[0, :2].detach(), torch.tensor([8.2, 10.0]))
    soft.loss.backward()
    gradient = model.policy.r.grad
    assert bool((gradient[:2, 1:12] != 0).all()) and bool((gradient[:, 0] == 0).all()) and not gradient[2].any()
    with torch.no_grad():
        assert model(**batch).lengths.tolist() == [[12, 8, 8], [5, 5, 5]]
        model.policy.r -= 2.0
    model.policy.clip()
    assert model.policy.configuration() == (1, 1, 1)
    assert model.policy.r[:, 0].tolist() == [1.0] * LAYERS and not model.policy.r[:, 1:].any()


def test_options_that_cannot_be() -> None:
    with pytest.raises(ArgumentError, match=r"^lengths: \[3, 5, 5\] grow"):
        AdapLeRConfig(policy="power", policy_options={"lengths": [3, 5, 5]})
    with pytest.raises(ArgumentError, match=r"^--lengths: 0 is not at least 1"):
        AdapLeRConfig(policy="power", policy_options={"lengths": [3, 0]})
    with pytest.raises(ArgumentError, match=r"^lengths: 2 numbers, the model has 3 layers"):
        tiny_policy("power", lengths=[3, 2])
    with pytest.raises(ArgumentError, match=r"^--theta-final: 0 is not above 0"):
        AdapLeRConfig(policy="ltp", policy_options={"theta_final": 0})
    with pytest.raises(ArgumentError, match=r"^policy: 'power' has a configuration"):
        tiny_policy("power")(**random_batch([5]), removal="soft")
