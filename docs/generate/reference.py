"""The reference: public names with signature and docstring, commands with their --help, protocols."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import re
from types import ModuleType
from typing import Any

from docs.generate.docstrings import docstring, prose

COMMANDS = (
    "adapler run",
    "adapler finetune",
    "adapler saliency",
    "adapler train",
    "adapler evaluate",
    "adapler predict",
    "adapler export",
    "adapler tradeoff",
    "adapler data download",
    "adapler data stats",
    "adapler data check",
    "analysis.rationale_eval",
    "analysis.figures",
    "analysis.scores",
    "analysis.evaluation.protocols",
    "analysis.results.recompute",
    "analysis.studies.seeds",
    "analysis.studies.contribution_targets",
)


def reference_pages() -> dict[str, str]:
    """reference/adapler.md and reference/analysis.md: public names with signature and docstring."""
    import adapler
    import adapler.contribution
    import adapler.flops
    import analysis
    from adapler.data.eraser import read_corpus
    from analysis import rationale_eval
    from analysis.explain import explain
    from analysis.explanation.result import Explanation
    from analysis.metrics import plausibility, statistics
    from analysis.output.report import RationaleReport
    from analysis.scores import base

    model = adapler.AdapLeRForSequenceClassification
    names: list[tuple[str, Any]] = [(f"adapler.{name}", getattr(adapler, name)) for name in adapler.__all__]
    names = [(name, value) for name, value in names if inspect.isclass(value)]
    methods = ("from_backbone", "forward", "predict")
    names += [(f"AdapLeRForSequenceClassification.{name}", getattr(model, name)) for name in methods]
    names += _functions(adapler.contribution) + _functions(adapler.flops)
    pages = {"reference/adapler.md": _reference("The model: `adapler`", adapler, names)}

    found: list[tuple[str, Any]] = [("analysis.explain", explain), *_members("Explanation", Explanation)]
    found.append(("analysis.rationale_eval.evaluate", rationale_eval.evaluate))
    found += _members("RationaleReport", RationaleReport)
    found += [("analysis.scores.Batch", base.Batch), ("analysis.scores.LayerScores", base.LayerScores)]
    found += [("adapler.data.eraser.read_corpus", read_corpus)]
    found += _functions(plausibility, prefix="analysis.metrics.plausibility")
    found += _functions(statistics, prefix="analysis.metrics.statistics")
    pages["reference/analysis.md"] = _reference("The analysis: `analysis`", analysis, found)
    return pages


def _functions(module: ModuleType, *, prefix: str = "") -> list[tuple[str, Any]]:
    """The public functions that a module defines or lists."""
    listed = getattr(module, "__all__", None)
    names = listed or [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    chosen = [(name, getattr(module, name)) for name in names if not name.startswith("_")]
    return [(f"{prefix or module.__name__}.{name}", value) for name, value in chosen if inspect.isfunction(value)]


def _members(name: str, cls: type) -> list[tuple[str, Any]]:
    """A class and the public methods that it defines with a docstring."""
    own = [(f"{name}.{n}", v) for n, v in vars(cls).items() if not n.startswith("_")]
    return [(name, cls), *((n, v) for n, v in own if inspect.isfunction(v) and v.__doc__)]


def _reference(title: str, package: ModuleType, names: list[tuple[str, Any]]) -> str:
    lines = [f"# {title}", "", docstring(package), ""]
    for name, value in names:
        written = signature(name.rpartition(".")[2], value)
        lines += [f"## `{name}`", "", f"```python\n{written}\n```", "", docstring(value), ""]
    return "\n".join(lines)


def signature(name: str, value: Any) -> str:
    """`name(arguments) -> result`, one argument a line when the line is long."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    if inspect.isclass(value) and any(p.kind is p.VAR_POSITIONAL for p in found.parameters.values()):
        return f"class {name}"
    text = str(found).replace("'", '"')
    text = re.sub(r"<(factory|object)[^>]*>", "...", text)
    whole = f"{name}{text}"
    if len(whole) <= 100:
        return whole
    arguments: list[str] = []
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in arguments:
            if not any(p.kind is p.VAR_POSITIONAL for p in found.parameters.values()):
                arguments.append("*")
        arguments.append(re.sub(r"<(factory|object)[^>]*>", "...", str(parameter)).replace("'", '"'))
    end = text[text.rindex(")") + 1 :] if "->" in text else ""
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){end}"])


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
        title = name if name.startswith("adapler") else f"python -m {name}"
        lines += [f"## `{title}`", "", "```text", help_text(name).rstrip(), "```", ""]
    lines += ["## The app", "", "```sh", "streamlit run app/main.py", "```", "", "See [The app](../how-to/app.md).", ""]
    return "\n".join(lines)


def help_text(name: str) -> str:
    """What a command prints for --help; in this process, since every new one would load torch."""
    package, *words = name.split()
    path = "adapler.cli.parser" if package == "adapler" else package
    module = importlib.import_module(path)
    if hasattr(module, "__path__"):
        module = importlib.import_module(path + ".__main__")
    printed = io.StringIO()
    columns, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "96"
    try:
        with contextlib.redirect_stdout(printed):
            module.main([*words, "--help"])
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{name} --help: status {end.code}") from None
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return printed.getvalue()


def protocol_sections() -> str:
    """The table of the registered protocols, turned: a section each."""
    from analysis.evaluation.protocols import rows

    (_, *names), *aspects = rows()
    lines = []
    for column, name in enumerate(names):
        lines += [f"## `--protocol {name}`", "", "| | |", "| --- | --- |"]
        lines += [f"| **{aspect}** | {prose(cells[column])} |" for aspect, *cells in aspects]
        lines.append("")
    return "\n".join(lines)
