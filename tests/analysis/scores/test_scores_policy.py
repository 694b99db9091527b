"""A policy's scores as a scoring method, and what the others do with a model that has another policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapler import ArgumentError
from analysis import explain
from analysis.scores import get_method
from tests.adapler.policies.policy_models import OTHERS, tiny_policy
from tests.analysis.scores.score_helpers import batch_for
from tests.conftest import tiny_adapler


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


def test_of_adapler_it_is_cp() -> None:
    model, batch = tiny_adapler(), batch_for("bert")
    assert torch.equal(get_method("policy")(model, batch).scores, get_method("cp")(model, batch).scores)


def test_cp_refuses_another_policy_in_one_line() -> None:
    with pytest.raises(ArgumentError, match=r"^method 'cp': this model's policy is 'ltp'; its scores are 'policy'$"):
        get_method("cp")(tiny_policy("ltp"), batch_for("bert"))


def test_explain_shows_the_policy_that_a_model_has(tiny_tokenizer: Any) -> None:
    model = tiny_policy("power", lengths=[3, 2, 2])
    found = explain("a good film is never boring", model=model, tokenizer=tiny_tokenizer)
    assert list(found.methods)[0] == "policy" and "cp" not in found.methods
    assert found.kept.shape[0] == 3 and found.kept[-1].sum() == 2


def test_a_prediction_that_another_policy_changes_is_said_without_cp(tiny_tokenizer: Any) -> None:
    model = tiny_policy("power", lengths=[2, 1, 1])
    words = ("dull", "superb", "rain", "plot", "film")
    found = [
        explain([a, b, a], model=model, tokenizer=tiny_tokenizer, methods=["policy"]) for a in words for b in words
    ]
    notes = [one.note for one in found if one.prediction != one.full_prediction]
    assert notes, "no text of this test changes its class"
    assert all("methods other than policy score the model without removal" in note for note in notes)


@pytest.mark.parametrize("name", OTHERS)
def test_an_explanation_has_no_thresholds_of_another_unit(name: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """A policy's bars are not in the unit of its scores, which are shares of a layer."""
    e = explain("good film", model=tiny_policy(name), tokenizer=tiny_tokenizer, methods=["policy"])
    assert e.thresholds is None and e.to_frame()["threshold"].isna().all()
    e.save(tmp_path / "e.json")
