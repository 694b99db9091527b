"""What a checkpoint's folder says of its training: on which task, and from which pre-trained encoder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapler import minilm
from adapler.training.records import CARD, RECORD

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# Folders that the commands name themselves, and the packaged encoder's: any encoder may lie in one called so.
NO_NAMES = ("model", "finetuned", "classifier", "encoder")
# What published results call an encoder in short, in their own spelling: microsoft/mpnet-base is another one. No word
# of a name can be left out by a rule, as every family has relatives: ms-marco-MiniLM-L6-v2, bert-base-chinese.
SHORT = {
    "MiniLM-L6": (MINILM, minilm.PACKAGE),
    "minilm-l6": (MINILM, minilm.PACKAGE),
    "MPNet-base": ("all-mpnet-base-v2",),
}


@dataclass(frozen=True)
class Training:
    """What is known; nothing of it is for a folder that says nothing.

    task      the name of the data set
    data      the checksum of its rows
    encoders  names of the pre-trained encoder, the surest first
    started   the checksum of the model that training began with: a fine-tuned classifier or the encoder
    encoder   the checksum of the pre-trained encoder, as records of other trainings from it have it
    """

    task: str | None = None
    data: str | None = None
    encoders: tuple[str, ...] = ()
    started: str | None = None
    encoder: str | None = None


def read_training(folder: Path) -> Training:
    """What run.json in a folder, the records around it and its model card say; a damaged file says nothing."""
    record, first = _object(folder / RECORD), _first_record(folder.resolve())
    return Training(
        task=_text(record, "task"),
        data=_text(record, "data_checksum"),
        encoders=tuple(dict.fromkeys(_encoders(folder.resolve(), first))),
        started=_text(record, "model_checksum"),
        encoder=_text(first, "model_checksum"),
    )


def same_encoder(name: str, backbone: str) -> bool:
    """Whether an encoder's name means the one that results call `backbone`: as they spell it, or word by word the name
    that SHORT has for it, or else their own. Who publishes it, before a slash, and signs between words do not count."""
    if Path(name).name == backbone:
        return True
    return any(_words(name) == _words(meant) for meant in SHORT.get(backbone, (backbone,)))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.rpartition("/")[2].lower())


def _first_record(folder: Path) -> dict[str, Any]:
    """The record of the training that began with the encoder: in a run's folder the classifier stands beside what was
    trained from it, and a model beside what was trained further. Empty where the first of them is elsewhere."""
    record, seen = _object(folder / RECORD), {folder}
    while (named := _text(record, "model")) is not None:
        folder = folder.parent / Path(named).name
        beside = _object(folder / RECORD)
        if not beside or folder in seen:
            break
        record = beside
        seen.add(folder)
    return (
        {} if record.get("start") in ("classifier", "adapler") or _is_of_classifier(record, folder.parent) else record
    )


def _is_of_classifier(record: dict[str, Any], run: Path) -> bool:
    """Whether a training began with the run's `--classifier`, which the record of another policy does not say.

    A classifier that was fine-tuned into a folder of that name has the record of its own training there.
    """
    given, began = _object(run / "classifier" / RECORD), _text(record, "model_checksum")
    return began is not None and given.get("command") == "run" and began == _text(given, "model_checksum")


def _encoders(folder: Path, first: dict[str, Any]) -> Iterator[str]:
    """first: the record of the training that began with the encoder."""
    if _text(first, "model_checksum") == _packaged_minilm():
        yield MINILM
    named = _text(first, "model")
    if named is not None and Path(named).name not in NO_NAMES:
        yield named
    yield from _card(folder / CARD)
    config = _object(folder / "config.json").get("backbone_config")
    named = _text(config, "_name_or_path") if isinstance(config, dict) else None
    if named and Path(named).name not in NO_NAMES:
        yield named
    for seed in folder.parents[:2]:  # as `benchmarks.tradeoff` lays runs out: BACKBONE/TASK/seed-N/[VARIANT/]POINT
        if re.fullmatch(r"seed-\d+", seed.name):
            yield seed.parent.parent.name


def _packaged_minilm() -> str:
    """What records call the encoder that installs as a package; its own folder is called model."""
    return hashlib.sha256(f"model.safetensors {minilm.SHA256}\n".encode()).hexdigest()


def _card(path: Path) -> list[str]:
    """`base_model` in the head of a model card."""
    try:
        head = re.match(r"---\n(.*?)\n---", path.read_text(encoding="utf-8"), re.DOTALL)
        facts = yaml.safe_load(head[1]) if head else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, yaml.YAMLError):
        return []  # the loader lets its own errors out
    named = facts.get("base_model") if isinstance(facts, dict) else None
    return [one for one in (named if isinstance(named, list) else [named]) if isinstance(one, str) and one]


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(record: dict[str, Any], name: str) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) and value else None
