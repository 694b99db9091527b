"""The stages of TR-BERT's training, one step at a time."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
import torch

from adapler.backbones.decomposition import removal_guide
from adapler.errors import ArgumentError
from adapler.training.policies.base import training_class
from adapler.training.policies.settings import PolicySettings
from adapler.training.policies.stage import Step, Work
from adapler.training.policies.trbert.guide import with_guide
from adapler.training.policies.trbert.losses import soft_cross_entropy
from adapler.training.policies.trbert.training import Drawn, TRBertTraining
from adapler.training.settings import Settings
from tests.adapler.training.common import rows
from tests.adapler.training.policies.test_trbert_losses import soft_model
from tests.conftest import random_batch, tiny_classifier


def work(**policy: Any) -> Work:
    class NamedTask:
        name = "tiny"

    return Work(
        task=NamedTask(),  # type: ignore[arg-type]
        rows=datasets.DatasetDict(train=rows()),
        tokenizer=None,
        max_length=16,
        start="nowhere",
        settings=Settings(learning_rate=1e-4),
        policy=PolicySettings(**{"policy": "trbert", **policy}),
        load_teacher=tiny_classifier,
    )


def step(model: Any, *, progress: float = 0.0, seed: int = 0, taught: bool = False) -> Step:
    batch = {**random_batch([6, 9, 4]), "labels": torch.tensor([0, 2, 1])}
    batch["saliency"] = torch.rand(3, 1, 9, generator=torch.Generator().manual_seed(1))
    return Step(
        model=model,
        core=model,
        batch=batch,
        progress=progress,
        generator=torch.Generator().manual_seed(seed),
        taught=torch.randn(3, 3) if taught else None,
    )


def test_the_first_sample_of_each_text_imitates_while_the_guide_lasts() -> None:
    stage, now = TRBertTraining(work()).stages()[0], step(soft_model())
    assert isinstance(stage, Drawn)
    found = stage._imitation(now)
    assert found["imitates"].view(8, 3).tolist() == [[True] * 3, *[[False] * 3] * 7]
    assert all(torch.equal(one, now.batch["saliency"]) for one in found["guide"].view(8, 3, 1, 9))
    assert stage._imitation(step(soft_model(), progress=0.5)) == {}


def test_where_all_tokens_stay_the_losses_are_those_of_the_whole_texts() -> None:
    """Each sample of a text of its own length, and at the temperature that was asked for."""
    model, stage = soft_model(), TRBertTraining(work(policy_temperature=4.0)).stages()[1]
    assert isinstance(stage, Drawn)
    with torch.no_grad():
        for head in model.policy.heads.values():
            head.keep.weight.zero_()
            head.keep.bias.fill_(80.0)
        now = step(model, taught=True)
        found = stage.losses(now)
        inputs = {name: now.batch[name] for name in ("input_ids", "attention_mask")}
        assert now.taught is not None
        expected = soft_cross_entropy(model(**inputs, removal="none").logits, now.taught, temperature=4.0).mean()
    assert found["kept"] == 1
    torch.testing.assert_close(found["distillation"], expected)
    torch.testing.assert_close(found["reward"], -expected - stage.alpha)


def test_its_stages() -> None:
    first, second = TRBertTraining(work()).stages()
    assert isinstance(first, Drawn) and isinstance(second, Drawn)
    assert (first.name, first.epochs, first.backbone_rate, first.distils) == ("policy", 3, None, False)
    assert (second.name, second.epochs, second.backbone_rate, second.distils) == ("joint", 3, 1e-4, True)
    assert first.policy_rate == second.policy_rate == 3e-5 and first.alpha == second.alpha == 1.0
    assert first.guide_rate == 0.5 and second.guide_rate == 0 and first.samples == 8
    other = TRBertTraining(work(policy_weight=0.3, policy_learning_rate=1e-3, policy_epochs=(1, 2))).stages()
    assert [stage.epochs for stage in other] == [1, 2] and other[0].policy_rate == 1e-3
    assert [stage.alpha for stage in other if isinstance(stage, Drawn)] == [0.3, 0.3]
    point = TRBertTraining.point(PolicySettings(policy="trbert", policy_weight=0.3), task="tiny")
    assert point == "trbert-0.3"


def test_a_step_of_the_policy_alone() -> None:
    model, stage = soft_model(), TRBertTraining(work()).stages()[0]
    model.backbone.requires_grad_(False)
    losses = stage.losses(step(model))
    assert list(losses) == ["cross_entropy", "policy", "reward", "kept"]
    assert 0 < float(losses["kept"]) < 1
    torch.testing.assert_close(losses["reward"], -losses["cross_entropy"] - losses["kept"])
    sum(stage.weights.get(name, 1.0) * loss for name, loss in losses.items()).backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in model.policy.parameters())
    again = stage.losses(step(model))
    assert torch.equal(losses["policy"], again["policy"]), "the same generator draws the same"
    assert not torch.equal(losses["policy"], stage.losses(step(model, seed=1))["policy"])
    assert not torch.equal(losses["policy"], stage.losses(step(model, progress=0.5))["policy"]), "no sample imitates"


def test_a_joint_step_trains_the_backbone_by_distillation_alone() -> None:
    model, stage = soft_model(), TRBertTraining(work()).stages()[1]
    losses = stage.losses(step(model, taught=True))
    assert list(losses) == ["distillation", "policy", "reward", "kept"]
    backbone = list(model.backbone.bert.encoder.layer[0].parameters())
    policy = list(model.policy.parameters())
    assert all(g is None for g in torch.autograd.grad(losses["policy"], backbone, allow_unused=True, retain_graph=True))
    assert all(
        g is None for g in torch.autograd.grad(losses["distillation"], policy, allow_unused=True, retain_graph=True)
    )
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses["policy"], policy))


def test_rewards_teach_it_to_drop() -> None:
    """Where tokens cost and the loss hardly counts, fewer stay after some steps; without a cost they do not all go."""
    model, stage = soft_model(), TRBertTraining(work(policy_weight=20.0)).stages()[0]
    optimizer = torch.optim.Adam(model.policy.parameters(), lr=0.02)
    kept = []
    for number in range(60):
        losses = stage.losses(step(model, progress=0.9, seed=number))
        optimizer.zero_grad()
        losses["policy"].backward()
        optimizer.step()
        kept.append(float(losses["kept"]))
    assert kept[0] > 0.5 and sum(kept[-5:]) / 5 < 0.35  # [CLS] alone: .18


def test_the_guide_of_a_training_set() -> None:
    classifier, data = tiny_classifier(), rows().remove_columns("saliency")
    found = with_guide(data, classifier, points=(1,), pad_token_id=0)
    assert found.column_names == [*data.column_names, "saliency"] and found["id"] == data["id"]
    for row in found.select(range(4)):
        batch = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask")}
        wanted = removal_guide(classifier, {**batch, "labels": torch.tensor([row["labels"]])}, points=(1,))
        torch.testing.assert_close(torch.tensor(row["saliency"]), wanted[0], atol=1e-6, rtol=1e-4)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("trbert", "distilbert"):
        policy = PolicySettings(policy=name)
        with pytest.raises(ArgumentError, match=rf"^--policy: {name} trains in one process, 2 were started"):
            training_class(name).check(policy, task="tiny", layers=6)
    training_class("cls_topk").check(PolicySettings(policy="cls_topk"), task="tiny", layers=1)


@pytest.mark.parametrize("bad", [(1,), (1, 2, 3)])
def test_as_many_numbers_of_epochs_as_stages(bad: tuple[int, ...]) -> None:
    found = "1 value" if len(bad) == 1 else "3 values"
    with pytest.raises(ArgumentError, match=rf"^--policy-epochs: {found}, 'trbert' has 2 stages: policy"):
        TRBertTraining(work(policy_epochs=bad))
