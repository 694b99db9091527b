"""The small scripts: batches, texts, and ways to the model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import count
from benchmarks.speed import batches_of, measure, read_texts, systems
from tests.test_layering import ROOT


def test_batches_have_every_row_once_and_not_too_many_tokens() -> None:
    lengths = [5, 40, 7, 40, 3, 12]
    found = batches_of(lengths, "tokens", tokens=80, by_length=True)
    assert sorted(row for batch in found for row in batch) == list(range(6))
    assert all(max(lengths[row] for row in batch) * len(batch) <= 80 for batch in found)
    assert batches_of(lengths, "4", tokens=1, by_length=False) == [[0, 1, 2, 3], [4, 5]]


def test_texts_are_of_lines_or_of_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"text_a": "one", "text_b": "two", "label": 1}) + "\n")
    assert read_texts(tmp_path / "pairs.jsonl", "test") == [("one", "two")]
    assert len(read_texts(ROOT / "data" / "eraser" / "sample", "test")) > 1


def test_systems_take_turns_on_the_same_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model on two short texts: all whole systems agree, and AdapLeR says how much it saves."""
    import argparse

    from transformers import AutoTokenizer

    from adapler import AdapLeRConfig

    model = ROOT / "checkpoints" / "movies-minilm"
    args = argparse.Namespace(model=model, device="cpu", dtype=["float32"], scales=[0.0, 1.0], onnx=False)
    args.rounds, args.batch_tokens, args.base = 1, 64, "packed"
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [dict(tokenizer(text)) for text in ("a dull film", "a great plot and a fine ending")]
    table = measure(
        list(systems(args, tokenizer, Path(), 1, "tokens")), rows, args, "tokens", AdapLeRConfig.from_pretrained(model)
    )
    by = {row["system"]: row for row in table}
    assert list(by) == [f"{name} float32" for name in ("transformers", "sorted", "packed", "adapler 0", "adapler 1")]
    assert all(row["same"] == 1 for name, row in by.items() if name != "adapler 1 float32")
    assert by["adapler 0 float32"]["flops"]["paper"] < 1 <= by["adapler 1 float32"]["flops"]["paper"]


def test_the_way_to_the_model_is_what_runs() -> None:
    """Functions that run count, and so do frames between a command and the model; imports do not."""
    seen = count.Trace()
    code = compile(
        "def main():\n    return helper()\ndef helper():\n    return 1\n", f"{count.OWN[0]}made_up.py", "exec"
    )
    scope: dict[str, object] = {}
    sys.setprofile(seen)
    try:
        exec(code, scope)
        assert seen.files == set()
        scope["main"]()  # type: ignore[operator]
    finally:
        sys.setprofile(None)
    assert seen.files == {f"{count.OWN[0]}made_up.py"}
