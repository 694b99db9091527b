"""Locks that all sessions of a server share: a module is imported once, whatever the page does."""

from __future__ import annotations

from threading import Lock

DRAWING = Lock()  # while matplotlib draws: its settings are the process's, not the thread's
DEAR = Lock()  # while a method of hundreds of passes runs, on a copy of the model: one copy at a time
