"""`python -m analysis.scores` prints every scoring method: what a layer's score means, needs, cost, options, paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from adapler.options import CommandParser, load_plugins, user_errors
from analysis.scores import get_method, method_names


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, with the methods of plugins; errors are AdapLeRError."""
    CommandParser(
        prog="python -m analysis.scores",
        description="Print the scoring methods that --methods of analysis.rationale_eval takes; "
        "options go behind the name: 'integrated_gradients(n_steps=20)', 'saliency(target=NEG)'. "
        "Scope: what one layer's score means.",
    ).parse_args(arguments)
    load_plugins()
    table = [("method", "title", "scope", "needs", "cost", "options", "paper")]
    for name in method_names():
        one = get_method(name)
        options = ", ".join(f"{option}={value!r}" for option, value in one.options.items())
        needs = ", ".join(sorted(one.needs)) or "-"
        table.append((name, one.title, one.scope, needs, one.cost, options or "-", one.paper))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
