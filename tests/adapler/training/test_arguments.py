"""TrainingArguments of one device, and devices that cannot be had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset

from adapler.devices import choose_device
from adapler.distributed import GROUP_TIMEOUT
from adapler.errors import ArgumentError, TrainingError
from adapler.training.arguments import AdapLeRTrainingArguments, training_arguments
from adapler.training.selection import column_of, score_rows
from adapler.training.settings import Objectives, Settings
from adapler.training.trainer import AdapLeRTrainer
from tests.adapler.training.common import trainer
from tests.conftest import tiny_adapler


def test_one_of_several_gpus_is_used_and_a_note_says_how_to_use_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = training_arguments(Settings(precision="float32"), tmp_path, kind=AdapLeRTrainingArguments)
    args._n_gpu = 2  # what transformers counts in a process without a launcher
    assert args.n_gpu == 1 and args.train_batch_size == 32
    assert "one of 2 GPUs is used; `torchrun --nproc-per-node 2 -m adapler ...`" in capsys.readouterr().out
    assert args.n_gpu == 1 and capsys.readouterr().out == "", "said once"


def test_float16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="^fp16: not supported; bf16=True"):
        AdapLeRTrainingArguments(output_dir=str(tmp_path), fp16=True)


def test_what_the_own_step_would_not_read_is_refused(tmp_path: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="^label_smoothing_factor: 0.1, but the cross-entropy of AdapLeR's"):
        trainer(tmp_path, tiny_tokenizer, label_smoothing_factor=0.1)
    args = trainer(tmp_path, tiny_tokenizer, label_smoothing_factor=0.0).args
    for name in ("compute_loss_func", "optimizer_cls_and_kwargs"):
        with pytest.raises(ArgumentError, match=f"^{name}: not supported"):
            AdapLeRTrainer(tiny_adapler(), args, **{name: lambda *args: None})


def test_objectives_are_one_value_that_json_can_hold(tmp_path: Path) -> None:
    args = AdapLeRTrainingArguments(output_dir=str(tmp_path), objectives={"phi": 0.5})  # type: ignore[arg-type]
    assert args.objectives == Objectives(phi=0.5)
    assert json.loads(args.to_json_string())["objectives"]["phi"] == 0.5


def test_processes_wait_as_long_as_the_work_takes(tmp_path: Path) -> None:
    args = training_arguments(Settings(precision="float32"), tmp_path)
    assert args.ddp_timeout_delta == GROUP_TIMEOUT >= GROUP_TIMEOUT.__class__(days=1)


def test_devices(tmp_path: Path) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ArgumentError, match="^--device: cuda:1 is not on this machine, which has auto, cpu"):
            choose_device("cuda:1")
    with pytest.raises(ArgumentError, match="^--device: cuda:1 cannot be chosen for training; set CUDA_VISIBLE_DEV"):
        training_arguments(Settings(device="cuda:1"), tmp_path)


def test_scores_of_other_data_sets_than_ours() -> None:
    rows = [{"input_ids": [1], "labels": 0, "example_id": "a"}, {"input_ids": [1], "labels": 0, "example_id": "a"}]
    rows += [{"input_ids": [1], "labels": 1, "example_id": "b"}]
    logits = [[0.0, 1.0], [3.0, 0.0], [0.0, 1.0]]
    assert score_rows(rows, logits, [0, 0, 1], metric="accuracy") == 1.0, "windows of a are averaged"
    plain = [{"input_ids": [1], "labels": row["labels"]} for row in rows]
    assert score_rows(plain, logits, [0, 0, 1], metric="accuracy") == pytest.approx(2 / 3), "each row for itself"
    with pytest.raises(TrainingError, match="the rows came back in another order"):
        score_rows(rows, logits, [0, 1, 0], metric="accuracy")

    class Stream(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter(rows)

    with pytest.raises(ArgumentError, match="^eval_dataset: Stream can be streamed only"):
        column_of(Stream(), "input_ids")
