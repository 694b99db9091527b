"""The command `python -m analysis.rationale_eval`, and the same as a function: `evaluate`."""

from __future__ import annotations

import inspect
import logging
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from transformers import logging as transformers_logging

from adapler.distributed import is_main
from adapler.eraser import EraserCorpus
from adapler.errors import ArgumentError, run_command
from adapler.files import replacing
from adapler.registry import load_plugins
from adapler.text import check_splits_words, reading
from analysis import loading
from analysis.command.console import cache_line, header, listed, why_this_data
from analysis.command.options import Inputs, build_parser, check_folder, field_texts, parse
from analysis.documents.annotators import AUTO
from analysis.documents.words import WordTokens
from analysis.evaluation.cache import ScoreCache, default_folder
from analysis.evaluation.fit import input_length
from analysis.evaluation.given import read_given
from analysis.evaluation.plan import documents_of
from analysis.evaluation.rationale_files import check_layers_chosen, validated_layers
from analysis.evaluation.run import run_evaluation
from analysis.evaluation.settings import Settings
from analysis.output import tables
from analysis.output.eraser_table import plain_eraser
from analysis.output.report import FIGURES, PAGE, WRITERS, RationaleReport

__all__ = ["Settings", "build_parser", "evaluate", "header", "main"]

OF_BACKBONE = (
    "note: model: an AdapLeR checkpoint, of which the backbone is evaluated; --adapler adds its removal and cp"
)
SUMMARY = "summary.txt"  # in the output's folder: the tables as they were printed


@loading.outside_inference_mode
def evaluate(
    *,
    model: Any = None,
    adapler: Any = None,
    data: str | Path | EraserCorpus | None = None,
    tokenizer: Any = None,
    predictions: Any = (),
    human: Any = None,
    rationales: str | Path | None = None,
    rationale_layers: str | Path | Mapping[str, int] | None = None,
    cache: str | Path | bool | None = None,
    settings: Settings | None = None,
    progress: bool = True,
    command: str | None = None,
    begin: Callable[[], object] | None = None,
    **options: Any,
) -> RationaleReport:
    """Compare attribution scores with human rationales, layer by layer.

    model, adapler: an object, a folder or a hub name. Neither: the embedded checkpoint; adapler alone: its own
        backbone is the classifier; model alone: no AdapLeR, hence no `cp`.
    data: a corpus, a folder or archive in ERASER layout, or JSON lines (`analysis.documents.corpora`); default
        data/eraser/movies if there, else the sample.
    predictions, human: saved scores, each one more method: files in ERASER's format, or whatever else
        `analysis.evaluation.given.read_given` takes. With methods=[] and no model named, no model is loaded unless a
        metric asks one: tokens are then words, and whole documents are in view.
    rationales: a folder for every method's rationales in ERASER's format, at the option `rationale_layer` or at
        rationale_layers: {method: layer}, or a report of the validation split, whose best layers are taken.
    cache: a folder where scores are kept for the next run, True for the default one; None or False: none.
    settings: how; the options below override its fields one by one, None leaves a field as it is.
    progress: show bars; command: what was typed, for the report.
    begin: is called once, when all arguments are checked and nothing is scored yet.

    Raises AdapLeRError (one line) for whatever is wrong with an argument, a checkpoint or the data.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise ArgumentError(
            f"settings: got a {type(settings).__name__}, must be Settings; options have names of their own"
        )
    settings = Settings.of(**options) if settings is None else settings.with_options(**options)
    check_layers_chosen(settings, rationales=rationales, rationale_layers=rationale_layers)
    corpus = loading.load_corpus(data, split=settings.split, annotators=settings.annotators)
    if settings.annotators == AUTO:
        settings = replace(settings, annotators=corpus.annotators)  # of a corpus that was read by another rule
    documents = documents_of(corpus, settings.split, settings.limit, seed=settings.seed)
    given = read_given(() if predictions is None else predictions, human, documents)
    store = ScoreCache(None if cache in (None, False) else default_folder() if cache is True else str(cache))
    facts: dict[str, Any] = {} if command is None else {"command": command}
    notes = []  # printed when nothing is wrong, so that an error stands alone
    if needs_model(settings, model, adapler, tokenizer, rationales=rationales, has_given=bool(given)):
        classifier, reducer, tokenizer = loading.load_models(model, adapler, tokenizer, device=settings.device)
        check_splits_words(tokenizer)
        if adapler is None and loading.is_adapler(model):
            notes.append(OF_BACKBONE)
        facts |= _names(model, adapler) | {"checksums": loading.checksums(classifier, reducer)}
        dtype, remark = loading.choose_format(settings.dtype, classifier)
        notes += [remark] if remark else []
        scale, at = loading.choose_scale(reducer, threshold_scale=settings.threshold_scale, speedup=settings.speedup)
        if at is not None:
            facts["asked_speedup"] = settings.speedup
            view = {"max_length": input_length(classifier, settings.max_length), "long_documents": settings.policy}
            notes += [f"note: {one}" for one in (str(at), at.other_reading(reading(view))) if one]
        settings = replace(settings, dtype=dtype, threshold_scale=scale, speedup=None)
    else:
        if settings.max_length is not None:
            raise ArgumentError("max_length: no model is run, so whole documents are in view; leave it out")
        if settings.policy == "rationale-windows":
            raise ArgumentError(f"policy: got {settings.policy!r}, but no model is run, so whole documents are in view")
        if settings.dtype == "bfloat16" or settings.queries:
            name = "queries" if settings.queries else "dtype"
            raise ArgumentError(f"{name}: no model is run, which could be given it; leave it out")
        classifier, reducer, tokenizer = None, None, WordTokens()
        settings = replace(settings, dtype="float32")
    if isinstance(rationale_layers, str | Path):
        seen = replace(settings, max_length=input_length(classifier, settings.max_length))
        rationale_layers, remark = validated_layers(rationale_layers, corpus=corpus, settings=seen, models=facts)
        notes += [remark] if remark else []

    def start() -> None:
        for note in notes:
            print(note, file=sys.stderr)
        if begin is not None:
            begin()

    return RationaleReport.of(
        run_evaluation(
            model=classifier,
            adapler=reducer,
            tokenizer=tokenizer,
            corpus=corpus,
            settings=settings,
            cache=store,
            given=given,
            rationales=rationales,
            rationale_layers=rationale_layers,
            meta=facts,
            progress=progress,
            begin=start,
        )
    )


def needs_model(
    settings: Settings, model: Any, adapler: Any, tokenizer: Any, *, rationales: Any, has_given: bool
) -> bool:
    """False when there are saved scores only, nobody named a model, and no metric and no output asks for one."""
    named = any(one is not None for one in (model, adapler, tokenizer, rationales))
    return (
        named
        or not has_given
        or settings.methods is None
        or len(settings.methods) > 0
        or bool(settings.faithfulness_metrics)
    )


def _with_all_options() -> None:
    """`help(evaluate)` and completion in a notebook name every option: the fields of Settings."""
    signature = inspect.signature(evaluate)
    inputs = [one for one in signature.parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    hints = get_type_hints(Settings)
    more = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[one.name] | None)
        for one in fields(Settings)
    ]
    evaluate.__signature__ = signature.replace(parameters=[*inputs, *more])  # type: ignore[attr-defined]
    texts = "\n".join(f"    {name}: {text}" for name, text in field_texts(Settings).items())
    # without its indentation, which Python itself takes away from 3.13 on
    head, raises, rest = (inspect.getdoc(evaluate) or "").partition("Raises")
    evaluate.__doc__ = f"{head}Options:\n{texts}\n\n{raises}{rest}"


_with_all_options()


def _names(model: Any, adapler: Any) -> dict[str, str]:
    """What the user called the models; an object goes by its own name, which `run_evaluation` finds out."""
    if model is None and adapler is None:
        adapler = loading.DEFAULT_ADAPLER
    names = {}
    if isinstance(adapler, str | Path):
        names["adapler"] = loading.public_path(adapler)
        names["model"] = f"backbone of {names['adapler']}"
    if isinstance(model, str | Path):
        names["model"] = loading.public_path(model) if Path(model).expanduser().exists() else str(model)
    elif model is not None:
        names.pop("model", None)
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    load_plugins()  # before methods and metrics are looked up
    inputs, settings = parse(argv)
    if not is_main():  # of several processes of a launcher one evaluates
        return 0
    cache, remark = _cache(inputs)
    _silence_libraries()
    started = time.perf_counter()
    if inputs.data == "":  # of a variable that is not set; as a path it would be the working directory
        raise ArgumentError("--data: got an empty name, must be a folder or a file; leave it out for the default data")
    data = loading.default_data() if inputs.data is None else Path(inputs.data)
    corpus = loading.load_corpus(data, split=settings.split, annotators=settings.annotators)
    output = Path(inputs.output or f"reports/{corpus.name}-{settings.split}")
    check_folder("--output", output, files=(*WRITERS, PAGE, SUMMARY), folders=[FIGURES])
    if inputs.rationales:
        check_folder("--rationales", Path(inputs.rationales))

    def begin() -> None:  # not before all is checked: an error stands alone
        if remark:
            print(remark, file=sys.stderr)
        print(_subject(inputs, settings, data, loading.short_path), flush=True)

    report = evaluate(
        model=inputs.model,
        adapler=inputs.adapler,
        data=corpus,
        settings=settings,
        predictions=inputs.predictions,
        human=inputs.human,
        rationales=inputs.rationales,
        rationale_layers=inputs.rationale_layers,
        cache=cache,
        command=public_command(sys.argv[1:] if argv is None else argv),
        begin=begin,
    )
    parts = [header(report), tables.plain(report), tables.plain_comparisons(report), plain_eraser(report)]
    result = "\n\n".join(part for part in parts if part)
    has_reader = False
    try:
        print(result, flush=True)
        has_reader = True
    finally:  # also when the reader of the tables has left (`| head`), who may be that of the bars (`2>&1 | head`)
        paths = report.save(output, progress=has_reader, draw=not inputs.no_figures)
        with replacing(output / SUMMARY) as partial:  # what was printed, to look at again
            subject = _subject(inputs, settings, data, loading.public_path)
            partial.write_text(f"{subject}\n{result}\n", encoding="utf-8")
        paths.append(output / SUMMARY)
    seconds = time.perf_counter() - started
    print(f"\n{cache_line(report)}{seconds:.0f} s; written to {loading.short_path(output)}/: {listed(paths, output)}")
    if inputs.rationales:
        print(f"rationales in ERASER's format: {loading.short_path(inputs.rationales)}/METHOD.jsonl")
    print(_next_step(output))
    return 0


def _next_step(output: Path) -> str:
    """How to look at the report in the app, which lists those up to two folders below reports/ and results/ by
    itself. Both paths are of the repository where the command was typed in it, else absolute."""
    absolute, root = output.resolve(), loading.ROOT
    inside = Path.cwd() == root
    below = [root / name for name in ("reports", "results") if absolute.is_relative_to(root / name)]
    listed_there = any(len(absolute.relative_to(folder).parts) <= 2 for folder in below)
    named = (
        "" if listed_there else f" -- --reports {shlex.quote(loading.short_path(output) if inside else str(absolute))}"
    )
    app = "app/main.py" if inside else shlex.quote(str(root / "app" / "main.py"))
    return f"next: streamlit run {app}{named}   (the same scores, document by document)"


def public_command(argv: Sequence[str]) -> str:
    """The command as a report keeps it: absolute paths become relative ones, or their last part."""
    words = []
    for word in argv:
        option, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(option + sign + (loading.public_path(value) if Path(value).is_absolute() else value))
    return shlex.join(["python", "-m", "analysis.rationale_eval", *words])


def _subject(inputs: Inputs, settings: Settings, data: Path, name: Any) -> str:
    """The first lines: models and data, their paths as `name` writes them."""
    given = bool(inputs.predictions or inputs.human)
    remark = "" if inputs.data else why_this_data(data)
    last = f"data       {name(data)}, {settings.split}{remark}"
    if not needs_model(settings, inputs.model, inputs.adapler, None, rationales=inputs.rationales, has_given=given):
        return f"model      none: saved scores only\n{last}"
    embedded = not (inputs.adapler or inputs.model)
    adapler = str(loading.DEFAULT_ADAPLER) if embedded else inputs.adapler
    model = inputs.model and (name(inputs.model) if Path(inputs.model).exists() else inputs.model)
    return (
        f"adapler    {name(adapler) if adapler else '-'}{' (embedded)' if embedded else ''}\n"
        f"model      {model or 'the backbone of the AdapLeR checkpoint'}\n{last}"
    )


def _cache(inputs: Inputs) -> tuple[str | Path | None, str | None]:
    """The folder of the cache, and a note. A default one that cannot be written (a read-only home) is no reason to
    stop."""
    if inputs.no_cache:
        if inputs.cache:
            raise ArgumentError("--no-cache: cannot be given together with --cache")
        return None, None
    if inputs.cache:
        return inputs.cache, None
    try:
        return ScoreCache(default_folder()).folder, None
    except ArgumentError as error:
        return None, f"note: {error}; going on without"


def _silence_libraries() -> None:
    """The command's own lines only: no loading reports, no bars of transformers."""
    quiet: Any = transformers_logging  # its functions carry no types
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    logging.getLogger("adapler").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(run_command(main))
