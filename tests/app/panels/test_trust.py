"""Trust: the checkpoint's curve, and the documents that it gets wrong or otherwise."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest

from adapler.calibration import Baseline, Calibration, Machine, Point, weights_checksum, write_calibration
from app.model import survey
from app.server import state
from app.sources.documents import Document
from app.views import trust, trust_charts
from app.work import surveys, tradeoff
from app.work.calibrated import Curve
from tests.app.conftest import DOCUMENTS
from tests.app.markup.test_render import Reader
from tests.app.pages import bodies


def calibration(model: Any) -> Calibration:
    points = tuple(
        Point(threshold_scale=scale, score=score, score_interval=(score - 0.1, score + 0.1), drop=0.9 - score,
              drop_interval=(0.0, 0.2), speedup=speedup, speedup_interval=(speedup - 0.1, speedup + 0.1),
              milliseconds=10 / speedup, milliseconds_single=12 / speedup)
        for scale, score, speedup in ((0.0, 0.9, 1.0), (1.0, 0.8, 2.5), (1.5, 0.6, 4.0))
    )  # fmt: skip
    return Calibration(
        model_checksum=weights_checksum(model), task="films", split="validation", data_checksum="x", encoding={},
        metric="accuracy", examples=50, machine=Machine(device="a chip", dtype="float32", threads=2), token_budget=1,
        timed_single=1, level=0.95, resamples=1, slower_texts=0.0, versions={},
        none=Baseline(score=0.9, score_interval=(0.8, 1.0), milliseconds=10, milliseconds_single=12), points=points,
    )  # fmt: skip


def with_calibration(page: AppTest, monkeypatch: pytest.MonkeyPatch, folder: Path, source: Path, model: Any) -> None:
    """The page's checkpoint is a copy that has one."""
    shutil.copytree(source / "tiny", folder / "more" / "measured")
    write_calibration(folder / "more" / "measured" / "calibration.json", calibration(model))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--checkpoints", str(folder / "more")])
    page.session_state["checkpoint"] = "measured"


def test_a_calibration_in_another_number_format_says_so(app_model: Any) -> None:
    """The page's own is float32 until another is chosen, and its captions say so."""
    measured = calibration(app_model)
    assert "bfloat16" not in Curve(measured).measured()
    other = Curve(replace(measured, machine=replace(measured.machine, dtype="bfloat16")))
    assert other.measured() == "films, validation, 50 documents, bfloat16 (calibration)"
    assert "50 documents, validation, bfloat16" in trust._expected(other, 1.0, page_dtype="float32")
    assert "50 documents, validation, float32" in trust._expected(Curve(measured), 1.0, page_dtype="bfloat16")


def test_the_numbers_below_the_charts_are_all_of_them(app_model: Any) -> None:
    """A table is what somebody reads who sees no charts."""
    measured = Curve(calibration(app_model))
    empty = pd.DataFrame(columns=list(tradeoff.COLUMNS))
    table = trust._numbers(empty, measured)
    assert table["scale"].tolist() == measured.frame()["scale"].tolist() != []
    assert set(table["file"]) == {"calibration.json"} and set(table["documents"]) == {50}


def test_what_is_measured_stands_at_the_slider(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app_checkpoints: Path, app_model: Any
) -> None:
    with_calibration(page, monkeypatch, tmp_path, app_checkpoints, app_model)
    page.session_state["view"] = state.TRUST
    page.run()
    assert not page.exception
    said = Reader(bodies(page, "al-cards")[0]).text
    assert "0.800" in said and "0.700 to 0.900 on 50 documents, validation" in said
    assert "10.0 points below" in said and "2.50x" in said and "4.0 ms" in said
    assert "0.900 without it; 0.0 to 20.0 points below" in said, "the interval in the unit of the drop"
    assert len(page.get("vega_lite_chart")) == 3, "nothing says how often both verdicts agree"
    assert "interpolated" not in said and any("a ring is that scale" in one.value for one in page.caption)
    page.slider(key="scale").set_value(1.5).run()
    assert "0.600" in Reader(bodies(page, "al-cards")[0]).text
    page.slider(key="scale").set_value(1.2).run()
    said = Reader(bodies(page, "al-cards")[0]).text
    assert said.count("between scales 1 and 1.5, interpolated") == 4, "no card is of a measurement"
    assert not any("a ring is that scale" in one.value for one in page.caption)
    page.slider(key="scale").set_value(2.0).run()
    assert not page.exception and not bodies(page, "al-cards"), "nothing is measured there"
    assert any(one.value.endswith("stored with this model ends at scale 1.5.") for one in page.caption)


def test_a_ring_is_at_the_slider_only(app_model: Any) -> None:
    frame = Curve(calibration(app_model)).frame()
    for scale, rings in ((1.0, 1), (1.02, 0)):
        spec = trust_charts.against_speedup(frame[:0], frame, scale, metric="accuracy").to_dict()
        assert sum(row["now"] for rows in spec["datasets"].values() for row in rows if "now" in row) == rings


def test_without_a_calibration_the_page_says_how_to_make_one(page: AppTest, app_checkpoints: Path) -> None:
    page.session_state["view"] = state.TRUST
    page.run()
    assert not page.exception
    said = page.info[0].value
    assert "calibration is stored with this model" in said and "adapler calibrate --model FOLDER" in said
    assert str(app_checkpoints) not in said
    assert said.count("adapler calibrate") == 1, "a menu's name is no folder to give to the command"
    assert page.dataframe[0].value["file"].tolist() == ["films"], "the report of this checkpoint is its only point"


def test_nothing_is_measured(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [one for one in sys.argv if one != "--reports" and "reports" not in one])
    page.session_state["view"] = state.TRUST
    page.run()
    assert not page.exception and any("Nothing else is measured of it yet" in one.value for one in page.caption)


def test_documents_are_read_when_asked_and_open(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, app_model: Any, tiny_tokenizer: Any
) -> None:
    monkeypatch.setattr(surveys, "_kept", OrderedDict())
    monkeypatch.setattr(survey, "_right", lambda document, verdict, names: document.name != "neg_1")
    page.session_state["view"] = state.TRUST
    page.run()
    assert page.button(key="survey").label.startswith("Read all 3 documents of tiny\\-films")
    page.button(key="survey").click().run()
    assert not page.exception
    found = [Document(name, text, label) for name, (text, label, _) in DOCUMENTS.items()]
    read = survey.read(app_model, tiny_tokenizer, found)
    said = Reader(bodies(page, "al-cards")[-1]).text
    assert f"{sum(bool(one.right) for one in read)} of 3" in said
    changed = sum(one.verdict != one.full_verdict for one in read)
    assert any(f"changes the verdict on {changed} of 3" in one.value for one in page.markdown)
    page.slider(key="sure").set_value(0.5).run()
    listed = page.dataframe[-1].value
    assert listed["document"].tolist() == ["neg_1"]
    assert listed["probability"].tolist() == [pytest.approx(read[0].probability, abs=1e-6)]
    page.run()
    assert not any(one.key == "survey" for one in page.button), "what has been read stays"


@pytest.mark.parametrize("view", [state.LAYERS, state.TRUST])
def test_logits_that_are_no_numbers_have_no_verdict(
    page: AppTest, view: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app_model: Any, tiny_tokenizer: Any
) -> None:
    """Weights that are, and too large: the first class was the verdict, with a probability of nan%."""
    monkeypatch.setattr(surveys, "_kept", OrderedDict())
    model = copy.deepcopy(app_model)
    with torch.no_grad():
        model.backbone.classifier.weight.fill_(3e38)
    model.save_pretrained(tmp_path / "broken")
    tiny_tokenizer.save_pretrained(tmp_path / "broken")
    page.session_state["checkpoint"], page.session_state["view"] = "broken", view
    page.run()
    if view == state.TRUST:
        page.button(key="survey").click().run()
    assert not page.exception
    assert ["its logits are NaN or infinite" in one.value for one in page.error] == [True]


def test_own_text_has_no_split_to_read(page: AppTest) -> None:
    page.session_state["view"] = state.TRUST
    page.session_state["source"] = state.OWN_TEXT
    page.run()
    assert not page.exception and "Choose *A review*" in page.info[-1].value


@pytest.mark.parametrize("view", [state.COMPARE, state.BUDGET, state.TRUST])
def test_every_chart_has_a_name_of_its_own(
    page: AppTest, view: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app_checkpoints: Path, app_model: Any
) -> None:
    """A screen reader says it; Vega makes it the label of the chart."""
    with_calibration(page, monkeypatch, tmp_path, app_checkpoints, app_model)
    page.session_state["view"] = view
    page.run()
    charts = [json.loads(one.proto.spec) for one in page.get("vega_lite_chart")]
    names = [chart["description"] for chart in charts]
    assert len(names) >= 2 and len(set(names)) == len(names)
    for chart in charts:
        for mark in (layer["mark"] for layer in chart["layer"]):
            assert mark["type"] == "area" or mark.get("opacity", 1) == 1, "half through, a line is too pale to see"
