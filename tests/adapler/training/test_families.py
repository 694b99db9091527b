"""The tiny pipeline (fine-tune, saliency, AdapLeR training, evaluation) on families with other kinds of layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import BertTokenizerFast

from adapler import AdapLeRForSequenceClassification
from adapler.backbones import view
from adapler.cli.parser import main
from tests.adapler.training.common import QUICK
from tests.conftest import VOCABULARY, WORDS, padding_of, tiny_classifier


@pytest.mark.parametrize(("family", "frozen"), [("mpnet", False), ("modernbert", True), ("modernbert", False)])
def test_the_pipeline(family: str, frozen: bool, task_folder: Path, tmp_path: Path) -> None:
    special = ["[PAD]", "[UNK]"] if padding_of(family) == 0 else ["[UNK]", "[PAD]"]
    vocabulary = [*special, "[CLS]", "[SEP]", "[MASK]", *WORDS, ".", ","]
    vocabulary += [f"[unused{i}]" for i in range(VOCABULARY - len(vocabulary))]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    view(tiny_classifier(family)).encoder.save_pretrained(tmp_path / "encoder")
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), model_max_length=38).save_pretrained(tmp_path / "encoder")
    command = ["run", "--task", str(task_folder), "--model", str(tmp_path / "encoder")]
    command += ["--output", str(tmp_path / "run"), "--phi", "0.1", *QUICK]
    assert main([*command, *(["--freeze-backbone"] if frozen else [])]) == 0
    folder = tmp_path / "run" / ("phi-0.1-post-hoc" if frozen else "phi-0.1")
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    assert model.config.backbone_config.model_type == family
    evaluated = json.loads((folder / "evaluation-test.json").read_text())
    assert set(evaluated) >= {"none", "hard"}
