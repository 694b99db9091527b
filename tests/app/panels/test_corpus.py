"""Corpus and Trust: what they say of a report, and of one that is damaged."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.server import state
from tests.app.pages import plain

Reported = Callable[..., None]


@pytest.fixture
def reported(page: AppTest, app_reports: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reported:
    """`reported(**meta)`: the page's only report is `films` with this in its meta."""

    def write(**meta: Any) -> None:
        report = json.loads((app_reports / "films" / "report.json").read_text(encoding="utf-8"))
        report["meta"] |= meta
        (tmp_path / "changed" / "films").mkdir(parents=True, exist_ok=True)
        (tmp_path / "changed" / "films" / "report.json").write_text(json.dumps(report), encoding="utf-8")
        given = [str(tmp_path / "changed") if one == str(app_reports) else one for one in sys.argv]
        monkeypatch.setattr(sys, "argv", given)

    return write


@pytest.mark.parametrize("view", [state.CORPUS, state.TRUST])
def test_checksums_of_another_form_say_nothing(page: AppTest, reported: Reported, view: str) -> None:
    reported(checksums="0f1e")
    page.session_state["view"] = view
    page.run()
    assert not page.exception and not page.error


def test_a_sample_is_no_whole_split(page: AppTest, reported: Reported) -> None:
    sample = "random sample of 3 of 9 documents, labels balanced, seed 42"
    reported(sample=sample)
    page.session_state["view"] = state.CORPUS
    page.run()
    assert not page.exception and any(
        f"in view) \N{MIDDLE DOT} {sample} \N{MIDDLE DOT}" in plain(one.value) for one in page.caption
    )
    page.session_state["view"] = state.TRUST
    page.run()
    assert not page.exception and sample in page.dataframe[0].value["measured"].iloc[0]
