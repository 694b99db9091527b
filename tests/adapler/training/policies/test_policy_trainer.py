"""The trainer of the policies: gradients, rates, draws, what is selected, and what is refused before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from adapler.cli.parser import main
from adapler.errors import ArgumentError
from adapler.model import flops
from adapler.training.arguments import training_arguments
from adapler.training.collator import PaddingCollator
from adapler.training.policies.ltp import SoftThresholds
from adapler.training.policies.stage import Stage, Step
from adapler.training.policies.trainer import PolicyTrainer
from adapler.training.settings import Settings
from tests.adapler.policies.policy_models import tiny_policy
from tests.adapler.training.common import QUICK, rows
from tests.adapler.training.test_trainer import no_dropout
from tests.conftest import tiny_classifier


def stage_of(**options: Any) -> Stage:
    return Stage(
        **{"name": "train", "epochs": 1, "removal": "soft", "backbone_rate": 1e-3, "policy_rate": 1e-2, **options}
    )


def made(folder: Path, tokenizer: Any, *, stage: Stage, settings: Any = None, **options: Any) -> PolicyTrainer:
    """A trainer of a tiny Transkimmer, on the CPU in float32."""
    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32", **(settings or {})}
    model = no_dropout(tiny_policy("ltp", theta_final=0.2, temperature=0.05))
    arguments = {name: options.pop(name) for name in ("max_grad_norm",) if name in options}
    return PolicyTrainer(
        model,
        stage=stage,
        training=SimpleNamespace(speedup=lambda model, *lengths: flops.speedup(model.config, *lengths)),  # type: ignore[arg-type]
        args=training_arguments(
            Settings(**settings), folder, metric_for_best_model="selection", remove_unused_columns=False,
            disable_tqdm=True, **arguments,
        ),
        train_dataset=rows().remove_columns("saliency"),
        eval_dataset=rows().remove_columns("saliency"),
        data_collator=PaddingCollator(tokenizer),
        **{"metric": "accuracy", "reference": 0.5, "max_drop": 0.01, **options},
    )  # fmt: skip


def step(one: PolicyTrainer, indices: range, *, of: int = 1) -> None:
    one.current_gradient_accumulation_steps = of
    one.training_step(one.model, one.data_collator([one.train_dataset[i] for i in indices]))


def test_accumulated_gradients_equal_those_of_one_batch(tmp_path: Path, tiny_tokenizer: Any) -> None:
    whole, parts = (made(tmp_path, tiny_tokenizer, stage=stage_of()) for _ in range(2))
    step(whole, range(8))
    step(parts, range(4), of=2)
    step(parts, range(4, 8), of=2)
    for (name, a), (_, b) in zip(whole.core.named_parameters(), parts.core.named_parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_a_model_whose_own_configuration_wants_tuples_trains_too(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = made(tmp_path, tiny_tokenizer, stage=SoftThresholds(**vars(stage_of())))
    one.core.config.return_dict = False
    step(one, range(4))
    assert one.core.policy.delta.grad is not None and one.evaluate().keys() >= {"eval_speedup", "eval_thresholds"}


@pytest.mark.parametrize("decay", [True, False])
def test_each_group_has_its_rate_and_its_decay(decay: bool, tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = made(tmp_path, tiny_tokenizer, stage=stage_of(policy_decay=decay), settings={"weight_decay": 0.1})
    names = {id(parameter): name for name, parameter in one.core.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in one.create_optimizer().param_groups
        for p in group["params"]
    }
    assert found.keys() == set(names.values())
    layer = "backbone.bert.encoder.layer.0.output"
    assert found[f"{layer}.dense.weight"] == (1e-3, 0.1)
    assert found[f"{layer}.dense.bias"] == found[f"{layer}.LayerNorm.weight"] == (1e-3, 0.0)
    assert found["policy.delta"] == (1e-2, 0.1 if decay else 0.0)


def test_backbone_and_policy_are_clipped_apart(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = made(tmp_path, tiny_tokenizer, stage=stage_of(), max_grad_norm=1e-4)
    step(one, range(8))
    one._clip_grad_norm(one.model)
    for group in ("backbone", "policy"):
        gradients = [p.grad for _, p in one._named(group) if p.grad is not None]
        norm = float(torch.cat([g.flatten() for g in gradients]).norm())
        assert norm == pytest.approx(1e-4, rel=0.02), group


def test_every_forward_pass_has_its_own_draws(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one, other = (made(tmp_path, tiny_tokenizer, stage=stage_of(), settings={"seed": seed}) for seed in (1, 2))
    first, second, theirs = (float(torch.rand(1, generator=t._generator())) for t in (one, one, other))
    one.state.global_step = 1
    third = float(torch.rand(1, generator=one._generator()))
    assert len({first, second, theirs, third}) == 4
    again = made(tmp_path, tiny_tokenizer, stage=stage_of(), settings={"seed": 1})
    again.state.global_step = 1  # a training that was stopped goes on with the same draws
    assert float(torch.rand(1, generator=again._generator())) == third


@pytest.mark.parametrize("rate", [None, 1e-3])
def test_a_backbone_that_does_not_train_has_no_dropout(rate: float | None, tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = made(tmp_path, tiny_tokenizer, stage=stage_of(backbone_rate=rate))
    step(one, range(4))
    assert one.core.backbone.training is (rate is not None) and one.core.policy.training
    assert all((p.grad is None) is (rate is None) for p in one.core.backbone.bert.encoder.layer[0].parameters())


def test_a_stage_is_told_how_far_it_is(tmp_path: Path, tiny_tokenizer: Any) -> None:
    seen: list[float] = []

    class Watching(Stage):
        def losses(self, step: Step) -> dict[str, Tensor]:
            seen.append(step.progress)
            return super().losses(step)

    options = {"name": "train", "epochs": 2, "removal": "soft", "backbone_rate": 1e-3, "policy_rate": 1e-2}
    made(tmp_path, tiny_tokenizer, stage=Watching(**options), settings={"epochs": 2}).train()
    assert seen == pytest.approx([n / 8 for n in range(8)])


@pytest.mark.parametrize("drop", [0.01, 0.3])
def test_what_each_rule_selects(drop: float, tmp_path: Path, tiny_tokenizer: Any) -> None:
    values = {}
    for selects in ("score", "last", "budget"):
        one = made(tmp_path, tiny_tokenizer, stage=stage_of(selects=selects), reference=0.0, max_drop=drop)
        score = one.evaluate()["eval_accuracy"]
        one.reference, one.state.global_step = score + 0.2, 7
        found = one.evaluate()
        values[selects] = found["eval_selection"]
    assert values["score"] == pytest.approx(score, abs=1e-6) and values["last"] == 7
    assert values["budget"] == pytest.approx(1 + found["eval_speedup"] if drop > 0.2 else score, abs=1e-6)


@pytest.mark.parametrize("name, fewest, layers", [("trbert", 3, 2), ("distilbert", 2, 1)])
def test_too_few_layers_are_refused_before_any_training(
    name: str, fewest: int, layers: int, task_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    tiny_classifier(num_hidden_layers=layers).save_pretrained(tmp_path / "shallow")
    tiny_tokenizer.save_pretrained(tmp_path / "shallow")
    words = ["run", "--task", str(task_folder), "--model", str(tmp_path / "shallow"), "--policy", name, *QUICK]
    with pytest.raises(ArgumentError, match=f"^--policy: {name} needs {fewest} layers at least, the .* has {layers}$"):
        main([*words, "--output", str(tmp_path / "run")])
    assert not (tmp_path / "run" / "finetuned").exists()
