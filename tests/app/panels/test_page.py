"""The opening view and the texts it can show, run by Streamlit's own test harness on a tiny model and corpus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import app as app_package
from app.panels import layers
from app.server import state
from app.sources import uploads
from tests.app.conftest import DOCUMENTS
from tests.app.markup.test_render import Reader
from tests.app.pages import bodies, check, expected, lengths_shown, shown


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


def test_long_document_has_parts(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.selectbox(key="document").set_value("long_1").run()
    words = DOCUMENTS["long_1"][0].split()
    check(page, app_model, tiny_tokenizer, " ".join(words[:38]))
    assert page.selectbox(key="part").options[1] == f"2 of 2: words 39 to {len(words)}, 4 of them evidence"
    page.selectbox(key="part").set_value(1).run()
    check(page, app_model, tiny_tokenizer, " ".join(words[38:]))
    assert '<u class="gold">' in bodies(page, "al-grid")[0]
    page.selectbox(key="document").set_value("pos_1").run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0])
    page.selectbox(key="document").set_value("long_1").run()
    assert page.selectbox(key="part").value == 0, "another document is read from its beginning"


def test_own_text(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    assert not page.exception and "no gold label" in shown(page)
    page.text_area(key="text").set_value("a <b>great</b> film\nnot dull").run()
    check(page, app_model, tiny_tokenizer, "a <b>great</b> film\nnot dull")
    assert "[CLS] a <b>great</b> film not dull [SEP]" in Reader(bodies(page, "al-grid")[0]).text
    page.radio(key="source").set_value(state.REVIEW).run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    assert page.text_area(key="text").value == "a <b>great</b> film\nnot dull", "kept while a review was shown"


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_empty_text_asks_for_some(page: AppTest, text: str) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value(text).run()
    assert not page.exception and "no text yet" in page.info[0].value
    assert not bodies(page, "al-grid")


def test_words_that_the_tokenizer_sees_nothing_in(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("\u200b").run()
    assert not page.exception and "of 2 tokens" in shown(page)


def test_very_long_text_is_cut_with_a_note(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("film " * 20_000).run()
    assert not page.exception
    assert "100,000 characters; only the first 20,000" in page.info[0].value
    assert "40 tokens that the model reads" in page.selectbox(key="part").label


def test_damaged_checkpoint_leaves_the_page_usable(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.selectbox(key="checkpoint").set_value("damaged").run()
    assert not page.exception and "damaged" in page.error[0].value
    assert '<u class="gold">' in bodies(page, "al-text")[0], "the text and its rationale are still there"
    page.selectbox(key="document").set_value("pos_1").run()
    assert "great" in bodies(page, "al-text")[0]
    page.selectbox(key="checkpoint").set_value("tiny").run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0])


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
    page.session_state["show"] = state.ONE_LAYER
    page.run()
    page.slider(key="layer").set_value(1).run()
    assert "Layer 1" in bodies(page, "al-large")[0]
    monkeypatch.setattr(layers, "SECONDS_PER_LAYER", 0.0)
    page.button(key="play").click().run()
    assert page.button(key="play").label == "Stop"
    page.run().run().run()
    assert page.button(key="play").label == "Play", "it stops at the last layer"
    assert "Layer 2" in bodies(page, "al-large")[0]
    page.button(key="play").click().run()
    assert not page.exception


def test_words_joined(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("good,bad film").run()
    assert ">good</" in bodies(page, "al-grid")[0] and "of 6 tokens" in shown(page)
    page.toggle(key="joined").set_value(True).run()
    assert ">good,bad</" in bodies(page, "al-grid")[0] and "of 4 words" in Reader(bodies(page, "al-grid")[0]).text
    assert "of 6 tokens" in shown(page), "the verdict's card is of tokens"


def test_numbers(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.session_state["show"] = state.NUMBERS
    page.run()
    _, lengths, _ = expected(app_model, tiny_tokenizer, DOCUMENTS["neg_1"][0])
    assert page.dataframe[0].value["tokens"].tolist() == lengths


def test_its_settings_hold_wherever_it_is_started(tmp_path: Path) -> None:
    # As `streamlit run` does; without the first of them a few quick presses end the page ("Cached ForwardMsg MISS").
    script = Path(app_package.__file__).with_name("main.py")
    code = f"""from streamlit import config
config._main_script_path = {str(script)!r}
print(*map(config.get_option, ("global.minCachedMessageSize", "server.maxUploadSize", "runner.postScriptGC",
    "server.address", "client.showErrorDetails")))"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert float(printed[0]) > 1e9
    assert printed[1:] == [str(uploads.MAX_MEGABYTES), "False", "localhost", "none"]
