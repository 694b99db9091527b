"""A gold label, as a corpus or a file writes it -> a class of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapler.data import match_labels


@dataclass(frozen=True)
class Gold:
    """What a gold label is for a model.

    index      the class of the model, None where the label is none of the model's
    by_number  it was found by its number: the names say nothing about each other
    """

    index: int | None
    by_number: bool = False


def match(label: str, names: Sequence[str], *, known: Sequence[str] = ()) -> Gold:
    """The class that a label means, by the rule of an evaluation, which is one for all labels that are known: by name,
    in any case, where all are names; else by number where all are numbers of a class and none is a name, too: of 0 and
    1 beside classes called 1 and 2 nobody can say which is meant. Where some are names, the others are none of the
    model's. Where none is, by a name that it begins with or that begins with it (NEG, negative).

    Args:
        label: as the text's corpus or file has it. A whole number and LABEL_3 are numbers of a class.
        names: the model's classes, in their order.
        known: all labels of the corpus or file, in their order; without any, the label is alone. They are numbered in
            this order where the model's classes have no names (LABEL_3) and there are as many of both.
    """
    known = known if label in known else (label,)
    lower = [name.lower() for name in names]
    named = [one for one in known if one.lower() in lower]
    numbers, classes = [_number(one) for one in known], [str(index) for index in range(len(names))]
    if len(named) < len(known) and all(numbers):
        clear = not named and set(numbers) <= set(classes)
        return Gold(classes.index(_number(label)), by_number=True) if clear else Gold(None)
    if named:
        return Gold(lower.index(label.lower()) if label in named else None)
    if len(known) == len(names) and all(name.startswith("label_") for name in lower):
        return Gold(list(known).index(label), by_number=True)
    found = match_labels(known, names)
    return Gold(None if found is None else found[list(known).index(label)])


def _number(label: str) -> str:
    """The number that a label is, without leading zeros; "" where it is none. As text: Python reads no number of 5000
    digits."""
    number = label.lower().removeprefix("label_")
    return (number.lstrip("0") or "0") if number.isascii() and number.isdigit() else ""
