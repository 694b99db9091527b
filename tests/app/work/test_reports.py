"""Reports that the page opens, evaluations that run beside it, and trade-off tables."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from pathlib import Path
from threading import Lock

import numpy as np
import pytest

from adapler.errors import DataError
from analysis.output.report import RationaleReport
from app.work import jobs, reports, tradeoff


def test_list_puts_readable_reports_first(app_reports: Path, tmp_path: Path) -> None:
    for name in ("a-old", "b-broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "a-old" / "report.json").write_text('{"schema": "adapler.rationale-report", "schema_version": 1}')
    (tmp_path / "b-broken" / "report.json").write_bytes(b"\xff\xfe")
    found = reports.list_reports([tmp_path, app_reports, tmp_path / "nowhere"])
    assert list(found) == ["films", "a-old", "b-broken"]
    assert isinstance(reports.find_report(found, "films"), RationaleReport)
    for name, message in (("a-old", "a-old: schema version 1"), ("b-broken", "b-broken: not valid JSON")):
        with pytest.raises(DataError, match=message) as caught:
            reports.find_report(found, name)
        assert str(tmp_path) not in str(caught.value)
    shutil.rmtree(found["a-old"])
    with pytest.raises(DataError, match="a-old: cannot be read"):
        reports.find_report(found, "a-old")


def test_document_table_orders(app_reports: Path) -> None:
    report = reports.find_report(reports.list_reports([app_reports]), "films")
    options = {"metric": "average_precision", "method": "cp", "other": "saliency", "layer": 1}
    best = reports.document_table(report, order=reports.BEST, **options)
    scores = report.values[report.methods.index("cp"), 1, :, report.metrics.index("average_precision")]
    assert best[report.title("cp")].tolist() == sorted(scores[~np.isnan(scores)], reverse=True)
    worst = reports.document_table(report, order=reports.WORST, **options)
    assert worst["document"].tolist()[0] == best["document"].tolist()[-1]
    apart = reports.document_table(report, order=reports.DISAGREEMENT, **options)["difference"].abs()
    assert apart.is_monotonic_decreasing
    rates = reports.document_table(report, order=reports.BEST, **{**options, "metric": "fpr"})[report.title("cp")]
    assert rates.is_monotonic_increasing, "a low rate is the better one"
    same = reports.document_table(report, order=reports.BEST, **{**options, "other": "cp"})
    assert (same["difference"] == 0).all()


def test_corpus_of_a_report(app_reports: Path, app_corpus: Path, tmp_path: Path) -> None:
    report = reports.find_report(reports.list_reports([app_reports]), "films")
    assert reports.corpus_of(report, {"broken": tmp_path, "films": app_corpus}) == "films"
    assert reports.corpus_of(report, {"broken": tmp_path}) is None


def test_a_job_tells_its_progress_and_its_end() -> None:
    seat = Lock()
    seat.acquire()
    script = "import sys, time; print('scoring:  40%|##  | 1/2', file=sys.stderr, flush=True); time.sleep(60)"
    job = jobs.Job([sys.executable, "-c", script], name="x", release=seat.release)
    deadline = time.monotonic() + 60
    while not job.progress and time.monotonic() < deadline:
        time.sleep(0.05)
    assert job.progress == 0.4 and job.code is None and seat.locked()
    job.stop()
    assert job.code not in (0, None) and not seat.locked()


def test_a_failed_job_says_why() -> None:
    seat = Lock()
    seat.acquire()
    script = "import sys; sys.exit('error: no such split')"
    job = jobs.Job([sys.executable, "-c", script], name="x", release=seat.release)
    deadline = time.monotonic() + 60
    while job.code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (job.code, job.message) == (1, "no such split") and not seat.locked()


def test_a_job_ends_with_its_session() -> None:
    seat = Lock()
    seat.acquire()
    job = jobs.Job([sys.executable, "-c", "import time; time.sleep(60)"], name="x", release=seat.release)
    process = job._process
    del job
    gc.collect()
    assert process.poll() is not None and not seat.locked()


def test_one_evaluation_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seat = Lock()
    monkeypatch.setattr(jobs.locks, "working", lambda: seat)
    asked = {"adapler": tmp_path, "data": tmp_path, "split": "test", "limit": 3, "name": "x"}
    started: list[list[str]] = []
    monkeypatch.setattr(jobs, "Job", lambda command, **options: started.append(command) or "job")
    assert jobs.evaluate(**asked) == "job" and jobs.evaluate(**asked) is None
    assert started[0][1:3] == ["-m", "analysis.rationale_eval"] and started[0][-2:] == ["--limit", "3"]


def test_names_of_reports_are_plain() -> None:
    assert jobs.report_name("a/b", "Sample: films", "..") == "app-a-b-Sample-films-x"


def test_tradeoff_tables(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    hard = [{"threshold_scale": scale, "score": 0.9 - scale / 10, "speedup": 1 + scale} for scale in (0.5, 1.0)]
    (folder / "evaluation-test.json").write_text(
        json.dumps({"none": {"score": 0.9}, "hard": hard, "task": "<b>films", "split": "test"})
    )
    (folder / "layers.csv").write_text("method,layer\ncp,0\n")
    found = tradeoff.find_tables([tmp_path, tmp_path / "nowhere"], "tiny")
    assert set(found) == {"evaluation-test.json", "layers.csv"}
    drawn = tradeoff.figure(found["evaluation-test.json"], 0)
    assert drawn is not None and "<img alt=" in drawn and "<b>" not in drawn
    assert tradeoff.figure(found["layers.csv"], 0) is None
    (folder / "evaluation-bad.json").write_text("[]")
    assert tradeoff.figure(folder / "evaluation-bad.json", 0) is None
