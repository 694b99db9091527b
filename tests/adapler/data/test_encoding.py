from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.data.encoding import encode, load_tokenizer
from adapler.errors import ArgumentError, CheckpointError, DataError

CLS, SEP = 2, 3
A, B, C, D, E, _B = range(5, 11)  # the pieces a .. e and ##b
W = 11  # w0 is 11, w1 is 12, ...


def words(*rows: str) -> Dataset:
    return Dataset.from_dict(
        {
            "id": [f"d{n}" for n in range(len(rows))],
            "words": [row.split() for row in rows],
            "label": [n % 2 for n in range(len(rows))],
        }
    )


def pairs(*rows: tuple[str, str]) -> Dataset:
    first, second = zip(*rows, strict=True)
    return Dataset.from_dict({"id": [f"p{n}" for n in range(len(rows))], "text_a": first, "text_b": second})


def test_words(bert_tokenizer: Any) -> None:
    rows = list(encode(words("a ab c", "e"), bert_tokenizer, columns=("words",), max_length=10))
    assert rows[0] == {
        "id": "d0",
        "example_id": "d0",
        "input_ids": [CLS, A, A, _B, C, SEP],
        "attention_mask": [1] * 6,
        "token_type_ids": [0] * 6,
        "labels": 0,
    }
    assert rows[1]["input_ids"] == [CLS, E, SEP] and rows[1]["labels"] == 1


def test_text_and_pairs(bert_tokenizer: Any) -> None:
    text = Dataset.from_dict({"id": ["x"], "text_a": ["a ab"], "label": [1]})
    assert encode(text, bert_tokenizer, columns=("text_a",), max_length=9)[0]["input_ids"] == [CLS, A, A, _B, SEP]
    pair = encode(pairs(("a b", "c")), bert_tokenizer, columns=("text_a", "text_b"), max_length=9)
    assert pair[0]["input_ids"] == [CLS, A, B, SEP, C, SEP]
    assert pair[0]["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert "labels" not in pair.column_names


def test_truncate_and_last(bert_tokenizer: Any) -> None:
    data = words("a b c d e", "a b")
    first = encode(data, bert_tokenizer, columns=("words",), max_length=5)
    last = encode(data, bert_tokenizer, columns=("words",), max_length=5, policy="last")
    assert first["input_ids"][:] == [[CLS, A, B, C, SEP], [CLS, A, B, SEP]]
    assert last["input_ids"][:] == [[CLS, C, D, E, SEP], [CLS, A, B, SEP]]
    pair = pairs(("a", "b c d e"))
    for policy, expected in [("truncate", [B, C]), ("last", [D, E])]:
        row = encode(pair, bert_tokenizer, columns=("text_a", "text_b"), max_length=6, policy=policy)[0]
        assert row["input_ids"] == [CLS, A, SEP, *expected, SEP]
    long = pairs(("a b c d e", "w0 w1 w2 w3 w4"))
    for policy, expected in [("truncate", [A, B, SEP, W, W + 1]), ("last", [D, E, SEP, W + 3, W + 4])]:
        row = encode(long, bert_tokenizer, columns=("text_a", "text_b"), max_length=7, policy=policy)[0]
        assert row["input_ids"] == [CLS, *expected, SEP], "each text is cut at the side of the policy"


def test_windows_by_hand(bert_tokenizer: Any) -> None:
    data = words("w0 w1 w2 w3 w4 w5", "w9")
    rows = list(encode(data, bert_tokenizer, columns=("words",), max_length=6, policy="windows", stride=1))
    assert [(row["id"], row["example_id"], row["labels"]) for row in rows] == [
        ("d0#0", "d0", 0),
        ("d0#1", "d0", 0),
        ("d1#0", "d1", 1),
    ]
    inner = [[token - W for token in row["input_ids"][1:-1]] for row in rows]
    assert inner == [[0, 1, 2, 3], [3, 4, 5], [9]]
    assert all(row["input_ids"][0] == CLS and row["input_ids"][-1] == SEP for row in rows)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    max_length=st.integers(4, 30),
    data=st.data(),
)
def test_windows_cover_all_tokens(bert_tokenizer: Any, lengths: list[int], max_length: int, data: Any) -> None:
    room = max_length - 2
    stride = data.draw(st.integers(0, room - 1))
    table = words(*(" ".join(f"w{i}" for i in range(length)) for length in lengths))
    out = encode(table, bert_tokenizer, columns=("words",), max_length=max_length, policy="windows", stride=stride)
    assert len(set(out["id"])) == len(out)
    for n, length in enumerate(lengths):
        windows = [[token - W for token in row["input_ids"][1:-1]] for row in out if row["example_id"] == f"d{n}"]
        assert [row["id"] for row in out if row["example_id"] == f"d{n}"] == [f"d{n}#{k}" for k in range(len(windows))]
        joined = windows[0]
        for window in windows[1:]:
            assert window[:stride] == joined[len(joined) - stride :]
            joined = joined + window[stride:]
        assert joined == list(range(length))
        assert all(len(window) <= room for window in windows)


def test_windows_of_a_pair_cut_only_the_second_text(bert_tokenizer: Any) -> None:
    data = pairs(("a b", "w0 w1 w2 w3"), ("c", "w5"))
    rows = list(encode(data, bert_tokenizer, columns=("text_a", "text_b"), max_length=8, policy="windows", stride=1))
    assert [row["id"] for row in rows] == ["p0#0", "p0#1", "p1#0"]
    assert rows[0]["input_ids"] == [CLS, A, B, SEP, W, W + 1, W + 2, SEP]
    assert rows[1]["input_ids"] == [CLS, A, B, SEP, W + 2, W + 3, SEP]
    with pytest.raises(DataError, match="example 'p0': its first text has 2 tokens, .* max_length 6 and stride 1"):
        encode(data, bert_tokenizer, columns=("text_a", "text_b"), max_length=6, policy="windows", stride=1)


def test_windows_do_not_refuse_pairs_that_fit(bert_tokenizer: Any) -> None:
    """28 + 2 + 3 special tokens are 33: no window is needed at 40, though a stride of 9 would leave none."""
    first = " ".join(f"w{i}" for i in range(28))
    data = pairs((first, "a b"), ("a", "b"), (first, " ".join(f"w{i}" for i in range(20))))
    for stride in (None, 9):
        options = {"columns": ("text_a", "text_b"), "max_length": 40, "policy": "windows", "stride": stride}
        rows = list(encode(data.select([0, 1]), bert_tokenizer, **options))
        assert [row["id"] for row in rows] == ["p0#0", "p1#0"] and len(rows[0]["input_ids"]) == 33
    with pytest.raises(DataError, match="example 'p2': its first text has 28 tokens, .* max_length 40 and stride 9"):
        encode(data, bert_tokenizer, **options)
    rows = list(encode(data, bert_tokenizer, **{**options, "stride": None}))[2:]
    assert {row["example_id"] for row in rows} == {"p2"}
    seconds = [[token - W for token in row["input_ids"][30:-1]] for row in rows]
    assert seconds == [[*range(k, min(k + 9, 20))] for k in (0, 7, 14)], "9 tokens fit, so windows overlap by 2"
    long = pairs((first + " " + first, "a"))
    with pytest.raises(DataError, match="'p0': its first text has 56 tokens, .* room for windows of the second at max"):
        encode(long, bert_tokenizer, **{**options, "stride": None})


def queries(*rows: tuple[str, str]) -> Dataset:
    documents, asked = zip(*rows, strict=True)
    return Dataset.from_dict(
        {"id": [f"q{n}" for n in range(len(rows))], "words": [d.split() for d in documents], "query": asked}
    )


def test_a_query_is_in_every_input_and_only_the_document_is_cut(bert_tokenizer: Any) -> None:
    data = queries(("w0 w1 w2 w3 w4", "a  b"), ("w5 w6", " "), ("w7", "c"))
    end = [SEP, A, B, SEP]
    expected = {
        "truncate": [[CLS, W, W + 1, W + 2, *end]],
        "last": [[CLS, W + 2, W + 3, W + 4, *end]],
        "windows": [[CLS, W, W + 1, W + 2, *end], [CLS, W + 2, W + 3, W + 4, *end]],
    }
    for policy, inputs in expected.items():
        out = list(encode(data, bert_tokenizer, columns=("words", "query"), max_length=8, policy=policy, stride=1))
        assert [row["input_ids"] for row in out] == [*inputs, [CLS, W + 5, W + 6, SEP], [CLS, W + 7, SEP, C, SEP]]
        assert out[0]["token_type_ids"] == [0] * 5 + [1] * 3 and out[-2]["token_type_ids"] == [0] * 4
        assert [row["example_id"] for row in out] == ["q0"] * len(inputs) + ["q1", "q2"]
        with pytest.raises(DataError, match="example 'q0': its query has 2 tokens, which leaves no room for .*max_len"):
            encode(data, bert_tokenizer, columns=("words", "query"), max_length=5, policy=policy, stride=0)


@pytest.mark.parametrize(("policy", "left"), [("truncate", W), ("last", W + 4)])
def test_a_query_is_whole_when_it_is_longer_than_what_is_left(policy: str, left: int, bert_tokenizer: Any) -> None:
    """One word of the document is left; cutting the longer text first would share the cut out."""
    data = queries(("w0 w1 w2 w3 w4", "a b c d"))
    row = encode(data, bert_tokenizer, columns=("words", "query"), max_length=8, policy=policy)[0]
    assert row["input_ids"] == [CLS, left, SEP, A, B, C, D, SEP]


def test_nothing_is_left_behind(bert_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = copy.deepcopy(bert_tokenizer)
    before = (tokenizer.truncation_side, tokenizer.backend_tokenizer.truncation)
    words("a b c").save_to_disk("data")
    data = Dataset.load_from_disk("data")
    files = sorted(tmp_path.rglob("*"))
    for policy in ("truncate", "last", "windows"):
        encode(data, tokenizer, columns=("words",), max_length=4, policy=policy)
    assert sorted(tmp_path.rglob("*")) == files
    assert (tokenizer.truncation_side, tokenizer.backend_tokenizer.truncation) == before


def test_byte_level_tokenizers_need_the_space(roberta_folder: Path, generic_folder: Path) -> None:
    data = words("ab cd")
    for folder in (roberta_folder, generic_folder):
        glued = load_tokenizer(folder, words=False)
        with pytest.raises(ArgumentError, match="glues words together without add_prefix_space=True; .*load_tokenizer"):
            encode(data, glued, columns=("words",), max_length=16)
        tokenizer = load_tokenizer(folder)
        row = encode(data, tokenizer, columns=("words",), max_length=16)[0]
        pieces = tokenizer.convert_ids_to_tokens(row["input_ids"])
        assert [p for p in pieces if p not in ("<s>", "</s>")] == ["\u0120", "a", "b", "\u0120", "c", "d"]
    assert encode(Dataset.from_dict({"id": ["x"], "text_a": ["ab"]}), glued, columns=("text_a",), max_length=9)


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer can be loaded from there") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "middle"}, "policy: 'middle' is not one of truncate, last, windows"),
        ({"columns": ("text",)}, r"columns: \('text',\) is none of"),
        ({"columns": ("text_a",)}, "columns: 'text_a' is not in the data, which has id, words, label"),
        ({"max_length": 2}, "max_length: 2 leaves no room beside 2 special tokens"),
        ({"policy": "windows", "stride": 8}, "stride: 8 must be at least 0 and less than 8"),
        ({"policy": "windows", "stride": -1}, "stride: -1 must be"),
    ],
)
def test_bad_arguments(bert_tokenizer: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        encode(words("a"), bert_tokenizer, **{"columns": ("words",), "max_length": 10, **options})


def test_a_pair_that_fits_to_the_token_is_one_window(bert_tokenizer: Any) -> None:
    """5 tokens and 3 special ones at 8; windows of the second text, 2 tokens, could not overlap by 2."""
    options = {"columns": ("text_a", "text_b"), "max_length": 8, "policy": "windows", "stride": 2}
    rows = list(encode(pairs(("a b c", "w0 w1")), bert_tokenizer, **options))
    assert [row["input_ids"] for row in rows] == [[CLS, A, B, C, SEP, W, W + 1, SEP]]


@pytest.mark.parametrize("blank", ["\u200b", "\u200b \u200d", "\u0301"])
def test_a_row_without_wordpieces_is_refused_where_there_may_be_none(bert_tokenizer: Any, blank: str) -> None:
    for data, columns in ((words("a b", blank), ("words",)), (pairs(("a", "b"), ("a", blank)), ("text_a", "text_b"))):
        assert encode(data, bert_tokenizer, columns=columns, max_length=9).num_rows == 2
        with pytest.raises(DataError, match=r"^example '.1': its text '\\u.* gives no wordpieces, as an empty one$"):
            encode(data, bert_tokenizer, columns=columns, max_length=9, blank=False)
    asked = words("a").add_column("query", [""])
    assert encode(asked, bert_tokenizer, columns=("words", "query"), max_length=9, blank=False).num_rows == 1


def test_windows_overlap_by_128_where_they_are_long(bert_tokenizer: Any) -> None:
    data = words(" ".join(["w0"] * 700))
    rows = encode(data, bert_tokenizer, columns=("words",), max_length=602, policy="windows")
    assert [len(ids) for ids in rows["input_ids"]] == [602, 700 - 600 + 128 + 2]
