"""The opening view and the texts it can show, run by Streamlit's own test harness on a tiny model and corpus."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import app as app_package
from adapler.eraser import read_corpus
from analysis.evaluate import evaluate
from analysis.settings import Settings
from app.model.edits import REPLACE, Edit
from app.server import state
from app.sources import uploads
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.pages import bodies, check, expected, lengths_shown, marked, plain, played, shown, text_played


def test_opens_on_the_first_document(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["neg_1"][0])
    assert "gold label NEG" in shown(page)
    assert page.slider(key="scale").proto.format == "%.6g", "0.333 of an address or a report is not called 0.33"
    assert marked(page) == ["not", "good"]
    assert not page.info


def test_document_and_scale_change_what_is_shown(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    first = played(page)
    page.selectbox(key="document").set_value("pos_1").run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0])
    second = lengths_shown(page)
    assert played(page)["text"] != first["text"]
    page.slider(key="scale").set_value(0.0).run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0], 0.0)
    assert lengths_shown(page) != second and len(set(lengths_shown(page))) == 1


def test_long_document_has_parts(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.selectbox(key="document").set_value("long_1").run()
    words = DOCUMENTS["long_1"][0].split()
    check(page, app_model, tiny_tokenizer, " ".join(words[:38]))
    page.slider(key="part").set_value(2).run()
    assert any(f"Part 2 of 2: words 39 to {len(words)}, 4 of them marked" in one.value for one in page.caption)
    check(page, app_model, tiny_tokenizer, " ".join(words[38:]))
    assert len(marked(page)) == 4
    page.selectbox(key="document").set_value("pos_1").run()
    check(page, app_model, tiny_tokenizer, DOCUMENTS["pos_1"][0])
    page.selectbox(key="document").set_value("long_1").run()
    assert page.slider(key="part").value == 1, "another document is read from its beginning"


def test_another_text_of_one_s_own_is_read_from_its_beginning(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("good film " * 60).run()
    page.slider(key="part").set_value(2).run()
    page.text_area(key="text").set_value("dull plot " * 60).run()
    assert not page.exception and page.slider(key="part").value == 1


def test_own_text(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    assert not page.exception and "no gold label" in shown(page)
    page.text_area(key="text").set_value("a <b>great</b> film\nnot dull").run()
    check(page, app_model, tiny_tokenizer, "a <b>great</b> film\nnot dull")
    assert "[CLS] a <b>great</b> film not dull [SEP]" in text_played(page)
    page.radio(key="source").set_value(state.REVIEW).run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    assert page.text_area(key="text").value == "a <b>great</b> film\nnot dull", "kept while a review was shown"


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_empty_text_asks_for_some(page: AppTest, text: str) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value(text).run()
    assert not page.exception and "no text yet" in page.info[0].value
    assert not page.get("bidi_component")


def test_words_that_the_tokenizer_sees_nothing_in(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("\u200b").run()
    assert not page.exception and "gives no wordpieces" in page.error[0].value
    assert not page.get("bidi_component") and not bodies(page, "al-cards"), "a verdict on nothing is none"
    edits = [{}, {1: Edit(REPLACE, "\u200b")}]
    page.text_area(key="text").set_value("\u200b film").run()
    document = Document("own text", "\u200b film")
    for key, value in {"view": state.WHAT_IF, "edits_of": document, "edits": edits, "undone": []}.items():
        page.session_state[key] = value
    page.run()
    assert not page.exception and "gives no wordpieces" in page.error[0].value
    assert len(bodies(page, "al-cards")) == 1, "of the text alone"


def test_names_of_a_corpus_are_no_markdown(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, app_corpus: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(app_corpus, tmp_path / "my *films*"))
    for path in (folder / "train.jsonl", folder / "test.jsonl"):
        path.write_text(path.read_text(encoding="utf-8").replace("NEG", "__neg__"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(folder) if one == str(app_corpus) else one for one in sys.argv])
    page.session_state["view"] = state.CORPUS
    page.run()
    assert not page.exception and r"\_\_neg\_\_" in page.sidebar.caption[0].value
    assert r"\*films\*" in page.selectbox(key="limit").label


def test_very_long_text_is_cut_with_a_note(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("film " * 20_000).run()
    assert not page.exception
    assert "100,000 characters; only the first 20,000" in page.info[0].value
    assert "40 tokens that the model reads" in page.slider(key="part").label
    page.text_area(key="text").set_value("film").run()
    page.text_input(key="query").set_value("plot " * 5_000).run()
    assert "The second text has 24,999 characters; only the first 20,000" in page.info[0].value


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


def test_one_layer_and_all(page: AppTest) -> None:
    page.run()
    assert played(page)["mode"] == "one" and played(page)["layers"] == 3
    page.button_group(key="show").set_value(state.ALL_LAYERS).run()
    assert not page.exception and played(page)["mode"] == "all"


def test_words_joined(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("good,bad film").run()
    assert text_played(page) == "[CLS] good,bad film [SEP]" and "of 6 tokens" in shown(page)
    page.button_group(key="units").set_value(state.WORDS).run()
    data = played(page)
    assert [token["text"] for token in data["tokens"]] == ["[CLS]", "good,bad", "film", "[SEP]"]
    assert data["unit"] == "words" and [one["name"] for one in data["pieces"]["1"]] == ["good", ",", "bad"]
    assert "of 6 tokens" in shown(page), "the verdict's card is of tokens"


def test_sentences(page: AppTest) -> None:
    page.session_state["units"] = state.SENTENCES
    page.session_state["source"] = state.OWN_TEXT
    page.session_state["text"] = "good film . never boring"
    page.run()
    data = played(page)
    assert [token["name"] for token in data["tokens"]] == ["[CLS]", "sentence 1", "sentence 2", "[SEP]"]
    assert [token["text"] for token in data["tokens"]][1:3] == ["good film .", "never boring"]
    assert data["unit"] == "sentences" and not page.exception
    page.button_group(key="view").set_value(state.COMPARE).run()
    for panel in played(page)["panels"]:
        assert (
            panel["n"][0] == 4 and panel["selected"] is None and sum(panel["scores"][0]) == pytest.approx(1, abs=1e-5)
        )
    for view in (state.TAKE_AWAY, state.SIDES, state.WHAT_IF):
        page.button_group(key="view").set_value(view).run()
        assert not page.exception, view


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
    "server.address", "client.showErrorDetails", "global.disableWidgetStateDuplicationWarning")))"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert float(printed[0]) > 1e9
    assert printed[1:] == [str(uploads.MAX_MEGABYTES), "False", "localhost", "none", "True"]


def test_a_report_of_one_metric_that_is_a_mean_is_listed_by_it(
    page: AppTest, app_reports: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app_model: Any,
    tiny_tokenizer: Any, app_corpus: Path,
) -> None:  # fmt: skip
    settings = Settings(max_length=40, methods=("cp",), metrics=("aopc_comprehensiveness",))
    report = evaluate(
        model=app_model.backbone, adapler=app_model, tokenizer=tiny_tokenizer, data=read_corpus(app_corpus),
        settings=settings, progress=False,
    )  # fmt: skip
    report.to_json(tmp_path / "means" / "report.json")
    monkeypatch.setattr(sys, "argv", [str(tmp_path) if word == str(app_reports) else word for word in sys.argv])
    page.session_state["view"] = state.CORPUS
    page.run()
    assert not page.exception and page.selectbox(key="metric").value == "aopc_comprehensiveness"


def test_a_folder_without_a_model_is_said(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tiny_classifier_folder: Path, app_checkpoints: Path
) -> None:
    page.run()
    assert not page.warning
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--checkpoints", str(tiny_classifier_folder)])
    page.run()
    assert not page.exception and page.selectbox(key="checkpoint").value == "tiny"
    assert f"{tiny_classifier_folder.name}: named with --checkpoints" in plain(page.warning[0].value)


@pytest.mark.parametrize("view", [state.CORPUS, state.TRUST])
def test_a_folder_without_a_report_is_said(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, view: str
) -> None:
    page.session_state["view"] = view
    page.run()
    assert not page.warning
    (tmp_path / "none yet").mkdir()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--reports", str(tmp_path / "none yet")])
    page.run()
    assert not page.exception
    said = plain(page.warning[0].value)
    assert said.startswith("none yet: named with --reports") and str(tmp_path) not in said
    assert "analysis.rationale_eval --output DIR" in said, "which writes report.json, as adapler evaluate does not"


def test_without_a_report_it_is_said_how_to_make_one(
    page: AppTest, app_reports: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path) if word == str(app_reports) else word for word in sys.argv])
    page.session_state["view"] = state.CORPUS
    page.run()
    assert "make one below" in page.info[0].value and "evaluate" in {one.key for one in page.button}
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    assert "*A review*" in page.info[0].value and "evaluate" not in {one.key for one in page.button}


def test_a_report_of_a_scale_that_the_page_does_not_have_opens_nothing(
    page: AppTest, app_reports: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At another scale its documents have other numbers than the report."""
    report = json.loads((app_reports / "films" / "report.json").read_text(encoding="utf-8"))
    report["meta"]["threshold_scale"] = 3.0
    (tmp_path / "high").mkdir()
    (tmp_path / "high" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(tmp_path) if word == str(app_reports) else word for word in sys.argv])
    page.session_state["view"] = state.CORPUS
    page.run()
    assert not page.exception and "open-document" not in {one.key for one in page.button}
    assert any("threshold scale, 3, is above the page's 2" in one.value for one in page.caption)
