"""The training of each policy: losses by hand, stages, and the values of the papers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from adapler.backbones.decomposition import removal_guide
from adapler.backbones.families import ready
from adapler.data import load_task
from adapler.policies import LayerView, training_class
from adapler.policies.base import Packed, Step
from adapler.policies.ltp import SoftThresholds
from adapler.policies.power import Search
from adapler.policies.transkimmer import Skimming
from adapler.policies.trbert import Drawn, with_guide
from adapler.training.config import Optimisation
from tests.adapler.policies.policy_models import one_text, tiny_policy
from tests.adapler.policies.test_trbert import soft_model
from tests.adapler.training.common import rows, training_of
from tests.conftest import LAYERS, padding_of, random_batch, tiny_classifier


def step_of(model: Any, *, number: int = 0, **more: Any) -> Step:
    """The first step of eight."""
    batch = {**random_batch([6, 9]), "labels": torch.tensor([0, 2])}
    batch["targets"] = torch.rand(2, 1, 9, generator=torch.Generator().manual_seed(1))
    return Step(
        model=model,
        core=model,
        batch=batch,
        number=number,
        steps=8,
        epoch=0,
        epochs=1,
        by_steps=False,
        share=1.0,
        autocast=nullcontext,
        run_backward=lambda loss, **options: loss.backward(**options),
        generator=torch.Generator().manual_seed(0),
        reduced=lambda tensor: tensor,
        **more,
    )


def training(policy: str, task: str = "tiny", **options: Any) -> Any:
    """The training of a policy with these options, others by default."""
    kind, settings = training_class(policy), Optimisation(learning_rate=1e-4)
    resolved = kind.resolve(kind.Settings(**options), task=task, settings=settings, start="nowhere")
    return training_of(kind, resolved, policy=policy, learning_rate=1e-4)


def test_each_layer_draws_other_tokens() -> None:
    policy, hidden = tiny_policy("random_topk").policy, torch.zeros(30, 2)
    orders = [policy.score(LayerView(i, hidden, one_text(hidden))).argsort() for i in range(2)]
    assert not torch.equal(orders[0], orders[1])


def test_of_tokens_that_cls_does_not_see_the_earlier_ones_stay() -> None:
    model, batch = tiny_policy("cls_topk", "modernbert"), random_batch([20], pad=padding_of("modernbert"))
    with torch.no_grad():
        out = model(**batch)
    unseen = out.retention_mask[0, 1] & (out.contribution_scores[0, 1] < 0)
    kept, gone = (unseen & mask for mask in (out.retention_mask[0, 2], ~out.retention_mask[0, 2]))
    assert kept.any() and gone.any() and kept.nonzero().max() < gone.nonzero().min()


def test_the_price_of_ltp_by_hand() -> None:
    step = step_of(tiny_policy("ltp", theta_final=0.3, temperature=0.01))
    gates = step.model(**step.inputs, removal="soft").lengths  # (B, L)
    expected = sum(gates[row, layer] / n for row, n in enumerate((6, 9)) for layer in range(LAYERS - 1)) / 2
    torch.testing.assert_close(SoftThresholds().losses(step)["mean_gates"], expected)


def test_the_price_of_transkimmer_by_hand() -> None:
    step = step_of(tiny_policy("transkimmer"))
    lengths = step.model(**step.inputs, removal="soft").lengths
    expected = sum(lengths[row, layer] / n for row, n in enumerate((6, 9)) for layer in range(LAYERS)) / 2 / LAYERS
    torch.testing.assert_close(Skimming().losses(step)["kept_share"], expected)


def test_the_price_of_power_by_hand() -> None:
    model = tiny_policy("power", lengths=None, longest=9)
    with torch.no_grad():
        model.policy.r.copy_(torch.rand(LAYERS, 9))
    r = model.policy.r.detach()
    found = Search().losses(step_of(model))
    torch.testing.assert_close(found["mass"].detach(), 1 * r[0, 1:].sum() + 2 * r[1, 1:].sum())


def test_stages_of_ltp_and_power() -> None:
    soft, hard = training("ltp").stages()
    assert (soft.selects, soft.no_decay, soft.rates["policy"], soft.weights) == (
        "last",
        ("policy",),
        2e-5,
        {"mean_gates": 0.1},
    )
    assert (hard.selects, hard.rates, hard.removal, hard.epochs) == ("budget", {"backbone": 1e-4}, "hard", 5)
    search, retrain = training("power").stages()
    assert (search.selects, search.no_decay, search.weights) == ("last", ("policy",), {"mass": 3e-4})
    assert (retrain.selects, retrain.rates) == ("score", {"backbone": 1e-4})


def test_the_values_of_the_papers() -> None:
    rates = [training("power", task).options.policy_learning_rate for task in ("mrpc", "sst2", "qnli", "mnli", "x")]
    assert rates == [3e-3, 5e-4, 2e-4, 2e-4, 1e-3]
    weights = [training("transkimmer", task).options.policy_weight for task in ("imdb", "movies", "sst2")]
    assert weights == [[0.2], [0.2], [0.5]]
    assert [training("transkimmer", task).options.policy_epochs for task in ("mrpc", "sst2")] == [[5], [3]]
    assert [training("ltp", task).options.policy_epochs for task in ("mrpc", "sst2")] == [[10, 5], [1, 5]]
    with pytest.raises(ValueError, match="^--policy-epochs: 1 value for 2 stages$"):
        training("ltp", policy_epochs=[1])


def test_thresholds_of_ltp_rise_to_half_the_mean_score_of_a_token() -> None:
    """Whatever the length of the texts: a threshold of the paper's .01 would drop most of a text of 400 tokens."""
    lengths = [len(ids) for ids in rows()["input_ids"]]
    made = training("ltp").model_options()
    assert made == {"theta_final": pytest.approx(0.5 * len(lengths) / sum(lengths))}
    assert training("ltp", policy_temperature=0.002).model_options()["temperature"] == 0.002


def test_points_and_their_folders() -> None:
    kind = training_class("trbert")
    points = kind.points(kind.Settings(policy_weight=[0.3, 1.0]))
    assert [kind.point_name("trbert", one) for one in points] == ["trbert-0.3", "trbert-1"]
    kind = training_class("cls_topk")
    assert kind.point_name("cls_topk", kind.Settings()) == "cls_topk-keep-0.7"
    kind = training_class("adapler")
    points = kind.points(kind.Settings(phi=[1e-3, 0.1], freeze_backbone=True))
    assert [kind.point_name("adapler", one) for one in points] == ["phi-0.001-post-hoc", "phi-0.1-post-hoc"]
    (point,) = kind.points(kind.Settings(target_speedup=[4.0]))
    assert kind.point_name("adapler", point) == "speedup-4"
    assert training_class("distilbert").point_name("distilbert", None) == "distilbert"


def test_a_control_draws_with_the_seed_of_the_run() -> None:
    assert training("random_topk", keep=[0.5]).model_options() == {"keep": 0.5, "seed": 42}
    assert training("cls_topk", keep=[0.5]).model_options() == {"keep": 0.5}


def test_a_fine_tuned_head_is_kept(task_folder: Path, tiny_classifier_folder: Path) -> None:
    """Also where its pooler is small, which "auto" takes for one that was never trained."""
    made = training("cls_topk")
    made.start, made.prepared.task, made.config.reinit_head = tiny_classifier_folder, load_task(task_folder), "yes"
    saved = load_file(tiny_classifier_folder / "model.safetensors")
    assert torch.equal(made.build().backbone.classifier.weight, saved["classifier.weight"])


# TR-BERT


def test_stages_of_trbert() -> None:
    first, second = training("trbert").stages()
    assert (first.name, first.epochs, first.rates, first.distils) == ("policy", 3, {"policy": 3e-5}, False)
    assert (second.name, second.rates, second.distils) == ("joint", {"backbone": 1e-4, "policy": 3e-5}, True)
    assert first.alpha == second.alpha == 1.0 and first.guide_rate == 0.5 and second.guide_rate == 0
    other = training("trbert", policy_weight=[0.3], policy_temperature=4.0, policy_epochs=[1, 2]).stages()
    assert [stage.epochs for stage in other] == [1, 2] and other[0].alpha == 0.3 and other[1].temperature == 4.0


def test_the_first_sample_of_each_text_imitates_while_the_guide_lasts() -> None:
    stage, now = training("trbert").stages()[0], step_of(soft_model())
    found = stage._imitation(now)
    assert found["imitates"].view(8, 2).tolist() == [[True] * 2, *[[False] * 2] * 7]
    assert all(torch.equal(one, now.batch["targets"]) for one in found["guide"].view(8, 2, 1, 9))
    assert stage._imitation(step_of(soft_model(), number=4)) == {}


def test_where_all_tokens_stay_the_losses_are_those_of_the_whole_texts() -> None:
    model, stage = soft_model(), training("trbert", policy_temperature=4.0).stages()[1]
    with torch.no_grad():
        for head in model.policy.heads.values():
            head.keep.weight.zero_()
            head.keep.bias.fill_(80.0)
        now = step_of(model, taught=torch.randn(2, 3))
        found = stage.losses(now)
        inputs = {name: now.batch[name] for name in ("input_ids", "attention_mask")}
        logits = model(**inputs, removal="none").logits
        expected = -((now.taught / 4).softmax(-1) * (logits / 4).log_softmax(-1)).sum(-1).mean()
    assert found["kept"] == 1
    torch.testing.assert_close(found["distillation"], expected)
    torch.testing.assert_close(found["reward"], -expected - stage.alpha)


def test_the_policy_alone_and_both() -> None:
    """The policy's loss trains the policy, the task's the backbone."""
    model = soft_model()
    for stage, taught in zip(training("trbert").stages(), (None, torch.randn(2, 3)), strict=True):
        assert isinstance(stage, Drawn)
        model.zero_grad()
        losses = stage.losses(step_of(model, taught=taught))
        assert 0 < float(losses["kept"]) < 1
        losses["policy"].backward(retain_graph=True)
        assert model.policy.heads["1"].dense.weight.grad.abs().max() > 0
        assert model.backbone.bert.embeddings.word_embeddings.weight.grad is None
        losses["distillation" if stage.distils else "cross_entropy"].backward()
        assert model.backbone.bert.embeddings.word_embeddings.weight.grad is not None


def test_the_guide_of_a_training_set() -> None:
    classifier, data = tiny_classifier(), rows().remove_columns("targets")
    found = with_guide(data, classifier, points=(1,), pad_token_id=0)
    for row in found.select(range(4)):
        batch = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask")}
        guide = removal_guide(classifier, {**batch, "labels": torch.tensor([row["labels"]])}, points=(1,))[0]
        torch.testing.assert_close(torch.tensor(row["targets"]), guide, atol=1e-6, rtol=1e-3)


# DistilBERT


def test_losses_of_distilbert_by_hand() -> None:
    """Without dropout, against the classifier's own forward pass."""
    student = ready(tiny_classifier(num_hidden_layers=2))
    taught = torch.randn(2, 3)
    step = step_of(student, taught=taught)
    losses = Packed(temperature=3.0).losses(step)
    inputs = {name: step.batch[name] for name in ("input_ids", "attention_mask")}
    output = student(**inputs)
    torch.testing.assert_close(losses["cross_entropy"], functional.cross_entropy(output.logits, step.batch["labels"]))
    divergence = functional.kl_div((output.logits / 3).log_softmax(-1), (taught / 3).softmax(-1), reduction="batchmean")
    torch.testing.assert_close(losses["logit_distillation"], 9 * divergence)
