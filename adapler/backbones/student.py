"""A classifier with about half the layers of another: DistilBERT's student before it learns (Sanh et al., 2019)."""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedModel

from adapler.backbones import family_of, view
from adapler.errors import ArgumentError

# Teachers with more layers give their last one too, as DistilBERT's of twelve does.
DEEP = 6
FEWEST_TEACHER_LAYERS = 2


def student_layers(teacher_layers: int) -> tuple[int, ...]:
    """The teacher's layers that a student has: every other one from the first on.

    Twelve: 0, 2, 4, 7, 9, 11, as DistilBERT. Six: 0, 2, 4. In general 2 i for the i-th of the (L + 1) // 2 layers; with
    more than six layers, an even number, the upper half of the student takes 2 i + 1, so that the last layer is there.

    Raises:
        ArgumentError: fewer than two layers.
    """
    if teacher_layers < FEWEST_TEACHER_LAYERS:
        raise ArgumentError(
            f"teacher: a student needs a teacher of {FEWEST_TEACHER_LAYERS} layers at least, this one has "
            f"{teacher_layers}"
        )
    number = (teacher_layers + 1) // 2
    shifts = teacher_layers > DEEP and teacher_layers % 2 == 0
    return tuple(2 * i + int(shifts and 2 * i >= number) for i in range(number))


def make_student(teacher: PreTrainedModel) -> PreTrainedModel:
    """A classifier of the teacher's kind with every other layer of it; embeddings, head and what layers share as well.

    Args:
        teacher: of a supported family; stays as it is.

    Returns:
        A plain classifier in float32 with copies of the weights, in evaluation mode.
    """
    chosen = student_layers(len(view(teacher).layers))
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(chosen)
    kinds = getattr(config, "layer_types", None)  # ModernBERT: which layers have windows
    if kinds:
        config.layer_types = [kinds[index] for index in chosen]
    config._name_or_path = ""  # a local path says nothing to whoever loads the model later
    student: PreTrainedModel = type(teacher)(config)
    family = family_of(config)
    prefix, weights = f"{family.base}.{family.layers_path}.", teacher.state_dict()
    with torch.no_grad():
        for name, value in student.state_dict().items():
            source = name
            if name.startswith(prefix):
                index, _, rest = name.removeprefix(prefix).partition(".")
                source = f"{prefix}{chosen[int(index)]}.{rest}"
            value.copy_(weights[source])
    return student.eval()
