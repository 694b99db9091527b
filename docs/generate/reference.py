"""The reference: public names with signature and docstring, commands with their --help, protocols."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
from types import ModuleType
from typing import Any

from docs.generate.docstrings import docstring

COMMANDS = (
    "adapler run",
    "adapler finetune",
    "adapler targets",
    "adapler train",
    "adapler speed-up",
    "adapler evaluate",
    "adapler calibrate",
    "adapler predict",
    "adapler export",
    "adapler card",
    "adapler data download",
    "adapler data show",
    "adapler.minilm",
    "analysis.rationale_eval",
    "analysis.figures",
    "analysis.scores",
    "app.gallery",
    "benchmarks.tradeoff",
)


def reference_pages() -> dict[str, str]:
    """reference/adapler.md and reference/analysis.md: public names with signature and docstring."""
    import adapler
    import adapler.contribution
    import adapler.flops
    import analysis
    from adapler.eraser import read_corpus
    from adapler.inference import Prediction
    from adapler.predict import PredictOptions, predict_file
    from adapler.training.config import RunConfig
    from adapler.training.pipeline import run
    from analysis import rationale_eval
    from analysis.explanation import Explanation, explain
    from analysis.metrics import plausibility
    from analysis.report import RationaleReport, bootstrap_intervals, compare, holm, paired_permutation_test
    from analysis.scores import base, scoring_method

    model = adapler.AdapLeRForSequenceClassification
    names: list[tuple[str, Any]] = [(f"adapler.{name}", getattr(adapler, name)) for name in adapler.__all__]
    names = [(name, value) for name, value in names if inspect.isclass(value)]
    methods = ("from_backbone", "forward", "predict", "choose_scale", "for_inference")
    after = [value for _, value in names].index(model) + 1
    names[after:after] = [(f"AdapLeRForSequenceClassification.{name}", getattr(model, name)) for name in methods]
    names += [("adapler.inference.Prediction", Prediction), ("adapler.training.pipeline.run", run)]
    names += [("adapler.training.config.RunConfig", RunConfig)]
    names += [("adapler.predict.predict_file", predict_file), ("adapler.predict.PredictOptions", PredictOptions)]
    names += _functions(adapler.contribution) + _functions(adapler.flops)
    pages = {"reference/adapler.md": _reference("The model: `adapler`", adapler, names)}

    found: list[tuple[str, Any]] = [("analysis.explain", explain), *_members("Explanation", Explanation)]
    found.append(("analysis.rationale_eval.evaluate", rationale_eval.evaluate))
    found += _members("RationaleReport", RationaleReport)
    found += [("analysis.scores.scoring_method", scoring_method)]
    found += [("analysis.scores.Batch", base.Batch), ("analysis.scores.LayerScores", base.LayerScores)]
    found += [("analysis.load_corpus", analysis.load_corpus)]
    found += [("adapler.eraser.read_corpus", read_corpus)]
    found += _functions(plausibility)
    tests = (bootstrap_intervals, paired_permutation_test, holm, compare)
    found += [(f"analysis.report.{one.__name__}", one) for one in tests]
    pages["reference/analysis.md"] = _reference("The analysis: `analysis`", analysis, found)
    return pages


def _functions(module: ModuleType) -> list[tuple[str, Any]]:
    """The public functions that a module defines or lists, but for those that only check arguments."""
    listed = getattr(module, "__all__", None)
    names = listed or [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    chosen = [(name, getattr(module, name)) for name in names if not name.startswith(("_", "as_", "same_"))]
    return [(f"{module.__name__}.{name}", value) for name, value in chosen if inspect.isfunction(value)]


def _members(name: str, cls: type) -> list[tuple[str, Any]]:
    """A class and the public methods with a docstring that it or a base class of ours defines."""
    ours = [base for base in reversed(cls.__mro__) if base.__module__.startswith(("adapler", "analysis"))]
    methods = {n: getattr(cls, n) for base in ours for n in vars(base) if not n.startswith("_")}
    chosen = [(n, value) for n, value in methods.items() if inspect.isroutine(value) and value.__doc__]
    return [(f"{cls.__module__}.{name}", cls), *((f"{name}.{n}", value) for n, value in chosen)]


def _reference(title: str, package: ModuleType, names: list[tuple[str, Any]]) -> str:
    lines = [f"# {title}", "", docstring(package), ""]
    for name, value in names:
        where, _, last = name.rpartition(".")
        inside = where[:1].isupper()  # a method of a class
        origin = "" if inside else f"from {where} import {last}\n\n"
        lines += [f"{'###' if inside else '##'} `{name if inside else last}`", ""]
        lines += [f"```python\n{origin}{signature(last, value)}\n```", "", docstring(value), ""]
    return "\n".join(lines)


class _AsWritten:
    """Stands for an annotation or default in a signature, as the source has it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def signature(name: str, value: Any) -> str:
    """`name(arguments) -> result`, one argument a line when the line is long."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return f"class {name}"
    if inspect.isclass(value) and any(p.kind is p.VAR_POSITIONAL for p in found.parameters.values()):
        return f"class {name}"  # an exception
    parameters = [_as_written(parameter) for parameter in found.parameters.values()]
    returns = found.return_annotation
    if inspect.isclass(value):
        returns = inspect.Signature.empty
    elif isinstance(returns, str):
        returns = _AsWritten(returns)
    clean = found.replace(parameters=parameters, return_annotation=returns)
    if len(name + str(clean)) <= 90:
        return name + str(clean)
    lines = [str(parameter) for parameter in parameters]
    kinds = [parameter.kind for parameter in parameters]
    keyword, star = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL
    if keyword in kinds and star not in kinds:
        lines.insert(kinds.index(keyword), "*")
    end = "" if returns is inspect.Signature.empty else f" -> {returns!r}"
    return "\n".join([f"{name}(", *(f"    {line}," for line in lines), f"){end}"])


def _as_written(parameter: inspect.Parameter) -> inspect.Parameter:
    if isinstance(parameter.annotation, str):
        parameter = parameter.replace(annotation=_AsWritten(parameter.annotation))
    if parameter.default is not parameter.empty and repr(parameter.default).startswith(
        "<"
    ):  # <factory>, <object at ...>
        parameter = parameter.replace(default=_AsWritten("..."))
    return parameter


def command_page() -> str:
    """reference/commands.md: every command with what its --help prints."""
    lines = [
        "# Commands",
        "",
        "`make demo` puts `adapler` and `python` into `.venv/bin`. Every command ends with status 0 when all went well."
        " On bad input it prints one line that says what is wrong, and its status is not 0.",
        "",
    ]
    for name in COMMANDS:
        title = name if name.startswith("adapler ") else f"python -m {name}"
        lines += [f"## `{title}`", "", "```text", help_text(name).rstrip(), "```", ""]
    lines += ["## The app", "", "```sh", "streamlit run app/main.py", "```", "", "See [The app](../how-to/app.md).", ""]
    return "\n".join(lines)


def help_text(name: str) -> str:
    """What a command prints for --help; in this process, since every new one would load torch."""
    package, *words = name.split()
    path = "adapler.cli" if package == "adapler" else package
    module = importlib.import_module(path)
    if hasattr(module, "__path__"):
        module = importlib.import_module(path + ".__main__")
    printed = io.StringIO()
    columns, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "96"
    try:
        with contextlib.redirect_stdout(printed):
            ours = name in ("adapler predict", "analysis.rationale_eval") or package == "adapler" and words != ["data"]
            module.main([*words, "--help-all" if ours else "--help"])  # of commands that adapler.options parses
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{name} --help: status {end.code}") from None
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return printed.getvalue()
