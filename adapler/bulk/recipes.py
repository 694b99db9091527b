"""From dataclasses of settings to options, and from a flat mapping of names to settings; recipes in YAML."""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from adapler.errors import ArgumentError, DataError

T = TypeVar("T")


def check_numbers(values: Any, names: Any, *, low: float, strict: bool = False, below: float = math.inf) -> None:
    """Raises ArgumentError for the first of the named values that is out of [low, below); None is allowed."""
    for name in names:
        value = getattr(values, name)
        if value is None or ((value > low if strict else value >= low) and value < below):
            continue
        if below < math.inf:
            allowed = f"in {'(' if strict else '['}{low:g}, {below:g})"
        elif isinstance(value, int) and not strict:
            allowed = f"at least {low:g}"
        else:
            allowed = f"a number {'above' if strict else 'of at least'} {low:g}"
        raise ArgumentError(f"{option_name(name)}: {value} is not {allowed}")


def check_choices(values: Any, **choices: Any) -> None:
    """Raises ArgumentError for the first value that is not one of its choices, a Literal; None is allowed."""
    for name, allowed in choices.items():
        value = getattr(values, name)
        if value is not None and value not in allowed.__args__:
            raise ArgumentError(f"{option_name(name)}: {value!r} is not one of {', '.join(allowed.__args__)}")


def option_name(name: str) -> str:
    """How a field is called on the command line: `max_length` is `--max-length`."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Option:
    """One field of a settings class, or of a group of settings in it.

    Attributes:
        name: the field's, which is the key in a recipe.
        kind: type of one value: bool, int, float, str or Path.
        choices: the allowed values of a str; empty: any.
        several: whether it takes a list of values.
        default: the field's default; MISSING when a value is needed.
        help: the docstring under the field.
        group: first line of the docstring of the group that declares it; None for the command's own.
        positional: its name on the command line when it is no option but an argument.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    several: bool
    default: Any
    help: str
    group: str | None
    positional: str | None


@cache
def _own_docstrings(cls: type) -> Mapping[str, str]:
    """The docstring under each field that a dataclass itself declares; read once, for reading source takes long."""
    found: dict[str, str] = {}
    body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body[0]
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for one, following in zip(statements, statements[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[one.target.id] = " ".join(text.value.split())
    return found


def field_docstrings(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of its bases, white space collapsed."""
    return dict(item for base in reversed(cls.__mro__) if is_dataclass(base) for item in _own_docstrings(base).items())


def options_of(cls: type) -> list[Option]:
    """The options of a command, in the order of its fields; those of a group stand where the group does."""
    hints, texts = get_type_hints(cls), field_docstrings(cls)
    options: list[Option] = []
    for one in fields(cls):
        group, many = _group_of(hints[one.name])
        if group is None:
            options.append(_option(one, hints[one.name], text=texts[one.name], default=_default(one)))
            continue
        given = _default(one)
        given = given[0] if many and given is not MISSING else given
        title = (group.__doc__ or "").strip().split("\n")[0].rstrip(".")
        group_hints, group_texts = get_type_hints(group), field_docstrings(group)
        for part in fields(group):
            default = _default(part) if given is MISSING else getattr(given, part.name)
            several = many and bool(part.metadata.get("several"))
            options.append(
                _option(
                    part,
                    group_hints[part.name],
                    text=group_texts[part.name] + ("; several values give a trade-off" if several else ""),
                    default=(default,) if several and default is not None else default,
                    group=title,
                    several=several,
                )
            )
    return options


def settings_from(cls: type[T], values: Mapping[str, Any]) -> T:
    """Settings of a command from a flat mapping of option names to values of the right type.

    What is missing has its default.

    Raises:
        ArgumentError: a needed value is missing, or one is not allowed.
    """
    names = {option.name: option for option in options_of(cls)}
    missing = [name for name, option in names.items() if option.default is MISSING and name not in values]
    if missing:
        option = names[missing[0]]
        raise ArgumentError(f"{option.positional or option_name(missing[0])}: needed, and not given")
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for one in fields(cls):  # type: ignore[arg-type]
        group, many = _group_of(hints[one.name])
        if group is None:
            if one.name in values:
                arguments[one.name] = values[one.name]
            continue
        given = {part.name: values[part.name] for part in fields(group) if part.name in values}
        base = _default(one)
        base = base[0] if many and base is not MISSING else base
        several = [part.name for part in fields(group) if many and part.metadata.get("several") and part.name in given]
        lists = [(name, (None,) if given[name] is None else given[name]) for name in several]  # null is no list
        values_of = [[(name, value) for value in values] for name, values in lists]
        rows = [{**given, **dict(chosen)} for chosen in itertools.product(*values_of)]  # [given] where none is several
        made = tuple(group(**row) if base is MISSING else replace(base, **row) for row in rows)
        arguments[one.name] = made if many else made[0]
    return cls(**arguments)


def read_recipe(path: str | Path, cls: type, *, command: str) -> dict[str, Any]:
    """The values in a recipe: a YAML mapping of option names to values, and `command`, whose recipe it is.

    Args:
        path: of the file.
        cls: the command's settings.
        command: its name.

    Raises:
        DataError: no such file, not YAML, not a mapping, a key that the command does not take or that is there
            twice, a value of another type, or a record of what a command did. The message names the file, the line and
            what is allowed.
    """
    options = {option.name: option for option in options_of(cls)}
    found: dict[str, Any] = {}
    recipe_of = None
    entries = recipe_entries(Path(path))
    keys = {key for _, key, _ in entries}
    if keys & {"versions", "data_checksum"}:  # of run.json, an evaluation or a calibration; JSON is YAML
        typed = "; its `arguments` say what was typed" if "arguments" in keys else ""
        raise DataError(f"{path}: the record of what a command did, not a recipe{typed}")
    for line, key, value in entries:
        where = f"{path}:{line}"
        if key in found or (key == "command" and recipe_of is not None):
            raise DataError(f"{where}: {key!r} is there twice")
        if key == "command":
            recipe_of = value
            if value != command:
                raise DataError(f"{where}: a recipe of `adapler {value}`, not of `adapler {command}`")
        elif key not in options:
            raise DataError(f"{where}: {key!r} is no setting of `adapler {command}`, which takes {', '.join(options)}")
        else:
            found[key] = _typed(value, options[key], where=where)
    if recipe_of is None:
        raise DataError(f"{path}: has no `command`, which says whose recipe it is: `command: {command}`")
    return found


def recipe_entries(path: Path) -> list[tuple[int, str, Any]]:
    """Line, key and value of a YAML mapping, also of one whose keys come twice.

    Raises:
        DataError: no such file, not YAML, a value that is not what its tag or form says, or not a mapping. The message
            names the file and, where it is known, the line.
    """
    entries: list[tuple[int, str, Any]] = []
    line = None
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise DataError(f"{path}: a mapping of settings to values is expected")
        for key, value in node.value:
            line = key.start_mark.line + 1
            name, content = (loader.construct_object(one, deep=True) for one in (key, value))
            entries.append((line, str(name), content))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such recipe") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    # the loader lets its own errors out: of "2024-13-01", "!!int ''", "!!bool x", "!!timestamp x" each another one
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = line if mark is None else mark.line + 1
        reason = getattr(error, "problem", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path if line is None else f'{path}:{line}'}: not YAML ({reason})") from error
    return entries


def _typed(value: Any, option: Option, *, where: str) -> Any:
    if value is None and option.default is None:
        return None
    if option.several:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise DataError(f"{where}: {option.name} is an empty list, allowed: one value or several")
        single = replace(option, several=False, default=MISSING)  # no default stands in a list
        return tuple(_typed(one, single, where=where) for one in values)
    kind = option.kind
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML takes 1e-3 for text; it wants 1.0e-3
        except (ValueError, OverflowError):  # no number, or a whole one of hundreds of digits
            pass
    if option.choices and isinstance(value, bool):  # YAML takes yes and no for true and false
        value = "yes" if value else "no"
    if kind in (str, Path) and isinstance(value, str) and (not option.choices or value in option.choices):
        return kind(value)
    if kind in (bool, int) and type(value) is kind:
        return value
    wanted = ", ".join(option.choices) or {
        bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"
    }[kind]  # fmt: skip
    raise DataError(f"{where}: {option.name} is {repr(value)[:80]}, allowed: {wanted}")


def _group_of(hint: Any) -> tuple[type | None, bool]:
    """(the settings class that a field holds, whether it holds several of it)"""
    if is_dataclass(hint) and isinstance(hint, type):
        return hint, False
    if get_origin(hint) is tuple and is_dataclass(inner := get_args(hint)[0]) and isinstance(inner, type):
        return inner, True
    return None, False


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _option(
    one: Field[Any], hint: Any, *, text: str, default: Any, group: str | None = None, several: bool = False
) -> Option:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        several, hint = True, get_args(hint)[0]
    choices = tuple(get_args(hint)) if get_origin(hint) is Literal else ()
    return Option(
        name=one.name,
        kind=str if choices else hint,
        choices=choices,
        several=several,
        default=default,
        help=text,
        group=group,
        positional=one.metadata.get("positional"),
    )


def shown(value: Any) -> str:
    """A default as the help shows it."""
    if isinstance(value, tuple):
        return " ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def add_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Adds an option for each field of a settings class, and --config.

    None of them has a default in argparse: what is not typed does not appear in the namespace, so a recipe can give
    it, see `chosen`.
    """
    parser.set_defaults(settings_class=cls)
    parser.add_argument(
        "--config", type=Path, metavar="RECIPE.yaml", help="settings from a file; options on the command line win"
    )
    groups: dict[str, Any] = {}
    for option in options_of(cls):
        place: Any = parser
        if option.group is not None:
            place = groups[option.group] = groups.get(option.group) or parser.add_argument_group(option.group)
        _add(place, option)


def _add(place: Any, option: Option) -> None:
    text = option.help.replace("%", "%%")
    shows = option.default not in (MISSING, None, ()) and option.default is not False  # 0 is a default, too
    if "default:" not in text and shows:
        text += f" (default: {shown(option.default)})".replace("%", "%%")
    settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
    if option.kind is bool:
        place.add_argument(option_name(option.name), action=argparse.BooleanOptionalAction, **settings)
        return
    kind = _split_name if option.choices and "validation" in option.choices else option.kind
    settings |= {"type": kind, "choices": option.choices or None}
    if option.positional:
        place.add_argument(option.name, nargs="*", metavar=option.positional, **settings)
        return
    place.add_argument(option_name(option.name), nargs="+" if option.several else None, **settings)


def _split_name(text: str) -> str:
    """The split that is meant: ERASER calls validation val, others dev, and the evaluation of rationales takes all."""
    return "validation" if text in ("val", "dev") else text


def chosen(args: argparse.Namespace) -> Any:
    """The settings that a command line stands for: typed options, else the recipe's, else the defaults.

    Raises:
        ArgumentError, DataError: see `settings_from`, `read_recipe` and the settings' own `check_given`.
    """
    cls: type = args.settings_class
    names = {option.name: option for option in options_of(cls)}
    recipe = {} if args.config is None else read_recipe(args.config, cls, command=args.command)
    typed = {
        name: tuple(value) if names[name].several else value
        for name, value in vars(args).items()
        if name in names and not (names[name].positional and not value)
    }
    settings: Any = settings_from(cls, recipe | typed)
    if hasattr(settings, "check_given"):
        settings.check_given(name for name in names if (name in recipe) != (name in typed))  # both: one is taken back
    return settings
