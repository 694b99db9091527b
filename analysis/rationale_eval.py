"""The command `python -m analysis.rationale_eval`; `rationale_eval.evaluate` is the same as a function."""

from __future__ import annotations

import logging
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import logging as transformers_logging

from adapler.embedded import SAMPLE
from adapler.errors import ArgumentError
from adapler.options import load_plugins, option, parse, user_errors
from adapler.system import check_writable_folder, is_main, replacing
from analysis import loading
from analysis.corpus import default_data, load_corpus
from analysis.evaluate import evaluate
from analysis.figures.style import number
from analysis.report import RationaleReport
from analysis.settings import Settings

__all__ = ["Settings", "evaluate", "header", "main"]

EXAMPLE = """python -m analysis.rationale_eval --adapler checkpoints/movies-minilm --data data/eraser/movies
             python -m analysis.rationale_eval --model DIR_OR_HUB --protocol eraser --methods attention \\
                 "integrated_gradients(n_steps=20)" --human human.jsonl --faithfulness-layers 0 5
Without arguments: the embedded checkpoint on data/eraser/movies if that is there, else on the embedded sample.
Against truth that nobody marked (edited and planted words, Shapley values): python -m analysis.truth"""
SUMMARY = "summary.txt"  # in the output's folder: all tables as text


@dataclass
class Options:
    """Evaluate scoring methods, layer by layer, against human rationales and for faithfulness."""

    adapler: str | None = option("AdapLeR model; default: the embedded one", default=None, basic=True)
    model: str | None = option(
        "fine-tuned classifier, folder or hub name; default: the AdapLeR model's backbone",
        default=None,
        basic=True,
    )
    data: str | None = option(
        "corpus: folder or archive in ERASER layout, or JSON lines with tokens, label and rationale",
        default=None,
        basic=True,
    )
    predictions: list[str] = option(
        "files of saved rationales in ERASER's format, each evaluated as a method", default_factory=list, basic=True
    )
    human: str | None = option(
        "file of human rationales in the same format, drawn as the ceiling", default=None, basic=True
    )
    output: str | None = option("folder of the report; default: reports/DATA-SPLIT", default=None, basic=True)
    all_tables: bool = option("print the tables of all metrics", default=False, basic=True)
    no_figures: bool = option(
        "draw no figures, which take most of the time of a small evaluation (later: `python -m analysis.figures`)",
        default=False,
        basic=True,
    )
    cache: str | None = option("folder of the score cache; default: $ADAPLER_CACHE or ~/.cache/adapler", default=None)
    no_cache: bool = option("do not cache scores", default=False)
    rationales: str | None = option("folder to write every method's rationales to, in ERASER's format", default=None)
    rationale_layers: str | None = option(
        "report of the validation split, whose best layer of each method --rationales writes",
        default=None,
    )
    settings: Settings = field(default_factory=Settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    load_plugins()  # before methods and metrics are looked up
    given = parse(Options, argv, prog="python -m analysis.rationale_eval", example=EXAMPLE)
    if not is_main():  # of several processes of a launcher one evaluates
        return 0
    quiet: Any = transformers_logging  # its functions carry no types
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    logging.getLogger("adapler").setLevel(logging.ERROR)
    started = time.perf_counter()
    if given.data == "":  # of a variable that is not set; as a path it would be the working directory
        raise ArgumentError("--data: got an empty name; leave it out for the default data")
    data = default_data() if given.data is None else Path(given.data)
    corpus = load_corpus(data, split=given.settings.split, annotators=given.settings.annotators)
    output = Path(given.output or f"reports/{corpus.name}-{given.settings.split}")
    for name, folder in (("--output", output), ("--rationales", given.rationales)):
        if folder:
            check_writable_folder(Path(folder), name=name)
    report = evaluate(
        given.model,
        corpus,
        adapler=given.adapler,
        settings=given.settings,
        predictions=given.predictions,
        human=given.human,
        rationales=given.rationales,
        rationale_layers=given.rationale_layers,
        cache=None if given.no_cache else given.cache or True,
        command=public_command(sys.argv[1:] if argv is None else argv),
    )
    top = header(report, loading.short_path(data))
    has_reader = False
    try:
        print(f"{top}\n\n{report.text() if given.all_tables else report.screen()}", flush=True)
        has_reader = True
    finally:  # also when the reader of the tables has left (`| head`), who may be that of the bars
        report.save(output, progress=has_reader, draw=not given.no_figures)
        with replacing(output / SUMMARY) as partial:
            partial.write_text(f"{header(report, loading.public_path(data))}\n\n{report.text()}\n", encoding="utf-8")
    here, found = loading.short_path(output), report.run_facts
    reused = f", {100 * found['from_cache'] // sum(found.values())} % from the cache" if found["from_cache"] else ""
    print(f"\n{time.perf_counter() - started:.0f} s{reused}; all tables: {here}/{SUMMARY}; page: {here}/report.html")
    if given.rationales:
        print(f"rationales in ERASER's format: {loading.short_path(given.rationales)}/METHOD.jsonl")
    print(f"next: streamlit run app/main.py -- --reports {shlex.quote(here)}   (the same scores, document by document)")
    return 0


def header(report: RationaleReport, data: str = "") -> str:
    """Header of the tables: data, coverage, and the scores of the two models."""
    meta, seen, documents = report.meta, report.meta["coverage"], report.meta["documents"]
    remark = (
        " (the embedded sample; the real reviews are not in data/eraser/movies)"
        if data in (str(SAMPLE), loading.short_path(SAMPLE))
        else ""
    )
    lines = [
        f"adapler    {meta.get('adapler') or '-'}",
        f"model      {meta.get('model') or 'none: saved scores only'}",
        f"data       {data or meta['data']['name']}, {meta['split']}{remark}",
        f"documents  {len(documents)}, {len(documents) - meta['skipped']} scored, {meta['skipped']} skipped "
        "(no rationale, or no other token, in view)",
    ]
    if meta["tokens"] == "words":
        lines.append(f"in view    whole documents, {seen['words']} words; no model was run, tokens are words")
    else:
        lost = 100 * seen["rationale_words_lost"] / max(1, seen["rationale_words"])
        how = meta["truncation"] + (f", {meta['windows']['total']} windows" if meta["truncation"] != "truncate" else "")
        lines.append(
            f"in view    {meta['max_length']} wordpieces ({how}): {seen['words_lost']} of {seen['words']} words and "
            f"{lost:.0f} % of the rationale words are lost"
        )
    units = "tokens" if meta["aggregation"] == "none" and meta["tokens"] != "words" else "words"
    lines.append(
        f"density    {number(meta['density'])} of the {units} in view are rationale; average precision at chance "
        f"{number(meta['chance_average_precision'])}"
    )
    if people := meta.get("people"):
        reached = ", ".join(f"{name} {number(value)}" for name, value in people["ceiling"].items())
        lines.append(
            f"annotators {people['fewest']} to {people['most']} a document ({people['rule']}), one against the others: "
            f"{reached}; Krippendorff's alpha {number(people['alpha'])}"
        )
    if "accuracy" in meta:
        lines.append(f"accuracy   {number(meta['accuracy'])} fine-tuned classifier")
    if "speedup" in meta:
        lines[-1] += f", {number(meta['adapler_accuracy'])} AdapLeR (same label on {number(meta['agreement'])})"
        scale = f" at threshold scale {meta['threshold_scale']:.4g}" if meta["threshold_scale"] != 1 else ""
        lengths = " ".join(f"{length:.0f}" for length in meta["mean_lengths"])
        lines.append(
            f"FLOPs      {meta['speedup']:.2f}x fewer with AdapLeR{scale}; tokens entering each layer: {lengths}"
        )
    lines += [f"missing    {name} has nothing for {n} documents" for name, n in meta["missing"].items() if n]
    for method, found in meta["diagnostics"].items():
        for name, one in found.items():
            lines.append(
                f"check      {method}: {name} {one['mean']:.2g} on average, {one['min']:.2g} to {one['max']:.2g}"
            )
    for note in meta["notes"]:
        lines += textwrap.wrap(note, 100, initial_indent="note       ", subsequent_indent=" " * 11)
    return "\n".join(lines)


def public_command(argv: Sequence[str]) -> str:
    """The command as a report keeps it: absolute paths become relative ones, or their last part."""
    words = []
    for word in argv:
        option_, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(option_ + sign + (loading.public_path(value) if Path(value).is_absolute() else value))
    return shlex.join(["python", "-m", "analysis.rationale_eval", *words])


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
