"""What is done on a pretended device, and compared with the CPU."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path

import accelerate.state
import torch
import transformers
from torch import Tensor

from adapler.backbones.attention import Segments, packed_attention
from tests.adapler.policies.policy_models import OTHERS, tiny_policy
from tests.adapler.training.common import QUICK, tiny_task
from tests.conftest import (
    CLASSIFIERS,
    WORDS,
    padding_of,
    random_batch,
    save_tiny_classifier,
    tiny_adapler,
    word_tokenizer,
)
from tests.pretend.device import DEVICE, NAME

Check = Callable[[Path], None]

TEXTS = ["a good film , never dull .", "bad", "the plot is boring and so very very bad but the actor is great"]

# Options of `adapler run` on the tiny task.
RUNS: dict[str, list[str]] = {
    "post_hoc": ["--freeze-backbone", "--phi", "1e-2"],
    "target": ["--target-speedup", "2", "--eval-steps", "2", "--learning-rate", "1e-3"],
    "own_targets": [
        *("--phi", "1e-2", "--predictor", "contextual", "--target-method", "decomposition", "--target-layer", "own"),
        *("--target-logit", "contrast", "--logit-distillation", "1"),
        *("--average-decay", "0.9"),
    ],
    "bfloat16": ["--phi", "1e-2", "--precision", "bfloat16"],
    "packed": ["--phi", "1e-2", "--finetune-packed", "--routing", "local", "--accumulation", "2"],
    **{name: ["--policy", name] for name in OTHERS},
}


def refusals() -> None:
    """The device computes, and refuses what a GPU refuses; Apple's also float64."""
    there = torch.ones(3, device=NAME)
    assert (there + 1).sum().item() == 6 and torch.arange(3, device=NAME).tolist() == [0, 1, 2]
    assert there.cpu().numpy().tolist() == [1, 1, 1] and (there * torch.tensor(2)).cpu().tolist() == [2, 2, 2]
    refused: list[str] = []
    for wrong in (lambda: there + torch.ones(3), lambda: there.numpy(), lambda: there.double()):
        try:
            wrong()
        except (RuntimeError, TypeError) as error:
            refused.append(type(error).__name__)
    assert refused == ["RuntimeError", "TypeError"] + ([] if there.is_cuda else ["TypeError"]), refused


def family(name: str, predictor: str = "mlp") -> None:
    """All three ways to compute, and the gradients of the third, are the CPU's."""
    model = tiny_adapler(name, eta=0.7, predictor=predictor)
    there = deepcopy(model).to(NAME)
    batch = random_batch([9, 14, 5], pad=padding_of(name))
    labels = torch.tensor([0, 2, 1])
    for removal in ("none", "hard", "soft"):
        with torch.no_grad():
            here, far = (m(**_to(batch, m.device), removal=removal) for m in (model, there))
        _close(far.logits, here.logits)
        if removal == "hard":
            assert far.lengths.cpu().tolist() == here.lengths.tolist()
    for m in (model, there):
        m(**_to(batch, m.device), labels=labels.to(m.device), removal="soft").loss.backward()
    for (where, one), other in zip(there.named_parameters(), model.parameters(), strict=True):
        if other.grad is not None:
            assert one.grad is not None, where
            _close(one.grad, other.grad, where)
    fast = (deepcopy(m).for_inference(dtype="bfloat16") for m in (there, model))
    with torch.no_grad():
        far, here = (m(**_to(batch, m.device), removal="none") for m in fast)
    _close(far.logits, here.logits, tolerance=0.1)


def fused(folder: Path) -> None:
    """The kernel for sequences of several lengths, in half precision: its values and its gradients."""
    lengths = torch.tensor([5, 9, 2])
    both = []
    for device, dtype in ((DEVICE, torch.bfloat16), (torch.device("cpu"), torch.float32)):
        generator = torch.Generator().manual_seed(0)
        inputs = [torch.randn(1, 2, 16, 8, generator=generator).to(device, dtype).requires_grad_() for _ in range(3)]
        segments = Segments(lengths.to(device), owners=torch.arange(3).repeat_interleave(lengths).to(device))
        found = packed_attention(*inputs, segments=segments, scale=0.5)
        (found.float() ** 2).sum().backward()
        both.append([found, *(one.grad for one in inputs)])
    for far, here in zip(*both, strict=True):
        assert here.abs().max() > 0.1
        _close(far, here, tolerance=0.1)


def policy(name: str) -> None:
    """A removal policy drops what it drops on the CPU."""
    model = tiny_policy(name)
    there = deepcopy(model).to(NAME)
    batch = random_batch([9, 14, 5])
    with torch.no_grad():
        here, far = (m(**_to(batch, m.device), removal="hard") for m in (model, there))
    assert far.lengths.cpu().tolist() == here.lengths.tolist()
    _close(far.logits, here.logits)


def predict(folder: Path) -> None:
    tokenizer = word_tokenizer(folder)
    model = tiny_adapler(eta=0.7)
    there = deepcopy(model).to(NAME)
    for options in ({}, {"removal": "none"}, {"max_length": 8, "long_documents": "windows", "stride": 2}):
        far, here = (m.predict(TEXTS, tokenizer=tokenizer, **options) for m in (there, model))
        assert [one.lengths for one in far] == [one.lengths for one in here]
        assert all(abs(a.score - b.score) < 1e-5 and a.label == b.label for a, b in zip(far, here, strict=True))


def explain(folder: Path) -> None:
    from analysis import explain as explanation
    from tests.analysis.scores.score_helpers import NAMES, method_of

    methods = [method_of(name) for name in NAMES]
    model = tiny_adapler(eta=0.7)
    both = []
    for one in (deepcopy(model).to(NAME), model):
        both.append(explanation(TEXTS[2], model=one, tokenizer=word_tokenizer(folder), methods=methods, gold=1))
    far, here = both
    assert far.scores.keys() == here.scores.keys() and len(far.scores) == len(methods)
    for name, scores in here.scores.items():
        _close(torch.as_tensor(far.scores[name]), torch.as_tensor(scores), name, tolerance=1e-3)


def command(name: str) -> Check:
    """`adapler run`, and with "run" what follows it."""

    def check(folder: Path) -> None:
        out, data, start = (folder / one for one in ("out", "task", "classifier"))
        data.mkdir()
        tiny_task(data)
        save_tiny_classifier(start, word_tokenizer(folder))
        run = ["run", "--task", str(data), "--model", str(start), "--output", str(out), *QUICK]
        _call(*run, *RUNS.get(name, ["--phi", "1e-2", "--learning-rate", "1e-3"]))
        if name != "run":
            return
        model, rows = str(out / "phi-0.01"), folder / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": text * 5}) + "\n" for text in TEXTS), encoding="utf-8")
        _call("evaluate", "--task", str(data), "--model", model, "--threshold-scale", "0", "1")
        _call("calibrate", "--task", str(data), "--model", model)
        whole = ["--long-documents", "windows", "--stride", "4", "--output-columns", "label", "tokens", "layers"]
        _call("predict", "--model", model, "--input", str(rows), "--output", str(folder / "out.jsonl"), *whole)
        assert len((folder / "out.jsonl").read_text().splitlines()) == len(TEXTS)
        _call("export", "--model", model, "--output", str(folder / "copy"), "--threshold-scale", "0.5")

    return check


def rationale_eval(folder: Path) -> None:
    from analysis import rationale_eval as evaluation

    marks = [0, 1, 0, 1, 0, 1, 0, 1, 0]
    rows = [{"id": f"r{n}", "tokens": WORDS[n : n + 9], "rationale": marks, "label": n % 2} for n in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = {"methods": ["cp", "saliency", "rollout"], "metrics": ["average_precision", "aopc_comprehensiveness"]}
    reports = [
        evaluation.evaluate(adapler=one, tokenizer=word_tokenizer(folder), data=folder / "rows.jsonl", **options)
        for one in (tiny_adapler(eta=0.7).to(NAME), tiny_adapler(eta=0.7))
    ]
    far, here = (torch.as_tensor(report.values) for report in reports)  # (M, L, D, K)
    assert far.shape == here.shape and (far.isnan() == here.isnan()).all() and not here.isnan().all()
    _close(far.nan_to_num(), here.nan_to_num())


CHECKS: dict[str, Check] = {
    "what a device refuses": lambda folder: refusals(),
    **{f"family {name}": lambda folder, name=name: family(name) for name in CLASSIFIERS},
    "contextual predictors": lambda folder: family("bert", "contextual"),
    **{f"policy {name}": lambda folder, name=name: policy(name) for name in OTHERS if name != "distilbert"},
    "fused attention": fused,
    "predict": predict,
    "explain": explain,
    "rationale_eval": rationale_eval,
    **{f"adapler run {name}": command(name) for name in ("run", *RUNS)},
}


def main(folder: Path, names: list[str]) -> None:
    """Runs checks and prints, for each, its name and what went wrong ("" for nothing) as a line of JSON."""
    os.environ["TQDM_DISABLE"] = "1"
    accelerate.state.PartialState.default_device = property(lambda self: DEVICE)
    transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    usual = transformers.TrainingArguments.device.fget
    transformers.TrainingArguments.device = property(lambda self: (usual(self), DEVICE)[1])
    for number, name in enumerate(names):
        error = ""
        try:
            (folder / str(number)).mkdir()
            CHECKS[name](folder / str(number))
        except Exception:
            error = traceback.format_exc()
        print(json.dumps([name, error]), flush=True)


def _call(*arguments: str) -> None:
    from adapler.cli import main as commands

    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            status = commands(list(arguments))
        except SystemExit as error:  # an option that does not exist
            status = error.code
    assert status == 0, printed.getvalue()


def _to(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: values.to(device) for name, values in batch.items()}


def _close(found: Tensor, expected: Tensor, what: str = "", *, tolerance: float = 1e-4) -> None:
    apart = (found.detach().cpu().float() - expected.detach().float()).abs().max().item()
    assert apart <= tolerance, f"{what}: {apart} apart"
