"""Options of a command, made from its dataclass of settings; a recipe fills in what the command line leaves out."""

from __future__ import annotations

import argparse
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeVar

from adapler.training.recipes import Option, options_of, read_recipe, settings_from, shown
from adapler.training.settings import option_name

T = TypeVar("T")


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
