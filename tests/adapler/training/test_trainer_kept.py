"""AdapLeR's trainer: rates, decay, warmup, distillation, selection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch

from adapler.cli.parser import main
from adapler.training.resume import last_checkpoint
from adapler.training.settings import TaskSettings
from adapler.training.stages import calibrate as stage
from adapler.training.stages.predicted import is_score_here
from adapler.training.stages.prepare import Prepared, prepare
from adapler.training.stages.targets import targets_checksum
from adapler.training.trainer import AdapLeRTrainer
from adapler.training.trainer.clock import CLOCK
from adapler.training.trainer.guards import StepNumbers
from tests.adapler.training.common import QUICK, stopped, trainer
from tests.adapler.training.test_distillation import step
from tests.adapler.training.test_trainer import gradients
from tests.conftest import tiny_classifier


def test_each_group_has_its_rate_and_its_decay(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings={"weight_decay": 0.1}, predictor_learning_rate=0.02)
    names = {id(parameter): name for name, parameter in one.core.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in one.create_optimizer().param_groups
        for p in group["params"]
    }
    layer, predictor = "backbone.bert.encoder.layer.0.output", "contribution_predictors.0.dense"
    assert found[f"{layer}.dense.weight"] == (1e-3, 0.1) and found[f"{predictor}.weight"] == (0.02, 0.1)
    assert found[f"{layer}.dense.bias"] == found[f"{layer}.LayerNorm.weight"] == (1e-3, 0.0)
    assert found[f"{predictor}.bias"] == (0.02, 0.0)


@pytest.mark.parametrize("target", [None, 2.0])
def test_the_rate_of_the_thresholds_rises_too(target: float | None, tmp_path: Path, tiny_tokenizer: Any) -> None:
    """And with a target it stays up."""
    one = trainer(tmp_path, tiny_tokenizer, settings={"warmup": 0.5}, target_speedup=target)
    one.create_optimizer()
    rate = one.create_scheduler(20, one.optimizer).lr_lambdas[-1]
    assert [rate(n) for n in (0, 5, 10)] == pytest.approx([0, 0.5, 1]) and rate(20) == (1 if target else 0)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_classifier_has_no_dropout(freeze: bool, tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, freeze_backbone=freeze)
    one.current_gradient_accumulation_steps = 1
    one.training_step(one.model, one.data_collator([one.train_dataset[i] for i in range(4)]))
    assert one.core.backbone.training is not freeze


def test_the_gradient_slope_reaches_the_pass(tmp_path: Path, tiny_tokenizer: Any) -> None:
    found = [gradients(tmp_path, tiny_tokenizer, gradient_slope=slope)["eta"] for slope in (1.0, 1e9)]
    assert not torch.allclose(found[0], found[1])


def test_the_temperature_reaches_the_loss(tmp_path: Path, tiny_tokenizer: Any) -> None:
    options: dict[str, Any] = {"logit_distillation": 1.0, "teacher": tiny_classifier(seed=3)}
    found = [step(tmp_path, tiny_tokenizer, **options, distillation_temperature=t)["eta"] for t in (1.0, 8.0)]
    assert not torch.allclose(found[0], found[1], rtol=1e-3)


def test_the_weight_of_distillation_counts(tmp_path: Path, tiny_tokenizer: Any) -> None:
    teacher, name = tiny_classifier(seed=3), "backbone.classifier.weight"
    none = gradients(tmp_path, tiny_tokenizer)[name]
    one, three = (step(tmp_path, tiny_tokenizer, teacher=teacher, logit_distillation=w)[name] for w in (1.0, 3.0))
    torch.testing.assert_close(three - none, 3 * (one - none), atol=1e-5, rtol=1e-3)


def test_a_batch_of_several_is_a_part_of_a_step_for_phi(tmp_path: Path, tiny_tokenizer: Any) -> None:
    seen: list[float] = []
    for parts in (1, 2):
        one = trainer(tmp_path, tiny_tokenizer, target_speedup=2.0)
        assert one.controller is not None
        one.controller.observe = lambda flops, *, progress, share: seen.append(share)  # type: ignore[method-assign]
        one.current_gradient_accumulation_steps, one.state.max_steps = parts, 10
        one.training_step(one.model, one.data_collator([one.train_dataset[i] for i in range(4)]))
    assert seen == [0.1, 0.05]


@pytest.mark.parametrize("drop", [0.01, 0.3])
def test_the_allowed_drop_is_the_one_that_was_asked_for(drop: float, tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, max_drop=drop)
    one.args.reference_score = one.evaluate()["eval_accuracy"] + 0.2
    assert (one.evaluate()["eval_selection"] > 1) is (drop > 0.2)


def test_a_log_has_the_means_since_the_last_one() -> None:
    numbers, model = StepNumbers(), torch.nn.Linear(1, 1)
    accelerator = SimpleNamespace(num_processes=1)
    said = []
    for losses in ((1.0, 3.0), (5.0,)):
        for loss in losses:
            numbers.add_losses({"a": torch.tensor(loss)})
            numbers.set_norms({"b": torch.tensor(2 * loss)})
            numbers.check(model, accelerator, position=str)
        said.append(numbers.means())
    assert said == [{"a": 2.0, "grad_norm_b": 4.0}, {"a": 5.0, "grad_norm_b": 10.0}]


def test_targets_of_other_ids_have_another_checksum() -> None:
    one, other = (
        datasets.Dataset.from_dict({"id": ids, "saliency": [[0.5, 0.5], [1.0]]}) for ids in (["a", "b"], ["b", "a"])
    )
    assert targets_checksum(one) != targets_checksum(other)


@pytest.mark.parametrize(
    "change",
    [
        {"data_checksum": "b"}, {"metric": "f1"}, {"max_length": 8}, {"long_documents": "last"}, {"stride": 2},
        {"columns": ["text_a", "text_b"]},
    ],
)  # fmt: skip
def test_a_score_of_other_rows_is_not_taken(change: dict[str, Any]) -> None:
    encoding = {"max_length": 16, "long_documents": "windows", "stride": 4, "columns": ["text_a"]}
    task = SimpleNamespace(checksum="a", metric="accuracy")
    prepared = Prepared(task, None, datasets.DatasetDict(), encoding)  # type: ignore[arg-type]
    record = {"data_checksum": "a", "metric": "accuracy", "encoding": encoding}
    assert is_score_here(record, prepared)
    other = {**record, **{k: v for k, v in change.items() if k in record}}
    other["encoding"] = encoding | {k: v for k, v in change.items() if k in encoding}
    assert not is_score_here(other, prepared)


def test_what_calibrate_asks_for_reaches_the_measurement(
    task_folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Measured(Exception):
        pass

    seen: dict[str, Any] = {}

    def measure(model: Any, rows: Any, **options: Any) -> None:
        seen.update(options)
        raise Measured

    monkeypatch.setattr(stage, "measure", measure)
    task = Path(shutil.copytree(task_folder, tmp_path / "task"))
    (task / "meta.json").write_text(json.dumps({"name": "tiny", "labels": ["NEG", "POS"], "metric": "f1"}))
    command = ["calibrate", "--model", str(run_folder / "phi-0.1-post-hoc"), "--task", str(task), "--seed", "7"]
    command += ["--output", str(tmp_path / "c.json"), "--level", "0.8", "--resamples", "50", "--timed-single", "2"]
    command += ["--most-speedup", "3", "--most-drop", "0.5", "--points", "6", "--token-budget", "99"]
    with pytest.raises(Measured):
        main(command)
    assert (seen["level"], seen["resamples"], seen["seed"], seen["metric"]) == (0.8, 50, 7, "f1")
    names = ("most_speedup", "most_drop", "points", "timed_single", "token_budget")
    assert [seen[name] for name in names] == [3, 0.5, 6, 2, 99]


def test_a_limit_draws_with_the_seed(task_folder: Path, tiny_classifier_folder: Path) -> None:
    def ids(seed: int) -> list[str]:
        settings = TaskSettings(task=str(task_folder), limit=8)
        return list(prepare(settings, tiny_classifier_folder, splits=("train",), seed=seed).encoded["train"]["id"])

    assert len(ids(1)) == 8 and ids(1) == ids(1) != ids(2)


def test_only_training_rows_are_read_otherwise(task_folder: Path, tiny_classifier_folder: Path) -> None:
    settings = TaskSettings(task=str(task_folder), max_length=6, train_documents="last", long_documents="truncate")
    found, plain = (
        prepare(one, tiny_classifier_folder, splits=("train", "validation"), seed=1).encoded
        for one in (settings, TaskSettings(task=str(task_folder), max_length=6))
    )
    assert found["validation"]["input_ids"] == plain["validation"]["input_ids"]
    assert found["train"]["input_ids"] != plain["train"]["input_ids"]


def test_a_drop_of_exactly_what_is_allowed_qualifies_whatever_the_rounding() -> None:
    from adapler.training.selection import selection_value

    for number in range(100):
        value = selection_value(number / 100, 2.0, reference=(number + 1) / 100, max_drop=0.01)
        assert value == 3.0, number


def test_a_teacher_has_no_dropout(tmp_path: Path, tiny_tokenizer: Any) -> None:
    teacher = tiny_classifier(seed=3).train()
    one = trainer(tmp_path, tiny_tokenizer, teacher=teacher, logit_distillation=1.0)
    assert one.teacher is teacher and not teacher.training


def test_the_seconds_of_a_training_go_on(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    train = ["train", "--task", str(task_folder), "--finetuned", str(run_folder / "finetuned"), *QUICK]
    train += ["--saliency", str(run_folder / "saliency"), "--output", str(tmp_path / "cut")]
    stopped(AdapLeRTrainer, train, after=4)
    (Path(str(last_checkpoint(tmp_path / "cut" / "epochs"))) / CLOCK).write_text(json.dumps({"seconds": 1000.0}))
    assert main([*train, "--resume"]) == 0
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["seconds"] > 1000
