"""Settings of commands, checks of values, and classes by name.

A setting is declared once: a dataclass gives the command line, the YAML recipe and the record.

    @dataclass
    class PredictOptions(Checked):
        \"\"\"Label the rows of a file.\"\"\"

        model: str = option("folder or hub name of the model", basic=True)
        batch_tokens: int = option("tokens of a batch", default=8192, low=1)

    options = parse(PredictOptions, ["--model", "runs/sst2"], prog="adapler predict")
    record(options)  # {"model": "runs/sst2", "batch_tokens": 8192}

A field that holds another dataclass is a group: its fields are options like the others, so names are unique over all
groups. Values come from, in falling precedence, the command line, a recipe (`--config FILE.yaml`), a preset
(`--preset NAME`) and the defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Generic, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from adapler.errors import AdapLeRError, ArgumentError, DataError

T = TypeVar("T")
Base = TypeVar("Base")
Made = TypeVar("Made", bound=type)


def option(
    help: str,
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    basic: bool = False,
    choices: Sequence[Any] | None = None,
    **bounds: float,
) -> Any:
    """A field of an options class; without a default the option is required.

    `--help` shows the basic ones, `--help-all` all. `choices` are allowed values of a list's items (a `Literal` type
    has its own), `bounds` are low, above, below or most of the value, or of each item of a list; see `Checked`.
    """
    metadata = {"help": help, "basic": basic, "choices": choices, "bounds": bounds}
    if isinstance(default, list):
        default, default_factory = MISSING, default.copy
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


def flag(name: str) -> str:
    """The option of a field: `batch_tokens` is `--batch-tokens`."""
    return f"--{name.replace('_', '-')}"


_BOUNDS = {
    "low": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "below": (operator.lt, "below"),
    "most": (operator.le, "at most"),
}


class Checked:
    """Base of options classes: ArgumentError for the first value outside its option's bounds; None is allowed."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            bounds, found = one.metadata.get("bounds", {}), getattr(self, one.name)
            for value in found if isinstance(found, list) else [found]:
                if value is not None and not all(_BOUNDS[name][0](value, bound) for name, bound in bounds.items()):
                    allowed = " and ".join(f"{_BOUNDS[name][1]} {bound:g}" for name, bound in bounds.items())
                    raise ArgumentError(f"{flag(one.name)}: {value} is not {allowed}")


class CommandParser(argparse.ArgumentParser):
    """argparse with errors of one line, which begin with `where`, and without the usage that lists every option."""

    where = ""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"error: {self.where}{' '.join(message.split())}; see {self.prog} --help\n")


def parse(
    cls: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    example: str = "",
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    positional: str | None = None,
) -> T:
    """Parse a command line (default: the process's) into an options class.

    `presets` are values by preset name, of which the first one is the default; `positional` is the option that words
    without an option set. ArgumentError for a value out of range, DataError for a recipe that cannot be read or has an
    unknown key; SystemExit 0 after `--help`, 2 after a word that argparse does not take.
    """
    words, presets = list(sys.argv[1:] if argv is None else argv), presets or {}
    show_all = "--help-all" in words
    parser = CommandParser(
        prog=prog,
        description=(cls.__doc__ or "").strip().split("\n\n")[0],
        epilog=(f"example: {example}\n" if example else "") + ("" if show_all else f"{prog} --help-all shows all."),
        argument_default=argparse.SUPPRESS,  # only what is given appears in a namespace
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--help", "-h", action="store_true", help="show this help")
    parser.add_argument("--config", metavar="FILE.yaml", help="a recipe; the command line wins")
    if presets:
        first = next(iter(presets))
        parser.add_argument("--preset", choices=list(presets), help=f"a set of defaults (default: {first})")
    known: dict[str, dataclasses.Field[Any]] = {}
    for title, group in _groups(cls):
        visible = [one for one in group if show_all or one.metadata["basic"]]
        place = parser.add_argument_group(title) if title and visible else parser
        for one in group:
            known[one.name] = one
            _add(place, one, visible=one in visible)
    if show_all or "-h" in words or "--help" in words:
        parser.print_help()
        raise SystemExit(0)
    namespace, bare = parser.parse_known_args(words)
    if bare and positional and positional not in namespace and not bare[0].startswith("-"):
        namespace, bare = parser.parse_known_args([flag(positional), *bare], namespace)
    if bare:
        parser.error(f"unrecognized arguments: {' '.join(bare)}")
    typed = vars(namespace)
    source, preset = typed.pop("config", None), typed.pop("preset", None)
    recipe = {} if source is None else read_recipe(source, command=prog.split()[-1])
    preset = preset or recipe.pop("preset", None) or next(iter(presets), "")
    if preset and preset not in presets:
        raise ArgumentError(f"--preset: {preset!r} is not one of {', '.join(presets) or '(none)'}")
    if unknown := [key for key in recipe if key not in known]:
        raise DataError(f"{source}: {unknown[0]!r} is no option of {prog}, see {prog} --help-all")
    values = vars(parser.parse_args(_words(presets.get(preset, {}))))
    parser.where = f"{source}: "
    values |= dict.fromkeys(recipe) | vars(parser.parse_args(_words(recipe))) | typed
    parser.where = ""
    if missing := [name for name, one in known.items() if _default(one) is MISSING and name not in values]:
        parser.error(f"the following arguments are required: {', '.join(map(flag, missing))}")
    return from_record(cls, values)


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
    """The inverse of `record`: an options instance from a flat mapping; what is missing has its default."""
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


def read_recipe(path: str | Path, *, command: str | None) -> dict[str, Any]:
    """The mapping of option names to values in a YAML recipe, without its `command`; DataError if it is none of it."""
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
    hints, own, groups = get_type_hints(cls), [], []
    for one in dataclasses.fields(cls):
        kind: Any = hints[one.name]
        if dataclasses.is_dataclass(kind):
            title = (kind.__doc__ or "").strip().split("\n")[0].rstrip(".")
            groups += [(name or title, group) for name, group in _groups(kind)]  # type: ignore[arg-type]
        else:
            one.type = kind
            own.append(one)
    yield None, own
    yield from groups


def _default(one: dataclasses.Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _add(place: Any, one: dataclasses.Field[Any], *, visible: bool) -> None:
    kind: Any = one.type
    if NoneType in get_args(kind):
        kind = next(each for each in get_args(kind) if each is not NoneType)
    how: dict[str, Any] = {"choices": one.metadata["choices"]}
    if get_origin(kind) is list:
        kind, how["nargs"] = get_args(kind)[0], "+"
    if get_origin(kind) is Literal:
        how["choices"], kind = get_args(kind), str
    if kind is bool:
        how |= {"nargs": "?", "const": True}
        if _default(one) is True:
            place.add_argument(
                f"--no-{flag(one.name)[2:]}", dest=one.name, action="store_false", help=argparse.SUPPRESS
            )
    help, default = one.metadata["help"], _default(one)
    if default not in (MISSING, None, [], False, "") and "default:" not in help:
        help = f"{help} (default: {' '.join(map(str, default)) if isinstance(default, list) else default})"
    help = help.replace("%", "%%") if visible else argparse.SUPPRESS
    place.add_argument(flag(one.name), type=_boolean if kind is bool else kind, help=help, **how)


def _boolean(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is not true or false")
    return word.lower() == "true"


def _words(values: Mapping[str, Any]) -> list[str]:
    """A mapping as words of a command line; null is left out."""
    words: list[str] = []
    for key, value in values.items():
        if value is not None:
            items = value if isinstance(value, (list, tuple)) else [value]
            words += [flag(key), *(str(item).lower() if isinstance(item, bool) else str(item) for item in items)]
    return words


@contextmanager
def user_errors() -> Iterator[None]:
    """Print a user's error as one line on stderr and end the process: exit code 2, 130 after Ctrl-C, 141 if the reader
    of stdout left."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at exit
        sys.exit(141)
    except (AdapLeRError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


# ---- checks of values, and their words


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether a value is a finite number, or an integer; booleans are neither."""
    if isinstance(value, bool):
        return False
    try:
        return isinstance(value, Integral) if whole else isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # an integer beyond a float's range
        return False


def counted(count: int, noun: str) -> str:
    """A count and its noun, with a plural in s.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def ambiguous(label: object, names: Mapping[int, str]) -> str | None:
    """Why an integer may mean two labels, as an index and as a name; None if it cannot, or is no integer.

    >>> ambiguous(1, {0: "1", 1: "2"})
    "1 is ambiguous: index 1 is '2', and there is a label called '1'; write it as text"
    """
    if not isinstance(label, Integral) or isinstance(label, bool):
        return None
    index = int(label)
    if not any(name == str(index) and other != index for other, name in names.items()):
        return None
    means = f"index {index} is {names[index]!r}, and" if index in names else "there is no such index, but"
    return f"{index} is ambiguous: {means} there is a label called {str(index)!r}; write it as text"


# ---- classes by name: predictors, policies, scoring methods. In a program an import of the module that has one's own
# is enough. Commands import the modules that the environment variable ADAPLER_PLUGINS names (separated by commas,
# inherited by child processes) and those of entry points `adapler.plugins`.


@cache
def load_plugins() -> tuple[str, ...]:
    """Import all plugins, once in a process, and return their names; ArgumentError for one that cannot be imported."""
    named = [name.strip() for name in os.environ.get("ADAPLER_PLUGINS", "").split(",") if name.strip()]
    names = (*named, *(point.module for point in entry_points(group="adapler.plugins")))
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # whatever a user's module raises
            source = "ADAPLER_PLUGINS" if name in named else "entry point adapler.plugins"
            raise ArgumentError(f"{source}: {name!r} cannot be imported ({error})") from error
    return names


class Registry(Generic[Base]):
    """Classes of one kind by name; a class registered again under its name replaces the former."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.classes: dict[str, type[Base]] = {}

    def entry(self, name: str) -> Callable[[Made], Made]:
        """Decorator: the class has this name, as its attribute `name` too; ArgumentError where another class has it."""

        def enter(made: Made) -> Made:
            known = self.classes.setdefault(name, made)
            # The same class again, as when a notebook cell runs twice, takes its own place.
            if (known.__module__, known.__qualname__) != (made.__module__, made.__qualname__):
                raise ArgumentError(f"{self.kind}: {name!r} is {known.__module__}.{known.__qualname__} already")
            made.name = name  # type: ignore[attr-defined]
            self.classes[name] = made
            return made

        return enter

    def names(self) -> list[str]:
        return sorted(self.classes)

    def find(self, name: str) -> type[Base] | None:
        """The class of a name, plugins included, or None."""
        if name not in self.classes:
            load_plugins()
        return self.classes.get(name)

    def get(self, name: str, *, others: Iterable[str] = ()) -> type[Base]:
        """The class of a name, plugins included; ArgumentError lists the names, and `others` that the caller takes."""
        found = self.find(name)
        if found is None:
            known = ", ".join(sorted({*self.names(), *others}))
            raise ArgumentError(f"{self.kind}: {name!r} is not one of {known}; ADAPLER_PLUGINS names modules with more")
        return found
