"""python -m tests.pretend KIND FOLDER CHECK...: runs checks on a pretended device, each result as a line of JSON."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from tests.pretend.device import DEVICE, install

if __name__ == "__main__":
    kind, folder, *names = sys.argv[1:]
    install(kind)  # before the packages are imported
    system = import_module("adapler.system")
    system.choose_device = lambda name="auto": DEVICE  # what commands ask, before they take its name
    import_module("tests.pretend.checks").main(Path(folder), names)
