"""Cost and memory of a rationale evaluation, in ratios of one run.

    python benchmarks/evaluation.py --data data/eraser/sample
    python benchmarks/evaluation.py --data data/eraser/movies --memory 50 199

Cost: the evaluation with the four methods of the paper (attention, rollout, saliency, cp; every layer and metric;
intervals and tests between methods not included) against one plain forward and backward pass of the same model over the
same batches. Both are timed in turns on the processor, without a cache, and the medians are compared.

Memory: peak resident memory of the evaluation of the first N documents, each N in a process of its own, so that the
peaks do not mix.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.model.batching import batches_by_length
from adapler.training.settings import check_numbers
from analysis import loading
from analysis.documents.batching import collate
from analysis.evaluation import run as evaluation
from analysis.evaluation.plan import Plan
from analysis.evaluation.settings import Settings

METHODS = ("attention", "rollout", "saliency", "cp")


def forward_and_backward(model: Any, tokenizer: Any, plan: Plan, settings: Settings) -> None:
    """The loss of every document and its gradients, as a training step without the optimiser; alignment included."""
    model.eval()
    for indices, alignments in plan.chunks():
        windows = [window for alignment in alignments for window in alignment.windows]
        labels = [plan.gold[i] for i, alignment in zip(indices, alignments, strict=True) for _ in alignment.windows]
        for rows in batches_by_length([len(window) for window in windows], token_budget=settings.batch_tokens("cpu")):
            batch = collate([windows[i] for i in rows], pad_token_id=tokenizer.pad_token_id)
            model(**batch.model_inputs(), labels=torch.tensor([labels[i] for i in rows])).loss.backward()
            model.zero_grad(set_to_none=True)


def cost(data: Path, settings: Settings, repeats: int) -> None:
    split = settings.split
    model, adapler, tokenizer = loading.load_models(None, None, device="cpu")
    corpus = loading.load_corpus(data, split=split)
    for parameter in model.parameters():
        parameter.requires_grad_(True)

    def plain() -> None:
        plan = Plan(model=model, tokenizer=tokenizer, corpus=corpus, split=split, settings=settings)
        forward_and_backward(model, tokenizer, plan, settings)

    def whole() -> None:
        evaluation.run_evaluation(
            model=model,
            adapler=adapler,
            tokenizer=tokenizer,
            corpus=corpus,
            settings=settings,
            progress=False,
        )

    def timed(run: Callable[[], None]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    pairs = [(timed(plain), timed(whole)) for _ in range(repeats)]
    reference, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    n_documents = len(corpus.splits[split][: settings.limit])
    print(f"{data} {split}, {n_documents} documents, {torch.get_num_threads()} threads, median of {repeats}")
    print(f"  forward and backward once          {reference:7.2f} s")
    print(f"  evaluation, {len(METHODS)} methods, all layers   {ours:7.2f} s   {ours / reference:.2f} times as much")


def memory(data: Path, split: str, max_length: int, sizes: Sequence[int]) -> None:
    """Run this file once for each number of documents and print its peak."""
    peaks = []
    for size in sizes:
        command = [sys.executable, __file__, "--data", str(data), "--split", split]
        command += ["--max-length", str(max_length), "--peak", str(size)]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
        print(f"  {size:4d} documents   peak {peaks[-1]:7.0f} MiB   {peaks[-1] / peaks[0]:.2f} of the first")


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=loading.DEFAULT_DATA[-1])
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--limit", type=int, help="the first N documents only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="+", metavar="N", help="measure peak memory instead")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    check_numbers(arguments, ("max_length", "limit", "repeats"), low=1)
    if arguments.memory and min(arguments.memory) < 1:
        raise ArgumentError(f"--memory: {min(arguments.memory)} is not at least 1")
    if arguments.peak:
        model, adapler, tokenizer = loading.load_models(None, None, device="cpu")
        evaluation.run_evaluation(
            model=model,
            adapler=adapler,
            tokenizer=tokenizer,
            corpus=loading.load_corpus(arguments.data, split=arguments.split),
            settings=Settings(
                split=arguments.split, methods=METHODS, limit=arguments.peak, max_length=arguments.max_length
            ),
            progress=False,
        )
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # KiB on Linux
    elif arguments.memory:
        memory(arguments.data, arguments.split, arguments.max_length, arguments.memory)
    else:
        settings = Settings(
            split=arguments.split, methods=METHODS, limit=arguments.limit, max_length=arguments.max_length
        )
        cost(arguments.data, settings, arguments.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
