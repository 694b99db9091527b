"""Policies, word scores, methods with meaning at the input, queries: what a document's value is made of."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from adapler.eraser import EraserCorpus, EraserExample, read_corpus
from adapler.errors import ArgumentError
from analysis import figures, loading, rationale_eval
from analysis.documents.alignment import align
from analysis.documents.batching import collate
from analysis.evaluation.accumulation import CurvesAndCorrelations, RunningMean
from analysis.evaluation.plan import Plan
from analysis.evaluation.settings import Settings
from analysis.figures.__main__ import main as draw_all
from analysis.metrics import plausibility as pl
from analysis.output.report import RationaleReport
from analysis.scores import get_method
from analysis.scores.passes import adapler_pass
from tests.analysis.evaluation.test_evaluation import run, value


@pytest.fixture
def report(adapler_folder: Path, corpus_folder: Path) -> RationaleReport:
    return run(adapler_folder, corpus_folder)


def test_rationale_windows_are_averaged(adapler_folder: Path, corpus_folder: Path, tiny_tokenizer: Any) -> None:
    result = run(adapler_folder, corpus_folder, policy="rationale-windows", methods=["saliency"])
    assert result.meta["truncation"]["rationale_words_lost"] == 0
    assert result.meta["windows"] == {"total": 7, "skipped_in_scored_documents": 0}
    example = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["pos_long"]
    windows = align(example, tiny_tokenizer, max_length=24, policy="rationale-windows").windows
    assert len(windows) == 2
    classifier = loading.load_models(None, adapler_folder)[0]
    each = []
    for window in windows:
        scores = get_method("saliency")(classifier, collate([window], pad_token_id=5)).scores[0, 1].double().numpy()
        each.append(pl.average_precision(window.rationale[~window.special], scores[~window.special]))
    assert value(result, "saliency", 1, "pos_long", "average_precision") == pytest.approx(np.mean(each), abs=1e-6)
    record = {d.id: d for d in result.documents}["pos_long"]
    assert record.tokens == sum(map(len, windows)) and record.account.words_in_view < record.account.words
    # nothing to show but the beginning: classified, not scored
    assert {d.id: d.skipped for d in result.documents}["neg_none"] == "no rationale in view"


def test_windows_of_nothing_but_rationale_are_left_out_and_counted(classifier: Any, tiny_tokenizer: Any) -> None:
    example = EraserExample("d", ("film",) * 12, "NEG", ((2, 11),), "")  # windows of words 2-5, 6-9 and 10-11
    corpus = EraserCorpus("one", "", "0", ("NEG", "POS"), {"test": (example,)})
    settings = Settings(policy="rationale-windows", max_length=6)
    plan = Plan(model=classifier, tokenizer=tiny_tokenizer, corpus=corpus, split="test", settings=settings)
    assert plan.outlines[0].windows == 3 and plan.windows_skipped == 2
    assert (plan.density, plan.rationale_size) == (0.5, 1.0), "of the third window: word 10, and word 11 is outside"


def test_all_windows_are_stitched(adapler_folder: Path, corpus_folder: Path, tiny_tokenizer: Any) -> None:
    result = run(adapler_folder, corpus_folder, policy="all-windows", methods=["saliency", "cp"])
    assert result.meta["truncation"]["words_lost"] == 0
    example = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["pos_long"]
    windows = align(example, tiny_tokenizer, max_length=24, policy="all-windows").windows
    total = sum(map(len, windows))
    classifier, reducer, _ = loading.load_models(None, adapler_folder)
    labels, scores, logits, present = [], [], [], 0
    for window in windows:
        batch = collate([window], pad_token_id=5)
        found = get_method("cp")(reducer, batch)
        row = found.scores[0, 1].double().numpy() * len(window) / total
        assert found.present is not None
        present += int(found.present[0, 1].sum())
        labels.append(window.rationale[~window.special])
        scores.append(row[~window.special])
        logits.append(classifier(**batch.model_inputs()).logits.detach().numpy())
    joined, truth = np.concatenate(scores), np.concatenate(labels)
    assert value(result, "cp", 1, "pos_long", "average_precision") == pytest.approx(
        pl.average_precision(truth, joined), abs=1e-6
    )
    for metric, n in (("fpr", total), ("fpr_present", present)):
        expected = pl.false_positive_rate(truth, pl.select_uniform(joined, n))
        assert value(result, "cp", 1, "pos_long", metric) == pytest.approx(expected)
    record = {d.id: d for d in result.documents}["pos_long"]
    assert record.prediction == ("NEG", "POS")[int(np.mean(logits, axis=0).argmax())]
    assert record.lengths is not None and record.tokens == total and record.lengths[0] <= total


def test_short_documents_do_not_depend_on_the_policy(
    report: RationaleReport, adapler_folder: Path, corpus_folder: Path
) -> None:
    for policy in ("all-windows", "rationale-windows"):
        other = run(adapler_folder, corpus_folder, policy=policy)
        for d, document in enumerate(report.documents):
            if document.id != "pos_long":
                np.testing.assert_allclose(other.values[:, :, d], report.values[:, :, d], atol=1e-6)


def test_word_aggregation(adapler_folder: Path, corpus_folder: Path, tiny_tokenizer: Any) -> None:
    result = run(adapler_folder, corpus_folder, aggregation="sum", methods=["saliency"])
    example = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["neg_1"]
    (window,) = align(example, tiny_tokenizer, max_length=24).windows
    classifier = loading.load_models(None, adapler_folder)[0]
    scores = get_method("saliency")(classifier, collate([window], pad_token_id=5)).scores[0, 0].double().numpy()
    by_word = np.array([scores[window.words == word].sum() for word in range(len(example.words))])
    expected = pl.average_precision(example.rationale(), by_word)
    assert value(result, "saliency", 0, "neg_1", "average_precision") == pytest.approx(expected)
    chosen = pl.select_uniform(by_word, len(example.words) + 2)
    expected = pl.false_positive_rate(example.rationale(), chosen)
    assert value(result, "saliency", 0, "neg_1", "fpr") == pytest.approx(expected)
    assert result.meta["aggregation"] == "sum"
    scored = ("neg_0", "neg_1", "pos_0", "pos_long")
    densities = {e.id: e.rationale().mean() for e in read_corpus(corpus_folder).splits["test"]}
    densities["pos_long"] = 3 / 21  # words in view
    assert result.meta["density"] == pytest.approx(np.mean([densities[name] for name in scored]))


def test_input_level_methods_have_values_at_layer_0_only(adapler_folder: Path, corpus_folder: Path) -> None:
    result = run(adapler_folder, corpus_folder, methods=["saliency", "integrated_gradients(n_steps=2)"])
    assert result.methods == ("saliency", "integrated_gradients(n_steps=2)")
    assert result.meta["layerwise"] == {"saliency": True, "integrated_gradients(n_steps=2)": False}
    ap = result.metrics.index("average_precision")
    assert np.isfinite(result.values[1, 0, 0, ap]) and np.isnan(result.values[1, 1:]).all()
    assert np.isnan(result.values[1, 0, 0, result.metrics.index("fpr")])  # signed: no selection at 1/n
    assert np.isfinite(result.correlations[0]).all() and np.isnan(result.correlations[1, 0, 1])
    assert result.examples[0].scores["integrated_gradients(n_steps=2)"].shape[0] == 1
    (gap,) = result.meta["diagnostics"]["integrated_gradients(n_steps=2)"].values()
    assert gap["min"] <= gap["mean"] <= gap["max"]
    assert result.meta["options"]["integrated_gradients(n_steps=2)"]["n_steps"] == 2


def test_examples_are_token_by_token(
    report: RationaleReport, reducer: Any, tiny_tokenizer: Any, corpus_folder: Path
) -> None:
    assert len(report.examples) == 3 and {e.id for e in report.examples} <= {d.id for d in report.documents}
    shown = report.examples[0]
    document = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}[shown.id]
    (window,) = align(document, tiny_tokenizer, max_length=24).windows
    assert shown.tokens == tuple(tiny_tokenizer.convert_ids_to_tokens(window.input_ids.tolist()))
    np.testing.assert_array_equal(shown.rationale, window.rationale)
    output = adapler_pass(reducer, collate([window], pad_token_id=5))
    assert shown.retention is not None
    np.testing.assert_array_equal(shown.retention, output.retention_mask[0].bool().numpy())
    np.testing.assert_allclose(shown.scores["cp"], output.contribution_scores[0].numpy(), atol=1e-6)


def test_correlations_and_curves(report: RationaleReport) -> None:
    n = len(report.methods)
    assert report.correlations is not None and report.correlations.shape == (3, n, n)
    np.testing.assert_allclose(np.diagonal(report.correlations, axis1=1, axis2=2), 1, atol=1e-9)
    np.testing.assert_allclose(report.correlations, report.correlations.transpose(0, 2, 1), atol=1e-12)
    for curve in report.curves.values():
        assert curve.shape == (3, 101) and (np.diff(curve, axis=1) <= 1e-12).all()
    errors = report.curve_errors["cp"]
    assert errors.shape == (3, 101) and (errors >= 0).all() and errors.max() > 0


def test_correlations_and_curves_of_two_documents() -> None:
    """Against scipy, and precision by counting; a document of two windows counts once."""
    random, found = np.random.default_rng(0), CurvesAndCorrelations(["a", "b"], 2)
    labels = np.array([True, False, False, True, False, False])
    windows = [{name: random.random((2, 6)) for name in ("a", "b")} for _ in range(3)]
    found.add([(labels, windows[0]), (labels, windows[1])])
    found.add([(labels, windows[2])])
    for layer in range(2):
        rho = [spearmanr(one["a"][layer], one["b"][layer]).statistic for one in windows]
        assert found.correlations[layer, 0, 1] == pytest.approx(((rho[0] + rho[1]) / 2 + rho[2]) / 2)
        best = []  # the highest precision at any recall, which is what the curve begins with
        for one in windows:
            hits = labels[np.argsort(-one["b"][layer])].cumsum()
            best.append((hits / np.arange(1, 7))[hits > 0].max())
        assert found.curves["b"][layer, 0] == pytest.approx(((best[0] + best[1]) / 2 + best[2]) / 2)


def test_standard_error_of_a_running_mean() -> None:
    rows = np.random.default_rng(0).random((7, 2, 3))
    rows[2:, 0, 0], rows[1:, 1, 1] = np.nan, np.nan
    running = RunningMean((2, 3))
    for row in rows:
        running.add(row)
    known = (~np.isnan(rows)).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cell with one value
        expected = np.nanstd(rows, axis=0, ddof=1) / np.sqrt(known)
    np.testing.assert_allclose(running.mean, np.nanmean(rows, axis=0), atol=1e-12)
    np.testing.assert_allclose(running.error, expected, atol=1e-12)


def test_queries_are_shown_when_they_differ(
    adapler_folder: Path, reducer: Any, tiny_tokenizer: Any, corpus_folder: Path
) -> None:
    corpus = read_corpus(corpus_folder)
    asked = tuple(
        EraserExample(e.id, e.words, e.label, e.spans, "the plot" if k else "rain")
        for k, e in enumerate(corpus.splits["test"])
    )
    other = EraserCorpus("asked", "", "0", corpus.labels, {"test": asked})

    def tokens(**options: Any) -> list[int]:
        report = rationale_eval.evaluate(
            adapler=reducer, tokenizer=tiny_tokenizer, methods=["random"], max_length=64, progress=False, **options
        )
        return [d.tokens for d in report.documents]

    without = tokens(data=corpus)
    assert np.subtract(tokens(data=other), without).tolist() == [2, 3, 3, 3, 3, 3]  # the query and its [SEP]
    assert tokens(data=other, queries=False) == without
    same = EraserCorpus("same", "", "0", corpus.labels, {"test": asked[1:]})
    assert tokens(data=same) == without[1:]  # one query for all says nothing


def test_json_lines_instead_of_a_corpus(adapler_folder: Path, tmp_path: Path) -> None:
    rows = [
        {"id": 7, "tokens": ["a", "dull", "film"], "label": "NEG", "rationale": [0, 1, 0]},
        {"id": 8, "tokens": ["superb", "film"], "label": "POS", "rationale": None},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(adapler_folder, tmp_path / "mine.jsonl")
    assert [(d.id, d.skipped) for d in result.documents] == [("7", None), ("8", "no rationale in view")]
    assert result.meta["data"]["name"] == "mine"


def test_a_split_without_any_rationale(adapler_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"tokens": ["a", "film"], "label": "NEG"}')
    result = run(adapler_folder, tmp_path / "mine.jsonl")
    assert result.n_skipped == 1 and np.isnan(result.values).all() and result.examples == ()
    assert result.meta["density"] is None and result.accuracy in (0, 1)


def test_metrics_that_need_no_rationale_are_of_all_documents(adapler_folder: Path, corpus_folder: Path) -> None:
    result = run(adapler_folder, corpus_folder, methods=["saliency"], metrics=["sparseness", "aopc_comprehensiveness"])
    assert result.n_skipped == 0 and not np.isnan(result.values[0]).any()
    alone = run(adapler_folder, corpus_folder, methods=["saliency"], metrics=["sparseness"])
    np.testing.assert_array_equal(alone.values[..., 0], result.values[..., 0])
    beside = run(adapler_folder, corpus_folder, methods=["saliency"], metrics=["sparseness", "fpr"])
    judged = np.array([document.skipped is None for document in beside.documents])
    np.testing.assert_array_equal(beside.values[0, :, judged, 0], alone.values[0, :, judged, 0])
    assert 0 < judged.sum() < len(judged) and np.isnan(beside.values[0, :, ~judged]).all()


def test_a_split_without_rationales_is_said_and_not_drawn(
    adapler_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "unmarked.jsonl"
    rows = [{"tokens": ["rain", "film"], "label": "NEG"}, {"tokens": ["film"], "label": "NEG", "rationale": [1]}]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = rationale_eval.evaluate(
        model=adapler_folder.parent / "plain", data=corpus, methods=["attention", "saliency"], progress=False
    )
    reasons = "no rationale in view or nothing but rationale in view"
    assert report.meta["notes"] == [f"no document is scored, so that every value is undefined: {reasons}"]
    assert report.n_skipped == 2 and figures.kinds(report) == ()
    with pytest.raises(ArgumentError, match="nothing to draw"):
        draw_all([str(report.save(tmp_path / "report", progress=True)[0])])
    assert "drawing" not in capsys.readouterr().err, "a bar of no figures"
