"""A tiny training set and trainers over it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from adapler.cli import main
from adapler.policies.adapler import AdapLeRTraining, Objectives
from adapler.policies.base import Training
from adapler.training.config import Optimisation, PolicyConfig, TaskOptions
from adapler.training.trainer import PaddingCollator, StageTrainer, stage_arguments
from tests.conftest import WORDS, tiny_adapler, tiny_classifier

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
    data: dict[str, list[Any]] = {"id": [], "input_ids": [], "attention_mask": [], "labels": [], "targets": []}
    for index in range(number):
        length = int(generator.integers(2, 8))
        label = int(generator.integers(0, 2))
        ids = [2, *generator.integers(12, 40, length).tolist(), 10 + label, 3]
        saliency = generator.random(len(ids)).astype(np.float32)
        data["id"].append(f"row-{index}")
        data["input_ids"].append(ids)
        data["attention_mask"].append([1] * len(ids))
        data["labels"].append(label)
        data["targets"].append((saliency / saliency.sum()).tolist())
    return datasets.Dataset.from_dict(data)


def training_of(kind: type[Training], options: Any, *, policy: str = "adapler", **settings: Any) -> Any:
    """A policy's training on the tiny rows."""
    prepared = SimpleNamespace(
        task=SimpleNamespace(name="tiny", labels=("a", "b", "c")),
        encoded=datasets.DatasetDict(train=rows(), validation=rows().remove_columns("targets")),
        encoding={"max_length": 16},
        pad_token_id=0,
    )
    optimisation = Optimisation(**settings)
    config = PolicyConfig(policy=policy, output=Path("x"), task=TaskOptions(task="x"), optimisation=optimisation)
    return kind(prepared, config, options, start="nowhere", load_teacher=tiny_classifier)


def trainer(
    folder: Path,
    tokenizer: Any,
    *,
    model: Any = None,
    settings: Any = None,
    teacher: Any = None,
    stage: Any = None,
    reference: float | None = None,
    **options: Any,
) -> StageTrainer:
    """AdapLeR's trainer (or another stage's) on CPU in float32, without dropout unless the model has it."""
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32", **(settings or {})}
    losses = {"gamma": 0.1, "phi": 1e-2, "eta_learning_rate": 1e-2, "predictor_learning_rate": 1e-2}
    losses |= {name: options.pop(name) for name in list(options) if name in {f.name for f in fields(Objectives)}}
    for name in ("phi", "target_speedup"):
        if losses.get(name) is not None:
            losses[name] = [losses[name]]
    max_drop = options.pop("max_drop", 0.01)
    optimisation = Optimisation(**settings)
    if stage is None:
        objectives = Objectives(policy_epochs=[optimisation.epochs], **losses)
        stage = training_of(AdapLeRTraining, objectives, **settings).stages()[0]
    model = tiny_adapler(eta=0.5) if model is None else model
    if stage.distils and teacher is None and losses.get("freeze_backbone"):
        teacher = model.backbone
    return StageTrainer(
        model,
        stage_arguments(optimisation, folder, disable_tqdm=True, **options),
        stage=stage,
        reference=reference,
        max_drop=max_drop,
        teacher=teacher,
        train_dataset=rows(),
        eval_dataset=rows().remove_columns("targets"),
        data_collator=PaddingCollator(tokenizer),
    )


def step(one: StageTrainer, indices: range = range(8), *, of: int = 1) -> dict[str, torch.Tensor]:
    """Run one forward and backward pass; the gradients that there are then."""
    one.current_gradient_accumulation_steps = of
    one.training_step(one.model, one.data_collator([one.train_dataset[i] for i in indices]))
    return {name: p.grad.clone() for name, p in one.core.named_parameters() if p.grad is not None}


def no_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradients(folder: Path, tokenizer: Any, *, indices: range = range(8), **options: Any) -> dict[str, torch.Tensor]:
    """The gradients that one step of AdapLeR leaves behind, without dropout."""
    return step(trainer(folder, tokenizer, model=no_dropout(tiny_adapler(eta=0.5)), **options), indices)


def stopped(command: list[str], *, after: int) -> None:
    """Run a command, and stop its trainer as Ctrl-C does, before the step that follows `after` steps."""
    train_step = StageTrainer.training_step

    def stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == after:
            raise KeyboardInterrupt
        return train_step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            main(command)
