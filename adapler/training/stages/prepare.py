"""From the settings of a task to encoded rows that a model can read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute as pc

from adapler.backbones import label_names, max_positions
from adapler.backbones.loading import is_fine_tuned, read_config
from adapler.budgets.curve import Calibration
from adapler.data import HoldOut, Task, balanced_sample, in_label_order, is_file, is_of_hub, load_task
from adapler.distributed import is_main
from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.text import choose_encoding, encode_dataset, load_tokenizer, read_run, recorded_encoding
from adapler.training.settings import TaskSettings


@dataclass(frozen=True)
class Prepared:
    """A task that is ready for a model.

    Attributes:
        task: names and labels.
        tokenizer: the model's.
        encoded: the encoded splits.
        encoding: how they were encoded (JSON-ready).
        predicted: the splits whose labels are a classifier's predictions.
    """

    task: Task
    tokenizer: Any
    encoded: datasets.DatasetDict
    encoding: dict[str, Any]
    predicted: tuple[str, ...] = ()

    def metric(self, split: str) -> str:
        """What a score on a split is called: the task's metric, or "agreement" where labels are predictions."""
        return "agreement" if split in self.predicted else self.task.metric

    def scored_task(self) -> Task:
        """The task with the metric of its validation split."""
        return replace(self.task, metric=self.metric("validation"))


def prepare(
    settings: TaskSettings,
    model: str | Path,
    *,
    splits: tuple[str, ...],
    seed: int,
    optional: tuple[str, ...] = (),
    unlabelled: bool = False,
    workers: int = 0,
    held_out: HoldOut | None = None,
    alone: str | None = None,
) -> Prepared:
    """Load a task and encode it with a model's tokenizer, for its positions and in its label order.

    Plain text is tokenised as the model's own pipeline does; lists of words as words.

    Args:
        settings: the task, and what becomes of long texts.
        model: hub name or folder.
        splits: which to encode.
        seed: of the rows that `limit` draws, and of a validation split that is drawn from train.
        optional: further splits, encoded when the task has them.
        unlabelled: whether rows without labels are allowed, for a model that is a fine-tuned classifier; see
            `adapler.training.stages.predicted`.
        workers: processes that tokenise a large data set (0: this one).
        held_out: how a validation split is drawn from train where the settings do not say it.
        alone: see `load_task`.

    Raises:
        ArgumentError: a split that the task does not have, a length that the model cannot read, or a kind of model
            that is not supported.
        DataError, CheckpointError: from the readers.
    """
    if settings.stride is not None and "windows" not in (settings.long_documents, settings.train_documents):
        raise ArgumentError("--stride: is of windows; --long-documents windows or --train-documents windows makes them")
    config = read_config(model)
    names = _names_in(model)
    how = held_out if settings.validation_share is None else HoldOut(share=settings.validation_share, seed=seed)
    allowed = names if unlabelled else None
    task = load_task(settings.task, data_dir=settings.data_dir, labels=allowed, how=how, alone=alone)
    missing = [split for split in splits if split not in task.dataset]
    if missing:
        raise ArgumentError(f"--task: {settings.task} has no split {missing[0]!r}; it has {', '.join(task.dataset)}")
    if names is not None:
        task = in_label_order(task, names)
    max_length = _max_length(settings.max_length, config, task=task, model=model)
    tokenizer = load_tokenizer(model, words=task.is_split_into_words)
    if tokenizer.pad_token_id is None:
        raise CheckpointError(f"{model}: its tokenizer has no padding token, and texts of a batch need one")
    if is_main():
        for note in task.notes:
            print(f"note: {note}")
    policy, encoded = settings.long_documents or "truncate", {}
    for split in (*splits, *(split for split in optional if split in task.dataset)):
        rows = task.dataset[split]
        if split == "train" and settings.limit is not None:
            rows = balanced_sample(rows, settings.limit, seed=seed)
        try:
            encoded[split] = encode_dataset(
                rows,
                tokenizer,
                columns=task.columns,
                max_length=max_length,
                truncation=(settings.train_documents if split == "train" else None) or policy,
                stride=settings.stride,
                workers=workers,
                blank=is_of_hub(settings.task, settings.data_dir),  # whose rows nobody here can mend
            )
        except DataError as error:
            raise DataError(f"{settings.task}, {split}: {error}") from error
        _check_inputs(encoded[split], getattr(config, "backbone_config", config), model=model)
    recorded = ("long_documents", "train_documents", "stride", "limit", "validation_share")
    encoding = {name: value for name, value in asdict(settings).items() if name in recorded}
    return Prepared(
        task,
        tokenizer,
        datasets.DatasetDict(encoded),
        {"max_length": max_length, **encoding, "long_documents": policy, "columns": list(task.columns)},
    )


def prepare_trained(settings: TaskSettings, model: str | Path, *, split: str, seed: int) -> tuple[Prepared, str]:
    """A split for a model that is trained already: what the settings leave open is as in its training, the rows of a
    validation split that is drawn from train as well. A file is the split, whole, unless training read the same rows.

    Args:
        settings, model, seed: see `prepare`.
        split: which to encode.

    Returns:
        The task with that split, and one line that says which part of a long text is read, and why, and warns of a
        validation split that is not training's.

    Raises:
        ArgumentError: the split has no labels; other splits need none. It has single texts and the model learned from
            pairs, or the reverse. It is the test split, and the model learned from the file.
        ArgumentError, DataError, CheckpointError: see `prepare`, `choose_encoding` and `recorded_encoding`.
    """
    if settings.limit is not None and split != "train":
        raise ArgumentError(f"--limit: is of training rows, and only {split} is read here")
    if settings.train_documents is not None and split != "train":
        raise ArgumentError(f"--train-documents: is of the training split, and only {split} is read here")
    own = settings.train_documents if split == "train" else None
    how = choose_encoding(
        recorded_encoding(model),
        max_length=settings.max_length,
        long_documents=own or settings.long_documents,
        stride=settings.stride,
        longest="the task's longest input",
    )
    policy: Any = how.long_documents  # one of POLICIES: it has been checked
    stride = how.stride if policy == "windows" else None  # a recorded one may be of the training windows alone
    settings = replace(settings, max_length=how.max_length, long_documents=policy, stride=stride)
    held_out, note = _held_out_in_training(model), how.note
    single = is_file(settings.task)
    learned = single and _learned_from(settings.task, model, how=held_out)
    if learned and split == "test":
        raise ArgumentError(
            f"--split: {model} learned from rows of {settings.task}; --split validation reads those that were held out"
        )
    if single and not learned:
        _check_alone(settings, model, how=held_out)
    if settings.validation_share is not None and (held_out is not None or learned):
        asked, drawn = HoldOut(share=settings.validation_share, seed=seed, optional=True), held_out or HoldOut()
        if asked != drawn:
            share = "a tenth" if drawn.share is None else drawn.share
            note += (
                f"; --validation-share {asked.share} with seed {asked.seed} draws other rows than training did "
                f"({share} with seed {drawn.seed}): the model may have learned from some of them"
            )
    alone = None if learned else split
    prepared = prepare(settings, model, splits=(split,), seed=seed, unlabelled=True, held_out=held_out, alone=alone)
    _check_columns(prepared.task, model)
    if single and not learned:
        note += f"; {settings.task}: all its {len(prepared.task.dataset[split])} rows"
    if split in prepared.task.unlabelled:
        raise ArgumentError(f"--split: {split} of {prepared.task.name} has no labels, and a score needs them")
    return prepared, note


def _check_columns(task: Task, model: str | Path) -> None:
    """ArgumentError for single texts where the model learned from pairs, and the reverse, as run.json says."""
    _, record = read_run(model)
    encoding = record.get("encoding")
    learned = encoding.get("columns") if isinstance(encoding, dict) else None
    if isinstance(learned, list) and learned and len(learned) != len(task.columns):
        raise ArgumentError(
            f"--task: {task.name} has {' and '.join(task.columns)} in each row, and {model} learned from "
            f"{' and '.join(map(str, learned))} (run.json); a query that is the same in all rows is not read"
        )


def _check_inputs(rows: datasets.Dataset, config: Any, *, model: str | Path) -> None:
    """CheckpointError for a tokenizer that gives a model ids or types that it has no embedding for."""
    limits = {"input_ids": "vocab_size", "token_type_ids": "type_vocab_size"}
    for name, limit in limits.items():
        size = getattr(config, limit, None)
        if name not in rows.column_names or not size:
            continue
        most = pc.max(pc.list_flatten(rows.with_format("arrow")[:][name])).as_py()
        if most is not None and most >= size:
            raise CheckpointError(f"{model}: its tokenizer gives {name} up to {most}, its {limit} is {size}")


def _check_alone(settings: TaskSettings, model: str | Path, *, how: HoldOut | None) -> None:
    """ArgumentError for a file that would be read whole and is a folder's training split, of which the model learned;
    and for a share of it."""
    path = Path(settings.task)
    if settings.validation_share is not None:
        raise ArgumentError(f"--validation-share: all rows of {path} are read, and none is held out")
    if path.stem == "train" and _learned_from(str(path.parent), model, how=how):
        raise ArgumentError(f"--task: {model} learned from {path}; --task {path.parent} has splits that it did not see")


def _learned_from(path: str, model: str | Path, *, how: HoldOut | None) -> bool:
    """Whether a model's training read just the rows of a file, or of a folder, as run.json says."""
    checksum = read_run(model)[1].get("data_checksum")
    if checksum is None:
        return False
    try:
        task = load_task(path, labels=_names_in(model), how=how)
    except (ArgumentError, DataError):  # a single label, too few rows: nothing that can be trained on
        return False
    return bool(checksum == task.checksum)


def _names_in(model: str | Path) -> list[str] | None:
    """The labels of a classifier; None of a model that has not learned any."""
    config = read_config(model)
    return label_names(config) if is_fine_tuned(config) else None


def are_rows_of(curve: Calibration, prepared: Prepared, settings: TaskSettings, *, model: str | Path) -> bool:
    """Whether a model's curve was measured on the rows that are prepared as a split: on that split, or on the same
    file, whole, under another split's name."""
    if curve.data_checksum == prepared.task.checksum:
        return curve.split in prepared.encoded
    if not is_file(settings.task) or len(prepared.task.dataset) > 1 or curve.split in prepared.task.dataset:
        return False
    task = load_task(settings.task, labels=_names_in(model), alone=curve.split)
    return curve.data_checksum == task.checksum


def _held_out_in_training(model: str | Path) -> HoldOut | None:
    """How training drew its validation split from train, where run.json says so; such rows alone are unseen."""
    _, record = read_run(model)
    encoding, settings = record.get("encoding"), record.get("settings")
    share = encoding.get("validation_share") if isinstance(encoding, dict) else None
    seed = settings.get("seed") if isinstance(settings, dict) else None
    if not (isinstance(share, float) and 0 < share < 1 and type(seed) is int):
        return None
    return HoldOut(share=share, seed=seed, optional=True)


def _max_length(asked: int | None, config: Any, *, task: Task, model: str | Path) -> int:
    """The longest input: what was asked for, or the task's own as far as the model has positions."""
    limit = max_positions(getattr(config, "backbone_config", config))
    if asked is None:
        return min(task.max_length, limit)
    if not 3 <= asked <= limit:
        raise ArgumentError(f"--max-length: {asked} is not between 3 and the {limit} positions of {model}")
    return asked
