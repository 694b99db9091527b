"""How fast is `adapler predict`, how much memory does it need, and does a killed run end with the same bytes?

    python benchmarks/predict.py --texts data/sst2/train.jsonl --rows 10000 100000 --processes 1 2 --output predict.json
    python benchmarks/predict.py --texts data/sst2/train.jsonl --rows 20000 --processes 2 --kills 10

Rows are the texts of a .jsonl, again and again. Memory is the peak of the command and all its children together,
looked at every half second. `peak` counts what they share once (PSS, psutil's memory_full_info, Linux): it is what the
machine needs, and what the project reports. `rss` counts it once for each of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="checkpoints/movies-minilm")
    parser.add_argument("--texts", type=Path, required=True, help="a .jsonl with `text`")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kills", type=int, default=0, help="kills at random moments of the last of --processes")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("options", nargs="*", help="more options of `adapler predict`, after --")
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    print(f"{'rows':>9} {'processes':>9} {'seconds':>8} {'rows/s':>8} {'peak MB':>8} {'rss MB':>8}")
    with tempfile.TemporaryDirectory() as name:
        for rows in args.rows:
            source = Path(name) / f"{rows}.jsonl"
            with args.texts.open("rb") as texts, source.open("wb") as out:
                lines = [line.rstrip(b"\n") + b"\n" for line in texts if line.strip()]
                out.writelines(islice(cycle(lines), rows))
            whole: bytes | None = None
            for processes in args.processes:
                output = Path(name) / "out.jsonl"
                command = [sys.executable, "-m", "adapler", "predict", "--model", args.model, "--input", str(source)]
                command += ["--output", str(output), "--processes", str(processes), "--quiet", *args.options]
                seconds, peak, rss = measured(command)
                row: dict[str, Any] = {"rows": rows, "processes": processes, "seconds": round(seconds, 1)}
                row |= {"rows_per_second": round(rows / seconds, 1), "peak_mb": round(peak), "rss_mb": round(rss)}
                print(
                    f"{rows:9,} {processes:9} {seconds:8.1f} {rows / seconds:8.1f} {peak:8.0f} {rss:8.0f}", flush=True
                )
                whole = output.read_bytes() if whole is None else whole
                row["same_bytes_as_first"] = output.read_bytes() == whole
                if args.kills and processes == args.processes[-1]:
                    output.unlink()
                    row["kills"] = killed(command, seconds, args.kills, random.Random(args.seed))
                    row["same_bytes_after_kills"] = output.read_bytes() == whole
                    print(f"  after {row['kills']} kills: same bytes {row['same_bytes_after_kills']}", flush=True)
                found.append(row)
    if args.output is not None:
        args.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    bad = [row for row in found if not (row["same_bytes_as_first"] and row.get("same_bytes_after_kills", True))]
    if bad:
        print(f"other bytes: {bad}", file=sys.stderr)
    return bool(bad)


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds, loading included, and the peaks of the memory of all processes in MB (10^6 bytes), PSS and RSS."""
    begin, peak, rss = time.perf_counter(), 0, 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            shared_once, each = resident(root)
            peak, rss = max(peak, shared_once), max(rss, each)
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return time.perf_counter() - begin, peak / 1e6, rss / 1e6


def resident(root: psutil.Process) -> tuple[int, int]:
    shared_once = each = 0
    try:
        for process in (root, *root.children(recursive=True)):
            memory = process.memory_full_info()
            shared_once, each = shared_once + getattr(memory, "pss", memory.rss), each + memory.rss
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        pass
    return shared_once, each


def killed(command: list[str], seconds: float, kills: int, moments: random.Random) -> int:
    """Start the command again and again and kill it at a random moment; at last let it end. Returns the kills.

    A moment lies between a second and a fifth of the time of the whole run; some meet a command that still loads.
    """
    done = 0
    while done < kills:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            try:
                process.wait(timeout=moments.uniform(1, max(8.0, seconds / 5)))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                done += 1
            else:
                if process.returncode:
                    raise SystemExit(f"a resumed run ended with exit code {process.returncode}")
                break  # it came to the end before all kills: fewer are reported
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return done


if __name__ == "__main__":
    sys.exit(main())
