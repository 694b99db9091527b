"""The running average of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from adapler.errors import ArgumentError
from adapler.training.averaging import LIVE_WEIGHTS
from tests.adapler.training.common import trainer
from tests.conftest import tiny_adapler


class Recorder(TrainerCallback):
    """Copies of all weights, before the first step and after each."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})


def test_what_is_saved_and_kept_is_the_average(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, average_decay=0.7, settings={"epochs": 1})
    recorder = Recorder()
    one.add_callback(recorder)
    one.train()
    weights = recorder.seen
    assert len(weights) == 5
    expected = {name: tensor.double() for name, tensor in weights[0].items()}
    for step, after in enumerate(weights[1:], start=1):
        decay = min(0.7, step / (step + 9))
        expected = {name: decay * mean + (1 - decay) * after[name].double() for name, mean in expected.items()}
    saved = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    live = load_file(tmp_path / "checkpoint-4" / LIVE_WEIGHTS)
    held = one.model.state_dict()
    for name, tensor in saved.items():
        torch.testing.assert_close(tensor.double(), expected[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(held[name], tensor), "the model holds the selected epoch's average"
    for name, tensor in live.items():
        assert torch.equal(tensor, weights[-1][name])
    assert not torch.equal(live["eta"], saved["eta"])


def test_training_goes_on_as_if_there_were_no_average(tmp_path: Path, tiny_tokenizer: Any) -> None:
    ends = []
    for decay in (0.0, 0.7):
        one = trainer(tmp_path / str(decay), tiny_tokenizer, average_decay=decay)
        recorder = Recorder()
        one.add_callback(recorder)
        one.train()
        ends.append(recorder.seen[-1])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_frozen_backbone_stays_bit_identical(tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = tiny_adapler(eta=0.5)
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    trainer(tmp_path, tiny_tokenizer, model=model, average_decay=0.7, freeze_backbone=True).train()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.backbone.state_dict().items())


def test_decay_is_checked(tmp_path: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match=r"--average-decay: 1.0 is not in \[0, 1\)"):
        trainer(tmp_path, tiny_tokenizer, average_decay=1.0)
