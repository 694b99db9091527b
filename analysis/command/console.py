"""What the command prints above the tables: what was evaluated, how much of it was seen, how the models do."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from analysis import loading
from analysis.results.report import ReportData
from analysis.results.wording import number

WIDTH = 100  # columns of a terminal


def header(report: ReportData) -> str:
    """What was evaluated, how much of it was seen, and how the two models classify it."""
    lines = [_documents(report), _view(report), _density(report), *_annotators(report)]
    lines += [*_protocol(report), *_models(report)]
    if report.meta.get("dtype", "float32") != "float32":
        lines.append(f"precision  {report.meta['dtype']} on {report.meta.get('device', 'cpu')}")
    for name, missing in report.meta.get("missing", {}).items():
        if missing:
            lines.append(f"missing    {name} has nothing for {missing} of {len(report.documents)} documents")
    for method, found in report.meta.get("diagnostics", {}).items():
        for name, values in found.items():
            least = f"{values['min']:.2g} at least, " if "min" in values else ""  # older reports have none
            lines.append(
                f"check      {method}: {name} {values['mean']:.2g} on average, {least}{values['max']:.2g} at most"
            )
    for remark in report.meta.get("notes", ()):
        lines += textwrap.wrap(remark, WIDTH, initial_indent=f"{'note':<11}", subsequent_indent=" " * 11)
    return "\n".join(lines)


def cache_line(report: ReportData) -> str:
    """How much this run found in the cache: for the screen only, since it is no property of the results."""
    found, computed = (int(report.run_facts.get(name, 0)) for name in ("from_cache", "computed"))
    if not found:
        return ""
    return f"cache      {100 * found // (found + computed)} % of the model's outputs were there already\n"


def why_this_data(data: Path) -> str:
    """The remark on data that nobody named."""
    if data == loading.DEFAULT_DATA[-1]:
        return " (the embedded sample; the real reviews are not in data/eraser/movies)"
    return " (the real ERASER Movie Reviews)"


def listed(paths: Sequence[Path], output: Path) -> str:
    """File names for one line; what lies in a folder is counted, each name once whatever its formats."""
    names = [path.relative_to(output) for path in paths]
    files = [str(name) for name in names if len(name.parts) == 1]
    deeper = {
        name.parts[0]: {n.stem for n in names if n.parts[0] == name.parts[0]} for name in names if len(name.parts) > 1
    }
    formats = ", ".join(dict.fromkeys(name.suffix[1:] for name in names if len(name.parts) > 1))
    return ", ".join([*files, *(f"{folder}/ ({len(stems)} as {formats})" for folder, stems in deeper.items())])


def _documents(report: ReportData) -> str:
    scored = len(report.documents) - report.n_skipped
    return (
        f"documents  {len(report.documents)}, {scored} scored, {report.n_skipped} skipped "
        "(no rationale, or no other token, in view)"
    )


def _view(report: ReportData) -> str:
    meta, lost = report.meta, report.meta["truncation"]
    if meta.get("tokens") == "words":
        return f"in view    whole documents, {lost['words']} words; no model was run, tokens are words"
    share = 100 * lost["rationale_words_lost"] / max(1, lost["rationale_words"])
    how = meta["policy"]
    most = ", all this model takes" if meta.get("max_length_of_model") else ""
    if how != "truncate":
        how += f", {meta['windows']['total']} windows"
    return (
        f"in view    {meta['max_length']} wordpieces{most} ({how}): {lost['words_lost']} of "
        f"{lost['words']} words and {share:.0f} % of the rationale words are lost"
    )


def _density(report: ReportData) -> str:
    words = report.meta["aggregation"] != "none" or report.meta.get("tokens") == "words"
    units = "words" if words else "tokens"
    return (
        f"density    {number(report.meta['density'])} of the {units} in view are rationale; "
        f"average precision at chance {number(report.meta['chance_average_precision'])}"
    )


def _annotators(report: ReportData) -> list[str]:
    people = report.meta.get("people")
    if not people:
        return []
    many = str(people["most"]) if people["fewest"] == people["most"] else f"{people['fewest']} to {people['most']}"
    rule = f"number {people['rule']} counts" if people["rule"].isdecimal() else people["rule"]
    alpha = people.get("alpha")  # older reports have none
    reached = ", ".join(
        f"{short} {number(math.nan if people['ceiling'][name] is None else people['ceiling'][name])}"
        for name, short in (("average_precision", "AP"), ("f1", "F1"), ("iou", "IOU"))
    )
    return [
        f"annotators {many} a document, {rule}; one of them against the others (words, whole documents): "
        f"{reached}; Krippendorff's alpha {number(math.nan if alpha is None else alpha)}"
    ]


def _protocol(report: ReportData) -> list[str]:
    meta = report.meta
    if meta["protocol"] == "paper" and meta["aggregation"] == "none":
        return []
    how = "python -m analysis.evaluation.protocols"
    return [f"protocol   {meta['protocol']} ({how}), aggregation {meta['aggregation']}"]


def _models(report: ReportData) -> list[str]:
    if report.meta.get("tokens") == "words":
        return []
    accuracy = f"accuracy   {number(report.accuracy)} fine-tuned classifier"
    if report.mean_lengths is None or report.speedup is None:
        return [accuracy]
    tokens = sum(d.tokens for d in report.documents) / len(report.documents)
    lengths = " ".join(f"{length:.0f}" for length in report.mean_lengths)
    return [
        f"{accuracy}, {number(report.adapler_accuracy)} AdapLeR (same label on {number(report.agreement)})",
        f"FLOPs      {report.speedup:.2f}x fewer with AdapLeR{_scale(report)}",
        f"tokens     {tokens:.0f} in the input; entering each layer: {lengths}",
    ]


def _scale(report: ReportData) -> str:
    """The threshold scale, where it is not the model's own, and the speedup that it was chosen for."""
    scale, asked = report.meta.get("threshold_scale", 1.0), report.meta.get("asked_speedup")
    chosen = "" if asked is None else f", chosen for {asked:g}x"
    return f" at threshold scale {scale:.4g}{chosen}" if scale != 1 or asked is not None else ""
