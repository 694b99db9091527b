"""What do the scores of all layers cost, against captum called layer by layer?

    python benchmarks/attribution.py --adapler checkpoints/movies-minilm --data data/eraser/sample

The four methods of the paper, on the same models and batches, in turn in one run. captum's side is
`LayerGradientXActivation` (saliency) and `LayerActivation` (attention weights, CP scores), one call a layer. Rollout is
given captum's attention weights without collecting them again. The scores of the two sides are compared, too, but for
those of cp. Exits with 1 when captum is less than L/2 times as slow, or when the scores differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from captum.attr import LayerActivation, LayerGradientXActivation

from adapler.backbones.families import encoder_of, layers_of
from adapler.budgets.machine import device_name
from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.files import check_output_file, replacing
from adapler.model.batching import batches_by_length
from adapler.training.settings import check_numbers
from analysis.alignment import align, collate
from analysis.corpus import default_data, load_corpus
from analysis.loading import DEFAULT_ADAPLER, load_models
from analysis.scores import Batch, get_method, normalise
from analysis.scores.attention import roll_out
from analysis.scores.passes import working_copy

METHODS = ("attention", "rollout", "saliency", "cp")
WANTED = (*((name,) for name in METHODS), METHODS)  # what is timed: each method, then all four
Scores = dict[str, torch.Tensor]  # method -> (B, L, N)


def ours(model: Any, reducer: Any, batch: Batch, names: tuple[str, ...]) -> Scores:
    return {name: get_method(name)(reducer if name == "cp" else model, batch).scores for name in names}


def captum(model: Any, reducer: Any, batch: Batch, names: tuple[str, ...]) -> Scores:
    inputs = batch.model_inputs()
    ids, others = inputs["input_ids"], tuple(inputs[name] for name in inputs if name != "input_ids")
    keys = [name for name in inputs if name != "input_ids"]

    def logits(ids: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, **dict(zip(keys, others, strict=True))).logits

    def reduced_logits(ids: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return reducer(input_ids=ids, **dict(zip(keys, others, strict=True)), removal="hard").logits

    layers, found = list(layers_of(model)), {}
    if "attention" in names or "rollout" in names:
        eager = working_copy(model)
        eager.set_attn_implementation("eager")

        def eager_logits(ids: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            return eager(input_ids=ids, **dict(zip(keys, others, strict=True))).logits

        with torch.no_grad():
            maps = [
                LayerActivation(eager_logits, getattr(layer.attention, "self", layer.attention))
                .attribute(ids, additional_forward_args=others)[1]
                .mean(1)
                for layer in layers_of(eager)
            ]  # L times (B, N, N)
        if "attention" in names:
            found["attention"] = normalise(torch.stack([one[:, 0] for one in maps], dim=1), batch.attention_mask)
        if "rollout" in names:
            found["rollout"] = normalise(roll_out(maps, residual=0.5), batch.attention_mask)
    if "saliency" in names:
        with torch.no_grad():
            target = logits(ids, *others).argmax(-1)
        encoder = encoder_of(model)
        sources = [getattr(encoder, "embeddings_project", encoder.embeddings), *layers[:-1]]
        products = [
            LayerGradientXActivation(logits, source).attribute(ids, target=target, additional_forward_args=others)
            for source in sources
        ]  # L times (B, N, D)
        norms = torch.stack([product.detach().norm(dim=-1) for product in products], dim=1)
        found["saliency"] = normalise(norms, batch.attention_mask)
    if "cp" in names:  # the predictors' raw outputs, over whichever tokens they are given: timed, not compared
        with torch.no_grad():
            for predictor in reducer.contribution_predictors:
                LayerActivation(reduced_logits, predictor).attribute(ids, additional_forward_args=others)
    return found


def measured(
    model: Any, reducer: Any, batches: Callable[[], list[Batch]], *, rounds: int
) -> tuple[dict[tuple[tuple[str, ...], str], list[float]], float]:
    """Both sides in turn, several rounds.

    Returns:
        (methods, side) -> seconds of each round; the largest difference between the two sides' scores, NaN if any is.
    """
    sides: dict[str, Callable[..., Scores]] = {"ours": ours, "captum": captum}
    seconds: dict[tuple[tuple[str, ...], str], list[float]] = {}
    worst = 0.0
    for round_ in range(rounds + 1):
        for names in WANTED:
            scores: dict[str, list[Scores]] = {}
            for side, compute in sides.items():
                chosen = batches()
                start = time.perf_counter()
                scores[side] = [compute(model, reducer, batch, names) for batch in chosen]
                if model.device.type == "cuda":
                    torch.cuda.synchronize()
                if round_ > 0:  # the first round warms up
                    seconds.setdefault((names, side), []).append(time.perf_counter() - start)
            for mine, theirs in zip(scores["ours"], scores["captum"], strict=True):
                for name, values in theirs.items():
                    difference = float((values - mine[name]).abs().max())
                    worst = difference if difference != difference else max(worst, difference)  # NaN must show
    return seconds, worst


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapler", type=Path, default=DEFAULT_ADAPLER)
    parser.add_argument("--data", default=default_data())
    parser.add_argument("--split", default="test")
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, auto (default: cpu)")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args(argv)
    check_numbers(args, ("documents", "max_length", "batch_tokens", "rounds", "threads"), low=1)
    check_output_file(args.output)
    torch.set_num_threads(args.threads)
    model, reducer, tokenizer = load_models(None, args.adapler, device=args.device)
    model.eval()
    corpus = load_corpus(args.data)
    if args.split not in corpus.splits:
        raise ArgumentError(f"--split: {corpus.name} has no split {args.split!r}; it has {', '.join(corpus.splits)}")
    examples = corpus.splits[args.split][: args.documents]
    windows = [align(example, tokenizer, max_length=args.max_length).windows[0] for example in examples]
    groups = list(batches_by_length([len(window) for window in windows], token_budget=args.batch_tokens))

    def batches() -> list[Batch]:  # new ones each time: a batch remembers the passes made on it
        return [
            collate([windows[i] for i in group], pad_token_id=tokenizer.pad_token_id, device=model.device)
            for group in groups
        ]

    n_layers = model.config.num_hidden_layers
    print(
        f"{type(model).__name__}, {n_layers} layers; {len(windows)} documents, "
        f"{sum(map(len, windows))} tokens, {args.threads} threads, median of {args.rounds} rounds"
    )
    seconds, worst = measured(model, reducer, batches, rounds=args.rounds)
    for names in WANTED:
        mine, theirs = seconds[names, "ours"], seconds[names, "captum"]
        ratios = [there / here for here, there in zip(mine, theirs, strict=True)]
        print(
            f"  {'all four' if len(names) > 1 else names[0]:<10} {statistics.median(mine):7.3f} s   captum "
            f"{statistics.median(theirs):7.3f} s   {statistics.median(ratios):5.2f}x "
            f"[{min(ratios):.2f}, {max(ratios):.2f}]"
        )
    total = statistics.median(ratios)  # of all four, the last of WANTED
    if args.output is not None:
        how = {"documents": len(windows), "max_length": args.max_length, "batch_tokens": args.batch_tokens}
        how |= {"machine": device_name(model.device), "threads": args.threads, "torch": torch.__version__}
        found = [
            {"methods": list(names), "side": side, "device": model.device.type, "seconds": values} | how
            for (names, side), values in seconds.items()
        ]
        with replacing(args.output) as partial:
            partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"captum takes {total:.2f} times as long for all four (wanted: at least L/2 = {n_layers / 2:g})")
    print(f"largest difference between the two sides' scores: {worst:.1e}")
    return 0 if total >= n_layers / 2 and worst < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(run_command(main))
