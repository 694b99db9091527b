"""Packed attention against one padded call for all sequences.

    python benchmarks/packed_attention.py
    python benchmarks/packed_attention.py --device cuda --dtype bfloat16 --output packed_attention.json

On a CPU it is an SDPA call for each run of equally long sequences. On a GPU it is the variable-length flash kernel,
in half precision; in float32 both sides are the same padded call there. As in the model, the longest sequences come
first, and what is known of them is found once for each call.
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

from adapler.backbones import attention
from adapler.backbones.packing import Segments
from adapler.budgets.machine import device_name
from adapler.distributed import device
from adapler.errors import CommandParser, run_command
from adapler.files import check_output_file, replacing


def milliseconds(attend: Any, segments: Segments, *, dtype: torch.dtype, heads: int = 12, size: int = 32) -> float:
    """Median time of one call."""
    where = segments.lengths.device
    total = int(segments.lengths.sum())
    q, k, v = (torch.randn(1, heads, total, size, device=where, dtype=dtype) for _ in range(3))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        attend(q, k, v, segments=Segments(segments.lengths, bound=segments.bound), scale=size**-0.5)
        if where.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, auto (default: cpu)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    args = parser.parse_args(argv)
    check_output_file(args.output)
    torch.manual_seed(0)
    where, dtype = device(args.device), getattr(torch, args.dtype)
    found = []
    print(f"{where}, {args.dtype}, {torch.get_num_threads()} threads; padded / packed, above 1: packed is faster")
    for count in (8, 32, 128):
        for longest in (4, 8, 16, 32, 64, 128, 256):
            if count * longest > 16384:
                continue
            lengths = torch.randint(1, longest + 1, (count,)).sort(descending=True).values
            segments = Segments(lengths.to(where), bound=longest)
            padded = milliseconds(attention._padded_attention, segments, dtype=dtype)
            loop = milliseconds(attention.packed_attention, segments, dtype=dtype)
            print(f"{count:4d} sequences of 1..{longest:<4d} {padded:7.2f} ms / {loop:7.2f} ms = {padded / loop:.2f}")
            row = {"device": where.type, "dtype": args.dtype, "sequences": count, "longest": longest}
            row |= {"machine": device_name(where), "threads": torch.get_num_threads(), "torch": torch.__version__}
            found.append(row | {"padded_ms": padded, "packed_ms": loop})
    if args.output is not None:
        with replacing(args.output) as partial:
            partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    with torch.inference_mode():
        sys.exit(run_command(main))
