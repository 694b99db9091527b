"""The page itself, run by Streamlit's own test harness on a tiny model and corpus."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from adapler.flops import speedup
from app import loading, panels, render
from tests.app.conftest import DOCUMENTS
from tests.app.test_render import Reader

PAGE = Path(loading.__file__).with_name("main.py")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app_checkpoints: Path, app_corpus: Path) -> AppTest:
    """The page before its first run, with the checkpoint `tiny` chosen."""
    monkeypatch.setattr(loading, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", "--checkpoints", str(app_checkpoints), "--data", str(app_corpus)])
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    app.session_state["checkpoint"] = "tiny"
    return app


def bodies(page: AppTest, mark: str) -> list[str]:
    return [element.body for element in page.get("html") if f'class="{mark}"' in element.body]


def shown(page: AppTest) -> str:
    """The text of the cards at the top."""
    return Reader(bodies(page, "al-cards")[0]).text


def lengths_shown(page: AppTest) -> list[int]:
    return [int(count) for count in re.findall(r"<b>(\d+)</b> of", bodies(page, "al-grid")[0])]


def expected(model: Any, tokenizer: Any, text: str, scale: float = 1.0) -> tuple[str, list[int], str]:
    """(verdict, lengths, speedup) straight from the model."""
    batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=40)
    with torch.no_grad():
        out = model(**batch, removal="hard", threshold_scale=scale)
    probabilities = out.logits[0].softmax(-1)
    best = int(probabilities.argmax())
    gain = speedup(model.config, torch.tensor([batch["input_ids"].shape[1]]), out.lengths)
    return f"{model.config.id2label[best]} {probabilities[best]:.0%}", out.lengths[0].tolist(), render.cheaper(gain)


def check(page: AppTest, model: Any, tokenizer: Any, text: str, scale: float = 1.0) -> None:
    assert not page.exception and not page.error
    verdict, lengths, gain = expected(model, tokenizer, text, scale)
    assert verdict in shown(page) and gain in shown(page)
    assert lengths_shown(page) == lengths
    assert f"{lengths[-1]} of " in shown(page)
    assert page.dataframe[0].value["tokens"].tolist() == lengths


def test_opens_on_the_first_document(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["neg_1"][0])
    assert "gold label NEG" in shown(page)
    assert '<u class="gold">' in bodies(page, "al-grid")[0]
    assert not page.info


def test_document_and_scale_change_what_is_shown(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    first = bodies(page, "al-grid")[0]
    page.selectbox(key="document").set_value("pos_1").run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0])
    second = lengths_shown(page)
    assert bodies(page, "al-grid")[0] != first
    page.slider(key="scale").set_value(0.0).run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0], 0.0)
    assert lengths_shown(page) != second and len(set(lengths_shown(page))) == 1


def test_long_document_says_what_is_not_read(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.selectbox(key="document").set_value("long_1").run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["long_1"][0])
    unread = len(DOCUMENTS["long_1"][0].split()) - 38
    assert f"its last {unread} words are not seen, 4 of them in the rationale" in page.info[0].value


def test_own_text(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.radio(key="source").set_value(panels.OWN_TEXT).run()
    assert not page.exception and "no gold label" in shown(page)
    page.text_area(key="text").set_value("a <b>great</b> film\nnot dull").run()
    check(page, app_model, tiny_tokenizer, "a <b>great</b> film\nnot dull")
    assert "[CLS] a <b>great</b> film not dull [SEP]" in Reader(bodies(page, "al-grid")[0]).text
    page.radio(key="source").set_value(panels.REVIEW).run()
    page.radio(key="source").set_value(panels.OWN_TEXT).run()
    assert page.text_area(key="text").value == "a <b>great</b> film\nnot dull", "kept while a review was shown"


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_empty_text_asks_for_some(page: AppTest, text: str) -> None:
    page.run()
    page.radio(key="source").set_value(panels.OWN_TEXT).run()
    page.text_area(key="text").set_value(text).run()
    assert not page.exception and "no text yet" in page.info[0].value
    assert not bodies(page, "al-grid")


def test_words_that_the_tokenizer_sees_nothing_in(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(panels.OWN_TEXT).run()
    page.text_area(key="text").set_value("\u200b").run()
    assert not page.exception and "of 2 tokens" in shown(page)


def test_very_long_text_is_cut_with_a_note(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(panels.OWN_TEXT).run()
    page.text_area(key="text").set_value("film " * 20_000).run()
    assert not page.exception
    assert "100,000 characters; only the first 20,000" in page.info[0].value
    assert "40 tokens that the model reads" in page.info[1].value


def test_damaged_checkpoint_leaves_the_page_usable(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.selectbox(key="checkpoint").set_value("damaged").run()
    assert not page.exception and "damaged" in page.error[0].value
    assert '<u class="gold">' in bodies(page, "al-text")[0], "the text and its rationale are still there"
    page.selectbox(key="document").set_value("pos_1").run()
    assert "great" in bodies(page, "al-text")[0]
    page.selectbox(key="checkpoint").set_value("tiny").run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0])


def test_no_checkpoint(page: AppTest, monkeypatch: pytest.MonkeyPatch, app_corpus: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "--data", str(app_corpus)])
    page.run()
    assert not page.exception and "no AdapLeR checkpoint" in page.error[0].value.replace("\\", "")
    assert bodies(page, "al-text")


def test_wrong_argument_and_broken_corpus(page: AppTest, monkeypatch: pytest.MonkeyPatch, app_corpus: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "--corpus", "x"])
    page.run()
    assert not page.exception and "allowed after" in page.error[0].value
    broken = app_corpus.parent / "broken"
    (broken / "docs").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(sys, "argv", ["main.py", "--data", str(broken)])
    page.run()
    assert not page.exception and "no corpus in ERASER layout" in page.error[0].value.replace("\\", "")


def test_one_layer_and_play(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    page.run()
    page.slider(key="layer").set_value(1).run()
    assert "Layer 1" in bodies(page, "al-large")[0]
    monkeypatch.setattr(panels, "SECONDS_PER_LAYER", 0.0)
    page.button(key="play").click().run()
    assert page.button(key="play").label == "Stop"
    page.run().run().run()
    assert page.button(key="play").label == "Play", "it stops at the last layer"
    assert "Layer 2" in bodies(page, "al-large")[0]
    page.button(key="play").click().run()
    assert not page.exception


def test_scores_as_csv(app_model: Any, tiny_tokenizer: Any) -> None:
    words = tuple(DOCUMENTS["neg_1"][0].split())
    trace = loading.trace(app_model, tiny_tokenizer, words, rationale=loading.rationale_of(len(words), ((3, 5),)))
    table = panels.token_table(trace, "neg_1")
    assert len(table) == trace.layers * len(trace)
    assert table.groupby("layer")["enters"].sum().tolist() == trace.lengths.tolist()
    assert table.loc[table["layer"] == 1, "token"].tolist() == list(trace.pieces)
    assert table.loc[table["layer"] == 2, "score"].tolist() == trace.scores[2].tolist()
    assert set(table.loc[table["rationale"], "token"]) == {"not", "good"}
