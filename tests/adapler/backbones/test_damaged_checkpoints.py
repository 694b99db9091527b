"""Seeded damage to every file of a checkpoint: one line that names the folder, or a model that runs; no traceback."""

from __future__ import annotations

import copy
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from adapler import AdapLeRError, AdapLeRForSequenceClassification
from tests.conftest import random_batch, tiny_adapler, tiny_classifier

VALUES: tuple[Any, ...] = (None, 5, -1, 0, "x", [], {}, [1], {"a": 1}, True, 1.5, "float99", float("nan"), "12", [[]])


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in nested JSON."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*before, key)
        yield from places(value[key], (*before, key))


def damaged_json(content: Any, chance: random.Random) -> Any:
    """One value replaced or removed, one added, or the whole replaced."""
    content = copy.deepcopy(content)
    way = chance.random()
    if way < 0.05:
        return chance.choice(VALUES)
    path = chance.choice(list(places(content)))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if way < 0.2:
        del inner[path[-1]]
    elif way < 0.25 and isinstance(inner, dict):
        inner["added"] = chance.choice(VALUES)
    else:
        inner[path[-1]] = chance.choice(VALUES)
    return content


def damage_config(folder: Path, chance: random.Random) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(damaged_json(json.loads(file.read_text(encoding="utf-8")), chance)), encoding="utf-8")


def damage_index(folder: Path, chance: random.Random) -> None:
    file = folder / "model.safetensors.index.json"
    file.write_text(json.dumps(damaged_json(json.loads(file.read_text(encoding="utf-8")), chance)), encoding="utf-8")


def damage_header(folder: Path, chance: random.Random) -> None:
    """safetensors: eight bytes with the header's length, the header in JSON, the numbers."""
    file = folder / "model-00001-of-00002.safetensors"
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(damaged_json(json.loads(content[8 : 8 + length]), chance)).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def damage_bytes(folder: Path, chance: random.Random) -> None:
    """A file cut short, emptied, or with some bytes overwritten; where those are numbers, with NaN."""
    file = chance.choice(sorted(folder.iterdir()))
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    if chance.random() < 0.5:
        content = content[:place]
    else:
        content[place : place + 4] = b"\xff\xff\xff\xff"
    file.write_bytes(content)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Any]]:
    """An AdapLeR model and a plain classifier, each in two shards, with their loaders."""
    base, made = tmp_path_factory.mktemp("whole"), []
    for name, model, loader in (
        ("adapler", tiny_adapler(), AdapLeRForSequenceClassification.from_pretrained),
        ("classifier", tiny_classifier("roberta"), AdapLeRForSequenceClassification.from_backbone),
    ):
        folder = base / name
        model.save_pretrained(folder)
        (folder / "model.safetensors").unlink()
        state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
        for number, (key, tensor) in enumerate(state.items()):
            shards[list(shards)[number % 2]][key] = tensor
        for file, tensors in shards.items():
            save_file(tensors, folder / file, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": {key: file for file, tensors in shards.items() for key in tensors}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        assert loader(folder)(**random_batch([6, 4])).logits.isfinite().all()
        made.append((folder, loader))
    return made


@pytest.mark.parametrize(
    ("damage", "times"), [(damage_config, 120), (damage_index, 40), (damage_header, 40), (damage_bytes, 60)]
)
def test_damage(
    damage: Callable[[Path, random.Random], None], times: int, folders: list[tuple[Path, Any]], tmp_path: Path
) -> None:
    refused = 0
    for number in range(times):
        chance = random.Random(number)
        source, loader = folders[number % 2]
        folder = Path(shutil.copytree(source, tmp_path / f"{number}"))
        damage(folder, chance)
        try:
            model = loader(folder)
        except AdapLeRError as error:
            refused += 1
            assert "\n" not in str(error) and str(folder) in str(error)
        else:
            with torch.no_grad():
                out = model(**random_batch([6, 4]), return_dict=True, output_attentions=False)
            assert out.logits.isfinite().all()
        shutil.rmtree(folder)
    assert refused > times / 4
