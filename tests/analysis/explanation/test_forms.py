"""Rationales and saved scores, in the forms that people write them down in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapler.errors import ArgumentError
from analysis import explain, loading, rationale_eval
from analysis.corpus import load_corpus, word_mask
from tests.analysis.conftest import BAD, GOOD


@pytest.mark.parametrize(
    "rationale",
    [
        [0, 1, 1, 0, 1],
        [False, True, True, False, True],
        np.array([0, 1, 1, 0, 1]),
        np.array([0.0, 1.0, 1.0, 0.0, 1.0]),
        pd.Series([0, 1, 1, 0, 1]),
        pd.Series([1, 0, 1, 1, 0], index=[4, 3, 2, 1, 0]),
        [(1, 3), (4, 5)],
        np.array([[1, 3], [4, 5]]),
        [1, 2, 4],
        [4, 2, 1],
        (1, 2, 4),
    ],
)
def test_forms_of_a_rationale(rationale: Any) -> None:
    assert word_mask(rationale, 5).tolist() == [False, True, True, False, True]


def test_nothing_marked() -> None:
    assert word_mask((0, 1), 2).tolist() == [False, True], "a mark for each word"
    assert not word_mask([], 3).any() and not word_mask([0, 0, 0], 3).any()
    assert not word_mask(pd.Series([], dtype=object), 3).any()


def test_metrics_take_the_rationale_that_was_given(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=classifier, tokenizer=tiny_tokenizer, methods="attention", rationale=[(1, 4)])
    pd.testing.assert_frame_equal(e.metrics(), e.metrics([1, 2, 3]))
    pd.testing.assert_frame_equal(e.metrics(metrics="fpr"), e.metrics(metrics=["fpr"]))


def test_an_undefined_metric_is_never_a_number(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=classifier, tokenizer=tiny_tokenizer, methods=["attention", "saliency"])
    for rationale, reason in (([], "no rationale in view"), ([1] * len(BAD), "nothing but rationale in view")):
        frame = e.metrics(rationale)
        assert frame[["average_precision", "fpr", "tpr", "j", "chance"]].isna().all(axis=None)
        assert e.undefined(rationale) == reason
    assert e.undefined([1]) is None
    signed = explain(BAD, model=classifier, tokenizer=tiny_tokenizer, methods="saliency_signed").metrics([1])
    assert signed[["fpr", "tpr", "j"]].isna().all(axis=None) and signed["average_precision"].notna().all()


@pytest.mark.parametrize("name", ["token_f1", "f1_at_density", "token_f1_at_mean", "aopc_sufficiency"])
def test_metrics_of_a_data_set_are_refused(name: str, classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=classifier, tokenizer=tiny_tokenizer, methods="attention")
    with pytest.raises(ArgumentError, match=f"metrics: '{name}'.*rationale_eval.evaluate computes it"):
        e.metrics([1], metrics=[name])


def test_selection_at_one_over_n(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp", "saliency_signed"])
    cp = e.methods["cp"]
    selected, among_present = cp.selected(), cp.selected(present=True)
    assert selected is not None and among_present is not None and e.methods["saliency_signed"].selected() is None
    assert cp.n_present.tolist() == e.present.sum(1).tolist() and cp.n_present[-1] < e.n
    np.testing.assert_array_equal(selected, cp.scores * e.n >= 1 - 1e-6)
    np.testing.assert_array_equal(among_present, cp.scores * cp.n_present[:, None] >= 1 - 1e-6)


def test_saved_scores_of_words_tokens_and_layers(classifier: Any, tiny_tokenizer: Any) -> None:
    words = np.arange(1.0, len(BAD) + 1)
    e = explain(
        BAD,
        model=classifier,
        tokenizer=tiny_tokenizer,
        methods="attention",
        scores={
            "words": words,
            "layers": [words, words[::-1]],
            "tokens": torch.arange(12, dtype=torch.bfloat16),
            "signed": -words,
            "names": {"dull": 3, "tedious": 1},
            "indices": {1: 3, np.int64(3): 1},
        },
    )
    assert e.tokens[4:6] == ("ted", "##ious") and e.tokens[8:10] == ("forget", "##table") and e.n == 12
    by_token = np.array([0, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 0.0])
    np.testing.assert_allclose(e.scores["words"], [by_token / by_token.sum()])
    backwards = np.where(by_token > 0, 9 - by_token, 0)
    np.testing.assert_allclose(e.scores["layers"], [by_token / by_token.sum(), backwards / backwards.sum()])
    np.testing.assert_allclose(e.scores["tokens"], [np.arange(12.0) / 66])
    np.testing.assert_allclose(e.scores["signed"], [-by_token])
    np.testing.assert_allclose(e.scores["names"], e.scores["indices"])
    np.testing.assert_allclose(e.scores["names"][0][[2, 4, 5]], [0.6, 0.2, 0.2])
    assert [m.signed for m in e.methods.values()] == [False, False, False, False, True, False, False]
    assert [m.layerwise for m in e.methods.values()] == [True, False, True, False, False, False, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], r"scores: 'mine' has the shape \(3,\), must have a score for each of the 8 words, or of the 12"),
        ([], r"has the shape \(0,\)"),
        ([[[1.0]]], r"has the shape \(1, 1, 1\)"),
        (["high"] * 8, "scores: 'mine' must be numbers"),
        ([torch.ones((), requires_grad=True)] * 8, "scores: 'mine' must be numbers"),
        ([[1.0] * 8, [1.0] * 7], "scores: 'mine' must be numbers, in rows of one length"),
        ([float("nan")] * 8, "scores: 'mine': a score is NaN or infinite"),
        ({"a": 1, "awful": 2}, "scores: 'mine': the word 'awful' is not in the text"),
        ({8: 1}, "scores: 'mine': 8 is no word, nor one of the indices 0 to 7"),
        ({0: "high"}, "scores: 'mine': 'high' is no number"),
        (pd.Series([1.0, 2.0], index=[3, 3]), "scores: 'mine': the index of the Series names '3' twice"),
    ],
)
def test_saved_scores_that_do_not_fit(values: Any, message: str, classifier: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match=message):
        explain(BAD, model=classifier, tokenizer=tiny_tokenizer, methods=[], scores={"mine": values})


def test_a_series_goes_by_its_index(classifier: Any, tiny_tokenizer: Any) -> None:
    by_word = pd.Series(np.arange(1.0, 9.0))
    e = explain(
        BAD,
        model=classifier,
        tokenizer=tiny_tokenizer,
        methods=[],
        scores={
            "list": by_word.tolist(),
            "series": by_word,
            "sorted": by_word.sort_values(ascending=False),
            "filtered": by_word[[5, 2]],
            "indices": {2: 3.0, 5: 6.0},
        },
    )
    np.testing.assert_array_equal(e.scores["series"], e.scores["list"])
    np.testing.assert_array_equal(e.scores["sorted"], e.scores["list"])
    np.testing.assert_array_equal(e.scores["filtered"], e.scores["indices"])


def test_a_word_that_occurs_twice_has_no_name(classifier: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="the word 'rain' is 2 times in the text; name words by index"):
        explain("rain rain", model=classifier, tokenizer=tiny_tokenizer, methods=[], scores={"mine": {"rain": 1}})


def test_as_many_words_as_tokens(classifier: Any, tiny_tokenizer: Any) -> None:
    options = {"model": classifier, "tokenizer": tiny_tokenizer, "methods": [], "max_length": 12}
    with pytest.raises(ArgumentError, match="as many words as tokens, 12"):
        explain(["rain"] * 12, scores={"mine": [1.0] * 12}, **options)
    assert explain(["rain"] * 12, scores={"mine": {11: 1.0, 0: 1.0}}, **options).scores["mine"][0][1] == 1


def test_saved_scores_are_judged_as_an_evaluation_judges_them(adapler_folder: Path, corpus_folder: Path) -> None:
    corpus = load_corpus(corpus_folder)
    made = {e.id: np.random.default_rng(k).random(len(e.words)).round(1) for k, e in enumerate(corpus.splits["test"])}
    examples = {example.id: example for example in corpus.splits["test"]}
    report = rationale_eval.evaluate(
        adapler=adapler_folder, data=corpus, methods=["random"], predictions={"mine": made}, progress=False
    )
    frame = report.to_frame()
    rows = frame[(frame["method"] == "mine") & (frame["layer"] == 0)].set_index(["document", "metric"])["value"]
    for name, example in examples.items():
        e = explain(list(example.words), model=adapler_folder, methods=[], scores={"mine": made[name]}, name=name)
        values = e.metrics(example.rationale()).iloc[0]
        for metric in ("average_precision", "fpr", "tpr", "j"):
            if name in rows.index.get_level_values(0):
                assert values[metric] == pytest.approx(rows[name, metric], abs=1e-12)
            else:
                assert np.isnan(values[metric])


def test_saved_scores_alone_need_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_models", lambda *_, **__: pytest.fail("a model is loaded"))
    e = explain(GOOD, methods=[], scores={"mine": {"superb": 2, "moving": 1}}, rationale=[1, 3])
    assert e.tokens == tuple(GOOD) and e.prediction is None and e.probabilities is None and e.labels == ()
    assert e.metrics()["average_precision"].tolist() == [1.0]
    assert repr(e).startswith("no model ran\n") and "superb" in e._repr_html_()
    assert e.to_frame()["score"].max() == pytest.approx(2 / 3)


def test_scores_that_mark_nothing_select_nothing(tiny_tokenizer: Any) -> None:
    nothing = {"words": np.zeros(8), "tokens": np.zeros(12)}
    e = explain(BAD, tokenizer=tiny_tokenizer, methods=[], scores=nothing, rationale=[(1, 2)])
    for name in nothing:
        assert not e.scores[name].any()
        assert not np.asarray(e.methods[name].selected()).any()
