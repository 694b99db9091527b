"""`adapler data`: download, describe and check data."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from adapler.data.corpus import misquoted_note
from adapler.data.download import download_movies, install_archive
from adapler.data.eraser import read_corpus
from adapler.data.statistics import Leak, corpus_statistics, find_leaks, find_shared
from adapler.data.tasks import TASKS, Task, corpus_path, load_task

__all__ = ["add_arguments", "run"]

_EXAMPLES = """examples:
  adapler data download                                  the ERASER movies, to data/eraser/movies
  adapler data download --archive ~/movies.tar.gz        the same from a file at hand, without a network
  adapler data stats data/eraser/sample
  adapler data check data/eraser/movies.tar.gz
"""

_SHOWN_LEAKS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions download, stats and check."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="{download,stats,check}")
    path_help = (
        "an ERASER corpus (folder, or .tar.gz, .tgz, .tar of one), a folder with train.jsonl (.csv, .tsv, .parquet), a "
        "file of rows, or a task's name: " + ", ".join(TASKS)
    )

    download = actions.add_parser("download", help="install the ERASER movies in TARGET/movies")
    download.add_argument("--target", default="data/eraser", metavar="DIR", help="default: %(default)s")
    download.add_argument("--archive", metavar="FILE", help="take this archive instead of downloading the official one")
    download.add_argument("--sha256", metavar="HEX", help="refuse an archive with another checksum")

    stats = actions.add_parser("stats", help="print sizes, labels, lengths and rationale density, split by split")
    stats.add_argument("path", metavar="PATH", help=path_help)
    stats.add_argument("--json", action="store_true", help="print JSON instead of a table")

    check = actions.add_parser("check", help="read everything; report counts and what the splits share")
    check.add_argument("path", metavar="PATH", help=path_help)


def run(args: argparse.Namespace) -> int:
    """Runs the action; 0 when all went well. Errors are raised as AdapLeRError."""
    if args.action == "download":
        return _download(args)
    return _stats(args) if args.action == "stats" else _check(args)


def _download(args: argparse.Namespace) -> int:
    if args.archive is None:
        folder = download_movies(args.target, expected_sha256=args.sha256)
    else:
        folder = install_archive(args.archive, args.target, expected_sha256=args.sha256)
    record = json.loads((folder / "SOURCE.json").read_text(encoding="utf-8"))
    print(f"{folder}: {', '.join(f'{n} {split}' for split, n in record['examples'].items())}")
    print(f"sha256 of the archive: {record['sha256']}")
    return 0


def _stats(args: argparse.Namespace) -> int:
    notes: tuple[str, ...] = ()
    path = corpus_path(args.path)
    if path is not None:
        corpus = read_corpus(path)
        name, checksum, rows = corpus.name, corpus.checksum, corpus_statistics(corpus)
    else:
        task = load_task(args.path)
        name, checksum, rows, notes = task.name, task.checksum, _task_statistics(task), _notes(task)
    if args.json:
        print(json.dumps({"name": name, "checksum": checksum, "splits": rows, "notes": list(notes)}, indent=1))
        return 0
    print(f"{name}  (checksum {checksum[:16]})")
    print(_table(rows))
    for note in notes:
        print(f"note: {note}")
    return 0


def _check(args: argparse.Namespace) -> int:
    notes: tuple[str, ...] = ()
    path = corpus_path(args.path)
    if path is not None:
        corpus = read_corpus(path)
        counts = {split: len(examples) for split, examples in corpus.splits.items()}
        leaks = find_leaks(corpus)
        name, labels = corpus.name, corpus.labels
        for split, examples in corpus.splits.items():
            bare = [example.id for example in examples if not example.spans]
            if bare:
                notes += (f"{split}: {len(bare)} without evidence ({', '.join(bare[:3])})",)
            if (misquoted := misquoted_note(corpus, split)) is not None:
                notes += (misquoted,)
    else:
        task = load_task(args.path)
        counts = {split: len(rows) for split, rows in task.dataset.items()}
        leaks = find_shared({split: _identified(task, split) for split in task.dataset})
        name, labels, notes = task.name, task.labels, _notes(task)
    print(f"{name}: {', '.join(f'{n} {split}' for split, n in counts.items())}; labels {', '.join(labels)}")
    for note in notes:
        print(f"note: {note}")
    _print_leaks(leaks)
    return 0


def _notes(task: Task) -> tuple[str, ...]:
    """What to say of a task that is not a corpus in ERASER layout."""
    if task.columns[0] != "words":
        return task.notes
    taken = "rows with tokens are read as a task to train on; their rationales, if any, are what the analysis reads"
    return (*task.notes, f"{taken} (python -m analysis.rationale_eval --data)")


def _print_leaks(leaks: Sequence[Leak]) -> None:
    if not leaks:
        print("no example is in two splits")
        return
    print("1 example is in two splits:" if len(leaks) == 1 else f"{len(leaks)} examples are in two splits:")
    for leak in leaks[:_SHOWN_LEAKS]:
        print(f"  {leak}")
    if len(leaks) > _SHOWN_LEAKS:
        print(f"  and {len(leaks) - _SHOWN_LEAKS} more")


def _identified(task: Task, split: str) -> list[tuple[str, str]]:
    """(id, text) pairs. Ids made from the row number name their split, so only a user's own can clash."""
    rows = task.dataset[split]
    return list(zip(rows["id"], _texts(task, split), strict=True))


def _texts(task: Task, split: str) -> Iterator[str]:
    columns = [task.dataset[split][column] for column in task.columns]
    for row in zip(*columns, strict=True):
        yield "\n".join(part if isinstance(part, str) else " ".join(part) for part in row)


def _task_statistics(task: Task) -> list[dict[str, Any]]:
    rows = []
    for split, data in task.dataset.items():
        lengths = [len(text.split()) for text in _texts(task, split)]
        labels = Counter(data["label"])
        rows.append(
            {
                "split": split,
                "documents": len(data),
                "labels": {name: labels[index] for index, name in enumerate(task.labels)},
                "words_min": min(lengths),
                "words_median": float(np.median(lengths)),
                "words_max": max(lengths),
            }
        )
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Columns of text, as wide as they need to be; the first is left-aligned."""
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(text.rjust(width) if column else text.ljust(width) for column, (text, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(value) if not isinstance(value, float) else f"{value:.3g}" if value < 100 else f"{value:.0f}"
