"""`model.predict`: whatever holds the texts, and what is refused in one line."""

from __future__ import annotations

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapler.errors import ArgumentError
from adapler.inference.predict import predict_rows
from tests.conftest import tiny_adapler

TEXTS = ["a great film", "the plot is dull"]
PAIRS = [("a great film", "the plot"), ("fun", "never boring")]


@pytest.mark.parametrize("hold", [np.array, pd.Series, iter, tuple, lambda texts: np.array(texts, dtype=object)])
@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_texts_in_any_container(hold: Any, texts: list[Any], tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    assert model.predict(hold(texts), tokenizer=tiny_tokenizer) == model.predict(texts, tokenizer=tiny_tokenizer)
    assert model.predict(hold([]), tokenizer=tiny_tokenizer) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (pd.DataFrame({"text": TEXTS}), "^texts: found DataFrame; give a list of strings or of pairs$"),
        ({"text": "fun"}, "^texts: found dict; give a list of strings or of pairs$"),
        (None, "^texts: found NoneType; give a list of strings or of pairs$"),
        (np.array("fun"), "^texts: one string; give a list of strings or of pairs$"),
        (np.array([1.5]), r"^texts: number 0 \(counted from 0\) is neither a string nor a pair of strings, but 1.5$"),
        (["fun", None], "neither a string nor a pair of strings, but nothing$"),
        ([{"text": "fun"}], r"neither a string nor a pair of strings, but {'text': 'fun'}$"),
        (
            ["fun", "bad \ud83d"],
            r"^texts: number 1 \(counted from 0\) holds half of a surrogate pair, which is not text$",
        ),
        (["fun", "\u200b \u200b"], r"^texts: number 1 \(counted from 0\) gives no wordpieces, as an empty one$"),
        ([("fun", "\u0301")], r"^texts: number 0 \(counted from 0\) gives no wordpieces"),
        ([("fun", "\udc00")], r"^texts: number 0 \(counted from 0\) holds half of a surrogate pair"),
    ],
)
def test_what_holds_no_texts(texts: Any, message: str, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match=message):
        tiny_adapler().predict(texts, tokenizer=tiny_tokenizer)


@pytest.mark.parametrize("tokenizer", ["runs/model", None])
def test_what_is_no_tokenizer(tokenizer: Any) -> None:
    found = type(tokenizer).__name__
    with pytest.raises(ArgumentError, match=f"^tokenizer: found {found}, a fast one of transformers is needed"):
        tiny_adapler().predict(TEXTS, tokenizer=tokenizer)


def test_a_tokenizer_without_padding(tiny_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.pad_token = None
    with pytest.raises(ArgumentError, match="^tokenizer: has no padding token; `tokenizer.pad_token = ...` names one$"):
        tiny_adapler().predict(TEXTS, tokenizer=tokenizer)


@pytest.mark.parametrize("how", [{}, {"long_documents": "windows", "max_length": 8}])
def test_another_models_tokenizer(how: dict[str, Any], tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    model.backbone.config.vocab_size = 10
    with pytest.raises(ArgumentError, match=r"^tokenizer: gives the id \d+, but the model has 10 wordpieces"):
        model.predict(TEXTS, tokenizer=tiny_tokenizer, **how)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *(
            ("threshold_scale", value, "not a number of at least 0")
            for value in (None, "1", float("inf"), float("nan"))
        ),
        *(("token_budget", value, "not a whole number of at least 1") for value in ("30", 1.5)),
        *(("max_length", value, "not a whole number from 3 to the model's 40") for value in ("7", 7.5)),
        *(("stride", value, "must be at least 0, and long_documents windows") for value in ("2", 2.5, -1)),
        *((name, "2", "not a number above 0") for name in ("speedup", "milliseconds")),
        ("max_drop", "0.1", r"not a number from 0 to 1 \(a drop of one point is 0.01\)"),
    ],
)
def test_options_that_are_no_numbers(name: str, value: Any, allowed: str, tiny_tokenizer: Any) -> None:
    options: dict[str, Any] = {"long_documents": "windows"} if name == "stride" else {}
    with pytest.raises(ArgumentError, match=rf"^{name}: {value!r} (is )?{allowed}$"):
        tiny_adapler().predict(TEXTS, tokenizer=tiny_tokenizer, **options, **{name: value})


def test_threads_that_share_a_tokenizer_do_not_cut_each_others_texts(tiny_tokenizer: Any) -> None:
    """At which length a tokenizer cuts is its state, and a text of signs alone is tokenised once more, uncut."""
    model, texts = tiny_adapler(), ["the film was never boring " * 6, "...", "a great film"] * 4

    def lengths(longest: int) -> set[int]:
        found = [model.predict(texts, tokenizer=tiny_tokenizer, max_length=longest) for _ in range(4)]
        return {max(len(one.tokens) for one in each) for each in found}

    asked = [6, 12, 18, 24, 30]
    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(lengths, asked)) == [{longest} for longest in asked]


def test_a_process_forked_while_a_thread_tokenizes_does_not_wait_for_it() -> None:
    """That thread is not in it, so nobody would ever give the lock back."""
    code = """if True:
        import os
        from adapler import long_texts
        with long_texts._TOKENIZING.lock:
            child = os.fork()
            if not child:
                os._exit(long_texts.tokenized(lambda text: len(text), "abc"))
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "3"


def test_the_last_tokens_are_read_without_a_copy_of_the_tokenizer(
    tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one with 30,000 wordpieces it takes 50 ms, in every call."""
    monkeypatch.setattr(type(tiny_tokenizer), "__deepcopy__", lambda *_: pytest.fail("a copy"), raising=False)
    found = tiny_adapler().predict(
        ["a great film was never dull"], tokenizer=tiny_tokenizer, max_length=5, long_documents="last"
    )
    assert found[0].tokens == ("[CLS]", "was", "never", "dull", "[SEP]") and tiny_tokenizer.truncation_side == "right"


def test_whole_numbers_of_other_kinds(tiny_tokenizer: Any) -> None:
    model, rows = tiny_adapler(), [{"input_ids": [3, 5], "attention_mask": [1, 1]}]
    options = {"token_budget": np.int64(30), "max_length": np.int32(7), "threshold_scale": np.float32(1)}
    assert model.predict(TEXTS, tokenizer=tiny_tokenizer, **options) == model.predict(TEXTS, tokenizer=tiny_tokenizer)
    assert predict_rows(model, rows, pad_token_id=0, threshold_scale=1).lengths_in.tolist() == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"progress": True}, "^progress: True is not a title for the progress bar, or None$"),
        ({"batch": 3}, "^batch: not an option of predict, which has removal, threshold_scale, max_length, .*dtype$"),
        ({"batch": 3, "dtype": "float32"}, "^batch: not an option of predict"),
    ],
)
def test_options_that_predict_does_not_have(options: dict[str, Any], message: str, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match=message):
        tiny_adapler().predict(TEXTS, tokenizer=tiny_tokenizer, **options)


@pytest.mark.parametrize("text", ["a great film", ""])
def test_every_part_is_in_the_mode_that_it_was_in(text: str, tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    model.train()
    model.backbone.bert.eval()  # frozen, without its dropout
    before = [module.training for module in model.modules()]
    with suppress(ArgumentError):
        model.predict([text], tokenizer=tiny_tokenizer)
    assert [module.training for module in model.modules()] == before
    predict_rows(model, [{"input_ids": [3, 5], "attention_mask": [1, 1]}], pad_token_id=0)
    assert [module.training for module in model.modules()] == before


def test_a_configuration_that_asks_for_tuples(tiny_tokenizer: Any) -> None:
    model, rows = tiny_adapler(), [{"input_ids": [3, 5], "attention_mask": [1, 1]}]
    expected = model.predict(TEXTS, tokenizer=tiny_tokenizer)
    logits = predict_rows(model, rows, pad_token_id=0).logits
    model.config.return_dict = False
    assert model.predict(TEXTS, tokenizer=tiny_tokenizer) == expected
    assert torch.equal(predict_rows(model, rows, pad_token_id=0).logits, logits)


def test_names_that_a_configuration_was_given(tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    for names in ({0: 0, 1: 1, 2: 2}, {"0": "0", "1": "1", "2": "2"}):
        model.config.id2label = names
        (first, _) = model.predict(TEXTS, tokenizer=tiny_tokenizer)
        assert list(first.probabilities) == ["0", "1", "2"] and first.probabilities[first.label] == first.score
    model.config.id2label = {0: "a", 1: "b"}
    with pytest.raises(ArgumentError, match="^id2label: has names for the labels 0, 1; the classifier's are 0 to 2$"):
        model.predict(TEXTS, tokenizer=tiny_tokenizer)


@pytest.mark.parametrize("how", [{}, {"long_documents": "windows"}], ids=["whole", "windows"])
@pytest.mark.parametrize("removal", ["none", "hard"])
def test_a_tokenizer_that_is_stored_without_attention_masks(
    removal: str, how: dict[str, Any], tiny_tokenizer: Any
) -> None:
    """Padding of the shorter text was read as text."""
    model, maskless = tiny_adapler(), copy.deepcopy(tiny_tokenizer)
    maskless.model_input_names = ["input_ids", "token_type_ids"]
    texts = ["fun", "the plot of the film is dull and the actor is bad"]
    expected = model.predict(texts, tokenizer=tiny_tokenizer, removal=removal, **how)
    assert model.predict(texts, tokenizer=maskless, removal=removal, **how) == expected


def test_logits_that_are_no_numbers_have_no_label(tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    with torch.no_grad():
        model.backbone.classifier.weight[0, 0] = torch.nan
    with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite, so that no label follows"):
        model.predict(TEXTS, tokenizer=tiny_tokenizer)
