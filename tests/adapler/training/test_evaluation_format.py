"""An evaluation while training computes in the format of inference, and says what `adapler evaluate` says after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from adapler.backbones.families import Family
from adapler.cli import main
from adapler.inference import InferenceClassifier, predict_rows
from tests.adapler.backbones.test_backbones import FAMILIES
from tests.adapler.training.common import trainer
from tests.conftest import random_batch, tiny_adapler, tiny_classifier


class Watch:
    """The format of the layers that each evaluated batch was asked of, and whether autocast was on in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.formats: list[torch.dtype] = []
        self.autocast: list[bool] = []
        run_layer = Family.layer

        def watched(family: Any, index: int, hidden: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                self.formats.append(next(family.layers.parameters()).dtype)
                self.autocast.append(torch.is_autocast_enabled("cpu"))
            return run_layer(family, index, hidden, **kwargs)

        monkeypatch.setattr(Family, "layer", watched)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_an_evaluation_is_that_of_the_saved_weights(
    precision: str, decay: float, tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits and lengths to the bit, of the average where there is one."""
    one = trainer(
        tmp_path, tiny_tokenizer, settings={"precision": precision, "epochs": 1, "batch_size": 8}, average_decay=decay
    )
    watch, seen = Watch(monkeypatch), []

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(predict_rows(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr("adapler.training.trainer.predict_rows", noted)
    one.train()
    assert set(watch.formats) == {getattr(torch, precision)} and not any(watch.autocast)
    (found,) = seen
    saved = type(one.core).from_pretrained(tmp_path / "checkpoint-2").for_inference(dtype=precision)
    expected = predict_rows(saved, one.eval_dataset, pad_token_id=0)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.lengths, expected.lengths)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "command", [["finetune", "--packed", "--epochs"], ["run", "--policy", "distilbert", "--policy-epochs"]]
)
def test_packed_passes_learn_in_the_precision_asked_for(
    command: list[str],
    precision: str,
    task_folder: Path,
    tiny_classifier_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They do not go through the model's own forward pass, which is all that accelerate puts under autocast."""
    learnt, run_layer = [], Family.layer

    def watched(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            learnt.append(torch.is_autocast_enabled("cpu"))
        return run_layer(*args, **kwargs)

    monkeypatch.setattr(Family, "layer", watched)
    model = ["--classifier" if command[0] == "run" else "--model", str(tiny_classifier_folder)]
    options = ["--task", str(task_folder), "--max-length", "16", "--batch-size", "8", "--precision", precision]
    assert main([*command, "1", *model, *options, "--output", str(tmp_path / "out")]) == 0
    assert set(learnt) == {precision == "bfloat16"}


def test_a_trained_model_computes_in_float32_again(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """accelerate leaves its autocast on the model; what is measured after training is in float32."""
    one = trainer(tmp_path, tiny_tokenizer, settings={"precision": "bfloat16", "epochs": 1})
    one.train()
    again = type(one.core).from_pretrained(tmp_path / "checkpoint-4").eval()
    batch = random_batch([9, 4, 12, 1])
    with torch.no_grad():
        found, expected = one.core.eval()(**batch), again(**batch)
    assert torch.equal(found.logits, expected.logits)


def test_an_inference_copy_has_no_autocast(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """Made within training too, when the model itself has it."""
    one = trainer(tmp_path, tiny_tokenizer, settings={"precision": "bfloat16", "epochs": 1})
    one.accelerator.prepare_model(one.core)
    batch = random_batch([9, 4, 12, 1])
    with torch.no_grad():
        rough, exact = one.core.eval()(**batch), one.core.for_inference(dtype="float32")(**batch)
    assert not torch.equal(rough.logits, exact.logits)
    del one.core.forward
    with torch.no_grad():
        assert torch.equal(exact.logits, one.core(**batch).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_classifier_for_inference(family: str) -> None:
    """What it says in float32, and what AdapLeR says without removal in bfloat16; itself it stays as it is."""
    model, batch = tiny_adapler(family), random_batch([9, 4, 12, 1], pad=1 if family == "roberta" else 0)
    classifier = tiny_classifier(family).train()
    classifier.load_state_dict(model.backbone.state_dict())
    implementation = classifier.config._attn_implementation
    with torch.no_grad():
        expected = classifier.eval()(**batch)
        classifier.train()
        exact = InferenceClassifier(classifier, dtype="float32")(**batch)
        rough = InferenceClassifier(classifier, dtype="bfloat16")(**batch)
        same = model.for_inference(dtype="bfloat16")(**batch, removal="none")
    assert_close(exact.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert rough.logits.dtype == torch.float32 and not torch.equal(rough.logits, exact.logits)
    assert_close(rough.logits, same.logits, atol=1e-6, rtol=1e-6)
    assert classifier.training and classifier.config._attn_implementation == implementation
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in classifier.parameters())


def test_epochs_say_what_evaluate_says(task_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    """A whole run in bfloat16: the selected epoch's row is that of `evaluate --dtype bfloat16`, the record's
    `validation` that of float32."""
    command = ["run", "--task", str(task_folder), "--classifier", str(tiny_classifier_folder), "--phi", "0.1"]
    command += ["--max-length", "16", "--epochs", "2", "--batch-size", "8", "--precision", "bfloat16"]
    assert main([*command, "--output", str(tmp_path / "run")]) == 0
    folder = tmp_path / "run" / "phi-0.1"
    record = json.loads((folder / "run.json").read_text())
    for dtype, said in (("bfloat16", record["selected"]), ("float32", record["validation"])):
        file = tmp_path / f"{dtype}.json"
        assert (
            main(
                [
                    "evaluate",
                    "--model",
                    str(folder),
                    "--task",
                    str(task_folder),
                    "--split",
                    "validation",
                    "--dtype",
                    dtype,
                ]
                + ["--output", str(file)]
            )
            == 0
        )
        evaluated = json.loads(file.read_text())
        assert said["precision"] == evaluated["precision"] == dtype
        assert said["accuracy"] == evaluated["hard"][0]["score"]
        assert said["speedup"] == pytest.approx(evaluated["hard"][0]["speedup"], rel=1e-6)


def test_predictions_of_rows_take_an_inference_classifier(tiny_tokenizer: Any, tmp_path: Path) -> None:
    rows = trainer(tmp_path, tiny_tokenizer).eval_dataset
    classifier = tiny_classifier()
    plain = predict_rows(classifier, rows, pad_token_id=0)
    packed = predict_rows(InferenceClassifier(classifier, dtype="float32"), rows, pad_token_id=0)
    assert_close(packed.logits, plain.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(packed.lengths, plain.lengths)
