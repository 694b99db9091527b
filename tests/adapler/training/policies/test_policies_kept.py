"""What the training of each policy is made of: losses, stages, rates of the papers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from adapler.data import load_task
from adapler.policies import LayerView
from adapler.predictors import PackedRow
from adapler.training.policies.base import training_class
from adapler.training.policies.ltp import SoftThresholds
from adapler.training.policies.power import Search
from adapler.training.policies.stage import Step
from adapler.training.policies.transkimmer import Skimming
from tests.adapler.policies.policy_models import tiny_policy
from tests.adapler.training.policies.test_trbert_stages import work
from tests.conftest import LAYERS, padding_of, random_batch


def test_each_layer_draws_other_tokens() -> None:
    policy, hidden = tiny_policy("random_topk").policy, torch.zeros(30, 2)
    orders = [policy.score(LayerView(i, hidden, PackedRow.of_one_text(hidden))).argsort() for i in range(2)]
    assert not torch.equal(orders[0], orders[1])


def test_of_tokens_that_cls_does_not_see_the_earlier_ones_stay() -> None:
    model, batch = tiny_policy("cls_topk", "modernbert"), random_batch([20], pad=padding_of("modernbert"))
    with torch.no_grad():
        out = model(**batch)
    unseen = out.retention_mask[0, 1] & (out.contribution_scores[0, 1] < 0)
    kept, gone = (unseen & mask for mask in (out.retention_mask[0, 2], ~out.retention_mask[0, 2]))
    assert kept.any() and gone.any() and kept.nonzero().max() < gone.nonzero().min()


def step_of(model: Any) -> Step:
    batch = {**random_batch([6, 9]), "labels": torch.tensor([0, 2])}
    return Step(model=model, core=model, batch=batch, progress=0.0, generator=torch.Generator())


def test_the_price_of_ltp_by_hand() -> None:
    step = step_of(tiny_policy("ltp", theta_final=0.3, temperature=0.01))
    gates = step.forward(removal="soft").lengths  # (B, L)
    expected = sum(gates[row, layer] / n for row, n in enumerate((6, 9)) for layer in range(LAYERS - 1)) / 2
    found = SoftThresholds(name="soft", epochs=1, backbone_rate=1e-3).losses(step)
    torch.testing.assert_close(found["mean_gates"], expected)


def test_the_price_of_transkimmer_by_hand() -> None:
    step = step_of(tiny_policy("transkimmer"))
    lengths = step.forward(removal="soft").lengths
    expected = sum(lengths[row, layer] / n for row, n in enumerate((6, 9)) for layer in range(LAYERS)) / 2 / LAYERS
    found = Skimming(name="train", epochs=1, backbone_rate=1e-3).losses(step)
    torch.testing.assert_close(found["kept_share"], expected)


def test_the_price_of_power_by_hand() -> None:
    model = tiny_policy("power", lengths=None, longest=9)
    with torch.no_grad():
        model.policy.r.copy_(torch.rand(LAYERS, 9))
    r = model.policy.r.detach()
    found = Search(name="search", epochs=1, backbone_rate=1e-3).losses(step_of(model))
    torch.testing.assert_close(found["mass"].detach(), 1 * r[0, 1:].sum() + 2 * r[1, 1:].sum())


def test_stages_of_ltp_and_power() -> None:
    soft, hard = training_class("ltp")(work(policy="ltp")).stages()
    assert (soft.selects, soft.policy_decay, soft.policy_rate, soft.weights) == (
        "last",
        False,
        2e-5,
        {"mean_gates": 0.1},
    )
    assert (hard.selects, hard.policy_rate, hard.removal, hard.epochs) == ("budget", None, "hard", 5)
    search, retrain = training_class("power")(work(policy="power")).stages()
    assert (search.selects, search.policy_decay, search.weights) == ("last", False, {"mass": 3e-4})
    assert (retrain.selects, retrain.policy_rate) == ("score", None)


def test_the_rates_and_weights_of_the_papers() -> None:
    power, transkimmer = training_class("power"), training_class("transkimmer")
    assert [power.usual_rate(t, learning_rate=1.0) for t in ("mrpc", "sst2", "qnli", "mnli", "x")] == [
        3e-3, 5e-4, 2e-4, 2e-4, 1e-3,
    ]  # fmt: skip
    assert [transkimmer.usual_weight(t) for t in ("imdb", "movies", "sst2")] == [0.2, 0.2, 0.5]
    assert [dict(transkimmer.usual_epochs(t)) for t in ("mrpc", "sst2")] == [{"train": 5}, {"train": 3}]


def test_a_temperature_that_is_asked_for_is_that_of_distillation() -> None:
    for asked, expected in ((None, 1.0), (4.0, 4.0)):
        stage = training_class("trbert")(work(policy_temperature=asked)).stages()[1]
        assert stage.temperature == expected  # type: ignore[attr-defined]


def test_a_control_draws_with_the_seed_of_the_run() -> None:
    training = training_class("random_topk")(work(policy="random_topk", keep=0.5))
    assert training.options() == {"keep": 0.5, "seed": training.work.settings.seed} and training.options()["seed"] == 42


def test_a_fine_tuned_head_is_kept(task_folder: Path, tiny_classifier_folder: Path) -> None:
    """Also where its pooler is small, which "auto" takes for one that was never trained."""
    made = replace(
        work(policy="cls_topk"), start=tiny_classifier_folder, task=load_task(task_folder), reinit_head="yes"
    )
    model = training_class("cls_topk")(made).build()
    saved = load_file(tiny_classifier_folder / "model.safetensors")
    assert torch.equal(model.backbone.classifier.weight, saved["classifier.weight"])
