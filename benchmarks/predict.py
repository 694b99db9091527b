"""Speed and memory of `adapler predict`, and whether a killed run ends with the same bytes.

    python benchmarks/predict.py --texts DATA/sst2/train.jsonl --rows 10000 100000
    python benchmarks/predict.py --texts DATA/sst2/train.jsonl --rows 1000000 --kills 10 -- --engine ray

Rows are the texts of a .jsonl, again and again. Memory is the peak of the command and all its children, with what they
share counted once (PSS). Words after -- go to `adapler predict`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil


def run(command: Sequence[str], *, until: float = float("inf")) -> dict[str, Any]:
    """Seconds with loading, peak MB, and the exit code: None if it was killed after `until` seconds."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None and time.perf_counter() - start < until:
            peak = max(peak, memory_of(psutil.Process(process.pid)))
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        killed = process.poll() is None
        if killed:
            os.killpg(process.pid, signal.SIGKILL)
    code = None if killed else process.returncode
    if code:
        raise SystemExit(f"{' '.join(command)}: exit code {code}")
    return {"seconds": round(time.perf_counter() - start, 1), "peak_mb": round(peak / 1e6), "code": code}


def memory_of(root: psutil.Process) -> int:
    """Bytes of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        for process in (root, *root.children(recursive=True)):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 1 if bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="checkpoints/movies-minilm")
    parser.add_argument("--texts", type=Path, required=True, help="a .jsonl with `text`")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000])
    parser.add_argument("--kills", type=int, default=0, help="then a run that is killed so often, and goes on")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("options", nargs="*", help="more options of `adapler predict`, after --")
    args = parser.parse_args(argv)
    moments, found = random.Random(0), []
    lines = [line for line in args.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    with tempfile.TemporaryDirectory() as folder:
        for rows in args.rows:
            source, output = Path(folder) / f"{rows}.jsonl", Path(folder) / "out.jsonl"
            source.write_text("".join(f"{line}\n" for line in islice(cycle(lines), rows)), encoding="utf-8")
            command = [sys.executable, "-m", "adapler", "predict", "--model", args.model, "--input", str(source)]
            command += ["--output", str(output), *args.options]
            row = {"rows": rows, "options": args.options, **run(command)}
            row |= {
                "rows_per_second": round(rows / row["seconds"], 1),
                "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
            }
            if args.kills:
                output.unlink()
                ended = [run(command, until=moments.uniform(1, max(8, row["seconds"] / 5))) for _ in range(args.kills)]
                if not any(one["code"] == 0 for one in ended):
                    run(command)
                row |= {"kills": args.kills, "same": hashlib.sha256(output.read_bytes()).hexdigest() == row["sha256"]}
            found.append(row)
            print(json.dumps(row), flush=True)
            if args.output:
                args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(not all(row.get("same", True) for row in found))


if __name__ == "__main__":
    sys.exit(main())
