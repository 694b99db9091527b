"""A page for each function behind registered metrics, and their list."""

from __future__ import annotations

from typing import Any

from docs.generate.docstrings import HEADINGS, METRIC_FIELDS, formula, prose, sections, source_file, title_and_lead

GROUPS = {
    "ranking": "The order of the tokens",
    "selection": "Which tokens are selected",
    "eraser": "Hard rationales, as in ERASER",
    "faithfulness": "Faithfulness to the model",
    "soft": "Faithfulness, tokens drawn by their scores",
    "normalised": "Faithfulness between the worst and the best order",
    "sparseness": "How few tokens have the scores",
}


def metric_families() -> dict[str, list[Any]]:
    """The registered metrics by the function that computes them: its name -> metrics, in the registry's order."""
    from analysis.metrics.plausibility import METRICS

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
        lines += ["## Source", "", f"`{source.__name__}` in `{source_file(source)}`", ""]
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
