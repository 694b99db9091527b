"""The option `target`: values by hand, and a contrast as the difference of two classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adapler.backbones.families import target_weights
from adapler.errors import ArgumentError
from analysis.scores import get_method, method_names
from analysis.scores.base import target_value
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
