"""The page in Streamlit's own test runner: every view, what is damaged, what one view hands to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from adapler.errors import ArgumentError
from app import export, gallery, loading, markup, methods, player
from app.documents import Document
from app.edits import DELETE, REPLACE, Edit
from app.joining import SENTENCES, WORDS, join
from app.tracing import trace
from tests.app.conftest import DOCUMENTS, make_trace

TEXT, LABEL, SPAN = DOCUMENTS["pos_1"]
DOCUMENT = Document("pos_1", TEXT, LABEL, (SPAN,), labels=("NEG", "POS"))
REVIEW = "POS: a great film , never boring , ..."


def shown(page: AppTest) -> str:
    return " ".join(str(one.proto.body) for one in page.main if hasattr(one.proto, "body")) + " ".join(
        str(one.value) for kind in ("markdown", "caption", "info", "warning", "error") for one in page.get(kind)
    )


def open_view(page: AppTest, view: str, document: str = REVIEW) -> AppTest:
    page.session_state["document"] = document
    page.session_state["go"] = view
    return page.run()


def test_it_opens_on_its_answer(page: AppTest) -> None:
    page.run()
    assert not page.exception and not page.error
    head = " ".join(one.proto.body for one in page.get("html"))
    assert "tokens to the end" in head and "Before each layer a small network" in head
    assert page.text_area[0].value.startswith("i expected nothing")


@pytest.mark.parametrize("view", ["story", "sides", "what_if", "budget", "trust", "corpus", "how", "take_away"])
def test_every_view(page: AppTest, view: str) -> None:
    page.run()
    open_view(page, view)
    assert not page.exception and not page.error, [one.message for one in page.exception]


def test_a_damaged_checkpoint_is_one_message(page: AppTest) -> None:
    page.session_state["checkpoint"] = "damaged"
    page.run()
    (error,) = page.error
    assert "damaged" in error.value and "/" not in error.value.partition("(")[0] and not page.exception


def test_a_broken_corpus_leaves_the_typed_sentence(
    page: AppTest, app_corpus: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "train.jsonl").write_text("{")
    monkeypatch.setattr("sys.argv", ["main.py", "--data", str(tmp_path)])
    page.session_state["corpus"] = tmp_path.name
    del page.session_state["checkpoint"]
    page.run()
    assert len(page.error) == 1 and any("tokens to the end" in one.proto.body for one in page.get("html"))


def test_a_word_is_taken_to_what_if(page: AppTest) -> None:
    page.run()
    open_view(page, "what_if")
    page.session_state["edits"] = [{}, {1: Edit(DELETE)}]
    page.run()
    assert not page.exception and "Now read to the end" in shown(page)
    page.button(key="undo").click().run()
    assert page.session_state["edits"] == [{}] and page.session_state["undone"]


def test_edits_come_with_the_address(page: AppTest) -> None:
    page.run()
    open_view(page, "what_if")
    page.query_params["edits"] = "1-Replace-quite bright;99-Delete;2-Nonsense;x"
    page.run()
    assert page.session_state["edits"] == [{}, {1: Edit(REPLACE, "quite bright")}]
    assert page.query_params["edits"] == "1-Replace-quite bright", "what was no edit has gone"
    page.button(key="undo").click().run()
    assert page.session_state["edits"] == [{}] and "edits" not in page.query_params


def test_arguments() -> None:
    with pytest.raises(ArgumentError, match="^--data: nothing: no such file or folder"):
        loading.read_arguments(["--data", "nothing"])
    with pytest.raises(ArgumentError, match="allowed after -- are"):
        loading.read_arguments(["--tradeoff", "x"])


def test_the_numbers_of_the_headline() -> None:
    told = markup.headline(make_trace(["a", "<b>"], [3, 0]), Document("x", "a <b>", "POS", labels=("NEG", "POS")))
    assert "The model read 3 of 4 tokens to the end: same verdict, 3.4x less compute." in told
    assert "<b>POS 75%</b>, which is right; POS 60% with all tokens" in told
    assert [markup.percent(one) for one in (0.93, 0.998, 0.9999, 0.0001)] == ["93%", "99.8%", "&gt;99.9%", "&lt;0.1%"]


def test_text_is_escaped_and_controls_are_seen() -> None:
    one = make_trace(["<script>", "a\u202eb"], [3, 1])
    grid = markup.layer_grid(one)
    assert "<script>" not in grid and "&lt;script&gt;" in grid and "[U+202E]" in grid
    assert player.drawn(one, [])["tokens"][2]["text"] == "a[U+202E]b"


def test_a_method_is_judged_as_the_analysis_does(app_model: Any, tiny_tokenizer: Any) -> None:
    from sklearn.metrics import average_precision_score

    read = trace(app_model, tiny_tokenizer, DOCUMENT.words, rationale=DOCUMENT.rationale)
    one = methods.score(app_model, tiny_tokenizer, DOCUMENT, "saliency", threshold_scale=1.0, dtype="float32")
    content = read.words >= 0
    for layer in range(read.layers):
        expected = average_precision_score(read.gold[content], one.scores[layer][content])
        assert one.metrics[layer, 0] == pytest.approx(expected, abs=1e-6)
    own = methods.score(app_model, tiny_tokenizer, DOCUMENT, "cp", threshold_scale=1.0, dtype="float32")
    assert own.retained is not None and (own.retained == read.enters).all()
    np.testing.assert_allclose(own.scores, read.scores, atol=1e-6)
    for unit in (WORDS, SENTENCES):
        drawn = join(read, unit)
        panel = player.story_panel(drawn, one, means=[0.5] * read.layers, of="films")
        assert len(panel["scores"][0]) == len(drawn) and panel["means"] == [0.5] * read.layers
        assert sum(panel["scores"][0]) == pytest.approx(1, abs=1e-5)
    json.dumps(player.drawn(read, [player.layers_panel(read), player.story_panel(read, own)]), allow_nan=False)


def test_a_picked_token_of_another_text_is_none() -> None:
    data = player.drawn(make_trace(["a"], [1]), [])
    for told in (None, {"text": "other", "token": 1}, {"text": data["text"], "token": 9}, {"text": data["text"]}):
        assert player.picked({"picked": told}, data) is None
    assert player.picked({"picked": {"text": data["text"], "token": 1}}, data) == 1


def test_files_to_take_away(app_model: Any, tiny_tokenizer: Any) -> None:
    read = trace(app_model, tiny_tokenizer, DOCUMENT.words, rationale=DOCUMENT.rationale)
    tokens = export.token_table(read)
    assert len(tokens) == read.layers * len(read) and tokens["enters"].sum() == read.enters.sum()
    assert tokens.loc[~tokens["present"], "score"].isna().all()
    assert export.layer_table(read)["FLOPs share"].sum() == pytest.approx(1)
    table = export.csv(tokens.head(2).assign(token=["=cmd|x", "-"]), subject="a, b").decode()
    assert "'=cmd|x" in table and ",-," in table and '"a, b"' in table
    assert b"<script" not in export.html_page(read, DOCUMENT, subject="x")
    svg = export.figure(read, DOCUMENT, "svg", layers=(0, 1), lines=2, subject="checkpoint tiny")
    assert b"checkpoint tiny" in svg
    assert export.animation(join(read, WORDS), DOCUMENT, "gif").startswith(b"GIF89a")


def test_the_gallery(app_checkpoints: Path, app_corpus: Path, tmp_path: Path) -> None:
    options = ["--model", str(app_checkpoints / "tiny"), "--data", str(app_corpus), "--methods", "cp"]
    assert gallery.main(["--output", str(tmp_path / "out"), *options]) == 0
    index = (tmp_path / "out" / "index.html").read_text()
    assert index.count('class="al-card"') == len(list((tmp_path / "out").glob("0*.html"))) == 3
    assert "al-thumb" in index and "label POS" in index
    with pytest.raises(ArgumentError, match="--documents: x is not in test"):
        gallery.main(["--output", str(tmp_path / "no"), *options, "--documents", "x"])
    assert not (tmp_path / "no").exists()
