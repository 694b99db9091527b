from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.model import comparing, curves, tracing
from app.server import state
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS
from tests.app.markup.test_render import make_trace

TEXT, LABEL, SPAN = DOCUMENTS["pos_1"]
DOCUMENT = Document("pos_1", TEXT, LABEL, (SPAN,))


def test_the_curves_are_the_cards_numbers(app_model: Any, tiny_tokenizer: Any) -> None:
    trace = tracing.trace(app_model, tiny_tokenizer, DOCUMENT.words, rationale=DOCUMENT.rationale)
    found = {name: comparing.compare(app_model, tiny_tokenizer, DOCUMENT, name) for name in ("cp", "occlusion")}
    table = curves.agreement(found, layers=trace.layers).set_index(["method", "layer", "metric"])
    for layer in range(trace.layers):
        for place, metric in enumerate(("AP", "FPR", "TPR")):
            ours = table.loc[("AdapLeR CP", layer, metric)]
            assert ours["value"] == pytest.approx(found["cp"].metrics[layer, place], nan_ok=True)
            assert ours["n"] == trace.present[layer], "what FPR and TPR are of"
            at_input = table.loc[(found["occlusion"].title, layer, metric)]
            assert at_input["value"] == pytest.approx(found["occlusion"].metrics[0, place], nan_ok=True)
            assert at_input["n"] == len(trace)


def test_how_much_of_the_evidence_is_alive() -> None:
    gold = np.array([False, True, True, False, False])
    table = curves.alive(make_trace(["a", "b", "c"], [1, 3, 0], gold=gold)).set_index(["tokens", "layer"])
    assert table["share"][curves.EVIDENCE].tolist() == [1.0, 0.5, 0.5]
    assert table["count"][curves.OTHERS].tolist() == [0, 0, 0]
    assert set(curves.alive(make_trace(["a"], [1]))["tokens"]) == {curves.TEXT}, "there are no words to be others than"


def test_a_method_looks_the_same_in_every_chart(page: AppTest) -> None:
    """Signed scores have an average precision, and neither FPR nor TPR: the colours of the others stay."""
    page.session_state["view"], page.session_state["methods"] = state.COMPARE, ["cp", "attnlrp", "saliency"]
    page.run()
    specs = [json.loads(chart.proto.spec) for chart in page.get("vega_lite_chart")]
    lines = {spec["description"]: spec["layer"][0]["encoding"] for spec in specs}
    by_method = [one for one in lines.values() if one["color"]["field"] == "method"]
    assert len(by_method) == 3 and any("of AdapLeR CP, Saliency" in description for description in lines)
    for channel in ("color", "shape"):
        scales = [one[channel]["scale"] for one in by_method]
        assert scales[0] == scales[1] == scales[2]
        assert "AttnLRP" not in by_method[1][channel]["legend"]["values"]
