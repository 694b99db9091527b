"""Where the rows of a large data set lie while a command works on them: files on disk, mapped into memory.

They belong to one process and are removed when it ends, so that no later run can take them for its own: those of
another tokenizer, another maximum length, another version of the texts.
"""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import uuid
from functools import cache
from pathlib import Path

from adapler.files import cache_folder, is_running

__all__ = ["IN_MEMORY_ROWS", "scratch_file"]

IN_MEMORY_ROWS = 20_000  # data sets of more rows are kept on disk


def scratch_file() -> Path:
    """A new path for an Arrow file, in `rows` of $ADAPLER_CACHE or else of `cache_folder`; it is removed at exit."""
    return _folder(os.getpid()) / f"{uuid.uuid4().hex}.arrow"


@cache
def _folder(process: int) -> Path:
    own = os.environ.get("ADAPLER_CACHE")
    above = (Path(own).expanduser() if own else cache_folder()) / "rows"
    above.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(above)
    folder = above / f"{process}@{platform.node()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    atexit.register(_remove, folder, process)
    return folder


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a forked process must not remove its parent's files
        shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers(above: Path) -> None:
    """Remove what processes of this machine left that were killed. Machines may share the folder, as in a cluster, and
    of another one's processes it is not known whether they are alive. Older versions did not write the machine down."""
    for path in above.iterdir():
        number, _, machine = path.name.rpartition("-")[0].partition("@")
        if machine in ("", platform.node()) and number.isdigit() and not is_running(int(number)):
            shutil.rmtree(path, ignore_errors=True)
