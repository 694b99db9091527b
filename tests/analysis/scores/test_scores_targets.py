"""The option `target`, against gradients and differences of logits computed without our code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from adapler.backbones.attribution.saliency import layer_saliency
from adapler.backbones.targets import target_weights
from adapler.errors import ArgumentError
from analysis.scores import get_method, method_names
from analysis.scores.shared.targets import target_value
from tests.analysis.scores.score_helpers import FEW, batch_for, logits_of
from tests.conftest import tiny_classifier

pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")
NAMES = {0: "NEG", 1: "neutral", 2: "POS"}
LOGITS = torch.tensor([[1.0, 3.0, 2.0], [5.0, -1.0, 0.0]])
GOLD = torch.tensor([2, 1])
# target -> the value of LOGITS' rows: class minus the strongest other in a contrast
VALUES = {
    "predicted": [3.0, 5.0],
    "gold": [2.0, -1.0],
    "pos": [2.0, 0.0],
    "NEG": [1.0, 5.0],
    1: [3.0, -1.0],
    "2": [2.0, 0.0],
    "contrast": [1.0, 5.0],
    "contrast:predicted": [1.0, 5.0],
    "contrast:gold": [-1.0, -6.0],
    "contrast: gold": [-1.0, -6.0],
    "contrast:neg": [-2.0, 5.0],
    "contrast:1": [1.0, -6.0],
}
WITH_TARGET = [name for name in method_names() if "target" in get_method(name).options]


@pytest.mark.parametrize("target", list(VALUES), ids=str)
def test_values_by_hand(target: Any) -> None:
    weights = target_weights(target, LOGITS, labels=GOLD, id2label=NAMES)
    torch.testing.assert_close(target_value(LOGITS, weights), torch.tensor(VALUES[target]))


def test_the_other_class_stays_when_the_input_changes() -> None:
    weights = target_weights("contrast", LOGITS)  # 1 against 2, 0 against 2
    changed = torch.tensor([[9.0, 0.0, 4.0], [0.0, 9.0, 4.0]])
    torch.testing.assert_close(target_value(changed, weights), torch.tensor([-4.0, -4.0]))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "bad",
            r"'bad' is no class of this model; allowed are predicted, gold, a class - NEG \(0\), neutral \(1\), POS",
        ),
        ("contrast:bad", "'bad' is no class of this model"),
        (3, "3 is no class of this model"),
        (-1, "-1 is no class of this model"),
        ("1" * 5000, "is no class of this model"),
        ("gold", "needs the gold labels"),
    ],
)
def test_wrong_targets(target: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        target_weights(target, LOGITS, id2label=NAMES)


def test_a_number_that_is_one_classs_index_and_anothers_name() -> None:
    names = {0: "1", 1: "2", 2: "3"}
    for number in (1, 3):
        with pytest.raises(ArgumentError, match=f"^target: {number} is ambiguous: .* a label called '{number}'"):
            target_weights(number, LOGITS, id2label=names)
    assert target_value(LOGITS, target_weights("1", LOGITS, id2label=names)).tolist() == [1.0, 5.0]
    assert target_value(LOGITS, target_weights(0, LOGITS, id2label=names)).tolist() == [1.0, 5.0]
    assert target_value(LOGITS, target_weights(1, LOGITS, id2label={0: "0", 1: "1"})).tolist() == [3.0, -1.0]


def test_a_name_of_two_classes_and_a_contrast_of_one() -> None:
    names = {0: "POS", 1: "Pos", 2: "x"}
    with pytest.raises(ArgumentError, match="'pos' is the name of several classes"):
        target_weights("pos", LOGITS, id2label=names)
    assert target_value(LOGITS, target_weights("POS", LOGITS, id2label=names)).tolist() == [1.0, 5.0]
    with pytest.raises(ArgumentError, match="needs a classifier with two classes"):
        target_weights("contrast", LOGITS[:, :1])


def value_of(target: str, logits: Tensor, gold: Tensor) -> Callable[[Tensor], Tensor]:
    """(B, C) -> (B,), written out: the classes are those of `logits`."""
    name = target.removeprefix("contrast:")
    if name == "gold":
        mine = gold
    elif name in ("predicted", "contrast"):
        mine = logits.argmax(-1)
    else:
        mine = torch.full_like(gold, int(name))
    rows = torch.arange(len(logits))
    if not target.startswith("contrast"):
        return lambda z: z[rows, mine]
    other = torch.tensor(
        [max((c for c in range(3) if c != m), key=lambda c: row[c]) for m, row in zip(mine, logits, strict=True)]
    )
    return lambda z: z[rows, mine] - z[rows, other]


TARGETS = ("gold", "2", "contrast", "contrast:gold", "contrast:0")


@pytest.mark.parametrize("target", TARGETS)
def test_gradient_methods(target: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    assert batch.labels is not None
    value = value_of(target, logits_of(model, batch), batch.labels)
    output = model(**batch.model_inputs(), output_hidden_states=True)
    hidden = output.hidden_states[:-1]
    gradients = torch.autograd.grad(value(output.logits).sum(), hidden)
    real = batch.attention_mask[:, None]
    products = torch.stack([g * h for g, h in zip(gradients, hidden, strict=True)], 1).detach()
    norms = products.norm(dim=-1) * real
    scores = {name: get_method(name, target=target)(model, batch).scores for name in ("saliency", "saliency_signed")}
    torch.testing.assert_close(scores["saliency"], norms / norms.sum(-1, keepdim=True))
    torch.testing.assert_close(scores["saliency_signed"], products.sum(-1) * real)
    given = {**batch.model_inputs(), "labels": batch.labels}
    torch.testing.assert_close(layer_saliency(model, given, target=target), scores["saliency"])
    for order in (1, 2):
        sizes = torch.stack([g.norm(p=order, dim=-1) for g in gradients], 1) * real
        found = get_method(f"gradient_l{order}", target=target)(model, batch).scores
        torch.testing.assert_close(found, sizes / sizes.sum(-1, keepdim=True))


@pytest.mark.parametrize("target", TARGETS)
def test_attention_gradients(target: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    assert batch.labels is not None
    value = value_of(target, logits_of(model, batch), batch.labels)
    twin = tiny_classifier()
    twin.set_attn_implementation("eager")
    output = twin(**batch.model_inputs(), output_attentions=True)
    gradients = torch.autograd.grad(value(output.logits).sum(), output.attentions)
    maps = [(g * a).detach().clamp_min(0).mean(1) for g, a in zip(gradients, output.attentions, strict=True)]
    local = torch.stack([one[:, 0] for one in maps], 1)
    found = get_method("attention_gradient_local", target=target)(model, batch).scores
    torch.testing.assert_close(found, local / local.sum(-1, keepdim=True).clamp_min(1e-30), atol=1e-6, rtol=1e-4)
    last = get_method("attention_gradient", target=target)(model, batch).scores[:, -1]
    torch.testing.assert_close(last, found[:, -1], atol=1e-6, rtol=1e-4)  # nothing is above the last layer


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("integrated_gradients", {"n_steps": 100}),
        ("layer_integrated_gradients", {"n_steps": 100}),
        ("kernel_shap", {"n_samples": 300}),
    ],
)
def test_what_adds_up_to_the_difference_of_the_value(name: str, options: dict[str, Any], target: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert", [1])
    assert batch.labels is not None and batch.special is not None
    logits = logits_of(model, batch)
    value = value_of(target, logits, batch.labels)
    masked = replace(batch, input_ids=torch.where(batch.special, batch.input_ids, 4), _memo={})
    expected = value(logits) - value(logits_of(model, masked))  # (1,)
    sums = get_method(name, target=target, **options)(model, batch).scores.sum(-1)  # (1, L')
    torch.testing.assert_close(sums, expected[:, None].expand_as(sums), atol=1e-2, rtol=2e-2)


@pytest.mark.parametrize("target", TARGETS)
def test_occlusion(target: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    assert batch.labels is not None and batch.special is not None
    logits = logits_of(model, batch)
    value = value_of(target, logits, batch.labels)
    found = get_method("occlusion", target=target)(model, batch).scores[:, 0]
    for place in range(1, 3):
        ids = batch.input_ids.clone()
        ids[:, place] = 4
        lost = value(logits) - value(logits_of(model, replace(batch, input_ids=ids, _memo={})))
        there = batch.attention_mask[:, place].bool() & ~batch.special[:, place]
        torch.testing.assert_close(found[there, place], lost[there], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", WITH_TARGET)
def test_every_family_follows_its_target(name: str) -> None:
    """A contrast is a difference of two classes: signed scores of linear methods are the difference of theirs."""
    model, few = tiny_classifier(), FEW.get(name, {})
    signed = {"reduction": "signed"} if "reduction" in get_method(name).options else {}

    def scores(target: str) -> Tensor:
        return get_method(name, target=target, **few, **signed)(model, batch_for("bert")).scores

    classes = [scores(str(index)) for index in range(3)]
    assert not torch.allclose(classes[0], classes[1]) and not torch.allclose(classes[1], classes[2])
    model.config.id2label = NAMES
    torch.testing.assert_close(scores("pos"), classes[2])
    contrast = scores("contrast:2")
    result = get_method(name, **few, **signed)(model, batch_for("bert"))
    if result.signed and name != "deeplift":  # its rescale rule is not linear in the weights of the logits
        other = logits_of(model, batch_for("bert"))[:, :2].argmax(-1)
        expected = classes[2] - torch.stack([classes[int(o)][row] for row, o in enumerate(other)])
        torch.testing.assert_close(contrast, expected, atol=1e-3, rtol=1e-2)
    with pytest.raises(ArgumentError, match=r"is no class of this model; allowed are predicted, gold, a class - NEG"):
        scores("maybe")


def test_on_the_command_line() -> None:
    assert get_method("saliency(target=NEG)").options["target"] == "NEG"
    contrast = get_method("saliency(target=contrast:NEG)")
    assert contrast.options["target"] == "contrast:NEG" and get_method(contrast.key) == contrast
    assert get_method("lime(target=very negative, n_samples=9)").options["target"] == "very negative"
    assert get_method("saliency(target=1)").options["target"] == 1
    gold = get_method("saliency_gold")
    assert gold.key == "saliency_gold" and gold.options["target"] == "gold" and gold.needs_labels
    assert get_method("saliency(target=gold)").needs_labels and not get_method("saliency").needs_labels
