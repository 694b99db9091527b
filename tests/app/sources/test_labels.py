from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedConfig

from analysis.loading import gold_indices
from app.sources.labels import Gold, match

NAMES = ("NEG", "POS")


@pytest.mark.parametrize(
    ("label", "names", "known", "expected"),
    [
        ("NEG", NAMES, (), Gold(0)),
        ("neg", NAMES, (), Gold(0)),
        ("Pos", NAMES, ("Neg", "Pos", "Mixed"), Gold(1)),
        ("Mixed", NAMES, ("Neg", "Pos", "Mixed"), Gold(None)),
        ("1", NAMES, (), Gold(1, by_number=True)),
        ("01", NAMES, (), Gold(1, by_number=True)),
        ("2", NAMES, (), Gold(None)),
        ("1" * 5000, NAMES, (), Gold(None)),
        ("LABEL_1", NAMES, (), Gold(1, by_number=True)),
        ("POS", ("LABEL_0", "LABEL_1"), NAMES, Gold(1, by_number=True)),
        ("POS", ("anger", "joy"), NAMES, Gold(None)),
        ("POS", ("anger", "joy", "fear"), NAMES, Gold(None)),
        ("positive", NAMES, ("negative", "positive"), Gold(1)),
        ("positive", NAMES, ("positive",), Gold(1)),
        ("positive", ("POS", "NEG"), ("negative", "positive"), Gold(0)),
        ("NEG", ("positive", "negative"), NAMES, Gold(1)),
        ("neg", ("positive", "negative"), (), Gold(1)),
        ("neg", ("negative", "negligible"), ("neg", "pos"), Gold(None)),
        ("1", ("1", "0"), (), Gold(0)),
        ("1", ("1", "2"), ("0", "1"), Gold(None)),
        ("0", ("1", "2"), ("0", "1"), Gold(None)),
        ("1", ("1", "2"), ("1", "2"), Gold(0)),
        ("1", NAMES, ("1", "2"), Gold(None)),
        ("1", NAMES, ("NEG", "1"), Gold(None)),
        ("NEG", NAMES, ("NEG", "1"), Gold(0)),
        ("2", ("20", "30"), (), Gold(None)),
        ("\u00b2", NAMES, (), Gold(None)),
        ("", NAMES, (), Gold(None)),
    ],
)
def test_labels_are_matched_as_an_evaluation_does(label: str, names: Any, known: Any, expected: Gold) -> None:
    assert match(label, names, known=known) == expected


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("positive", "negative"), NAMES),
        (("pos", "neg"), NAMES),
        (("LABEL_0", "LABEL_1"), NAMES),
        (("1", "2"), ("1", "2")),
    ],
)
def test_an_evaluation_has_the_same_classes(names: tuple[str, str], labels: tuple[str, str]) -> None:
    examples = [SimpleNamespace(id=label, label=label) for label in labels]
    config = PreTrainedConfig(id2label=dict(enumerate(names)))
    wanted = gold_indices(SimpleNamespace(config=config), SimpleNamespace(name="films", labels=labels), examples)
    assert [match(label, names, known=labels).index for label in labels] == wanted
