"""The command `python -m benchmarks.tradeoff`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from adapler.errors import ArgumentError, CommandParser, check_drop, is_number, run_command
from adapler.files import check_output_folder
from adapler.registry import load_plugins
from benchmarks.tradeoff.plan import Settings, plan, table_of
from benchmarks.tradeoff.records import (
    Key,
    check_max_drop,
    check_predictions,
    collect,
    read_records,
    starting_points,
)
from benchmarks.tradeoff.report.tables import write_results
from benchmarks.tradeoff.systems import SYSTEMS, TASKS
from benchmarks.tradeoff.work import leftovers, locked, remove_weights, work

EXAMPLE = """examples:
  python -m benchmarks.tradeoff --backbone "$(python -m adapler.minilm)" --backbone-name MiniLM-L6 \\
    --data-root DATA --tasks mrpc movies --seeds 42 43 44 --plan
  python -m benchmarks.tradeoff --backbone google-bert/bert-base-uncased --tasks sst2 --systems finetuned adapler
  python -m benchmarks.tradeoff --report

The command may be killed at any time; the same command goes on. Points with a record in --output are done, whatever
became of their weights in --runs.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's options; defaults that Settings has are its own."""
    parser = CommandParser(
        prog="python -m benchmarks.tradeoff",
        description="The speed-performance table and its curves: trains, chooses on validation, reads test, reports.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", default=list(TASKS), metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    add(
        "--systems",
        nargs="+",
        default=list(SYSTEMS),
        metavar="SYSTEM",
        help=f"of {', '.join(SYSTEMS)}, or NAME-VARIANT with a recipe of its own (default: all)",
    )
    add("--seeds", nargs="+", type=int, default=[42], metavar="N", help="(default: 42)")
    add(
        "--further-seeds-below", type=float, metavar="MINUTES", help="only runs this short get more than the first seed"
    )
    add("--backbone", metavar="ENCODER", help="folder or hub name of the pre-trained encoder")
    add("--backbone-name", metavar="NAME", help="what tables call it (default: its last part)")
    add("--data-root", type=Path, metavar="DIR", help="holds TASK/, TASK.tar.gz or TASK_subset/ (default: the hub)")
    add("--data", nargs="+", default=[], metavar="TASK=PATH", help="where single tasks lie")
    add("--configs", type=Path, default=Settings.configs, metavar="DIR", help="recipes (default: configs)")
    add("--output", type=Path, default=Settings.output, metavar="DIR", help=f"results (default: {Settings.output})")
    add("--runs", type=Path, default=Settings.runs, metavar="DIR", help=f"weights (default: {Settings.runs})")
    add("--jobs", type=int, default=1, metavar="N", help="runs at once, one core each (default: 1)")
    add("--limit", type=int, metavar="N", help="training rows, for a quick run; needs --output and --runs of its own")
    add("--epochs", type=int, metavar="N", help="of every training, for a quick run; needs the same")
    add("--delete-weights", action="store_true", help="of a point that has its record; shared classifiers stay")
    add("--max-drop", type=float, help=f"allowed on validation (default: {Settings.max_drop:g})")
    add("--timed", type=int, default=Settings.timed, metavar="N", help="test texts timed in batches (default: 256)")
    add("--timed-single", type=int, default=Settings.timed_single, metavar="N", help="and one by one (default: 50)")
    add("--rounds", type=int, default=Settings.rounds, metavar="N", help="of timing (default: 5)")
    add("--style", choices=("acl", "neurips"), default="acl", help="widths of the figures (default: acl)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="print the runs that are left, in order, and their hours")
    what.add_argument("--report", action="store_true", help="tables and figures of the records there are; no run")
    return parser


def settings_of(args: argparse.Namespace) -> Settings:
    """Settings from parsed arguments.

    Raises:
        ArgumentError: names the option.
    """
    if args.backbone is None:
        raise ArgumentError("--backbone: needed, a folder or hub name of an encoder")
    for name, low in (("jobs", 1), ("limit", 1), ("epochs", 1), ("timed", 1), ("timed_single", 1), ("rounds", 1)):
        value = getattr(args, name)
        if value is not None and value < low:
            raise ArgumentError(f"--{name.replace('_', '-')}: {value} is not at least {low}")
    below = args.further_seeds_below
    if below is not None and not (is_number(below) and below >= 0):
        raise ArgumentError(f"--further-seeds-below: {below} is not a number of at least 0")
    max_drop = Settings.max_drop if args.max_drop is None else args.max_drop
    check_drop("--max-drop", max_drop)
    wrong = [seed for seed in args.seeds if not 0 <= seed < 2**32]
    if wrong:
        raise ArgumentError(f"--seeds: {wrong[0]} is not between 0 and {2**32 - 1}")
    unknown = [task for task in args.tasks if task not in TASKS]
    if unknown:
        raise ArgumentError(f"--tasks: {unknown[0]!r} is not one of {', '.join(TASKS)}")
    data: dict[str, str] = {}
    for entry in args.data:
        task, equals, path = entry.partition("=")
        if not equals or task not in TASKS:
            raise ArgumentError(f"--data: {entry!r} is not TASK=PATH, TASK one of {', '.join(TASKS)}")
        data[task] = path
    name = args.backbone_name or Path(args.backbone).name
    if name in ("", ".", "..") or "/" in name:
        raise ArgumentError(f"--backbone-name: {name!r} is no name of a folder")
    return Settings(
        tasks=tuple(dict.fromkeys(args.tasks)),
        systems=tuple(dict.fromkeys(args.systems)),
        seeds=tuple(dict.fromkeys(args.seeds)),
        backbone=args.backbone,
        name=name,
        root=args.data_root,
        data=data,
        configs=args.configs,
        output=args.output,
        runs=args.runs,
        limit=args.limit,
        epochs=args.epochs,
        further_seeds_below=args.further_seeds_below,
        jobs=args.jobs,
        timed=args.timed,
        timed_single=args.timed_single,
        rounds=args.rounds,
        max_drop=max_drop,
        delete_weights=args.delete_weights,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; errors are AdapLeRError. Returns 1 when a run failed."""
    args = build_parser().parse_args(argv)
    load_plugins()
    if args.report:
        _report(args)
        return 0
    settings = settings_of(args)
    check_output_folder(settings.output, replaced=False)
    if args.plan:
        print(table_of(plan(settings, read_records(settings.output)), workers=settings.jobs))
        return 0
    with locked(settings.runs) as lock:
        records = read_records(settings.output)
        found = leftovers(settings)
        if found:
            plan(settings, [*records, *found.values()])  # one of other rows is refused before it is in the output
            for path in found:
                collect(settings.output, path)
                path.unlink()
            print(f"{len(found)} points were measured before and are taken in")
            records = read_records(settings.output)
        check_predictions(settings.output, records)
        jobs = plan(settings, records)
        removed = remove_weights(settings, records) if settings.delete_weights else 0
        if removed:
            print(f"the weights of {removed} points that have their records are removed")
        print(table_of(jobs, workers=settings.jobs), flush=True)
        failed = work(jobs, settings, lock=lock, say=lambda line: print(line, flush=True))
    _report(args)
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _report(args: argparse.Namespace) -> None:
    if args.max_drop is not None:  # the scales that were timed were chosen with the records' own
        for record in read_records(args.output):
            check_max_drop(record, args.max_drop, path=Key.of(record).path(args.output))
    for stem in dict.fromkeys(path.with_suffix("") for path in write_results(args.output, style=args.style)):
        print(f"{stem}.*")
    for line in starting_points(read_records(args.output)):
        print(f"note: {line}")


if __name__ == "__main__":
    sys.exit(run_command(main))
