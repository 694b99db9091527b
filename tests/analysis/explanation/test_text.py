"""How a text is read: as the model's own pipeline does, word by word, or without any tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, pre_tokenizers
from transformers import RobertaTokenizer

from adapler.errors import ArgumentError, DataError
from adapler.text import load_tokenizer
from analysis import explain
from analysis.explanation.text import read_text
from tests.analysis.conftest import BAD

TEXT = "  a tedious\tfilm,  日本 unforgettable "


@pytest.fixture(scope="module")
def byte_level_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = RobertaTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])
    tokenizer.add_tokens([AddedToken("film", single_word=False)])
    tokenizer.save_pretrained(folder)
    return folder


def pieces_by_word(text: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for token, word in zip(text.tokens, text.window.words.tolist(), strict=True):
        found.setdefault("-" if word < 0 else text.words[word], []).append(token)
    return found


def test_a_string_is_read_as_the_pipeline_reads_it(tiny_tokenizer: Any) -> None:
    read = read_text(TEXT, tiny_tokenizer, max_length=64)
    assert read.window.input_ids.tolist() == tiny_tokenizer(TEXT)["input_ids"]
    assert read.words == ("a", "tedious", "film,", "日本", "unforgettable") and read.note == ""
    assert pieces_by_word(read) == {
        "-": ["[CLS]", "[SEP]"],
        "a": ["a"],
        "tedious": ["ted", "##ious"],
        "film,": ["film", ","],
        "日本": ["日", "本"],
        "unforgettable": ["un", "##forgettable"],
    }


def test_words_are_read_as_an_evaluation_reads_them(tiny_tokenizer: Any) -> None:
    words, string = (read_text(text, tiny_tokenizer, max_length=64) for text in (BAD, " ".join(BAD)))
    assert words.tokens == string.tokens and words.words == string.words == tuple(BAD)
    assert words.window.words.tolist() == string.window.words.tolist()


def test_a_byte_level_tokenizer_is_not_given_a_space_before_a_string(byte_level_folder: Path) -> None:
    plain, for_words = (load_tokenizer(byte_level_folder, words=words) for words in (False, True))
    string = read_text("ab c é", plain, max_length=64)
    assert string.window.input_ids.tolist() == plain("ab c é")["input_ids"]
    assert pieces_by_word(string) == {
        "-": ["<s>", "</s>"],
        "ab": ["a", "b"],
        "c": ["\u0120", "c"],
        "é": ["\u0120", "\u00b7", "é"],
    }
    cut = read_text("ab \U0001f642!", plain, max_length=7).tokens  # within the sign's four bytes
    assert cut[-1] == "</s>" and cut[-2] == "\u00b7"
    added = read_text("ab film \u00e9", plain, max_length=64).tokens
    assert "film" in added and added[-2] == "\u00e9"
    words = read_text(["ab", "c", "é"], for_words, max_length=64)
    assert words.tokens[1] == "\u0120" and len(words.tokens) == len(string.tokens) + 1


def test_both_texts_of_a_pair_are_scored_and_a_query_beside_words_is_not(tiny_tokenizer: Any) -> None:
    of_second = {"a dull film": [3, 4, 5, 6], ("a", "dull", "film"): [-1] * 4}
    for first, expected in of_second.items():
        given = first if isinstance(first, str) else list(first)
        read = read_text((given, "is the plot dull"), tiny_tokenizer, max_length=64)
        assert read.window.input_ids.tolist() == tiny_tokenizer("a dull film", "is the plot dull")["input_ids"]
        assert read.window.words.tolist() == [-1, 0, 1, 2, -1, *expected, -1]
        assert read.words == ("a", "dull", "film", *("is the plot dull".split() if isinstance(first, str) else ()))


def test_only_the_first_text_of_a_pair_is_cut(tiny_tokenizer: Any) -> None:
    for first in ("rain " * 20, ["rain"] * 20):
        read = read_text((first, "the plot"), tiny_tokenizer, max_length=12)
        assert read.tokens[-3:] == ("the", "plot", "[SEP]") and "13 of its 20 words are left out" in read.note
        with pytest.raises(
            (ArgumentError, DataError), match="4 tokens are read, and .* has 2|leaves no room for the document"
        ):
            read_text((first, "the plot"), tiny_tokenizer, max_length=4)


def test_without_a_tokenizer_tokens_are_words() -> None:
    read = read_text(["so", "dull"], None, max_length=512)
    assert read.tokens == read.words == ("so", "dull") and not read.window.special.any()
    with pytest.raises(ArgumentError, match="a pair needs a tokenizer"):
        read_text(("so dull", "why ?"), None, max_length=512)


def test_a_list_of_texts_is_not_one_text() -> None:
    with pytest.raises(ArgumentError, match="^text: a list is one text, word by word, and .*'so dull'.*as a string$"):
        explain(["so dull", "a fine film"])
    with pytest.raises(
        ArgumentError, match="and 'the plot is dull .' in this one holds white space; give one text, as"
    ):
        explain(["dull", "the plot is dull ."])
    assert read_text(["New York", "dull"], None, max_length=512).words == ("New York", "dull")


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        (
            {"max_length": 40, "long_documents": "last", "stride": None},
            "model.predict reads the last 40 tokens (run.json)",
        ),
        (
            {"max_length": 9, "long_documents": "truncate", "stride": None},
            "model.predict reads the first 9 tokens (run.json)",
        ),
        ({"max_length": 40, "long_documents": "truncate", "stride": None}, ""),
    ],
)
def test_another_part_that_predict_reads_is_told(
    encoding: dict[str, Any], said: str, adapler_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapler_folder, tmp_path / "model"))
    (folder / "run.json").write_text(json.dumps({"encoding": encoding}))
    note = explain("a good film " * 20, model=folder, methods=["cp"], max_length=40).note
    assert note.startswith("the text is longer than the input: the model reads 40 wordpieces of it")
    assert (said in note) if said else "predict" not in note
    assert "predict" not in explain("a good film", model=folder, methods=["cp"]).note
    whole = explain("a good film " * 4, model=folder, methods=["cp"]).note  # not cut, but longer than nine tokens
    assert ("the first 9 tokens" in whole) == (encoding["max_length"] == 9)


def test_what_cannot_be_read(tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="gives no wordpiece"):
        read_text("\u200b\x07", tiny_tokenizer, max_length=8)
    with pytest.raises(ArgumentError, match="max_length: got 2, must be at least 3"):
        read_text("dull", tiny_tokenizer, max_length=2)
    with pytest.raises(ArgumentError, match="cannot say where in the text"):
        read_text("dull", object(), max_length=8)
    with pytest.raises(ArgumentError, match="^max_length: 8 tokens are read, and the second text of the pair has 6 "):
        read_text(("dull", "film " * 6), tiny_tokenizer, max_length=8)
    with pytest.raises(ArgumentError, match="the second text of the pair gives no wordpiece"):
        read_text(("dull", "\u200b"), tiny_tokenizer, max_length=8)
    for half in ("a \ud800", ["a", "\ud800"], ("a", "\ud800")):
        with pytest.raises(ArgumentError, match="^text: holds half of a surrogate pair, which is not text$"):
            read_text(half, tiny_tokenizer, max_length=8)


def test_a_word_without_a_wordpiece_is_not_lost(tiny_tokenizer: Any) -> None:
    read = read_text("dull \u200b film", tiny_tokenizer, max_length=8)
    assert len(read.words) == 3 and read.note == "" and read.window.words.tolist() == [-1, 0, 2, -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["attention"], "target": "NEGATIVE"}, "target: 'NEGATIVE' is no class of this model"),
        ({"methods": ["attention"], "target": "gold"}, "target: got 'gold', and no gold= says which class that is"),
        ({"methods": ["saliency"], "target": "contrast:gold"}, "target: got 'contrast:gold', and no gold= says"),
        ({"methods": ["saliency"], "threshold_scale": 0.5}, "threshold_scale: got 0.5, but there is no AdapLeR model"),
        ({"model": None, "methods": [], "scores": {"mine": [1, 2, 3]}, "max_length": 2}, "max_length: no model is run"),
    ],
)
def test_an_argument_that_nothing_looks_at_is_refused(
    adapler_folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=f"^{message}"):
        explain("a dull film", **({"model": adapler_folder.parent / "plain"} | options))
