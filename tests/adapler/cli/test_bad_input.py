"""Bad input through the command line: one line that names it, a code, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2ForSequenceClassification

from tests.adapler.cli.refusals import GOOD, Refuse, task
from tests.adapler.data.corpora import (
    evidence,
    files_of,
    pack,
    row,
    rows,
    write,
)
from tests.adapler.training.common import QUICK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": '{"text": "a", "label": 0}\n{"te\n'}, "train.jsonl:2: not JSON"),
        ({"test": [*GOOD, {"text": "a", "label": 5}]}, r"test.jsonl:9: unknown label 5"),
        ({"train": [{"text": "a"}]}, "train.jsonl:1: has no 'label'"),
        ({"validation": [{"text": " \n ", "label": 0}]}, "validation.jsonl:1: a text is empty"),
        (
            {"validation": [*GOOD, {"text": "\u200b", "label": 0}]},
            r"/task, validation: example 'validation-8': its text gives no wordpieces",
        ),
    ],
)
def test_rows(
    changes: dict[str, Any], message: str, refuse: Refuse, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    folder = task(tmp_path / "task", **changes)
    line = refuse("finetune", "--task", folder, "--model", tiny_classifier_folder, "--output", "{out}", *QUICK)
    assert message in line


def test_a_damaged_corpus(refuse: Refuse, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    files = files_of({**rows(), "test": [row("neg_2", "NEG", [evidence("nope", 0, 1)])]})
    folder, archive = write(tmp_path / "corpus", files), tmp_path / "x.tar.gz"
    new = ["--model", tiny_classifier_folder, "--output", "{out}", *QUICK]
    for words in (["finetune", "--task", folder, *new], ["data", "show", folder]):
        assert "test.jsonl:1: document 'nope' is missing from docs" in refuse(*words)
    content = pack(archive, files_of()).read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    for words in (["data", "download", "--archive", archive, "--target", "{out}"], ["data", "show", archive]):
        assert "x.tar.gz: not a complete tar archive" in refuse(*words)


def test_models(refuse: Refuse, run_folder: Path, task_folder: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=60, n_positions=16, bos_token_id=1, eos_token_id=1)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer.save_pretrained(tmp_path / "gpt2")
    (tmp_path / "empty").mkdir()
    adapler = run_folder / "phi-0.1-post-hoc"
    new = ["--task", task_folder, "--output", "{out}", *QUICK]
    for command in ("finetune", "run"):
        line = refuse(command, "--model", tmp_path / "gpt2", *new)
        assert line.startswith("error: backbone: model type 'gpt2' is not supported; supported: bert, ")
        assert "empty: no config.json in this folder" in refuse(command, "--model", tmp_path / "empty", *new)
        assert "already is an AdapLeR model" in refuse(command, "--model", adapler, *new)
        assert "nothing: no such model folder" in refuse(command, "--model", tmp_path / "nothing", *new)
    for command in (["predict", "x"], ["evaluate", "--task", task_folder], ["export", "--output", "{out}"]):
        line = refuse(*command, "--model", run_folder / "finetuned")
        assert "finetuned: holds a 'bert' model, not 'adapler'" in line
        assert "nothing: no such model folder" in refuse(*command, "--model", tmp_path / "nothing")


def test_a_model_without_its_predictors(refuse: Refuse, run_folder: Path, task_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run_folder / "phi-0.1-post-hoc", tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if name.startswith("backbone.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    for command in (["predict", "x"], ["evaluate", "--task", task_folder], ["export", "--output", "{out}"]):
        assert "and 13 more" in refuse(*command, "--model", folder)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"half', "run.json: cannot be read ("),
        ('{"threshold_scale": "x"}', "run.json: 'threshold_scale' must be a number above 0, found 'x'"),
    ],
)
def test_a_damaged_record_is_not_copied(refuse: Refuse, run_folder: Path, tmp_path: Path, text: str, line: str) -> None:
    folder = Path(shutil.copytree(run_folder / "phi-0.1-post-hoc", tmp_path / "model"))
    (folder / "run.json").write_text(text, encoding="utf-8")
    for options in ([], ["--threshold-scale", "0.9"], ["--onnx"]):
        assert line in refuse("export", "--model", folder, "--output", "{out}", *options)


def test_labels_of_a_model_and_a_task(refuse: Refuse, run_folder: Path, task_folder: Path, tmp_path: Path) -> None:
    evaluate = ["evaluate", "--model", run_folder / "phi-0.1-post-hoc", "--output", "{out}", "--task"]
    other = Path(shutil.copytree(task_folder, tmp_path / "other"))
    turned = {"labels": ["POS", "NEG"], "metric": "f1"}
    (other / "meta.json").write_text(json.dumps(turned), encoding="utf-8")
    assert "other: f1 is of label 1, 'NEG'; the classifier's label 1 is 'POS'" in refuse(*evaluate, other)
    (other / "meta.json").write_text(json.dumps({"labels": ["NEG", "POS", "MEH"]}), encoding="utf-8")
    assert "other has 3 labels, the model in" in refuse(*evaluate, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs: 0 is not at least 1"),
        (["--learning-rate", "nan"], "--learning-rate: nan is not above 0"),
        (["--seed", "-1"], "--seed: -1 is not at least 0"),
        (["--max-length", "41"], "--max-length: 41 is not between 3 and the 40 positions of"),
        (["--stride", "2"], "--stride: is of windows; --long-documents windows or --train-documents windows makes"),
        (["--phi", "-1"], "--phi: -1.0 is not at least 0"),
        (["--average-decay", "1"], "--average-decay: 1.0 is not at least 0 and below 1"),
        (["--target-speedup", "1"], "--target-speedup: 1.0 is not above 1 and at most 100"),
        (["--predictor", "nothing"], "predictor: 'nothing' is not one of"),
        (["--classifier", "x"], "--model or --classifier: one of them is needed"),
    ],
)
def test_options(
    options: list[str], message: str, refuse: Refuse, task_folder: Path, tiny_classifier_folder: Path
) -> None:
    """All of them before the first stage begins."""
    start = ["run", "--task", task_folder, "--model", tiny_classifier_folder, "--output", "{out}"]
    assert message in refuse(*start, *QUICK, *options)


def test_stages_that_miss_an_earlier_one(
    refuse: Refuse, task_folder: Path, run_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    new = ["--task", task_folder, "--output", "{out}"]
    targets, finetuned = run_folder / "targets", run_folder / "finetuned"
    train = ["train", *new, *QUICK, "--preset", "paper", "--targets"]
    assert "--model: needed when --finetuned is not given" in refuse(*train, targets, "--reference-score", "0.5")
    line = refuse(*train, targets, "--finetuned", finetuned, "--reference-score", "85")
    assert "--reference-score: 85.0 is not at least 0 and at most 1" in line
    assert "--targets: needed by the policy adapler" in refuse(*train[:-1], "--finetuned", finetuned)
    config = json.loads((tiny_classifier_folder / "config.json").read_text())
    encoder = Path(shutil.copytree(tiny_classifier_folder, tmp_path / "encoder"))
    (encoder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}), encoding="utf-8")
    line = refuse(*train, targets, "--model", encoder, "--reference-score", "0.5", "--freeze-backbone")
    assert "encoder is not a fine-tuned classifier, there is nothing to keep" in line
    line = refuse(*train, targets, "--model", encoder)
    assert "--reference-score: needed when --finetuned is not given and --model is an encoder" in line
    line = refuse("targets", *new, "--finetuned", run_folder / "phi-0.1-post-hoc")
    assert "run.json: a record of 'train', not of 'finetune'" in line


def test_targets_from_broken_epochs(refuse: Refuse, task_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_folder / "finetuned", tmp_path / "finetuned"))
    for weights in copy.glob("epochs/*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:100])
    line = refuse("targets", "--task", task_folder, "--finetuned", copy, "--output", "{out}")
    assert "checkpoint-" in line and "the weights cannot be read" in line


def test_plain_text_is_tokenised_as_the_model_does(tmp_path: Path) -> None:
    """A byte-level tokenizer gives the first word of a text no space; of a list of words it gives each one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from adapler.training.config import TaskOptions
    from adapler.training.data import prepare

    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *sorted(letters)])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")
    from tests.conftest import tiny_classifier

    classifier = tiny_classifier(num_labels=2)
    classifier.resize_token_embeddings(len(vocabulary))
    classifier.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    folder = task(tmp_path / "task")
    prepared = prepare(TaskOptions(task=str(folder), max_length=40), tmp_path / "model", splits=("test",), seed=0)
    own = tokenizer([row["text"] for row in GOOD])["input_ids"]
    assert [row["input_ids"] for row in prepared.encoded["test"]] == own
