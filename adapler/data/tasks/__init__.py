"""Classification tasks: what a task is (schema), and where it comes from (load: folder, hub or an ERASER corpus)."""

from adapler.data.tasks.load import TASKS, corpus_path, load_task, task_of_corpus
from adapler.data.tasks.schema import Task, in_label_order

__all__ = ["TASKS", "Task", "corpus_path", "in_label_order", "load_task", "task_of_corpus"]
