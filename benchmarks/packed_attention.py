"""Packed attention on a CPU: one SDPA call per sequence against one padded call for all.

python benchmarks/packed_attention.py
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch

from adapler.backbones import attention
from adapler.backbones.packing import Segments


def milliseconds(attend: Any, segments: Segments, *, heads: int = 12, size: int = 32) -> float:
    """Median time of one call."""
    q, k, v = (torch.randn(1, heads, int(segments.lengths.sum()), size) for _ in range(3))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        attend(q, k, v, segments=segments, scale=size**-0.5)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> int:
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads; padded / per sequence, above 1: a call per sequence is faster")
    for count in (8, 32, 128):
        for longest in (4, 8, 16, 32, 64, 128, 256):
            if count * longest > 16384:
                continue
            segments = Segments(torch.randint(1, longest + 1, (count,)))
            padded = milliseconds(attention._padded_attention, segments)
            loop = milliseconds(attention.packed_attention, segments)
            print(f"{count:4d} sequences of 1..{longest:<4d} {padded:7.2f} ms / {loop:7.2f} ms = {padded / loop:.2f}")
    return 0


if __name__ == "__main__":
    with torch.inference_mode():
        sys.exit(main())
