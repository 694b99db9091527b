"""How fast is inference? Wall-clock ratios against named baselines, measured in turn in one run.

    python benchmarks/inference.py --model checkpoints/movies-minilm --task data/eraser/sample

Baselines: `padded`, the plain transformers classifier on batches sorted by length; `packed`, the same weights through
AdapLeR's packed path without removal. A speedup over `padded` alone would credit the removal of padding to AdapLeR.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from adapler import AdapLeRForSequenceClassification
from adapler.data.encoding import encode, load_tokenizer
from adapler.data.tasks import load_task
from adapler.inference.predict import predict_rows
from adapler.model.flops import speedup


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/movies-minilm"))
    parser.add_argument("--task", default="data/eraser/sample")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rows", type=int, default=64, help="rows of the split to use")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[1, 8192], help="1 gives batches of one text")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = AdapLeRForSequenceClassification.from_pretrained(args.model)
    tokenizer, task = load_tokenizer(args.model), load_task(args.task)
    rows = encode(task.dataset[args.split], tokenizer, columns=task.columns, max_length=args.max_length)
    rows = rows.select(range(min(args.rows, rows.num_rows))).select_columns(["input_ids", "attention_mask"]).to_list()
    systems = {
        "padded": (model.backbone, {}),
        "packed": (model, {"removal": "none"}),
        "adapler": (model, {"removal": "hard"}),
    }
    print(f"{task.name} {args.split}: {len(rows)} texts, {args.threads} threads, float32, {args.repeats} rounds")
    for budget in args.batch_tokens:
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        for round_ in range(args.repeats + 1):
            for name, (classifier, options) in systems.items():
                start = time.perf_counter()
                out = predict_rows(
                    classifier, rows, pad_token_id=tokenizer.pad_token_id, token_budget=budget, **options
                )
                if round_ > 0:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
        flops = speedup(model.config, out.lengths_in, out.lengths)
        print(f"batches of {'one text' if budget == 1 else f'{budget} tokens'}; FLOPs speedup {flops:.2f}x")
        for name in systems:
            ratios = [base / own for base, own in zip(seconds["padded"], seconds[name], strict=True)]
            packed = [base / own for base, own in zip(seconds["packed"], seconds[name], strict=True)]
            print(
                f"  {name:<8} {1000 * statistics.median(seconds[name]) / len(rows):8.2f} ms a text   "
                f"{statistics.median(ratios):5.2f}x of padded [{min(ratios):.2f}, {max(ratios):.2f}]   "
                f"{statistics.median(packed):5.2f}x of packed"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
