"""Gradient routing, post-hoc mode, resuming, determinism, the selection rule."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, set_seed

from adapler import TrainingError
from adapler.passes import plain_pass
from adapler.policies.adapler import contribution_loss, contribution_target, length_loss
from adapler.policies.base import Stage, Step
from adapler.training.trainer import LIVE_WEIGHTS
from tests.adapler.policies.policy_models import tiny_policy
from tests.adapler.training.common import gradients, no_dropout, step, trainer
from tests.conftest import tiny_adapler, tiny_classifier


def test_phi_leaves_the_backbone_and_gamma_leaves_eta_bitwise_unchanged(tmp_path: Path, tiny_tokenizer: Any) -> None:
    base = gradients(tmp_path, tiny_tokenizer, gamma=0.1, phi=0.01)
    more_phi = gradients(tmp_path, tiny_tokenizer, gamma=0.1, phi=1.0)
    more_gamma = gradients(tmp_path, tiny_tokenizer, gamma=5.0, phi=0.01)
    for name, gradient in base.items():
        own, other = (more_phi, more_gamma) if name in ("eta", "theta") else (more_gamma, more_phi)
        assert torch.equal(gradient, other[name]), f"{name} sees the other objective's weight"
        if name == "eta" or name.endswith("contribution_predictors.0.dense.weight"):
            assert not torch.allclose(gradient, own[name]), f"{name} does not see its own objective"


def test_gradients_are_those_of_the_two_sums(tmp_path: Path, tiny_tokenizer: Any) -> None:
    found = gradients(tmp_path, tiny_tokenizer, gamma=0.3, phi=0.02, max_slope=10.0)
    model = no_dropout(tiny_adapler(eta=0.5)).train()
    one = trainer(tmp_path, tiny_tokenizer, model=model)
    batch = one.data_collator([one.train_dataset[i] for i in range(8)])
    targets = batch.pop("targets")
    probe = torch.ones(model.num_layers, requires_grad=True)
    out = model(**batch, removal="soft", slope=10.0, probe=probe)
    target = contribution_target(targets, out.log_presence, model.theta)
    first = out.loss + 0.3 * contribution_loss(out.log_scores, target)
    second = out.loss + 0.02 * length_loss(out.lengths)
    eta, factor = torch.autograd.grad(second, [model.eta, probe], retain_graph=True)
    torch.testing.assert_close(found["eta"], eta)
    torch.testing.assert_close(found["theta"], factor[1:] / model.theta)
    weight = model.backbone.bert.encoder.layer[0].intermediate.dense.weight
    torch.testing.assert_close(
        found["backbone.bert.encoder.layer.0.intermediate.dense.weight"], torch.autograd.grad(first, weight)[0]
    )


def test_accumulated_gradients_equal_those_of_one_batch(tmp_path: Path, tiny_tokenizer: Any) -> None:
    whole = gradients(tmp_path, tiny_tokenizer)
    one = trainer(tmp_path, tiny_tokenizer, model=no_dropout(tiny_adapler(eta=0.5)), settings={"accumulation": 2})
    for indices in (range(4), range(4, 8)):
        step(one, indices, of=2)
    for name, parameter in one.core.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], atol=1e-5, rtol=1e-3, msg=name)


def test_post_hoc_training_leaves_the_backbone_bit_identical(tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = tiny_adapler(eta=0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    one = trainer(tmp_path, tiny_tokenizer, model=model, freeze_backbone=True)
    one.train()
    for name, tensor in model.state_dict().items():
        same = torch.equal(tensor, before[name])
        if name.startswith("backbone."):
            assert same, f"{name} changed"
        elif name == "eta" or name.endswith("dense.weight"):
            assert not same, f"{name} did not train"
    trained = {id(p) for group in one.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in model.backbone.parameters()}
    assert all(parameter.grad is None for parameter in model.backbone.parameters())


def test_eta_and_theta_have_their_own_rate_and_no_decay(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings={"weight_decay": 0.1}, eta_learning_rate=0.3)
    groups = {group["name"]: group for group in one.create_optimizer().param_groups}
    assert groups["eta and theta"]["lr"] == 0.3 and groups["eta and theta"]["weight_decay"] == 0.0
    counted = sum(p.numel() for group in one.optimizer.param_groups for p in group["params"])
    assert counted == sum(p.numel() for p in one.core.parameters())


def test_eta_stays_within_its_bounds(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, eta_learning_rate=50.0)
    one.train()
    eta = one.core.eta.detach()
    assert float(eta.min()) == pytest.approx(0.01) and float(eta.max()) == 1.0, "both bounds are reached and held"


@pytest.mark.parametrize(("bound", "slopes"), [(None, [50.0, 2500.0, 125000.0]), (1000.0, [50.0, 1000.0, 1000.0])])
def test_slope_grows_by_epoch(tmp_path: Path, tiny_tokenizer: Any, bound: float | None, slopes: list[float]) -> None:
    seen: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(one.stage.slope)

    one = trainer(tmp_path, tiny_tokenizer, settings={"epochs": 3}, max_slope=bound)
    one.add_callback(Watch())
    one.train()
    assert seen == [slope for slope in slopes for _ in range(4)]
    logged = [row["slope"] for row in one.state.log_history if "slope" in row]
    assert logged == seen, "the last step of an epoch says its own slope, not the next epoch's"


@pytest.mark.parametrize("freeze", [False, True])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path, tiny_tokenizer: Any, freeze: bool) -> None:
    class Kill(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                raise KeyboardInterrupt

    def fresh(folder: Path) -> Any:
        set_seed(7)
        return trainer(folder, tiny_tokenizer, freeze_backbone=freeze, settings={"epochs": 3})

    straight = fresh(tmp_path / "straight")
    straight.train()
    killed = fresh(tmp_path / "killed")
    killed.add_callback(Kill())
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    resumed = fresh(tmp_path / "killed")
    resumed.train(resume_from_checkpoint=True)
    for (name, a), b in zip(straight.core.state_dict().items(), resumed.core.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert straight.state.log_history[-2]["eval_eta"] == resumed.state.log_history[-2]["eval_eta"]


def test_same_seed_same_result(tmp_path: Path, tiny_tokenizer: Any) -> None:
    results = []
    for name in ("a", "b"):
        set_seed(3)
        one = trainer(tmp_path / name, tiny_tokenizer)
        one.train()
        results.append(one.core.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_the_two_objectives_are_clipped_apart(tmp_path: Path, tiny_tokenizer: Any) -> None:
    found = []
    for bound in (1e9, 1e-3):
        one = trainer(tmp_path, tiny_tokenizer, model=no_dropout(tiny_adapler(eta=0.5)), max_grad_norm=bound)
        step(one)
        total = float(one._clip_grad_norm(one.model))
        found.append({name: p.grad for name, p in one.core.named_parameters() if p.grad is not None})
        one.check_step()
        assert {name for name in one._since_log if "norm" in name} == {
            "grad_norm_backbone",
            "grad_norm_predictors",
            "grad_norm_eta",
        }
    whole, clipped = found
    for thresholds in (False, True):
        names = [name for name in whole if (name in ("eta", "theta")) == thresholds]
        norm = float(torch.cat([whole[name].flatten() for name in names]).norm())
        assert norm > 1e-3 and (thresholds or norm == pytest.approx(total, rel=1e-5))
        for name in names:
            torch.testing.assert_close(clipped[name], whole[name] * 1e-3 / (norm + 1e-6), atol=1e-9, rtol=1e-4)


@pytest.mark.parametrize(
    ("parameter", "group"),
    [
        ("backbone.bert.encoder.layer.1.output.dense.weight", "backbone"),
        ("contribution_predictors.1.dense.weight", "contribution_predictors"),
        ("eta", "eta"),
    ],
)
def test_a_loss_that_is_not_finite_stops_and_says_where(
    tmp_path: Path, tiny_tokenizer: Any, parameter: str, group: str
) -> None:
    class Break(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if state.global_step == 5:
                with torch.no_grad():
                    model.get_parameter(parameter).fill_(float("nan"))

    one = trainer(tmp_path, tiny_tokenizer)
    one.add_callback(Break())
    with pytest.raises(TrainingError, match=rf"step 6.* is nan; parameter {group}") as caught:
        one.train()
    assert "\n" not in str(caught.value)
    kept = list(tmp_path.glob("checkpoint-4/model.safetensors"))
    assert len(kept) == 1, "the last good checkpoint is gone"
    good = type(one.core).from_pretrained(kept[0].parent)
    assert all(bool(p.isfinite().all()) for p in good.parameters())


def test_a_gradient_that_is_not_finite_never_reaches_a_weight(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer)
    one.core.contribution_predictors[1].dense.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="predictors is (inf|nan)"):
        one.train()
    assert all(bool(p.isfinite().all()) for p in one.core.parameters())


def test_selection_prefers_speed_among_epochs_that_qualify() -> None:
    value = partial(Stage(selects="budget").value, max_drop=0.01, step=1)
    scores = [(0.86, 1.5), (0.855, 4.0), (0.84, 9.0)]
    values = [value(score, gain, reference=0.86) for score, gain in scores]
    assert values.index(max(values)) == 1
    values = [value(score, gain, reference=0.95) for score, gain in scores]
    assert values.index(max(values)) == 0
    tied = [value(0.825, gain, reference=0.845) for gain in (3.6, 6.9, 0.9)]
    assert tied.index(max(tied)) == 1, "equal scores: the fastest"
    assert value(1.0, 9.0, reference=None) <= 1, "never taken for one that qualifies"
    assert value(0.855, 2.0, reference=0.865) == 3.0, "exactly .01 below qualifies"


def test_the_selected_epoch_is_what_the_model_holds(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings={"epochs": 3}, reference=0.0)
    one.train()
    history = [entry for entry in one.state.log_history if "eval_selection" in entry]
    best = max(history, key=lambda entry: entry["eval_selection"])
    assert [round(float(eta), 4) for eta in one.core.eta.detach()] == best["eval_eta"]


def test_every_forward_pass_of_an_accumulated_step_is_looked_at(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings={"accumulation": 2})
    broken = one.data_collator([one.train_dataset[i] for i in range(4)])
    broken["targets"][0] = float("nan")
    one.current_gradient_accumulation_steps = 2
    one.training_step(one.model, broken)
    step(one, range(4, 8), of=2)
    with pytest.raises(TrainingError, match="step 1 .*contribution_loss is nan"):
        one.check_step()


@pytest.mark.parametrize("target", [None, 2.0])
def test_the_rate_of_the_thresholds_stays_up_with_a_target(
    target: float | None, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings={"warmup": 0.5}, target_speedup=target)
    one.create_optimizer()
    rate = one.create_scheduler(20, one.optimizer).lr_lambdas[-1]
    assert [rate(n) for n in (0, 5, 10)] == pytest.approx([0, 0.5, 1]) and rate(20) == (1 if target else 0)


def test_the_average_is_saved_and_kept_and_changes_no_step(tmp_path: Path, tiny_tokenizer: Any) -> None:
    class Recorder(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            self.seen = [{name: tensor.clone() for name, tensor in model.state_dict().items()}]

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            self.seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    found = []
    for decay in (0.0, 0.7):
        one = trainer(tmp_path / str(decay), tiny_tokenizer, average_decay=decay, settings={"epochs": 1})
        recorder = Recorder()
        one.add_callback(recorder)
        one.train()
        found.append(recorder.seen)
    assert all(torch.equal(found[0][-1][name], tensor) for name, tensor in found[1][-1].items())
    expected = {name: tensor.double() for name, tensor in found[1][0].items()}
    for number, after in enumerate(found[1][1:], start=1):
        decay = min(0.7, number / (number + 9))
        expected = {name: decay * mean + (1 - decay) * after[name].double() for name, mean in expected.items()}
    saved = load_file(tmp_path / "0.7" / "checkpoint-4" / "model.safetensors")
    live = load_file(tmp_path / "0.7" / "checkpoint-4" / LIVE_WEIGHTS)
    for name, tensor in saved.items():
        torch.testing.assert_close(tensor.double(), expected[name], atol=1e-6, rtol=1e-5)
        assert torch.equal(one.model.state_dict()[name], tensor)
        assert torch.equal(live[name], found[1][-1][name])


def test_both_objectives_learn_from_a_teacher_and_stay_apart(tmp_path: Path, tiny_tokenizer: Any) -> None:
    loss = "logit_distillation"
    teacher = tiny_classifier(seed=3)
    without = gradients(tmp_path, tiny_tokenizer)
    base, more = (gradients(tmp_path, tiny_tokenizer, teacher=teacher, **{loss: w}) for w in (1.0, 3.0))
    for name in ("eta", "contribution_predictors.0.dense.weight", "backbone.bert.encoder.layer.0.output.dense.weight"):
        torch.testing.assert_close(more[name] - without[name], 3 * (base[name] - without[name]), atol=1e-4, rtol=1e-3)
        assert not torch.allclose(base[name], without[name])
    other = gradients(tmp_path, tiny_tokenizer, teacher=teacher, phi=1.0, **{loss: 1.0})
    assert all(torch.equal(g, other[name]) for name, g in base.items() if name not in ("eta", "theta"))
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_frozen_classifier_teaches_itself(tmp_path: Path, tiny_tokenizer: Any) -> None:
    without = gradients(tmp_path, tiny_tokenizer, freeze_backbone=True)
    found = gradients(tmp_path, tiny_tokenizer, freeze_backbone=True, logit_distillation=3.0)
    assert found.keys() == without.keys() and not torch.allclose(found["eta"], without["eta"])


@torch.no_grad()
def test_a_teacher_gives_the_logits_of_its_classifier() -> None:
    model, ids = tiny_adapler(), torch.randint(3, 60, (2, 9))
    logits = plain_pass(model.backbone, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    torch.testing.assert_close(logits, model(ids, removal="none").logits)


def test_recomputed_activations_and_workers_change_no_number(tmp_path: Path, tiny_tokenizer: Any) -> None:
    settings = {"gradient_checkpointing": True, "workers": 1}
    plain, other = (trainer(tmp_path / str(n), tiny_tokenizer, settings=s) for n, s in enumerate(({}, settings)))
    for one in (plain, other):
        torch.manual_seed(0)  # of dropout
        one.train()
    for (name, a), (_, b) in zip(plain.core.named_parameters(), other.core.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


# Other policies


def ltp(folder: Path, tokenizer: Any, **options: Any) -> Any:
    """A trainer of a tiny LTP."""
    settings = options.pop("settings", {})
    of_trainer = {name: options.pop(name) for name in ("max_grad_norm", "reference", "max_drop") if name in options}
    stage = Stage(**{"removal": "soft", "rates": {"backbone": 1e-3, "policy": 1e-2}, **options})
    model = no_dropout(tiny_policy("ltp", theta_final=0.2, temperature=0.05))
    return trainer(folder, tokenizer, model=model, stage=stage, settings={"epochs": 1, **settings}, **of_trainer)


@pytest.mark.parametrize("decay", [True, False])
def test_each_group_has_its_rate_and_its_decay(decay: bool, tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = ltp(tmp_path, tiny_tokenizer, no_decay=() if decay else ("policy",), settings={"weight_decay": 0.1})
    names = {id(parameter): name for name, parameter in one.core.named_parameters()}
    groups = one.create_optimizer().param_groups
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    layer = "backbone.bert.encoder.layer.0.output"
    assert found.keys() == set(names.values()) and found[f"{layer}.dense.weight"] == (1e-3, 0.1)
    assert found[f"{layer}.dense.bias"] == found[f"{layer}.LayerNorm.weight"] == (1e-3, 0.0)
    assert found["policy.delta"] == (1e-2, 0.1 if decay else 0.0)


def test_backbone_and_policy_are_clipped_apart(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = ltp(tmp_path, tiny_tokenizer, max_grad_norm=1e-4)
    step(one)
    one._clip_grad_norm(one.model)
    for name, parameters in one._groups().items():
        norm = torch.cat([p.grad.flatten() for _, p in parameters if p.grad is not None]).norm()
        assert float(norm) == pytest.approx(1e-4, rel=0.02), name


@pytest.mark.parametrize("rate", [None, 1e-3])
def test_a_backbone_that_does_not_train_has_no_dropout(rate: float | None, tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = ltp(tmp_path, tiny_tokenizer, rates={"backbone": rate, "policy": 1e-2})
    step(one)
    assert one.core.backbone.training is (rate is not None) and one.core.policy.training
    assert all((p.grad is None) is (rate is None) for p in one.core.backbone.bert.encoder.layer[0].parameters())


def test_every_forward_pass_has_its_own_draws(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one, other = (ltp(tmp_path, tiny_tokenizer, settings={"seed": seed}) for seed in (1, 2))
    first, second, theirs = (float(torch.rand(1, generator=t._generator())) for t in (one, one, other))
    one.state.global_step = 1
    third = float(torch.rand(1, generator=one._generator()))
    assert len({first, second, theirs, third}) == 4
    again = ltp(tmp_path, tiny_tokenizer, settings={"seed": 1})
    again.state.global_step = 1  # a training that was stopped goes on with the same draws
    assert float(torch.rand(1, generator=again._generator())) == third


def test_a_stage_knows_its_progress(tmp_path: Path, tiny_tokenizer: Any) -> None:
    seen: list[float] = []

    class Watching(Stage):
        def losses(self, step: Step) -> dict[str, torch.Tensor]:
            seen.append(step.progress)
            return super().losses(step)

    stage = Watching(removal="soft", rates={"backbone": 1e-3, "policy": 1e-2})
    trainer(tmp_path, tiny_tokenizer, model=tiny_policy("ltp"), stage=stage).train()
    assert seen == pytest.approx([n / 8 for n in range(8)])


@pytest.mark.parametrize("drop", [0.01, 0.3])
def test_rules_of_selection(drop: float, tmp_path: Path, tiny_tokenizer: Any) -> None:
    values = {}
    for selects in ("score", "last", "budget"):
        one = ltp(tmp_path, tiny_tokenizer, selects=selects, max_drop=drop)
        score = one.evaluate()["eval_accuracy"]
        one.reference, one.state.global_step = score + 0.2, 7
        found = one.evaluate()
        values[selects] = found["eval_selection"]
    assert values["score"] == pytest.approx(score, abs=1e-6) and values["last"] == 7
    assert values["budget"] == pytest.approx(1 + found["eval_speedup"] if drop > 0.2 else score, abs=1e-6)
