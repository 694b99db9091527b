"""How fast is inference? Wall-clock ratios against named baselines, measured in turn in one run.

    python benchmarks/inference.py --data data/eraser/sample --rows 16 --rounds 2
    python benchmarks/inference.py --data data/eraser/movies --dtype float32 bfloat16 --threads 1 2 --output x.json
    python benchmarks/inference.py --data DATA/sst2 --lengths 16 64 128 256 512 --batches 1 8 32 tokens
    python benchmarks/inference.py --data data/eraser/movies --compare-dtypes

Baselines: `transformers`, what a user would write (AutoModelForSequenceClassification, SDPA attention, inference_mode,
padded batches in input order); `sorted`, the same on batches sorted by length; `packed`, the same weights through
AdapLeR's packed path without removal. Over padded batches alone, AdapLeR would be credited with the removal of padding.
`ceiling 1` is the most that dropping tokens could give on this machine with these kernels: the packed layers on as many
tokens as AdapLeR at scale 1 keeps, without predictors, without choosing or moving a token, without scores.
`least 1` is the same with the least that predictors in float32 do beside it: what enters a layer is read by one product
in float32 before any of it is dropped, and what stays is copied. `ceiling 0` is that at scale 0, where all stay.
`--compare-dtypes` measures no time: it says how often labels and kept tokens differ between bfloat16 and float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from adapler import AdapLeRForSequenceClassification
from adapler.backbones import families
from adapler.backbones.checkpoints import read_config
from adapler.backbones.packing import Segments
from adapler.backbones.pieces import pieces
from adapler.budgets.machine import device_name
from adapler.data import in_label_order, load_task
from adapler.distributed import device
from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.files import check_output_file, replacing
from adapler.model.batching import TOKEN_BUDGET, batches_by_length, pad_rows
from adapler.model.flops import Convention, speedup
from adapler.precision import choose_dtype, describe_dtype
from adapler.text import encode_dataset, load_tokenizer

PACKED = "packed"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CONVENTIONS: tuple[Convention, ...] = ("paper", "executed")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, default=Path("checkpoints/movies-minilm"))
    add("--data", default="data/eraser/sample", help="a task's name or folder, or a corpus in ERASER layout")
    add("--split", default="test")
    add("--rows", type=int, default=64, help="rows of the split to use; 0: all (default: 64)")
    add("--lengths", type=int, nargs="+", default=[512], help="texts are cut at these many wordpieces (default: 512)")
    add("--batches", nargs="+", default=["1", "tokens"], help="texts of a batch, or `tokens`: so many padded tokens")
    add("--batch-tokens", type=int, default=TOKEN_BUDGET)
    add("--scales", type=float, nargs="+", default=[0.0, 0.8, 1.0, 1.15], help="threshold scales")
    add("--device", default="cpu", help="cpu, cuda, auto (a GPU where there is one), ... (default: cpu)")
    add("--dtype", nargs="+", default=["auto"], help="auto, float32, bfloat16, or several of them")
    add("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    add("--rounds", type=int, default=5, help="rounds that count, after one that warms up (default: 5)")
    add("--ceiling", action="store_true", help="also the layers alone on the tokens that each scale keeps")
    add("--compare-dtypes", action="store_true", help="agreement of bfloat16 with float32 instead of times")
    add("--output", type=Path, help="write everything to this JSON file")
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Raises ArgumentError, before anything is measured."""
    check_output_file(args.output)
    for batch in args.batches:
        if batch != "tokens" and not (batch.isdecimal() and int(batch) > 0):
            raise ArgumentError(f"--batches: {batch!r} is neither `tokens` nor a whole number of texts above 0")
    low = {"rounds": 1, "batch_tokens": 1, "rows": 0}
    for name, least in low.items():
        if getattr(args, name) < least:
            raise ArgumentError(f"--{name.replace('_', '-')}: {getattr(args, name)} is not at least {least}")
    if min(args.threads) < 1:
        raise ArgumentError(f"--threads: {min(args.threads)} is not at least 1")


def save(result: list[dict[str, Any]], output: Path | None) -> None:
    if output is not None:
        with replacing(output) as partial:
            partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def groups(lengths: list[int], batch: str, *, tokens: int, by_length: bool) -> list[list[int]]:
    """Row numbers of each batch."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row]) if by_length else list(range(len(lengths)))
    if batch != "tokens":
        size = int(batch)
        return [order[at : at + size] for at in range(0, len(order), size)]
    if by_length:
        return list(batches_by_length(lengths, token_budget=tokens))
    size = max(1, tokens // max(lengths))
    return [order[at : at + size] for at in range(0, len(order), size)]


def run(model: Any, rows: list[Any], batches: list[list[int]], *, pad: int, **options: Any) -> list[Any]:
    """Outputs of each batch; collating is part of what is timed, for every system."""
    with torch.inference_mode():
        return [
            model(**pad_rows([rows[row] for row in batch], pad_token_id=pad, device=model.device), **options)
            for batch in batches
        ]


class Ceiling:
    """The packed backbone on the numbers of tokens that AdapLeR keeps, and nothing else. Its logits mean nothing.

    Each layer takes the first tokens of the row, as many as AdapLeR kept there, with the lengths of its sequences known
    before. What is missing here from the speedup that the FLOPs promise, the kernels lose on fewer tokens.

    Args:
        reads: with the least that choosing costs: before tokens leave, the states are converted to float32 and
            multiplied by a matrix as wide as a predictor's first one, and the states of those that stay are copied. No
            predictor in float32 does less.
    """

    def __init__(self, model: Any, *, scale: float, reads: bool) -> None:
        self.model, self.scale, self.reads = model, scale, reads
        self.device, self.config = model.device, model.config
        self.units = torch.zeros(self.config.contribution_hidden_size, self.config.hidden_size, device=self.device)
        self.kept: dict[bytes, list[Segments]] = {}  # by batch: the sequences that enter each layer

    def lengths(self, batch: dict[str, Tensor]) -> list[Segments]:
        """The sequences that enter each layer, longest first; found once for a batch, in the round that warms up."""
        name = batch["input_ids"].cpu().numpy().tobytes()
        if name not in self.kept:
            entered = self.model(**batch, removal="hard", threshold_scale=self.scale).lengths  # (B, L)
            self.kept[name] = [Segments(one.sort(descending=True).values) for one in entered.T]
        return self.kept[name]

    def __call__(self, **batch: Tensor) -> Tensor:
        kept, backbone = self.lengths(batch), self.model.backbone
        place = batch["attention_mask"].flatten().nonzero()[:, 0]  # (T,)
        positions = families.position_ids(backbone, batch["attention_mask"]).flatten()[place][None]  # (1, T)
        ids, types = (None if batch.get(name) is None else batch[name].flatten()[place][None] for name in INPUTS[::2])
        hidden = families.embed(backbone, ids, positions=positions, token_type_ids=types)  # (1, T, D)
        for index, segments in enumerate(kept):
            stay = len(segments.owner)
            at = positions[:, :stay]
            if self.reads:
                for part in pieces(hidden[0]):
                    linear(part.float(), self.units)
                if stay < hidden.shape[1]:
                    hidden = hidden.index_select(1, torch.arange(stay, device=self.device))
            run = partial(families.run_layer, backbone, index)
            if index == len(kept) - 1:
                run = partial(families.run_last_layer, backbone)
            hidden = run(hidden[:, :stay], positions=at, segments=segments)
        return families.head(backbone, hidden[0])  # (B, C)


def systems(
    folder: Path, scales: list[float], dtypes: list[str], where: torch.device, *, ceiling: bool
) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """(name, dtype, model, its arguments)."""
    model = AdapLeRForSequenceClassification.from_pretrained(folder).eval().to(where)
    for dtype in dict.fromkeys(["float32", *dtypes]):
        # A classifier of its own, as a user has it: no attention function of ours, all weights in the format.
        plain = (
            AdapLeRForSequenceClassification.from_pretrained(folder).backbone.eval().to(where, getattr(torch, dtype))
        )
        plain.set_attn_implementation("sdpa")
        yield "transformers", dtype, plain, {}
        yield "sorted", dtype, plain, {}
        if dtype not in dtypes:
            continue
        fast = model.for_inference(dtype=dtype)
        yield PACKED, dtype, fast, {"removal": "none"}
        for scale in scales:
            yield f"adapler {scale:g}", dtype, fast, {"removal": "hard", "threshold_scale": scale}
            if ceiling:
                yield f"ceiling {scale:g}", dtype, Ceiling(fast, scale=scale, reads=not scale), {}
            if ceiling and scale:
                yield f"least {scale:g}", dtype, Ceiling(fast, scale=scale, reads=True), {}


def measure(named: list[Any], rows: list[Any], args: argparse.Namespace, batch: str, pad: int) -> list[dict[str, Any]]:
    """One row of the table for each system; all systems take turns in each round."""
    lengths = [len(row["input_ids"]) for row in rows]
    calls: list[Callable[[], Any]] = []
    orders = []
    for name, _, model, options in named:
        order = groups(lengths, batch, tokens=args.batch_tokens, by_length=name != "transformers")
        orders.append(order)
        calls.append(partial(run, model, rows, order, pad=pad, **options))
    seconds: list[list[float]] = [[] for _ in calls]
    outputs: list[Any] = []
    for round_ in range(args.rounds + 1):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            result = call()
            if named[number][2].device.type == "cuda":
                torch.cuda.synchronize()
            if round_:
                seconds[number].append(time.perf_counter() - start)
            else:  # the first round warms up
                outputs.append(result)
    table: list[dict[str, Any]] = []
    for number, (name, dtype, model, _) in enumerate(named):
        flops: dict[str, float | None] = dict.fromkeys(CONVENTIONS)
        if name.startswith("adapler"):
            entered = torch.cat([out.lengths.cpu() for out in outputs[number]])
            lengths_in = torch.tensor([lengths[row] for group in orders[number] for row in group])
            flops = {kind: speedup(model.config, lengths_in, entered, convention=kind) for kind in CONVENTIONS}
        elif name.startswith(("ceiling", "least")):  # of the model before it, whose tokens it takes
            flops = table[-1]["flops"]
        row: dict[str, Any] = {"system": name, "dtype": dtype, "batch": batch, "flops": flops}
        row["ms"] = spread([1000 * one / len(rows) for one in seconds[number]])
        for base in ("sorted float32", f"sorted {dtype}", f"{PACKED} {dtype}"):
            found = [at for at, (n, d, _, _) in enumerate(named) if f"{n} {d}" == base]
            if found:
                pairs = zip(seconds[found[0]], seconds[number], strict=True)
                row[f"over {base}"] = spread([theirs / ours for theirs, ours in pairs])
        table.append(row)
    return table


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def print_table(table: list[dict[str, Any]]) -> None:
    print(
        f"  {'system':<14}{'dtype':<10}{'ms a text':>22}{'x sorted float32':>20}{'x sorted':>10}{'x packed':>20}"
        f"{'FLOPs: paper':>14}{'executed':>10}{'x packed / FLOPs executed':>27}"
    )
    for row in table:
        own = row.get(f"over {PACKED} {row['dtype']}")
        paper, executed = (row["flops"][kind] for kind in CONVENTIONS)
        counted = f"{paper:>13.2f}x{executed:>9.2f}x" if paper else f"{'':>24}"
        ratio = f"{own['median'] / executed:>27.2f}" if own and executed else ""
        print(
            f"  {row['system']:<14}{row['dtype']:<10}{shown(row['ms']):>22}{shown(row['over sorted float32']):>20}"
            f"{row['over sorted ' + row['dtype']]['median']:>10.2f}{shown(own) if own else '':>20}{counted}{ratio}"
        )


def shown(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} [{value['min']:.2f}, {value['max']:.2f}]"


def compare_dtypes(model: Any, rows: list[Any], labels: list[int], *, pad: int) -> dict[str, float]:
    """How far bfloat16 is from float32: labels, score, and the tokens that enter each layer."""
    lengths = [len(row["input_ids"]) for row in rows]
    order = groups(lengths, "tokens", tokens=TOKEN_BUDGET, by_length=True)
    exact, rough = (run(model.for_inference(dtype=dtype), rows, order, pad=pad) for dtype in ("float32", "bfloat16"))
    gold = torch.tensor([labels[row] for group in order for row in group])
    ours, theirs = (torch.cat([out.logits.argmax(-1).cpu() for out in outputs]) for outputs in (rough, exact))
    differ = sum(int((a.retention_mask != b.retention_mask).sum()) for a, b in zip(rough, exact, strict=True))
    either = sum(int((a.retention_mask | b.retention_mask).sum()) for a, b in zip(rough, exact, strict=True))
    return {
        "texts": len(rows),
        "same label": float((ours == theirs).double().mean()),
        "accuracy float32": float((theirs == gold).double().mean()),
        "accuracy bfloat16": float((ours == gold).double().mean()),
        "kept differently, of tokens x layers": differ / (sum(lengths) * model.num_layers),
        "kept differently, of tokens kept by either": differ / either,
    }


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    check(args)
    where = device(args.device)
    task = load_task(args.data)
    tokenizer = load_tokenizer(args.model, words=task.is_split_into_words)
    if args.split not in task.dataset:
        raise ArgumentError(f"--split: {task.name} has no split {args.split!r}; it has {', '.join(task.dataset)}")
    pad = tokenizer.pad_token_id
    if args.compare_dtypes:  # the only thing that reads labels
        config = read_config(args.model)
        task = in_label_order(task, [str(config.id2label[index]) for index in range(config.num_labels)])
    result: list[dict[str, Any]] = []
    for length in args.lengths:
        encoded = encode_dataset(task.dataset[args.split], tokenizer, columns=task.columns, max_length=length)
        encoded = encoded.select(range(min(args.rows or encoded.num_rows, encoded.num_rows)))
        rows = encoded.select_columns([name for name in INPUTS if name in encoded.column_names]).to_list()
        mean = statistics.mean(len(row["input_ids"]) for row in rows)
        about = {"data": task.name, "split": args.split, "texts": len(rows), "max_length": length, "mean_length": mean}
        if args.compare_dtypes:
            model = AdapLeRForSequenceClassification.from_pretrained(args.model).to(where)
            result.append(about | compare_dtypes(model, rows, encoded["labels"][:], pad=pad))
            print("\n".join(f"{name}: {value}" for name, value in result[-1].items()))
            continue
        dtypes = list(dict.fromkeys(choose_dtype(name, where) for name in args.dtype))
        print(", ".join(describe_dtype(name, where) for name in args.dtype))
        named = list(systems(args.model, args.scales, dtypes, where, ceiling=args.ceiling))
        for threads in args.threads:
            torch.set_num_threads(threads)
            for batch in args.batches:
                table = measure(named, rows, args, batch, pad)
                how = f"{args.batch_tokens} tokens" if batch == "tokens" else f"{batch} text(s)"
                print(
                    f"{task.name} {args.split}, {len(rows)} texts of {mean:.0f} wordpieces (at most {length}), ", end=""
                )
                print(f"batches of {how}, {threads} threads; median [min, max] of {args.rounds} rounds")
                print_table(table)
                how_measured = {"rounds": args.rounds, "batch_tokens": args.batch_tokens, "model": args.model.name}
                machine = {"device": where.type, "machine": device_name(where), "threads": threads}
                result += [about | machine | how_measured | {"torch": torch.__version__} | row for row in table]
                save(result, args.output)
    save(result, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
