"""Model folders of a tiny model, and how tests load them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from adapler import AdapLeRError, AdapLeRForSequenceClassification, CheckpointError

load = AdapLeRForSequenceClassification.from_pretrained


wrap = AdapLeRForSequenceClassification.from_backbone


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def one_line(match: str, kind: type[AdapLeRError] = CheckpointError) -> Any:
    """pytest.raises of a package error whose message has one line."""
    return pytest.raises(kind, match=rf"\A[^\n]*{match}[^\n]*\Z")
