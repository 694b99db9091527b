from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import fromstring

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.tokens import token_text
from app.markup import export
from app.markup.export import Origin
from app.model import tracing
from app.model.joining import join_words
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.markup.test_render import HOSTILE, Reader, make_trace

ORIGIN = Origin(
    "tiny", "sha256:0f1e", 0.5, "bfloat16", "films: neg_1", "2031-02-03",
    "streamlit run app/main.py, and open ?view=Take+away",
)  # fmt: skip


def test_scores_as_csv(app_model: Any, tiny_tokenizer: Any) -> None:
    text, label, span = DOCUMENTS["neg_1"]
    document = Document("neg_1", text, label, (span,))
    trace = tracing.trace(app_model, tiny_tokenizer, document.words, rationale=document.rationale)
    made = export.csv(export.token_table(trace), trace, document, origin=ORIGIN)
    table = pd.read_csv(io.BytesIO(made), keep_default_na=False)
    assert table.loc[0, ["document", "checkpoint", "weights", "scale", "dtype", "gold", "prediction"]].tolist() == [
        "neg_1", "tiny", "sha256:0f1e", 0.5, "bfloat16", "NEG", trace.label,
    ]  # fmt: skip
    assert set(table["made"]) == {"2031-02-03"} and set(table["again"]) == {ORIGIN.again}
    assert len(table) == trace.layers * len(trace)
    assert table.groupby("layer")["enters"].sum().tolist() == trace.lengths.tolist()
    assert table.loc[table["layer"] == 1, "token"].tolist() == list(trace.pieces)
    last = table[table["layer"] == 2]
    assert last["present"].tolist() == trace.enters[1].tolist() and not last["present"].all()
    for score, present, expected in zip(last["score"], last["present"], trace.scores[2], strict=True):
        assert (float(score) == pytest.approx(expected)) if present else score == "", "no score is no 0"
    assert set(table.loc[table["rationale"], "token"]) == {"not", "good"}
    assert table["word"].iloc[:3].tolist() == ["", "0", "1"], "whole numbers, and none for a special token"


def test_a_part_of_a_longer_text_says_which() -> None:
    trace = make_trace(["one", "two"], [3, 0])
    for excerpt in ("part 2 of 3, words 39 to 40", ""):
        made = export.csv(export.layer_table(trace), trace, Document("x", "one two", excerpt=excerpt), origin=ORIGIN)
        table = pd.read_csv(io.BytesIO(made))
        assert set(table["excerpt"] if excerpt else table["document"]) == {excerpt or "x"}


def test_a_text_with_a_wordpieces_sign_is_drawn_whole() -> None:
    words = ["##good", "\u0120or\u0121", "\u2581x", "###", "film"]
    trace = make_trace(words, [3] * 5)
    drawn = [token_text(token) for token in export.record(trace, Document("x", " ".join(words))).tokens]
    assert drawn[1:-1] == words


def test_formulas_are_guarded() -> None:
    trace = make_trace(["=1+1", "=", "--", "-5", "@SUM(A1)", "==="], [3] * 6)
    made = export.csv(export.token_table(trace), trace, Document("@x", "x"), origin=replace(ORIGIN, checkpoint="-cmd"))
    assert list(pd.read_csv(io.BytesIO(made))["token"][:8]) == [
        "[CLS]", "'=1+1", "=", "--", "-5", "'@SUM(A1)", "===", "[SEP]",
    ]  # fmt: skip
    assert b"\n'@x,'-cmd,sha256:0f1e,0.5,bfloat16,,POS,0,0" in made
    made = export.csv(export.token_table(trace), trace, Document("\t=cmd()", "x"), origin=ORIGIN)
    assert pd.read_csv(io.BytesIO(made))["document"][0] == "'\t=cmd()", "white space before it is passed over"


def test_the_page_of_the_grid_stands_alone() -> None:
    trace = make_trace(HOSTILE, [index % 4 for index in range(len(HOSTILE))])
    document = Document("<script>alert(1)</script>", "x", "<b>")
    page = export.html_page(trace, document, origin=replace(ORIGIN, checkpoint="<b>tiny</b>")).decode()
    assert (
        "checkpoint &lt;b&gt;tiny&lt;/b&gt; (weights sha256:0f1e) \N{MIDDLE DOT} threshold scale 0.5" in page
        and "2031-02-03" in page
    )
    read = Reader(re.sub(r"<meta [^>]*>", "", page))
    tags = {tag for tag, _ in read.elements}
    assert "script" not in tags and "img" not in tags and "link" not in tags
    assert " ".join(["[CLS]", *HOSTILE, "[SEP]"]) in read.text
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures(kind: str, start: bytes) -> None:
    trace = make_trace(["one", "$x$", "<b>"], [3, 1, 2], gold=np.array([False, True, False, False, False]))
    data = export.figure(trace, Document("own text", "one $x$ <b>"), kind=kind, layout=export.Layout(2))
    assert data.startswith(start)
    assert data == export.figure(trace, Document("own text", "one $x$ <b>"), kind=kind, layout=export.Layout(2))


def test_figures_say_what_made_them() -> None:
    trace, document = make_trace(["one"], [3]), Document("own text", "one")
    made = {
        kind: export.figure(trace, document, kind=kind, layout=export.Layout(2), origin=ORIGIN) for kind in export.MIME
    }
    assert Image.open(io.BytesIO(made["png"])).info["Description"] == ORIGIN.line()
    assert ORIGIN.line() in made["svg"].decode()
    assert (
        b"/Subject" in made["pdf"]
        and "scale 0.5 \N{MIDDLE DOT} bfloat16" in ORIGIN.line()
        and ORIGIN.again in ORIGIN.line()
    )


def test_a_control_character_in_a_name_breaks_no_file() -> None:
    trace, document = make_trace(["one"], [3]), Document("a\x01b", "one")
    made = export.figure(trace, document, kind="svg", layout=export.Layout(2), origin=replace(ORIGIN, text="a\x01b"))
    assert "a[U+0001]b" in "".join(fromstring(made).itertext())


def test_a_token_that_shares_its_letter_with_the_one_before_is_a_dot() -> None:
    """As byte-level tokenizers cut an accent or an emoji: the piece itself is no text."""
    trace = make_trace(["caf", "\u00e9"], [3, 3])
    second = replace(trace, surfaces=("[CLS]", "caf", "", "[SEP]"), pieces=("[CLS]", "caf", "\u00a9", "[SEP]"))
    assert export.record(second, Document("x", "caf\u00e9")).tokens == ("[CLS]", "caf", "\N{MIDDLE DOT}", "[SEP]")


def test_a_figure_of_words_counts_words() -> None:
    trace = make_trace(["a", "fine", "film"], [3, 1, 2])
    for one, said in ((trace, "5 tokens"), (join_words(trace), "5 words")):
        drawn = export._figure(one, Document("x", "a fine film"), export.Layout(2, (0,)))
        assert said in {text.get_text() for text in drawn.axes[0].texts}


def test_a_figure_is_told_to_who_does_not_see_it() -> None:
    trace = make_trace(["one", "two"], [3, 0])
    said = export.preview(trace, Document("a <b>.txt", "one two"), layout=export.Layout(2, (0,)))
    length = "layer 0, 3 of 4 tokens"
    assert f'alt="A passage of a &lt;b&gt;.txt before each of these layers, with what enters it: {length}.' in said
    assert "is faint" in said and "underlined" not in said, "nothing is marked"


def test_a_passage_may_begin_with_any_sentence() -> None:
    words = ["a", "slow", "start", ".", "then", "it", "flies", "!", "...", "great"]
    trace = make_trace(words, [3] * len(words))
    assert export.sentences(trace, Document("x", " ".join(words))) == {
        "0: a slow start . then it ...": 0,
        "4: then it flies ! ... great ...": 4,
        "9: great ...": 9,
    }
