"""Options of `python -m analysis.rationale_eval`, made from two dataclasses: `Settings` and, here, `Inputs`.

Nothing is declared here a second time: names, types, defaults and help texts are those of the fields. What a recipe
(`--config recipe.yaml`) says is overridden by what the command line says.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from adapler.errors import ArgumentError, CommandParser, DataError
from adapler.files import check_writable_folder
from adapler.training.recipes import recipe_entries
from analysis.evaluation.settings import (
    DATA,
    GROUPS_OF_OPTIONS,
    RESULTS,
    RUNNING,
    Settings,
    is_of_type,
    option,
    type_in_words,
)
from analysis.scores import method_names

EXAMPLE = """examples:
  python -m analysis.rationale_eval --adapler checkpoints/movies-minilm --data data/eraser/movies \\
      --split val --methods saliency cp random --output reports/movies-val
  python -m analysis.rationale_eval --model DIR_OR_HUB --data data/eraser/movies --protocol eraser \\
      --methods attention "integrated_gradients(n_steps=20)" --human human.jsonl --faithfulness-layers 0 5

Without arguments: the embedded checkpoint on data/eraser/movies if that is there, else on data/eraser/sample.
"""
YES_NO = {"auto": None, "yes": True, "no": False}


@dataclass(frozen=True)
class Inputs:
    """Which files a run reads and writes."""

    adapler: str | None = option(None, DATA, metavar="DIR")
    """an AdapLeR checkpoint; default: checkpoints/movies-minilm"""

    model: str | None = option(None, DATA, metavar="DIR_OR_HUB")
    """a fine-tuned classifier; default: the AdapLeR checkpoint's backbone"""

    data: str | None = option(None, DATA, metavar="DIR_OR_FILE")
    """a folder or archive in ERASER layout, or JSON lines with tokens, label and rationale; default:
    data/eraser/movies, else data/eraser/sample"""

    predictions: tuple[str, ...] = option((), DATA, metavar="FILE")
    """rationales in ERASER's format, each file one more method; with --methods and nothing after it no model runs"""

    human: str | None = option(None, DATA, metavar="FILE")
    """the same, of human annotators: the ceiling"""

    cache: str | None = option(None, RUNNING, metavar="DIR")
    """where scores are kept for the next run; default: $ADAPLER_CACHE, or scores in
    $XDG_CACHE_HOME/adapler or ~/.cache/adapler"""

    no_cache: bool = option(False, RUNNING)
    """keep and reuse no scores"""

    output: str | None = option(None, RESULTS, metavar="DIR")
    """where the report is written; default: reports/DATA-SPLIT"""

    no_figures: bool = option(False, RESULTS)
    """draw no figures, which takes most of the time of a small evaluation; `python -m analysis.figures` draws them of
    the report later"""

    rationales: str | None = option(None, RESULTS, metavar="DIR")
    """write every method's rationales there, in ERASER's format"""

    rationale_layers: str | None = option(None, RESULTS, metavar="REPORT")
    """a report of the validation split: of each method, --rationales writes the layer that ranks best there"""


def build_parser() -> argparse.ArgumentParser:
    """The command's options: `--config`, and one for each field of `Inputs` and `Settings`."""
    parser = CommandParser(
        prog="python -m analysis.rationale_eval",
        description="Attribution scores against human rationales: agreement of each method at each layer.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given may come from a recipe
    )
    parser.add_argument("--config", metavar="FILE", help="a recipe: options by name, in YAML")
    groups = {title: parser.add_argument_group(title) for title in GROUPS_OF_OPTIONS}
    for cls in (Inputs, Settings):
        hints, texts = get_type_hints(cls), field_texts(cls)
        for one in fields(cls):
            _add(groups[one.metadata["group"]], one, hints[one.name], texts[one.name])
    return parser


def parse(argv: Sequence[str] | None = None) -> tuple[Inputs, Settings]:
    """The command line, and the recipe below it.

    Raises ArgumentError for a value that is not allowed, DataError for a recipe that cannot be read.
    """
    given = vars(build_parser().parse_args(argv))
    recipe = read_recipe(given.pop("config")) if "config" in given else {}
    merged = recipe | {name: _plain(value) for name, value in given.items()}
    names = {one.name for one in fields(Inputs)}
    inputs = Inputs(**{name: value for name, value in merged.items() if name in names and value is not None})
    return inputs, Settings.of(**{name: value for name, value in merged.items() if name not in names})


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Options by name out of a YAML file; a relative path in it is below the working directory.

    Raises DataError that names the file, the line and the key for anything else.
    """
    hints = get_type_hints(Inputs) | get_type_hints(Settings)
    content: dict[str, Any] = {}
    for line, key, value in recipe_entries(Path(path)):
        where = f"{path}:{line}"
        if key not in hints:
            raise DataError(f"{where}: {key!r} is no option, there are {', '.join(hints)}")
        if key in content:
            raise DataError(f"{where}: {key} comes twice")
        content[key] = _plain(YES_NO.get(value, value) if key == "queries" and isinstance(value, str) else value)
        if content[key] is not None and not is_of_type(content[key], hints[key]):
            raise DataError(f"{where}: {key}: got {value!r}, must be {type_in_words(hints[key])}")
    return content


def field_texts(cls: type) -> dict[str, str]:
    """name -> the text that stands under a dataclass's field, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    texts = {}
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for statement, following in zip(statements, statements[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            texts[statement.target.id] = " ".join(str(following.value.value).split())
    return texts


def _add(group: argparse._ArgumentGroup, one: Field[Any], hint: Any, text: str) -> None:
    flags = ("--" + one.name.replace("_", "-"), *one.metadata["flags"])
    if hint is bool:
        group.add_argument(*flags, dest=one.name, action="store_true", help=text)
        return
    item, several = _item(hint)
    if "default:" not in text and one.default not in (None, ()):
        text = f"{text} (default: {one.default})"
    options: dict[str, Any] = {"dest": one.name, "help": text.replace("%", "%%")}
    if one.name == "methods":
        options["help"] += f"; there are {', '.join(method_names())}"
    if several:
        options["nargs"] = "*" if one.name == "methods" else "+"
    if item is bool:
        options |= {"type": _yes_no, "metavar": "{" + ",".join(YES_NO) + "}"}
    else:
        options |= {"type": item, "metavar": one.metadata["metavar"]}
        if choices := one.metadata["choices"]:
            options |= {"choices": choices}
            del options["metavar"]
    group.add_argument(*flags, **options)


def _yes_no(text: str) -> bool | None:
    if text not in YES_NO:
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(YES_NO)})")
    return YES_NO[text]


def _item(hint: Any) -> tuple[Any, bool]:
    """The type of one value, and whether the option takes several: `tuple[int, ...] | None` -> (int, True)."""
    plain = next((one for one in get_args(hint) if one is not type(None)), hint) if _is_union(hint) else hint
    if get_origin(plain) is not tuple:
        return plain, False
    item = get_args(plain)[0]
    return (str if item is Any else item), True


def _is_union(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_folder(name: str, folder: Path, *, files: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
    """Check, before long work, that files can be written into a folder.

    Raises:
        ArgumentError: `folder`, a folder above it, or one of `folders` in it, is a file; one of `files` is a folder; or
            nothing can be written there.
    """
    inside = (folder / one for one in folders)
    if file := next((path for path in (folder, *folder.parents, *inside) if path.is_file()), None):
        raise ArgumentError(f"{name}: {file} is a file, must be a folder")
    if taken := next((folder / one for one in files if (folder / one).is_dir()), None):
        raise ArgumentError(f"{name}: {taken} is a folder, a file is to be written there")
    check_writable_folder(folder, name=name)
