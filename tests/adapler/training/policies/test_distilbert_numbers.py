"""The student's numbers in an evaluation."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from adapler.backbones import ready
from adapler.flops import backbone_flops
from adapler.inference.evaluation import classifier_score
from adapler.training.policies.distilbert import DistilBertTraining
from tests.adapler.inference.test_evaluation import LENGTHS, rows
from tests.conftest import tiny_classifier


def test_an_evaluation_is_of_the_student_beside_the_teacher() -> None:
    teacher, student = ready(tiny_classifier()), ready(tiny_classifier(num_hidden_layers=2, seed=3))
    data = rows([0, 1, 2, 0, 1])
    said = []
    for model in (teacher, student):
        with torch.no_grad():
            said.append([int(model(torch.tensor([ids])).logits.argmax()) for ids in data["input_ids"]])
    assert said[0] != said[1]
    data = data.remove_columns("labels").add_column("labels", said[1])  # the student is right everywhere
    training = DistilBertTraining.__new__(DistilBertTraining)
    training.work = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0), load_teacher=lambda: teacher)  # type: ignore[assignment]
    found = training.evaluate(student, data, metric="accuracy")
    same = sum(a == b for a, b in zip(*said, strict=True)) / 5
    hard = found["hard"][0]
    assert (found["none"]["score"], hard["score"], hard["agreement"]) == (same, 1.0, same) and same != 0.5
    assert classifier_score(student, data, pad_token_id=0) == 1.0
    for name, convention in (("speedup", "paper"), ("speedup_executed", "executed")):
        theirs, own = (
            backbone_flops(one.config, torch.tensor(LENGTHS), convention=convention).sum() for one in (teacher, student)
        )
        assert hard[name] == float(theirs / own)
    assert hard["speedup"] != hard["speedup_executed"]
