"""What `adapler predict` takes; the command's options are made from these fields.

Nothing heavy is imported here: `adapler predict --help` needs no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adapler.bulk.recipes import check_choices, check_numbers, option_name
from adapler.bulk.store import errors_path
from adapler.data.texts import STDIN, SUFFIXES
from adapler.errors import ArgumentError, check_drop
from adapler.files import check_output_file
from adapler.precision import Dtype
from adapler.text import Truncation

__all__ = ["Column", "Files", "OutputFile", "PredictSettings", "Target", "Work"]

Removal = Literal["hard", "none"]
Format = Literal["lines", "jsonl", "csv", "tsv", "parquet"]
Engine = Literal["local", "ray"]
Column = Literal["label", "score", "probabilities", "speedup", "length", "lengths", "windows", "tokens", "layers"]
OUTPUT_SUFFIXES = (".jsonl", ".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Input."""

    input: Path | None = None
    """a .jsonl, .csv, .tsv, .parquet or .txt (one text a line), or - for standard input"""

    format: Format | None = None
    """of the input (default: by its name; standard input: lines)"""

    text_column: str | None = None
    """column of the texts (default: text, or text_a)"""

    pair_column: str | None = None
    """column of the second texts of pairs (default: text_b where text_a was found by itself)"""

    id_column: str | None = None
    """column of the ids (default: id, where there is one)"""

    keep: tuple[str, ...] = ()
    """columns that are copied to the output"""

    strict: bool = False
    """end with an error at the first row that cannot be classified"""

    def __post_init__(self) -> None:
        check_choices(self, format=Format)


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """Output."""

    output: Path | None = None
    """write a .jsonl, .csv or .parquet; without it, lines on the screen. Bad rows are also written to a file beside it,
    NAME.SUFFIX.errors.jsonl. Until the end, what is done lies in NAME.SUFFIX.partial: the same command goes on there"""

    output_columns: tuple[Column, ...] = ("label", "score", "probabilities", "speedup")
    """what is written of each row, beside its number, its id, --keep and its error. length: wordpieces of the input;
    lengths: wordpieces that enter each layer; windows: how many the text has; tokens: its wordpieces; layers: how many
    layers each of them entered"""

    restart: bool = False
    """begin anew, and throw away what an unfinished run has done"""

    quiet: bool = False
    """no progress line and no notes"""

    def __post_init__(self) -> None:
        for number, name in enumerate(self.output_columns):
            if name in self.output_columns[:number]:
                raise ArgumentError(f"--output-columns: {name!r} is there twice, give each column once")
            if name not in Column.__args__:  # type: ignore[attr-defined]
                allowed = ", ".join(Column.__args__)  # type: ignore[attr-defined]
                raise ArgumentError(f"--output-columns: {name!r} is not one of {allowed}")
        right = self.output is None or self.output.suffix.lower() in OUTPUT_SUFFIXES or self.output.is_dir()
        if not right:  # a folder has its own message, with that of all commands
            raise ArgumentError(f"--output: {self.output} must end in {', '.join(OUTPUT_SUFFIXES[:-1])} or .parquet")


@dataclass(frozen=True, kw_only=True)
class Work:
    """Who does the work."""

    processes: int = 1
    """processes on this machine (with --engine ray: actors), each with its own model; the output is the same, byte by
    byte"""

    threads: int | None = None
    """batches that one process computes at the same time on a CPU (default: OMP_NUM_THREADS, or the cores that it
    may use, divided by --processes); the output is the same, byte by byte"""

    shard_rows: int = 4096
    """rows that are read, computed and written together; a kill loses those in work, and another value changes the last
    digits of results (a shard of long texts ends at a million characters)"""

    engine: Engine = "local"
    """ray: the work is spread over a Ray cluster, the one in RAY_ADDRESS or one on this machine (extra `ray`)"""

    def __post_init__(self) -> None:
        check_choices(self, engine=Engine)
        check_numbers(self, ("processes", "threads", "shard_rows"), low=1)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Instead of a threshold scale, by the curve that `adapler calibrate` stored with the model."""

    speedup: float | None = None
    """so many times fewer FLOPs"""

    max_drop: float | None = None
    """as fast as a score so much below the one without removal allows"""

    milliseconds: float | None = None
    """of one text, in batches, on the calibration's machine"""

    def __post_init__(self) -> None:
        check_numbers(self, ("speedup", "milliseconds"), low=0, strict=True)
        if self.max_drop is not None:
            check_drop("--max-drop", self.max_drop)
        if len(self.given) > 1:
            raise ArgumentError(f"{' and '.join(map(option_name, self.given))}: only one of them can be given")

    @property
    def given(self) -> dict[str, float]:
        """The target that was asked for, by its name; empty without one."""
        values = {"speedup": self.speedup, "max_drop": self.max_drop, "milliseconds": self.milliseconds}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """`adapler predict`."""

    text: tuple[str, ...] = field(default=(), metadata={"positional": "TEXT"})
    """texts"""

    model: str
    """AdapLeR model: folder or hub name"""

    removal: Removal = "hard"
    """none: the classifier without dropping tokens"""

    threshold_scale: float | None = None
    """factor on every eta: below 1 keeps more tokens (default: 1)"""

    max_length: int | None = None
    """longest input in wordpieces (default: as in training, by run.json)"""

    long_documents: Truncation | None = None
    """what becomes of longer texts: the first wordpieces, the last ones, or windows whose logits are averaged (default:
    as in training, by run.json; otherwise truncate)"""

    stride: int | None = None
    """overlap of windows, in wordpieces"""

    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:N, or mps"""

    dtype: Dtype = "auto"
    """what the layers compute in; auto: bfloat16 where the machine has instructions for it, else float32"""

    target: Target = field(default_factory=Target)
    files: Files = field(default_factory=Files)
    writing: OutputFile = field(default_factory=OutputFile)
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ArgumentError(f"--device: {self.device!r} is not one of auto, cpu, cuda, cuda:N, mps")
        check_choices(self, removal=Removal, long_documents=Truncation, dtype=Dtype)
        check_numbers(self, ("threshold_scale",), low=0)
        if self.threshold_scale is not None and self.removal != "hard":
            raise ArgumentError(f"--threshold-scale: --removal {self.removal} drops no tokens")
        for name in self.target.given:
            if self.threshold_scale is not None:
                raise ArgumentError(f"{option_name(name)} and --threshold-scale: only one of them can be given")
            if self.removal != "hard":
                raise ArgumentError(f"{option_name(name)}: --removal {self.removal} drops no tokens")
        source, output = self.files.input, self.writing.output
        if bool(self.text) == (source is not None):
            raise ArgumentError("give either texts or --input")
        named = next((text for text in self.text if Path(text).suffix.lower() in SUFFIXES and _is_file(text)), None)
        if named is not None:
            raise ArgumentError(f"TEXT: {named} is a file; --input {named} classifies the texts in it")
        unread = ("format", "text_column", "pair_column", "id_column", "keep") if self.text else ()
        for group, names, needed in (
            (self.files, unread, "--input"),
            (self.files, ("keep",) if output is None else (), "--output"),
            (self.writing, ("output_columns", "restart") if output is None else (), "--output"),
        ):
            for name in names:
                if getattr(group, name) != getattr(type(group), name):
                    raise ArgumentError(f"{option_name(name)}: only with {needed}")
        if self.work.engine == "ray" and source is not None and (source == STDIN or source.is_fifo()):
            what = "standard input" if source == STDIN else f"the pipe {source}"  # it is read twice
            raise ArgumentError(f"--engine: ray cannot read {what}, give a file that its nodes can read")
        check_output_file(output)
        if output is not None:
            check_output_file(errors_path(output))
        if source is not None and output is not None and source != STDIN:
            _check_input_stays(source, output)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a name can be, a null byte
        return False


def _check_input_stays(source: Path, output: Path) -> None:
    """Raises ArgumentError when the output, or the file of bad rows beside it, would take the place of the input."""
    if _same_file(source, output):
        raise ArgumentError(f"--output: {output} is the input")
    if _same_file(source, errors_path(output)):
        other = f"{output.stem}-again{output.suffix}"
        raise ArgumentError(
            f"--output: the bad rows of {output} go to {errors_path(output)}, which is the input; choose another name, "
            f"such as {output.with_name(other)}"
        )


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
