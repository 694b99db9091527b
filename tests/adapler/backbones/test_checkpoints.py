"""Model folders: round trips, formats, and what reaches the configuration."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    pipeline,
)

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.errors import ArgumentError
from tests.adapler.backbones.folders import load, wrap
from tests.adapler.backbones.test_backbones import FAMILIES, batch_for
from tests.conftest import LAYERS, VOCABULARY, WIDTH, random_batch, tiny_adapler, tiny_classifier


def realigned(model: Any) -> Any:
    """A copy in fresh memory: loaded weights lie in a mapped file, and kernels round by alignment."""
    return copy.deepcopy(model)


def outputs(model: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        results = [model(**batch, removal=removal) for removal in ("none", "hard", "soft")]
    return [x for out in results for x in (out.logits, out.lengths, out.contribution_scores) if x is not None]


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_is_bit_identical(family: str, tmp_path: Path) -> None:
    model, batch = tiny_adapler(family), batch_for(family, [9, 4])
    model.theta.data.uniform_(0.5, 2.0)
    model.config.beta = 0.2
    model.save_pretrained(tmp_path)
    again = realigned(load(tmp_path))
    assert not again.training
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for mine, theirs in zip(outputs(again, batch), outputs(model, batch), strict=True):
        assert torch.equal(mine, theirs)
    assert isinstance(again.config, AdapLeRConfig) and again.config.beta == 0.2
    assert type(again.config.backbone_config) is type(model.config.backbone_config)


def test_auto_classes(adapler_folder: Path) -> None:
    assert isinstance(AutoConfig.from_pretrained(adapler_folder), AdapLeRConfig)
    model = AutoModelForSequenceClassification.from_pretrained(adapler_folder)
    assert isinstance(model, AdapLeRForSequenceClassification)
    pairs = zip(outputs(realigned(model), random_batch([7])), outputs(tiny_adapler(), random_batch([7])), strict=True)
    for mine, theirs in pairs:
        assert torch.equal(mine, theirs)


def test_pipeline(tiny_classifier_folder: Path, tiny_tokenizer: Any) -> None:
    model = wrap(tiny_classifier_folder)
    classify = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer)
    texts = ["a great film", "never boring but very dull the plot"]
    results = classify(texts)
    for result, prediction in zip(results, model.predict(texts, tokenizer=tiny_tokenizer), strict=True):
        assert result["label"] == prediction.label in ("NEG", "POS")
        assert result["score"] == pytest.approx(prediction.score, abs=1e-5)


def test_pipeline_takes_the_arguments_of_the_model(tiny_tokenizer: Any) -> None:
    model, text = tiny_adapler(eta=0.9), "never boring but very dull the plot"
    classify = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer)
    for given in ({"threshold_scale": 20}, {"removal": "none"}):
        (expected,) = model.predict([text], tokenizer=tiny_tokenizer, **given)
        made = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer, **given)
        for (result,) in (classify(text, **given), made(text)):
            assert result["score"] == pytest.approx(expected.score, abs=1e-6)
        assert expected.score != pytest.approx(classify(text)[0]["score"], abs=1e-6)
    with pytest.raises(ArgumentError, match="^threshold_scale: -1 is not a number of at least 0$"):
        classify(text, threshold_scale=-1)
    with pytest.raises(ArgumentError, match="^speedup: not an option of the pipeline"):
        classify(text, speedup=4)
    for given in ({"dtype": "auto"}, {"stride": 4}, {"token_budget": 9}):
        with pytest.raises(ArgumentError, match=f"^{next(iter(given))}: not an option of the pipeline"):
            classify(text, **given)
    with pytest.raises(ArgumentError, match="^threshold_scale: removal='none' drops no tokens$"):
        classify(text, removal="none", threshold_scale=2)
    made = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer, removal="none")
    with pytest.raises(ArgumentError, match="^threshold_scale: removal='none' drops no tokens$"):
        made(text, threshold_scale=2)
    plain = pipeline("text-classification", model=model.backbone, tokenizer=tiny_tokenizer)
    assert plain(text, threshold_scale=20) == plain(text), "of another model, transformers' own ways"


def test_no_local_path_is_saved(tiny_classifier_folder: Path, tmp_path: Path) -> None:
    wrap(tiny_classifier_folder).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert str(tiny_classifier_folder.parent) not in text


@pytest.mark.parametrize("kind", ["adapler", "backbone"])
def test_stored_in_half_precision_computes_in_float32(kind: str, tmp_path: Path) -> None:
    (tiny_adapler() if kind == "adapler" else tiny_classifier()).half().save_pretrained(tmp_path)
    model = load(tmp_path) if kind == "adapler" else wrap(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model(**random_batch([5])).logits.dtype == torch.float32


@pytest.mark.parametrize("kind", ["adapler", "backbone"])
def test_activations_stay_those_of_the_classifier(kind: str, tmp_path: Path) -> None:
    (tiny_adapler() if kind == "adapler" else tiny_classifier()).save_pretrained(tmp_path)
    model = load(tmp_path) if kind == "adapler" else wrap(tmp_path)
    assert not any(getattr(part, "use_kernels", False) for part in model.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_on_request_leaves_the_thresholds_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    """B12: eta .2507 would become .25, and keep a token whose score is between the two thresholds."""
    exact = tiny_adapler(eta=0.9007)
    exact.theta.data.fill_(1.0007)
    exact.save_pretrained(tmp_path)
    model = load(tmp_path, dtype=dtype)
    assert model.backbone.dtype == dtype
    mine = {name: value for name, value in model.state_dict().items() if not name.startswith("backbone.")}
    assert set(mine) >= {"eta", "theta", "contribution_predictors.0.dense.weight"}
    for name, value in mine.items():
        assert value.dtype == torch.float32 and torch.equal(value, exact.state_dict()[name]), name

    batch = random_batch([20, 13, 9], seed=1)
    for removal in ("none", "hard", "soft"):
        assert model(**batch, removal=removal).logits.isfinite().all()
    # layer 0's kept tokens, from the embeddings in half precision and everything else in float32
    kept = model(**batch).retention_mask[:, 0]
    table = model.backbone.bert.embeddings
    for row, n in enumerate([20, 13, 9]):
        hidden = table(input_ids=batch["input_ids"][row : row + 1, :n])[0].float()
        scores = exact.contribution_predictors[0](hidden, None).softmax(0)
        expected = scores >= exact.eta[0] / n
        expected[0] = True
        assert torch.equal(kept[row, :n], expected)


def test_the_dtype_by_its_former_name(adapler_folder: Path) -> None:
    def dtypes(**options: Any) -> tuple[torch.dtype, torch.dtype]:
        model = AdapLeRForSequenceClassification.from_pretrained(adapler_folder, **options)
        return model.backbone.classifier.weight.dtype, model.eta.dtype

    assert dtypes(torch_dtype=torch.bfloat16) == (torch.bfloat16, torch.float32)
    assert dtypes(torch_dtype="bfloat16") == (torch.bfloat16, torch.float32)
    assert dtypes(dtype="float32", torch_dtype="bfloat16") == (torch.float32, torch.float32)


@pytest.mark.parametrize("part", [lambda model: model, lambda model: model.backbone], ids=["model", "backbone"])
def test_more_wordpieces_are_saved_and_loaded(part: Callable[[Any], Any], tmp_path: Path) -> None:
    """Those that its backbone was given left a folder that could not be loaded."""
    model = tiny_adapler()
    part(model).resize_token_embeddings(VOCABULARY + 4)
    assert model.config.backbone_config.vocab_size == model.backbone.config.vocab_size == VOCABULARY + 4
    model.save_pretrained(tmp_path)
    batch = {"input_ids": torch.tensor([[2, 9, VOCABULARY + 3]])}
    loaded = AdapLeRForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_bfloat16_keeps_nearly_the_same_tokens(adapler_folder: Path) -> None:
    model, half = load(adapler_folder), load(adapler_folder, dtype=torch.bfloat16)
    batch = random_batch([20, 17, 13, 9, 5] * 8, seed=4)
    with torch.no_grad():
        exact, rounded = model(**batch).retention_mask, half(**batch).retention_mask
    assert exact.sum() > 200
    assert (exact ^ rounded).sum() / exact.sum() < 0.1  # what rounded hidden states change; layers multiply it here


def test_options_reach_the_config(tiny_classifier_folder: Path) -> None:
    model = wrap(tiny_classifier_folder, contribution_hidden_size=5, eta_init=0.5, beta=0.2)
    assert model.contribution_predictors[0].dense.weight.shape == (5, WIDTH)
    assert model.eta.tolist() == [0.5] * LAYERS and model.config.beta == 0.2


def test_attention_dropout_is_switched_off(tmp_path: Path) -> None:
    classifier = tiny_classifier()
    classifier.config.attention_probs_dropout_prob = 0.2
    classifier.save_pretrained(tmp_path)
    model = wrap(tmp_path).train()
    assert model.backbone.config.attention_probs_dropout_prob == 0.0
    assert model(**random_batch([4])).logits.isfinite().all()
