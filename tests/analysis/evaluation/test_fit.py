"""Which of the model's labels each label of a corpus is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedConfig

from adapler.errors import ArgumentError
from analysis.evaluation.fit import gold_indices, input_length

CLASSES = [f"class{i}" for i in range(1, 11)]


def found(model: list[str], corpus: list[str]) -> list[int]:
    config = PreTrainedConfig(id2label=dict(enumerate(model)))
    config.label2id = {name: index for index, name in enumerate(reversed(model))}  # nobody asks it
    examples = [SimpleNamespace(id=label, label=label) for label in corpus]
    return gold_indices(SimpleNamespace(config=config), SimpleNamespace(labels=tuple(corpus)), examples)


@pytest.mark.parametrize(
    ("model", "corpus", "expected"),
    [
        (["NEG", "POS"], ["POS", "NEG"], [1, 0]),
        (["NEG", "POS"], ["POS", "neg"], [1, 0]),  # one is the same as it stands
        (CLASSES, [name.upper() for name in CLASSES], list(range(10))),  # one begins another
        (["NEG", "POS", "MIXED"], ["pos", "Mixed"], [1, 2]),
        (["a", "A"], ["A", "a"], [1, 0]),  # the case is all that parts them
        (["NEG", "POS"], ["Positive", "negative"], [1, 0]),
        (["POSITIVE", "NEGATIVE"], ["NEG", "pos"], [1, 0]),
        (["no", "yes"], ["1", "0"], [1, 0]),
        (["1", "2", "3"], ["2", "1"], [1, 0]),  # numbers that are names, and no indices
        (["LABEL_0", "LABEL_1"], ["bad", "good"], [0, 1]),
    ],
)
def test_labels_are_matched_by_name_in_any_case(model: list[str], corpus: list[str], expected: list[int]) -> None:
    assert found(model, corpus) == expected


@pytest.mark.parametrize(
    ("model", "corpus", "label"),
    [
        (["NEG", "POS"], ["POS", "MIXED"], "MIXED"),
        (["NEG", "POS"], ["negative", "pos", "mixed"], "mixed"),
        (["NEG", "POS"], ["POS", "neg", "Neg"], "neg"),
        (["a", "A", "b"], ["a", "B"], "B"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["bad", "good"], "bad"),  # which of three are they?
    ],
)
def test_a_label_that_could_be_two_or_is_none_of_them_is_refused(
    model: list[str], corpus: list[str], label: str
) -> None:
    with pytest.raises(ArgumentError, match=f"^document {label}: label '{label}' is not among the model's labels, "):
        found(model, corpus)


@pytest.mark.parametrize(
    "options", [{"num_labels": 1}, {"num_labels": 2, "problem_type": "multi_label_classification"}]
)
def test_a_model_that_does_not_choose_one_of_several_labels_is_refused(options: dict[str, Any]) -> None:
    model = SimpleNamespace(config=PreTrainedConfig(**options))
    with pytest.raises(ArgumentError, match=r"^(num_labels|problem_type): "):
        gold_indices(model, SimpleNamespace(labels=("NEG", "POS")), [])


def test_a_class_of_ones_own_is_taken_at_its_word() -> None:
    config = SimpleNamespace(id2label={0: "NEG", 1: "POS"})
    example = SimpleNamespace(id="one", label="POS")
    assert gold_indices(SimpleNamespace(config=config), SimpleNamespace(labels=("NEG", "POS")), [example]) == [1]


def test_a_model_without_a_longest_input() -> None:
    """XLNet says -1."""
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=-1))
    assert (input_length(model, None), input_length(model, 2000)) == (512, 2000)
