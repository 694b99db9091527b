"""Many documents read at once are what each is alone, and a survey goes on where it was left."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from app.model import comparing, faithful, measuring, survey, tracing
from app.model.joining import join_words
from app.model.survey import Survey
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS

EMPTY = "the text gives no wordpieces: to the model it is an empty one"
FOUND = [Document(name, text, label, (span,)) for name, (text, label, span) in DOCUMENTS.items()]


def test_each_document_is_read_as_alone(app_model: Any, tiny_tokenizer: Any) -> None:
    read = survey.read(app_model, tiny_tokenizer, FOUND, threshold_scale=0.8)
    for document, one in zip(FOUND, read, strict=True):
        trace = tracing.trace(
            app_model, tiny_tokenizer, document.words, rationale=document.rationale, threshold_scale=0.8
        )
        assert (one.verdict, one.full_verdict) == (trace.label, trace.full_label)
        assert one.probability == pytest.approx(trace.probabilities.max(), abs=1e-6)
        assert (one.tokens, one.last) == (len(trace), trace.lengths[-1])
        assert one.speedup == pytest.approx(trace.speedup)
        words = join_words(trace)
        assert one.depth.tolist() == words.depth[words.words >= 0].tolist()
        assert one.right == (trace.label == document.label)
    assert len(read[2].depth) < len(FOUND[2].words), "the long one is read as far as the model reads"


def test_a_survey_goes_on(app_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "BATCH", 1)
    whole = Survey(FOUND, threshold_scale=1.0)
    assert whole.table().empty and not whole.finished
    for done in (1, 2, 3, 3):
        whole.advance(app_model, tiny_tokenizer)
        assert whole.done == done
    table = whole.table()
    assert whole.finished and table["document"].tolist() == list(DOCUMENTS), "in the order of the documents"
    assert (table["changed"] == (table["verdict"] != table["without removal"])).all()


def test_a_document_that_cannot_be_read_has_no_verdict(
    app_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "BATCH", 1)
    blank, long = Document("blank", "\u200b \u200b"), Document("long", "good film", query="film " * 39)
    whole = Survey([blank, FOUND[0], long], threshold_scale=1.0)
    while not whole.finished:
        whole.advance(app_model, tiny_tokenizer)
    assert whole.table()["document"].tolist() == ["neg_1"] and whole.table().index.tolist() == [1]
    assert sorted(whole.refused) == [0, 2]
    assert whole.refused[0] == EMPTY and whole.refused[2].startswith("the second text alone is 39 tokens")
    assert whole.table()["tokens"].dtype == np.int64


def test_where_a_word_stands(app_model: Any, tiny_tokenizer: Any) -> None:
    whole = Survey(FOUND, threshold_scale=1.0)
    whole.advance(app_model, tiny_tokenizer)
    table = whole.occurrences("FILM")
    for row in table.itertuples():
        words = DOCUMENTS[row.document][0].split()
        assert words[row.at - 1] == "film" and "[film]" in row.context
    assert len(table) == sum(text.split().count("film") for text, _, _ in DOCUMENTS.values())
    first = survey.read(app_model, tiny_tokenizer, FOUND[:1])[0]
    assert table.iloc[0]["survives"] == first.depth[1] - 1
    late = table[table["document"] == "long_1"]["survives"]
    assert late.isna().any() and late.notna().any(), "behind what the model reads nothing is known"
    assert whole.occurrences("nowhere").empty


def test_intervals_of_shares() -> None:
    low, high = survey.share_interval(160, 200)
    assert (round(low, 3), round(high, 3)) == (
        0.739,
        0.850,
    )  # statsmodels' proportion_confint(160, 200, method="wilson")
    assert survey.share_interval(5, 5)[0] < 0.6, "five of five prove little"


def test_a_word_that_the_tokenizer_sees_nothing_in(app_model: Any, tiny_tokenizer: Any) -> None:
    read = survey.read(app_model, tiny_tokenizer, [Document("x", "film \u200d good", None)])
    assert read[0].depth.dtype == np.int8 and len(read[0].depth) == 3 and read[0].right is None


def test_a_configuration_that_asks_for_tuples(app_model: Any, tiny_tokenizer: Any) -> None:
    document, model = FOUND[0], copy.deepcopy(app_model)
    model.config.return_dict = False

    def told(of: Any) -> list[Any]:
        trace = tracing.trace(of, tiny_tokenizer, document.words, rationale=document.rationale)
        compared = {"rollout": comparing.compare(of, tiny_tokenizer, document, "rollout")}
        table, whole, label = faithful.table(of, tiny_tokenizer, document, trace, compared)
        swept = measuring.sweep(of, tiny_tokenizer, document.words)
        verdict = survey.read(of, tiny_tokenizer, [document])[0].verdict
        return [trace.probabilities.tolist(), table.to_csv(), whole, label, swept.to_csv(), verdict]

    assert told(model) == told(app_model)
    assert measuring.measure(model, tiny_tokenizer, document.words, threshold_scale=1.0).removal
