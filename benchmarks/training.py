"""Time of an epoch of each removal policy, relative to plain fine-tuning of the same rows.

    python benchmarks/training.py --task DATA/sst2 --model ENCODER --limit 512 --policies adapler ltp power
    python benchmarks/training.py --task DATA/sst2 --model ENCODER -- --freeze-backbone --max-length 128

Times are `seconds` of run.json: a training with its evaluations on validation. Everything is trained for one epoch from
one fine-tuned classifier, in turns, several rounds. Words after -- go to every `adapler run`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def seconds_of(words: Sequence[str], output: Path) -> dict[str, float]:
    """Seconds of fine-tuning, and of what follows it, in one run folder."""
    subprocess.run(
        [sys.executable, "-m", "adapler", "run", *words, "--output", str(output)], check=True, capture_output=True
    )
    records = [(path.parent.name, json.loads(path.read_text())) for path in sorted(output.glob("*/run.json"))]
    found = {name: float(record["seconds"]) for name, record in records if record.get("seconds")}
    beside = ("finetuned", "classifier", "targets", "saliency")
    return {"plain": found["finetuned"], "own": sum(found[name] for name in found if name not in beside)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--model", required=True, help="encoder")
    parser.add_argument("--limit", type=int, default=512, help="training rows")
    parser.add_argument("--policies", nargs="+", default=["adapler", "ltp", "transkimmer"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the ratios to this JSON file")
    parser.add_argument("options", nargs="*", help="more options of `adapler run`, after --")
    args = parser.parse_args(argv)
    common = ["--task", args.task, "--model", args.model, "--limit", str(args.limit), "--epochs", "1", *args.options]
    ratios: dict[str, list[float]] = {name: [] for name in args.policies}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.rounds):
            for name in args.policies:
                words = common if name == "adapler" else [*common, "--policy", name]
                found = seconds_of(words, Path(folder) / f"{name}-{turn}")
                ratios[name].append(found["own"] / found["plain"])
    for name, values in ratios.items():
        print(f"{name:<14}{statistics.median(values):6.2f} of fine-tuning   [{min(values):.2f}, {max(values):.2f}]")
    if args.output:
        args.output.write_text(json.dumps(ratios, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
