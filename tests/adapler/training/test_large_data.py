"""A data set on disk gives what one in memory gives, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from adapler.inference import predict_rows
from adapler.text import encode_dataset
from adapler.training.stages.saliency import saliency_targets
from adapler.training.stages.targets import add_saliency, load_targets, save_targets
from tests.adapler.training.common import rows
from tests.conftest import WORDS, tiny_adapler, tiny_classifier


@pytest.fixture
def small_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Everything of more than five rows goes to disk."""
    folder = tmp_path / "rows"
    folder.mkdir()
    monkeypatch.setattr("adapler.data._scratch_folder", lambda: folder)
    for module in ("adapler.data", "adapler.training.stages.targets"):
        monkeypatch.setattr(f"{module}.IN_MEMORY_ROWS", 5)
    for module in ("adapler.inference", "adapler.training.stages.saliency"):
        monkeypatch.setattr(f"{module}.CHUNK", 5)
    yield folder


def jsonl(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def is_mapped(rows: datasets.Dataset, folder: Path) -> bool:
    files = [Path(file["filename"]) for file in rows.cache_files]
    return bool(files) and all(folder in file.parents for file in files)


@pytest.mark.parametrize("workers", [0, 2])
def test_encoding_on_disk(workers: int, small_memory: Path, tiny_tokenizer: Any) -> None:
    texts = datasets.Dataset.from_dict(
        {
            "id": [f"r{i}" for i in range(12)],
            "text_a": [" ".join(WORDS[i : i + 7]) for i in range(12)],
            "label": [0] * 12,
        }
    )
    options: dict[str, Any] = {"columns": ("text_a",), "max_length": 6, "truncation": "windows"}
    large = encode_dataset(texts, tiny_tokenizer, workers=workers, **options)
    assert large.cache_files and all(small_memory in Path(file["filename"]).parents for file in large.cache_files)
    small = [encode_dataset(texts.select([row]), tiny_tokenizer, **options) for row in range(12)]
    assert large.to_list() == [one for part in small for one in part.to_list()]
    assert not any(part.cache_files for part in small)


def test_targets_on_disk_are_those_in_memory(small_memory: Path, tmp_path: Path) -> None:
    data = rows(12).remove_columns("saliency")
    model = tiny_classifier(num_labels=2)
    large = saliency_targets([model], data, pad_token_id=0, token_budget=16)
    assert large.cache_files
    for row in range(12):
        one = saliency_targets([model], data.select([row]), pad_token_id=0)
        assert one[0]["id"] == large[row]["id"]
        assert one[0]["saliency"] == pytest.approx(large[row]["saliency"], abs=1e-6)
    save_targets(large, tmp_path / "targets")
    loaded = load_targets(tmp_path / "targets")
    order = [3, 0, 11, 7, 5, 1, 2]
    joined = add_saliency(data.select(order), loaded)
    assert joined["id"][:] == [f"row-{number}" for number in order]
    assert joined["saliency"][:] == [large[number]["saliency"] for number in order]
    assert add_saliency(data, loaded)["saliency"][:] == large["saliency"][:]


def test_predictions_by_chunks(small_memory: Path) -> None:
    data, model = rows(12).remove_columns("saliency"), tiny_adapler()
    whole = predict_rows(model, data.to_list(), pad_token_id=0, removal="hard")
    parts = predict_rows(model, data, pad_token_id=0, removal="hard")
    assert (whole.logits - parts.logits).abs().max() < 1e-5
    assert whole.lengths.equal(parts.lengths) and whole.lengths_in.equal(parts.lengths_in)
