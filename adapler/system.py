"""The machine that a command runs on: devices and dtypes, the processes of one job, and files.

Where a processor has instructions for bfloat16, a model runs two to three times faster than in float32; where it has
none, every product is emulated and the model is slower. Rows of files are read in constant memory; files are written
whole or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from filelock import FileLock, Timeout

from adapler.errors import ArgumentError, CheckpointError, DataError, excerpt

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16"]
DTYPES: tuple[str, ...] = get_args(Dtype)
T = TypeVar("T")
AMPERE = (8, 0)  # the first CUDA compute capability with bfloat16 units
# How long a process waits for another: hours, while the main process computes saliency of a large training set or
# evaluates. The default of 10 or 30 minutes would end such a run. When a process fails, the launcher ends the others.
GROUP_TIMEOUT = timedelta(days=7)


def choose_device(name: str = "auto") -> torch.device:
    """The device of a command's model: "auto" (this process's own GPU if there is one, as in training; the CPU
    otherwise), "cpu", "cuda", "cuda:1", "mps". ArgumentError for one that is not on this machine."""
    import torch

    if name == "auto" or (name == "cuda" and torch.cuda.is_available()):
        own = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", own) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"--device: {name!r} is not one of auto, cpu, cuda, cuda:N, mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        there = ", ".join(["auto", "cpu", *(kind for kind in ("cuda", "mps") if count[kind])])
        raise ArgumentError(f"--device: {name} is not on this machine, which has {there}")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes bfloat16 in hardware: AVX512-BF16 or AMX on a CPU, Ampere and above on CUDA."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def choose_dtype(name: str, device: torch.device) -> str:
    """ "float32" or "bfloat16"; "auto" is bfloat16 where the device computes it in hardware."""
    if name not in DTYPES:
        raise ArgumentError(f"dtype: {name!r} is not one of {', '.join(DTYPES)}")
    if name != "auto":
        return name
    return "bfloat16" if has_bfloat16(device) else "float32"


def describe_dtype(name: str, device: torch.device) -> str:
    """One line on the dtype that `choose_dtype` chose, and the reason."""
    chosen = choose_dtype(name, device)
    can = "computes" if has_bfloat16(device) else "does not compute"
    if name == "auto":
        return f"dtype {chosen} (auto: this {device.type} {can} bfloat16 in hardware)"
    if chosen == "bfloat16" and not has_bfloat16(device):
        return f"dtype bfloat16 (slow: this {device.type} does not compute it in hardware)"
    return f"dtype {chosen} (as requested)"


def device_name(device: torch.device) -> str:
    """The name of a GPU or of the processor; of another kind of device, the kind."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type != "cpu":
        return device.type
    table = Path("/proc/cpuinfo")  # `platform` does not know the processor's name on Linux
    match = re.search(r"^model name\s*:\s*(.+)$", table.read_text(), re.MULTILINE) if table.is_file() else None
    return " ".join(match[1].split()) if match else platform.processor() or platform.machine()


# ---- one job in several processes (`torchrun`, `accelerate launch`): who writes, and waiting for it


def is_main() -> bool:
    """Whether this process is the one that prints and writes; the only one there is, without a launcher."""
    return int(os.environ.get("RANK", "0")) == 0


def processes() -> int:
    """Number of processes that a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(device: torch.device) -> None:
    """Open the group of processes, for models on a kind of device; does nothing without a launcher."""
    if processes() > 1:
        _state(cpu=device.type == "cpu")


def wait_for_everyone() -> None:
    """Returns when every process is here; at once, without a launcher."""
    if processes() > 1:
        import torch

        _state(cpu=not torch.cuda.is_available()).wait_for_everyone()


def from_main(value: T | None) -> T:
    """The main process's value, in every process; the others wait for it."""
    values: list[Any] = [value]
    if processes() > 1:
        from accelerate.utils import broadcast_object_list

        wait_for_everyone()
        broadcast_object_list(values)
    return values[0]


def _state(*, cpu: bool) -> Any:
    from accelerate import PartialState

    # A group that is open already stays as it is.
    return PartialState(cpu=cpu, timeout=GROUP_TIMEOUT)


# ---- files

STDIN = Path("-")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}  # by suffix
FORMATS |= {".txt": "lines", ".text": "lines"}


def cache_folder() -> Path:
    """Folder of files that can be made again: $XDG_CACHE_HOME/adapler, by default ~/.cache/adapler."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "adapler"


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hexadecimal sha256 of a file; DataError if there is none."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to `path` that takes its place when the block ends without an error.

    The block creates a file or a folder at the yielded path, which keeps the suffix of `path`. After an error the
    temporary is removed and `path` is as before. A folder is replaced whole, but see check_replaceable.
    """
    path = Path(os.path.realpath(path))
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}{path.suffix[:40]}")
    try:
        yield temporary
        if path.exists() and path.is_dir() != temporary.is_dir():
            raise ArgumentError(f"{path}: a file and a folder cannot take each other's place")
        if path.is_dir():  # a rename cannot overwrite a folder that is not empty
            aside = temporary.with_name(f"{temporary.name}.old")
            os.replace(path, aside)
            os.replace(temporary, path)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """Raise ArgumentError for a path that must not be replaced: a device, or a folder that holds the working directory,
    the home directory or a git repository."""
    if path.is_dir():
        if any(precious.resolve().is_relative_to(path.resolve()) for precious in (Path.cwd(), Path.home())):
            raise ArgumentError(f"{path}: holds the working or the home directory and would be replaced whole")
        if (path / ".git").exists():
            raise ArgumentError(f"{path}: holds a git repository and would be replaced whole")
    elif path.exists() and not path.is_file():
        raise ArgumentError(f"{path}: is neither a file nor a folder and would be replaced")


def check_output_file(path: Path | None, *, name: str = "--output") -> None:
    """Check, before long work, that a file can be written; None is no file. ArgumentError if it is a folder, a device
    or a model's own file, or its folder cannot be made or written to."""
    if path is None:
        return
    if path.is_dir():
        raise ArgumentError(f"{name}: {path} is a folder, a file is to be written there")
    ours = path.suffix == ".safetensors" or path.name.startswith(("config.", "tokenizer", "vocab.", "run."))
    if ours and (path.parent / "config.json").is_file():
        raise ArgumentError(f"{name}: {path} is a file of the model in that folder; choose another name")
    check_replaceable(path)
    check_writable_folder(path.parent, name=name)


def check_output_folder(path: Path, *, former: Sequence[str] = ()) -> None:
    """Check, before long work, that a folder can be made or replaced whole. `former`: files by which an earlier output
    of the command is known; ArgumentError for another folder with files in it."""
    check_writable_folder(path)
    check_replaceable(path)
    names = sorted(os.listdir(path)) if path.is_dir() else []
    if former and names and not set(names).intersection(former):
        raise ArgumentError(f"--output: {path} would be replaced whole and holds {names[0]!r}; choose another folder")


def check_writable_folder(path: Path, *, name: str = "--output") -> None:
    """Check, before long work, that files can be written into a folder, which need not exist yet. ArgumentError if it
    cannot, or if it begins with ~, which no shell expands in a recipe or in `--output=~/x`."""
    if path.parts[:1] == ("~",):
        raise ArgumentError(f"{name}: {path} is not expanded here, write it out: {os.path.expanduser(path)}")
    existing = next(part for part in (path, *path.parents, Path(".")) if os.path.lexists(part))
    if not existing.is_dir():
        raise ArgumentError(f"{name}: {path} cannot be a folder, {existing} is a file")
    if not os.access(existing, os.W_OK):
        raise ArgumentError(f"{name}: {path} cannot be written, no permission to write into {existing}")


@contextmanager
def claimed(path: Path | None) -> Iterator[None]:
    """Keep other commands of this user from writing a file or folder until the block ends, ArgumentError if one does;
    None is nothing to write."""
    if path is None or not is_main():  # of the processes of one launcher the main one has the lock
        yield
        return
    locks, path = cache_folder() / "locks", Path(os.path.realpath(path))
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / f"{hashlib.sha256(os.fsencode(path)).hexdigest()}.lock", timeout=0):
            yield
    except Timeout as error:
        raise ArgumentError(f"--output: {path} is in use by another process") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CheckpointError where there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({' '.join(str(error).split()):.100})") from error


# ---- rows


def format_of(path: Path) -> str:
    """The format that a file's name tells; standard input and a name without suffix: lines."""
    if path == STDIN or not path.suffix:
        return "lines"
    if path.suffix.lower() not in FORMATS:
        raise ArgumentError(f"{path}: its name does not tell the format ({', '.join(FORMATS)} do); give --format")
    return FORMATS[path.suffix.lower()]


def read_rows(path: Path, format: str | None = None) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(number from 1, place for messages, fields) of each row of a file, or STDIN, in one of FORMATS; default: by the
    name. DataError for a row that cannot be read, by its place.

    The number is the line's for lines and JSON lines, where blank lines are passed over. A line is the field `text`;
    the fields of CSV and TSV are strings.
    """
    kind, place = format or format_of(path), str(path)
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            number = 0
            for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, (place := f"{path}, row {number}"), row
            return
        # Texts may hold a lone carriage return, which ends no line of them.
        newline = "" if kind in ("csv", "tsv") else "\n"
        own = path != STDIN
        with path.open(encoding="utf-8-sig", newline=newline) if own else nullcontext(_stdin(newline)) as stream:
            if kind == "jsonl":
                yield from ((number, f"{path}:{number}", row) for number, row in json_lines(stream, str(path)))
                return
            if kind == "lines":
                for number, line in enumerate(stream, start=1):
                    yield number, f"{path}:{number}", {"text": line.strip()}
                return
            csv.field_size_limit(sys.maxsize)
            options: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {}
            reader = csv.DictReader(stream, strict=True, **options)
            for number, row in enumerate(reader, start=1):
                place = f"{path}, row {number}"
                if None in row or None in row.values():
                    raise DataError(f"{place}: has other fields than the header, {', '.join(reader.fieldnames or ())}")
                yield number, place, row
    except (OSError, ValueError, csv.Error) as error:  # UTF-8's and Arrow's are ValueErrors
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place}: cannot be read ({' '.join(str(error).split()):.160})") from error


def json_lines(lines: str | Iterable[str], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every line that is not blank. DataError, with the line, for another value."""
    # Not splitlines(): JSON strings may hold U+2028 and other characters that it takes for line ends.
    for number, line in enumerate(lines.split("\n") if isinstance(lines, str) else lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}:{number}: not JSON ({error}): {excerpt(line.strip())}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}:{number}: a JSON object is expected, found {type(row).__name__}")
        yield number, row


def _stdin(newline: str) -> Any:
    if sys.stdin is None or not hasattr(sys.stdin, "reconfigure"):  # closed, or a notebook's
        raise DataError("stdin: no standard input, give a file")
    sys.stdin.reconfigure(encoding="utf-8-sig", newline=newline)
    return sys.stdin
