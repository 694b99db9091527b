"""A page for each registered scoring method, and their list."""

from __future__ import annotations

from typing import Any

from analysis.scores.base import SIGNED
from docs.generate.docstrings import HEADINGS, METHOD_FIELDS, formula, prose, sections, source_file, title_and_lead

SCOPES = ("in the layer", "from the layer to the output", "from the input to the layer", "at the input")


def method_pages() -> dict[str, str]:
    """methods/index.md and a page for each registered method."""
    from analysis.scores import get_method, method_names

    methods = [get_method(name) for name in method_names()]
    pages = {f"methods/{method.name}.md": _method_page(method) for method in methods}
    pages["methods/index.md"] = _method_index(methods)
    return pages


def _method_page(method: Any) -> str:
    parts = sections(method.function, METHOD_FIELDS)
    parts["Misleads"] += SIGNED if method.defaults.get("reduction") == "signed" else ""
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
    lines += ["## Source", "", f"`{source_file(method.function)}`", ""]
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
            lines += [f"## {(scope or 'other').capitalize()}", ""]
            lines += ["| name | method | needs | cost |", "| --- | --- | --- | --- |"]
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
