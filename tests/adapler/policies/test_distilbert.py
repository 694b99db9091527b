"""Students: which layers of the teacher they have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from adapler.backbones.families import view
from adapler.policies.distilbert import make_student, student_layers
from tests.conftest import CLASSIFIERS, padding_of, random_batch, tiny_classifier


def test_every_other_layer() -> None:
    assert student_layers(12) == (0, 2, 4, 7, 9, 11)
    assert student_layers(6) == (0, 2, 4)
    assert student_layers(3) == (0, 2) and student_layers(2) == (0,) and student_layers(7) == (0, 2, 4, 6)
    for layers in range(2, 40):
        chosen = student_layers(layers)
        assert len(chosen) == (layers + 1) // 2 and chosen[0] == 0 and chosen[-1] < layers
        assert list(chosen) == sorted(set(chosen)) and all(b - a <= 3 for a, b in zip(chosen, chosen[1:], strict=False))
        assert layers <= 6 or chosen[-1] == layers - 1


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
def test_a_student_starts_from_its_teachers_layers(family: str, tmp_path: Path) -> None:
    teacher = tiny_classifier(family)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = make_student(teacher)
    assert len(view(student).layers) == student.config.num_hidden_layers == 2 and len(view(teacher).layers) == 3
    for own, theirs in ((0, 0), (1, 2)):
        state, source = view(student).layers[own].state_dict(), view(teacher).layers[theirs].state_dict()
        assert state.keys() == source.keys()
        assert all(torch.equal(value, source[name]) for name, value in state.items())
    # Everything that is not in a layer is there bit for bit: embeddings, head, MPNet's shared relative bias.
    layer_names = {name for name, _ in view(teacher).layers.named_parameters()}
    others = [n for n in before if not any(n.endswith(f".{part}") for part in layer_names)]
    assert len(others) >= 4 and all(torch.equal(student.state_dict()[name], before[name]) for name in others)
    # It is the teacher without the layers between.
    batch = random_batch([9, 4], pad=padding_of(family))
    kept = view(teacher).layers
    del kept[1]
    if family != "modernbert":  # its masks go by the number of a layer
        teacher.config.num_hidden_layers = 2
        view(teacher).encoder.config.num_hidden_layers = 2
        with torch.no_grad():
            torch.testing.assert_close(student(**batch).logits, teacher(**batch).logits)
    # A plain classifier, which shares no memory with the teacher.
    with torch.no_grad():
        next(student.parameters()).add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items() if name in others)
    student.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(again) is type(teacher)
    with torch.no_grad():
        torch.testing.assert_close(again(**batch).logits, student(**batch).logits)
