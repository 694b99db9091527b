"""A data set on disk gives what one in memory gives, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from adapler.data.tasks import in_label_order, load_task, scratch
from adapler.errors import DataError
from adapler.inference.predict import predict_dataset, predict_rows
from adapler.text import encode_dataset
from adapler.training.stages.saliency import saliency_targets
from adapler.training.stages.targets import add_saliency, load_targets, save_targets
from tests.adapler.training.common import rows
from tests.conftest import AS_COMMAND, WORDS, tiny_adapler, tiny_classifier


@pytest.fixture
def small_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Everything of more than five rows goes to disk."""
    monkeypatch.setenv("ADAPLER_CACHE", str(tmp_path / "cache"))
    scratch._folder.cache_clear()
    for module in ("adapler.data.tasks.scratch", "adapler.data.tasks.tables", "adapler.training.stages.targets"):
        monkeypatch.setattr(f"{module}.IN_MEMORY_ROWS", 5)
    for module in ("adapler.inference.predict", "adapler.training.stages.saliency"):
        monkeypatch.setattr(f"{module}.CHUNK", 5)
    yield tmp_path / "cache" / "rows"
    scratch._folder.cache_clear()


def jsonl(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def is_mapped(rows: datasets.Dataset, folder: Path) -> bool:
    files = [Path(file["filename"]) for file in rows.cache_files]
    return bool(files) and all(folder in file.parents for file in files)


@pytest.mark.parametrize("kind", ["text", "tokens"])
def test_reading_on_disk(kind: str, small_memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows, their order, labels and checksum are those of a task in memory, held-out rows included."""
    values = {"text": "a good film".split(), "tokens": [["a"], ["good", "film"], ["dull"]]}[kind]
    rows = [{kind: values[n % 3], "query": "ab"[n % 2], "label": ["x", "y"][n % 2]} for n in range(2500)]
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "train.jsonl").write_text(jsonl(rows))
    (tmp_path / "task" / "test.jsonl").write_text(jsonl(rows[:4]))
    large = load_task(tmp_path / "task")
    assert is_mapped(large.dataset["train"], small_memory) and is_mapped(large.dataset["validation"], small_memory)
    assert not large.dataset["test"].cache_files
    monkeypatch.setattr("adapler.data.tasks.tables.IN_MEMORY_ROWS", 10_000)
    small = load_task(tmp_path / "task")
    assert not small.dataset["train"].cache_files and large.labels == small.labels == ("x", "y")
    assert large.columns == small.columns == (("text_a",) if kind == "text" else ("words", "query"))
    for split in ("train", "validation", "test"):
        assert large.dataset[split].features == small.dataset[split].features
        assert large.dataset[split].to_list() == small.dataset[split].to_list()
    assert large.checksum == small.checksum and large.notes == small.notes
    names = sorted(small.dataset["train"].column_names)
    content = [[split, name, small.dataset[split][name][:]] for split in small.dataset for name in names]
    assert large.checksum == hashlib.sha256("".join(map(json.dumps, content)).encode()).hexdigest()
    turned = in_label_order(large, ["y", "x"])
    assert turned.dataset["train"]["label"][:] == [1 - label for label in small.dataset["train"]["label"]]


def test_a_bad_row_at_the_end_of_a_large_file(small_memory: Path, tmp_path: Path) -> None:
    """It is named, with its line, and no part of the file stays on disk."""
    good = [{"text": "a film", "label": n % 2, "id": str(n)} for n in range(1200)]
    path = tmp_path / "train.jsonl"
    for last, message in (
        ('{"text": "a film", "label": 7}', r"train\.jsonl: labels without meta\.json must be strings or 0, 1, 2"),
        ('{"text": " ", "label": 1}', r"train\.jsonl:1202: field 'text' is empty$"),
        ('{"text": "a film", "label": 1, "id": 3}', r"train\.jsonl:1202: id '3' appears twice in this split$"),
        ("{", r"train\.jsonl:1202: not JSON"),
        ("\udcff", r"train\.jsonl:1202: not UTF-8 text \(byte 0\)$"),
    ):
        path.write_bytes(f"{jsonl(good)}\n{last}\n".encode(errors="surrogateescape"))
        with pytest.raises(DataError, match=message):
            load_task(path)
        assert not list(small_memory.rglob("*.arrow")), last
    path.write_text(jsonl([*good, {"text": "a film", "label": 1, "id": "train-3"}, {"text": "a film", "label": 0}]))
    assert load_task(path).dataset["train"].num_rows == 1082


def test_python_memory_of_reading_does_not_grow_with_the_rows(small_memory: Path, tmp_path: Path) -> None:
    peaks = []
    for number, count in enumerate((3_000, 3_000, 15_000)):  # the first warms up
        path = tmp_path / f"{number}.jsonl"
        path.write_text(jsonl({"text": f"a good film {n}", "label": n % 2, "id": f"row {n}"} for n in range(count)))
        tracemalloc.start()
        load_task(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[2] - peaks[1]) / 12_000 < 100, "bytes a row"


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
    parts = predict_dataset(model, data, pad_token_id=0, removal="hard")
    assert (whole.logits - parts.logits).abs().max() < 1e-5
    assert whole.lengths.equal(parts.lengths) and whole.lengths_in.equal(parts.lengths_in)


def test_nothing_stays(tmp_path: Path) -> None:
    """A process removes its files when it ends; those of one that was killed go with the next."""
    program = (
        AS_COMMAND + "from adapler.data.tasks.scratch import scratch_file; import os, sys; scratch_file().touch();"
    )
    environment = {**os.environ, "ADAPLER_CACHE": str(tmp_path)}
    killed = subprocess.run(
        [sys.executable, "-c", program + "os.kill(os.getpid(), 9)"], env=environment, check=False, capture_output=True
    )
    assert killed.returncode == -9 and len(list((tmp_path / "rows").iterdir())) == 1
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list((tmp_path / "rows").iterdir()) == []


def test_the_folder_is_the_cache_of_the_user(
    small_memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPLER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert scratch.scratch_file().parents[1] == tmp_path / "user" / "adapler" / "rows"


def test_files_of_another_machine_stay(small_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines of a cluster share a home directory, and a process of one is not to be seen on another."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr("platform.node", lambda: "node-1")
    theirs = scratch._folder(ended.pid)
    monkeypatch.setattr("platform.node", lambda: "node-2")
    ours = scratch._folder(os.getpid())
    assert theirs.is_dir() and ours.is_dir()
    scratch._folder.cache_clear()
    monkeypatch.setattr("platform.node", lambda: "node-1")
    scratch._folder(os.getpid())
    assert not theirs.exists() and ours.is_dir()
