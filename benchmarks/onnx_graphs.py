"""How fast are the ONNX graphs? Wall-clock ratios against PyTorch, measured in turn in one run.

    python benchmarks/onnx_graphs.py --model checkpoints/movies-minilm --task data/eraser/sample

Systems: PyTorch's hard pass in float32 and bfloat16 (autocast), onnxruntime in float32 and int8. Every system drops
tokens. Texts go one by one (one.onnx) and in batches of similar length (packed.onnx). int8 is also compared in what it
says: the share of texts with the label of PyTorch's float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from adapler import AdapLeRForSequenceClassification
from adapler.budgets.machine import device_name
from adapler.data import load_task
from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.files import check_output_file, replacing
from adapler.inference.predict import predict_rows
from adapler.model.batching import batches_by_length
from adapler.onnx.checking import run_graph
from adapler.onnx.export import ONE, PACKED, export_onnx
from adapler.text import encode_dataset, load_tokenizer
from adapler.training.settings import check_numbers

BASE = "torch float32"


def labels_of_torch(
    model: AdapLeRForSequenceClassification,
    rows: Sequence[dict[str, Any]],
    *,
    dtype: torch.dtype,
    pad: int,
    token_budget: int,
    scale: float,
) -> list[int]:
    """The label of each row by PyTorch's hard pass."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = predict_rows(
            model, rows, pad_token_id=pad, token_budget=token_budget, removal="hard", threshold_scale=scale
        )
    return [int(label) for label in found.logits.argmax(-1)]


def session_of(graph: Path, *, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def labels_of_onnx(
    session: onnxruntime.InferenceSession, rows: Sequence[dict[str, Any]], *, token_budget: int, scale: float
) -> list[int]:
    """The label of each row by a graph."""
    labels = [0] * len(rows)
    for batch in batches_by_length([len(row["input_ids"]) for row in rows], token_budget=token_budget):
        types = [rows[k].get("token_type_ids") or [0] * len(rows[k]["input_ids"]) for k in batch]
        logits, _ = run_graph(session, [rows[k]["input_ids"] for k in batch], types=types, scale=scale)
        for k, label in zip(batch, logits.argmax(-1), strict=True):
            labels[k] = int(label)
    return labels


def measured(systems: dict[str, Callable[[], list[int]]], *, texts: int, repeats: int) -> dict[str, dict[str, float]]:
    """Each system in turn, several rounds; ratios are taken within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    labels: dict[str, list[int]] = {}
    for round_ in range(repeats + 1):
        for name, run in systems.items():
            start = time.perf_counter()
            labels[name] = run()
            if round_ > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    found = {}
    for name in systems:
        ratios = [base / own for base, own in zip(seconds[BASE], seconds[name], strict=True)]
        found[name] = {
            "milliseconds": 1000 * statistics.median(seconds[name]) / texts,
            "ratio": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            "agreement": sum(a == b for a, b in zip(labels[name], labels[BASE], strict=True)) / texts,
        }
    return found


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    for system, found in figures.items():
        print(
            f"  {system:<15} {found['milliseconds']:8.2f} ms a text   {found['ratio']:5.2f}x of {BASE} "
            f"[{found['least']:.2f}, {found['most']:.2f}]   same label on {found['agreement']:.3f}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/movies-minilm"))
    parser.add_argument("--task", default="data/eraser/sample")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rows", type=int, default=32, help="rows of the split to use")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="padded tokens in a batch")
    parser.add_argument("--threshold-scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="write the figures to this JSON file")
    args = parser.parse_args(argv)
    check_numbers(args, ("rows", "batch_tokens", "repeats", "threads"), low=1)
    check_output_file(args.output)
    torch.set_num_threads(args.threads)
    model = AdapLeRForSequenceClassification.from_pretrained(args.model)
    task = load_task(args.task)
    tokenizer = load_tokenizer(args.model, words=task.is_split_into_words)
    if args.split not in task.dataset:
        raise ArgumentError(f"--split: {task.name} has no split {args.split!r}; it has {', '.join(task.dataset)}")
    rows = encode_dataset(task.dataset[args.split], tokenizer, columns=task.columns, max_length=args.max_length)
    rows = rows.select(range(min(args.rows, rows.num_rows))).to_list()
    scale = args.threshold_scale
    figures: dict[str, dict[str, dict[str, float]]] = {}
    print(
        f"{task.name} {args.split}: {len(rows)} texts, {args.threads} threads, scale {scale:g}, {args.repeats} rounds"
    )
    with tempfile.TemporaryDirectory() as folder:
        for int8 in (False, True):
            export_onnx(
                model, Path(folder) / ("int8" if int8 else "float32"), tokenizer=tokenizer, int8=int8,
                record=args.model / "run.json",
            )  # fmt: skip
        for name, budget in ((ONE, 1), (PACKED, args.batch_tokens)):
            torch_labels = partial(
                labels_of_torch, model, rows, pad=tokenizer.pad_token_id, token_budget=budget, scale=scale
            )
            systems: dict[str, Callable[[], list[int]]] = {
                BASE: partial(torch_labels, dtype=torch.float32),
                "torch bfloat16": partial(torch_labels, dtype=torch.bfloat16),
            }
            for kind in ("float32", "int8"):
                session = session_of(Path(folder) / kind / name, threads=args.threads)
                systems[f"onnx {kind}"] = partial(labels_of_onnx, session, rows, token_budget=budget, scale=scale)
            figures[name] = measured(systems, texts=len(rows), repeats=args.repeats)
            print("one by one" if budget == 1 else f"packed, batches of {budget} tokens")
            print_figures(figures[name])
    if args.output is not None:
        settings = {"texts": len(rows), "threads": args.threads, "threshold_scale": scale, "repeats": args.repeats}
        settings |= {"data": task.name, "split": args.split, "max_length": args.max_length, "model": args.model.name}
        settings |= {"batch_tokens": args.batch_tokens, "machine": device_name(model.device)}
        settings |= {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
        with replacing(args.output) as temporary:
            temporary.write_text(json.dumps({**settings, "graphs": figures}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
