from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from adapler.errors import ArgumentError
from adapler.flops import adapler_flops, backbone_flops, speedup
from adapler.inference import (
    GPU_TOKEN_BUDGET,
    TOKEN_BUDGET,
    Predictions,
    batches_by_length,
    pad_rows,
    predict_rows,
    predictions,
    token_budget_for,
)
from adapler.text import Encoded, Encoding, choose_encoding
from tests.conftest import LAYERS, tiny_adapler, tiny_classifier

TEXTS = [
    "a great film",
    "the plot is dull",
    "never boring but very very good and fun",
    "fun",
    "the actor was not bad and the ending was so great , never dull .",
]
PAIRS = [("a great film", "the plot"), ("fun", "never boring but very good"), ("bad", "bad")]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_batches_hold_each_row_once_and_stay_in_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(batches_by_length(lengths, token_budget=budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch and (len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget)
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(flat, reverse=True)


def test_batches_by_hand() -> None:
    # longest first: 9 | 4, 4 (2 * 4 <= 10) | 3, 1, 1 (3 * 3 <= 10)
    assert list(batches_by_length([4, 1, 9, 3, 4, 1], token_budget=10)) == [[2], [0, 4], [3, 1, 5]]
    with pytest.raises(ArgumentError, match="^token_budget: 0 is not a whole number of at least 1$"):
        list(batches_by_length([1], token_budget=0))


def test_pad_rows_by_hand() -> None:
    rows = [{"input_ids": [5, 6], "attention_mask": [1, 1]}, {"input_ids": [7], "attention_mask": [1]}]
    padded = pad_rows(rows, pad_token_id=9, device=torch.device("cpu"))
    assert {name: value.tolist() for name, value in padded.items()} == {
        "input_ids": [[5, 6], [7, 9]],
        "attention_mask": [[1, 1], [1, 0]],
    }
    segments = [{**row, "token_type_ids": [1] * len(row["input_ids"])} for row in rows]
    assert pad_rows(segments, pad_token_id=9, device=torch.device("cpu"))["token_type_ids"].tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_predict_keeps_the_order_and_equals_one_by_one(texts: list[Any], tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    # a budget that forces several batches
    together = model.predict(texts, tokenizer=tiny_tokenizer, token_budget=30)
    assert len(together) == len(texts)
    for text, prediction in zip(texts, together, strict=True):
        (single,) = model.predict([text], tokenizer=tiny_tokenizer)
        assert (single.label, single.tokens, single.layers, single.lengths) == (
            prediction.label,
            prediction.tokens,
            prediction.layers,
            prediction.lengths,
        )
        assert single.probabilities == pytest.approx(prediction.probabilities, abs=1e-5)
        assert single.speedup == pytest.approx(prediction.speedup)


def test_predictions_are_those_of_the_forward_pass(tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    for text, prediction in zip(TEXTS, model.predict(TEXTS, tokenizer=tiny_tokenizer), strict=True):
        inputs = tiny_tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            out = model(**inputs)
        probabilities = out.logits[0].softmax(-1)
        best = int(probabilities.argmax())
        assert prediction.label == model.config.id2label[best]
        assert prediction.score == pytest.approx(float(probabilities[best]), abs=1e-5)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.tokens == ("[CLS]", *text.split(), "[SEP]")
        assert prediction.layers == tuple(out.retention_mask[0].sum(0).tolist())
        assert prediction.lengths == tuple(out.lengths[0].tolist())
        assert prediction.layers[0] == LAYERS
        n = torch.tensor([len(prediction.tokens)])
        assert prediction.speedup == pytest.approx(speedup(model.config, n, out.lengths))


def test_second_text_of_a_pair_has_its_own_segment(tiny_tokenizer: Any) -> None:
    (prediction,) = tiny_adapler().predict([("fun", "the plot")], tokenizer=tiny_tokenizer, removal="none")
    assert prediction.tokens == ("[CLS]", "fun", "[SEP]", "the", "plot", "[SEP]")
    inputs = tiny_tokenizer("fun", "the plot", return_tensors="pt")
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]
    logits = tiny_classifier()(**inputs).logits[0]
    assert list(prediction.probabilities.values()) == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)


def test_without_removal_the_speedup_is_one(tiny_tokenizer: Any) -> None:
    for prediction in tiny_adapler().predict(TEXTS, tokenizer=tiny_tokenizer, removal="none"):
        assert prediction.speedup == 1
        assert prediction.layers == (LAYERS,) * len(prediction.tokens)


def test_threshold_scale_trades_tokens(tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    totals = [
        sum(sum(p.lengths) for p in model.predict(TEXTS, tokenizer=tiny_tokenizer, threshold_scale=scale))
        for scale in (0.0, 1.0, 1e6)
    ]
    assert totals[0] > totals[1] > totals[2] == LAYERS * len(TEXTS)


def test_long_texts_are_truncated(tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    (full,) = model.predict(["fun " * 100], tokenizer=tiny_tokenizer)
    (short,) = model.predict(["fun " * 100], tokenizer=tiny_tokenizer, max_length=7)
    assert (len(full.tokens), len(short.tokens)) == (40, 7)  # 40 position embeddings


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(training: bool, tiny_tokenizer: Any) -> None:
    model = tiny_adapler().train(training)
    first, second = (model.predict(TEXTS, tokenizer=tiny_tokenizer) for _ in range(2))
    assert first == second and model.training is training  # no dropout
    with pytest.raises(ArgumentError):
        model.predict([""], tokenizer=tiny_tokenizer)
    assert model.training is training


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["fun", " \n"], {}, r"^texts: \[1\] .* empty, or no string$"),
        ([("fun", "")], {}, r"^texts: \[0\] "),
        (["fun"], {"removal": "soft"}, "^removal: 'soft' is not 'hard' or 'none'$"),
        (["fun"], {"max_length": 2}, "^max_length: 2 is not a whole number from 3 to the model's 40$"),
        (["fun"], {"max_length": 41}, "^max_length: 41 is not a whole number from 3 to the model's 40$"),
        ([("fun", "bad")], {"max_length": 3}, "^max_length: 3 leaves no room for 3 special tokens$"),
        (["fun"], {"removal": "none", "threshold_scale": 2.0}, "^threshold_scale: removal='none' drops no tokens$"),
        (["fun"], {"token_budget": 0}, "^token_budget: 0 is not a whole number of at least 1$"),
        (["fun"], {"threshold_scale": -1.0}, "^threshold_scale: -1.0 is not a number of at least 0$"),
        ("a great film", {}, "^texts: found str; give a list"),
        (["fun", ("fun", "bad")], {}, r"^texts: \[1\] .* strings only, or pairs"),
        ([("fun", "bad"), "fun"], {}, r"^texts: \[1\] "),
        ([("fun", "bad", "dull")], {}, r"^texts: \[0\] "),
        (["fun", None], {}, r"^texts: \[1\] "),
        ({"text": "fun"}, {}, "^texts: found dict; give a list"),
        (["fun", "\u200b \u200b"], {}, r"^texts: \[1\] gives no wordpieces, as an empty one$"),
    ],
)
def test_predict_errors(texts: Any, options: dict[str, Any], message: str, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match=message):
        tiny_adapler().predict(texts, tokenizer=tiny_tokenizer, **options)


def test_nothing_to_predict(tiny_tokenizer: Any) -> None:
    assert tiny_adapler().predict([], tokenizer=tiny_tokenizer) == []


def encoded(tokenizer: Any, texts: list[str]) -> list[dict[str, list[int]]]:
    return [dict(tokenizer(text)) for text in texts]


def test_predict_rows_on_a_plain_classifier(tiny_tokenizer: Any) -> None:
    classifier = tiny_classifier().train()
    rows = encoded(tiny_tokenizer, TEXTS)
    out = predict_rows(classifier, rows, pad_token_id=0, token_budget=20)
    assert classifier.training
    lengths = [len(text.split()) + 2 for text in TEXTS]
    assert out.lengths_in.tolist() == lengths
    assert out.lengths.tolist() == [[n] * LAYERS for n in lengths]
    for row, text in enumerate(TEXTS):
        expected = tiny_classifier()(**tiny_tokenizer(text, return_tensors="pt")).logits[0]
        assert_close(out.logits[row], expected, atol=1e-5, rtol=1e-5)


def test_predict_rows_on_adapler(tiny_tokenizer: Any) -> None:
    model, rows = tiny_adapler(), encoded(tiny_tokenizer, TEXTS)
    out = predict_rows(model, rows, pad_token_id=0, token_budget=20)
    full = predict_rows(model, rows, pad_token_id=0, removal="none")
    assert out.lengths.sum() < full.lengths.sum()
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            single = model(**tiny_tokenizer(text, return_tensors="pt"))
        assert_close(out.logits[row], single.logits[0], atol=1e-5, rtol=1e-5)
        assert out.lengths[row].tolist() == single.lengths[0].tolist()


def test_predict_rows_needs_rows() -> None:
    with pytest.raises(ArgumentError, match="^rows: nothing to predict$"):
        predict_rows(tiny_classifier(), [], pad_token_id=0)


def test_the_token_budget_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_budget_for(torch.device("cpu")) == TOKEN_BUDGET
    for gigabytes, budget in ((80, GPU_TOKEN_BUDGET), (8, 41943), (1, TOKEN_BUDGET)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=gigabytes: (free * 2**30, 0))
        assert token_budget_for(torch.device("cuda")) == budget


def test_outputs_are_read_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU each read waits for the device: reads must not grow with the rows of a batch."""
    model, reads = tiny_adapler(), []
    for name in ("cpu", "tolist", "item"):
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, plain=plain: reads.append(1) or plain(self))
    counts = []
    for number in (4, 12):
        reads.clear()
        predict_rows(model, [{"input_ids": [3, 5, 7, 9], "attention_mask": [1] * 4}] * number, pad_token_id=0)
        counts.append(len(reads))
    assert counts[0] == counts[1]


def test_a_stride_of_training_holds_for_the_length_of_training() -> None:
    trained = Encoding(max_length=32, long_documents="windows", stride=20)
    assert [choose_encoding(trained, max_length=length).stride for length in (None, 32, 16)] == [20, 20, None]


@pytest.mark.parametrize("hold", [np.array, pd.Series, iter, tuple])
@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_texts_in_any_container(hold: Any, texts: list[Any], tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    assert model.predict(hold(texts), tokenizer=tiny_tokenizer) == model.predict(texts, tokenizer=tiny_tokenizer)


def test_threads_that_share_a_tokenizer_do_not_cut_each_others_texts(tiny_tokenizer: Any) -> None:
    """The length at which a tokenizer cuts is its state."""
    model, texts = tiny_adapler(), ["the film was never boring " * 6, "a great film"] * 4

    def lengths(longest: int) -> set[int]:
        found = [model.predict(texts, tokenizer=tiny_tokenizer, max_length=longest) for _ in range(4)]
        return {max(len(one.tokens) for one in each) for each in found}

    asked = [6, 12, 18, 24, 30]
    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(lengths, asked)) == [{longest} for longest in asked]


@pytest.mark.parametrize("how", [{}, {"long_documents": "windows"}], ids=["whole", "windows"])
def test_a_tokenizer_that_is_stored_without_attention_masks(how: dict[str, Any], tiny_tokenizer: Any) -> None:
    """Padding of the shorter text would be read as text."""
    model, maskless = tiny_adapler(), copy.deepcopy(tiny_tokenizer)
    maskless.model_input_names = ["input_ids", "token_type_ids"]
    texts = ["fun", "the plot of the film is dull and the actor is bad"]
    expected = model.predict(texts, tokenizer=tiny_tokenizer, **how)
    assert model.predict(texts, tokenizer=maskless, **how) == expected


def test_logits_that_are_no_numbers_have_no_label(tiny_tokenizer: Any) -> None:
    model = tiny_adapler()
    with torch.no_grad():
        model.backbone.classifier.weight[0, 0] = torch.nan
    with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite, so that no label follows"):
        model.predict(TEXTS, tokenizer=tiny_tokenizer)


def test_windows_of_a_text_by_hand() -> None:
    """Mean logits, and the FLOPs of all windows together."""
    config = tiny_adapler().config
    logits, lengths_in = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 4.0], [0.0, 1.0, 0.0]]), torch.tensor([9, 5, 3])
    lengths = torch.tensor([[4, 2, 1], [5, 1, 1], [3, 3, 3]])
    found = predictions(
        SimpleNamespace(config=config),
        None,
        Encoded([], [0, 0, 1], []),
        Predictions(logits, lengths_in, lengths),
        removal="hard",
    )
    shares = torch.tensor([list(one.probabilities.values()) for one in found])
    assert_close(shares, torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]).softmax(-1))
    plain, spent = backbone_flops(config, lengths_in), adapler_flops(config, lengths_in, lengths)
    speedups = [(plain[0] + plain[1]) / (spent[0] + spent[1]), plain[2] / spent[2]]
    assert [one.speedup for one in found] == [float(value) for value in speedups]
    assert [one.lengths for one in found] == [(9, 3, 2), (3, 3, 3)] and [one.windows for one in found] == [2, 1]
    assert [one.length for one in found] == [14, 3]
