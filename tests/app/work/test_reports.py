"""Reports that the page opens, and whose numbers they hold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adapler import AdapLeRForSequenceClassification
from adapler.errors import DataError
from analysis.report import RationaleReport
from app.server import state
from app.sources import loading
from app.work import reports


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
    best = reports.document_table(report, order=state.BEST, **options)
    scores = report.values[report.methods.index("cp"), 1, :, report.metrics.index("average_precision")]
    assert best[report.title("cp")].tolist() == sorted(scores[~np.isnan(scores)], reverse=True)
    worst = reports.document_table(report, order=state.WORST, **options)
    assert worst["document"].tolist()[0] == best["document"].tolist()[-1]
    apart = reports.document_table(report, order=state.DISAGREEMENT, **options)["difference"].abs()
    assert apart.is_monotonic_decreasing
    rates = reports.document_table(report, order=state.BEST, **{**options, "metric": "fpr"})[report.title("cp")]
    assert rates.is_monotonic_increasing, "a low rate is the better one"
    same = reports.document_table(report, order=state.BEST, **{**options, "other": "cp"})
    assert (same["difference"] == 0).all()


def test_which_documents_are_listed(app_reports: Path) -> None:
    report = reports.find_report(reports.list_reports([app_reports]), "films")
    one = replace(report.documents[0], label="NEG", prediction="POS", adapler_prediction="NEG")
    same = replace(one, adapler_prediction="POS")
    plain = replace(one, prediction="NEG", adapler_prediction=None)
    for only, taken in (
        (reports.Filter(), (True, True, True)),
        (reports.Filter(label="POS"), (False, False, False)),
        (reports.Filter(changed=True), (True, False, False)),
        (reports.Filter(wrong=True), (False, True, False)),
        (reports.Filter(tokens=(one.tokens + 1, one.tokens + 9)), (False, False, False)),
        (reports.Filter("NEG", wrong=True, tokens=(one.tokens, one.tokens)), (False, True, False)),
    ):
        assert tuple(map(only.takes, (one, same, plain))) == taken, only


def test_corpus_of_a_report(app_reports: Path, app_corpus: Path, tmp_path: Path) -> None:
    report = reports.find_report(reports.list_reports([app_reports]), "films")
    assert reports.corpus_of(report, {"broken": tmp_path, "films": app_corpus}) == "films"
    assert reports.corpus_of(report, {"broken": tmp_path}) is None


def test_a_report_knows_its_checkpoint(app_reports: Path, app_checkpoints: Path, tmp_path: Path) -> None:
    report = reports.find_report(reports.list_reports([app_reports]), "films")
    menu = loading.list_checkpoints([app_checkpoints])
    origin = reports.origin_of(report.meta, menu)
    assert (origin.checkpoint, origin.called, origin.data, origin.split) == ("tiny", "tiny", "tiny-films", "test")
    assert (origin.policy, origin.scale, origin.queries, origin.dtype) == ("truncate", 1.0, False, "float32")
    assert reports.origin_of({**report.meta, "dtype": "bfloat16"}, menu).dtype == "bfloat16"
    older = {name: value for name, value in report.meta.items() if name != "dtype"}
    assert reports.origin_of(older, menu).dtype == "float32"
    copied = shutil.copytree(app_checkpoints / "tiny", tmp_path / "elsewhere")
    named = {name: value for name, value in report.meta.items() if name != "checksums"}
    assert reports.origin_of(named, menu).checkpoint is None, "an equal name is not enough"
    by_folder = {**named, "adapler": str(app_checkpoints / "tiny")}
    assert reports.origin_of(by_folder, menu).checkpoint == "tiny"
    assert reports.origin_of(by_folder, {"tiny": copied}).checkpoint is None
    by_weights = {**report.meta, "adapler": "tiny"}
    assert reports.origin_of(by_weights, {"mine": copied}).checkpoint == "mine", "equal weights are"
    in_its_place = shutil.copytree(app_checkpoints / "tiny", tmp_path / "tiny")
    model = AdapLeRForSequenceClassification.from_pretrained(in_its_place)
    with torch.no_grad():
        model.eta.fill_(0.6)
    model.save_pretrained(in_its_place)
    trained_anew = {**report.meta, "adapler": str(in_its_place)}
    assert reports.origin_of(trained_anew, {"tiny": in_its_place}).checkpoint is None, "its weights are others"
    by_weights = {**named, "adapler": "tiny", "weights": loading.weights_checksum(copied)}  # of an earlier version
    assert reports.origin_of(by_weights, {"mine": copied}).checkpoint == "mine"
    config = copied / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert reports.origin_of(by_weights, {"tiny": copied}).checkpoint is None, "it was written anew since"
    assert reports.origin_of({**report.meta, "adapler": None}, menu).checkpoint is None


def test_reports_two_folders_deep_are_listed_and_hidden_ones_are_not(app_reports: Path, tmp_path: Path) -> None:
    for place in ("movies/truncate", ".partial-x/report"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(app_reports / "films" / "report.json", tmp_path / place)
    assert list(reports.list_reports([tmp_path])) == ["movies/truncate"]
