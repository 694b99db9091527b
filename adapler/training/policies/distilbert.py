"""DistilBERT as a system to compare with: a student with half the layers, distilled on the task (Sanh et al., 2019).

It drops no token. Its folder holds a plain transformers classifier.

Dimensions: B batch, L layers, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, get_args

import datasets
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from adapler.backbones import ready
from adapler.backbones.loading import is_fine_tuned, load_classifier, read_config, reinitialise_head
from adapler.backbones.student import FEWEST_TEACHER_LAYERS, make_student, student_layers
from adapler.errors import ArgumentError
from adapler.flops import Convention, backbone_flops
from adapler.inference.evaluation import classify, score_by_example
from adapler.inference.predict import predict_dataset
from adapler.passes import plain_pass_of
from adapler.training.losses import logit_distillation
from adapler.training.policies.base import PolicyTraining, policy_training
from adapler.training.policies.stage import Stage, Step

TEMPERATURE = 2.0
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


@dataclass(frozen=True, kw_only=True)
class Distilled(Stage):
    """Cross-entropy, the divergence of the logits from the teacher's, and the angle between the heads' states.

    Attributes:
        temperature: t of the divergence, t^2 KL(softmax(teacher / t) || softmax(student / t)).
    """

    temperature: float = TEMPERATURE

    def losses(self, step: Step) -> dict[str, Tensor]:
        """See the class; `cosine` is 1 - cos of the states that the heads read."""
        logits, states = plain_pass_of(step.core, step.batch)  # (B, C), (B, D)
        if step.taught is None or step.taught_states is None:
            raise ArgumentError("teacher: distillation needs the fine-tuned classifier's logits and states")
        angles = functional.cosine_similarity(states.float(), step.taught_states.float(), dim=-1)  # (B,)
        return {
            "cross_entropy": functional.cross_entropy(logits.float(), step.batch["labels"]),
            "logit_distillation": logit_distillation(logits, step.taught, temperature=self.temperature),
            "cosine": 1 - angles.mean(),
        }


@policy_training("distilbert")
class DistilBertTraining(PolicyTraining):
    """One stage of distillation on the task."""

    usual: ClassVar[Mapping[str, int]] = {"distil": 3}
    unused: ClassVar[tuple[str, ...]] = ("policy_learning_rate",)
    usual_temperature: ClassVar[float | None] = TEMPERATURE
    one_process: ClassVar[bool] = True
    fewest_layers: ClassVar[int] = FEWEST_TEACHER_LAYERS

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """The fine-tuned classifier."""
        return self.work.load_teacher()

    def build(self) -> PreTrainedModel:
        """The student: every other layer of the classifier or encoder that the run starts from."""
        source = load_classifier(self.work.start, labels=list(self.work.task.labels))
        if not is_fine_tuned(read_config(self.work.start)):
            reinitialise_head(source, mode=self.work.reinit_head, fine_tuned=False)
        return ready(make_student(source))

    def stages(self) -> tuple[Stage, ...]:
        """See the class."""
        return (
            Distilled(
                name="distil",
                epochs=self.epochs["distil"],
                removal="none",
                backbone_rate=self.work.settings.learning_rate,
                weights={"cosine": self.work.policy.student_cosine},
                distils=True,
                temperature=self.chosen["policy_temperature"],
            ),
        )

    def load(self, folder: str | Path) -> PreTrainedModel:
        """The student that the stage saved."""
        return ready(load_classifier(folder))

    def facts(self, model: Any) -> dict[str, Any]:
        """The layers that the student began with, and the teacher's configuration, which FLOPs count against."""
        config = self.teacher.config.to_dict()
        config.pop("_name_or_path", None)
        return {"teacher_layers": list(student_layers(self.teacher.config.num_hidden_layers)), "teacher_config": config}

    def speedup(self, model: Any, lengths_in: Tensor, lengths: Tensor | None) -> float:
        """FLOPs of the teacher over the student's."""
        return student_speedup(self.teacher.config, model.config, lengths_in)

    def evaluate(self, model: Any, rows: datasets.Dataset, *, metric: str) -> dict[str, Any]:
        """In the form of `evaluate_rows`: `none` is the teacher, `hard` the student."""
        options = {"pad_token_id": self.work.tokenizer.pad_token_id}
        owners, labels = list(rows["example_id"]), rows["labels"]
        plain = predict_rows(self.teacher, rows, progress="the teacher", **options)
        found = predict_rows(model, rows, progress="the student", **options)
        pairs = list(zip(classify(found, owners), classify(plain, owners), strict=True))
        speedups = {
            convention: student_speedup(self.teacher.config, model.config, found.lengths_in, convention=convention)
            for convention in CONVENTIONS
        }
        return {
            "metric": metric,
            "examples": len(pairs),
            "rows": len(rows),
            "none": {"score": score_by_example(plain.logits, labels, owners, metric=metric)},
            "hard": [
                {
                    "threshold_scale": 1.0,
                    "score": score_by_example(found.logits, labels, owners, metric=metric),
                    "speedup": speedups["paper"],
                    "speedup_executed": speedups["executed"],
                    "lengths_in": float(found.lengths_in.double().mean()),
                    "lengths": [float(n) for n in found.lengths.double().mean(0)],
                    "agreement": sum(student == teacher for student, teacher in pairs) / len(pairs),
                }
            ],
        }


def student_speedup(teacher: Any, student: Any, lengths_in: Tensor, *, convention: Convention = "paper") -> float:
    """FLOPs of one plain classifier over another's, from their configurations, on texts of (B,) tokens."""
    theirs, own = (backbone_flops(one, lengths_in, convention=convention).sum() for one in (teacher, student))
    return float(theirs / own)
