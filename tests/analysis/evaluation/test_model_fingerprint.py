"""What tells two models apart whose weights and configuration are the same."""

from __future__ import annotations

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
