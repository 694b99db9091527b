"""What a menu offers: folders by a file that they hold, names that differ, and whether a file is still what it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

Named = TypeVar("Named")
Stamp = tuple[str, int, int, int]


def stamp(path: Path) -> Stamp:
    """What tells a file from what it was before; one that a copy gave its old time has another time of change."""
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns


def holding(file: str, folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Folders that hold a file of this name, these and up to two levels below, each once, and what a menu calls them.

    Hidden folders are left out: what a killed training or export left of one, or where one is being made.
    """
    known: set[Path] = set()
    for folder in folders:
        for path in (found.parent for depth in ("", "*/", "*/*/") for found in sorted(folder.glob(depth + file))):
            inside, resolved = path.relative_to(folder), path.resolve()
            if resolved not in known and not any(part.startswith(".") for part in inside.parts):
                known.add(resolved)
                yield inside.as_posix() if inside.parts else folder.resolve().name, path


def told_apart(named: Iterable[tuple[str, Named]]) -> dict[str, Named]:
    """A menu: name -> what is called so, in its order; the second of equal names is called `name (2)`."""
    found: dict[str, Named] = {}
    for name, one in named:
        unique, count = name, 1
        while unique in found:
            count += 1
            unique = f"{name} ({count})"
        found[unique] = one
    return found
