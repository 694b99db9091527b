"""Saving over an earlier save: what is loaded is what was saved last."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.errors import ArgumentError
from tests.conftest import tiny_adapler, tiny_classifier

ONE, SHARDS = {}, {"max_shard_size": "20KB"}


@pytest.mark.parametrize(("first", "second"), [(ONE, SHARDS), (SHARDS, ONE), (SHARDS, SHARDS), (ONE, ONE)])
def test_the_last_save_is_loaded(first: dict[str, str], second: dict[str, str], tmp_path: Path) -> None:
    """transformers leaves a single file beside later shards, and loads it."""
    model = tiny_adapler(eta=0.5)
    model.save_pretrained(tmp_path, **first)
    with torch.no_grad():
        model.eta.fill_(0.7)
    model.save_pretrained(tmp_path, **second)
    assert torch.equal(AdapLeRForSequenceClassification.from_pretrained(tmp_path).eta, model.eta)
    sharded = second is SHARDS
    assert (tmp_path / "model.safetensors").exists() is not sharded
    assert (tmp_path / "model.safetensors.index.json").exists() is sharded


def test_a_save_elsewhere_or_of_another_variant_removes_nothing(tmp_path: Path) -> None:
    model = tiny_adapler()
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, variant="other")
    model.save_pretrained(tmp_path, is_main_process=False)
    names = {"model.safetensors", "model.other.safetensors"}
    assert {path.name for path in tmp_path.glob("model*")} == names


def test_a_calibration_of_another_model_goes_and_an_early_upload_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text("{}")
    tiny_adapler().save_pretrained(tmp_path)
    assert not (tmp_path / "calibration.json").exists()
    with pytest.raises(ArgumentError, match="^push_to_hub: "):
        tiny_adapler().save_pretrained(tmp_path / "other", push_to_hub=True)
    assert not (tmp_path / "other").exists()


def test_what_was_put_into_a_classifier_since_it_was_made_is_kept() -> None:
    """A head that was exchanged, and trained, was drawn anew."""
    classifier = tiny_classifier("bert")
    classifier.classifier = head = nn.Linear(classifier.config.hidden_size, classifier.config.num_labels)
    trained = head.weight.detach().clone()
    model = AdapLeRForSequenceClassification(AdapLeRConfig(backbone_config=classifier.config), backbone=classifier)
    assert model.backbone.classifier is head and torch.equal(head.weight, trained)
