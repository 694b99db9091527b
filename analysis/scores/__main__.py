"""`python -m analysis.scores` prints every scoring method: what a layer's score means, needs, cost, options, paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from adapler.errors import CommandParser, run_command
from adapler.registry import load_plugins
from analysis.scores import get_method, method_names

HEADER = ("method", "title", "scope", "needs", "cost", "options", "paper")


def rows() -> list[tuple[str, ...]]:
    """One row a method, in the order of HEADER."""
    found: list[tuple[str, ...]] = []
    for name in method_names():
        method = get_method(name)
        options = ", ".join(f"{option}={value!r}" for option, value in method.options.items())
        found.append(
            (
                name,
                method.title,
                method.scope,
                ", ".join(sorted(method.needs)) or "-",
                method.cost,
                options or "-",
                method.paper,
            )
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, with the methods of plugins; errors are AdapLeRError."""
    CommandParser(
        prog="python -m analysis.scores",
        description="Print the scoring methods that --methods of analysis.rationale_eval takes; "
        "options go behind the name: 'integrated_gradients(n_steps=20)', 'saliency(target=NEG)'. "
        "Scope: what one layer's score means.",
    ).parse_args(arguments)
    load_plugins()
    table = [HEADER, *rows()]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
