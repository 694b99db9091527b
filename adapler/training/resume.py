"""Unfinished trainings: their checkpoints, and what they are a training of.

A training's folder is `output`. While it runs, `output/epochs` holds a checkpoint for each evaluated point and
`stage.json`, which says what is being trained: settings, data, base model. Only a training of the same goes on there.
At the end a new folder with model, tokenizer and run.json takes the place of `output`, whole: see
`adapler.training.stages.finish`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from adapler.distributed import from_main, is_main, processes, wait_for_everyone
from adapler.errors import ArgumentError
from adapler.files import check_output_folder
from adapler.training.records import RECORD, as_recorded, read_json, read_record, write_record
from adapler.training.settings import Objectives, Settings, TaskSettings, option_name
from adapler.training.target_settings import TargetSettings

EPOCHS = "epochs"  # in a training's folder: a checkpoint for each evaluated point
STAGE = "stage.json"  # in that: what is being trained
# Groups of settings in a record; what else stands in a group there is no option.
OPTIONS = {"settings": Settings, "objectives": Objectives, "targets": TargetSettings, "encoding": TaskSettings}
# settings that change no weight: rows and their order do not depend on the workers
WHERE = ("device", "workers", "report_to")
# Settings that older versions did not have, and what those versions did.
UNRECORDED: dict[str, Any] = {
    **dict.fromkeys(("max_steps", "eval_steps", "target_speedup", "slope_schedule")),
    "group_by_length": False,
    "routing": "exact",
    "packed": False,
    "predictor": "mlp",
    "first_layer": 0,
    "logit_distillation": 0.0,
    "state_distillation": 0.0,
    "targets": as_recorded(asdict(TargetSettings())),
}


# Beginning


def finished_record(
    output: Path, wanted: Mapping[str, Any], *, resume: bool, keep_epochs: bool, usual: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The record of a stage that finished in this folder; None when none did. Tidies what a killed process left.

    Args:
        output: the stage's folder.
        wanted: what run.json says of a stage: settings, data, model; fields that an older record lacks do not count.
        resume: whether a stage that finished is what the caller asks for.
        keep_epochs: whether a finished stage keeps its checkpoints, where its record does not say.
        usual: values that null stands for in a record of an older version.

    Raises:
        ArgumentError: a stage finished here that is not what is asked for; names the first difference.
    """
    # The main process looks: another one may come late, when the main one has written the record already.
    if not from_main((output / RECORD).is_file):
        return None
    if not resume:
        raise ArgumentError(f"--output: {output} holds a finished run; give another folder or remove that one")
    record = read_record(output)
    different = first_difference(_explicit(record, usual), as_recorded(_comparable(wanted, finished=True)))
    if different is not None:
        name, found, asked = different
        raise ArgumentError(
            f"--output: {output} holds a finished run with {_named(name)} {found}, not {asked}; "
            "give another folder or remove that one"
        )
    wait_for_everyone()
    if is_main() and not record.get("keep_epochs", keep_epochs):
        shutil.rmtree(output / EPOCHS, ignore_errors=True)
    return record


def begin_stage(
    output: Path, wanted: Mapping[str, Any], *, resume: bool, usual: Mapping[str, Any] | None = None
) -> tuple[str | None, bool]:
    """Write down what is about to be trained, and find the checkpoint to go on from.

    When there is no whole checkpoint, what an unfinished training left is removed. Arguments are as of
    `finished_record`. The number of processes counts too: with another one a step has another batch and an epoch
    other steps, so that some rows would be trained on again, or left out.

    Returns:
        The checkpoint's folder or None, and whether it is known to be of the same training: an older version of this
        package wrote no stage.json, so what it left cannot be compared.

    Raises:
        ArgumentError: there is a checkpoint, and not `resume`; or it is of another training: names the first
            difference with both values.
    """
    folder, wanted = output / EPOCHS, {**wanted, "processes": processes()}
    found = from_main(lambda: last_checkpoint(folder))
    if found is not None and not resume:
        raise ArgumentError(
            f"--output: {folder} holds an unfinished training, of which {Path(found).name} is the last; "
            "go on with --resume, give another folder, or remove that one"
        )
    if is_main():
        known = True
        if found is not None:
            known = _compare_stage(folder, wanted, usual)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / STAGE, {**_comparable(wanted, finished=False), "known": known})
    wait_for_everyone()
    return found, bool(read_json(folder / STAGE)["known"])


def _compare_stage(folder: Path, wanted: Mapping[str, Any], usual: Mapping[str, Any] | None) -> bool:
    if not (folder / STAGE).is_file():
        print(
            f"note: {folder} has no {STAGE}, an older version wrote it: whether its settings are the same is not known"
        )
        return False
    stage = read_json(folder / STAGE)
    different = first_difference(_explicit(stage, usual), as_recorded(_comparable(wanted, finished=False)))
    if different is not None:
        name, found, asked = different
        raise ArgumentError(
            f"--output: {folder} holds an unfinished training with {_named(name)} {found}, not {asked}; "
            "go on with the same, give another folder, or remove that one"
        )
    return bool(stage.get("known", True))


def _explicit(record: Mapping[str, Any], usual: Mapping[str, Any] | None) -> dict[str, Any]:
    """A record with the values that null stands for in it."""
    return {**record, **{name: value for name, value in (usual or {}).items() if record.get(name, value) is None}}


def _comparable(wanted: Mapping[str, Any], *, finished: bool) -> dict[str, Any]:
    """Without what may differ: where it runs; in a finished run also what `auto` precision meant on that machine."""
    settings = {name: value for name, value in wanted.get("settings", {}).items() if name not in WHERE}
    kept = {name: value for name, value in wanted.items() if name != "settings"}
    if finished:
        kept.pop("precision", None)
    return {**({"settings": settings} if settings else {}), **kept}


def first_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """(name, value in `found`, value in `wanted`) of the first value that differs, names of nested ones with dots.

    Names that `found` lacks do not count, unless it is known what the version that wrote it did.
    """
    found = {**{name: UNRECORDED[name] for name in UNRECORDED.keys() & wanted.keys()}, **found}
    for name, value in wanted.items():
        if name not in found:
            continue
        if isinstance(value, dict) and isinstance(found[name], dict):
            inner = first_difference(found[name], value)
            if inner is not None:
                return (f"{name}.{inner[0]}", *inner[1:])
        elif found[name] != value:
            return name, found[name], value
    return None


def _named(name: str) -> str:
    """The option that a value of a record's groups comes from; any other value by its name there."""
    group, _, own = name.partition(".")
    of_group = {one.name for one in fields(OPTIONS[group])} if group in OPTIONS else set()
    return option_name(own) if own in of_group else name


# Checkpoints


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of an interrupted training in this folder.

    The trainer's state is what a checkpoint gets last: one that was being written when the process was killed
    has none, or half of it, and is passed over.
    """
    steps = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*[0-9]") if path.is_dir()}
    for _, path in sorted(steps.items(), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None


@contextmanager
def epochs_folder(output: Path) -> Iterator[Path]:
    """The folder for checkpoints in a training's folder.

    When training fails before there is a whole checkpoint, nothing of it is left behind but a log for TensorBoard.

    Raises:
        ArgumentError: see check_output_folder.
    """
    check_output_folder(output)
    folder = output / EPOCHS
    existed = output.exists()
    try:
        yield folder
    except BaseException:
        if is_main() and last_checkpoint(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            if not existed and output.is_dir() and not any(output.iterdir()):
                output.rmdir()
        raise


def what_is_kept(folder: str | Path) -> str:
    """The end of an error message of a training that stopped."""
    last = last_checkpoint(Path(folder))
    return "no checkpoint was written yet" if last is None else f"the last good checkpoint is {last}"
