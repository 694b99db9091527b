"""`make train-sample`: the Makefile's own options, on the packaged MiniLM and the embedded sample."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from adapler import AdapLeRForSequenceClassification
from adapler import minilm as encoder
from adapler.cli.options import chosen
from adapler.cli.parser import build_parser, main
from adapler.text import load_tokenizer

ROOT = Path(__file__).parents[3]


def recipe() -> list[str]:
    """The arguments of `adapler` in the Makefile."""
    found = re.search(r"^train-sample:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    words = shlex.split(found[1].replace("\\\n", " "))
    assert words[0] == "@$(BIN)/adapler"
    return words[1:]


def test_the_recipe_is_a_valid_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = chosen(build_parser().parse_args(recipe()))
    assert settings.model == "$$($(BIN)/python -m adapler.minilm)"
    assert (Path(settings.task.task) / "train.jsonl").is_file() and settings.output == Path("runs/sample")
    assert settings.finetuning().epochs <= 10 and settings.objectives[0].freeze_backbone


@pytest.mark.slow
def test_the_whole_pipeline_on_the_packaged_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same options on fewer rows and epochs (the last mention of an option counts)."""
    pytest.importorskip(encoder.PACKAGE)
    monkeypatch.chdir(ROOT)
    words = recipe()
    words[words.index("--model") + 1] = str(encoder.packaged_minilm())
    small = ["--limit", "16", "--finetune-epochs", "2", "--epochs", "1", "--saliency-epochs", "1"]
    assert main([*words, *small, "--output", str(tmp_path / "run")]) == 0

    table = pd.read_csv(tmp_path / "run" / "tradeoff-post-hoc.csv")
    assert len(table) == 1 and table["test_accuracy"].between(0, 1).all() and (table["test_speedup"] > 0.9).all()
    folder = next(path.parent for path in (tmp_path / "run").glob("phi-*/run.json"))
    record = json.loads((folder / "run.json").read_text())
    assert record["rows"] == {"train": 16, "validation": 36, "test": 44}
    assert record["encoding"]["limit"] == 16
    finetuned = json.loads((tmp_path / "run" / "finetuned" / "run.json").read_text())
    assert finetuned["head_reinitialised"] is True and len(finetuned["epochs"]) == 2
    evaluation = json.loads((folder / "evaluation-test.json").read_text())
    assert evaluation["examples"] == 44 and evaluation["hard"][0]["score"] == table["test_accuracy"][0]

    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    review = ["for all its polish the film never once comes alive ."]
    prediction = model.predict(review, tokenizer=load_tokenizer(folder, words=False))[0]
    assert prediction.label in ("NEG", "POS") and prediction.lengths[0] <= len(prediction.tokens)
