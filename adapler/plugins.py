"""Modules of one's own that register predictors, policies, scoring methods or metrics, for the commands and the app.

In a program of one's own an import is enough. A command imports what it is told to:

* the environment variable ADAPLER_PLUGINS names modules, separated by commas; child processes inherit it;
* an installed package has an entry point of the group `adapler.plugins`, whose value is a module.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from adapler.errors import ArgumentError

VARIABLE = "ADAPLER_PLUGINS"


@cache
def load_plugins() -> tuple[str, ...]:
    """Import all of them, once in a process; returns their names.

    Raises:
        ArgumentError: a module cannot be imported.
    """
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    installed = [point.module for point in entry_points(group="adapler.plugins")]
    for name in (*named, *installed):
        source = VARIABLE if name in named else "entry point adapler.plugins"
        try:
            import_module(name)
        except ArgumentError as error:
            raise ArgumentError(f"{source}: {name}: {error}") from error
        except Exception as error:
            hint = "; is its folder on PYTHONPATH?" if isinstance(error, ModuleNotFoundError) else ""
            raise ArgumentError(f"{source}: {name!r} cannot be imported ({error}){hint}") from error
    return (*named, *installed)
