"""A teacher: its losses by hand, what it says, and which parameters learn from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import BertForSequenceClassification

from adapler.backbones import view
from adapler.cli.parser import main
from adapler.errors import ArgumentError
from adapler.passes import plain_pass
from adapler.training.losses import logit_distillation, state_distillation
from tests.adapler.backbones.test_backbones import FAMILIES, batch_for
from tests.adapler.training.common import QUICK, trainer
from tests.adapler.training.test_trainer import gradients, no_dropout
from tests.conftest import tiny_adapler, tiny_classifier


def test_losses_by_hand() -> None:
    # at t = 2: teacher (ln 9, 0) / 2 -> (3/4, 1/4), student equal: KL = 3/4 ln 3/2 + 1/4 ln 1/2; times 4
    found = logit_distillation(torch.zeros(1, 2), torch.tensor([[math.log(9), 0.0]]), temperature=2.0)
    assert found.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-5)
    logits = torch.randn(3, 2)
    assert logit_distillation(logits, logits + 1, temperature=1.0).item() == pytest.approx(0, abs=1e-6)
    # (1 + 4 + 0 + 9) / 4
    states = state_distillation(torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.zeros(2, 2))
    assert states.item() == 3.5


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_teacher_says_what_its_classifier_says(family: str) -> None:
    """And its states are those that its head reads; soft removal that removes nothing has the same."""
    model, batch = tiny_adapler(family), batch_for(family, [9, 3, 6])
    inputs = {"input_ids": batch["input_ids"], "mask": batch["attention_mask"]}
    logits, states = plain_pass(model.backbone, **inputs, token_type_ids=batch.get("token_type_ids"))
    assert_close(logits, model(**batch, removal="none").logits, atol=1e-5, rtol=1e-5)
    assert_close(view(model.backbone).head(states), logits)
    soft = model(**batch, removal="soft", threshold_scale=0.0, slope=1e6)
    assert_close(soft.head_states, states, atol=1e-4, rtol=0)


def step(folder: Path, tokenizer: Any, *, teacher: Any = None, **options: Any) -> dict[str, torch.Tensor]:
    """The gradients of one step with a teacher."""
    one = trainer(folder, tokenizer, model=no_dropout(tiny_adapler(eta=0.5)), teacher=teacher, **options)
    one.current_gradient_accumulation_steps = 1
    one.training_step(one.model, one.data_collator([one.train_dataset[i] for i in range(8)]))
    return {name: p.grad.clone() for name, p in one.core.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["logit_distillation", "state_distillation"])
def test_both_objectives_learn_from_it_and_stay_apart(tmp_path: Path, tiny_tokenizer: Any, loss: str) -> None:
    teacher = tiny_classifier(seed=3)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    without = gradients(tmp_path, tiny_tokenizer, gamma=0.1, phi=0.01)
    base = step(tmp_path, tiny_tokenizer, teacher=teacher, gamma=0.1, phi=0.01, **{loss: 2.0})
    for name in ("eta", "contribution_predictors.0.dense.weight", "backbone.bert.encoder.layer.0.output.dense.weight"):
        assert not torch.allclose(base[name], without[name]), f"{name} does not learn from the teacher"
    head = "backbone.classifier.weight"
    assert torch.allclose(base[head], without[head]) == (loss == "state_distillation"), "states do not pass the head"
    more_phi = step(tmp_path, tiny_tokenizer, teacher=teacher, gamma=0.1, phi=1.0, **{loss: 2.0})
    more_gamma = step(tmp_path, tiny_tokenizer, teacher=teacher, gamma=5.0, phi=0.01, **{loss: 2.0})
    for name, gradient in base.items():
        other = more_gamma if name in ("eta", "theta") else more_phi
        assert torch.equal(gradient, other[name]), f"{name} sees the other objective's weight"
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_frozen_classifier_teaches_itself(tmp_path: Path, tiny_tokenizer: Any) -> None:
    options: dict[str, Any] = {"freeze_backbone": True, "gamma": 0.1, "phi": 0.01}
    without = step(tmp_path, tiny_tokenizer, **options)
    found = step(tmp_path, tiny_tokenizer, **options, logit_distillation=3.0, state_distillation=1.0)
    assert found.keys() == without.keys() and not any(name.startswith("backbone.") for name in found)
    assert not torch.allclose(found["eta"], without["eta"])


def test_logits_may_come_from_a_classifier_of_another_width(tmp_path: Path, tiny_tokenizer: Any) -> None:
    config = tiny_classifier().config
    config.hidden_size = 32
    wide = BertForSequenceClassification(config)
    found = step(tmp_path, tiny_tokenizer, teacher=wide, logit_distillation=1.0, gamma=0.1, phi=0.01)
    assert not torch.allclose(found["eta"], gradients(tmp_path, tiny_tokenizer, gamma=0.1, phi=0.01)["eta"])
    with pytest.raises(ArgumentError, match="^--state-distillation: the teacher has hidden_size 32, the model 16$"):
        trainer(tmp_path, tiny_tokenizer, state_distillation=1.0, teacher=wide)


def test_errors(tmp_path: Path, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="^--logit-distillation: needs a fine-tuned classifier to learn from"):
        trainer(tmp_path, tiny_tokenizer, logit_distillation=1.0)
    wide = tiny_classifier("bert", vocab_size=61)
    with pytest.raises(ArgumentError, match="^--state-distillation: the teacher has vocab_size 61, the model 60$"):
        trainer(tmp_path, tiny_tokenizer, state_distillation=1.0, teacher=wide)
    with pytest.raises(ArgumentError, match="^--distillation-temperature: 0 is not a number above 0$"):
        trainer(tmp_path, tiny_tokenizer, distillation_temperature=0)
    with pytest.raises(ArgumentError, match="^--distillation-temperature: has no effect without --logit-distillation$"):
        trainer(tmp_path, tiny_tokenizer, state_distillation=1.0, distillation_temperature=4.0)


def test_the_command_distils_from_the_fine_tuned_model(task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    train = ["train", "--task", str(task_folder), "--finetuned", str(run_folder / "finetuned")]
    train += ["--saliency", str(run_folder / "saliency"), "--output", str(tmp_path / "model"), *QUICK]
    assert main([*train, "--logit-distillation", "1", "--state-distillation", "0.5"]) == 0
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert record["teacher"] == "finetuned" and record["objectives"]["logit_distillation"] == 1


def test_a_teacher_with_its_labels_in_another_order_is_refused(
    task_folder: Path, run_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """It would teach NEG what it knows of POS."""
    classifier = tiny_classifier(num_labels=2)
    classifier.base_model.save_pretrained(tmp_path / "encoder")
    classifier.config.id2label, classifier.config.label2id = {0: "POS", 1: "NEG"}, {"POS": 0, "NEG": 1}
    classifier.save_pretrained(tmp_path / "classifier")
    for folder in ("encoder", "classifier"):
        tiny_tokenizer.save_pretrained(tmp_path / folder)
    finetuned, task = tmp_path / "finetuned", ["--task", str(task_folder), *QUICK]
    assert main(["finetune", "--model", str(tmp_path / "classifier"), "--output", str(finetuned), *task]) == 0
    train = ["train", "--finetuned", str(finetuned), "--saliency", str(run_folder / "saliency"), *task]
    train += ["--logit-distillation", "1"]
    with pytest.raises(ArgumentError, match="finetuned: numbers its labels POS, NEG, the model that is .* NEG, POS;"):
        main([*train, "--model", str(tmp_path / "encoder"), "--output", str(tmp_path / "model")])
    assert not (tmp_path / "model").exists()
    assert main([*train, "--output", str(tmp_path / "model")]) == 0, "the task takes the order of the start"
