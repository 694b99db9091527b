"""The command `python -m analysis.rationale_eval`, and the same as a function: `evaluate`."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import logging as transformers_logging

from adapler.data.eraser import EraserCorpus
from adapler.errors import ArgumentError, run_command
from adapler.files import replacing
from analysis import evaluation, loading, tables
from analysis.alignment import POLICIES
from analysis.evaluation import DTYPES, PAPER_METHODS, TOKEN_BUDGET, Settings
from analysis.report import RationaleReport
from analysis.scores import method_names

NEXT_STEPS = "next: streamlit run app/main.py   (the same scores, document by document)"
EXAMPLE = """example:
  python -m analysis.rationale_eval --adapler checkpoints/movies-minilm --data data/eraser/movies \\
      --split val --methods saliency cp random --output reports/movies-val

Without arguments: the embedded checkpoint on data/eraser/movies if that is there, else on data/eraser/sample.
"""


def evaluate(
    *,
    model: Any = None,
    adapler: Any = None,
    data: str | Path | EraserCorpus | None = None,
    split: str = "test",
    methods: Sequence[str] | None = None,
    tokenizer: Any = None,
    policy: str = "truncate",
    max_length: int = 512,
    token_budget: int = TOKEN_BUDGET,
    limit: int | None = None,
    threshold_scale: float = 1.0,
    dtype: str = "float32",
    seed: int = 0,
    progress: bool = True,
    command: str | None = None,
) -> RationaleReport:
    """Compare attribution scores with human rationales, layer by layer.

    model, adapler: an object, a folder or a hub name. Neither: the embedded checkpoint; adapler alone: its own
        backbone is the classifier; model alone: no AdapLeR, hence no `cp`.
    data: a corpus, or a folder or archive in ERASER layout; default data/eraser/movies if there, else the
        sample.
    methods: names of the registry; default: the paper's, `analysis.evaluation.PAPER_METHODS`.
    The other arguments are the command's options, see `--help`.

    Raises AdapLeRError (one line) for whatever is wrong with an argument, a checkpoint or the data.
    """
    settings = Settings(
        policy=policy,
        max_length=max_length,
        token_budget=token_budget,
        threshold_scale=threshold_scale,
        dtype=dtype,
        seed=seed,
        limit=limit,
    )
    corpus = loading.load_corpus(data)
    classifier, reducer, tokenizer = loading.load_models(model, adapler, tokenizer)
    return evaluation.evaluate(
        model=classifier,
        adapler=reducer,
        tokenizer=tokenizer,
        corpus=corpus,
        split=split,
        methods=methods,
        settings=settings,
        meta=_names(model, adapler) | ({} if command is None else {"command": command}),
        progress=progress,
    )


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


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.rationale_eval",
        description="Attribution scores against human rationales: AP, FPR, TPR of each method at each layer.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--adapler", metavar="DIR", help="an AdapLeR checkpoint (default: checkpoints/movies-minilm)")
    add(
        "--model",
        metavar="DIR_OR_HUB",
        help="a fine-tuned classifier (default: the AdapLeR checkpoint's backbone)",
    )
    add(
        "--data",
        metavar="DIR_OR_TAR",
        help="a corpus in ERASER layout (default: data/eraser/movies, else sample)",
    )
    add("--split", default="test", help="default: test")
    add(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(method_names())}; default: {' '.join(PAPER_METHODS)}",
    )
    add("--output", metavar="DIR", help="default: reports/DATA-SPLIT")
    add(
        "--policy",
        default="truncate",
        choices=POLICIES,
        help="how a long document is seen (default: truncate)",
    )
    add("--max-length", type=int, default=512, metavar="N", help="wordpieces of an input (default: 512)")
    add(
        "--token-budget",
        type=int,
        default=TOKEN_BUDGET,
        metavar="N",
        help=f"tokens a batch (default: {TOKEN_BUDGET})",
    )
    add("--limit", type=int, metavar="N", help="the first N documents only")
    add("--threshold-scale", type=float, default=1.0, metavar="X", help="multiplies every eta (default: 1.0)")
    add("--dtype", default="float32", choices=tuple(DTYPES), help="bfloat16: autocast (default: float32)")
    add("--seed", type=int, default=0, help="of random scores and bootstrap (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError."""
    arguments = build_parser().parse_args(argv)
    _quiet()
    started = time.perf_counter()
    data = Path(arguments.data) if arguments.data else loading.default_data()
    corpus = loading.load_corpus(data)
    output = Path(arguments.output or f"reports/{corpus.name}-{arguments.split}")
    if file := next((path for path in (output, *output.parents) if path.is_file()), None):
        raise ArgumentError(f"--output: {file} is a file, must be a folder")
    embedded = not (arguments.adapler or arguments.model)
    adapler = str(loading.DEFAULT_ADAPLER) if embedded else arguments.adapler
    subject = (
        f"adapler    {loading.short_path(adapler) if adapler else '-'}{' (embedded)' if embedded else ''}\n"
        f"model      {arguments.model or 'the backbone of the AdapLeR checkpoint'}\n"
        f"data       {loading.short_path(data)}, {arguments.split}{'' if arguments.data else _why(data)}"
    )
    print(subject, flush=True)
    report = evaluate(
        model=arguments.model,
        adapler=arguments.adapler,
        data=corpus,
        split=arguments.split,
        methods=arguments.methods,
        policy=arguments.policy,
        max_length=arguments.max_length,
        token_budget=arguments.token_budget,
        limit=arguments.limit,
        threshold_scale=arguments.threshold_scale,
        dtype=arguments.dtype,
        seed=arguments.seed,
        command=shlex.join(["python", "-m", "analysis.rationale_eval", *(sys.argv[1:] if argv is None else argv)]),
    )
    result = f"{header(report)}\n\n{tables.plain(report)}"
    print(result)
    paths = report.save(output)
    with replacing(output / "summary.txt") as partial:  # what was printed, to look at again
        partial.write_text(f"{subject}\n{result}\n", encoding="utf-8")
    paths.append(output / "summary.txt")
    seconds = time.perf_counter() - started
    print(f"\n{seconds:.0f} s; written to {loading.short_path(output)}/: {', '.join(_listed(paths, output))}")
    print(NEXT_STEPS)
    return 0


def header(report: RationaleReport) -> str:
    """What was evaluated, how much of it was seen, and how the two models classify it."""
    meta, lost = report.meta, report.meta["truncation"]
    scored = len(report.documents) - report.n_skipped
    share = 100 * lost["rationale_words_lost"] / max(1, lost["rationale_words"])
    lines = [
        f"documents  {len(report.documents)}, {scored} scored, {report.n_skipped} skipped "
        "(no rationale, or no other token, in view)",
        f"in view    {meta['max_length']} wordpieces ({meta['policy']}): {lost['words_lost']} of "
        f"{lost['words']} words and {share:.0f} % of the rationale words are lost",
        f"density    {tables.number(meta['density'])} of the tokens in view are rationale; "
        f"average precision at chance {tables.number(meta['chance_average_precision'])}",
        f"accuracy   {tables.number(report.accuracy)} fine-tuned classifier",
    ]
    if report.mean_lengths is not None and report.speedup is not None:
        lines[-1] += (
            f", {tables.number(report.adapler_accuracy)} AdapLeR (same label on {tables.number(report.agreement)})"
        )
        tokens = sum(d.tokens for d in report.documents) / len(report.documents)
        lengths = " ".join(f"{length:.0f}" for length in report.mean_lengths)
        lines += [
            f"FLOPs      {report.speedup:.2f}x fewer with AdapLeR",
            f"tokens     {tokens:.0f} in the input; entering each layer: {lengths}",
        ]
    return "\n".join(lines)


def _why(data: Path) -> str:
    if data == loading.DEFAULT_DATA[0]:
        return " (the real ERASER Movie Reviews)"
    return " (the embedded sample; the real reviews are not in data/eraser/movies)"


def _listed(paths: Sequence[Path], output: Path) -> list[str]:
    names = [path.relative_to(output) for path in paths]
    pdfs = {name.with_suffix("") for name in names if name.suffix == ".pdf"}
    grouped = [str(name) for name in names if name.with_suffix("") not in pdfs]
    return grouped + [f"{stem}.{{pdf,png}}" for stem in sorted(pdfs)]


def _quiet() -> None:
    """The command's own lines only: no loading reports, no bars of transformers."""
    quiet: Any = transformers_logging  # its functions carry no types
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    logging.getLogger("adapler").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(run_command(main))
