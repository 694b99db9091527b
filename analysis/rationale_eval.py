"""The command `python -m analysis.rationale_eval`, and the same as a function: `evaluate`."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import logging as transformers_logging

from adapler.data.eraser import EraserCorpus
from adapler.errors import ArgumentError, run_command
from adapler.files import replacing
from analysis import loading
from analysis.command.console import header, listed, why_this_data
from analysis.command.options import build_parser
from analysis.evaluation import run as evaluation
from analysis.evaluation.cache import ScoreCache, default_folder
from analysis.evaluation.given import read_given
from analysis.evaluation.plan import documents_of
from analysis.evaluation.settings import TOKEN_BUDGET, Settings
from analysis.output import tables
from analysis.output.report import RationaleReport

__all__ = ["build_parser", "evaluate", "header", "main"]

NEXT_STEPS = "next: streamlit run app/main.py   (the same scores, document by document)"


def evaluate(
    *,
    model: Any = None,
    adapler: Any = None,
    data: str | Path | EraserCorpus | None = None,
    split: str = "test",
    methods: Sequence[str] | None = None,
    tokenizer: Any = None,
    protocol: str = "paper",
    policy: str | None = None,
    aggregation: str | None = None,
    metrics: Sequence[str] | None = None,
    max_length: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    limit: int | None = None,
    threshold_scale: float = 1.0,
    dtype: str = "float32",
    seed: int = 0,
    queries: bool | None = None,
    faithfulness_variant: str | None = None,
    faithfulness_layers: Sequence[int] | None = None,
    predictions: Sequence[str | Path] = (),
    human: str | Path | None = None,
    examples: int = 3,
    rationales: str | Path | None = None,
    rationale_layer: int | None = None,
    cache: str | Path | bool | None = None,
    progress: bool = True,
    command: str | None = None,
) -> RationaleReport:
    """Compare attribution scores with human rationales, layer by layer.

    model, adapler: an object, a folder or a hub name. Neither: the embedded checkpoint; adapler alone: its own
        backbone is the classifier; model alone: no AdapLeR, hence no `cp`.
    data: a corpus, a folder or archive in ERASER layout, or JSON lines (`analysis.documents.corpora`); default
        data/eraser/movies if there, else the sample.
    methods: names of the registry, with options as in "lime(n_samples=100)"; default: the paper's,
        `analysis.evaluation.run.PAPER_METHODS`.
    protocol: a preset of policy, aggregation and metrics; each of them that is given overrides it.
    metrics: names of `analysis.metrics.registry`, or of its groups.
    predictions, human: files in ERASER's format, each one more method (`analysis.documents.eraser_format`).
    rationales: a folder for every method's rationales in that format.
    cache: a folder where scores are kept for the next run, True for the default one; None or False: none.
    The other arguments are the command's options, see `--help`.

    Raises AdapLeRError (one line) for whatever is wrong with an argument, a checkpoint or the data.
    """
    settings = Settings.of(
        protocol,
        policy=policy,
        aggregation=aggregation,
        metrics=metrics,
        max_length=max_length,
        token_budget=token_budget,
        threshold_scale=threshold_scale,
        dtype=dtype,
        seed=seed,
        limit=limit,
        queries=queries,
        faithfulness_layers=faithfulness_layers,
        examples=examples,
    )
    if faithfulness_variant is not None:
        settings = replace(settings, faithfulness=replace(settings.faithfulness, variant=faithfulness_variant))
    corpus = loading.load_corpus(data, split=split)
    given = read_given(predictions, human, documents_of(corpus, split, limit, seed=seed))
    store = ScoreCache(None if cache in (None, False) else default_folder() if cache is True else str(cache))
    classifier, reducer, tokenizer = loading.load_models(model, adapler, tokenizer)
    results = evaluation.evaluate(
        model=classifier,
        adapler=reducer,
        tokenizer=tokenizer,
        corpus=corpus,
        split=split,
        methods=methods,
        settings=settings,
        cache=store,
        given=given,
        rationales=rationales,
        rationale_layer=rationale_layer,
        meta=_names(model, adapler) | ({} if command is None else {"command": command}),
        progress=progress,
    )
    return RationaleReport.of(results)


def _names(model: Any, adapler: Any) -> dict[str, str]:
    """What the user called the models; an object goes by its own name, which `evaluation` finds out."""
    if model is None and adapler is None:
        adapler = loading.DEFAULT_ADAPLER
    names = {}
    if isinstance(adapler, str | Path):
        names["adapler"] = loading.short_path(adapler)
        names["model"] = f"backbone of {names['adapler']}"
    if isinstance(model, str | Path):
        names["model"] = loading.short_path(model)
    elif model is not None:
        names.pop("model", None)
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    _quiet()
    started = time.perf_counter()
    data = Path(arguments.data) if arguments.data else loading.default_data()
    corpus = loading.load_corpus(data, split=arguments.split)
    output = Path(arguments.output or f"reports/{corpus.name}-{arguments.split}")
    _check_folder("--output", output)
    if arguments.rationales:
        _check_folder("--rationales", Path(arguments.rationales))
    embedded = not (arguments.adapler or arguments.model)
    adapler = str(loading.DEFAULT_ADAPLER) if embedded else arguments.adapler
    subject = (
        f"adapler    {loading.short_path(adapler) if adapler else '-'}{' (embedded)' if embedded else ''}\n"
        f"model      {arguments.model or 'the backbone of the AdapLeR checkpoint'}\n"
        f"data       {loading.short_path(data)}, {arguments.split}{'' if arguments.data else why_this_data(data)}"
    )
    print(subject, flush=True)
    report = evaluate(
        model=arguments.model,
        adapler=arguments.adapler,
        data=corpus,
        split=arguments.split,
        methods=arguments.methods,
        protocol=arguments.protocol,
        policy=arguments.policy,
        aggregation=arguments.aggregate,
        metrics=arguments.metrics,
        max_length=arguments.max_length,
        token_budget=arguments.token_budget,
        limit=arguments.limit,
        threshold_scale=arguments.threshold_scale,
        dtype=arguments.dtype,
        seed=arguments.seed,
        queries={"auto": None, "yes": True, "no": False}[arguments.queries],
        faithfulness_variant=arguments.faithfulness_variant,
        faithfulness_layers=arguments.faithfulness_layers,
        predictions=arguments.predictions,
        human=arguments.human,
        examples=arguments.examples,
        rationales=arguments.rationales,
        rationale_layer=arguments.rationale_layer,
        cache=_cache(arguments),
        command=shlex.join(["python", "-m", "analysis.rationale_eval", *(sys.argv[1:] if argv is None else argv)]),
    )
    parts = [header(report), tables.plain(report), tables.plain_comparisons(report)]
    result = "\n\n".join(part for part in parts if part)
    print(result)
    paths = report.save(output)
    with replacing(output / "summary.txt") as partial:  # what was printed, to look at again
        partial.write_text(f"{subject}\n{result}\n", encoding="utf-8")
    paths.append(output / "summary.txt")
    seconds = time.perf_counter() - started
    print(f"\n{seconds:.0f} s; written to {loading.short_path(output)}/: {listed(paths, output)}")
    if arguments.rationales:
        print(f"rationales in ERASER's format: {loading.short_path(arguments.rationales)}/METHOD.jsonl")
    print(NEXT_STEPS)
    return 0


def _cache(arguments: Namespace) -> str | Path | None:
    """The folder of the cache. A default one that cannot be written (a read-only home) is no reason to stop."""
    if arguments.no_cache:
        if arguments.cache:
            raise ArgumentError("--no-cache: cannot be given together with --cache")
        return None
    if arguments.cache:
        return str(arguments.cache)
    try:
        return ScoreCache(default_folder()).folder
    except ArgumentError as error:
        print(f"note: {error}; going on without", file=sys.stderr)
        return None


def _check_folder(option: str, folder: Path) -> None:
    if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
        raise ArgumentError(f"{option}: {file} is a file, must be a folder")


def _quiet() -> None:
    """The command's own lines only: no loading reports, no bars of transformers."""
    quiet: Any = transformers_logging  # its functions carry no types
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    logging.getLogger("adapler").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(run_command(main))
