"""Classification tasks: what a task is (schema), and where it comes from (load: folder, hub or an ERASER corpus)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapler.data.tasks.load import TASKS, corpus_path, load_task, task_of_corpus
    from adapler.data.tasks.schema import Task, in_label_order

__all__ = ["TASKS", "Task", "corpus_path", "in_label_order", "load_task", "task_of_corpus"]

_OF_SCHEMA = ("Task", "in_label_order")


def __getattr__(name: str) -> Any:
    """Imported when asked for: `datasets` takes 90 MB, which a worker of `adapler predict` does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'schema' if name in _OF_SCHEMA else 'load'}"), name)
