from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapler.eraser import read_corpus
from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.model.batching import GRADIENT_TOKEN_BUDGET, batches_by_length
from adapler.model.flops import adapler_flops, backbone_flops
from analysis import rationale_eval
from analysis.command.console import header
from analysis.documents.alignment import align
from analysis.documents.batching import collate
from analysis.evaluation import faithfulness, plan, scoring
from analysis.evaluation.settings import TOKEN_BUDGET, Settings
from analysis.metrics import plausibility as pl
from analysis.output.report import RationaleReport
from analysis.scores import get_method
from analysis.scores.passes import adapler_pass
from tests.conftest import tiny_classifier


@pytest.fixture
def report(adapler_folder: Path, corpus_folder: Path) -> RationaleReport:
    return run(adapler_folder, corpus_folder)


def run(adapler_folder: Path, corpus_folder: Path, **options: Any) -> RationaleReport:
    defaults: dict[str, Any] = {"max_length": 24, "progress": False}
    return rationale_eval.evaluate(adapler=adapler_folder, data=corpus_folder, **(defaults | options))


def value(report: RationaleReport, method: str, layer: int, document: str, metric: str) -> float:
    frame = report.to_frame()
    chosen = frame[
        (frame["method"] == method)
        & (frame["layer"] == layer)
        & (frame["document"] == document)
        & (frame["metric"] == metric)
    ]
    return float(chosen["value"].item())


def test_every_cell_equals_the_metric_of_that_document_alone(
    report: RationaleReport, reducer: Any, tiny_tokenizer: Any, corpus_folder: Path
) -> None:
    example = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["pos_long"]
    window = align(example, tiny_tokenizer, max_length=24).windows[0]
    batch = collate([window], labels=[1], pad_token_id=tiny_tokenizer.pad_token_id)
    content = ~window.special
    labels = window.rationale[content]
    for name in ("attention", "rollout", "saliency", "random", "cp"):
        model = reducer if name == "cp" else reducer.backbone
        result = get_method(name)(model, batch)
        for layer in range(3):
            scores = result.scores[0, layer].double().numpy()[content]
            present = len(window) if result.present is None else int(result.present[0, layer].sum())
            expected = {
                "average_precision": pl.average_precision(labels, scores),
                "fpr": pl.false_positive_rate(labels, scores >= 1 / len(window)),
                "tpr": pl.true_positive_rate(labels, scores >= 1 / len(window)),
                "fpr_present": pl.false_positive_rate(labels, scores >= (1 - 1e-6) / present),
                "j_content": pl.youden_j(labels, pl.select_content(scores)),
            }
            for metric, number in expected.items():
                assert value(report, name, layer, "pos_long", metric) == pytest.approx(number), (name, metric)


def test_skipped_documents_are_classified_and_counted(report: RationaleReport) -> None:
    skipped = {d.id: d.skipped for d in report.documents if d.skipped}
    assert skipped == {
        "neg_none": "no rationale in view",
        "pos_all": "nothing but rationale in view",
    }
    assert report.n_skipped == 2 and len(report.documents) == 6
    summary = report.summary()
    assert (summary["n"] == 4).all() and (summary["skipped"] == 2).all()
    assert not set(skipped) & set(report.to_frame()["document"])
    assert all(d.prediction in ("NEG", "POS") and d.label == d.id[:3].upper() for d in report.documents)


def test_summary_is_the_mean_over_documents(report: RationaleReport) -> None:
    frame = report.to_frame()
    means = frame.groupby(["method", "layer", "metric"])["value"].mean()
    for row in report.summary().itertuples():
        assert row.mean == pytest.approx(means[row.method, row.layer, row.metric])
        assert row.low <= row.mean + 1e-12 and row.mean <= row.high + 1e-12


def test_density_chance_and_truncation(report: RationaleReport) -> None:
    scored = [d for d in report.documents if d.skipped is None]
    density = np.mean([d.rationale_tokens / d.content_tokens for d in scored])
    chance = np.mean([pl.expected_average_precision(d.rationale_tokens, d.content_tokens) for d in scored])
    assert report.meta["density"] == pytest.approx(density)
    assert report.meta["chance_average_precision"] == pytest.approx(chance)
    # pos_long has 46 words and 48 pieces, 22 of them in view: 21 words; its second span of 3 words is lost
    assert report.meta["truncation"]["words_lost"] == 46 - 21
    assert report.meta["truncation"]["rationale_words_lost"] == 3


def test_lengths_speedup_and_predictions(report: RationaleReport, reducer: Any, tiny_tokenizer: Any) -> None:
    total_before, total_after = 0.0, 0.0
    for document in report.documents:
        assert document.lengths is not None and len(document.lengths) == 3
        lengths = np.array([document.lengths])
        total_before += float(backbone_flops(reducer.config, np.array([document.tokens]))[0])
        total_after += float(adapler_flops(reducer.config, np.array([document.tokens]), lengths)[0])
    assert report.speedup == pytest.approx(total_before / total_after)
    assert report.mean_lengths == pytest.approx(np.mean([d.lengths for d in report.documents], axis=0))
    correct = [d.prediction == d.label for d in report.documents]
    assert report.accuracy == pytest.approx(np.mean(correct))
    assert report.agreement == pytest.approx(np.mean([d.prediction == d.adapler_prediction for d in report.documents]))


def test_predictions_are_each_model_s_own(
    report: RationaleReport, reducer: Any, tiny_tokenizer: Any, corpus_folder: Path
) -> None:
    for example, document in zip(read_corpus(corpus_folder).splits["test"], report.documents, strict=True):
        window = align(example, tiny_tokenizer, max_length=24).windows[0]
        batch = collate([window], pad_token_id=tiny_tokenizer.pad_token_id)
        plain = reducer.backbone(**batch.model_inputs()).logits.argmax(-1).item()
        output = adapler_pass(reducer, batch)
        assert document.prediction == ("NEG", "POS")[plain]
        assert document.adapler_prediction == ("NEG", "POS")[output.logits.argmax(-1).item()]
        assert document.lengths == tuple(output.lengths[0].tolist())


@pytest.mark.parametrize("token_budget", [1, 60, 10_000])
def test_results_do_not_depend_on_the_token_budget(
    report: RationaleReport, adapler_folder: Path, corpus_folder: Path, token_budget: int
) -> None:
    other = run(adapler_folder, corpus_folder, token_budget=token_budget)
    np.testing.assert_allclose(other.values, report.values, atol=1e-5)
    assert other.documents == report.documents


def test_batches_on_a_cpu_are_those_that_gradients_are_fast_in(
    adapler_folder: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[int] = []

    def noted(lengths: Sequence[int], *, token_budget: int) -> Iterator[list[int]]:
        budgets.append(token_budget)
        return batches_by_length(lengths, token_budget=token_budget)

    for module in (scoring, faithfulness):
        monkeypatch.setattr(module, "batches_by_length", noted)
    for asked, budget in ((None, GRADIENT_TOKEN_BUDGET), (77, 77)):
        run(adapler_folder, corpus_folder, metrics=["sufficiency_1"], methods=["random"], token_budget=asked)
        assert len(budgets) > 1 and set(budgets) == {budget}
        budgets.clear()
    assert Settings().batch_tokens("cuda") == TOKEN_BUDGET > GRADIENT_TOKEN_BUDGET


def test_methods_can_be_chosen_and_a_plain_model_has_no_cp(adapler_folder: Path, corpus_folder: Path) -> None:
    chosen = run(adapler_folder, corpus_folder, methods=["random", "saliency_gold", "random"])
    assert chosen.methods == ("random", "saliency_gold")
    plain = rationale_eval.evaluate(
        model=adapler_folder.parent / "plain", data=corpus_folder, max_length=24, progress=False
    )
    assert "cp" not in plain.methods and plain.methods[0] == "attention"
    assert plain.speedup is plain.mean_lengths is plain.adapler_accuracy is plain.agreement is None


def test_objects_instead_of_paths(reducer: Any, tiny_tokenizer: Any, corpus_folder: Path) -> None:
    result = rationale_eval.evaluate(
        model=reducer.backbone,
        adapler=reducer,
        tokenizer=tiny_tokenizer,
        data=read_corpus(corpus_folder),
        max_length=24,
        progress=False,
        limit=2,
    )
    assert [d.id[:3] for d in result.documents] == ["neg", "pos"]  # balanced over the labels


def test_bfloat16_stays_close(report: RationaleReport, adapler_folder: Path, corpus_folder: Path) -> None:
    other = run(adapler_folder, corpus_folder, dtype="bfloat16", methods=["saliency", "attention"])
    assert np.isfinite(other.values[:, :, 0]).all()
    ours = report.values[[report.methods.index(m) for m in other.methods]]
    assert np.nanmean(np.abs(ours[..., 0] - other.values[..., 0])) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split: got 'val', films has test"),
        ({"methods": ["limes"]}, "method 'limes' is not known"),
        ({"methods": []}, "methods: got none"),
        ({"dtype": "int8"}, "dtype: got 'int8', allowed are auto, float32, bfloat16"),
        ({"max_length": 100}, "max_length: got 100, BertForSequenceClassification takes at most 64"),
        ({"threshold_scale": -1.0}, "threshold_scale: got -1.0"),
        ({"threshold_scale": math.nan}, "threshold_scale: got nan"),
        ({"limit": 0}, "limit: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"token_budget": 0}, "token_budget: got 0, must be at least 1"),
        ({"examples": -1}, "examples: got -1"),
        ({"policy": "first"}, "policy: got 'first', allowed are truncate, rationale-windows, all-windows"),
        ({"aggregation": "min"}, "aggregation: got 'min', allowed are none, max, mean, sum"),
        ({"metrics": ["auc"]}, "metric: got 'auc', allowed are average_precision"),
        ({"metrics": []}, "metrics: got none"),
        ({"protocol": "acl"}, "protocol: got 'acl', allowed are paper, eraser, ferret"),
        ({"protocol": "ferret", "metrics": ["comprehensiveness_1"]}, "'comprehensiveness_1' is of a bin that"),
        ({"faithfulness_layers": [3]}, "faithfulness_layers: got 3, the model has layers 0 to 2"),
        ({"faithfulness_variant": "swap"}, "variant: got 'swap', allowed are delete, mask"),
        ({"rationale_layer": 9}, "rationale_layer: got 9, the model has layers 0 to 2"),
    ],
)
def test_bad_arguments(adapler_folder: Path, corpus_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        run(adapler_folder, corpus_folder, **options)


def test_masking_needs_a_mask_token(adapler_folder: Path, corpus_folder: Path, tiny_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.mask_token = None
    options = {"metrics": ["faithfulness"], "faithfulness_variant": "mask", "tokenizer": tokenizer}
    with pytest.raises(ArgumentError, match="has no mask token, use variant 'delete'"):
        run(adapler_folder, corpus_folder, **options)


def test_models_that_do_not_fit(adapler_folder: Path, corpus_folder: Path, reducer: Any) -> None:
    with pytest.raises(ArgumentError, match="'cp' needs an AdapLeR model"):
        run(None, corpus_folder, model=adapler_folder.parent / "plain", methods=["cp"])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="adapler: got a BertForSequenceClassification"):
        run(reducer.backbone, corpus_folder)
    with pytest.raises(CheckpointError, match="no such model folder"):
        run(adapler_folder / "missing", corpus_folder)
    reducer.config.id2label = {0: "BAD", 1: "GOOD"}
    with pytest.raises(ArgumentError, match="do not fit: the model has labels"):
        run(reducer, corpus_folder, model=adapler_folder.parent / "plain")


def test_label_that_the_model_does_not_have(adapler_folder: Path, corpus_folder: Path) -> None:
    file = corpus_folder / "test.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1]["classification"] = "MIXED"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises((ArgumentError, DataError), match="MIXED"):
        run(adapler_folder, corpus_folder)


def test_labels_that_are_indices_are_the_model_s(adapler_folder: Path, tmp_path: Path) -> None:
    def evaluated(*labels: int) -> RationaleReport:
        rows = [{"tokens": ["dull", "film"], "label": label, "rationale": [1, 0]} for label in labels]
        path = tmp_path / "test.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run(adapler_folder, path, methods=["random"])

    assert [one.label for one in evaluated(1, 1, 0).documents] == ["POS", "POS", "NEG"]
    assert [one.label for one in evaluated(1).documents] == ["POS"]  # not the first of the labels that occur
    with pytest.raises(ArgumentError, match="document test-2: label '7' is not among the model's labels, 0, 1"):
        evaluated(0, 7)


def test_without_a_length_the_model_s_own_where_it_is_shorter(adapler_folder: Path, corpus_folder: Path) -> None:
    report = run(adapler_folder, corpus_folder, max_length=None, methods=["random"])
    assert report.meta["max_length"] == 64 and max(one.tokens for one in report.documents) > 24
    assert "in view    64 wordpieces, all this model takes (truncate): 0 of " in header(report)
    asked = run(adapler_folder, corpus_folder, max_length=64, methods=["random"])
    assert "in view    64 wordpieces (truncate): 0 of " in header(asked)


@pytest.mark.parametrize(("family", "longest"), [("bert", 40), ("roberta", 38), ("electra", 40), ("distilbert", 40)])
def test_the_default_length_fits_every_family(
    family: str, longest: int, corpus_folder: Path, tiny_tokenizer: Any
) -> None:
    model = tiny_classifier(family)
    model.config.id2label = {0: "NEG", 1: "POS", 2: "MIXED"}
    model.config.label2id = {"NEG": 0, "POS": 1, "MIXED": 2}
    report = rationale_eval.evaluate(
        model=model, tokenizer=tiny_tokenizer, data=corpus_folder, methods=["random"], progress=False
    )
    assert report.meta["max_length"] == longest


def test_encoder_without_a_head_is_refused(
    adapler_folder: Path, corpus_folder: Path, reducer: Any, tmp_path: Path
) -> None:
    reducer.backbone.bert.save_pretrained(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="holds no fine-tuned classifier .found BertModel"):
        rationale_eval.evaluate(model=tmp_path / "encoder", data=corpus_folder)


def test_logits_that_are_no_numbers_are_no_accuracy(corpus_folder: Path, reducer: Any, tiny_tokenizer: Any) -> None:
    with torch.no_grad():
        reducer.backbone.classifier.bias[0] = torch.inf
    with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite, so that no label follows"):
        rationale_eval.evaluate(
            adapler=reducer, tokenizer=tiny_tokenizer, data=corpus_folder, max_length=24, progress=False, methods=["cp"]
        )


def test_settings_travel_into_the_report(adapler_folder: Path, corpus_folder: Path) -> None:
    result = run(adapler_folder, corpus_folder, threshold_scale=0.0, seed=3)
    assert result.meta["threshold_scale"] == 0.0 and result.meta["seed"] == 3
    assert all(d.lengths == (d.tokens,) * 3 for d in result.documents)
    assert result.adapler_accuracy == result.accuracy and result.agreement == 1.0
    assert result.meta["data"]["checksum"] == read_corpus(corpus_folder).checksum
    assert result.meta["papers"]["cp"].startswith("https://aclanthology.org/2022")


def test_documents_stay_in_order_whatever_the_chunks(
    report: RationaleReport, adapler_folder: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK_TOKENS", 25)  # one or two documents at a time
    other = run(adapler_folder, corpus_folder)
    np.testing.assert_allclose(other.values, report.values, atol=1e-5)
    assert other.documents == report.documents and [e.id for e in other.examples] == [e.id for e in report.examples]
    np.testing.assert_allclose(other.correlations, report.correlations, atol=1e-4)
    np.testing.assert_allclose(other.curves["cp"], report.curves["cp"], atol=1e-5)
