"""What is AdapLeR's own says so when it is given another policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapler import ArgumentError
from adapler.export import export_onnx
from adapler.policies.adapler import AdapLeRTraining, Objectives
from tests.adapler.policies.policy_models import tiny_policy
from tests.adapler.training.common import training_of
from tests.conftest import random_batch


def test_onnx_graphs_are_adaplers_only(tmp_path: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^--onnx: the policy of this model is 'cls_topk'"):
        export_onnx(tiny_policy("cls_topk"), tmp_path / "onnx", tokenizer=tiny_tokenizer, record=tmp_path / "run.json")
    assert not (tmp_path / "onnx").exists()


def test_adapler_training_does_not_go_on_from_another_policy(tmp_path: Path) -> None:
    tiny_policy("cls_topk").save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match=r"^--model: .* has the removal policy 'cls_topk', not AdapLeR's"):
        training = training_of(AdapLeRTraining, Objectives())
        training.start = tmp_path
        training.build()


def test_the_gates_of_another_policy_have_no_threshold_scale() -> None:
    model, batch = tiny_policy("ltp"), random_batch([9, 5])
    assert model(**batch, removal="soft", threshold_scale=1.0).logits is not None
    with pytest.raises(ArgumentError, match="^threshold_scale: has no effect"):
        model(**batch, removal="soft", threshold_scale=0.5)
