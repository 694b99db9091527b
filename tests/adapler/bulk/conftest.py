"""A tiny model in a folder, and texts with bad rows among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapler.bulk.store import Store
from tests.conftest import WORDS, tiny_adapler


class Stopped(BaseException):
    """Stands for a kill where a whole process would cost the tests too much time."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_adapler().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    lines = []
    for row in range(61):
        words = [WORDS[(row * 7 + k * k) % len(WORDS)] for k in range(1 + row % 13)]
        lines.append(json.dumps({"id": f"n{row}", "text": " ".join(words), "stars": row % 5}))
    lines[7], lines[20], lines[60] = '{"te', '{"id": "empty", "text": " "}', '{"text": 3}'
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    append = Store.append

    def stopping(self: Store, *args: Any, **options: Any) -> None:
        append(self, *args, **options)
        if len(self.entries) == shards:
            raise Stopped

    monkeypatch.setattr(Store, "append", stopping)
