"""Labels that mean the same under other names: NEG stands for negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LEAST_LETTERS = 3  # of an abbreviation


def abbreviated(known: Mapping[str, int], labels: Sequence[str]) -> dict[str, int]:
    """Labels of a data set that begin, in any case, with just one of the model's names or it with them, each with
    another one: label -> the model's index. Nothing where one of the labels does not.

    known: the model's name -> index.

    >>> abbreviated({"NEG": 0, "POS": 1}, ["positive", "negative"])
    {'positive': 1, 'negative': 0}
    """
    begins = {label: [name for name in known if one_begins(label, name)] for label in labels}
    if any(len(names) != 1 for names in begins.values()) or len({n for (n,) in begins.values()}) != len(labels):
        return {}
    return {label: known[name] for label, (name,) in begins.items()}


def one_begins(one: str, other: str) -> bool:
    """Whether one of two names is an abbreviation of the other, in any case: its first letters, three at least, and no
    more than one word.

    >>> one_begins("NEG", "negative"), one_begins("no", "not hateful"), one_begins("POS", "positively bad")
    (True, False, False)
    """
    short, long = sorted((one.lower(), other.lower()), key=len)
    return len(short) >= LEAST_LETTERS and long.startswith(short) and (len(long.split()) == 1 or short == long)
