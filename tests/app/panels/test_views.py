"""The other views, run by Streamlit's own test harness on a tiny model and corpus."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from app.panels import player
from app.server import state
from tests.app.conftest import DOCUMENTS
from tests.app.markup.test_render import Reader
from tests.app.pages import PAGE, bodies, expected, methods_said, plain, played, shown, text_played


def test_compare(page: AppTest) -> None:
    page.session_state["view"] = state.COMPARE
    page.run()
    assert not page.exception
    assert len(played(page)["panels"]) == 4 and "chance" in methods_said(page)
    page.multiselect(key="methods").set_value(["cp", "occlusion", "saliency_gold"]).run()
    assert any("not run yet" in one.value for one in page.caption) and len(played(page)["panels"]) == 2
    page.button(key="run-occlusion").click().run()
    assert not page.exception and len(played(page)["panels"]) == 3
    assert not any("not run yet" in one.value for one in page.caption)
    page.button_group(key="view").set_value(state.LAYERS).run()
    page.button_group(key="view").set_value(state.COMPARE).run()
    assert page.multiselect(key="methods").value == ["cp", "occlusion", "saliency_gold"], "kept while out of view"
    assert len(played(page)["panels"]) == 3, "scores that took long are kept too"
    page.multiselect(key="methods").set_value([]).run()
    assert not page.exception and "No method" in page.info[0].value


def test_whole_words_are_compared_too(page: AppTest) -> None:
    page.session_state["view"] = state.COMPARE
    page.session_state["source"] = state.OWN_TEXT
    page.session_state["text"] = "good,bad film was never boring"
    page.run()
    pieces = played(page)["panels"]
    page.button_group(key="units").set_value(state.WORDS).run()
    assert not page.exception
    for words, tokens in zip(played(page)["panels"], pieces, strict=True):
        assert len(words["scores"][0]) == 7 and words["n"] == tokens["n"]
        assert words["scores"][0][1] == pytest.approx(sum(tokens["scores"][0][1:4]), abs=1e-6)


def test_a_method_that_needs_a_label_says_so_for_a_text_without(page: AppTest) -> None:
    page.session_state["view"] = state.COMPARE
    page.session_state["methods"] = ["saliency_gold", "saliency"]
    page.session_state["source"] = state.OWN_TEXT
    page.run()
    assert not page.exception
    assert any("needs the text's gold label" in plain(one.value) for one in page.caption)
    assert "no rationale to judge by" in methods_said(page)


def test_a_picked_token_is_ranked_under_every_method(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "picked", lambda result, data: 1)
    page.run()
    assert not page.exception
    table = page.dataframe[0].value
    assert table["method"].tolist()[0] == "AdapLeR CP" and len(table) == 4
    scores = played(page)["panels"][0]["scores"][0]
    assert table["layer 0"].iloc[0] == f"{1 + sum(one > scores[1] for one in scores)} of {len(scores)}"


def test_budget(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.session_state["view"] = state.BUDGET
    page.run()
    assert not page.exception
    page.slider(key="scale").set_value(0.5).run()
    verdict, lengths, gain = expected(app_model, tiny_tokenizer, DOCUMENTS["neg_1"][0], 0.5)
    assert verdict in shown(page) and gain in shown(page)
    assert str(lengths[-1]) in Reader(bodies(page, "al-bars")[0]).text
    assert "not measured yet" in Reader(bodies(page, "al-timing")[0]).text
    page.button(key="measure").click().run()
    assert not page.exception and page.button(key="measure").label == "Measure again"
    assert re.search(r"ms \(\d.* with removal", Reader(bodies(page, "al-timing")[0]).text)
    page.slider(key="scale").set_value(0.6).run()
    assert "not measured yet" in Reader(bodies(page, "al-timing")[0]).text, "of another scale"


def test_corpus(page: AppTest) -> None:
    page.session_state["view"] = state.CORPUS
    page.run()
    assert not page.exception and not page.error
    assert bodies(page, "al-figure")[0].count("<img alt=") == 1
    assert sorted(page.dataframe[0].value["document"]) == ["neg_1", "pos_1"], "the rationale of long_1 is out of view"
    page.selectbox(key="metric").set_value("fpr").run()
    page.selectbox(key="open").set_value("pos_1").run()
    page.button(key="open-document").click().run()
    assert not page.exception and page.session_state["view"] == state.LAYERS
    assert page.selectbox(key="document").value == "pos_1" and "great" in text_played(page)


def test_corpus_is_filtered(page: AppTest) -> None:
    page.session_state["view"] = state.CORPUS
    page.run()
    page.selectbox(key="label").set_value("POS").run()
    assert not page.exception and page.dataframe[0].value["document"].tolist() == ["pos_1"]
    assert any("1 of 2 documents" in one.value for one in page.caption)
    page.selectbox(key="label").set_value("any").run()
    sizes = page.dataframe[0].value.set_index("document")["tokens"]
    page.slider(key="length").set_value((int(sizes["neg_1"]), int(sizes["neg_1"]))).run()
    assert page.dataframe[0].value["document"].tolist() == ["neg_1"]


def test_own_text_is_a_source_of_every_view(page: AppTest) -> None:
    page.run()
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    for view in (state.COMPARE, state.BUDGET, state.TAKE_AWAY, state.LAYERS):
        page.button_group(key="view").set_value(view).run()
        assert not page.exception and page.text_area(key="text").value == state.EXAMPLE
    page.radio(key="source").set_value(state.REVIEW).run()
    assert not page.exception and page.session_state["view"] == state.LAYERS and "dull" in text_played(page)


def test_an_old_link_to_the_view_of_own_texts_opens_them(page: AppTest) -> None:
    page.query_params["view"] = state.OWN_VIEW
    page.query_params["text"] = "a great film never boring"
    page.query_params["method"] = ["cp", "rollout"]
    page.run()
    assert not page.exception and not page.warning
    assert (
        page.radio(key="source").value == state.OWN_TEXT
        and text_played(page) == "[CLS] a great film never boring [SEP]"
    )
    page.button_group(key="view").set_value(state.COMPARE).run()
    assert page.multiselect(key="methods").value == ["cp", "rollout"]


def test_take_away_and_its_link(page: AppTest, app_corpus: Path) -> None:
    page.run()
    page.selectbox(key="document").set_value("pos_1").run()
    page.slider(key="scale").set_value(0.5).run()
    page.button_group(key="view").set_value(state.TAKE_AWAY).run()
    assert not page.exception
    link = page.code[0].value
    assert "document=pos_1" in link and "scale=0.5" in link and str(app_corpus.parent) not in link
    fresh = AppTest.from_file(str(PAGE), default_timeout=180)
    for name, values in parse_qs(link.partition("?")[2]).items():
        fresh.query_params[name] = values
    fresh.run()
    assert not fresh.exception and fresh.selectbox(key="document").value == "pos_1"
    assert fresh.slider(key="scale").value == 0.5 and "great" in text_played(fresh)
    page.radio(key="source").set_value(state.OWN_TEXT).run()
    page.text_area(key="text").set_value("a <b>great</b> film").run()
    assert "text=a+%3Cb%3Egreat" in page.code[0].value and "document=" not in page.code[0].value
    page.text_area(key="text").set_value("\u200b").run()
    assert not page.exception and "gives no wordpieces" in page.error[0].value
    page.text_area(key="text").set_value("film " * 500).run()
    assert "too long for a link" in page.info[0].value and "text=" not in page.code[0].value


def test_a_link_with_nonsense_opens_the_page(page: AppTest) -> None:
    for name, value in {"view": "x", "document": "../../x", "split": "x", "layer": "99", "corpus": "/etc"}.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception and not page.error
    assert page.selectbox(key="document").value == "neg_1"
    notice = page.warning[0].value.replace("\\", "")
    assert "a corpus of another name" in notice and "split x" in notice and "a document of another name" in notice
    assert "layer 99" in notice
    page.selectbox(key="document").set_value("pos_1").run()
    assert not page.warning, "it has been seen, and something else is chosen"


def test_a_report_says_whose_numbers_it_holds(page: AppTest, app_checkpoints: Path) -> None:
    page.session_state["view"] = state.CORPUS
    page.run()
    whose = page.caption[1].value.replace("\\", "")
    for fact in ("checkpoint tiny", "threshold scale 1", "float32", "tiny-films, test", "long texts: truncate"):
        assert fact in whose
    assert not page.warning
    page.selectbox(key="checkpoint").set_value("damaged").run()
    assert "is of tiny, not of damaged" in plain(page.warning[0].value)
    page.slider(key="scale").set_value(0.3).run()
    page.selectbox(key="dtype").set_value("bfloat16").run()
    page.selectbox(key="open").set_value("pos_1").run()
    page.button(key="open-document").click().run()
    assert not page.exception and page.selectbox(key="checkpoint").value == "tiny"
    assert page.slider(key="scale").value == 1.0 and page.selectbox(key="dtype").value == "float32", (
        "the document is shown as the table has it"
    )


def test_a_report_of_an_unknown_checkpoint_opens_nothing(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path, tmp_path: Path
) -> None:
    other = tmp_path / "others" / "other"
    shutil.copytree(app_checkpoints / "tiny", other)
    weights = load_file(other / "model.safetensors")  # others: equal ones would be known under any name
    save_file({**weights, "eta": weights["eta"] + 0.1}, other / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr(sys, "argv", [str(other) if str(app_checkpoints) == one else one for one in sys.argv])
    page.session_state["checkpoint"] = "other"
    page.session_state["view"] = state.CORPUS
    page.run()
    assert not page.exception and "is of tiny, which is not in the menu" in plain(page.warning[0].value)
    assert any("cannot be opened" in one.value for one in page.caption)
    with pytest.raises(KeyError):
        page.button(key="open-document")


def test_words_are_counted_in_numbers_too(page: AppTest) -> None:
    page.session_state["source"] = state.OWN_TEXT
    page.session_state["text"] = "good,bad film was never boring"
    page.session_state["show"] = state.NUMBERS
    page.session_state["units"] = state.WORDS
    page.run()
    assert not page.exception
    table = page.dataframe[0].value
    assert table["present"].iloc[0] == 7 and "words" in table.columns
    assert "text7" in Reader(bodies(page, "al-bars")[0]).text.replace(" ", "")


def test_a_wrong_file_shows_no_other_verdict(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    page.session_state["source"] = state.OWN_TEXT
    page.run()
    page.file_uploader(key="upload").set_value(("bad.jsonl", b"{", "text/plain")).run()
    assert not page.exception and "not JSON" in page.error[0].value and not bodies(page, "al-cards")
    page.file_uploader(key="upload").set_value(("good.txt", b"a good film , never boring", "text/plain")).run()
    assert "Shown is the file good.txt" in page.caption[1].value.replace("\\", "") and bodies(page, "al-cards")
    assert page.text_area(key="text").disabled


def test_queries_are_read_as_in_an_evaluation(page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [
        {"annotation_id": name, "classification": "POS", "docids": [name], "query": query,
         "evidences": [[{"docid": name, "start_token": 0, "end_token": 1, "text": "good"}]]}
        for name, query in (("one", "was it dull"), ("two", "never"))
    ]  # fmt: skip
    folder = tmp_path / "asked"
    (folder / "docs").mkdir(parents=True)
    for row in lines:
        (folder / "docs" / str(row["annotation_id"])).write_text("good film and so fun", encoding="utf-8")
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--data", str(folder)])
    page.session_state["corpus"] = "asked"
    page.run()
    assert not page.exception and "of 11 tokens" in shown(page), "5 of the text, 3 of the query, 3 special ones"
    assert "with its query" in page.caption[1].value
    assert "the query" in Reader(bodies(page, "al-text al-legend")[0]).text


def test_what_if(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "picked", lambda result, data: 4)  # the word `good`
    page.session_state["view"] = state.WHAT_IF
    page.run()
    assert not page.exception and not any("Before and after" in one.value for one in page.header)
    page.button(key="apply").click().run()
    assert not page.exception and any("Delete: not" in plain(one.value) for one in page.caption)
    page.button_group(key="what").set_value("Replace").run()
    page.text_input(key="with").set_value("very fun")
    page.button(key="apply").click().run()  # whoever types and clicks at once: both arrive together
    assert any("Replace: not \N{RIGHTWARDS ARROW} very fun" in plain(one.value) for one in page.caption)
    assert "is very fun good" in text_played(page, 1)
    page.button(key="undo").click().run()
    assert any("Delete: not" in plain(one.value) for one in page.caption)
    page.button(key="redo").click().run()
    assert any("Replace: not" in plain(one.value) for one in page.caption)
    page.text_input(key="with").set_value("")
    page.button(key="apply").click().run()
    assert any("Delete: not" in plain(one.value) for one in page.caption), "by nothing"
    page.button(key="reset").click().run()
    assert not page.exception and page.button(key="reset").disabled
    page.button_group(key="what").set_value("Drop at once").run()
    page.button(key="apply").click().run()
    forced = played(page, 1)["panels"][0]["forced"]
    assert forced[4] == -1 and sum(map(abs, forced)) == 1, "its score is not the reason why it goes"
    page.selectbox(key="document").set_value("pos_1").run()
    assert page.button(key="undo").disabled, "edits are of one text"


def test_how_it_works_has_the_live_numbers(page: AppTest, app_model: Any, tiny_tokenizer: Any) -> None:
    page.session_state["view"] = state.HOW
    page.run()
    assert not page.exception
    _, lengths, _ = expected(app_model, tiny_tokenizer, DOCUMENTS["neg_1"][0])
    assert page.dataframe[0].value["tokens that enter"].tolist() == lengths
    assert "aclanthology.org/2022.acl-long.1" in page.caption[0].value
    assert any("is learned for each layer" in one.value and r"\delta = 1 " in one.value for one in page.markdown)
    assert any("In all " in one.value and " kFLOPs: $" in one.value for one in page.markdown), "not 0.00 GFLOPs"
    assert not any("r_i" in one.value for one in page.get("latex")), "the paper's predictor"
    assert any("- **FPR**" in one.value and "lower is better" in plain(one.value) for one in page.markdown)
    page.session_state["scale"] = 0.0
    page.run()
    assert any(r"so that $\delta = 0$ and every token stays" in one.value for one in page.markdown)


def test_a_second_text_longer_than_the_input_is_one_line(page: AppTest) -> None:
    page.session_state["source"] = state.OWN_TEXT
    page.session_state["view"] = state.SIDES
    page.session_state["differs"] = state.BY_TEXT
    page.run()
    rows = [{"text_a": "a good film", "text_b": "never"}, {"text_a": "a good film", "text_b": "film " * 60}]
    content = "\n".join(map(json.dumps, rows)).encode()
    page.file_uploader(key="upload").set_value(("pairs.jsonl", content, "text/plain")).run()
    page.session_state["verdicts-open"] = True
    page.run()
    assert not page.exception
    said = [plain(one.value) for one in page.error]
    assert said == ["the second text alone is 60 tokens long; of both, the model reads 40"], "on the right"
    assert "No verdict on 1 of 2: line 2 (the second text alone is 60" in plain(page.warning[0].value)


def test_the_tour_has_five_steps(page: AppTest) -> None:
    page.run()
    page.button(key="tour").click().run()
    assert not page.exception and any("**1. " in one.value for one in page.markdown)
