"""The pages of the site that are made from the code: mkdocs calls `on_config` and `on_files`.

    methods/NAME.md       a page for each registered scoring method, from its docstring
    metrics/NAME.md       a page for each function behind registered metrics, from its docstring
    reference/*.md        public names with signature and docstring; every command with its --help
    contributing.md       and changelog.md, from the repository's root
    images/               pictures that lie elsewhere in the repository
    <!-- protocols -->    in a page: the table of the evaluation protocols

Nothing of it is committed. `method_pages` and the others are plain functions from nothing to {page: Markdown}.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import inspect
import io
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]

METHOD_FIELDS = ("Formula", "Layer", "Cost", "Misleads", "Reference")
METRIC_FIELDS = ("Formula", "Selection", "Range", "Misleads", "Reference")
HEADINGS = {
    "Formula": "Formula",
    "Layer": "What the score of one layer means",
    "Cost": "Cost",
    "Selection": "What is selected",
    "Range": "Range",
    "Misleads": "When it misleads",
    "Reference": "Reference",
}
SCOPES = ("in the layer", "from the layer to the output", "from the input to the layer", "at the input")
GROUPS = {
    "ranking": "The order of the tokens",
    "selection": "Which tokens are selected",
    "eraser": "Hard rationales, as in ERASER",
    "faithfulness": "Faithfulness to the model",
}
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
)
OPTIONAL_COMMANDS = ("analysis.results.recompute", "analysis.studies.seeds", "analysis.studies.contribution_targets")
IMAGES = {"images/agreement.png": "results/movies-minilm/agreement.png"}


def sections(function: Any, fields: tuple[str, ...]) -> dict[str, str]:
    """A docstring's parts: "Summary", then what stands behind each field's name; fields that are missing are left out.

    A field begins at the start of a line and goes on in indented lines.
    """
    text = inspect.getdoc(function) or ""
    parts = re.split(rf"^({'|'.join(fields)}):[ \n]", text, flags=re.MULTILINE)
    found = {"Summary": parts[0].strip()}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = body.splitlines()
        end = next((i for i, line in enumerate(lines) if i and line and not line.startswith(" ")), len(lines))
        body = " ".join(line.strip() for line in lines[:end]).strip()
        found[name] = body if name == "Formula" else body[:1].upper() + body[1:]
    return found


def prose(text: str) -> str:
    """Text of a docstring as Markdown: stars, underscores and angles as they stand, addresses as links."""
    pieces = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(pieces), 2):
        piece = re.sub(r"([\\*_<>\[\]|#])", r"\\\1", pieces[i])
        pieces[i] = re.sub(r"https?://\S+[^\s.,;)]", lambda m: f"<{m.group().replace(chr(92), '')}>", piece)
    return "".join(pieces)


def formula(text: str) -> str:
    """A formula with the sentences around it, in the letters of the docstring."""
    return f'<div class="formula" markdown="0">{html.escape(text)}</div>'


def title_and_lead(summary: str) -> tuple[str, str]:
    """The first line of a docstring as a heading and the first sentence under it."""
    head, colon, rest = " ".join(summary.split()).partition(": ")
    if not colon or len(head) > 60:
        return "", " ".join(summary.split())
    return head, rest[:1].upper() + rest[1:]


# --- scoring methods


def method_pages() -> dict[str, str]:
    """methods/index.md and a page for each registered method."""
    from analysis.scores import get_method, method_names

    methods = [get_method(name) for name in method_names()]
    pages = {f"methods/{method.name}.md": _method_page(method) for method in methods}
    pages["methods/index.md"] = _method_index(methods)
    return pages


def _method_page(method: Any) -> str:
    parts = sections(method.function, METHOD_FIELDS)
    lines = [f"# {method.title}", "", prose(title_and_lead(parts["Summary"])[1]), ""]
    lines += ["| | |", "| --- | --- |", f"| name | `{method.name}` |", f"| scores | {_scope(method)} |"]
    lines += [f"| needs | {_needs(method)} |", f"| cost of a document | {method.cost} |"]
    lines += [f"| paper | <{method.paper}> |" if method.paper.startswith("http") else f"| paper | {method.paper} |", ""]
    for field in METHOD_FIELDS:
        if field in parts:
            body = formula(parts[field]) if field == "Formula" else prose(parts[field])
            lines += [f"## {HEADINGS[field]}", "", body, ""]
    if method.options:
        lines += ["## Options", "", "| option | default |", "| --- | --- |"]
        lines += [f"| `{name}` | `{value}` |" for name, value in method.options.items()]
        name, value = next(iter(method.options.items()))
        example = f'"{method.name}({name}={value})"'
        lines += ["", "An option stands in brackets behind the name:", "", "```sh"]
        lines += [f"python -m analysis.rationale_eval --methods {example}", "```", ""]
    where = inspect.getsourcefile(method.function)
    lines += ["## Source", "", f"`{Path(where or '').resolve().relative_to(ROOT)}`", ""]
    return "\n".join(lines)


def _method_index(methods: list[Any]) -> str:
    lines = [
        "# Scoring methods",
        "",
        "A scoring method gives every token a number, and most give one at every layer. What one layer's number means"
        " differs between methods, so numbers of the same layer are not always about the same thing: see"
        " [What “per layer” means](../explanation/per-layer.md).",
        "",
        "Any of these names goes behind `--methods` of `python -m analysis.rationale_eval` and into"
        " `explain(methods=[...])`. A function of your own goes there too: see"
        " [Your own scoring method](../how-to/own-method.md).",
        "",
    ]
    for scope in (*SCOPES, ""):
        chosen = [method for method in methods if _scope_name(method) == scope]
        if chosen:
            lines += [f"## {(scope or 'other').capitalize()}", "", "| name | method | needs | cost |", "|" + " --- |" * 4]
            lines += [
                f"| [`{m.name}`]({m.name}.md) | {m.title} | {_needs(m)} | {m.cost} |"
                for m in sorted(chosen, key=lambda one: one.name)
            ]
            lines.append("")
    return "\n".join(lines)


def _scope_name(method: Any) -> str:
    scope = getattr(method, "scope", "" if method.layerwise else SCOPES[-1])
    return scope if scope in SCOPES else ""


def _scope(method: Any) -> str:
    scope = _scope_name(method)
    return f"{'each layer: ' if method.layerwise else ''}{scope or 'every layer'}"


def _needs(method: Any) -> str:
    words = {
        "attention": "attention weights",
        "gradient": "gradients",
        "labels": "gold labels",
        "adapler": "an AdapLeR model",
    }
    return ", ".join(words[need] for need in sorted(method.needs)) or "any classifier"


# --- metrics


def metric_families() -> dict[str, list[Any]]:
    """The registered metrics by the function that computes them: its name -> metrics, in the registry's order."""
    from analysis.metrics.registry import METRICS

    families: dict[str, list[Any]] = {}
    for metric in METRICS.values():
        source = getattr(metric, "source", None)
        families.setdefault(metric.name if source is None else source.__name__, []).append(metric)
    return families


def metric_pages() -> dict[str, str]:
    """metrics/index.md and a page for each family of metrics."""
    families = metric_families()
    pages = {f"metrics/{name}.md": _metric_page(name, metrics) for name, metrics in families.items()}
    pages["metrics/index.md"] = _metric_index(families)
    return pages


def metric_title(name: str, metrics: list[Any]) -> str:
    """What the family is called: the head of its docstring."""
    source = getattr(metrics[0], "source", None)
    head = title_and_lead(sections(source, METRIC_FIELDS)["Summary"])[0] if source else ""
    return head or name.replace("_", " ").capitalize()


def _metric_page(name: str, metrics: list[Any]) -> str:
    source = getattr(metrics[0], "source", None)
    parts = sections(source, METRIC_FIELDS) if source else {"Summary": metrics[0].title}
    lines = [f"# {metric_title(name, metrics)}", "", prose(title_and_lead(parts["Summary"])[1]), ""]
    lines += ["| name | in tables | better | which n or k |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{m.name}` | {m.title} | {'higher' if m.higher_is_better else 'lower'} | {prose(getattr(m, 'level', ''))} |"
        for m in metrics
    ]
    lines.append("")
    for field in METRIC_FIELDS:
        if field in parts:
            body = formula(parts[field]) if field == "Formula" else prose(parts[field])
            lines += [f"## {HEADINGS[field]}", "", body, ""]
    if source:
        where = Path(inspect.getsourcefile(source) or "").resolve().relative_to(ROOT)
        lines += ["## Source", "", f"`{source.__name__}` in `{where}`", ""]
    return "\n".join(lines)


def _metric_index(families: dict[str, list[Any]]) -> str:
    lines = [
        "# Metrics",
        "",
        "A metric compares the scores of one document, at one layer of one method, with the human rationale"
        " (plausibility), or with what the model does without these tokens (faithfulness). Metrics that are computed by"
        " the same function share a page.",
        "",
        "A value that is not defined for a document is left out and counted, never set to 0: see"
        " [Ties and undefined values](../explanation/ties.md). Each metric says which n it uses: see"
        " [Which n in 1/n](../explanation/which-n.md).",
        "",
    ]
    for group, heading in GROUPS.items():
        lines += [f"## {heading}", "", f"`--metrics {group}` takes all of them.", ""]
        lines += ["| names | page | better |", "| --- | --- | --- |"]
        for name, metrics in families.items():
            chosen = [metric for metric in metrics if metric.group == group]
            if chosen:
                names = ", ".join(f"`{metric.name}`" for metric in chosen)
                better = " / ".join(dict.fromkeys("higher" if m.higher_is_better else "lower" for m in chosen))
                lines.append(f"| {names} | [{metric_title(name, metrics)}]({name}.md) | {better} |")
        lines.append("")
    return "\n".join(lines)


# --- reference


def reference_pages() -> dict[str, str]:
    """reference/adapler.md and reference/analysis.md: public names with signature and docstring."""
    import adapler
    import adapler.contribution
    import adapler.flops
    from analysis import rationale_eval
    from adapler.data.eraser import read_corpus
    from analysis.metrics import plausibility, statistics
    from analysis.output.report import RationaleReport
    from analysis.scores import base

    model = adapler.AdapLeRForSequenceClassification
    names: list[tuple[str, Any]] = [(f"adapler.{name}", getattr(adapler, name)) for name in adapler.__all__]
    names = [(name, value) for name, value in names if inspect.isclass(value)]
    names += [(f"AdapLeRForSequenceClassification.{n}", getattr(model, n)) for n in ("from_backbone", "forward", "predict")]
    names += _functions(adapler.contribution) + _functions(adapler.flops)
    pages = {"reference/adapler.md": _reference("The model: `adapler`", adapler, names)}

    found: list[tuple[str, Any]] = []
    try:
        from analysis.explain import explain
        from analysis.explanation.result import Explanation

        found += [("analysis.explain", explain), *_members("Explanation", Explanation)]
    except ImportError:
        pass
    found += [("analysis.rationale_eval.evaluate", rationale_eval.evaluate), *_members("RationaleReport", RationaleReport)]
    found += [("analysis.scores.Batch", base.Batch), ("analysis.scores.LayerScores", base.LayerScores)]
    found += [("adapler.data.eraser.read_corpus", read_corpus)]
    found += _functions(plausibility, prefix="analysis.metrics.plausibility")
    found += _functions(statistics, prefix="analysis.metrics.statistics")
    import analysis

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
        lines += [f"## `{name}`", "", "```python", signature(name.rpartition(".")[2], value), "```", "", docstring(value), ""]
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


def docstring(value: Any) -> str:
    """A docstring as it stands, its line breaks kept; examples are highlighted."""
    text = inspect.getdoc(value) or ""
    if not text or text.startswith(f"{getattr(value, '__name__', '')}("):  # what a dataclass writes by itself
        return ""
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        if block.lstrip().startswith(">>>"):
            blocks.append("```pycon\n" + inspect.cleandoc(block) + "\n```")
        else:
            escaped = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(block, quote=False))
            escaped = re.sub(r"https?://[^\s<]+[^\s.,;)<]", lambda m: f'<a href="{m.group()}">{m.group()}</a>', escaped)
            blocks.append(f'<div class="docstring" markdown="0">{escaped}</div>')
    return "\n\n".join(blocks)


def command_page() -> str:
    """reference/commands.md: every command with what its --help prints."""
    optional = [name for name in OPTIONAL_COMMANDS if (ROOT / (name.replace(".", "/") + ".py")).is_file()]
    names = [*COMMANDS, *optional]
    lines = [
        "# Commands",
        "",
        "`make demo` puts `adapler` and `python` into `.venv/bin`. Every command ends with status 0 when all went well."
        " On bad input it prints one line that says what is wrong, and its status is not 0.",
        "",
    ]
    for name in names:
        title = name if name.startswith("adapler") else f"python -m {name}"
        lines += [f"## `{title}`", "", "```text", _help(name).rstrip(), "```", ""]
    lines += ["## The app", "", "```sh", "streamlit run app/main.py", "```", "", "See [The app](../how-to/app.md).", ""]
    return "\n".join(lines)


def _help(name: str) -> str:
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


# --- what mkdocs calls


def pages() -> dict[str, str]:
    """Every generated page: its place in the site -> Markdown."""
    files = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
    texts = {page: (ROOT / name).read_text(encoding="utf-8") for page, name in files.items()}
    made = method_pages() | metric_pages() | reference_pages() | texts
    made["reference/commands.md"] = command_page()
    return made


def on_config(config: Any) -> Any:
    """Put a line into the navigation for each method and each metric."""
    sys.path.insert(0, str(ROOT))  # this checkout, whichever one is installed; mkdocs undoes this for an import
    methods = [name for name in sorted(method_pages()) if name != "methods/index.md"]
    metrics = [f"metrics/{name}.md" for name in metric_families()]
    for entry in config.nav:
        entry.get("Scoring methods", []).extend(methods)
        entry.get("Metrics", []).extend(metrics)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages and the pictures that lie elsewhere."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    for name, source in IMAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page asks for."""
    return markdown.replace("<!-- protocols -->", protocol_sections()) if "<!-- protocols -->" in markdown else markdown
