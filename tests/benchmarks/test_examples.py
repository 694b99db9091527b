"""The qualitative figure: the rule that chooses texts, and what is drawn of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adapler.errors import ArgumentError
from adapler.text import encode_dataset
from adapler.training.records import write_record
from benchmarks.tradeoff.examples import (
    NEEDED,
    Example,
    document_of,
    examples_figure,
    examples_of,
    main,
    select,
    words_of,
)
from tests.adapler.policies.policy_models import tiny_policy
from tests.conftest import WORDS, tiny_adapler


def test_median_length_then_median_speedup() -> None:
    lengths = np.array([10] * 12 + [30] * 3 + [1] * 3)  # median 10
    speedups = np.arange(1.0, 19.0)
    correct = np.ones(18, dtype=bool)
    # The median speedup is 9.5, between rows 8 and 9.
    assert select(lengths, speedups, correct, number=2) == [8, 9]
    correct[8] = False
    assert select(lengths, speedups, correct, number=1) == [9]
    assert select(lengths, np.full(18, 2.0), correct, number=1) == [0]  # of equal ones the first


def test_fewer_texts_of_median_length_than_needed() -> None:
    lengths = np.arange(1, 32)  # one of each length; the median is 16
    chosen = select(lengths, np.arange(31), np.ones(31, dtype=bool), number=31)
    assert len(chosen) == 31
    near = select(lengths, np.r_[np.full(30, 9.0), 1.0], np.ones(31, dtype=bool), number=3)
    assert all(abs(lengths[row] - 16) <= (NEEDED + 1) / 2 for row in near)
    with pytest.raises(ArgumentError, match="--examples: 2, but only 1 test texts are classified correctly"):
        select([1, 2], [1.0, 1.0], [True, False], number=2)


@pytest.fixture
def trained(tmp_path: Path, tiny_tokenizer: Any) -> tuple[Path, Path]:
    """A folder of tasks with a tiny qnli, and a model that drops tokens."""
    data = tmp_path / "data" / "qnli"
    data.mkdir(parents=True)
    random = np.random.default_rng(1)
    rows = [
        {"text_a": " ".join(random.choice(WORDS, 3)), "text_b": " ".join(random.choice(WORDS, 5)), "label": row % 3}
        for row in range(30)
    ]
    for split in ("train", "validation", "test"):
        (data / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    folder = tmp_path / "model"
    model = tiny_adapler(eta=0.9)
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    write_record(folder / "run.json", {"encoding": {"max_length": 20}})
    return tmp_path / "data", folder


def test_what_is_drawn_is_what_the_model_keeps(trained: tuple[Path, Path], tiny_tokenizer: Any) -> None:
    data, folder = trained
    (one,) = examples_of("qnli", str(data / "qnli"), folder, scale=1.0, number=1)
    document = one.document
    assert one.title.startswith("QNLI, test-") and one.title.endswith(f"×, {len(document)} tokens")
    assert document.tokens[0] == "[CLS]" and document.special.tolist() == [True, *[False] * 9, True]
    assert document.tokens[4] == "[SEP]"  # between the texts, and shown
    model = tiny_adapler(eta=0.9)
    ids = tiny_tokenizer.convert_tokens_to_ids(list(document.tokens))
    row = {"id": "x", "input_ids": ids, "attention_mask": [1] * 11, "token_type_ids": [0] * 5 + [1] * 6}
    again = document_of(model, tiny_tokenizer, row, words=document.words, scale=1.0, label="0")
    assert document.retention is not None and (document.retention == again.retention).all()
    assert not document.retention.all() and document.retention[:, 0].all()
    gone = ~document.retention[0]
    assert (document.scores["cp"][1][gone] == 0).all()


def test_a_model_of_another_task_is_refused(trained: tuple[Path, Path]) -> None:
    """Two pairs that were mixed up: labels would be compared by number, and the title name the wrong task."""
    data, folder = trained
    for task, refused in (("qnli", False), ("qnli_dev", False), ("mine", False), ("sst2", True), ("qnli2", True)):
        (data / "qnli" / "meta.json").write_text(json.dumps({"name": "mine", "labels": ["0", "1", "2"]}))
        write_record(folder / "run.json", {"task": task, "encoding": {"max_length": 20}})
        if not refused:
            assert len(examples_of("qnli", str(data / "qnli"), folder, scale=1.0, number=1)) == 1
            continue
        with pytest.raises(ArgumentError, match=f"--model: {folder} was trained on {task}, not on qnli"):
            examples_of("qnli", str(data / "qnli"), folder, scale=1.0, number=1)


def test_labels_are_numbered_as_the_model_numbers_them(trained: tuple[Path, Path]) -> None:
    """A classifier that was trained on other data may count its classes in another order than the task's file."""
    data, folder = trained
    meta = data / "qnli" / "meta.json"
    (same,) = examples_of("qnli", str(data / "qnli"), folder, scale=1.0, number=1)
    names = ["yes", "no", "maybe"]
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = config["backbone_config"]["id2label"] = dict(enumerate(names))
    config["label2id"] = config["backbone_config"]["label2id"] = {name: place for place, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    meta.write_text(json.dumps({"name": "qnli", "labels": ["maybe", "yes", "no"]}), encoding="utf-8")
    for file in (data / "qnli").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        text = "\n".join(json.dumps(row | {"label": (row["label"] + 1) % 3}) for row in rows)
        file.write_text(text, encoding="utf-8")
    (one,) = examples_of("qnli", str(data / "qnli"), folder, scale=1.0, number=1)
    assert one.document.id == same.document.id and one.document.label == names[int(same.document.label)]


BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
TEXTS = ("fun film.", "a  é")


def with_template(tokenizer: Tokenizer) -> Any:
    """A fast tokenizer that frames texts as RoBERTa does; ids 0 to 3 are the special tokens and the unknown one."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def byte_level(*, prefix: bool) -> Any:
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "</s>", "<pad>", "<unk>", *BYTES, "\u0120f", "\u0120fi"])}
    made = Tokenizer(models.BPE(vocabulary, [("\u0120", "f"), ("\u0120f", "i")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return with_template(made)


def sentence_pieces() -> Any:
    pieces = [*(("<s>", "</s>", "<pad>", "<unk>")), "\u2581fun", "\u2581fi", "lm", ".", "\u2581a", "\u2581", "é"]
    made = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return with_template(made)


def words_and_tokens(
    tokenizer: Any, texts: Sequence[str | list[str]], *, max_length: int = 40
) -> tuple[list[str], list[int]]:
    """Tokens of an input as training encodes it, and their words by `words_of`."""
    columns = (("words", "query") if isinstance(texts[0], list) else ("text_a", "text_b"))[: len(texts)]
    row = {"id": ["x"], **{column: [text] for column, text in zip(columns, texts, strict=True)}}
    encoded = encode_dataset(Dataset.from_dict(row), tokenizer, columns=columns, max_length=max_length)[0]
    words = words_of(tokenizer, texts, max_length=max_length).tolist()
    return tokenizer.convert_ids_to_tokens(encoded["input_ids"]), words


def test_words_of_byte_level_pieces() -> None:
    """Pieces that begin a word are marked (\u0120), not those that go on."""
    tokens, words = words_and_tokens(byte_level(prefix=False), TEXTS)
    assert tokens[:11] == ["<s>", *"fun", "\u0120fi", *"lm.", "</s>", "</s>", "a"]
    assert words[:11] == [-1, 0, 0, 0, 1, 1, 1, 1, 2, 3, 4]
    assert len(words) == len(tokens) and set(words[11:-1]) <= {4, 5} and words[-2:] == [5, -1]
    tokens, words = words_and_tokens(byte_level(prefix=True), [["fun", "film", "."], "a é"])
    assert tokens[:12] == ["<s>", "\u0120f", *"un", "\u0120fi", *"lm", "\u0120", ".", "</s>", "</s>", "\u0120"]
    assert words == [-1, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 5, 6, 6, 6, -1]


def test_words_of_sentence_pieces_and_the_separator_of_a_pair() -> None:
    tokens, words = words_and_tokens(sentence_pieces(), TEXTS)
    assert tokens[:8] == ["<s>", "\u2581fun", "\u2581fi", "lm", ".", "</s>", "</s>", "\u2581a"]
    assert words[:8] == [-1, 0, 1, 1, 1, 2, 3, 4] and words[-2:] == [5, -1]


def test_words_of_wordpieces(tiny_tokenizer: Any) -> None:
    tokens, words = words_and_tokens(tiny_tokenizer, ["the film. so", "dull ,"])
    assert tokens == ["[CLS]", "the", "film", ".", "so", "[SEP]", "dull", ",", "[SEP]"]
    assert words == [-1, 0, 1, 1, 2, 3, 4, 5, -1]
    assert words_and_tokens(tiny_tokenizer, [["dull", "film."], " "])[1] == [-1, 0, 1, 1, -1]  # no query
    long = words_and_tokens(tiny_tokenizer, ["so dull " * 9, "a film"], max_length=14)  # cut as in training
    assert len(long[0]) == 14 and long[1] == [-1, *range(12), -1]


@pytest.mark.parametrize("policy", ["transkimmer", "ltp"])
def test_scores_have_the_name_of_their_policy(policy: str, tiny_tokenizer: Any) -> None:
    model = tiny_policy(policy)
    row = {"id": "x", **tiny_tokenizer("the film is so dull and never fun")}
    words = words_of(tiny_tokenizer, ["the film is so dull and never fun"], max_length=20)
    document = document_of(model, tiny_tokenizer, row, words=words, scale=1.0, label="0")
    assert set(document.scores) == {"policy"} and document.n_layers == len(document.scores["policy"])
    assert document.retention is not None and not document.retention.all()
    figure = examples_figure([Example("a text", document)])
    drawn = [text for text in figure.axes[0].texts if text.get_text() in ("film", "dull")]
    assert {text.get_color() for text in drawn} > {"black"}  # dropped ones are pale


def test_the_command(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, folder = trained
    words = ["--data-root", str(data), "--output", str(tmp_path / "figure")]
    assert main([*words, "--model", f"qnli={folder}", "--examples", "2"]) == 0
    assert {path.suffix for path in tmp_path.glob("figure.*")} == {".pdf", ".png", ".svg"}
    with pytest.raises(ArgumentError, match="--model: 'x' is not TASK=FOLDER"):
        main([*words, "--model", "x"])
    with pytest.raises(ArgumentError, match="--examples: 0 is not at least 1"):
        main([*words, "--model", f"qnli={folder}", "--examples", "0"])
