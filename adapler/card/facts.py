"""What a checkpoint's folder knows of its model: how it was trained, and what was measured of these very weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapler.backbones import max_positions
from adapler.calibration import CALIBRATION, Calibration
from adapler.card.origin import read_training
from adapler.configuration import AdapLeRConfig
from adapler.errors import ArgumentError
from adapler.files import visible
from adapler.modeling import AdapLeRForSequenceClassification
from adapler.text import Encoding, reading
from adapler.training.records import RECORD, model_checksum, read_json, read_record

EVALUATIONS = "evaluation*.json"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a model card is made of.

    Attributes:
        name: the folder's.
        config: the model's.
        record: run.json, empty where there is none.
        evaluations: what `adapler evaluate` and `adapler run` wrote into the folder, by split.
        calibration: what `adapler calibrate` stored, or None.
        encoders: names of the pre-trained encoder, the surest first.
        notes: what is missing or was left out, a line each.
    """

    name: str
    config: AdapLeRConfig
    record: dict[str, Any]
    evaluations: tuple[dict[str, Any], ...]
    calibration: Calibration | None
    encoders: tuple[str, ...]
    notes: tuple[str, ...]

    def otherwise(self, encoding: Mapping[str, Any]) -> str:
        """Which part of long texts a measurement read, where it is not the one that training did; else nothing."""
        longest = reading(Encoding(max_length=max_positions(self.config.backbone_config)))
        there, ours = reading(encoding), reading(self.record.get("encoding", {})) or longest
        return there if there is not None and there != ours else ""


def read_facts(folder: Path) -> Facts:
    """The facts of a checkpoint. Measurements of other weights than it holds are left out, with a note.

    Raises:
        CheckpointError: no AdapLeR model there, or a damaged record, evaluation or calibration.
    """
    model = AdapLeRForSequenceClassification.from_pretrained(folder)
    has_record = (folder / RECORD).is_file()
    notes = [] if has_record else [f"{folder}: no {RECORD}, so the card says nothing of its training"]
    evaluations, left_out = _evaluations(folder)
    notes += left_out
    if not evaluations:
        notes.append(
            f"{folder}: no evaluation of these weights; `adapler evaluate --model {folder} --task TASK --output "
            f"{folder / 'evaluation-test.json'}` makes one"
        )
    calibration = None
    if (folder / CALIBRATION).is_file():
        try:
            calibration = model.calibration
        except ArgumentError as error:
            notes.append(f"{folder / CALIBRATION}: left out, {error}")
    return Facts(
        name=folder.resolve().name,
        config=model.config,
        record=read_record(folder) if has_record else {},
        evaluations=tuple(evaluations),
        calibration=calibration,
        encoders=read_training(folder).encoders,
        notes=tuple(notes),
    )


def _evaluations(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Those of the weights that lie there now, and a note for each other one."""
    weights, found, notes = model_checksum(folder), [], []
    for path in sorted(visible(folder.glob(EVALUATIONS))):
        result = read_json(path)
        if result.get("model_checksum") == weights:
            found.append(result)
        else:
            notes.append(f"{path}: left out, it was measured with other weights than lie beside it")
    return sorted(found, key=lambda result: ("train", "validation", "test").index(result["split"])), notes
