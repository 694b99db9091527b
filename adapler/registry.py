"""Classes by name - predictors, policies and their trainings - and the modules with which users add their own.

In a program an import of the module is enough. Commands import the modules that the environment variable
ADAPLER_PLUGINS names (separated by commas, inherited by child processes) and those of entry points `adapler.plugins`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from adapler.errors import ArgumentError

Base = TypeVar("Base")
Made = TypeVar("Made", bound=type)


@cache
def load_plugins() -> tuple[str, ...]:
    """Import all plugins, once in a process, and return their names; ArgumentError for one that cannot be imported."""
    named = [name.strip() for name in os.environ.get("ADAPLER_PLUGINS", "").split(",") if name.strip()]
    names = (*named, *(point.module for point in entry_points(group="adapler.plugins")))
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # whatever a user's module raises
            source = "ADAPLER_PLUGINS" if name in named else "entry point adapler.plugins"
            raise ArgumentError(f"{source}: {name!r} cannot be imported ({error})") from error
    return names


class Registry(Generic[Base]):
    """Classes of one kind by name; a class registered again under its name replaces the former."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.classes: dict[str, type[Base]] = {}

    def entry(self, name: str) -> Callable[[Made], Made]:
        """Decorator: the class has this name, as its attribute `name` too; ArgumentError where another class has it."""

        def enter(made: Made) -> Made:
            known = self.classes.setdefault(name, made)
            # The same class again, as when a notebook cell runs twice, takes its own place.
            if (known.__module__, known.__qualname__) != (made.__module__, made.__qualname__):
                raise ArgumentError(f"{self.kind}: {name!r} is {known.__module__}.{known.__qualname__} already")
            made.name = name  # type: ignore[attr-defined]
            self.classes[name] = made
            return made

        return enter

    def names(self) -> list[str]:
        return sorted(self.classes)

    def find(self, name: str) -> type[Base] | None:
        """The class of a name, plugins included, or None."""
        if name not in self.classes:
            load_plugins()
        return self.classes.get(name)

    def get(self, name: str, *, others: Iterable[str] = ()) -> type[Base]:
        """The class of a name, plugins included; ArgumentError lists the names, and `others` that the caller takes."""
        found = self.find(name)
        if found is None:
            known = ", ".join(sorted({*self.names(), *others}))
            raise ArgumentError(f"{self.kind}: {name!r} is not one of {known}; ADAPLER_PLUGINS names modules with more")
        return found
