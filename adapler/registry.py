"""Classes by name, with a decorator that enters them: predictors, policies and their trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from adapler.errors import ArgumentError
from adapler.plugins import load_plugins

Base = TypeVar("Base")
Made = TypeVar("Made", bound=type)


class Registry(Generic[Base]):
    """The classes of one kind.

    Attributes:
        kind: what they are, in messages.
        classes: by name.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.classes: dict[str, type[Base]] = {}

    def entry(self, name: str) -> Callable[[Made], Made]:
        """A decorator that enters a class under a name, which becomes its attribute `name`.

        Raises:
            ArgumentError: the name is taken by a class that stands elsewhere. (The same class again, as when a notebook
                cell runs twice, takes its own place.)
        """

        def enter(made: Made) -> Made:
            known = self.classes.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (made.__module__, made.__qualname__):
                raise ArgumentError(f"{self.kind}: {name!r} is {known.__module__}.{known.__qualname__} already")
            made.name = name  # type: ignore[attr-defined]
            self.classes[name] = made
            return made

        return enter

    def names(self) -> list[str]:
        """Of all that are entered, sorted."""
        return sorted(self.classes)

    def find(self, name: str) -> type[Base] | None:
        """The class of a name, plugins included; None: there is none."""
        if name not in self.classes:
            load_plugins()
        return self.classes.get(name)

    def get(self, name: str, *, others: Iterable[str] = ()) -> type[Base]:
        """The class of a name, plugins included.

        Args:
            name: of the class.
            others: what else the caller would have taken, for the message.

        Raises:
            ArgumentError: none has this name; says which there are.
        """
        found = self.find(name)
        if found is None:
            raise ArgumentError(
                f"{self.kind}: {name!r} is not one of {', '.join(sorted({*self.names(), *others}))}; "
                f"the module of one's own {self.kind} has to be imported first, or named in ADAPLER_PLUGINS"
            )
        return found
