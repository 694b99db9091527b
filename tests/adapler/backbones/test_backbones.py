"""removal="none" is the backbone, on every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, GPT2Config

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification, ArgumentError
from adapler.backbones.families import family_of, view
from tests.conftest import (
    CLASSIFIERS,
    LAYERS,
    WIDTH,
    padding_of,
    random_batch,
    tiny_adapler,
    tiny_classifier,
)

FAMILIES = sorted(CLASSIFIERS)


def batch_for(family: str, lengths: list[int], *, seed: int = 0) -> dict[str, torch.Tensor]:
    """A random batch; families with segments get sentence pairs."""
    batch = random_batch(lengths, seed=seed, pad=padding_of(family))
    if family in ("bert", "electra"):
        second = torch.arange(batch["input_ids"].shape[1]) >= torch.tensor(lengths)[:, None] // 2
        batch["token_type_ids"] = second.long() * batch["attention_mask"]
    return batch


def flipped(batch: dict[str, torch.Tensor], lengths: list[int]) -> dict[str, torch.Tensor]:
    """The same rows with their padding on the left."""
    width = batch["input_ids"].shape[1]
    return {
        name: torch.stack([row.roll(width - n) for row, n in zip(value, lengths, strict=True)])
        for name, value in batch.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_none_equals_the_plain_classifier(family: str) -> None:
    lengths = [9, 4, 13, 1, 2]
    batch = batch_for(family, lengths)
    expected = tiny_classifier(family)(**batch).logits
    model = tiny_adapler(family)
    out = model(**batch, removal="none")
    assert expected.std() > 0.05  # the comparison below says something
    assert_close(out.logits, expected, atol=1e-5, rtol=0)
    assert out.lengths.tolist() == [[n] * LAYERS for n in lengths]
    assert torch.equal(out.retention_mask, batch["attention_mask"].bool()[:, None].expand(-1, LAYERS, -1))
    assert out.contribution_scores is None
    # the wrapped classifier also still works by itself
    assert_close(model.backbone(**batch).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["bert", "electra"])
@torch.no_grad()
def test_segments_matter(family: str) -> None:
    batch = batch_for(family, [8, 6])
    model = tiny_adapler(family)
    pair = model(**batch, removal="none").logits
    del batch["token_type_ids"]
    assert (model(**batch, removal="none").logits - pair).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_scale_zero_keeps_every_token(family: str) -> None:
    batch = batch_for(family, [9, 4, 13])
    model = tiny_adapler(family)
    out, none = model(**batch, threshold_scale=0.0), model(**batch, removal="none")
    assert_close(out.logits, none.logits, atol=1e-6, rtol=0)
    assert torch.equal(out.retention_mask, none.retention_mask)
    assert model(**batch).lengths.sum() < none.lengths.sum()  # at scale 1 it does drop some


@pytest.mark.parametrize("eta", [0.25, 1.0])
@torch.no_grad()
def test_an_untrained_model_drops_nothing(eta: float) -> None:
    """Equal scores are 1/n, exactly the highest threshold."""
    classifier = tiny_classifier()
    model = AdapLeRForSequenceClassification(
        AdapLeRConfig(backbone_config=classifier.config.to_dict(), eta_init=eta), backbone=classifier
    ).eval()
    lengths = list(range(1, 40))
    assert model(**random_batch(lengths)).lengths.tolist() == [[n] * LAYERS for n in lengths]


@torch.no_grad()
def test_default_mode_follows_training() -> None:
    model, batch = tiny_adapler(), random_batch([6, 4])
    assert not model(**batch).lengths.is_floating_point()  # counts
    assert model.train()(**batch).lengths.is_floating_point()  # soft lengths


def test_without_mask_every_token_is_real() -> None:
    model, batch = tiny_adapler(), random_batch([6, 6])
    assert torch.equal(model(batch["input_ids"]).logits, model(**batch).logits)


def test_labels_give_cross_entropy() -> None:
    model, batch = tiny_adapler(), random_batch([6, 4])
    labels = torch.tensor([2, 0])
    out = model(**batch, labels=labels)
    log_p = out.logits.log_softmax(-1)
    assert_close(out.loss, -(log_p[0, 2] + log_p[1, 0]) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"removal": "maybe"}, "^removal: 'maybe' is not one of 'none', 'soft', 'hard'$"),
        ({"threshold_scale": -0.5}, "^threshold_scale: -0.5 is not a number of at least 0$"),
        ({"threshold_scale": float("nan")}, "^threshold_scale: nan"),
        ({"input_ids": torch.tensor([3, 4])}, r"^input_ids: \(2,\) .*is not \(batch, length\)"),
        ({"attention_mask": torch.ones(2, 5)}, r"^attention_mask: shape \(2, 5\) is not that of input_ids, \(2, 6\)$"),
        ({"attention_mask": torch.tensor([[1] * 6, [0] * 6])}, "^attention_mask: row 1 has no real token$"),
        (
            {"attention_mask": torch.tensor([[0] * 6, [1] * 6]), "removal": "soft"},
            "^attention_mask: row 0 has no real token$",
        ),
    ],
)
def test_forward_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tiny_adapler()(**{**random_batch([6, 6]), **arguments})


def test_wrong_attention_implementation_is_refused() -> None:
    model = tiny_adapler()
    model.backbone.set_attn_implementation("eager")
    with pytest.raises(ArgumentError, match="^attention implementation: 'eager' cannot drop tokens"):
        model(**random_batch([4]))
    model.backbone.set_attn_implementation("adapler")
    assert model(**random_batch([4])).logits.shape == (1, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_dropout_is_refused_where_it_would_be_ignored(family: str) -> None:
    classifier = tiny_classifier(family)
    for module in classifier.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.1
        if type(module).__name__.endswith("SelfAttention"):
            module.dropout = torch.nn.Dropout(0.1)
    model = AdapLeRForSequenceClassification(
        AdapLeRConfig(backbone_config=classifier.config.to_dict()), backbone=classifier
    ).train()
    with pytest.raises(ArgumentError, match="^attention dropout: 0.1 is not 0"):
        model(**random_batch([4, 3]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            GPT2Config(),
            "^backbone: model type 'gpt2' is not supported; supported: bert, roberta, electra, distilbert, ",
        ),
        (BertConfig(is_decoder=True), "^backbone: is_decoder=True is not supported"),
        (None, "^backbone: model type None is not supported"),
    ],
)
def test_unsupported_backbones(config: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        family_of(config)


def test_relative_positions_are_refused() -> None:
    config = BertConfig()
    config.position_embedding_type = "relative_key"
    with pytest.raises(ArgumentError, match="^backbone: position_embedding_type 'relative_key' is not supported"):
        family_of(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_found(family: str) -> None:
    classifier = tiny_classifier(family)
    assert len(view(classifier).layers) == LAYERS
    assert view(classifier).pooler.weight.shape == (WIDTH, WIDTH)


def test_half_precision_model_runs() -> None:
    model, batch = tiny_adapler().to(torch.bfloat16), random_batch([9, 4])
    for removal in ("none", "hard", "soft"):
        out = model(**batch, removal=removal)
        assert out.logits.dtype == torch.bfloat16 and bool(out.logits.isfinite().all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contribution_hidden_size": 0}, "^contribution_hidden_size: 0 is not at least 1$"),
        ({"beta": 0.0}, "^beta: 0.0 is not above 0$"),
        ({"eta_init": 1.5}, r"^eta_init: 1.5 is not in \[0.01, 1.0\]$"),
        ({"eta_init": 0.0}, "^eta_init: 0.0 is not in"),
        ({"backbone_config": {"model_type": "nonsense"}}, "^backbone_config: model_type 'nonsense' is not known"),
    ],
)
def test_config_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AdapLeRConfig(**options)


def test_config_has_one_truth_for_the_labels() -> None:
    backbone = BertConfig(num_labels=3, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    config = AdapLeRConfig(backbone_config=backbone)
    assert config.id2label == {0: "a", 1: "b", 2: "c"} and config.num_labels == 3
    config = AdapLeRConfig(backbone_config=backbone, num_labels=2)
    assert config.num_labels == 2 and config.backbone_config.num_labels == 2
    config = AdapLeRConfig(backbone_config=backbone, id2label={0: "x", 1: "y"})
    assert config.label2id == config.backbone_config.label2id == {"x": 0, "y": 1}


def test_names_that_labels_were_given_outlive_a_save(tmp_path: Path) -> None:
    model = tiny_adapler()
    names = {number: f"name {number}" for number in range(model.config.num_labels)}
    model.config.id2label = dict(names)
    model.save_pretrained(tmp_path)
    config = AdapLeRForSequenceClassification.from_pretrained(tmp_path).config
    assert config.id2label == config.backbone_config.id2label == names
    assert config.label2id == {name: number for number, name in names.items()}


@pytest.mark.parametrize("loaded", [False, True])
def test_names_that_labels_were_given_are_those_of_the_backbone(loaded: bool, tmp_path: Path) -> None:
    """A backbone that was analysed beside its model had the former names, and the two did not fit."""
    model = tiny_adapler()
    if loaded:
        model.save_pretrained(tmp_path)
        model = AdapLeRForSequenceClassification.from_pretrained(tmp_path)
    model.config.id2label = {0: "a", 1: "b", 2: "c"}
    assert model.backbone.config.id2label == {0: "a", 1: "b", 2: "c"}
    copied = model.for_inference()
    assert copied.backbone.config is copied.config.backbone_config is not model.backbone.config


def test_a_configuration_s_names_are_those_of_a_classifier_that_it_is_built_around() -> None:
    classifier = tiny_classifier()
    config = AdapLeRConfig(backbone_config=classifier.config, id2label={0: "a", 1: "b", 2: "c"})
    model = AdapLeRForSequenceClassification(config, backbone=classifier)
    assert model.backbone.config.id2label == {0: "a", 1: "b", 2: "c"}
    two = AdapLeRConfig(backbone_config=classifier.config, num_labels=2)
    with pytest.raises(ArgumentError, match="^id2label: has names for the labels 0, 1; the classifier's are 0 to 2$"):
        AdapLeRForSequenceClassification(two, backbone=classifier)


def test_model_needs_a_backbone_config() -> None:
    with pytest.raises(ArgumentError, match="^backbone_config: missing; build a model with from_backbone"):
        AdapLeRForSequenceClassification(AdapLeRConfig())


def test_clamp_eta() -> None:
    model = tiny_adapler()
    with torch.no_grad():
        model.eta.copy_(torch.tensor([-1.0, 0.5, 3.0]))
        model.theta.copy_(torch.tensor([-2.0, 7.0]))
    model.clamp_eta()
    assert model.eta.tolist() == pytest.approx([0.01, 0.5, 1.0])
    assert model.theta.tolist() == pytest.approx([0.01, 7.0])
