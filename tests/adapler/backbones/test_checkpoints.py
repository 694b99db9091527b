"""Model folders: round trips, and one-line errors for what cannot be loaded."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    pipeline,
)

from adapler import AdapLeRConfig, AdapLeRError, AdapLeRForSequenceClassification, ArgumentError, CheckpointError
from adapler.backbones.checkpoints import is_local, load_classifier, read_config, reinitialise_head
from adapler.backbones.families import pooler_of
from tests.adapler.backbones.test_backbones import FAMILIES, batch_for
from tests.conftest import LAYERS, WIDTH, random_batch, tiny_adapler, tiny_classifier

load = AdapLeRForSequenceClassification.from_pretrained
wrap = AdapLeRForSequenceClassification.from_backbone


@pytest.fixture(scope="module")
def adapler_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("models") / "adapler"
    tiny_adapler().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "encoder"
    BertModel(tiny_classifier().config).save_pretrained(folder)
    return folder


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def realigned(model: Any) -> Any:
    """A copy in fresh memory: loaded weights lie in a mapped file, and kernels round by alignment."""
    return copy.deepcopy(model)


def outputs(model: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        results = [model(**batch, removal=removal) for removal in ("none", "hard", "soft")]
    return [x for out in results for x in (out.logits, out.lengths, out.contribution_scores) if x is not None]


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_is_bit_identical(family: str, tmp_path: Path) -> None:
    model, batch = tiny_adapler(family), batch_for(family, [9, 4])
    model.theta.data.uniform_(0.5, 2.0)
    model.config.beta = 0.2
    model.save_pretrained(tmp_path)
    again = realigned(load(tmp_path))
    assert not again.training
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for mine, theirs in zip(outputs(again, batch), outputs(model, batch), strict=True):
        assert torch.equal(mine, theirs)
    assert isinstance(again.config, AdapLeRConfig) and again.config.beta == 0.2
    assert type(again.config.backbone_config) is type(model.config.backbone_config)


def test_auto_classes(adapler_folder: Path) -> None:
    assert isinstance(AutoConfig.from_pretrained(adapler_folder), AdapLeRConfig)
    model = AutoModelForSequenceClassification.from_pretrained(adapler_folder)
    assert isinstance(model, AdapLeRForSequenceClassification)
    pairs = zip(outputs(realigned(model), random_batch([7])), outputs(tiny_adapler(), random_batch([7])), strict=True)
    for mine, theirs in pairs:
        assert torch.equal(mine, theirs)


def test_pipeline(tiny_classifier_folder: Path, tiny_tokenizer: Any) -> None:
    model = wrap(tiny_classifier_folder)
    classify = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer)
    texts = ["a great film", "never boring but very dull the plot"]
    results = classify(texts)
    for result, prediction in zip(results, model.predict(texts, tokenizer=tiny_tokenizer), strict=True):
        assert result["label"] == prediction.label in ("NEG", "POS")
        assert result["score"] == pytest.approx(prediction.score, abs=1e-5)


def test_no_local_path_is_saved(tiny_classifier_folder: Path, tmp_path: Path) -> None:
    wrap(tiny_classifier_folder).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert str(tiny_classifier_folder.parent) not in text


@pytest.mark.parametrize("kind", ["adapler", "backbone"])
def test_stored_in_half_precision_computes_in_float32(kind: str, tmp_path: Path) -> None:
    (tiny_adapler() if kind == "adapler" else tiny_classifier()).half().save_pretrained(tmp_path)
    model = load(tmp_path) if kind == "adapler" else wrap(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model(**random_batch([5])).logits.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_on_request_leaves_the_thresholds_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    """B12: eta .2507 would become .25, and keep a token whose score is between the two thresholds."""
    exact = tiny_adapler(eta=0.9007)
    exact.theta.data.fill_(1.0007)
    exact.save_pretrained(tmp_path)
    model = load(tmp_path, dtype=dtype)
    assert model.backbone.dtype == dtype
    mine = {name: value for name, value in model.state_dict().items() if not name.startswith("backbone.")}
    assert set(mine) >= {"eta", "theta", "contribution_predictors.0.dense.weight"}
    for name, value in mine.items():
        assert value.dtype == torch.float32 and torch.equal(value, exact.state_dict()[name]), name

    batch = random_batch([20, 13, 9], seed=1)
    for removal in ("none", "hard", "soft"):
        assert model(**batch, removal=removal).logits.isfinite().all()
    # layer 0's kept tokens, from the embeddings in half precision and everything else in float32
    kept = model(**batch).retention_mask[:, 0]
    table = model.backbone.bert.embeddings
    for row, n in enumerate([20, 13, 9]):
        hidden = table(input_ids=batch["input_ids"][row : row + 1, :n])[0].float()
        scores = exact.contribution_predictors[0](hidden).softmax(0)
        expected = scores >= exact.eta[0] / n
        expected[0] = True
        assert torch.equal(kept[row, :n], expected)


def test_bfloat16_keeps_nearly_the_same_tokens(adapler_folder: Path) -> None:
    model, half = load(adapler_folder), load(adapler_folder, dtype=torch.bfloat16)
    batch = random_batch([20, 17, 13, 9, 5] * 8, seed=4)
    with torch.no_grad():
        exact, rounded = model(**batch).retention_mask, half(**batch).retention_mask
    assert exact.sum() > 200
    assert (exact ^ rounded).sum() / exact.sum() < 0.1  # what rounded hidden states change; layers multiply it here


def test_encoder_gets_a_head(encoder_folder: Path) -> None:
    model = wrap(encoder_folder, labels=["no", "yes", "maybe", "never"])
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe", 3: "never"}
    assert model.config.label2id == {"no": 0, "yes": 1, "maybe": 2, "never": 3}
    assert not model.training
    out = model(**random_batch([5, 3]))
    assert out.logits.shape == (2, 4)
    assert out.lengths.tolist() == [[5] * LAYERS, [3] * LAYERS]  # new predictors drop nothing
    stored = BertModel.from_pretrained(encoder_folder).state_dict()
    assert all(torch.equal(value, model.backbone.bert.state_dict()[name]) for name, value in stored.items())


def test_number_of_labels_of_an_encoder(encoder_folder: Path) -> None:
    assert wrap(encoder_folder, num_labels=4)(**random_batch([5])).logits.shape == (1, 4)


def test_classifier_keeps_its_head_and_labels(tiny_classifier_folder: Path) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_folder)
    batch = random_batch([8, 5])
    for options in ({}, {"num_labels": 2}):
        model = wrap(tiny_classifier_folder, **options)
        assert model.config.id2label == model.backbone.config.id2label == {0: "NEG", 1: "POS"}
        assert_close(model(**batch, removal="none").logits, plain(**batch).logits, atol=1e-5, rtol=0)
    renamed = wrap(tiny_classifier_folder, labels=["bad", "good"])
    assert renamed.config.id2label == {0: "bad", 1: "good"}


def test_options_reach_the_config(tiny_classifier_folder: Path) -> None:
    model = wrap(tiny_classifier_folder, contribution_hidden_size=5, eta_init=0.5, beta=0.2)
    assert model.contribution_predictors[0].dense.weight.shape == (5, WIDTH)
    assert model.eta.tolist() == [0.5] * LAYERS and model.config.beta == 0.2


def test_attention_dropout_is_switched_off(tmp_path: Path) -> None:
    classifier = tiny_classifier()
    classifier.config.attention_probs_dropout_prob = 0.2
    classifier.save_pretrained(tmp_path)
    model = wrap(tmp_path).train()
    assert model.backbone.config.attention_probs_dropout_prob == 0.0
    assert model(**random_batch([4])).logits.isfinite().all()


def one_line(match: str, kind: type[AdapLeRError] = CheckpointError) -> Any:
    """pytest.raises of a package error whose message has one line."""
    return pytest.raises(kind, match=rf"\A[^\n]*{match}[^\n]*\Z")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 3}, "^num_labels: 3 asked for, but the classifier in .* has 2$"),
        ({"labels": ["a", "b", "c"]}, "^num_labels: 3 asked for"),
        ({"labels": ["a", "b"], "num_labels": 3}, "^num_labels: 3 is not the number of labels, 2$"),
        ({"num_labels": 1}, "^num_labels: 1 is not at least 2$"),
        ({"eta_init": 2.0}, "^eta_init: 2.0 is not in"),
    ],
)
def test_wrong_labels_and_options(options: dict[str, Any], message: str, tiny_classifier_folder: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        wrap(tiny_classifier_folder, **options)


def test_unsupported_model_type(tmp_path: Path) -> None:
    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20, n_positions=16)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    with one_line("backbone: model type 'gpt2' is not supported", ArgumentError):
        wrap(tmp_path)
    with one_line("holds a 'gpt2' model, not 'adapler'"):
        load(tmp_path)


def test_each_kind_of_folder_at_the_wrong_door(adapler_folder: Path, tiny_classifier_folder: Path) -> None:
    with one_line("already is an AdapLeR model; load it with from_pretrained"):
        wrap(adapler_folder)
    with one_line("holds a 'bert' model, not 'adapler'; AdapLeRForSequenceClassification.from_backbone"):
        load(tiny_classifier_folder)


@pytest.mark.parametrize("loader", [load, wrap, read_config])
def test_missing_folders(loader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "file.bin").write_text("x", encoding="utf-8")
    for name in ("checkpoints/nothing", "./nothing", "a/b/c", str(tmp_path / "nothing"), Path("nothing")):
        with one_line("no such model folder"):
            loader(name)
    with one_line("file.bin: is a file, not a model folder"):
        loader("file.bin")
    with one_line("checkpoints: no config.json in this folder, so it is not a model"):
        loader("checkpoints")


def test_names_that_are_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_local("bert-base-uncased") and not is_local("owner/model")
    (tmp_path / "bert-base-uncased").mkdir()
    assert is_local("bert-base-uncased")


@pytest.mark.parametrize("loader", [load, wrap])
@pytest.mark.parametrize("content", ["{not json", "[]", '{"model_type": "nonsense"}', "{}"])
def test_broken_config(loader: Any, content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with one_line("cannot read its config.json"):
        loader(tmp_path)


def test_config_with_a_value_out_of_range(adapler_folder: Path, tmp_path: Path) -> None:
    folder = copied(adapler_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "eta_init": 7}), encoding="utf-8")
    with one_line("copy: cannot read its config.json: eta_init: 7 is not in"):
        load(folder)


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage", "pickle only"])
@pytest.mark.parametrize("kind", ["adapler", "backbone"])
def test_broken_weights(
    kind: str, damage: str, adapler_folder: Path, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    folder = copied(adapler_folder if kind == "adapler" else tiny_classifier_folder, tmp_path)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    if damage in ("missing", "pickle only"):
        weights.unlink()
    else:
        weights.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"garbage")
    if damage == "pickle only":
        torch.save(tiny_adapler().state_dict(), folder / "pytorch_model.bin")
    with one_line("copy"):
        (load if kind == "adapler" else wrap)(folder)


@pytest.mark.parametrize("kind", ["adapler", "backbone"])
def test_weights_of_another_size(kind: str, adapler_folder: Path, tiny_classifier_folder: Path, tmp_path: Path) -> None:
    folder = copied(adapler_folder if kind == "adapler" else tiny_classifier_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.get("backbone_config", config)["intermediate_size"] = 48
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with one_line("copy"):
        (load if kind == "adapler" else wrap)(folder)


def test_load_classifier_is_plain(tiny_classifier_folder: Path) -> None:
    classifier = load_classifier(tiny_classifier_folder)
    assert type(classifier).__name__ == "BertForSequenceClassification" and not classifier.training


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("std", "mode", "expected"),
    [
        # healthy is 1/sqrt(16) = .25; "auto" acts below half of it
        (0.2, "auto", False),
        (0.01, "auto", True),
        (0.01, "no", False),
        (0.2, "yes", True),
    ],
)
def test_reinitialise_head(family: str, std: float, mode: str, expected: bool) -> None:
    classifier = tiny_classifier(family)
    pooler = pooler_of(classifier)
    with torch.no_grad():
        pooler.weight.normal_(std=std)
        if pooler.bias is not None:
            pooler.bias.fill_(3.0)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    torch.manual_seed(1)
    assert reinitialise_head(classifier, mode=mode) is expected
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    heads = {
        "bert": ("bert.pooler.dense", "classifier"),
        "roberta": ("classifier.dense", "classifier.out_proj"),
        "electra": ("classifier.dense", "classifier.out_proj"),
        "distilbert": ("pre_classifier", "classifier"),
        "mpnet": ("classifier.dense", "classifier.out_proj"),
        "modernbert": ("head.dense", "classifier"),
    }[family]
    allowed = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    if expected:
        assert {f"{head}.weight" for head in heads} <= changed <= allowed
        assert 0.2 < float(pooler.weight.detach().std()) < 0.3
        assert pooler.bias is None or pooler.bias.abs().sum() == 0
        assert classifier.training is False
    else:
        assert changed == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_head_is_never_replaced_by_itself(family: str, tmp_path: Path) -> None:
    """B6: a trained pooler of a small model has a small spread too."""
    classifier = tiny_classifier(family)
    with torch.no_grad():
        pooler_of(classifier).weight.normal_(std=0.01)
    assert reinitialise_head(copy.deepcopy(classifier), mode="auto")  # never saved, never trained
    classifier.save_pretrained(tmp_path)
    loaded = load_classifier(tmp_path, num_labels=3)
    assert not reinitialise_head(loaded, mode="auto")
    assert torch.equal(pooler_of(loaded).weight, pooler_of(classifier).weight)
    assert reinitialise_head(copy.deepcopy(loaded), mode="auto", fine_tuned=False)
    assert reinitialise_head(copy.deepcopy(loaded), mode="yes")
    assert not reinitialise_head(copy.deepcopy(classifier), mode="auto", fine_tuned=True)


def test_reinitialise_head_errors() -> None:
    with pytest.raises(ArgumentError, match="^reinit-head: 'maybe' is not one of 'auto', 'yes', 'no'$"):
        reinitialise_head(tiny_classifier(), mode="maybe")
