"""From documents to the frame: every value is the metric of that document alone; what is in view and skipped."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from adapler.eraser import EraserCorpus, EraserExample, read_corpus
from adapler.errors import ArgumentError, CheckpointError, DataError
from adapler.flops import adapler_flops, backbone_flops
from analysis import rationale_eval, scoring
from analysis.corpus import align, collate, load_corpus
from analysis.faithfulness import version_types
from analysis.metrics import plausibility as pl
from analysis.rationale_eval import Pictures, Plan, evaluate
from analysis.scores import get_method
from analysis.scores.base import adapler_pass
from analysis.scoring import Scorer, Settings
from tests.analysis.conftest import BAD, GOOD, tiny_bert
from tests.conftest import tiny_classifier


@pytest.fixture(scope="module")
def report(adapler_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(adapler_folder, films(tmp_path_factory.mktemp("films")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return films(tmp_path / "films")


def films(folder: Path) -> Path:
    """Six documents as JSON lines: one without a rationale, one that is all rationale, one longer than the input."""
    texts: dict[str, tuple[list[str], list[int]]] = {
        "neg_0": (BAD, [1, 2, 3]),
        "neg_1": (["the", "plot", "is", *BAD], [4, 6]),
        "neg_none": (BAD, []),
        "pos_0": (GOOD, [1]),
        "pos_all": (["superb"], [0]),
        "pos_long": ([*GOOD, *["rain"] * 30, *GOOD], [1, 2, 3, 39, 40, 41]),
    }
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "id": name,
            "tokens": words,
            "label": name[:3].upper(),
            "rationale": [int(i in marked) for i in range(len(words))],
        }
        for name, (words, marked) in texts.items()
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(adapler: Any, folder: Any, **options: Any) -> Any:
    return rationale_eval.evaluate(adapler=adapler, data=folder, progress=False, **{"max_length": 24, **options})


def value(report: Any, method: str, layer: int, document: str, metric: str) -> float:
    frame = report.frame.set_index(["method", "layer", "document", "metric"]).sort_index()
    return float(frame.loc[(method, layer, document, metric), "value"].mean())


def example(folder: Path, name: str) -> EraserExample:
    return next(one for one in load_corpus(folder).splits["test"] if one.id == name)


def same(one: Any, other: Any, atol: float = 1e-5) -> None:
    keys = ["document", "method", "layer", "unit", "metric"]
    frames = [each.frame.sort_values(keys).reset_index(drop=True) for each in (one, other)]
    pd.testing.assert_frame_equal(*frames, atol=atol, rtol=0, check_dtype=False)


def test_every_cell_equals_the_metric_of_that_document_alone(
    report: Any, reducer: Any, tiny_tokenizer: Any, data: Path
) -> None:
    window = align(example(data, "pos_long"), tiny_tokenizer, max_length=24).windows[0]
    batch = collate([window], labels=[1], pad_token_id=tiny_tokenizer.pad_token_id)
    content = ~window.special
    labels = window.rationale[content]
    for name in ("attention", "rollout", "saliency", "random", "cp"):
        result = get_method(name)(reducer if name == "cp" else reducer.backbone, batch)
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


def test_the_frame_is_tidy(report: Any) -> None:
    assert list(report.frame.columns) == ["document", "method", "layer", "unit", "metric", "value"]
    assert set(report.frame["unit"]) == {0} and report.frame["value"].notna().all()
    assert not report.frame.duplicated(["document", "method", "layer", "unit", "metric"]).any()


def test_skipped_documents_are_classified_and_counted(report: Any) -> None:
    records = report.meta["documents"]
    assert {one["id"]: one["skipped"] for one in records if one["skipped"]} == {
        "neg_none": "no rationale in view",
        "pos_all": "nothing but rationale in view",
    }
    assert set(report.frame["document"]) == {"neg_0", "neg_1", "pos_0", "pos_long"} and report.meta["skipped"] == 2
    assert all(one["prediction"] in ("NEG", "POS") and one["label"] == one["id"][:3].upper() for one in records)


def test_density_chance_and_coverage(report: Any) -> None:
    scored = [one for one in report.meta["documents"] if one["skipped"] is None]
    pairs = [(one["rationale_tokens"], one["content_tokens"]) for one in scored]
    assert report.meta["density"] == pytest.approx(np.mean([marked / n for marked, n in pairs]))
    chance = np.mean([pl.expected_average_precision(*pair) for pair in pairs])
    assert report.meta["chance_average_precision"] == pytest.approx(chance)
    # pos_long has 46 words and 48 pieces, 22 of them in view: 21 words; its second span of 3 words is lost
    assert report.meta["coverage"]["words_lost"] == 46 - 21
    assert report.meta["coverage"]["rationale_words_lost"] == 3


def test_predictions_lengths_and_speedup(report: Any, reducer: Any, tiny_tokenizer: Any, data: Path) -> None:
    before, after = 0.0, 0.0
    for record in report.meta["documents"]:
        window = align(example(data, record["id"]), tiny_tokenizer, max_length=24).windows[0]
        batch = collate([window], pad_token_id=tiny_tokenizer.pad_token_id)
        plain = reducer.backbone(**batch.model_inputs()).logits.argmax(-1).item()
        output = adapler_pass(reducer, batch)
        assert record["prediction"] == ("NEG", "POS")[plain]
        assert record["adapler_prediction"] == ("NEG", "POS")[output.logits.argmax(-1).item()]
        assert record["lengths"] == output.lengths[0].tolist()
        before += float(backbone_flops(reducer.config, np.array([record["tokens"]]))[0])
        after += float(adapler_flops(reducer.config, np.array([record["tokens"]]), np.array([record["lengths"]]))[0])
    frame = pd.DataFrame(report.meta["documents"])
    assert report.meta["speedup"] == pytest.approx(before / after)
    assert report.meta["accuracy"] == pytest.approx((frame["prediction"] == frame["label"]).mean())
    assert report.meta["mean_lengths"] == pytest.approx(np.mean(frame["lengths"].tolist(), axis=0))


@pytest.mark.parametrize(("budget", "chunk"), [(1, 16384), (60, 25), (10_000, 16384)])
def test_values_do_not_depend_on_batches_and_chunks(
    report: Any, adapler_folder: Path, data: Path, budget: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rationale_eval, "CHUNK_TOKENS", chunk)
    other = run(adapler_folder, data, token_budget=budget)
    same(other, report)
    assert other.meta["documents"] == report.meta["documents"]
    assert [one["id"] for one in other.meta["examples"]] == [one["id"] for one in report.meta["examples"]]


def test_methods_objects_and_a_model_without_adapler(reducer: Any, tiny_tokenizer: Any, data: Path) -> None:
    chosen = evaluate(
        reducer.backbone, data, ["random", "saliency_gold", "random"], "roc_auc",
        tokenizer=tiny_tokenizer, max_length=24, progress=False, limit=2,
    )  # fmt: skip
    assert chosen.meta["methods"] == ["random", "saliency_gold"] and chosen.meta["metrics"] == ["roc_auc"]
    assert [one["id"][:3] for one in chosen.meta["documents"]] == ["neg", "pos"], "balanced over the labels"
    assert "speedup" not in chosen.meta and chosen.meta["documents"][0]["lengths"] is None


def test_a_frame_of_texts_and_a_function_of_one_s_own(reducer: Any, tiny_tokenizer: Any) -> None:
    """numpy, one score a token, signed in one text only: the ranking is judged, a selection at 1/n is not."""
    texts = [" ".join(GOOD), " ".join(BAD)]
    spans = [[(2, 8)], [(2, 6), (11, 18)]]  # characters
    frame = pd.DataFrame({"text": texts, "label": ["POS", "NEG"], "rationale": spans})

    def evens(model: Any, batch: Any) -> Any:
        signed = torch.tensor([-1.0 if one == "test-2" else 1.0 for one in batch.ids])[:, None]
        return (signed * (batch.input_ids % 2)).numpy()

    found = evaluate(
        reducer.backbone, frame, [evens], ["average_precision", "fpr"], tokenizer=tiny_tokenizer, progress=False
    )
    assert set(found.frame["metric"]) == {"average_precision"} and len(found.frame) == 2
    assert found.meta["layerwise"] == {"evens": False} and found.meta["density"] is not None


def test_the_share_of_annotators_is_a_graded_truth(reducer: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Beside the majority's mark: word 0 counts by a third, word 1 whole; the other document has one annotator."""
    people = [[0, 1, 0], [0, 1, 0], [1, 1, 0]]
    rows = [
        {"tokens": GOOD[:3], "label": "POS", "rationale": people},
        {"tokens": BAD[:3], "label": "NEG", "rationale": people[2]},
    ]
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pieces = align(load_corpus(file).splits["test"][0], tiny_tokenizer).windows[0]
    assert pieces.words.tolist() == [-1, 0, 1, 2, -1]

    def first(model: Any, batch: Any) -> Any:
        return -torch.arange(batch.input_ids.shape[1], dtype=torch.float).expand_as(batch.input_ids)

    metrics = ["average_precision", "average_precision_soft"]
    how: dict[str, Any] = {"tokenizer": tiny_tokenizer, "progress": False}
    found = evaluate(reducer.backbone, str(file), [first], metrics, **how).frame
    values = found[found.document == "test-1"].set_index("metric").value
    assert values.to_dict() == pytest.approx(
        {"average_precision": 1 / 2, "average_precision_soft": (1 / 3 * 1 / 3 + 1 * 4 / 3 / 2) / (4 / 3)}
    )
    assert set(found[found.document == "test-2"].metric) == {"average_precision"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "no split 'val'"),
        ({"methods": ["limes"]}, "method 'limes' is not known"),
        ({"methods": []}, "methods: got none"),
        ({"dtype": "int8"}, "dtype: got 'int8', allowed are auto, float32, bfloat16"),
        ({"max_length": 100}, "max_length: got 100, BertForSequenceClassification takes at most 64"),
        ({"threshold_scale": math.nan}, "--threshold-scale: nan is not at least 0"),
        ({"limit": 0}, "--limit: 0 is not at least 1"),
        ({"truncation": "first"}, "truncation: got 'first', allowed are truncate, rationale-windows, all-windows"),
        ({"metrics": ["auc"]}, "metric: got 'auc', allowed are average_precision"),
        ({"metrics": []}, "metrics: got none"),
        ({"protocol": "acl"}, "protocol: got 'acl', allowed are paper, eraser, ferret"),
        ({"protocol": "ferret", "metrics": ["comprehensiveness_1"]}, "protocol 'ferret' has the bins"),
        ({"faithfulness_layers": [3]}, "faithfulness_layers: got 3, the model has layers 0 to 2"),
        ({"rationale_layer": 1}, "no rationales are written"),
        ({"model": "plain", "adapler": None, "methods": ["cp"]}, "'cp' needs an AdapLeR model"),
        ({"model": "plain", "adapler": None, "threshold_scale": 2.0}, "threshold_scale: got 2.0, but there is no A"),
    ],
)
def test_bad_arguments(adapler_folder: Path, data: Path, options: dict[str, Any], message: str) -> None:
    if options.get("model"):
        options = options | {"model": adapler_folder.parent / "plain"}
    with pytest.raises((ArgumentError, DataError), match=message):
        run(**{"adapler": adapler_folder, "folder": data, **options})


def test_labels_that_are_not_the_model_s(adapler_folder: Path, tmp_path: Path) -> None:
    def evaluated(*labels: Any) -> Any:
        rows = [{"tokens": ["dull", "film"], "label": label, "rationale": [1, 0]} for label in labels]
        path = tmp_path / "test.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return [one["label"] for one in run(adapler_folder, path, methods=["random"]).meta["documents"]]

    assert evaluated(1, 1, 0) == ["POS", "POS", "NEG"] and evaluated(1) == ["POS"], "indices are the model's"
    assert evaluated("positive", "Neg") == ["POS", "NEG"]
    for wrong in ((0, 7), ("MIXED", "NEG")):
        with pytest.raises(ArgumentError, match="test: its labels, .*, are not the model's: NEG, POS"):
            evaluated(*wrong)


def test_models_that_do_not_fit(adapler_folder: Path, data: Path, reducer: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="adapler: got a BertForSequenceClassification"):
        run(reducer.backbone, data)
    with pytest.raises(CheckpointError, match="no such model folder"):
        run(adapler_folder / "missing", data)
    reducer.backbone.bert.save_pretrained(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="holds no fine-tuned classifier .found BertModel"):
        run(None, data, model=tmp_path / "encoder")
    reducer.config.id2label = {0: "BAD", 1: "GOOD"}
    with pytest.raises(ArgumentError, match="do not fit: the model has labels"):
        run(reducer, data, model=adapler_folder.parent / "plain")


def test_logits_that_are_no_numbers_are_no_accuracy(data: Path, reducer: Any, tiny_tokenizer: Any) -> None:
    with torch.no_grad():
        reducer.backbone.classifier.bias[0] = torch.inf
    with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite, so that no label follows"):
        run(reducer, data, tokenizer=tiny_tokenizer, methods=["cp"])


@pytest.mark.parametrize(("family", "longest"), [("bert", 40), ("roberta", 38), ("electra", 40), ("distilbert", 40)])
def test_the_default_length_fits_every_family(family: str, longest: int, tiny_tokenizer: Any) -> None:
    assert scoring.input_length(tiny_classifier(family), None) == longest


def test_bfloat16_stays_close(report: Any, adapler_folder: Path, data: Path) -> None:
    other = run(adapler_folder, data, dtype="bfloat16", methods=["saliency", "attention"], metrics="average_precision")
    both = other.frame.merge(report.frame, on=["document", "method", "layer", "unit", "metric"])
    assert len(both) == len(other.frame) and (both["value_x"] - both["value_y"]).abs().mean() < 0.02


def test_rationale_windows_are_averaged(adapler_folder: Path, data: Path, tiny_tokenizer: Any) -> None:
    result = run(adapler_folder, data, truncation="rationale-windows", methods=["saliency"])
    assert result.meta["coverage"]["rationale_words_lost"] == 0
    assert result.meta["windows"] == {"total": 7, "skipped_in_scored_documents": 0}
    windows = align(example(data, "pos_long"), tiny_tokenizer, max_length=24, truncation="rationale-windows").windows
    classifier = scoring.load_models(None, adapler_folder)[0]
    chosen = result.frame.query("document == 'pos_long' and layer == 1 and metric == 'average_precision'")
    for window, found in zip(windows, chosen.sort_values("unit")["value"], strict=True):
        scores = get_method("saliency")(classifier, collate([window], pad_token_id=5)).scores[0, 1].double().numpy()
        expected = pl.average_precision(window.rationale[~window.special], scores[~window.special])
        assert found == pytest.approx(expected, abs=1e-6)


def test_windows_of_nothing_but_rationale_are_left_out_and_counted(tiny_tokenizer: Any) -> None:
    one = EraserExample("d", ("film",) * 12, "NEG", ((2, 11),), "")  # windows of words 2-5, 6-9 and 10-11
    corpus = EraserCorpus("one", "", "0", ("NEG", "POS"), {"test": (one,)})
    settings = Settings(truncation="rationale-windows", max_length=6)
    found = Plan(corpus, [one], [0], Scorer(None, None, tiny_tokenizer, settings))
    assert found.n_windows == 3
    assert found.meta([], writes=False)["windows"]["skipped_in_scored_documents"] == 2
    assert (found.own["density"], found.own["size"]) == (0.5, 1.0), "of the third window: word 10, and 11 is outside"


def test_all_windows_are_stitched(adapler_folder: Path, data: Path, tiny_tokenizer: Any) -> None:
    result = run(adapler_folder, data, truncation="all-windows", methods=["saliency", "cp"])
    assert result.meta["coverage"]["words_lost"] == 0
    windows = align(example(data, "pos_long"), tiny_tokenizer, max_length=24, truncation="all-windows").windows
    total = sum(map(len, windows))
    classifier, reducer, _ = scoring.load_models(None, adapler_folder)
    labels, scores, logits, present = [], [], [], 0
    for window in windows:
        batch = collate([window], pad_token_id=5)
        found = get_method("cp")(reducer, batch)
        assert found.present is not None
        present += int(found.present[0, 1].sum())
        labels.append(window.rationale[~window.special])
        scores.append((found.scores[0, 1].double().numpy() * len(window) / total)[~window.special])
        logits.append(classifier(**batch.model_inputs()).logits.detach().numpy())
    joined, truth = np.concatenate(scores), np.concatenate(labels)
    ours = value(result, "cp", 1, "pos_long", "average_precision")
    assert ours == pytest.approx(pl.average_precision(truth, joined), abs=1e-6)
    expected = pl.false_positive_rate(truth, pl.select_uniform(joined, total))
    assert value(result, "cp", 1, "pos_long", "fpr") == pytest.approx(expected)
    record = {one["id"]: one for one in result.meta["documents"]}["pos_long"]
    assert record["prediction"] == ("NEG", "POS")[int(np.mean(logits, axis=0).argmax())]
    assert record["tokens"] == total and record["lengths"][0] <= total


def test_word_aggregation(adapler_folder: Path, data: Path, tiny_tokenizer: Any) -> None:
    result = run(adapler_folder, data, aggregation="sum", methods=["saliency"])
    document = example(data, "neg_1")
    (window,) = align(document, tiny_tokenizer, max_length=24).windows
    classifier = scoring.load_models(None, adapler_folder)[0]
    scores = get_method("saliency")(classifier, collate([window], pad_token_id=5)).scores[0, 0].double().numpy()
    by_word = np.array([scores[window.words == word].sum() for word in range(len(document.words))])
    expected = pl.average_precision(document.rationale(), by_word)
    assert value(result, "saliency", 0, "neg_1", "average_precision") == pytest.approx(expected)
    chosen = pl.select_uniform(by_word, len(document.words) + 2)
    expected = pl.false_positive_rate(document.rationale(), chosen)
    assert value(result, "saliency", 0, "neg_1", "fpr") == pytest.approx(expected)


def test_methods_at_the_input_have_values_at_layer_0_only(adapler_folder: Path, data: Path) -> None:
    name = "integrated_gradients(n_steps=2)"
    result = run(adapler_folder, data, methods=["saliency", name])
    assert result.meta["layerwise"] == {"saliency": True, name: False}
    ours = result.frame[result.frame["method"] == name]
    assert set(ours["layer"]) == {0} and set(ours["metric"]) == {"average_precision", "roc_auc"}, (
        "signed: no selection at 1/n"
    )
    correlations = np.array(result.meta["correlations"], dtype=float)
    assert np.isfinite(correlations[0]).all() and np.isnan(correlations[1, 0, 1])
    assert len(result.meta["examples"][0]["scores"][name]) == 1
    (gap,) = result.meta["diagnostics"][name].values()
    assert gap["min"] <= gap["mean"] <= gap["max"] and result.meta["options"][name]["n_steps"] == 2


def test_examples_are_token_by_token(report: Any, reducer: Any, tiny_tokenizer: Any, data: Path) -> None:
    assert len(report.meta["examples"]) == 3
    shown = report.meta["examples"][0]
    (window,) = align(example(data, shown["id"]), tiny_tokenizer, max_length=24).windows
    assert shown["tokens"] == tiny_tokenizer.convert_ids_to_tokens(window.input_ids.tolist())
    assert shown["rationale"] == window.rationale.astype(int).tolist()
    output = adapler_pass(reducer, collate([window], pad_token_id=5))
    assert shown["retention"] == output.retention_mask[0].int().tolist()
    np.testing.assert_allclose(shown["scores"]["cp"], output.contribution_scores[0].numpy(), atol=1e-6)


def test_correlations_and_curves_of_two_documents() -> None:
    """Against scipy, and precision by counting; a document of two windows counts once."""
    random, found = np.random.default_rng(0), Pictures(["a", "b"], 2)
    labels = np.array([True, False, False, True, False, False])
    windows = [{name: random.random((2, 6)) for name in ("a", "b")} for _ in range(3)]
    found.add([(labels, windows[0]), (labels, windows[1])])
    found.add([(labels, windows[2])])
    meta = found.meta()
    for layer in range(2):
        rho = [spearmanr(one["a"][layer], one["b"][layer]).statistic for one in windows]
        assert meta["correlations"][layer][0][1] == pytest.approx(((rho[0] + rho[1]) / 2 + rho[2]) / 2)
        best = []  # the highest precision at any recall, which is what the curve begins with
        for one in windows:
            hits = labels[np.argsort(-one["b"][layer])].cumsum()
            best.append((hits / np.arange(1, 7))[hits > 0].max())
        documents = [(best[0] + best[1]) / 2, best[2]]
        assert meta["curves"]["b"][layer][0] == pytest.approx(np.mean(documents))
        assert meta["curve_errors"]["b"][layer][0] == pytest.approx(np.std(documents, ddof=1) / math.sqrt(2))


def test_queries_are_shown_when_they_differ(adapler_folder: Path, data: Path) -> None:
    corpus = load_corpus(data)
    asked = tuple(
        EraserExample(e.id, e.words, e.label, e.spans, "the plot" if k else "rain")
        for k, e in enumerate(corpus.splits["test"])
    )
    other = EraserCorpus("asked", "", "0", corpus.labels, {"test": asked})

    def tokens(corpus: Any, **options: Any) -> list[int]:
        found = run(adapler_folder, corpus, methods=["random"], max_length=64, **options)
        return [one["tokens"] for one in found.meta["documents"]]

    without = tokens(corpus)
    assert np.subtract(tokens(other), without).tolist() == [2, 3, 3, 3, 3, 3]  # the query and its [SEP]
    assert tokens(other, queries="no") == tokens(other, queries=False) == without
    same_query = EraserCorpus("same", "", "0", corpus.labels, {"test": asked[1:]})
    assert tokens(same_query) == without[1:], "one query for all says nothing"


def test_a_split_without_any_rationale_and_metrics_that_need_none(adapler_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"tokens": ["a", "film"], "label": "NEG", "rationale": null}')
    result = run(adapler_folder, tmp_path / "mine.jsonl")
    assert result.meta["skipped"] == 1 and result.frame.empty and result.meta["examples"] == []
    assert np.isnan(result.meta["density"]) and result.meta["accuracy"] in (0, 1)
    assert result.meta["notes"] == ["no document is scored, so that every value is undefined: no rationale in view"]
    metrics = ["sparseness", "aopc_comprehensiveness"]
    other = run(adapler_folder, tmp_path / "mine.jsonl", methods=["saliency"], metrics=metrics)
    assert other.meta["skipped"] == 0 and set(other.frame["metric"]) == set(metrics)


def test_the_size_of_rationales_is_measured_on_another_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rationale_eval, "MEASURED", 2)
    for split, marks in {"test": [1, 1, 1, 0], "val": [1, 0, 0, 0]}.items():
        rows = [{"id": f"{split}{i}", "tokens": list("abcd"), "label": 0, "rationale": marks} for i in range(4)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {f"test{i}": [3.0, 2.0, 1.0, 0.0] for i in range(4)}
    options: dict[str, Any] = {"data": tmp_path, "methods": [], "metrics": "token_f1", "progress": False}
    found = [evaluate(predictions=given, seed=seed, **options) for seed in (0, 1)]
    assert found[0].meta["selection"] == found[1].meta["selection"] == {
        "density": 0.25, "size": 1.0, "word_density": 0.25, "source": "val", "split": "test"
    }  # fmt: skip
    assert set(found[0].frame["value"]) == {0.5}, "one word of three, and no other"
    (tmp_path / "val.jsonl").unlink()
    own = evaluate(predictions=given, **options)
    assert own.meta["selection"]["source"] == "test" and any("no other has rationales" in n for n in own.meta["notes"])


@pytest.mark.parametrize("variant", ["delete", "mask"])
def test_what_the_classifier_says_of_a_written_rationale(
    variant: str, adapler_folder: Path, data: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"rationale_layer": 2, "faithfulness_variant": variant, "density": 0.4}
    metrics = ["average_precision", "comprehensiveness_20"]
    run(adapler_folder, data, methods=["saliency"], metrics=metrics, rationales=tmp_path / "out", **options)
    lines = (tmp_path / "out" / "saliency.jsonl").read_text().splitlines()
    row = next(one for one in map(json.loads, lines) if one["annotation_id"] == "neg_1")
    document = example(data, "neg_1")
    (window,) = align(document, tiny_tokenizer, max_length=24).windows
    classifier = scoring.load_models(None, adapler_folder)[0]
    hard = np.zeros(len(document.words), dtype=bool)
    for span in row["rationales"][0]["hard_rationale_predictions"]:
        hard[span["start_token"] : span["end_token"]] = True
    assert hard.sum() == 5, "ceil(.4 of 11 words), as asked for"
    marked = ~window.special & hard[window.words]

    def probabilities(gone: np.ndarray) -> dict[str, Any]:
        ids = window.input_ids.copy()
        ids[gone] = tiny_tokenizer.mask_token_id
        kept = ids if variant == "mask" else window.input_ids[~gone]
        with torch.no_grad():
            shares = classifier(input_ids=torch.tensor(kept[None])).logits.softmax(-1)[0]
        return {name: pytest.approx(float(one), abs=1e-5) for name, one in zip(("NEG", "POS"), shares, strict=True)}

    assert row["classification_scores"] == probabilities(np.zeros(len(window), dtype=bool))
    assert row["comprehensiveness_classification_scores"] == probabilities(marked)
    assert row["sufficiency_classification_scores"] == probabilities(~window.special & ~marked)
    assert [one["threshold"] for one in row["thresholded_scores"]] == [0.01, 0.05, 0.1, 0.2, 0.5]


def test_layers_are_chosen_by_the_report_of_another_split(adapler_folder: Path, data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "test.jsonl", data / "val.jsonl")
    out, options = tmp_path / "out", {"methods": ["saliency", "random"], "metrics": "average_precision"}
    with pytest.raises(ArgumentError, match="rationale_layer: got None for .saliency.; name one"):
        run(adapler_folder, data, rationales=out, **options)
    for split in ("test", "val"):
        found = run(adapler_folder, data, split=split, **options)
        found.save(tmp_path / split, draw=False)
    with pytest.raises(ArgumentError, match="is a report of 'test', which is evaluated"):
        run(adapler_folder, data, rationales=out, rationale_layers=tmp_path / "test", **options)
    run(adapler_folder, data, rationales=out, rationale_layers=tmp_path / "val", **options)
    means = found.frame.groupby(["method", "layer"])["value"].mean()
    for method in ("saliency", "random"):
        one = tmp_path / f"{method}-out"
        run(adapler_folder, data, rationales=one, rationale_layer=int(means[method].idxmax()), **options)
        assert (one / f"{method}.jsonl").read_text() == (out / f"{method}.jsonl").read_text()
    with pytest.raises(ArgumentError, match="is of another evaluation: aggregation none, here sum"):
        run(adapler_folder, data, rationales=out, rationale_layers=tmp_path / "val", aggregation="sum", **options)
    with pytest.raises(ArgumentError, match="is of another evaluation: checksums"):
        other = tiny_bert()
        with torch.no_grad():
            other.classifier.bias.add_(1)
        other.save_pretrained(tmp_path / "other")
        shutil.copy(adapler_folder / "tokenizer.json", tmp_path / "other")
        run(None, data, model=tmp_path / "other", tokenizer=adapler_folder, rationales=out,
            rationale_layers=tmp_path / "val", **options)  # fmt: skip


def test_a_query_is_in_every_version_of_a_text() -> None:
    types = np.array([0, 0, 0, 0, 0, 1, 1])  # [CLS] a b c [SEP] query [SEP]
    content = np.array([False, True, True, True, False, False, False])
    assert version_types(types, content, length=5).tolist() == [0, 0, 0, 1, 1]


def test_boolq_and_e_snli(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """`docids` names the documents of an example: one of thousands of words, or two short ones."""

    def row(name: str, docids: list[str], spans: list[tuple[str, int, int]]) -> dict[str, Any]:
        evidences = [
            [
                {"docid": d, "start_token": a, "end_token": b, "text": " ".join(texts[d].split()[a:b])}
                for d, a, b in spans
            ]
        ]
        label = "True" if spans else "False"
        return {"annotation_id": name, "classification": label, "docids": docids, "evidences": evidences, "query": "q"}

    texts = {"AC/DC": "the plot is dull . " * 50, "premise": "a superb film", "hypothesis": "the film is dull ."}
    for name, text in texts.items():
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    rows = [
        row("0", ["AC/DC"], [("AC/DC", 100, 104)]),
        row("1", ["premise", "hypothesis"], [("hypothesis", 3, 4)]),
        row("2", ["AC/DC"], []),
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    options: dict[str, Any] = {"tokenizer": tiny_tokenizer, "methods": ["random"], "progress": False}
    options |= {"rationales": tmp_path / "out", "rationale_layer": 0}
    for truncation, skipped in (("truncate", True), ("rationale-windows", False)):
        found = evaluate(tiny_classifier(num_labels=2), read_corpus(tmp_path), truncation=truncation, **options)
        assert [one["skipped"] is not None for one in found.meta["documents"]] == [skipped, False, True]
    shown = next(one for one in found.meta["examples"] if one["id"] == "1")
    assert np.flatnonzero(shown["rationale"]).tolist() == [7], "[CLS], three words of the premise, the fourth behind"
    line = json.loads((tmp_path / "out" / "random.jsonl").read_text().splitlines()[1])
    sizes = [(one["docid"], len(one["soft_rationale_predictions"])) for one in line["rationales"]]
    assert sizes == [("premise", 3), ("hypothesis", 5)]
