"""Heads: a new one for an encoder, a classifier's own with its labels, and when one is drawn anew."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import (
    AutoModelForSequenceClassification,
    BertModel,
)

from adapler import AdapLeRConfig, ArgumentError
from adapler.backbones.families import view
from adapler.modeling import load_classifier, reinitialise_head
from tests.adapler.backbones.folders import wrap
from tests.adapler.backbones.test_backbones import FAMILIES
from tests.conftest import LAYERS, random_batch, tiny_classifier


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "encoder"
    BertModel(tiny_classifier().config).save_pretrained(folder)
    return folder


def test_encoder_gets_a_head(encoder_folder: Path) -> None:
    model = wrap(encoder_folder, labels=["no", "yes", "maybe", "never"])
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe", 3: "never"}
    assert model.config.label2id == {"no": 0, "yes": 1, "maybe": 2, "never": 3}
    assert not model.training
    out = model(**random_batch([5, 3]))
    assert out.logits.shape == (2, 4)
    assert out.lengths.tolist() == [[5] * LAYERS, [3] * LAYERS]  # new predictors drop nothing
    stored = BertModel.from_pretrained(encoder_folder).state_dict()
    assert all(torch.equal(value, model.backbone.bert.state_dict()[name]) for name, value in stored.items())


def test_number_of_labels_of_an_encoder(encoder_folder: Path) -> None:
    assert wrap(encoder_folder, num_labels=4)(**random_batch([5])).logits.shape == (1, 4)


def test_classifier_keeps_its_head_and_labels(tiny_classifier_folder: Path) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_folder)
    batch = random_batch([8, 5])
    for options in ({}, {"num_labels": 2}):
        model = wrap(tiny_classifier_folder, **options)
        assert model.config.id2label == model.backbone.config.id2label == {0: "NEG", 1: "POS"}
        assert_close(model(**batch, removal="none").logits, plain(**batch).logits, atol=1e-5, rtol=0)
    renamed = wrap(tiny_classifier_folder, labels=["bad", "good"])
    assert renamed.config.id2label == {0: "bad", 1: "good"}
    assert wrap(tiny_classifier_folder, labels=["neg", "pos"]).config.id2label == {0: "neg", 1: "pos"}
    with pytest.raises(ArgumentError, match=r"^labels: .* has them in another order, NEG, POS$"):
        wrap(tiny_classifier_folder, labels=["pos", "NEG"])


def test_names_of_a_model_s_labels_leave_the_caller_s_configuration() -> None:
    backbone = tiny_classifier().config
    before = dict(backbone.id2label)
    config = AdapLeRConfig(backbone_config=backbone, id2label={0: "a", 1: "b", 2: "c"})
    assert config.backbone_config.id2label == {0: "a", 1: "b", 2: "c"} != before
    assert backbone.id2label == before


def test_load_classifier_is_plain(tiny_classifier_folder: Path) -> None:
    classifier = load_classifier(tiny_classifier_folder)
    assert type(classifier).__name__ == "BertForSequenceClassification" and not classifier.training


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("std", "mode", "expected"),
    [
        # healthy is 1/sqrt(16) = .25; "auto" acts below half of it
        (0.2, "auto", False),
        (0.01, "auto", True),
        (0.01, "no", False),
        (0.2, "yes", True),
    ],
)
def test_reinitialise_head(family: str, std: float, mode: str, expected: bool) -> None:
    classifier = tiny_classifier(family)
    pooler = view(classifier).pooler
    with torch.no_grad():
        pooler.weight.normal_(std=std)
        if pooler.bias is not None:
            pooler.bias.fill_(3.0)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    torch.manual_seed(1)
    assert reinitialise_head(classifier, mode=mode) is expected
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    heads = {
        "bert": ("bert.pooler.dense", "classifier"),
        "roberta": ("classifier.dense", "classifier.out_proj"),
        "electra": ("classifier.dense", "classifier.out_proj"),
        "distilbert": ("pre_classifier", "classifier"),
        "mpnet": ("classifier.dense", "classifier.out_proj"),
        "modernbert": ("head.dense", "classifier"),
    }[family]
    allowed = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    if expected:
        assert {f"{head}.weight" for head in heads} <= changed <= allowed
        assert 0.2 < float(pooler.weight.detach().std()) < 0.3
        assert pooler.bias is None or pooler.bias.abs().sum() == 0
        assert classifier.training is False
    else:
        assert changed == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_head_is_never_replaced_by_itself(family: str, tmp_path: Path) -> None:
    """B6: a trained pooler of a small model has a small spread too."""
    classifier = tiny_classifier(family)
    with torch.no_grad():
        view(classifier).pooler.weight.normal_(std=0.01)
    assert reinitialise_head(copy.deepcopy(classifier), mode="auto")  # never saved, never trained
    classifier.save_pretrained(tmp_path)
    loaded = load_classifier(tmp_path, num_labels=3)
    assert not reinitialise_head(loaded, mode="auto")
    assert torch.equal(view(loaded).pooler.weight, view(classifier).pooler.weight)
    assert reinitialise_head(copy.deepcopy(loaded), mode="auto", fine_tuned=False)
    assert reinitialise_head(copy.deepcopy(loaded), mode="yes")
    assert not reinitialise_head(copy.deepcopy(classifier), mode="auto", fine_tuned=True)


def test_a_new_head_is_drawn_in_a_fixed_order() -> None:
    """The pooler first: where the order is that of addresses in memory, a seed gives one of two heads."""
    for _ in range(6):  # the addresses of each are others
        classifier = tiny_classifier()
        pooler, width = view(classifier).pooler, view(classifier).pooler.in_features
        torch.manual_seed(3)
        drawn = [torch.empty(rows, width).normal_(std=width**-0.5) for rows in (width, classifier.num_labels)]
        torch.manual_seed(3)
        assert reinitialise_head(classifier, mode="yes")
        assert torch.equal(pooler.weight, drawn[0]) and torch.equal(classifier.classifier.weight, drawn[1])
