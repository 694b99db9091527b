"""Time of the scores of all layers, compared with captum called layer by layer.

    python benchmarks/attribution.py --texts data/eraser/sample --rows 4

The four methods of the paper on the same models and batches, in turns. captum's side is `LayerGradientXActivation`
(saliency) and `LayerActivation` (attention weights, outputs of the predictors), a call for each layer. The two sides'
scores are compared, but for those of cp. Exits with 1 if captum is less than L/2 times as slow, or if scores differ.

Dimensions: B texts, L layers, N tokens, D hidden size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from captum.attr import LayerActivation, LayerGradientXActivation
from transformers import AutoTokenizer

from adapler import AdapLeRForSequenceClassification
from analysis.scores import Batch, get_method, normalise
from analysis.scores.attention import roll_out
from benchmarks.speed import read_texts, spread

METHODS = ("attention", "rollout", "saliency", "cp")
Scores = dict[str, torch.Tensor]  # method -> (B, L, N)


def ours(model: Any, reducer: Any, batch: Batch, names: Sequence[str]) -> Scores:
    """By this library."""
    return {name: get_method(name)(reducer if name == "cp" else model, batch).scores for name in names}


def captum(model: Any, reducer: Any, batch: Batch, names: Sequence[str]) -> Scores:
    """By captum; a BERT with eager attention."""
    inputs = batch.model_inputs()
    keys = [name for name in inputs if name != "input_ids"]
    ids, others = inputs["input_ids"], tuple(inputs[name] for name in keys)

    def logits(ids: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, **dict(zip(keys, others, strict=True))).logits

    def reduced(ids: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return reducer(input_ids=ids, **dict(zip(keys, others, strict=True)), removal="hard").logits

    encoder, found = model.base_model, {}
    layers = list(encoder.encoder.layer)
    with torch.no_grad():
        if {"attention", "rollout"} & set(names):
            model.set_attn_implementation("eager")
            maps = [
                LayerActivation(logits, layer.attention.self).attribute(ids, others)[1].mean(1) for layer in layers
            ]  # L times (B, N, N)
            found["attention"] = normalise(torch.stack([one[:, 0] for one in maps], dim=1), batch.attention_mask)
            found["rollout"] = normalise(roll_out(maps, residual=0.5), batch.attention_mask)
            model.set_attn_implementation("sdpa")
        if "cp" in names:  # raw outputs of the predictors, on the tokens that they are given: timed, not compared
            for predictor in reducer.contribution_predictors:
                LayerActivation(reduced, predictor).attribute(ids, others)
        target = logits(ids, *others).argmax(-1)
    if "saliency" in names:
        products = [
            LayerGradientXActivation(logits, source).attribute(ids, target=target, additional_forward_args=others)
            for source in (encoder.embeddings, *layers[:-1])
        ]  # L times (B, N, D)
        norms = torch.stack([product.detach().norm(dim=-1) for product in products], dim=1)
        found["saliency"] = normalise(norms, batch.attention_mask)
    return {name: found[name] for name in names if name in found}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapler", type=Path, default=Path("checkpoints/movies-minilm"))
    parser.add_argument("--texts", type=Path, default=Path("data/eraser/sample"), help="a .jsonl, or an ERASER corpus")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    args = parser.parse_args(argv)
    reducer = AdapLeRForSequenceClassification.from_pretrained(args.adapler).eval().to(args.device)
    model = AdapLeRForSequenceClassification.from_pretrained(args.adapler).backbone.eval().to(args.device)
    model.set_attn_implementation("sdpa")
    tokenizer = AutoTokenizer.from_pretrained(args.adapler)
    texts = [text[0] for text in read_texts(args.texts, "test")[: args.rows]]
    inputs = tokenizer(texts, truncation=True, max_length=args.max_length, padding=True, return_tensors="pt")
    inputs, table, worst = inputs.to(args.device), [], 0.0
    for names in (*((name,) for name in METHODS), METHODS):
        sides: dict[str, list[float]] = {"ours": [], "captum": []}
        for turn in range(args.rounds + 1):
            scores = []
            for side, compute in (("ours", ours), ("captum", captum)):
                batch = Batch(ids=tuple(map(str, range(len(texts)))), **inputs)  # it remembers the passes made on it
                start = time.perf_counter()
                scores.append(compute(model, reducer, batch, names))
                if turn:  # the first round warms up
                    sides[side].append(time.perf_counter() - start)
            for name, theirs in scores[1].items():
                worst = max(worst, float((scores[0][name] - theirs).abs().nan_to_num(torch.inf).max()))
        ratios = [there / here for here, there in zip(*sides.values(), strict=True)]
        table.append({"methods": names, **sides, "ratio": spread(ratios)})
        own, theirs = statistics.median(sides["ours"]), statistics.median(ratios)
        print(f"  {'+'.join(names):<34}{own:7.3f} s   captum {theirs:.2f}x")
    wanted = model.config.num_hidden_layers / 2
    print(f"{len(texts)} texts; wanted for all four: {wanted:g}x; largest difference of scores: {worst:.1e}")
    if args.output:
        args.output.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0 if table[-1]["ratio"]["median"] >= wanted and worst < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
