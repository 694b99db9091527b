"""DistilBERT as a system to compare with: a student with half the layers, distilled on the task (Sanh et al., 2019).

It drops no token. Its folder holds a plain transformers classifier.

Dimensions: B batch, L layers, C labels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapler.options import option
from adapler.policies.base import Packed, Stage, Training, TrainingOptions, system

TEMPERATURE = 2.0
# Teachers with more layers give their last one too, as DistilBERT's of twelve does.
DEEP = 6
FEWEST_TEACHER_LAYERS = 2


@dataclass(kw_only=True)
class DistilBertOptions(TrainingOptions):
    """Training of DistilBERT."""

    policy_temperature: float = option("temperature of the distillation", default=TEMPERATURE)


@system("distilbert")
class DistilBert(Training):
    """One stage of distillation on the task, of a student with every other layer of the classifier or encoder."""

    Settings, one_process, fewest_layers = DistilBertOptions, True, FEWEST_TEACHER_LAYERS

    @cached_property
    def teacher(self) -> Any:
        return self.load_teacher()

    def build(self, **config: Any) -> Any:
        from adapler.backbones.families import ready
        from adapler.modeling import load_classifier

        source = load_classifier(self.start, labels=list(self.prepared.task.labels))
        return ready(make_student(self.with_new_head(source)))

    def stages(self) -> list[Stage]:
        return [
            Packed(
                name="distil",
                epochs=self.options.policy_epochs[0],
                rates={"backbone": self.config.optimisation.learning_rate},
                distils=True,
                temperature=self.options.policy_temperature,
            )
        ]

    def load(self, folder: str | Path) -> Any:
        from adapler.backbones.families import ready
        from adapler.modeling import load_classifier

        return ready(load_classifier(folder))

    def speedup(self, model: Any, lengths_in: Tensor, lengths: Tensor, **how: Any) -> float:
        from adapler.flops import backbone_flops

        theirs, own = (backbone_flops(one.config, lengths_in, **how).sum() for one in (self.teacher, model))
        return float(theirs / own)


def student_layers(teacher_layers: int) -> tuple[int, ...]:
    """The teacher's layers that a student has: every other one from the first on.

    Twelve: 0, 2, 4, 7, 9, 11, as DistilBERT. Six: 0, 2, 4. In general 2 i for the i-th of the (L + 1) // 2 layers; with
    more than six layers, an even number, the upper half of the student takes 2 i + 1, so that the last layer is there.
    """
    number = (teacher_layers + 1) // 2
    shifts = teacher_layers > DEEP and teacher_layers % 2 == 0
    return tuple(2 * i + int(shifts and 2 * i >= number) for i in range(number))


def make_student(teacher: Any) -> Any:
    """A plain classifier of the teacher's kind, in evaluation mode, with copies of every other layer of it; embeddings,
    head and what layers share as well. The teacher stays as it is."""
    from adapler.backbones.families import family_of, view

    chosen = student_layers(len(view(teacher).layers))
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(chosen)
    kinds = getattr(config, "layer_types", None)  # ModernBERT: which layers have windows
    if kinds:
        config.layer_types = [kinds[index] for index in chosen]
    config._name_or_path = ""  # a local path says nothing to whoever loads the model later
    student = type(teacher)(config)
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
