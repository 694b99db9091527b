"""Which weights are read: safetensors, and nothing that is unpickled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapler.errors import CheckpointError
from analysis import loading
from tests.analysis.conftest import tiny_bert


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    model = tiny_bert()
    model.save_pretrained(tmp_path)
    assert loading.load_classifier(str(tmp_path)).config.num_labels == 2
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="model.safetensors"):
        loading.load_classifier(str(tmp_path))
