"""The folder of a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tiny_adapler


@pytest.fixture(scope="module")
def adapler_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("models") / "adapler"
    tiny_adapler().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
