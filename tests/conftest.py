"""Tiny random models: no test here needs a network or a download."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification
from adapler.options import user_errors

VOCABULARY = 60
LAYERS, WIDTH, HEADS, INNER = 3, 16, 2, 24
WORDS = "the a film plot is was not never good bad dull great boring fun actor ending and but very so".split()

_SHARED = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "num_labels": 3, "pad_token_id": 0}

# Before a program that needs no model: the package takes it for its own command, and loads torch when it is asked for.
AS_COMMAND = "import sys; sys.argv[0] = 'adapler'\n"


def pytest_collection_finish() -> None:
    """Libraries and tests stay: without them, a search for garbage, as each training begins with, takes no time."""
    gc.collect()
    gc.freeze()


def run_command(main: Callable[..., object], *arguments: Any) -> Any:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended, user_errors():
        sys.exit(main(*arguments))  # type: ignore[arg-type]
    return ended.value.code


def _bert(**options: Any) -> Any:
    return BertForSequenceClassification(
        BertConfig(
            hidden_size=WIDTH,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.25,
            **{**_SHARED, "num_hidden_layers": LAYERS, **options},
        )
    )


def _roberta() -> Any:
    return RobertaForSequenceClassification(
        RobertaConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.25,
            **{**_SHARED, "pad_token_id": 1},
        )
    )


def _electra() -> Any:
    return ElectraForSequenceClassification(
        ElectraConfig(
            embedding_size=8,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.25,
            **_SHARED,
        )
    )


def _distilbert() -> Any:
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            dim=WIDTH,
            n_layers=LAYERS,
            n_heads=HEADS,
            hidden_dim=INNER,
            attention_dropout=0.0,
            initializer_range=0.25,
            **_SHARED,
        )
    )


def _mpnet(**options: Any) -> Any:
    return MPNetForSequenceClassification(
        MPNetConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.25,
            **{**_SHARED, "pad_token_id": 1, **options},
        )
    )


def _modernbert(**options: Any) -> Any:
    """One layer with full attention, two with windows that reach 4 tokens to each side."""
    return ModernBertForSequenceClassification(
        ModernBertConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            initializer_range=0.4,
            local_attention=8,
            rope_parameters={
                "full_attention": {"rope_type": "default", "rope_theta": 100.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
            },
            bos_token_id=2,
            eos_token_id=2,
            cls_token_id=2,
            sep_token_id=2,
            **{**_SHARED, "classifier_pooling": "mean", **options},
        )
    )


CLASSIFIERS = {
    "bert": _bert,
    "roberta": _roberta,
    "electra": _electra,
    "distilbert": _distilbert,
    "mpnet": _mpnet,
    "modernbert": _modernbert,
}


def padding_of(family: str) -> int:
    """The id of the padding token in the tiny classifiers."""
    return 1 if family in ("roberta", "mpnet") else 0


def tiny_classifier(family: str = "bert", *, seed: int = 0, **options: Any) -> Any:
    """A random classifier with weights large enough that its outputs differ between inputs."""
    torch.manual_seed(seed)
    return CLASSIFIERS[family](**options).eval()


def tiny_adapler(
    family: str = "bert", *, seed: int = 0, eta: float = 0.9, spread: float = 1.0, predictor: str = "mlp"
) -> Any:
    """AdapLeR on a tiny classifier, with random Contribution Predictors that do drop tokens."""
    classifier = tiny_classifier(family, seed=seed)
    model = AdapLeRForSequenceClassification(
        AdapLeRConfig(backbone_config=classifier.config.to_dict(), predictor=predictor), backbone=classifier
    )
    with torch.no_grad():
        for one in model.contribution_predictors:
            if predictor in ("mlp", "contextual"):
                one.dense.weight.normal_()
            one.score.weight.normal_(std=spread)
            if predictor == "contextual":
                one.mean.weight.normal_()
                one.near.weight.normal_(std=0.2)
        model.eta.fill_(eta)
    return model.eval()


def random_batch(lengths: list[int], *, seed: int = 0, pad: int = 0) -> dict[str, torch.Tensor]:
    """A right-padded batch of random ids (3 and up, so never padding)."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, VOCABULARY, (len(lengths), width), generator=generator)
    return {"input_ids": ids * mask + pad * (1 - mask), "attention_mask": mask}


def word_tokenizer(folder: Path) -> Any:
    """A word-level BERT tokenizer over WORDS (anything else is [UNK]), whose vocabulary is written to a folder."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, ".", ","]
    vocabulary += [f"[unused{i}]" for i in range(VOCABULARY - len(vocabulary))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    return BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=40)


def save_tiny_classifier(folder: Path, tokenizer: Any) -> Path:
    """A tiny BERT classifier with two labels, NEG and POS, and its tokenizer."""
    classifier = tiny_classifier(num_labels=2)
    classifier.config.id2label, classifier.config.label2id = {0: "NEG", 1: "POS"}, {"NEG": 0, "POS": 1}
    classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """See `word_tokenizer`."""
    return word_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def tiny_classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `save_tiny_classifier`."""
    # not `tiny_tokenizer`: tests of analysis have another by that name, and this folder is everybody's
    tokenizer = word_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return save_tiny_classifier(tmp_path_factory.mktemp("classifier"), tokenizer)
