"""`name(option=value, ...)` as text, and the values that an option takes."""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from adapler.errors import ArgumentError

Option = bool | int | float | str
_TYPES = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}  # as messages name them

_SPEC = re.compile(r"\s*([\w.-]+)\s*\((.*)\)\s*", re.DOTALL)
_ITEM = re.compile(r"""\s*([A-Za-z_]\w*)\s*=\s*('[^']*'|"[^"]*"|[^'"(),=\[\]{}*]+?)\s*(?:,|$)""")


@dataclass(frozen=True)
class AtLeast:
    """The lowest value of an option, in its annotation: `n_samples: Annotated[int, AtLeast(2)] = 50`."""

    value: float


def parse_spec(spec: str) -> tuple[str, dict[str, Option]]:
    """`name(option=value)` -> its parts. Values are numbers, True or False, quoted strings or words.

    Nothing is run.

    >>> parse_spec("saliency(target=contrast:NEG)")
    ('saliency', {'target': 'contrast:NEG'})

    Raises ArgumentError for anything else.
    """
    wrong = ArgumentError(f"method {spec!r} must be NAME or NAME(OPTION=VALUE, ...) with plain values")
    if "(" not in spec:
        return spec.strip(), {}
    whole = _SPEC.fullmatch(spec)
    if whole is None:
        raise wrong
    name, rest = whole.groups()
    values: dict[str, Option] = {}
    while rest.strip():
        item = _ITEM.match(rest)
        if item is None or item[1] in values:
            raise wrong
        values[item[1]] = _value(item[2])
        rest = rest[item.end() :]
    return name, values


def _value(text: str) -> Option:
    """A number, True, False or a quoted string; any other text stands for itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, Option) else text


def check_option(method: str, function: Callable[..., Any], option: str, value: Any, *, default: Option) -> Option:
    """`value` when the option's annotation (or, without one, the type of its default) allows it.

    Raises ArgumentError with what is allowed: types and words, or the lowest value (see AtLeast).
    """
    try:
        annotation = inspect.signature(function, eval_str=True).parameters[option].annotation
    except NameError:  # an annotation that cannot be resolved outside the function's own scope says nothing here
        annotation = inspect.Parameter.empty
    parts = _parts(annotation) or (type(default),)
    for part in parts:
        if get_origin(part) is Literal and any(type(one) is type(value) and one == value for one in get_args(part)):
            return value  # type: ignore[no-any-return]
        if type(value) is part or (part is float and type(value) is int):
            found: Option = part(value)
            if isinstance(found, float) and not math.isfinite(found):
                raise ArgumentError(f"method {method!r}: {option} got {value!r}, must be a finite number")
            _check_lowest(method, option, found, annotation)
            return found
    choices = [str(one) for part in parts if get_origin(part) is Literal for one in get_args(part)]
    types = [_TYPES[part] for part in parts if get_origin(part) is not Literal]
    where = f"method {method!r}: {option} got {value!r}"
    if not types:
        raise ArgumentError(f"{where}, allowed are {', '.join(choices)}")
    raise ArgumentError(f"{where}, must be {' or '.join([*types, *map(repr, choices)])} (default {default!r})")


def _check_lowest(method: str, option: str, value: Option, annotation: Any) -> None:
    """Raises ArgumentError for a number below what its annotation says, which may be a part of a union."""
    if get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            _check_lowest(method, option, value, one)
    elif get_origin(annotation) is Annotated:
        for bound in annotation.__metadata__:
            if isinstance(bound, AtLeast) and not isinstance(value, str) and not value >= bound.value:
                raise ArgumentError(f"method {method!r}: {option} got {value!r}, must be at least {bound.value:g}")


def _parts(annotation: Any) -> tuple[Any, ...]:
    """The plain types and Literals of an annotation; none where it says nothing."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(part for one in get_args(annotation) for part in _parts(one))
    return (annotation,) if get_origin(annotation) is Literal or annotation in (bool, int, float, str) else ()
