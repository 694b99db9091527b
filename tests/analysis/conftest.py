"""A tiny random classifier, an AdapLeR model on it, a tokenizer of its own and a corpus in ERASER layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from adapler import AdapLeRForSequenceClassification
from analysis.corpus import align, collate
from analysis.scores import Batch

GOOD = ["a", "superb", "and", "moving", "film", ",", "unforgettable", "."]
BAD = ["a", "dull", "and", "tedious", "film", ",", "forgettable", "."]
PIECES = [
    "un",
    "##forgettable",
    "forget",
    "##table",
    "ted",
    "##ious",
    "na",
    "##ive",
    "superb",
    "moving",
    "dull",
]
WORDS = ["a", "and", "film", "the", "plot", "is", "of", "rain", ",", ".", "日", "本"]


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    # [CLS] and [SEP] are not where BERT has them: nothing may rely on their ids
    vocabulary = ["x", "[SEP]", "y", "[UNK]", "[CLS]", "[PAD]", *WORDS, *PIECES, "[MASK]"]
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def tiny_bert(n_labels: int = 2) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        num_labels=n_labels,
        initializer_range=0.4,
        hidden_dropout_prob=0.5,
        id2label={0: "NEG", 1: "POS"} if n_labels == 2 else None,
        label2id={"NEG": 0, "POS": 1} if n_labels == 2 else None,
    )
    return BertForSequenceClassification(config).eval()


@pytest.fixture
def classifier() -> BertForSequenceClassification:
    return tiny_bert()


@pytest.fixture(scope="session")
def adapler_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("models")
    tiny_bert().save_pretrained(folder / "plain")
    tiny_tokenizer.save_pretrained(folder / "plain")
    model = AdapLeRForSequenceClassification.from_backbone(folder / "plain")
    torch.manual_seed(1)
    with torch.no_grad():
        for predictor in model.contribution_predictors:
            predictor.score.weight.normal_(std=1.0)
        model.eta.fill_(0.6)
    model.save_pretrained(folder / "adapler")
    tiny_tokenizer.save_pretrained(folder / "adapler")
    return folder / "adapler"


@pytest.fixture
def reducer(adapler_folder: Path) -> AdapLeRForSequenceClassification:
    model: AdapLeRForSequenceClassification = AdapLeRForSequenceClassification.from_pretrained(adapler_folder)
    return model


class Document:
    """The least that `align` asks for."""

    def __init__(self, name: str, words: list[str], marked: list[int]) -> None:
        self.id, self.words = name, tuple(words)
        self._rationale = np.zeros(len(words), dtype=bool)
        self._rationale[marked] = True

    def rationale(self) -> np.ndarray:
        return self._rationale


def documents() -> list[Document]:
    return [
        Document("one", GOOD, [1, 2, 3]),
        Document("two", [*BAD, *GOOD, "the", "plot"], [1]),
        Document("three", ["rain"], [0]),
        Document("four", ["the", "plot", "is", *BAD], [4, 6]),
    ]


def batch_of(tokenizer: Any, chosen: list[Document], **options: Any) -> Batch:
    windows = [align(document, tokenizer, max_length=32).windows[0] for document in chosen]
    options.setdefault("labels", [0] * len(chosen))
    options.setdefault("mask_token_id", tokenizer.mask_token_id)
    return collate(windows, pad_token_id=tokenizer.pad_token_id, **options)


@pytest.fixture
def batch(tiny_tokenizer: Any) -> Batch:
    return batch_of(tiny_tokenizer, documents())


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """Six test documents: one without a rationale, one that is all rationale, one longer than the input."""
    folder = tmp_path / "films"
    (folder / "docs").mkdir(parents=True)
    texts = {
        "neg_0": (BAD, [(1, 4)]),
        "neg_1": (["the", "plot", "is", *BAD], [(4, 5), (6, 7)]),
        "neg_none": (BAD, []),
        "pos_0": (GOOD, [(1, 2)]),
        "pos_all": (["superb"], [(0, 1)]),
        "pos_long": ([*GOOD, *["rain"] * 30, *GOOD], [(1, 4), (39, 42)]),
    }
    lines = []
    for name, (words, spans) in texts.items():
        (folder / "docs" / name).write_text(" ".join(words) + "\n")
        evidence = [
            {
                "docid": name,
                "start_token": start,
                "end_token": end,
                "text": " ".join(words[start:end]),
                "start_sentence": -1,
                "end_sentence": -1,
            }
            for start, end in spans
        ]
        lines.append(
            {
                "annotation_id": name,
                "classification": name[:3].upper(),
                "docids": None,
                "evidences": [evidence],
                "query": "",
                "query_type": None,
            }
        )
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
