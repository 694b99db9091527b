"""`adapler run --policy distilbert`: a student that starts from its teacher's layers, and a plain classifier after."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from adapler import AdapLeRForSequenceClassification, ArgumentError
from adapler.backbones import ready
from adapler.backbones.loading import load_classifier
from adapler.cli.parser import main
from adapler.flops import backbone_flops
from adapler.training.policies.distilbert import DistilBertTraining, Distilled, student_speedup
from adapler.training.policies.stage import Step
from adapler.training.policies.trainer import PolicyTrainer
from adapler.training.records import model_checksum
from adapler.training.stages.finetune import best_epochs
from tests.adapler.training.common import QUICK
from tests.adapler.training.policies.test_trbert_stages import work
from tests.conftest import random_batch, tiny_classifier

POINT = "distilbert"


def words(task: Path, model: Path, output: Path) -> list[str]:
    common = ["run", "--task", str(task), "--model", str(model), "--output", str(output), "--policy", "distilbert"]
    return [*common, "--policy-epochs", "2", "--learning-rate", "1e-3", *QUICK]


@pytest.fixture(scope="module")
def whole(task_folder: Path, tiny_classifier_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distilbert") / "run"
    assert main(words(task_folder, tiny_classifier_folder, folder)) == 0
    return folder


def test_a_whole_run(whole: Path, task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    folder, finetuned = whole / POINT, whole / "finetuned"
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    teacher = load_classifier(finetuned)
    assert type(plain) is type(teacher) and plain.config.num_hidden_layers == 2
    assert plain.config.id2label == {0: "NEG", 1: "POS"}
    record = json.loads((folder / "run.json").read_text())
    assert record["teacher_layers"] == [0, 2] and record["teacher_config"]["num_hidden_layers"] == 3
    assert [stage["stage"] for stage in record["stages"]] == ["distil"] and len(record["epochs"]) == 2
    table = pd.read_csv(whole / "tradeoff-distilbert.csv")
    for split in ("validation", "test"):
        result = json.loads((folder / f"evaluation-{split}.json").read_text())
        hard = result["hard"][0]
        assert hard["speedup"] == table[f"{split}_speedup"][0] and 1.3 < hard["speedup"] < 1.5
        assert hard["speedup_executed"] > 1 and len(hard["lengths"]) == 2 and result["split"] == split
        assert 0 <= hard["agreement"] <= 1 and hard["lengths"][0] == hard["lengths_in"]
        reference = json.loads((finetuned / "run.json").read_text())["validation"]["accuracy"]
        assert split == "test" or result["none"]["score"] == reference, "of the teacher"
    assert not (whole / "saliency").exists() and not (folder / "stages").exists()
    # Our tools take it as any classifier.
    model = AdapLeRForSequenceClassification.from_backbone(folder)
    assert model.num_layers == 2
    # A second run trains nothing.
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert main(words(task_folder, tiny_classifier_folder, whole)) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("start", ["finetuned", "pretrained"])
def test_it_starts_from_the_layers_of_the_runs_start(
    start: str, whole: Path, task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Bit for bit, when the first step begins."""
    copy, seen = Path(shutil.copytree(whole, tmp_path / "run")), []
    shutil.rmtree(copy / POINT)

    def stopping(self: Any, *args: Any, **options: Any) -> Any:
        seen.append({name: value.clone() for name, value in self.core.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(PolicyTrainer, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        main([*words(task_folder, tiny_classifier_folder, copy), "--start", start])
    source = load_file((copy / "finetuned" if start == "finetuned" else tiny_classifier_folder) / "model.safetensors")
    student = seen[0]
    for name, value in student.items():
        assert torch.equal(value, source[name.replace("layer.1.", "layer.2.")]), name
    assert any("layer.1." in name for name in student) and not any("layer.2." in name for name in student)


def test_a_student_of_the_encoder_is_that_of_its_teacher_alone(
    whole: Path, task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    """The classifier can be another one with the same score; where the student starts does not say which it was."""
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    assert "teacher_checksum" not in json.loads((copy / POINT / "run.json").read_text()), "it is where training starts"
    shutil.rmtree(copy / POINT)
    arguments = [*words(task_folder, tiny_classifier_folder, copy), "--start", "pretrained"]
    assert main(arguments) == 0
    file = copy / POINT / "run.json"
    record = json.loads(file.read_text())
    assert record["teacher_checksum"] == model_checksum(best_epochs(copy / "finetuned", most=1)[0])
    assert main(arguments) == 0
    file.write_text(json.dumps(record | {"teacher_checksum": "of another classifier"}), encoding="utf-8")
    with pytest.raises(ArgumentError, match="holds a finished run with teacher_checksum of another classifier, not"):
        main(arguments)


@pytest.mark.parametrize("steps", [2, 4])
def test_a_run_that_was_stopped_goes_on_to_the_same_student(
    steps: int, whole: Path, task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(copy / POINT)
    taken, step = 0, PolicyTrainer.training_step

    def stopping(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken > steps:  # of 3 in an epoch
            raise KeyboardInterrupt
        return step(self, *args, **options)

    monkeypatch.setattr(PolicyTrainer, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        main(words(task_folder, tiny_classifier_folder, copy))
    whole_epochs, taken, steps = steps // 3 * 3, 0, 100  # none is stopped any more
    assert main(words(task_folder, tiny_classifier_folder, copy)) == 0
    assert taken == 6 - whole_epochs, "it goes on behind the last whole epoch"
    one, other = (load_file(folder / POINT / "model.safetensors") for folder in (whole, copy))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_flops_are_those_of_two_backbones() -> None:
    teacher, student = tiny_classifier().config, tiny_classifier(num_hidden_layers=2).config
    lengths = torch.tensor([9, 4])
    for convention in ("paper", "executed"):
        ratio = student_speedup(teacher, student, lengths, convention=convention)  # type: ignore[arg-type]
        theirs, own = (backbone_flops(one, lengths, convention=convention).sum() for one in (teacher, student))  # type: ignore[arg-type]
        assert ratio == float(theirs / own) > 1
    deep, half = tiny_classifier(num_hidden_layers=12).config, tiny_classifier(num_hidden_layers=6).config
    assert 1.9 < student_speedup(deep, half, torch.tensor([30])) < 2


def test_its_losses_by_hand() -> None:
    """Without dropout, against the classifier's own forward pass."""
    student, batch = ready(tiny_classifier(num_hidden_layers=2)), random_batch([7, 4])
    labels, taught, states = torch.tensor([2, 0]), torch.randn(2, 3), torch.randn(2, 16)
    stage = Distilled(name="distil", epochs=1, backbone_rate=1e-3, temperature=3.0)
    step = Step(
        model=student, core=student, batch={**batch, "labels": labels}, progress=0.0, generator=torch.Generator(),
        taught=taught, taught_states=states,
    )  # fmt: skip
    losses = stage.losses(step)
    output = student(**batch, output_hidden_states=True)
    own = output.hidden_states[-1][:, 0]
    torch.testing.assert_close(losses["cross_entropy"], functional.cross_entropy(output.logits, labels))
    divergence = functional.kl_div((output.logits / 3).log_softmax(-1), (taught / 3).softmax(-1), reduction="batchmean")
    torch.testing.assert_close(losses["logit_distillation"], 9 * divergence)
    cosine = (own * states).sum(-1) / own.norm(dim=-1) / states.norm(dim=-1)
    torch.testing.assert_close(losses["cosine"], 1 - cosine.mean())


def test_the_cosine_counts_when_it_is_asked_for() -> None:
    weights = [
        DistilBertTraining(work(policy="distilbert", student_cosine=c)).stages()[0].weights["cosine"]
        for c in (0.0, 2.5)
    ]
    assert weights == [0.0, 2.5]
