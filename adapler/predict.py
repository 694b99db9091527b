"""`adapler predict`: texts of the command line or rows of a file, classified and written in constant memory.

Rows go through in shards. A finished shard is a file in OUTPUT.partial, written under a temporary name and renamed; a
run that was killed finds it there and goes on behind it. At the end the shards become one file. What is computed of a
shard depends on its rows alone: one thread computes it.

Dimensions: n rows.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from adapler.errors import ArgumentError, DataError, WorkerError
from adapler.options import Checked, flag, option, record
from adapler.system import FORMATS, STDIN, Dtype, claimed, format_of, read_rows, replacing
from adapler.text import Truncation

SHARD_CHARACTERS = 1 << 18  # a shard of long texts ends here
BATCH_TOKENS = 4096  # padded tokens of a batch
COLUMNS = ("label", "score", "probabilities", "speedup", "length", "lengths", "windows", "tokens", "layers")
SHOWN_ERRORS = 20
ROW = "the number of the row"  # a column that no input has
EXAMPLE = """--model checkpoints/movies-minilm "superb acting and a wonderful story"
  adapler predict --model checkpoints/movies-minilm --input reviews.csv --text-column review --id-column key \\
    --keep stars --output labels.parquet --processes 2
  head -100 reviews.txt | adapler predict --model checkpoints/movies-minilm --input -"""


@dataclass(kw_only=True)
class PredictOptions(Checked):
    """Classify texts or the rows of a file."""

    model: str = option("AdapLeR model: folder or hub name", basic=True)
    text: list[str] = option("texts to classify, also as positional arguments", default_factory=list, basic=True)
    input: Path | None = option(
        "input file: .jsonl, .csv, .tsv, .parquet or .txt (one text per line); - for standard input",
        default=None,
        basic=True,
    )
    output: Path | None = option(
        "output file: .jsonl, .csv or .parquet (default: print lines). Finished shards are kept in OUTPUT.partial; run "
        "the same command again to resume", default=None, basic=True,
    )  # fmt: skip
    speedup: float | None = option("FLOPs speedup to reach, by the model's calibration", default=None, basic=True)
    max_drop: float | None = option("largest drop of the score, by the model's calibration", default=None, basic=True)
    milliseconds: float | None = option(
        "time limit per text in batches, by the model's calibration", default=None, basic=True
    )
    threshold_scale: float | None = option(
        "factor on the thresholds: below 1 keeps more tokens (default: 1)", default=None, basic=True, low=0
    )
    removal: Literal["hard", "none"] = option("none: classify without dropping tokens", default="hard")
    format: Literal["lines", "jsonl", "csv", "tsv", "parquet"] | None = option(
        "input format (default: by the file's name; lines for standard input)", default=None
    )
    text_column: str | None = option("column of the texts (default: text, or text_a)", default=None, basic=True)
    pair_column: str | None = option("column of the second texts (default: text_b, beside text_a)", default=None)
    id_column: str | None = option("column of the ids (default: id, if present)", default=None)
    keep: list[str] = option("input columns to copy to the output", default_factory=list, basic=True)
    strict: bool = option("fail at the first row that cannot be classified", default=False)
    output_columns: list[str] = option(
        "output columns, in addition to row number, id, error and those of --keep. length: wordpieces of the input; "
        "lengths: wordpieces that enter each layer; layers: number of layers that each token entered",
        default_factory=lambda: list(COLUMNS[:4]), choices=COLUMNS,
    )  # fmt: skip
    restart: bool = option("discard the shards of an unfinished run", default=False)
    quiet: bool = option("print no progress and no notes", default=False)
    max_length: int | None = option("maximum input length in wordpieces (default: as in training)", default=None)
    long_documents: Truncation | None = option(
        "which part of a longer text is read: the first wordpieces, the last ones, or all in windows whose logits are "
        "averaged (default: as in training)", default=None,
    )  # fmt: skip
    stride: int | None = option("overlap of windows in wordpieces", default=None)
    device: str = option("auto (the GPU, if there is one), cpu, cuda, cuda:N, or mps", default="auto")
    dtype: Dtype = option("dtype of the layers; auto: bfloat16 if the hardware supports it", default="auto")
    processes: int = option("processes, each with its own model (or Ray actors)", default=1, basic=True, low=1)
    threads: int | None = option(
        "threads per process (default: OMP_NUM_THREADS, or cores / processes)", default=None, low=1
    )
    shard_rows: int = option("rows per shard, the unit that is written and resumed", default=1024, low=1)
    engine: Literal["local", "ray"] = option(
        "ray: on the Ray cluster in RAY_ADDRESS, or one started here; --output is then a folder (extra `ray`)",
        default="local",
    )

    def __post_init__(self) -> None:
        from adapler.inference import check_removal

        super().__post_init__()
        if bool(self.text) == (self.input is not None):
            raise ArgumentError("give either texts or --input")
        check_removal(self.removal, self.threshold_scale, **self.target)
        if self.text and any(Path(text[:255]).suffix in FORMATS and Path(text[:255]).is_file() for text in self.text):
            raise ArgumentError("--text: is a file; --input classifies the texts in it")
        if self.output is None:
            return
        if self.engine == "local" and self.output.suffix.lower() not in (".jsonl", ".csv", ".parquet"):
            raise ArgumentError(f"--output: {self.output} must end in .jsonl, .csv or .parquet")
        if self.input is not None and self.input.exists() and self.output.exists() and self.output.samefile(self.input):
            raise ArgumentError(f"--output: {self.output} is the input")

    @property
    def target(self) -> dict[str, float]:
        """The target instead of a threshold scale, by its name; empty without one."""
        return {n: getattr(self, n) for n in ("speedup", "max_drop", "milliseconds") if getattr(self, n) is not None}


# ---- rows in


def input_rows(options: PredictOptions) -> Iterator[dict[str, Any]]:
    """Each row as {row, id, text (string, or pair), error, kept columns}; a row whose text is blank has an error.
    DataError for a row that cannot be read, or, under --strict, classified, and where there are no rows."""
    if options.input is None:
        source: Iterable[Any] = ((n, f"text {n}", {"text": text}) for n, text in enumerate(options.text, start=1))
    else:
        source = read_rows(options.input, options.format)
    columns: Columns | None = None
    for number, place, fields in source:
        columns = columns or Columns.of(options, fields, place)
        row = {"row": number, **columns.read(fields)}
        if options.strict and row["error"]:
            raise DataError(f"{place}: {row['error']}")
        yield row
    if columns is None:
        raise DataError(f"{options.input}: holds no rows")


@dataclass(frozen=True)
class Columns:
    """Which columns of a row mean what; kept ones by their name in the output."""

    text: str
    pair: str | None
    id: str
    kept: dict[str, str]

    @classmethod
    def of(cls, options: PredictOptions, fields: dict[str, Any], place: str) -> Columns:
        """By the options, and by the first row."""
        asked = {"text_column": options.text_column, "pair_column": options.pair_column, "id_column": options.id_column}
        for name, column in [*asked.items(), *(("keep", column) for column in options.keep)]:
            if column is not None and column not in fields:
                raise ArgumentError(f"{flag(name)}: {place} has no column {column!r}, only {', '.join(fields)}")
        text = options.text_column or next((name for name in ("text", "text_a") if name in fields), None)
        if text is None:
            raise DataError(f"{place}: has no column 'text' or 'text_a', only {', '.join(fields)}; give --text-column")
        pair = options.pair_column
        if pair is None and options.text_column is None and text == "text_a" and "text_b" in fields:
            pair = "text_b"
        return cls(text, pair, options.id_column or "id", _kept(options))

    def read(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The row of `input_rows`, without its number."""
        names = [self.text] if self.pair is None else [self.text, self.pair]
        error = None
        for name in names:
            if not isinstance(fields.get(name), str) or not fields[name].strip():
                error = f"{name!r} is blank" if fields.get(name) in (None, "") else f"{name!r} is no text, or blank"
        if self.pair is None and self.text == "text_a" and fields.get("text_b"):
            error = "has 'text_b', which the first row has not"
        texts = None if error else fields[self.text] if self.pair is None else (fields[self.text], fields[self.pair])
        kept = {column: fields.get(name) for name, column in self.kept.items()}
        return {"id": fields.get(self.id), **kept, "text": texts, "error": error}


def _kept(options: PredictOptions) -> dict[str, str]:
    """The kept columns, and what they are called in the output."""
    own = {"row", "id", "error", *COLUMNS}
    return {name: f"input_{name}" if name in own or name.startswith("probability_") else name for name in options.keep}


def shards(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows in lists of at most `size`, which end where their texts reach SHARD_CHARACTERS."""
    shard: list[dict[str, Any]] = []
    left = SHARD_CHARACTERS
    for row in rows:
        shard.append(row)
        left -= len(row["text"]) if isinstance(row["text"], str) else sum(map(len, row["text"] or ()))
        if len(shard) == size or left <= 0:
            yield shard
            shard, left = [], SHARD_CHARACTERS
    if shard:
        yield shard


# ---- rows through the model


class Classifier:
    """A model and its tokenizer; called with rows of `input_rows`, it gives rows of the output, or writes them."""

    def __init__(self, options: PredictOptions, *, device: str | None = None) -> None:
        from adapler.inference import padding_of
        from adapler.modeling import AdapLeRForSequenceClassification
        from adapler.system import choose_device, describe_dtype
        from adapler.text import load_tokenizer

        place = choose_device(device or options.device)
        loaded = AdapLeRForSequenceClassification.from_pretrained(options.model).to(place)
        self.model = loaded.for_inference(dtype=options.dtype)
        self.tokenizer = load_tokenizer(options.model, words=False)
        encoding = loaded.encoding(
            max_length=options.max_length, long_documents=options.long_documents, stride=options.stride
        )
        self.encoding = encoding.arguments
        self.scale = 1.0 if options.threshold_scale is None else options.threshold_scale
        if options.target:
            self.scale = loaded.announce_scale(runs=self.model, encoding=encoding, **options.target)
        self.removal, self.columns = options.removal, options.output_columns
        self.on_cpu, self.padding = place.type == "cpu", padding_of(self.tokenizer)
        self.notes = (encoding.note, describe_dtype(options.dtype, place))
        self.table: Table | None = None  # for rows that are written

    def __call__(
        self, rows: Sequence[dict[str, Any]], path: Path | None = None
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        """Rows of the output; those that were written to `path` are left out, but for the ones with an error. And how
        many there are (rows), without a prediction (bad), of nothing but [CLS] (unread); wordpieces (tokens)."""
        from adapler.inference import predict_rows, predictions

        rows = [dict(row) for row in rows]
        good = self._encoded([row for row in rows if not row["error"]])
        found: list[Any] = []
        if good is not None:
            depths: list[list[int]] | None = [] if {"tokens", "layers"} & {*self.columns} else None
            options = {"removal": self.removal, "threshold_scale": self.scale, "token_budget": BATCH_TOKENS}
            outputs = predict_rows(self.model, good.rows, depths=depths, pad_token_id=self.padding, **options)
            found = predictions(self.model, self.tokenizer, good, outputs, removal=self.removal, depths=depths)
        count = Counter(rows=len(rows), bad=sum(bool(row["error"]) for row in rows))
        count.update(
            tokens=sum(one.length for one in found), unread=sum(one.lengths[0] == one.windows for one in found)
        )
        out, results = [], iter(found)
        for row in rows:
            error, _ = row.pop("error"), row.pop("text")
            one = None if error else next(results)
            out.append({**row, **{name: getattr(one, name, None) for name in self.columns}, "error": error})
        if path is None or self.table is None:
            return out, count
        with replacing(path) as partial:
            self.table.write(out, partial)
        return [row for row in out if row["error"]], count

    def _encoded(self, rows: list[dict[str, Any]]) -> Any:
        """The rows' texts encoded; a row whose text gives no wordpieces, or leaves no room for a window, gets an error
        and is left out."""
        from adapler.text import encode

        while rows:
            texts = [row["text"] if isinstance(row["text"], tuple) else (row["text"], None) for row in rows]
            try:
                encoded = encode([a for a, _ in texts], self.tokenizer, seconds=[b for _, b in texts], **self.encoding)
                bad, reason = encoded.blank(), "blank: the text gives no wordpieces"
            except DataError as error:
                place, _, reason = str(error).removeprefix("text ").partition(": ")
                bad = [int(place)]
            if not bad:
                return encoded
            for index in bad:
                rows[index]["error"] = reason
            rows = [row for row in rows if not row["error"]]
        return None


# ---- rows out


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A column for each label's probability."""
    return {**row, **{f"probability_{label}": share for label, share in (row.get("probabilities") or {}).items()}}


class Table:
    """The columns of an output file, and its rows in shards; the suffix gives the format."""

    def __init__(
        self, options: PredictOptions, labels: Sequence[str], row: Mapping[str, Any], types: Mapping[str, Any]
    ) -> None:
        """row: of `input_rows`; types: the Arrow types of the input's columns, by name, if it has any."""
        self.suffix = options.output.suffix.lower() if options.output else ""
        shares = [f"probability_{label}" for label in labels]
        columns = [name for name in row if name not in ("text", "error")] + [*options.output_columns, "error"]
        self.names = [n for name in columns for n in (shares if name == "probabilities" else [name])]
        own = {options.id_column or "id": "id", **_kept(options)}
        self._types = {own[name]: kind for name, kind in types.items() if name in own}

    def write(self, rows: Sequence[dict[str, Any]], path: Path) -> None:
        """A shard; CSV without a header."""
        if self.suffix == ".jsonl":
            path.write_text("".join(map(_json_line, rows)), encoding="utf-8")
        elif self.suffix == ".csv":
            with path.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, self.names, extrasaction="ignore")
                writer.writerows({name: _cell(value) for name, value in flat(row).items()} for row in rows)
        else:
            import pyarrow.parquet as pq

            pq.write_table(self.arrow(rows), path)

    def arrow(self, rows: Sequence[dict[str, Any]]) -> Any:
        """Rows as an Arrow table."""
        import pyarrow as pa

        schema, made = self._schema(), [flat(row) for row in rows]
        text = {field.name for field in schema if field.type == pa.string()}
        for row in made:
            row.update({name: str(_cell(row[name])) for name in text if row.get(name) is not None})
        return pa.Table.from_pylist(made, schema=schema)

    def join(self, parts: Sequence[Path], output: Path) -> None:
        """One file of all shards, whole or not at all."""
        with replacing(output) as partial:
            if self.suffix == ".parquet":
                import pyarrow.parquet as pq

                with pq.ParquetWriter(partial, self._schema()) as writer:
                    for part in parts:
                        writer.write_table(pq.read_table(part))
                return
            with partial.open("w", encoding="utf-8", newline="") as stream:
                if self.suffix == ".csv":
                    csv.writer(stream).writerow(self.names)
                for part in parts:
                    with part.open(encoding="utf-8", newline="") as source:
                        shutil.copyfileobj(source, stream)

    def _schema(self) -> Any:
        """Numbers of the input keep their types; its other columns are text."""
        import pyarrow as pa

        types = {"row": pa.int64(), "length": pa.int32(), "windows": pa.int32(), "score": pa.float64()}
        types |= {"speedup": pa.float64(), "tokens": pa.list_(pa.string())}
        types |= dict.fromkeys(("lengths", "layers"), pa.list_(pa.int32()))
        types |= {name: pa.float64() for name in self.names if name.startswith("probability_")}
        types |= {name: kind for name, kind in self._types.items() if pa.types.is_primitive(kind)}
        return pa.schema([(name, types.get(name, pa.string())) for name in self.names])


def _json_line(row: dict[str, Any]) -> str:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(finite, ensure_ascii=False, default=str) + "\n"


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value


def _screen_line(row: dict[str, Any], *, numbered: bool) -> str:
    begin = f"{row['row']}\t" + ("" if row["id"] is None else f"{row['id']}\t") if numbered else ""
    if row["error"]:
        return f"{begin}-\t{row['error']}"
    before = row["length"] if row["windows"] == 1 else f"{row['windows']} windows"
    lengths = " ".join(map(str, row["lengths"]))
    return f"{begin}{row['label']}\t{row['score']:.4f}\t{row['speedup']:.2f}x\t{before} -> {lengths}"


# ---- all of it


def predict_file(options: PredictOptions) -> Counter[str]:
    """Classify texts and write a file, or lines on the screen; gives counts of this run, see Classifier, and of rows
    that an earlier run wrote (before).

    Raises DataError, ArgumentError or CheckpointError for a file, an option or a model that cannot be used, WorkerError
    where a process has ended.
    """
    if options.engine == "ray":
        return _predict_on_ray(options)
    from tqdm import tqdm

    from adapler.backbones.families import label_names

    parts = shards(input_rows(options), options.shard_rows)
    first = next(parts)  # before the model is loaded: most mistakes show here
    place = None if options.output is None else options.output.with_name(f"{options.output.name}.partial")
    if place is None:
        options = replace(options, output_columns=["label", "score", "speedup", "length", "lengths", "windows"])
    names: list[Path] = []
    count, errors = Counter[str](), list[str]()
    waiting: deque[Future[Any]] = deque()

    def missing(suffix: str) -> Iterator[tuple[list[dict[str, Any]], Path | None]]:
        for index, shard in enumerate(chain([first], parts)):
            path = place and place / f"{index:07d}{suffix}"
            if path is not None:
                names.append(path)
            if path is None or not path.exists():
                yield shard, path
            else:
                count["before"] += len(shard)

    with claimed(options.output):
        classifier = Classifier(options)
        begin, types = time.perf_counter(), {}
        if options.input is not None and (options.format or format_of(options.input)) == "parquet":
            import pyarrow.parquet as pq

            types = {field.name: field.type for field in pq.read_schema(options.input)}
        classifier.table = table = Table(options, label_names(classifier.model.config), first[0], types)
        if place is not None:
            _begin(place, options)
        tasks = missing(table.suffix)
        try:
            pool, work = _pool(options, classifier)
            with pool, tqdm(unit="row", disable=options.quiet or None) as bar:
                while True:
                    for task in islice(tasks, 2 * pool._max_workers - len(waiting)):
                        waiting.append(pool.submit(work, *task))
                    if not waiting:
                        break
                    rows, done = waiting.popleft().result()
                    count += done
                    errors += [f"row {row['row']}: {row['error']}" for row in rows if row["error"]]
                    for row in rows if place is None else ():
                        print(_screen_line(row, numbered=options.input is not None))
                    bar.update(done["rows"])
        except DataError:  # the input has to be changed, and then it is another one
            if place is not None:
                shutil.rmtree(place, ignore_errors=True)
            raise
        except BrokenProcessPool as error:
            raise WorkerError(
                "a process has ended; the machine may be out of memory, fewer --processes need less"
            ) from error
        if place is not None and options.output is not None:
            table.join(names, options.output)
            shutil.rmtree(place)
    notes = [*classifier.notes, *errors[:SHOWN_ERRORS]]
    if count["bad"]:
        notes.append(f"{count['bad']} of {count['rows']} rows have no prediction (see `error`)")
    if count["unread"]:
        notes.append(
            f"of {count['unread']} of {count['rows']} rows nothing but [CLS] entered the first layer: their labels do "
            "not depend on the text; a smaller --threshold-scale or --speedup keeps more"
        )
    for note in notes if not options.quiet else ():
        print(f"note: {note}", file=sys.stderr)
    return _report(options, count, time.perf_counter() - begin)


def _report(options: PredictOptions, count: Counter[str], seconds: float) -> Counter[str]:
    if options.output is not None:
        speed = f"{count['rows'] / seconds:,.0f} rows/s, {count['tokens'] / seconds:,.0f} tokens/s"
        before = f" and {count['before']:,} rows of an earlier run" if count["before"] else ""
        print(f"{count['rows'] - count['bad']:,} predictions{before} in {options.output}; {speed}")
    return count


def _begin(place: Path, options: PredictOptions) -> None:
    """Make the folder of shards, or go on in one of the same settings, model and input; ArgumentError names the first
    that differs."""
    free = ("restart", "quiet", "processes", "threads", "strict", "text")
    settings = {name: value for name, value in record(options).items() if name not in free}
    names = ("*.safetensors", "config.json", "tokenizer.json", "run.json")
    files = [path for name in names for path in sorted(Path(options.model).glob(name))]  # none of a model of the hub
    settings |= {"files of the model": [_stamp(path) for path in files], "rows of the input": options.text or None}
    if options.input is not None and options.input.is_file():
        settings["rows of the input"] = _stamp(options.input)
    settings = json.loads(json.dumps(settings))
    path = place / "settings.json"
    if options.restart or options.input == STDIN or not path.exists():
        shutil.rmtree(place, ignore_errors=True)
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            if before.get(name) != value:
                raise ArgumentError(
                    f"--output: {place.name} was begun with {name} {before.get(name)!r:.80}, now it is {value!r:.80}; "
                    "--restart begins anew"
                )
        return
    place.mkdir(parents=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _stamp(path: Path) -> list[Any]:
    return [path.name, path.stat().st_size, path.stat().st_mtime_ns]


_CLASSIFIER: Classifier  # of a worker process


def _work(shard: list[dict[str, Any]], path: Path | None) -> tuple[list[dict[str, Any]], Counter[str]]:
    return _CLASSIFIER(shard, path)


def _pool(options: PredictOptions, classifier: Classifier) -> tuple[Any, Any]:
    """The executor of the shards, and what it runs: threads of this process, each for itself, or processes."""
    import torch

    cores = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    threads = options.threads or max(1, cores // options.processes)
    if options.processes == 1:
        if not classifier.on_cpu:
            return ThreadPoolExecutor(1), classifier
        return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)), classifier
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    settled = replace(
        options, threshold_scale=classifier.scale if options.removal == "hard" else None,
        speedup=None, max_drop=None, milliseconds=None,
    )  # fmt: skip
    start = partial(_start, settled, classifier.table, context.Value("i", 0), threads)
    return ProcessPoolExecutor(options.processes, mp_context=context, initializer=start), _work


def _start(options: PredictOptions, table: Table | None, started: Any, threads: int) -> None:
    """Begin a worker process: load its model, on its own GPU where there are several."""
    import multiprocessing
    from multiprocessing.connection import wait

    import torch
    from transformers.utils import logging

    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()  # killed: end, too
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    count = torch.cuda.device_count()
    several = options.device in ("auto", "cuda") and count
    global _CLASSIFIER
    _CLASSIFIER = Classifier(options, device=f"cuda:{number % count}" if several else None)
    _CLASSIFIER.table = table


# ---- on a cluster


class RayClassifier:
    """An actor with one model; a batch of Ray Data is one shard."""

    def __init__(self, options: PredictOptions) -> None:
        self.options, self.classifier = options, Classifier(options)
        self.columns: Columns | None = None

    def __call__(self, batch: Any) -> Any:
        """The output's columns of a batch of rows, both Arrow tables."""
        from adapler.backbones.families import label_names

        fields = batch.to_pylist()
        self.columns = self.columns or Columns.of(self.options, fields[0], str(self.options.input))
        rows = [{"row": one.pop(ROW), **self.columns.read(one)} for one in fields]
        types = {field.name: field.type for field in batch.schema}
        table = Table(self.options, label_names(self.classifier.model.config), rows[0], types)
        return table.arrow(self.classifier(rows)[0])


def _predict_on_ray(options: PredictOptions) -> Counter[str]:
    """Classify the rows of a file into a folder of files, in the order of the rows; `row` counts rows, not lines."""
    try:
        import ray
    except ImportError as error:
        raise ArgumentError(f"--engine: ray needs the extra `ray` (pip install 'adapler[ray]'): {error}") from error
    if options.input is None or options.input == STDIN or options.output is None or options.output.exists():
        raise ArgumentError("--engine: ray needs a file as --input, and a folder that is not there yet as --output")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # actors without a GPU leave the choice alone
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    kind, begin = options.format or format_of(options.input), time.perf_counter()
    path = str(options.input.resolve())
    if kind in ("csv", "tsv"):
        from pyarrow.csv import ParseOptions

        how = ParseOptions(delimiter="\t", quote_char=False) if kind == "tsv" else ParseOptions(newlines_in_values=True)
        rows = ray.data.read_csv(path, parse_options=how)
    else:
        options_of = {"drop_empty_lines": False} if kind == "lines" else {}
        read = {"jsonl": ray.data.read_json, "parquet": ray.data.read_parquet, "lines": ray.data.read_text}[kind]
        rows = read(path, **options_of)
    rows = rows.materialize()
    numbers = ray.data.range(rows.count()).map_batches(lambda batch: {ROW: batch["id"] + 1})
    made: Any = (
        rows.zip(numbers)
        .map_batches(
            RayClassifier,
            fn_constructor_args=(options,),
            batch_size=options.shard_rows,
            batch_format="pyarrow",
            concurrency=options.processes,
            num_gpus=1 if options.device.startswith("cuda") else 0,
        )
        .materialize()
    )
    write = {".jsonl": made.write_json, ".csv": made.write_csv}.get(options.output.suffix.lower(), made.write_parquet)
    write(str(options.output.resolve()))
    count = Counter(rows=made.count(), bad=int(made.filter(lambda row: row["error"] is not None).count()))
    return _report(options, count, time.perf_counter() - begin)
