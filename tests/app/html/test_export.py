from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.html import export
from app.model import tracing
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.html.test_render import HOSTILE, Reader, make_trace


def test_scores_as_csv(app_model: Any, tiny_tokenizer: Any) -> None:
    text, label, span = DOCUMENTS["neg_1"]
    document = Document("neg_1", text, label, (span,))
    trace = tracing.trace(app_model, tiny_tokenizer, document.words, rationale=document.rationale)
    table = pd.read_csv(io.BytesIO(export.csv(export.token_table(trace, "neg_1"))), keep_default_na=False)
    assert len(table) == trace.layers * len(trace)
    assert table.groupby("layer")["enters"].sum().tolist() == trace.lengths.tolist()
    assert table.loc[table["layer"] == 1, "token"].tolist() == list(trace.pieces)
    assert table.loc[table["layer"] == 2, "score"].tolist() == pytest.approx(trace.scores[2].tolist())
    assert set(table.loc[table["rationale"], "token"]) == {"not", "good"}
    assert table["word"].iloc[:3].tolist() == ["", "0", "1"], "whole numbers, and none for a special token"


def test_formulas_are_guarded() -> None:
    trace = make_trace(["=1+1", "=", "-"], [3, 3, 3])
    assert list(pd.read_csv(io.BytesIO(export.csv(export.token_table(trace, "@x"))))["token"][:5]) == [
        "[CLS]", "'=1+1", "=", "-", "[SEP]",
    ]  # fmt: skip
    assert b"\n'@x,0,0" in export.csv(export.token_table(trace, "@x"))


def test_the_page_of_the_grid_stands_alone() -> None:
    trace = make_trace(HOSTILE, [index % 4 for index in range(len(HOSTILE))])
    page = export.html_page(trace, Document("<script>alert(1)</script>", "x", "<b>")).decode()
    read = Reader(re.sub(r"<meta [^>]*>", "", page))
    tags = {tag for tag, _ in read.elements}
    assert "script" not in tags and "img" not in tags and "link" not in tags
    assert " ".join(["[CLS]", *HOSTILE, "[SEP]"]) in read.text
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures(kind: str, start: bytes) -> None:
    trace = make_trace(["one", "$x$", "<b>"], [3, 1, 2], gold=np.array([False, True, False, False, False]))
    data = export.figure(trace, Document("own text", "one $x$ <b>"), kind=kind, lines=2)
    assert data.startswith(start)
    assert data == export.figure(trace, Document("own text", "one $x$ <b>"), kind=kind, lines=2)
