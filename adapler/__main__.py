"""`python -m adapler` and `torchrun -m adapler` are the command `adapler`."""

import sys

from adapler.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
