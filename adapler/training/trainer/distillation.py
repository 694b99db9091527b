"""The teacher of a training: the fine-tuned classifier, which stays as it is."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from adapler.backbones import ready
from adapler.errors import ArgumentError
from adapler.training.settings import Objectives


def teacher_of(model: Any, teacher: PreTrainedModel | None, *, objectives: Objectives) -> PreTrainedModel | None:
    """The classifier to distil from, ready for `plain_pass`; None when nothing is distilled.

    Args:
        model: the AdapLeRForSequenceClassification that is trained. With a frozen backbone that is the teacher itself.
        teacher: a fine-tuned classifier that reads the same token ids; it is changed (evaluation mode, no gradients).
        objectives: say whether one is needed.

    Raises:
        ArgumentError: one is needed and there is none, or its vocabulary, labels or width are not the model's.
    """
    if not objectives.distils:
        return None
    if objectives.freeze_backbone:
        own: PreTrainedModel = model.backbone
        return own
    name = "--logit-distillation" if objectives.logit_distillation else "--state-distillation"
    if teacher is None:
        raise ArgumentError(f"{name}: needs a fine-tuned classifier to learn from; --finetuned names one")
    student = model.backbone.config
    widths = ("hidden_size",) if objectives.state_distillation else ()
    for field in ("vocab_size", "num_labels", *widths):
        theirs, ours = getattr(teacher.config, field), getattr(student, field)
        if theirs != ours:
            raise ArgumentError(f"{name}: the teacher has {field} {theirs}, the model {ours}")
    return ready(teacher).requires_grad_(False).eval()
