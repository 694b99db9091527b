"""What tests of `adapler predict` ask for, and the tokens of two texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapler.bulk.rows import FIELDS

Predict = Callable[..., list[dict[str, Any]]]
EVERYTHING = ["--output-columns", *(name for name in FIELDS if name not in ("row", "id", "error"))]
FIRST, SECOND = ["[CLS]", "a", "good", "film", "[SEP]"], ["[CLS]", "so", "dull", "[SEP]"]
