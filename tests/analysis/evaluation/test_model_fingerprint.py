"""What tells two models apart whose weights and configuration are the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from analysis.evaluation.cache import fingerprints
from tests.analysis.conftest import tiny_bert


def test_a_model_that_computes_something_else_has_another_key() -> None:
    """Weights and configuration are the same in all of them."""
    known = fingerprints.model_fingerprint(tiny_bert())
    swapped, set_here, hooked = tiny_bert(), tiny_bert(), tiny_bert()
    swapped.bert.encoder.layer[1].intermediate.intermediate_act_fn = torch.nn.ReLU()
    set_here.bert.encoder.layer[0].attention.self.scaling = 0.01
    hooked.bert.encoder.layer[1].register_forward_hook(lambda module, inputs, output: output)
    assert known == fingerprints.model_fingerprint(tiny_bert()) is not None
    assert known != fingerprints.model_fingerprint(swapped) != fingerprints.model_fingerprint(set_here) != known
    assert fingerprints.model_fingerprint(hooked) is None


class Adapter(torch.nn.Linear):
    """As peft has one: what it adds, and whether it does, stands in no weight."""

    def __init__(self, *, disabled: bool = False, scale: float = 2.0, mask: float = 1.0) -> None:
        super().__init__(2, 2)
        self._disabled, self.scaling, self.mask = disabled, {"default": scale}, torch.full((2,), mask)
        self._is_hf_initialized = disabled  # transformers notes there how the weights came about


@pytest.mark.parametrize("change", [{"disabled": True}, {"scale": 3.0}, {"mask": 0.0}])
def test_an_adapter_that_is_switched_off_is_another_model(change: dict[str, Any]) -> None:
    def adapted(**options: Any) -> str | None:
        model = tiny_bert()
        torch.manual_seed(0)
        model.bert.encoder.layer[0].attention.output.adapter = Adapter(**options)
        return fingerprints.model_fingerprint(model)

    assert adapted() == adapted() is not None
    assert adapted() != adapted(**change)
