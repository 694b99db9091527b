"""The labels of a data set: their names and numbers, and which mean the same under other names (NEG is negative)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from adapler.data.archive import excerpt
from adapler.errors import DataError, ambiguous

LEAST_LETTERS = 3  # of an abbreviation

_HINT = " (only `adapler run --classifier ... --freeze-backbone` and its stages can do without)"


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


def label_of(row: Mapping[str, Any], at: str) -> int | str:
    """The label of a row that must have one, as it is written; `at` names the row in messages."""
    if "label" not in row:
        raise DataError(f"{at}: has no 'label', its fields are {', '.join(map(repr, row))}{_HINT}")
    label = row["label"]
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "" or str(label).isspace():
        raise DataError(f"{at}: 'label' must be an index or a name, found {excerpt(label)}")
    return label


def names_of(found: Collection[int | str], where: str) -> tuple[str, ...]:
    """The names of all labels of a data set: its texts, sorted (as numbers where they are), or its indices 0, 1, ... as
    texts.

    Args:
        found: each label once, as it is written.
        where: the file, for messages.

    Raises:
        DataError: texts and numbers, numbers that leave one out, or a single label.
    """
    texts = [label for label in found if isinstance(label, str)]
    if len(texts) == len(found):
        names = tuple(sorted(texts, key=int if all(map(_is_number, texts)) else None))
    elif set(found) == set(range(len(found))):
        names = tuple(str(index) for index in sorted(found))
    else:
        shown = ", ".join(sorted(map(repr, found))[:6])
        raise DataError(f"{where}: labels without meta.json must be strings or 0, 1, 2, ..., found {shown}")
    if len(names) < 2:
        raise DataError(f"{where}: only one label, {names[0]!r}; two are needed")
    return names


def names_among(found: Collection[int | str], known: Sequence[str], where: str, *, typed: bool) -> tuple[str, ...]:
    """The names of a data set's labels beside those of a classifier, of which it may lack some: its own name for each
    label that it has, in the classifier's order where the names say which is which.

    Args:
        found, where: see `names_of`. typed: see `SplitFile.is_typed`.
        known: the classifier's names, by number.

    Raises:
        DataError: some names are none of the classifier's; other names are numbered, as many as it has, where none of
            them is like one of its.
    """
    if not any(isinstance(label, str) for label in found):
        return tuple(known)
    texts = list(map(str, found))
    if set(texts) <= set(known):
        return tuple(known)
    numbers = {name.lower(): number for number, name in enumerate(known)}
    meant = {text: numbers[text.lower()] for text in texts if text.lower() in numbers}
    if len(meant) < len(texts) or len(set(meant.values())) < len(texts):
        meant = abbreviated(numbers, texts)
    if meant:
        own = {number: text for text, number in meant.items()}
        return tuple(own.get(number, name) for number, name in enumerate(known))
    if not typed and all(map(_is_number, texts)) and not any(map(_is_number, known)):
        return tuple(known)
    alike = any(text.lower() in numbers or one_begins(text, name) for text in texts for name in known)
    if not alike and len({text.lower() for text in texts}) == len(texts) == len(known):
        return names_of(found, where)
    shown, allowed = ", ".join(sorted(texts)[:6]), ", ".join(known)
    raise DataError(f"{where}: labels {shown} are not among the classifier's, {allowed} (or 0 to {len(known) - 1})")


def index_of(row: Mapping[str, Any], at: str, *, names: Mapping[str, int], typed: bool) -> int:
    """The number of a row's label.

    Args:
        row, at: see `label_of`.
        names: name -> number, of all labels.
        typed: see `SplitFile.is_typed`; without types, digits are a name where a name is a number, else a number.

    Raises:
        DataError: no label, one that is not known, or a number that is another label's name.
    """
    label = label_of(row, at)
    listed = list(names)
    named = any(map(_is_number, listed))  # labels such as "1" to "5"
    if not typed and not named and isinstance(label, str) and _is_number(label):
        label = int(label)
    # Names that are numbers in another order, such as "1" and "2": which one a number means cannot be known.
    elif not isinstance(label, str) and (reason := ambiguous(label, dict(enumerate(listed)))):
        raise DataError(f"{at}: label {reason}")
    index = names.get(label, -1) if isinstance(label, str) else label
    if not 0 <= index < len(names):
        allowed = f"{'' if named else f'0 to {len(names) - 1} or '}{', '.join(listed[:20])}"
        raise DataError(f"{at}: unknown label {label!r}, allowed are {allowed}")
    return index


def _is_number(text: str) -> bool:
    """Whether a text is a number from 0 as Python writes it."""
    return text == "0" or (text.isascii() and text.isdecimal() and text[0] != "0" and len(text) < 19)
