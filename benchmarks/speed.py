"""Inference times of systems that take turns in one run, and their ratios to a named baseline.

    python benchmarks/speed.py --texts data/eraser/sample --rows 16 --rounds 2
    python benchmarks/speed.py --texts data/eraser/movies --scales 0 0.5 1 1.5 --output speed.json --figure speed
    python benchmarks/speed.py --texts DATA/sst2/test.jsonl --lengths 16 64 128 --dtype float32 bfloat16 --onnx

* transformers: AutoModelForSequenceClassification, SDPA, padded batches in the order of the texts
* sorted: the same on batches of similar length
* packed: the same weights through AdapLeR's packed path, nothing dropped
* adapler S: tokens dropped at threshold scale S
* onnx: the exported graph in float32 and int8, which drops too (`--onnx`)

Against padded batches AdapLeR would be credited with the removal of padding, so the default baseline is `packed`.
Collating is timed, tokenising is not. `same` is the share of texts with the baseline's label.

Dimensions: B texts, N tokens, L layers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from adapler import AdapLeRForSequenceClassification
from adapler.flops import speedup

Rows = list[dict[str, list[int]]]  # of the tokenizer, unpadded


@dataclass
class System:
    """A system to time: `run` takes batches of row indices and returns labels, and lengths (B, L) if it drops any."""

    name: str
    run: Callable[[Rows, list[list[int]]], tuple[list[int], Any]]
    by_length: bool = True
    seconds: list[float] = field(default_factory=list)
    labels: dict[int, int] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)


def read_texts(path: Path, split: str) -> list[tuple[str, ...]]:
    """Texts or pairs of a .jsonl, or the documents of a split of an ERASER corpus."""
    if path.is_dir():
        lines = (path / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        return [((path / "docs" / json.loads(line)["annotation_id"]).read_text(encoding="utf-8"),) for line in lines]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [tuple(row[name] for name in ("text", "text_a", "text_b") if name in row) for row in rows]


def batches_of(lengths: Sequence[int], batch: str, *, tokens: int, by_length: bool) -> list[list[int]]:
    """Row indices of each batch: so many texts, or (`tokens`) so many padded tokens."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row]) if by_length else list(range(len(lengths)))
    if batch != "tokens":
        return [order[at : at + int(batch)] for at in range(0, len(order), int(batch))]
    found: list[list[int]] = []
    for row in order:
        longest = max(lengths[other] for other in [row, *(found[-1] if found else [])])
        if not found or longest * (len(found[-1]) + 1) > tokens:
            found.append([])
        found[-1].append(row)
    return found


def torch_system(name: str, model: Any, tokenizer: Any, *, by_length: bool = True, **options: Any) -> System:
    """A PyTorch model on padded batches."""

    def run(rows: Rows, batches: list[list[int]]) -> tuple[list[int], Any]:
        labels: list[int] = []
        lengths = []
        with torch.inference_mode():
            for batch in batches:
                columns = {key: [rows[row][key] for row in batch] for key in rows[0]}
                inputs = tokenizer.pad(columns, return_tensors="pt").to(model.device)
                found = model(**inputs, **options)
                labels += found.logits.argmax(-1).tolist()
                lengths.append(found.lengths.cpu() if "removal" in options else None)
        return labels, torch.cat(lengths) if options.get("removal") == "hard" else None

    return System(name, run, by_length)


def onnx_system(name: str, folder: Path, *, scale: float, threads: int, single: bool) -> System:
    """A graph of `adapler export --onnx`: one.onnx for single texts, else packed.onnx."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        folder / ("one.onnx" if single else "packed.onnx"), options, providers=["CPUExecutionProvider"]
    )
    wanted = {one.name for one in session.get_inputs()}

    def run(rows: Rows, batches: list[list[int]]) -> tuple[list[int], Any]:
        labels, lengths = [], []
        for batch in batches:
            names = wanted & set(rows[0])
            inputs = {key: np.concatenate([rows[row][key] for row in batch]).astype(np.int64) for key in names}
            if single:
                inputs = {key: value[None] for key, value in inputs.items()}
            else:
                inputs["lengths"] = np.array([len(rows[row]["input_ids"]) for row in batch], dtype=np.int64)
            inputs["threshold_scale"] = np.array(scale, dtype=np.float32)
            logits, left = session.run(["logits", "layer_lengths"], inputs)
            labels += logits.argmax(-1).tolist()
            lengths.append(torch.tensor(left))
        return labels, torch.cat(lengths)

    return System(name, run)


def systems(args: argparse.Namespace, tokenizer: Any, graphs: Path, threads: int, batch: str) -> Iterator[System]:
    """All that take turns."""
    model = AdapLeRForSequenceClassification.from_pretrained(args.model).eval().to(args.device)
    for dtype in args.dtype:
        plain = AdapLeRForSequenceClassification.from_pretrained(args.model).backbone.eval()
        plain = plain.to(args.device, getattr(torch, dtype))
        plain.set_attn_implementation("sdpa")
        yield torch_system(f"transformers {dtype}", plain, tokenizer, by_length=False)
        yield torch_system(f"sorted {dtype}", plain, tokenizer)
        fast = model.for_inference(dtype=dtype)
        yield torch_system(f"packed {dtype}", fast, tokenizer, removal="none")
        for scale in args.scales:
            yield torch_system(f"adapler {scale:g} {dtype}", fast, tokenizer, removal="hard", threshold_scale=scale)
    for kind in ("float32", "int8") if args.onnx else ():
        if not (graphs / kind).is_dir():
            words = ["export", "--onnx", *(["--int8"] if kind == "int8" else []), "--model", str(args.model)]
            command = [sys.executable, "-m", "adapler", *words, "--output", str(graphs / kind)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for scale in args.scales:
            yield onnx_system(
                f"onnx {scale:g} {kind}", graphs / kind, scale=scale, threads=threads, single=batch == "1"
            )


def measure(named: Sequence[System], rows: Rows, args: argparse.Namespace, batch: str, config: Any) -> list[Any]:
    """A row of the table for each system; all take turns in each round, the first of which warms up."""
    lengths = [len(row["input_ids"]) for row in rows]
    for turn in range(args.rounds + 1):
        for system in named:
            batches = batches_of(lengths, batch, tokens=args.batch_tokens, by_length=system.by_length)
            start = time.perf_counter()
            labels, left = system.run(rows, batches)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                system.seconds.append(time.perf_counter() - start)
                continue
            order = [row for one in batches for row in one]
            system.labels = dict(zip(order, labels, strict=True))
            if left is not None:
                entered = torch.tensor([lengths[row] for row in order])
                system.flops = {kind: speedup(config, entered, left, convention=kind) for kind in ("paper", "executed")}
    base = next(one for one in named if one.name.startswith(args.base))
    return [
        {
            **{"system": one.name, "batch": batch, "flops": one.flops},
            "ms": spread([1000 * seconds / len(rows) for seconds in one.seconds]),
            f"over {base.name}": spread([a / b for a, b in zip(base.seconds, one.seconds, strict=True)]),
            "same": statistics.mean(one.labels[row] == base.labels[row] for row in base.labels),
        }
        for one in named
    ]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(table: Sequence[dict[str, Any]]) -> str:
    """The table as text."""
    base = next(name for name in table[0] if name.startswith("over "))
    lines = [
        f"  {'system':<24}{'ms a text':>22}{base.replace('over', 'x'):>26}{'FLOPs: paper, executed':>24}{'same':>7}"
    ]
    for row in table:
        ms, ratio = (f"{one['median']:.2f} [{one['min']:.2f}, {one['max']:.2f}]" for one in (row["ms"], row[base]))
        counted = "".join(
            f"{row['flops'][kind]:>{width}.2f}x" for kind, width in (("paper", 13), ("executed", 9)) if row["flops"]
        )
        lines.append(f"  {row['system']:<24}{ms:>22}{ratio:>26}{counted:>24}{row['same']:>7.3f}")
    return "\n".join(lines)


def figure(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Measured speedup over that of executed FLOPs, with the line of a kept promise; a panel for each kind of batch."""
    import matplotlib.pyplot as plt

    batches = list(dict.fromkeys(row["batch"] for row in found))
    made, axes = plt.subplots(1, len(batches), figsize=(3.1 * len(batches), 2.6), squeeze=False, layout="constrained")
    for ax, batch in zip(axes[0], batches, strict=True):
        for dtype, style in (("float32", "s--"), ("bfloat16", "o-"), ("int8", "^:")):
            rows = [row for row in found if row["batch"] == batch and row["flops"] and row["system"].endswith(dtype)]
            kinds = dict.fromkeys(row["system"].split()[0] for row in rows)
            for kind in kinds:
                base = next(name for name in rows[0] if name.startswith("over "))
                own = sorted(
                    (row["flops"]["executed"], row[base]["median"]) for row in rows if row["system"].startswith(kind)
                )
                ax.plot(*zip(*own, strict=True), style, markersize=3, linewidth=0.8, label=f"{kind} {dtype}")
        most = max([row["flops"]["executed"] for row in found if row["flops"]], default=2)
        ax.plot([1, most], [1, most], color="#999999", linewidth=0.6)
        ax.set(title=f"batches of {batch}", xlabel="speedup in executed FLOPs", ylabel="measured speedup")
        ax.legend(frameon=False, fontsize=6)
    for suffix in ("png", "pdf"):
        made.savefig(path.with_suffix(f".{suffix}"), dpi=200)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, default=Path("checkpoints/movies-minilm"))
    add("--texts", type=Path, default=Path("data/eraser/sample"), help="a .jsonl, or a corpus in ERASER layout")
    add("--split", default="test", help="of a corpus")
    add("--rows", type=int, help="the first so many texts (default: all)")
    add("--lengths", type=int, nargs="+", default=[512], help="texts are cut at so many wordpieces")
    add("--batches", nargs="+", default=["tokens", "1"], help="texts of a batch, or `tokens`")
    add("--batch-tokens", type=int, default=8192)
    add("--scales", type=float, nargs="+", default=[0.0, 1.0], help="threshold scales")
    add("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    add("--device", default="cpu")
    add("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    add("--rounds", type=int, default=5)
    add("--onnx", action="store_true", help="also the exported graphs, on the CPU")
    add("--base", default="packed", help="start of the baseline's name (default: packed)")
    add("--output", type=Path, help="write everything to this JSON file")
    add("--figure", type=Path, help="draw measured against FLOPs speedup: FIGURE.png, .pdf")
    args = parser.parse_args(argv)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    texts = read_texts(args.texts, args.split)[: args.rows]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for length in args.lengths:
            encoded = tokenizer(*map(list, zip(*texts, strict=True)), truncation=True, max_length=length)
            rows = [{name: encoded[name][row] for name in encoded} for row in range(len(texts))]
            mean = statistics.mean(len(row["input_ids"]) for row in rows)
            for threads in args.threads:
                torch.set_num_threads(threads)
                for batch in args.batches:
                    named = list(systems(args, tokenizer, Path(folder), threads, batch))
                    config = AdapLeRForSequenceClassification.config_class.from_pretrained(args.model)
                    about = {"texts": len(rows), "data": args.texts.name, "max_length": length, "mean_length": mean}
                    about |= {"threads": threads, "device": args.device, "torch": torch.__version__}
                    print(
                        ", ".join(f"{name} {value}" for name, value in about.items()), f"batches of {batch}", sep=", "
                    )
                    table = measure(named, rows, args, batch, config)
                    print(shown(table), flush=True)
                    found += [about | {"model": args.model.name, "rounds": args.rounds} | row for row in table]
                    if args.output:
                        args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.figure:
        figure(found, args.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
