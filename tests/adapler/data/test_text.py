"""Token ids by hand: truncation, windows, pairs, queries, words."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.text import Encoding, choose_encoding, encode, encode_dataset, load_tokenizer, reading

CLS, SEP = 2, 3
A, B, C, D, E, _B = range(5, 11)  # the pieces a .. e and ##b
W = 11  # w0 is 11, w1 is 12, ...


def ids(texts: list[Any], tokenizer: Any, **options: Any) -> list[list[int]]:
    return [row["input_ids"] for row in encode(texts, tokenizer, **options).rows]


def numbered(count: int) -> list[str]:
    return [f"w{i}" for i in range(count)]


def test_strings_pairs_and_words(bert_tokenizer: Any) -> None:
    made = encode(["a ab", "e"], bert_tokenizer, seconds=[None, "c"], max_length=9)
    assert [row["input_ids"] for row in made.rows] == [[CLS, A, A, _B, SEP], [CLS, E, SEP, C, SEP]]
    assert made.rows[1]["token_type_ids"] == [0, 0, 0, 1, 1] and made.rows[0]["attention_mask"] == [1] * 5
    assert made.owners == [0, 1] and [len(row["input_ids"]) for row in made.rows] == [5, 5]
    words = encode([["a", "ab", "c"]], bert_tokenizer, max_length=9)
    assert words.encodings[0].word_ids == [None, 0, 1, 1, 2, None]


def test_truncate_and_last(bert_tokenizer: Any) -> None:
    for truncation, single, pair, long in (
        ("truncate", [A, B, C], [A, SEP, B, C], [A, B, SEP, W, W + 1]),
        ("last", [C, D, E], [A, SEP, D, E], [D, E, SEP, W + 3, W + 4]),
    ):
        options = {"truncation": truncation}
        assert ids(["a b c d e"], bert_tokenizer, max_length=5, **options) == [[CLS, *single, SEP]]
        assert ids(["a"], bert_tokenizer, seconds=["b c d e"], max_length=6, **options) == [[CLS, *pair, SEP]]
        seconds = [" ".join(numbered(5))]
        assert ids(["a b c d e"], bert_tokenizer, seconds=seconds, max_length=7, **options) == [[CLS, *long, SEP]]
    assert bert_tokenizer.truncation_side == "right"


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4), max_length=st.integers(4, 30), data=st.data())
def test_windows_cover_all_tokens(bert_tokenizer: Any, lengths: list[int], max_length: int, data: Any) -> None:
    room = max_length - 2
    stride = data.draw(st.integers(0, room - 1))
    texts = [numbered(length) for length in lengths]
    made = encode(texts, bert_tokenizer, max_length=max_length, truncation="windows", stride=stride)
    assert made.owners == sorted(made.owners) and set(made.owners) == set(range(len(texts)))
    for index, length in enumerate(lengths):
        mine = [row for row, owner in zip(made.rows, made.owners, strict=True) if owner == index]
        windows = [[token - W for token in row["input_ids"][1:-1]] for row in mine]
        joined = windows[0]
        for window in windows[1:]:
            assert window[:stride] == joined[len(joined) - stride :]
            joined = joined + window[stride:]
        assert joined == list(range(length))


def test_windows_of_a_pair_cut_the_second_text(bert_tokenizer: Any) -> None:
    options = {"truncation": "windows", "stride": 1}
    rows = ids(["a b", "c"], bert_tokenizer, seconds=["w0 w1 w2 w3", "w5"], max_length=8, **options)
    assert rows[:2] == [[CLS, A, B, SEP, W, W + 1, W + 2, SEP], [CLS, A, B, SEP, W + 2, W + 3, SEP]]
    with pytest.raises(DataError, match="text 0: its first text has 2 tokens, .* max_length 6 and stride 1"):
        encode(["a b"], bert_tokenizer, seconds=["w0 w1 w2 w3"], max_length=6, **options)
    # 28 + 2 + 3 special tokens fit at 40, though a stride of 9 would leave no room for windows.
    first = " ".join(numbered(28))
    assert len(ids([first], bert_tokenizer, seconds=["a b"], max_length=40, truncation="windows", stride=9)) == 1


def test_a_query_is_in_every_input_and_only_the_document_is_cut(bert_tokenizer: Any) -> None:
    texts, queries = [numbered(5), ["w5", "w6"], ["w7"]], [["a", "b"], [], ["c"]]
    end = [SEP, A, B, SEP]
    for truncation, inputs in {
        "truncate": [[CLS, W, W + 1, W + 2, *end]],
        "last": [[CLS, W + 2, W + 3, W + 4, *end]],
        "windows": [[CLS, W, W + 1, W + 2, *end], [CLS, W + 2, W + 3, W + 4, *end]],
    }.items():
        stride = 1 if truncation == "windows" else None
        options = {"seconds": queries, "truncation": truncation, "stride": stride}
        rows = ids(texts, bert_tokenizer, max_length=8, **options)
        assert rows == [*inputs, [CLS, W + 5, W + 6, SEP], [CLS, W + 7, SEP, C, SEP]]
        with pytest.raises(DataError, match="text 0: its query has 2 tokens, which leaves no room"):
            encode(texts, bert_tokenizer, max_length=5, **{**options, "stride": None})
    whole = ids([numbered(5)], bert_tokenizer, seconds=[["a", "b", "c", "d"]], max_length=8)
    assert whole == [[CLS, W, SEP, A, B, C, D, SEP]], "cutting the longer text first would share the cut out"


def test_windows_overlap_by_128_where_they_are_long(bert_tokenizer: Any) -> None:
    made = encode([["w0"] * 700], bert_tokenizer, max_length=602, truncation="windows")
    assert [len(row["input_ids"]) for row in made.rows] == [602, 700 - 600 + 128 + 2]


def test_a_data_set(bert_tokenizer: Any) -> None:
    rows = {"id": ["x", "y"], "words": [numbered(6), ["w9"]], "query": ["", " "], "label": [0, 1]}
    options = {"columns": ("words", "query"), "max_length": 6, "truncation": "windows", "stride": 1}
    made = encode_dataset(Dataset.from_dict(rows), bert_tokenizer, **options)
    assert list(zip(made["id"], made["example_id"], made["labels"], strict=True)) == [
        ("x#0", "x", 0),
        ("x#1", "x", 0),
        ("y#0", "y", 1),
    ]
    blank = Dataset.from_dict({"id": ["x"], "text_a": ["\u200b"]})
    assert encode_dataset(blank, bert_tokenizer, columns=("text_a",), max_length=9).num_rows == 1
    with pytest.raises(DataError, match="example 'x': its text gives no wordpieces"):
        encode_dataset(blank, bert_tokenizer, columns=("text_a",), max_length=9, blank=False)
    rows["query"][0] = "a b c d e"
    with pytest.raises(DataError, match="example 'x': its query has 5 tokens"):
        encode_dataset(Dataset.from_dict(rows), bert_tokenizer, **options)


def test_byte_level_tokenizers_need_the_space(roberta_folder: Path, generic_folder: Path) -> None:
    for folder in (roberta_folder, generic_folder):
        glued = load_tokenizer(folder, words=False)
        with pytest.raises(ArgumentError, match="glues words together without add_prefix_space=True"):
            encode([["ab", "cd"]], glued, max_length=16)
        tokenizer = load_tokenizer(folder)
        tokens = encode([["ab", "cd"]], tokenizer, max_length=16).encodings[0].tokens
        assert [t for t in tokens if t not in ("<s>", "</s>")] == ["\u0120", "a", "b", "\u0120", "c", "d"]


def test_a_tokenizer_that_is_not_the_models(tmp_path: Path, tiny_classifier_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer can be loaded from there"):
        load_tokenizer(tmp_path)
    folder = shutil.copytree(tiny_classifier_folder, tmp_path / "model")
    load_tokenizer(folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": "middle"}, "truncation: 'middle' is not one of truncate, last, windows"),
        ({"max_length": 2}, "max_length: 2 leaves no room for 2 special tokens"),
        ({"truncation": "windows", "stride": 8}, "stride: 8 must be at least 0 and less than 8"),
    ],
)
def test_bad_arguments(bert_tokenizer: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        encode(["a"], bert_tokenizer, **{"max_length": 10, **options})


def test_the_encoding_of_training_holds_unless_another_is_asked_for() -> None:
    trained = Encoding(max_length=256, long_documents="windows", stride=32)
    assert choose_encoding(None).note.startswith("the model's longest input, longer texts: truncate; no run.json")
    assert reading(choose_encoding(trained)) == "max_length 256, longer texts: windows, stride 32"
    assert choose_encoding(trained, max_length=128).stride is None, "a stride is of windows of its own length"
    with pytest.raises(ArgumentError, match="stride: 4 must be"):
        choose_encoding(None, stride=4)
