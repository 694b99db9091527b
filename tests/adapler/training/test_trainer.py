"""Gradient routing, post-hoc mode, resuming, determinism, the selection rule."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, set_seed

from adapler import CheckpointError, TrainingError
from adapler.training.losses import contribution_loss, contribution_target, length_loss
from adapler.training.selection import selection_value
from tests.adapler.training.common import rows, trainer
from tests.conftest import tiny_adapler


def no_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradients(folder: Path, tokenizer: Any, *, indices: range = range(8), **options: Any) -> dict[str, torch.Tensor]:
    """The gradients that one training step leaves behind."""
    one = trainer(folder, tokenizer, model=no_dropout(tiny_adapler(eta=0.5)), **options)
    one.current_gradient_accumulation_steps = 1
    batch = one.data_collator([one.train_dataset[i] for i in indices])
    one.training_step(one.model, batch)
    return {name: p.grad.clone() for name, p in one.core.named_parameters() if p.grad is not None}


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
    found = gradients(tmp_path, tiny_tokenizer, gamma=0.3, phi=0.02)
    model = no_dropout(tiny_adapler(eta=0.5)).train()
    one = trainer(tmp_path, tiny_tokenizer, model=model)
    batch = one.data_collator([one.train_dataset[i] for i in range(8)])
    saliency = batch.pop("saliency")
    probe = torch.ones(model.num_layers, requires_grad=True)
    out = model(**batch, removal="soft", slope=one.slope, probe=probe)
    target = contribution_target(saliency, out.log_presence, model.theta)
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
    one.current_gradient_accumulation_steps = 2
    for indices in (range(4), range(4, 8)):
        one.training_step(one.model, one.data_collator([one.train_dataset[i] for i in indices]))
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
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(one.slope)

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


@pytest.mark.parametrize("epochs", [2, 3], ids=["done", "unfinished"])
def test_a_best_point_that_is_gone_is_not_replaced_by_another(epochs: int, tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, reference_score=0.0)
    one.train()
    last, best = tmp_path / "checkpoint-8", tmp_path / "checkpoint-4"
    state = json.loads((last / "trainer_state.json").read_text())
    state |= {"best_model_checkpoint": str(best), "best_global_step": 4, "best_metric": 99.0}
    (last / "trainer_state.json").write_text(json.dumps(state))
    (best / "model.safetensors").unlink()
    resumed = trainer(tmp_path, tiny_tokenizer, reference_score=0.0, settings={"epochs": epochs})
    with pytest.raises(CheckpointError, match="checkpoint-4: the weights of the best point so far are gone; put them"):
        resumed.train(resume_from_checkpoint=True)


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
        one.current_gradient_accumulation_steps = 1
        one.training_step(one.model, one.data_collator([one.train_dataset[i] for i in range(8)]))
        total = float(one._clip_grad_norm(one.model))
        found.append({name: p.grad for name, p in one.core.named_parameters() if p.grad is not None})
        one._check_step()
        assert {name for name in one.numbers.means() if "norm" in name} == {
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


def test_every_forward_pass_of_an_accumulated_step_is_looked_at(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings={"accumulation": 2})
    one.current_gradient_accumulation_steps = 2
    for indices, loss in ((range(4), "first"), (range(4, 8), "second")):
        batch = one.data_collator([one.train_dataset[i] for i in indices])
        if loss == "first":
            batch["saliency"][0] = float("nan")
        one.training_step(one.model, batch)
    with pytest.raises(TrainingError, match="step 1,.*loss is not finite .*contribution_loss nan"):
        one._check_step()


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
    with pytest.raises(TrainingError, match=rf"step 6.*loss is not finite.*parameter {group}") as caught:
        one.train()
    assert "\n" not in str(caught.value)
    kept = list(tmp_path.glob("checkpoint-4/model.safetensors"))
    assert len(kept) == 1, "the last good checkpoint is gone"
    good = type(one.core).from_pretrained(kept[0].parent)
    assert all(bool(p.isfinite().all()) for p in good.parameters())


def test_a_gradient_that_is_not_finite_never_reaches_a_weight(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer)
    one.core.contribution_predictors[1].dense.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="gradient of the parameter group 'predictors' is"):
        one.train()
    assert all(bool(p.isfinite().all()) for p in one.core.parameters())


def test_training_without_saliency_is_refused(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer)
    one.train_dataset = rows().remove_columns("saliency")
    with pytest.raises(ValueError, match="rows have no 'saliency'"):
        one.train()


def test_selection_prefers_speed_among_epochs_that_qualify() -> None:
    scores = [(0.86, 1.5), (0.855, 4.0), (0.84, 9.0)]
    values = [selection_value(score, gain, reference=0.86, max_drop=0.01) for score, gain in scores]
    assert values.index(max(values)) == 1
    values = [selection_value(score, gain, reference=0.95, max_drop=0.01) for score, gain in scores]
    assert values.index(max(values)) == 0
    tied = [selection_value(0.825, gain, reference=0.845, max_drop=0.01) for gain in (3.6, 6.9, 0.9)]
    assert tied.index(max(tied)) == 1, "equal scores: the fastest"
    assert selection_value(1.0, 9.0, reference=None, max_drop=0.01) <= 1, "never taken for one that qualifies"
    assert selection_value(0.855, 2.0, reference=0.865, max_drop=0.01) == 3.0, "exactly .01 below qualifies"


def test_rows_without_labels_are_predicted(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer)
    labelled = one.predict(one.eval_dataset)
    found = one.predict(one.eval_dataset.remove_columns("labels"))
    for ours, known in zip(found.predictions, labelled.predictions, strict=True):
        assert (ours == known).all()
    missing = {"test_accuracy", "test_selection", "test_loss"}
    assert found.label_ids is None and labelled.metrics.keys() - found.metrics.keys() == missing
    assert found.metrics["test_speedup"] == labelled.metrics["test_speedup"]


def test_the_selected_epoch_is_what_the_model_holds(tmp_path: Path, tiny_tokenizer: Any) -> None:
    one = trainer(tmp_path, tiny_tokenizer, settings={"epochs": 3}, reference_score=0.0)
    one.train()
    history = [entry for entry in one.state.log_history if "eval_selection" in entry]
    best = max(history, key=lambda entry: entry["eval_selection"])
    assert [round(float(eta), 4) for eta in one.core.eta.detach()] == best["eval_eta"]
    shutil.rmtree(tmp_path)


def test_the_evaluation_loss_is_of_the_rows(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers' own counts rows twice that fill up the last batches of several processes."""
    evaluate = Trainer.evaluation_loop

    def with_rows_counted_twice(*args: Any, **kwargs: Any) -> Any:
        result = evaluate(*args, **kwargs)
        result.metrics["eval_loss"] += 1.0
        return result

    monkeypatch.setattr(Trainer, "evaluation_loop", with_rows_counted_twice)
    one = trainer(tmp_path, tiny_tokenizer)
    batch = one.data_collator([{k: v for k, v in row.items() if k != "saliency"} for row in rows()])
    with torch.no_grad():
        loss = float(tiny_adapler(eta=0.5)(**batch, removal="hard").loss)
    assert one.evaluate()["eval_loss"] == pytest.approx(loss, abs=1e-6)
