"""A tiny training set and trainers over it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from adapler.cli.parser import main
from adapler.training.arguments import AdapLeRTrainingArguments, training_arguments
from adapler.training.collator import PaddingCollator
from adapler.training.settings import Objectives, Settings
from adapler.training.trainer import AdapLeRTrainer
from tests.conftest import WORDS, tiny_adapler

ROWS = 16
# Options of every training command on the tiny task.
QUICK = ["--max-length", "16", "--epochs", "2", "--batch-size", "8", "--precision", "float32"]


def tiny_task(folder: Path) -> Path:
    """A task of short texts that begin with good or bad, in a folder of JSON lines."""
    for split, number in (("train", 24), ("validation", 8), ("test", 8)):
        lines = []
        for row in range(number):
            middle = [WORDS[(row * 7 + k) % len(WORDS)] for k in range(3 + row % 5)]
            lines.append(json.dumps({"text": " ".join(["good" if row % 2 else "bad", *middle]), "label": row % 2}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "meta.json").write_text(json.dumps({"name": "tiny", "labels": ["NEG", "POS"]}), encoding="utf-8")
    return folder


def rows(number: int = ROWS, *, seed: int = 0) -> datasets.Dataset:
    """Encoded rows of 4 to 9 tokens whose label is whether token 10 comes before token 11."""
    generator = np.random.default_rng(seed)
    data: dict[str, list[Any]] = {"id": [], "input_ids": [], "attention_mask": [], "labels": [], "saliency": []}
    for index in range(number):
        length = int(generator.integers(2, 8))
        label = int(generator.integers(0, 2))
        ids = [2, *generator.integers(12, 40, length).tolist(), 10 + label, 3]
        saliency = generator.random(len(ids)).astype(np.float32)
        data["id"].append(f"row-{index}")
        data["input_ids"].append(ids)
        data["attention_mask"].append([1] * len(ids))
        data["labels"].append(label)
        data["saliency"].append((saliency / saliency.sum()).tolist())
    return datasets.Dataset.from_dict(data)


def trainer(
    folder: Path, tokenizer: Any, *, model: Any = None, settings: Any = None, teacher: Any = None, **options: Any
) -> AdapLeRTrainer:
    """A trainer on CPU in float32, without dropout unless the model has it."""
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32", **(settings or {})}
    data = rows()
    losses = {"gamma": 0.1, "phi": 1e-2, "eta_learning_rate": 1e-2, "predictor_learning_rate": 1e-2}
    losses |= {name: options.pop(name) for name in list(options) if name in {f.name for f in fields(Objectives)}}
    return AdapLeRTrainer(
        tiny_adapler(eta=0.5) if model is None else model,
        training_arguments(
            Settings(**settings),
            folder,
            kind=AdapLeRTrainingArguments,
            metric_for_best_model="selection",
            disable_tqdm=True,
            objectives=Objectives(**losses),
            **options,
        ),
        train_dataset=data,
        eval_dataset=data.remove_columns("saliency"),
        data_collator=PaddingCollator(tokenizer),
        teacher=teacher,
    )


def stopped(trainer_class: Any, command: list[str], *, after: int) -> None:
    """Run a command, and stop its trainer as Ctrl-C does, before the step that follows `after` steps."""
    step = trainer_class.training_step

    def stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == after:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_class, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            main(command)
