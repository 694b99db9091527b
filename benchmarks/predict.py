"""How fast is `adapler predict`, how much memory does it need, and does a killed run end with the same bytes?

    python benchmarks/predict.py --texts DATA/sst2/train.jsonl --rows 10000 100000 --processes 1 2 --output predict.json
    python benchmarks/predict.py --texts DATA/sst2/train.jsonl --rows 1000000 --processes 1 2 --kills 10 --ray 2

Rows are the texts of a .jsonl (SST-2's sentences, for the project's numbers), again and again. Memory is the peak of
the command and all its children together, looked at every half second. `peak` counts what they share once (PSS,
psutil's memory_full_info, Linux): it is what the machine needs, and what the project reports. `rss` counts it once for
each of them. With `--kills`, the last of several `--processes` runs only once, killed again and again; it has no time
of its own.
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
import torch

from adapler.budgets.machine import device_name
from adapler.errors import ArgumentError, CommandParser, run_command
from adapler.files import check_output_file, replacing
from adapler.training.settings import check_numbers


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="checkpoints/movies-minilm")
    parser.add_argument("--texts", type=Path, required=True, help="a .jsonl with `text`")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kills", type=int, default=0, help="kills at random moments of the last of --processes")
    parser.add_argument("--ray", type=int, default=0, help="then also --engine ray with so many actors, never killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("options", nargs="*", help="more options of `adapler predict`, after --")
    args = parser.parse_args(argv)
    if not args.texts.is_file():
        raise ArgumentError(f"--texts: {args.texts} is not a file")
    for name, values in (("rows", args.rows), ("processes", args.processes)):
        if min(values) < 1:
            raise ArgumentError(f"--{name}: {min(values)} is not at least 1")
    check_numbers(args, ("kills", "ray"), low=0)
    check_output_file(args.output)
    found: list[dict[str, Any]] = []
    print(
        f"{'rows':>9} {'engine':>6} {'processes':>9} {'seconds':>8} {'rows/s':>8} {'peak MB':>8} {'rss MB':>8}  bytes"
    )
    machine = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "out.jsonl"
        for rows in args.rows:
            source = Path(name) / f"{rows}.jsonl"
            with args.texts.open("rb") as texts, source.open("wb") as out:
                lines = [line.rstrip(b"\n") + b"\n" for line in texts if line.strip()]
                out.writelines(islice(cycle(lines), rows))
            command = [sys.executable, "-m", "adapler", "predict", "--model", args.model, "--input", str(source)]
            command += ["--output", str(output), "--quiet", *args.options]
            whole: str | None = None  # the digest of the first output
            seconds = 0.0
            for engine, processes, kills in runs(args):
                run = [*command, "--engine", engine, "--processes", str(processes)]
                row: dict[str, Any] = {"rows": rows, "engine": engine, "processes": processes, "options": args.options}
                row |= {"texts": args.texts.name, "model": Path(args.model).name, "machine": machine}
                row |= killed(run, seconds, kills, random.Random(args.seed)) if kills else measured(run)
                if not kills:
                    row["rows_per_second"] = round(rows / row["seconds"], 1)
                    seconds = seconds or row["seconds"]
                row["sha256"] = hashlib.sha256(output.read_bytes()).hexdigest()
                output.unlink()
                whole = whole or row["sha256"]
                row["same_bytes_as_first"] = row["sha256"] == whole
                found.append(row)
                print_row(row)
                if args.output is not None:
                    with replacing(args.output) as partial:
                        partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    bad = [row for row in found if not row["same_bytes_as_first"]]
    if bad:
        print(f"other bytes: {bad}", file=sys.stderr)
    return bool(bad)


def runs(args: argparse.Namespace) -> list[tuple[str, int, int]]:
    """(engine, processes, kills) of each run of one number of rows; the first is never killed."""
    local = [("local", processes, 0) for processes in args.processes]
    if args.kills:
        last = args.processes[-1]
        local[max(1, len(local) - 1) :] = [("local", last, args.kills)]
    return local + ([("ray", args.ray, 0)] if args.ray else [])


def print_row(row: dict[str, Any]) -> None:
    time_ = f"{'':>8} {'':>8}" if "kills" in row else f"{row['seconds']:8.1f} {row['rows_per_second']:8.1f}"
    text = f"{row['rows']:9,} {row['engine']:>6} {row['processes']:9} {time_} {row['peak_mb']:8} {row['rss_mb']:8}"
    after = f" after {row['kills']} kills" if "kills" in row else ""
    print(f"{text}  {'the same' if row['same_bytes_as_first'] else 'OTHER'}{after}", flush=True)


def measured(command: list[str]) -> dict[str, Any]:
    """Seconds, loading included, and the peaks of the memory of all processes in MB (10^6 bytes), PSS and RSS."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak, rss = watched(process)
        seconds = round(time.perf_counter() - begin, 1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return {"seconds": seconds, "peak_mb": peak, "rss_mb": rss}


def watched(process: subprocess.Popen[bytes], *, until: float = float("inf")) -> tuple[int, int]:
    """Peaks of PSS and RSS until the process ends, or until a moment of the monotonic clock."""
    root, peak, rss = psutil.Process(process.pid), 0, 0
    while process.poll() is None and time.monotonic() < until:
        shared_once, each = resident(root)
        peak, rss = max(peak, shared_once), max(rss, each)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)  # its end is noticed when it comes
    return round(peak / 1e6), round(rss / 1e6)


def resident(root: psutil.Process) -> tuple[int, int]:
    shared_once = each = 0
    try:
        for process in (root, *root.children(recursive=True)):
            memory = process.memory_full_info()
            shared_once, each = shared_once + getattr(memory, "pss", memory.rss), each + memory.rss
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        pass
    return shared_once, each


def killed(command: list[str], seconds: float, kills: int, moments: random.Random) -> dict[str, Any]:
    """Start the command again and again and kill it at a random moment; at last let it end.

    A moment lies between a second and a fifth of the time of the whole run, or eight seconds where that is more; some
    meet a command that still loads.
    """
    done, peak, rss = 0, 0, 0
    while True:
        until = time.monotonic() + moments.uniform(1, max(8.0, seconds / 5)) if done < kills else float("inf")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            found = watched(process, until=until)
            peak, rss = max(peak, found[0]), max(rss, found[1])
            ended = process.poll() is not None
            if not ended:
                os.kill(process.pid, signal.SIGKILL)
        if ended and process.returncode:
            raise SystemExit(f"a resumed run ended with exit code {process.returncode}")
        if ended:  # it may come to the end before all kills: fewer are reported
            return {"kills": done, "peak_mb": peak, "rss_mb": rss}
        done += 1


if __name__ == "__main__":
    sys.exit(run_command(main))
