"""A gold label, as a corpus or a file writes it -> a class of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.evaluation.fit import abbreviated


@dataclass(frozen=True)
class Gold:
    """What a gold label is for a model.

    index      the class of the model, None where the label is none of the model's
    by_number  it was found by its number: the names say nothing about each other
    """

    index: int | None
    by_number: bool = False


def match(label: str, names: Sequence[str], *, known: Sequence[str] = ()) -> Gold:
    """The class that a label means, by the rule of an evaluation: by name in any case, by a name that it begins with
    or that begins with it (NEG, negative), else by number.

    Args:
        label: as the text's corpus or file has it. A whole number and LABEL_3 are numbers of a class.
        names: the model's classes, in their order.
        known: all labels of the corpus or file, in their order. They are numbered in this order where the model's
            classes have no names (LABEL_3) and there are as many of both.
    """
    lower = [name.lower() for name in names]
    if label.lower() in lower:
        return Gold(lower.index(label.lower()))
    number = label.lower().removeprefix("label_")
    if number.isascii() and number.isdigit():
        numbers = [str(index) for index in range(len(names))]  # as text: Python reads no number of 5000 digits
        plain = number.lstrip("0") or "0"
        return Gold(numbers.index(plain), by_number=True) if plain in numbers else Gold(None)
    if len(known) == len(names) and label in known and all(name.startswith("label_") for name in lower):
        return Gold(list(known).index(label), by_number=True)
    if {one.lower() for one in known} & set(lower):
        return Gold(None)
    return Gold(abbreviated({name: index for index, name in enumerate(names)}, known or [label]).get(label))
