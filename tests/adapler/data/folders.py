"""Folders of jsonl as tests write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.adapler.data.corpora import write

LABELS = {"labels": ["negative", "positive"]}


Rows = list[dict[str, Any]]


def lines(rows: Rows) -> str:
    return "".join(json.dumps(r) + "\n" for r in rows)


def task_folder(folder: Path, splits: dict[str, Rows | str], meta: dict[str, Any] | None = LABELS) -> Path:
    files = {f"{split}.jsonl": rows if isinstance(rows, str) else lines(rows) for split, rows in splits.items()}
    return write(folder, files if meta is None else files | {"meta.json": json.dumps(meta)})


def texts(count: int, prefix: str = "t") -> Rows:
    return [{"text": f"{prefix} {n}", "label": n % 2} for n in range(count)]
