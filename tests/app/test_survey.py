"""Many documents read at once are what each is alone, and a survey goes on where it was left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app import survey, tracing
from app.documents import Document
from app.survey import Survey
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
        assert one.right == (trace.label == document.label)
    assert read[2].cut, "the long one is read as far as the model reads"


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
    assert whole.refused[0] == EMPTY and "room" in whole.refused[2]
    assert whole.table()["tokens"].dtype == np.int64


def test_intervals_of_shares() -> None:
    low, high = survey.share_interval(160, 200)
    assert (round(low, 3), round(high, 3)) == (
        0.739,
        0.850,
    )  # statsmodels' proportion_confint(160, 200, method="wilson")
    assert survey.share_interval(5, 5)[0] < 0.6, "five of five prove little"
