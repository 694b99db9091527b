"""Budget: the checkpoint's measured curve beside other systems', or one line that says why not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app.markup import colors
from app.panels import beside
from app.server import state
from app.work import systems
from tests.app.markup.test_render import Reader
from tests.app.pages import bodies, plain
from tests.app.panels.test_trust import with_calibration
from tests.app.work.test_systems import LINES, write

TITLE = "On whole splits"


def opened(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, *folders: Path, encoder: str | None = None, checkpoint: Path
) -> AppTest:
    """Budget, with results folders; encoder: what the checkpoint's run.json calls it."""
    if encoder is not None:
        content = {"task": "films", "model": encoder}
        (checkpoint / "run.json").write_text(json.dumps(content), encoding="utf-8")
    given = [part for folder in folders for part in ("--tradeoff", str(folder))]
    monkeypatch.setattr(sys, "argv", [*sys.argv, *given])
    page.session_state["view"] = state.BUDGET
    page.run()
    assert not page.exception and not page.error
    return page


@pytest.fixture
def measured(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app_checkpoints: Path, app_model: Any
) -> Path:
    """The folder of the page's checkpoint, which has a calibration on films."""
    with_calibration(page, monkeypatch, tmp_path, app_checkpoints, app_model)
    return tmp_path / "more" / "measured"


def captions(page: AppTest) -> str:
    return "\n".join(plain(one.value) for one in page.caption)


def test_beside_other_systems(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: Path, app_model: Any
) -> None:
    name = f"org/mini-L{app_model.num_layers}"
    lines = [line.replace("mini-L2", "mini-L" + name[-1]) for line in LINES]
    folder = write(tmp_path / "<i>results", lines)
    opened(page, monkeypatch, folder, encoder=name, checkpoint=measured)
    assert [one.value for one in page.header][-1] == f"{TITLE}, beside other systems"
    assert len(page.get("vega_lite_chart")) == 3
    key = Reader(bodies(page, "al-key")[0]).text
    assert "this checkpoint, measured" in key and "PoWER-BERT" in key and "AdapLeR, wide eyed" in key
    said = captions(page)
    assert "This checkpoint: accuracy, films, validation, 50 documents (calibration), from calibration.json." in said
    assert "Without removal it has 90.0 %" in said
    assert "accuracy on validation of films, whether these are all published rows is not known, encoder mini-L" in said
    assert "1 to 2 seeds, their mean, from <i>results/curves.csv" in said and str(tmp_path) not in said
    assert "Left out: 3 of their points" in said and "or which not all seeds of their system have." in said
    table = page.dataframe[0].value
    assert table["system"].tolist()[:3] == ["this checkpoint, measured"] * 3
    assert table["speedup"].tolist()[:3] == [1.0, 2.5, 4.0] and table["score"].tolist()[:3] == [0.9, 0.8, 0.6]
    assert table["drawn"].sum() == len(table) - 3
    assert any(one.proto.label == "Curves as CSV" for one in page.get("download_button"))
    assert "The ring is the slider's scale." in said
    page.slider(key="scale").set_value(1.45).run()
    assert not page.exception and len(page.get("vega_lite_chart")) == 3 and "The ring is" not in captions(page)


def test_alone_where_nothing_matches(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: Path
) -> None:
    news = write(tmp_path / "news", [LINES[-1]])
    opened(page, monkeypatch, news, encoder="mini-L2", checkpoint=measured)
    assert [one.value for one in page.header][-1] == TITLE and len(page.get("vega_lite_chart")) == 3
    assert "news/curves.csv has no curves for films, but for news." in captions(page)
    assert "PoWER-BERT" not in bodies(page, "al-key")[0]
    assert not any("LTP" in name or "power" in name for name in page.dataframe[0].value["system"])


def test_a_malformed_file_is_one_line(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: Path
) -> None:
    broken = write(tmp_path / "broken", ["films,power"])
    opened(page, monkeypatch, broken, encoder="mini-L2", checkpoint=measured)
    assert len(page.get("vega_lite_chart")) == 3
    assert "broken/curves.csv, line 2: not as many cells as the first line has, so it is left out." in captions(page)


def test_nothing_is_measured_and_no_folder(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, app_checkpoints: Path
) -> None:
    opened(page, monkeypatch, checkpoint=app_checkpoints / "tiny")
    assert len(page.get("vega_lite_chart")) == 2 and not bodies(page, "al-key")
    said = captions(page)
    assert "Nothing is measured of this checkpoint on whole splits" in said
    assert "No other systems: `python -m benchmarks.tradeoff` measures them" in said


def test_what_is_measured_elsewhere_is_not_nothing(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, measured: Path
) -> None:
    (measured / "run.json").write_text('{"task": "news"}', encoding="utf-8")
    opened(page, monkeypatch, checkpoint=measured)
    said = captions(page)
    assert len(page.get("vega_lite_chart")) == 2 and "Nothing is measured" not in said
    assert "Measured of this checkpoint: films, validation, 50 documents (calibration)." in said
    assert "Drawn is test or validation of news only." in said


def test_a_system_has_one_look() -> None:
    first = beside.looks([beside.OWN, "power", "adapler-b", "adapler-a"])
    assert first["power"] == beside.looks(["power"])["power"] == beside.LOOKS["power"]
    assert first[beside.OWN][0] == colors.LINES[0] and len(set(first.values())) == 4
    assert first == beside.looks([beside.OWN, "power", "adapler-a", "adapler-b"])
    every = [*beside.LOOKS.values(), *beside.SPARE]
    assert len({color for color, _ in every}) == len(every), "one colour a system"
    assert {shape for _, shape in every} <= set(beside.SIGNS) and set(systems.TITLES) <= set(beside.LOOKS)


def test_the_chart_has_tooltips_and_a_ring_at_the_slider() -> None:
    rows = {
        "system": [beside.OWN, beside.OWN, "finetuned", "ltp"],
        "title": ["mine", "mine", "F", "LTP"],
        "budget": [float("nan"), float("nan"), float("nan"), 0.1],
        "scale": [0.5, 1.0, float("nan"), 1.0],
        "score": [0.9, 0.8, 0.9, 0.7],
        "low": [0.9, 0.8, 0.9, 0.6],
        "high": [0.9, 0.8, 0.9, 0.8],
        "speedup": [2.0, 3.0, 1.0, 3.0],
        "seeds": [1, 1, 2, 2],
    }
    spec = json.loads(beside.chart(pd.DataFrame(rows), 1.0, metric="accuracy").to_json())
    told = [layer["encoding"]["tooltip"] for layer in spec["layer"] if "tooltip" in layer["encoding"]]
    names = {one.get("title", one["field"]) for one in told[-1]}
    assert names == {"system", "score", "FLOPs speedup", "threshold scale", "budget", "seeds"}
    drawn = [values for values in spec["datasets"].values() if len(values) == 1 and values[0]["now"]]
    assert len(drawn) == 1 and drawn[0][0]["scale"] == "1", "the ring is on this checkpoint's line"
    near = json.loads(beside.chart(pd.DataFrame(rows), 1.02, metric="accuracy").to_json())
    assert len(near["layer"]) == len(spec["layer"]) - 1, "what was measured near the slider is not at it"
    widths = [layer["mark"].get("strokeWidth") for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    assert widths == [1.5, 3.5]
