"""`adapler data`: download the ERASER movies; show sizes, labels, lengths and leaks of a corpus or a task."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from adapler.data import TASKS, corpus_path, load_task
from adapler.eraser import (
    corpus_statistics,
    find_leaks,
    find_shared,
    install_movies,
    misquoted_note,
    read_corpus,
    sizes,
)
from adapler.errors import ArgumentError
from adapler.options import option, parse

_USAGE = """usage: adapler data {download,show} ...

  adapler data download                                  the ERASER movies, to data/eraser/movies
  adapler data download --archive ~/movies.tar.gz        the same from a file at hand, without a network
  adapler data show data/eraser/sample                   sizes, labels, lengths, rationale density, leaks"""


@dataclass
class DownloadOptions:
    """Install the ERASER movies in TARGET/movies."""

    target: str = option("folder", default="data/eraser", basic=True)
    archive: str | None = option("archive to take instead of the official download", default=None, basic=True)
    sha256: str | None = option("checksum that the archive must have", default=None, basic=True)


@dataclass
class ShowOptions:
    """Sizes, labels, lengths, rationale density and leaks of data, split by split."""

    path: str = option(
        "ERASER corpus (folder or .tar.gz), folder with train.jsonl (.csv, .tsv, .parquet), file of rows, or one of "
        + ", ".join(TASKS),
        basic=True,
    )
    json: bool = option("print JSON instead of a table", default=False, basic=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `adapler data`; `argv` without those two words."""
    action, *words = (sys.argv[2:] if argv is None else argv) or ["--help"]
    if action in ("-h", "--help"):
        print(_USAGE)
        return 0
    if action == "download":
        return _download(parse(DownloadOptions, words, prog="adapler data download"))
    if action == "show":
        return _show(parse(ShowOptions, words, prog="adapler data show", positional="path"))
    raise ArgumentError(f"adapler data: {action!r} is neither download nor show")


def _download(options: DownloadOptions) -> int:
    folder = install_movies(options.target, archive=options.archive, expected_sha256=options.sha256)
    record = json.loads((folder / "SOURCE.json").read_text(encoding="utf-8"))
    print(f"{folder}: {', '.join(f'{n} {split}' for split, n in record['examples'].items())}")
    print(f"sha256 of the archive: {record['sha256']}")
    return 0


def _show(options: ShowOptions) -> int:
    path = corpus_path(options.path)
    if path is not None:
        corpus = read_corpus(path)
        name, checksum, rows, leaks = corpus.name, corpus.checksum, corpus_statistics(corpus), find_leaks(corpus)
        notes = [note for split in corpus.splits if (note := misquoted_note(corpus, split))]
    else:
        task = load_task(options.path)
        name, checksum, notes = task.name, task.checksum, list(task.notes)
        texts, rows = {}, []
        for split, table in task.dataset.items():
            parts = zip(*(table[column] for column in task.columns), strict=True)
            lines = ["\n".join(part if isinstance(part, str) else " ".join(part) for part in row) for row in parts]
            texts[split] = list(zip(table["id"], lines, strict=True))
            labels = [task.labels[label] for label in table["label"]]
            rows.append(sizes(split, [len(line.split()) for line in lines], labels, task.labels))
        leaks = find_shared(texts)
    if options.json:
        found = {"name": name, "checksum": checksum, "splits": rows, "notes": notes, "leaks": leaks}
        print(json.dumps(found, indent=1))
        return 0
    print(f"{name}  (checksum {checksum[:16]})")
    counts = [", ".join(f"{label} {count}" for label, count in row["labels"].items()) for row in rows]
    table = pd.DataFrame(rows).assign(labels=counts)
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep="-"))
    for note in notes:
        print(f"note: {note}")
    print(f"{len(leaks) or 'no'} example{'' if len(leaks) == 1 else 's'} in two splits")
    for leak in leaks[:20]:
        print(f"  {leak}")
    return 0
