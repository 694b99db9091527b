"""Models by name: what is no whole classifier is refused with one line, before anything is scored."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
)

from adapler.errors import ArgumentError, CheckpointError
from analysis import explain, rationale_eval
from analysis.scoring import is_adapler, load_models
from tests.analysis.conftest import tiny_bert
from tests.conftest import tiny_adapler


@pytest.fixture
def folder(tiny_tokenizer: Any, tmp_path: Path) -> Path:
    tiny_bert().save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load_classifier(name: str) -> Any:
    return load_models(name, None, object())[0]


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")  # the default one takes seconds to import


@pytest.mark.parametrize("part", ["whole", "backbone"])
def test_a_compiled_model_is_read_as_the_one_that_was_compiled(part: str, tiny_tokenizer: Any) -> None:
    model = tiny_adapler() if part == "whole" else tiny_adapler().backbone
    plain, other = (
        explain("a dull film .", model=one, tokenizer=tiny_tokenizer, methods="saliency")
        for one in (model, compiled(model))
    )
    assert (plain.model, plain.prediction) == (other.model, other.prediction)
    assert np.array_equal(plain.scores["saliency"], other.scores["saliency"])
    if part == "whole":
        assert is_adapler(compiled(model))
        assert load_models(model.backbone, compiled(model), tiny_tokenizer)[1] is model
    assert load_models(compiled(model), None, tiny_tokenizer)[0] is getattr(model, "backbone", model)


def test_a_whole_classifier_is_loaded_as_it_is(folder: Path) -> None:
    loaded = load_classifier(str(folder))
    assert not loaded.training and loaded.dtype == torch.float32
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in tiny_bert().state_dict().items())


@pytest.mark.parametrize("name", ["classifier.weight", "bert.encoder.layer.1.output.dense.weight"])
def test_an_incomplete_classifier_is_refused(folder: Path, name: str) -> None:
    """transformers fills the gap with random numbers and goes on: every score would be one of a random model."""
    state = load_file(folder / "model.safetensors")
    del state[name]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"no weights for {re.escape(name)}"):
        load_models(folder, None, device="cpu")


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["bert.pooler.dense.weight"][0, 0] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="NaN or infinity in the weights bert.pooler.dense.weight"):
        load_models(folder, None, device="cpu")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("problem_type", "multi_label_classification", "problem_type: 'multi_label_classification' is not supported"),
        ("num_labels", 1, "num_labels: 1 is not at least 2"),
    ],
)
def test_what_does_not_choose_one_label_is_refused(tmp_path: Path, field: str, value: Any, message: str) -> None:
    model = tiny_bert()
    setattr(model.config, field, value)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"its config.json: {message}"):
        load_classifier(str(tmp_path))


def test_a_classifier_that_adapler_cannot_be_built_on_is_loaded(tmp_path: Path) -> None:
    config = ModernBertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=2,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
    )
    ModernBertForSequenceClassification(config).save_pretrained(tmp_path)
    assert type(load_classifier(str(tmp_path))) is ModernBertForSequenceClassification


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    model = tiny_bert()
    model.save_pretrained(tmp_path)
    assert load_classifier(str(tmp_path)).config.num_labels == 2
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="model.safetensors"):
        load_classifier(str(tmp_path))


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_weights_of_fewer_digits_are_refused(kind: str, tiny_tokenizer: Any, corpus_folder: Path) -> None:
    """What such a model computes would be reported, and merged, as float32."""
    model = tiny_bert().to(getattr(torch, kind))
    message = f"^model: its weights are {kind}; give it in float32, and dtype='bfloat16' for speed$"
    with pytest.raises(ArgumentError, match=message):
        rationale_eval.evaluate(model=model, tokenizer=tiny_tokenizer, data=corpus_folder, progress=False)
    with pytest.raises(ArgumentError, match=message):
        explain("a dull film", model=model, tokenizer=tiny_tokenizer)


def test_a_copy_for_inference_is_refused(reducer: Any, tiny_tokenizer: Any, corpus_folder: Path) -> None:
    quick = reducer.for_inference(dtype="bfloat16")
    with pytest.raises(ArgumentError, match="^model: its weights are bfloat16"):
        rationale_eval.evaluate(adapler=quick, tokenizer=tiny_tokenizer, data=corpus_folder, progress=False)
    with pytest.raises(ArgumentError, match="^model: its weights are bfloat16"):
        explain("a dull film", model=quick, tokenizer=tiny_tokenizer)


def test_a_tokenizer_that_glues_words_together_is_refused(tiny_tokenizer: Any, corpus_folder: Path) -> None:
    glues = copy.deepcopy(tiny_tokenizer)
    glues.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for run in (
        lambda: rationale_eval.evaluate(model=tiny_bert(), tokenizer=glues, data=corpus_folder, progress=False),
        lambda: explain(["a", "dull", "film"], model=tiny_bert(), tokenizer=glues),
    ):
        with pytest.raises(ArgumentError, match="glues words together without add_prefix_space=True"):
            run()
    assert explain("a dull film", model=tiny_bert(), tokenizer=glues, methods=["attention"])  # a string has its spaces


def test_a_decoder_is_refused(tiny_tokenizer: Any) -> None:
    config = BartConfig(vocab_size=99, d_model=8, encoder_layers=1, decoder_layers=1, num_labels=2)
    config.encoder_attention_heads = config.decoder_attention_heads = 2
    model = BartForSequenceClassification(config)
    with pytest.raises(
        ArgumentError,
        match="^model: got a BartForSequenceClassification, must be an encoder",
    ):
        explain("a good film", model=model, tokenizer=tiny_tokenizer, methods=["saliency"])
