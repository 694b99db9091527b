"""The model that `explain` loaded last by its name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapler.errors import ArgumentError
from analysis import explain, loading
from analysis.explanation import subject
from analysis.scores import LayerScores
from tests.analysis.conftest import BAD, GOOD


@pytest.fixture
def folder(tmp_path: Path, reducer: Any, tiny_tokenizer: Any) -> Path:
    reducer.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by what is loaded."""
    made: list[Any] = []
    load = loading.load_models

    def counted(*args: Any, **options: Any) -> Any:
        made.append(load(*args, **options))
        return made[-1]

    monkeypatch.setattr(loading, "load_models", counted)
    monkeypatch.setattr(subject, "_kept", [])
    return made


def test_a_folder_is_loaded_once(folder: Path, loads: list[Any]) -> None:
    methods = ["cp", "saliency", "attention", "integrated_gradients", "decompx"]
    first = explain(" ".join(GOOD), model=folder, methods=methods)
    other = explain(" ".join(BAD), model=folder, methods=methods, dtype="bfloat16")
    again = explain(" ".join(GOOD), model=str(folder), methods=methods)
    assert len(loads) == 1 and other.tokens != first.tokens
    for name in methods:
        assert np.array_equal(first.methods[name].scores, again.methods[name].scores), name
    explain(GOOD, model=folder, methods="cp")  # words: another tokenizer
    assert len(loads) == 2


def test_a_folder_with_other_weights_is_loaded_again(folder: Path, loads: list[Any], reducer: Any) -> None:
    first = explain(" ".join(GOOD), model=folder, methods="saliency")
    with torch.no_grad():
        for parameter in reducer.backbone.parameters():
            parameter.mul_(1.5)
    reducer.save_pretrained(folder)
    second = explain(" ".join(GOOD), model=folder, methods="saliency")
    assert len(loads) == 2
    assert not np.allclose(first.methods["saliency"].scores, second.methods["saliency"].scores)


def test_a_method_that_changes_the_model_or_fails_leaves_none(folder: Path, loads: list[Any]) -> None:
    def writes(model: Any, batch: Any) -> LayerScores:
        with torch.no_grad():
            next(model.parameters()).mul_(2)
        return LayerScores(torch.zeros(1, 3, batch.input_ids.shape[1]))

    def learns(model: Any, batch: Any) -> LayerScores:
        model(**batch.model_inputs()).logits.sum().backward()
        return LayerScores(torch.zeros(1, 3, batch.input_ids.shape[1]))

    def fails(model: Any, batch: Any) -> LayerScores:
        raise KeyboardInterrupt

    text = " ".join(GOOD)
    explain(text, model=folder, methods="attention")
    for number, method in enumerate((writes, learns), start=1):
        explain(text, model=folder, methods=[method])
        explain(text, model=folder, methods="attention")
        assert len(loads) == 1 + number, method.__name__
    with pytest.raises(KeyboardInterrupt):
        explain(text, model=folder, methods=[fails])
    with pytest.raises(ArgumentError):
        explain(text, model=folder, methods="attention", target="none such")
    explain(text, model=folder, methods="attention")
    assert len(loads) == 5


def test_nobody_has_a_model_twice(folder: Path, loads: list[Any]) -> None:
    def nested(model: Any, batch: Any) -> LayerScores:
        explain(" ".join(BAD), model=folder, methods="attention")
        return LayerScores(torch.zeros(1, 3, batch.input_ids.shape[1]))

    explain(" ".join(GOOD), model=folder, methods=[nested])
    assert len(loads) == 2 and loads[0][0] is not loads[1][0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({0: "X", 1: "X"}, "^id2label: labels 0 and 1 are both called 'X'$"),  # was shown with the other's probability
        ({1: "NEG", 2: "POS"}, "^id2label: has names for the labels 1, 2; the classifier's are 0 to 1$"),
        ({0: "A", 1: "B", 2: "C"}, "^id2label: has names for 3 labels, and BertForSequenceClassification gives 2"),
    ],
)
def test_labels_without_names_of_their_own(
    names: dict[Any, str], message: str, classifier: Any, tiny_tokenizer: Any
) -> None:
    classifier.config.id2label = names
    with pytest.raises(ArgumentError, match=message):
        explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="attention")


def test_names_under_numbers_as_text(classifier: Any, tiny_tokenizer: Any) -> None:
    expected = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="saliency", target="POS")
    classifier.config.id2label = {"0": "NEG", "1": "POS"}
    found = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="saliency", target="POS")
    assert found.to_dict() == expected.to_dict()


@pytest.mark.parametrize("asked", [{"target": 1}, {"target": "gold", "gold": 1}, {"gold": np.int64(1)}], ids=str)
def test_a_number_that_is_one_classs_index_and_anothers_name(
    asked: dict[str, Any], classifier: Any, tiny_tokenizer: Any
) -> None:
    classifier.config.id2label = {0: "1", 1: "0"}
    message = "1 is ambiguous: index 1 is '0', and there is a label called '1'; write it as text$"
    with pytest.raises(ArgumentError, match=f"^{'gold' if 'gold' in asked else 'target'}: {message}"):
        explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="saliency", **asked)
    named = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="saliency", target="1")
    classifier.config.id2label = {0: "NEG", 1: "POS"}
    index = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="saliency", target=0)
    assert np.array_equal(named.scores["saliency"], index.scores["saliency"])


METHODS = ["saliency", "attention", "integrated_gradients(n_steps=4)", "decompx", "occlusion"]


def test_a_configuration_that_asks_for_tuples(reducer: Any, tiny_tokenizer: Any) -> None:
    expected = explain(GOOD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp", *METHODS])
    reducer.config.return_dict = reducer.backbone.config.return_dict = False
    found = explain(GOOD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp", *METHODS])
    assert found.to_dict() == expected.to_dict() and reducer.backbone.config.return_dict is False


def test_a_model_that_was_made_in_inference_mode(classifier: Any, tiny_tokenizer: Any) -> None:
    expected = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods=METHODS)
    with torch.inference_mode():
        made = copy.deepcopy(classifier)
    assert next(made.parameters()).is_inference()
    found = explain(GOOD, model=made, tokenizer=tiny_tokenizer, methods=METHODS)
    assert found.to_dict() == expected.to_dict()


@pytest.mark.parametrize("kind", ["plain", "AdapLeR"])
def test_logits_that_are_no_numbers_have_no_label(kind: str, reducer: Any, tiny_tokenizer: Any) -> None:
    """A label was named, the first one, with the probability NaN."""
    with torch.no_grad():
        reducer.backbone.classifier.bias[0] = torch.nan
    model = reducer.backbone if kind == "plain" else reducer
    with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite, so that no label follows"):
        explain(GOOD, model=model, tokenizer=tiny_tokenizer, methods="attention")
