"""The model card holds what was measured of these weights, and nothing of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from adapler.card import model_card
from adapler.cli import main
from adapler.errors import ArgumentError
from adapler.training.records import write_record


@pytest.fixture
def trained(run_folder: Path, tmp_path: Path) -> Path:
    """A model of its own to write a card for."""
    return Path(shutil.copytree(run_folder / "phi-0.1-post-hoc", tmp_path / "mine"))


def test_the_card_holds_what_was_measured(trained: Path) -> None:
    assert main(["card", "--model", str(trained), "--license", "apache-2.0", "--base-model", "org/tiny"]) == 0
    card = ModelCard.load(trained / "README.md")
    assert card.data.license == "apache-2.0" and card.data.base_model == "org/tiny"
    on_hub = {one.dataset_split: one.metric_value for one in card.data.eval_results or ()}
    for split in ("validation", "test"):
        measured = json.loads((trained / f"evaluation-{split}.json").read_text())
        assert on_hub[split] == round(measured["hard"][0]["score"], 4)
    assert "NEG, POS" in card.text and "org/tiny" in card.text
    with pytest.raises(ArgumentError, match="is there already"):
        main(["card", "--model", str(trained)])


def test_measurements_of_other_weights_are_left_out(trained: Path) -> None:
    path = trained / "evaluation-test.json"
    write_record(path, json.loads(path.read_text()) | {"model_checksum": "another"})
    notes: list[str] = []
    card = model_card(trained, notes=notes)
    assert [one.dataset_split for one in card.data.eval_results or ()] == ["validation"]
    assert any("other weights" in note for note in notes)
