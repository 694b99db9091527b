"""Data: ERASER corpora with their rationales, classification tasks, and their encoding for a model.

eraser reads a corpus (its types are in corpus), archive and download fetch one, statistics describes one.
tasks/ makes tables of rows, sampling draws from them, encoding turns them into token ids; texts reads other files.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapler.data.corpus import EraserCorpus, EraserExample, merge_spans, misquoted_note, queries_differ
    from adapler.data.download import download_movies, install_archive
    from adapler.data.eraser import read_corpus
    from adapler.data.sampling import balanced_indices, balanced_sample
    from adapler.data.statistics import Leak, corpus_statistics, find_leaks
    from adapler.data.tasks import TASKS, Task, load_task, task_of_corpus

__all__ = [
    "TASKS",
    "EraserCorpus",
    "EraserExample",
    "Leak",
    "Task",
    "balanced_indices",
    "balanced_sample",
    "corpus_statistics",
    "download_movies",
    "find_leaks",
    "install_archive",
    "load_task",
    "merge_spans",
    "misquoted_note",
    "queries_differ",
    "read_corpus",
    "task_of_corpus",
]

# Names are imported when they are asked for: most readers need pandas and datasets, `adapler predict --help` does not.
_HOMES = {
    "EraserCorpus": "adapler.data.corpus",
    "EraserExample": "adapler.data.corpus",
    "Leak": "adapler.data.statistics",
    "TASKS": "adapler.data.tasks",
    "Task": "adapler.data.tasks",
    "balanced_indices": "adapler.data.sampling",
    "balanced_sample": "adapler.data.sampling",
    "corpus_statistics": "adapler.data.statistics",
    "download_movies": "adapler.data.download",
    "find_leaks": "adapler.data.statistics",
    "install_archive": "adapler.data.download",
    "load_task": "adapler.data.tasks",
    "merge_spans": "adapler.data.corpus",
    "misquoted_note": "adapler.data.corpus",
    "queries_differ": "adapler.data.corpus",
    "read_corpus": "adapler.data.eraser",
    "task_of_corpus": "adapler.data.tasks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
