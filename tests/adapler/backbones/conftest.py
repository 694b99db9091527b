"""The folder of a saved model, and tensors for the branches of a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.conftest import tiny_adapler


class OnCuda(Tensor):
    """A CPU tensor that says it is on CUDA."""

    is_cuda = True


@pytest.fixture(scope="module")
def adapler_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("models") / "adapler"
    tiny_adapler().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
