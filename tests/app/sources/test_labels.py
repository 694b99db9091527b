from __future__ import annotations

from typing import Any

import pytest

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
        ("2", NAMES, (), Gold(None)),
        ("LABEL_1", NAMES, (), Gold(1, by_number=True)),
        ("POS", ("LABEL_0", "LABEL_1"), NAMES, Gold(1, by_number=True)),
        ("POS", ("anger", "joy"), NAMES, Gold(1, by_number=True)),
        ("POS", ("anger", "joy", "fear"), NAMES, Gold(None)),
        ("positive", NAMES, ("negative", "positive"), Gold(1, by_number=True)),
        ("positive", NAMES, ("positive",), Gold(None)),
        ("1", ("1", "0"), (), Gold(0)),
        ("\u00b2", NAMES, (), Gold(None)),
        ("", NAMES, (), Gold(None)),
    ],
)
def test_labels_are_matched_by_name_and_else_by_number(label: str, names: Any, known: Any, expected: Gold) -> None:
    assert match(label, names, known=known) == expected
