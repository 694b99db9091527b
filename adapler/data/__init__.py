"""Data: ERASER corpora with their rationales, classification tasks, and their encoding for a model."""

from adapler.data.corpus import EraserCorpus, EraserExample, merge_spans, queries_differ
from adapler.data.download import download_movies, install_archive
from adapler.data.encoding import encode, load_tokenizer
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
    "encode",
    "find_leaks",
    "install_archive",
    "load_task",
    "load_tokenizer",
    "merge_spans",
    "queries_differ",
    "read_corpus",
    "task_of_corpus",
]
