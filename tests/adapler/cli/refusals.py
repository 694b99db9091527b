"""Commands that must fail: the call, and a folder of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Refuse = Callable[..., str]


GOOD = [{"text": "good film" if i % 2 else "bad plot", "label": i % 2} for i in range(8)]


def task(folder: Path, **changes: Any) -> Path:
    """A folder of jsonl whose splits are GOOD or the given rows or text."""
    folder.mkdir()
    for split in ("train", "validation", "test"):
        content = changes.get(split, GOOD)
        text = content if isinstance(content, str) else "".join(json.dumps(line) + "\n" for line in content)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder
