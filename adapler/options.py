"""One declaration of a command's settings: a dataclass gives the command line, the YAML recipe and the record.

    @dataclass
    class PredictOptions:
        \"\"\"Label the rows of a file.\"\"\"

        model: str = option("folder or hub name of the model", basic=True)
        batch_tokens: int = option("tokens of a batch", default=8192)

    parsed = parse(PredictOptions, ["--model", "runs/sst2"], prog="adapler predict")
    record(parsed.options)  # {"model": "runs/sst2", "batch_tokens": 8192}

A field that holds another dataclass is a group: its fields are options like the others, so names are unique over all
groups. Values come from, in falling precedence, the command line, a recipe (`--config FILE.yaml`), a preset
(`--preset NAME`) and the defaults. Built on transformers' HfArgumentParser, which is plain argparse underneath.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from adapler.errors import ArgumentError, CommandParser, DataError

__all__ = ["Parsed", "config_hash", "flag", "from_record", "option", "parse", "record"]

T = TypeVar("T")


def option(
    help: str,
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    basic: bool = False,
    choices: Sequence[Any] | None = None,
) -> Any:
    """A field of an options class.

    Args:
        help: one line for `--help`.
        default: value if none is given; without a default the option is required.
        default_factory: makes the default, for lists.
        basic: shown by `--help`; the others appear under `--help-all` only.
        choices: allowed values of a list's items; a `Literal` type has its own.
    """
    metadata: dict[str, Any] = {"help": help, "basic": basic}
    if choices is not None:
        metadata["choices"] = list(choices)
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


def flag(name: str) -> str:
    """The option of a field: `batch_tokens` is `--batch-tokens`."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """A parsed command line.

    Attributes:
        options: instance of the options class.
        given: names that the command line or the recipe sets.
    """

    options: T
    given: frozenset[str]


def parse(
    cls: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    example: str = "",
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    positional: str | None = None,
) -> Parsed[T]:
    """Parse a command line into an options class.

    Args:
        cls: dataclass whose fields are made by `option`; a field that is itself a dataclass is a group.
        argv: words of the command line; None takes those of the process.
        prog: name of the command in its help.
        example: shown below the help.
        presets: values by preset name; the first one is the default.
        positional: option that words without an option set.

    Raises:
        ArgumentError: a value out of range.
        DataError: a recipe that cannot be read, or with an unknown key.
        SystemExit: 0 after `--help`; 2 after a word that argparse does not take.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    show_all = "--help-all" in words
    parser = _parser(cls, prog=prog, example=example, presets=presets, show_all=show_all)
    if show_all or "-h" in words or "--help" in words:
        parser.print_help()
        raise SystemExit(0)
    source, words = _source(words, prog)
    recipe = {} if source.config is None else read_recipe(source.config, command=prog.split()[-1])
    name = source.preset or recipe.pop("preset", None) or next(iter(presets or {}), None)
    if name is not None and name not in (presets or {}):
        raise ArgumentError(f"--preset: {name!r} is not one of {', '.join(presets or {'(none)': {}})}")
    chosen = (presets or {}).get(name, {}) if name else {}
    if unknown := [key for key in recipe if key not in parser.names]:
        raise DataError(f"{source.config}: {unknown[0]!r} is no option of {prog}, see {prog} --help-all")
    parser.where = f"{source.config}: "
    from_recipe = vars(parser.parse_args(_words(recipe)))
    parser.where = ""
    namespace, bare = parser.parse_known_args(words)
    if bare and positional and not bare[0].startswith("-"):
        namespace, bare = parser.parse_known_args([flag(positional), *bare], namespace)
    if bare:
        parser.error(f"unrecognized arguments: {' '.join(bare)}")
    typed = vars(namespace)
    from_preset = vars(parser.parse_args(_words(chosen)))
    nulls = {key: None for key, value in recipe.items() if value is None}
    values = {**from_preset, **nulls, **from_recipe, **typed}
    if missing := [each for each in parser.required if each not in values]:
        parser.error(f"the following arguments are required: {', '.join(map(flag, missing))}")
    return Parsed(from_record(cls, values), frozenset({*nulls, *from_recipe, *typed}))


def record(options: Any) -> dict[str, Any]:
    """An options instance as a flat dict of plain JSON values, in the order of declaration."""
    values: dict[str, Any] = {}
    for one in dataclasses.fields(options):
        value = getattr(options, one.name)
        if dataclasses.is_dataclass(value):
            values |= record(value)
        elif isinstance(value, Path):
            values[one.name] = str(value)
        else:
            values[one.name] = list(value) if isinstance(value, (list, tuple)) else value
    return values


def from_record(cls: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of `record`: an options instance from a flat mapping; what is missing has its default.

    Raises:
        ArgumentError: a value that the class refuses.
    """
    arguments: dict[str, Any] = {}
    hints = get_type_hints(cls)
    for one in dataclasses.fields(cls):  # type: ignore[arg-type]
        kind = hints[one.name]
        if dataclasses.is_dataclass(kind):
            arguments[one.name] = from_record(kind, values)  # type: ignore[arg-type]
        elif one.name in values:
            value = values[one.name]
            arguments[one.name] = Path(value) if isinstance(value, str) and "Path" in str(kind) else value
    return cls(**arguments)


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of a record, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def read_recipe(path: str | Path, *, command: str | None) -> dict[str, Any]:
    """The mapping of option names to values in a YAML recipe, without its `command`.

    Raises:
        DataError: no such file, not YAML, not a mapping, or a recipe of another command.
    """
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected a mapping of option names to values")
    recipe_of = values.pop("command", command)
    if command is not None and recipe_of != command:
        raise DataError(f"{path}: a recipe of {recipe_of!r}, not of {command!r}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _groups(cls: type) -> Iterator[tuple[str | None, list[dataclasses.Field[Any]]]]:
    """(title, fields) of a class's own options, then of each group; the types of the fields are resolved."""
    hints = get_type_hints(cls)
    own: list[dataclasses.Field[Any]] = []
    groups: list[tuple[str | None, list[dataclasses.Field[Any]]]] = []
    for one in dataclasses.fields(cls):
        kind = hints[one.name]
        if dataclasses.is_dataclass(kind):
            title = (kind.__doc__ or "").strip().split("\n")[0].rstrip(".")
            groups += [(name or title, group) for name, group in _groups(kind)]  # type: ignore[arg-type]
            continue
        one.type = kind
        own.append(one)
    yield None, own
    yield from groups


def _parser(
    cls: type, *, prog: str, example: str, presets: Mapping[str, Any] | None, show_all: bool
) -> Any:  # a CommandParser with `names` and `required`
    from transformers.hf_argparser import HfArgumentParser

    class Parser(CommandParser, HfArgumentParser):  # type: ignore[misc]
        names: list[str]
        required: list[str]

    description = (cls.__doc__ or "").strip().split("\n\n")[0]
    more = "" if show_all else f"{prog} --help-all shows all options."
    epilog = "\n".join(part for part in (example and f"example: {example}", more) if part)
    make: Any = Parser
    parser = make(
        [], prog=prog, description=description, epilog=epilog, add_help=False, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.names, parser.required = [], []
    parser.add_argument("--help", "-h", action="store_true", help="show this help")
    parser.add_argument("--config", metavar="FILE.yaml", help="a recipe; the command line wins")
    if presets:
        first = next(iter(presets))
        parser.add_argument("--preset", choices=list(presets), help=f"a set of defaults (default: {first})")
    for title, fields in _groups(cls):
        shown = show_all or any(one.metadata.get("basic") for one in fields)
        place = parser.add_argument_group(title) if title and shown else parser
        for one in fields:
            _add(parser, place, one, visible=show_all or bool(one.metadata.get("basic")))
    for action in parser._actions:
        if action.dest in ("help", "config", "preset"):
            action.default = argparse.SUPPRESS
    return parser


def _add(parser: Any, place: Any, one: dataclasses.Field[Any], *, visible: bool) -> None:
    """Add a field's option, without a default: only what is typed appears in the namespace."""
    default = one.default_factory() if one.default_factory is not MISSING else one.default
    if default is MISSING:
        parser.required.append(one.name)
    parser.names.append(one.name)
    metadata = {key: value for key, value in one.metadata.items() if key != "basic"}
    bare: Any = dataclasses.field(metadata=metadata)
    if isinstance(default, list):
        bare.default_factory = lambda: default
    else:
        bare.default = None if default is MISSING else default
    bare.name, bare.type = one.name, one.type
    before = len(parser._actions)
    parser._parse_dataclass_field(place, bare)
    for action in parser._actions[before:]:
        action.default = argparse.SUPPRESS
        negated = action.const is False
        action.option_strings = [each for each in action.option_strings if "_" not in each]
        if not visible or negated:
            action.help = argparse.SUPPRESS
        elif default not in (MISSING, None, [], False, "") and "default:" not in metadata["help"]:
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            action.help = f"{metadata['help']} (default: {shown})".replace("%", "%%")
        else:
            action.help = metadata["help"].replace("%", "%%")


def _source(words: list[str], prog: str) -> tuple[argparse.Namespace, list[str]]:
    """The recipe and the preset of a command line, and its other words."""
    first = CommandParser(prog=prog, add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    first.add_argument("--preset")
    return first.parse_known_args(words)


def _words(values: Mapping[str, Any]) -> list[str]:
    """A mapping as words of a command line; null is left out."""
    words: list[str] = []
    for key, value in values.items():
        if value is not None:
            items = value if isinstance(value, (list, tuple)) else [value]
            words += [flag(key), *(str(item).lower() if isinstance(item, bool) else str(item) for item in items)]
    return words
