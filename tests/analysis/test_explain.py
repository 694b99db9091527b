"""`analysis.explain`: one text gives the numbers that an evaluation gives, whatever the model and the text are."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertForSequenceClassification, BertModel

from adapler.contribution import threshold
from adapler.errors import AdapLeRError, ArgumentError
from analysis import explain, explanation, rationale_eval, scoring
from analysis.corpus import load_corpus
from analysis.scores import method_names
from tests.analysis.conftest import BAD, GOOD, tiny_bert
from tests.conftest import tiny_classifier

ROOT = Path(__file__).parents[2]
METRICS = ("average_precision", "fpr", "tpr", "j", "fpr_present", "j_present", "roc_auc")
FEW = {"lime": "lime(n_samples=20)", "kernel_shap": "kernel_shap(n_samples=20)"}


@pytest.mark.filterwarnings("ignore::analysis.scores.perturbation.UnstableScoresWarning")
def test_every_method_gives_the_numbers_of_an_evaluation(adapler_folder: Path, corpus_folder: Path) -> None:
    corpus = load_corpus(corpus_folder)
    methods = [FEW.get(name, name) for name in method_names()]
    how: dict[str, Any] = {"methods": methods, "max_length": 24}
    report = rationale_eval.evaluate(adapler=adapler_folder, data=corpus, metrics=METRICS, progress=False, **how)
    frame, compared = report.to_frame().set_index(["document", "method", "layer", "metric"])["value"], 0
    for example in corpus.splits["test"]:
        if example.id not in frame.index.get_level_values(0):
            continue
        words, asked = list(example.words), {"gold": example.label, "name": example.id}
        e = explain(words, model=adapler_folder, **asked, **how)
        rows = e.metrics(example.rationale(), metrics=METRICS).set_index(["method", "layer"])
        mine = {(m, layer, k): v for (m, layer), row in rows[list(METRICS)].iterrows() for k, v in row.items()}
        theirs = frame[example.id].to_dict()
        assert {key for key, value in mine.items() if not np.isnan(value)} == set(theirs)
        assert {key: mine[key] for key in theirs} == pytest.approx(theirs, abs=1e-12)
        compared += len(theirs)
    assert compared > 500


def test_thresholds_and_kept_are_the_model_s_own(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"], threshold_scale=1.2)
    ids = torch.tensor([e.window.input_ids.tolist()])
    inputs = {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        out, full = reducer(ids, **inputs, threshold_scale=1.2), reducer(ids, **inputs, removal="none")
    assert e.kept is not None and e.methods["cp"].present is not None
    assert e.kept.tolist() == out.retention_mask[0].tolist() and not e.kept.all()
    np.testing.assert_allclose(e.scores["cp"], out.contribution_scores[0].numpy(), atol=1e-7)
    present = torch.tensor(e.methods["cp"].present.sum(1))
    np.testing.assert_allclose(e.thresholds, threshold(reducer.eta.detach(), present, scale=1.2).numpy(), rtol=1e-6)
    np.testing.assert_allclose(e.thresholds, out.bars[0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(e.probabilities, out.logits[0].softmax(-1).numpy(), atol=1e-6)
    np.testing.assert_allclose(e.full_probabilities, full.logits[0].softmax(-1).numpy(), atol=1e-6)


@pytest.mark.parametrize("as_words", [False, True])
def test_both_texts_of_a_pair_are_scored_and_a_query_is_not(
    as_words: bool, classifier: Any, tiny_tokenizer: Any
) -> None:
    first, second = (text if as_words else " ".join(text) for text in (["the", "plot"], ["dull", "rain"]))
    how: dict[str, Any] = {"model": classifier, "tokenizer": tiny_tokenizer}
    methods = ["saliency", "integrated_gradients(n_steps=4)", "occlusion"]
    pair = explain((first, second), methods=methods, rationale=[2], **how)
    assert pair.words == ("the", "plot", "dull", "rain") and pair.word_ids.tolist() == [-1, 0, 1, -1, 2, 3, -1]
    assert pair.document().rationale.tolist() == [False, False, False, False, True, False, False]
    asked = explain(first, query=second if isinstance(second, str) else " ".join(second), methods=methods, **how)
    assert asked.words == ("the", "plot") and asked.word_ids.tolist() == [-1, 0, 1, -1, -1, -1, -1]
    assert asked.tokens == pair.tokens
    for name in methods[1:]:
        assert (pair.scores[name][:, 4:6] != 0).all() and (asked.scores[name][:, 4:6] == 0).all()
    assert pair.metrics()["n"].tolist() == [7] * (3 + 1 + 1)
    inside = pair.scores[methods[1]][0].sum() + pair.methods[methods[1]].diagnostics["completeness_gap"][0]
    assert np.isfinite(inside)


def test_a_string_is_read_as_the_model_s_own_pipeline_does(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain("a dull,tedious film", model=classifier, tokenizer=tiny_tokenizer, methods="attention")
    assert e.window.input_ids.tolist() == tiny_tokenizer("a dull,tedious film")["input_ids"]
    assert e.words == ("a", "dull,tedious", "film") and e.word_ids.tolist() == [-1, 0, 1, 1, 1, 1, 2, -1]
    assert explanation.word_indices("so  dull", [(0, 2), (2, 8), (4, 6)]) == [0, 1, 1], "a space goes with its word"


def test_a_long_text_is_cut_and_the_note_says_so(reducer: Any, tiny_tokenizer: Any) -> None:
    for text in (["rain"] * 100, "rain " * 100):
        e = explain(text, model=reducer, tokenizer=tiny_tokenizer, methods="cp")
        left_out = "64 wordpieces of it, 38 of its 100 words are left out"
        assert e.n == 64 and left_out in e.note and left_out in repr(e) and left_out in e._repr_html_()
    with pytest.raises(ArgumentError, match="max_length: got 65"):
        explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods="cp", max_length=65)


def test_what_a_reader_has_to_know_is_said(reducer: Any, tiny_tokenizer: Any) -> None:
    how: dict[str, Any] = {"model": reducer, "tokenizer": tiny_tokenizer, "methods": "cp"}
    assert "2 of the tokens unknown to the tokenizer ([UNK])" in explain("dull xylophone zebra .", **how).note
    texts = [[word] * k for word in ("dull", "superb", "rain", "plot", "日") for k in (3, 6, 9)]
    found = [explain(text, threshold_scale=1.5, **how) for text in texts]
    changed = [e for e in found if e.prediction != e.full_prediction]
    assert changed, "no text of this test changes its class"
    assert all((f"from {e.full_prediction} to {e.prediction}" in e.note) == (e in changed) for e in found)


def test_a_model_without_removal_has_no_cp(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer)
    assert list(e.methods) == ["saliency", "attention", "rollout"]
    assert (e.kept, e.thresholds, e.model) == (None, None, "BertForSequenceClassification")
    assert e.prediction == e.full_prediction and e.to_frame()["kept"].isna().all()
    with pytest.raises(ArgumentError, match="'cp': needs an AdapLeR model"):
        explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="cp")


def saliency_by_hand(model: Any, ids: torch.Tensor, weights: list[float]) -> np.ndarray:
    """|| gradient x input ||_2 of a weighted sum of the logits at the input of every layer, shares of each layer."""
    states = model(ids, output_hidden_states=True)
    value = (states.logits[0] * torch.tensor(weights)).sum()
    layers = states.hidden_states[:-1]
    gradients = torch.autograd.grad(value, layers)
    norms = torch.stack([(g * h)[0].norm(dim=-1) for g, h in zip(gradients, layers, strict=True)])
    return (norms / norms.sum(-1, keepdim=True)).detach().numpy()


@pytest.mark.parametrize(
    ("target", "weights", "described"),
    [
        ("label_1", [0.0, 1.0, 0.0], "LABEL_1"),
        (2, [0.0, 0.0, 1.0], "LABEL_2"),
        ("gold", [1.0, 0.0, 0.0], "LABEL_0"),
        ("contrast:1", None, "LABEL_1 minus "),
    ],
)
def test_targets(target: str | int, weights: list[float] | None, described: str, tiny_tokenizer: Any) -> None:
    model = tiny_classifier("bert")
    methods = ["saliency", "occlusion", "saliency(target=LABEL_0)"]
    e = explain(GOOD, model=model, tokenizer=tiny_tokenizer, methods=methods, target=target, gold=0)
    ids = torch.tensor([e.window.input_ids.tolist()])
    if weights is None:  # the strongest other class
        logits = model(ids).logits[0].tolist()
        weights = [0.0, 1.0, 0.0]
        weights[0 if logits[0] > logits[2] else 2] = -1.0
    np.testing.assert_allclose(e.scores["saliency"], saliency_by_hand(model, ids, weights), atol=1e-5)
    named = [str(method.target) for method in e.methods.values()]
    assert named[0] == named[1] and named[0].startswith(described) and named[2] == "LABEL_0"


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        ("multi_label_classification", 3, lambda logits: 1 / (1 + np.exp(-logits))),
        ("single_label_classification", 3, lambda logits: np.exp(logits) / np.exp(logits).sum()),
        (None, 1, lambda logits: 1 / (1 + np.exp(-logits))),
        ("regression", 3, None),
    ],
)
def test_probabilities_are_those_of_the_pipeline(
    problem: str | None, labels: int, expected: Any, tiny_tokenizer: Any
) -> None:
    model = tiny_bert(n_labels=labels)
    model.config.problem_type = problem
    e = explain(GOOD, model=model, tokenizer=tiny_tokenizer, methods="saliency")
    with torch.no_grad():
        logits = model(torch.tensor([e.window.input_ids.tolist()])).logits[0].double().numpy()
    if expected is None:
        assert e.probabilities is None
    else:
        np.testing.assert_allclose(e.probabilities, expected(logits), rtol=1e-5)


def test_the_model_is_left_as_found_in_inference_mode_too(classifier: Any, tiny_tokenizer: Any) -> None:
    classifier.train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    how: dict[str, Any] = {"model": classifier, "tokenizer": tiny_tokenizer, "methods": "saliency"}
    expected = explain(GOOD, **how).scores["saliency"]
    with torch.inference_mode():
        np.testing.assert_array_equal(explain(GOOD, **how).scores["saliency"], expected)
        assert torch.is_inference_mode_enabled()
    assert classifier.training and all(p.grad is None for p in classifier.parameters())
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_methods_share_the_model_s_passes(reducer: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    whole = BertForSequenceClassification.forward
    counted = lambda *a, **k: (calls.append("plain"), whole(*a, **k))[1]  # noqa: E731
    monkeypatch.setattr(BertForSequenceClassification, "forward", counted)
    methods = ["cp", "saliency", "gradient_l1", "attention", "rollout"]
    explain(GOOD, model=reducer, tokenizer=tiny_tokenizer, methods=methods)
    assert calls == ["plain"] * 2, "one pass for the gradients, one for the attention weights"


def test_the_last_folder_stays_in_memory_until_it_changes(
    adapler_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = scoring.load_models
    monkeypatch.setattr(scoring, "load_models", lambda *a, **k: loads.append(a) or load(*a, **k))
    explanation._load.cache_clear()

    def own(model: Any, batch: Any) -> torch.Tensor:
        return batch.attention_mask.float()

    for methods in ("attention", "saliency", [own], "attention"):  # nobody knows what a function does to a model
        explain(GOOD, model=adapler_folder, methods=methods)
    assert len(loads) == 2
    (adapler_folder / "notes.txt").write_text("new")
    explain(GOOD, model=adapler_folder, methods="attention")
    assert len(loads) == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 1], [0, 0.25, 0.5, 0.25, 0]),
        ({"dull": 3, 0: 1}, [0, 0.25, 0.75, 0, 0]),
        (pd.Series([1, 2, 1], index=[2, 1, 0]), [0, 0.25, 0.5, 0.25, 0]),
        (torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0]), [0, 0, 0.25, 0.25, 0.5]),
        ([-1.0, 0.5, 0.0], [0, -1, 0.5, 0, 0]),
    ],
)
def test_saved_scores(values: Any, expected: list[float], classifier: Any, tiny_tokenizer: Any) -> None:
    how: dict[str, Any] = {"model": classifier, "tokenizer": tiny_tokenizer, "methods": []}
    e = explain(["so", "dull", "."], scores={"mine": values}, **how)
    np.testing.assert_allclose(e.scores["mine"], [expected])
    assert e.methods["mine"].signed == (min(expected) < 0) and not e.methods["mine"].layerwise


def test_saved_scores_alone_need_no_model() -> None:
    e = explain("so dull .", methods=[], scores={"mine": [[1, 2, 1], [0, 0, 0]]}, rationale=[0, 1, 0])
    assert e.tokens == ("so", "dull", ".") and e.prediction is None and e.methods["mine"].layerwise
    assert e.metrics().query("layer == 0")["average_precision"].item() == 1 and "no model ran" in repr(e)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "  "}, "text: got .*, and not be empty"),
        ({"text": []}, "text: got .*, and not be empty"),
        ({"text": ("a", "b", "c")}, "text: a tuple is a pair of texts, got 3"),
        ({"text": 3}, "text: got '3'"),
        ({"text": ["so dull .", "a joy ."]}, "text: a list is one text, word by word"),
        ({"methods": []}, None),
        ({"gold": "neutral"}, r"gold: got 'neutral', the model's classes are NEG \(0\), POS \(1\)"),
        ({"target": "gold"}, "target: got 'gold', and no gold= says which class that is"),
        ({"threshold_scale": 2.0}, "threshold_scale: got 2.0, but there is no AdapLeR model"),
        ({"metrics": ["fpr"]}, "metrics: no such option, there are max_length, threshold_scale"),
        ({"seed": -1}, "--seed: -1 is not at least 0"),
        (
            {"scores": {"mine": [1, 2]}},
            r"scores: 'mine' has the shape \(2,\), must have a score for each of the 1 words",
        ),
        ({"scores": {"mine": {"joy": 1}}}, "scores: 'mine': 'joy' is not one word of the text"),
        ({"scores": {"mine": [np.nan]}}, "scores: 'mine': a score is NaN or infinite"),
        ({"scores": {"attention": [1]}}, "scores: 'attention' is the name of a method"),
        ({"rationale": [0, 1]}, "rationale: got"),
        ({"model": "no/such/folder"}, "no/such/folder"),
        ({"model": 3}, "model: got a int, must be an encoder with a classification head"),
        ({"model": "encoder"}, "model: got a BertModel, must be an encoder with a classification head"),
        ({"tokenizer": None}, "does not say where it came from; pass tokenizer="),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str | None, classifier: Any, tiny_tokenizer: Any) -> None:
    options = {"text": "dull", "model": classifier, "tokenizer": tiny_tokenizer, "methods": "attention"} | arguments
    if options["model"] == "encoder":
        options["model"] = BertModel(classifier.config)
    if message is None:
        assert explain(options.pop("text"), **options).methods == {}
        return
    with pytest.raises(AdapLeRError, match=message) as raised:
        explain(options.pop("text"), **options)
    assert "\n" not in str(raised.value)


def test_logits_that_are_no_numbers_have_no_label(reducer: Any, tiny_tokenizer: Any) -> None:
    with torch.no_grad():
        reducer.backbone.classifier.bias[0] = torch.nan
    for model in (reducer, reducer.backbone):
        with pytest.raises(ArgumentError, match="^model: its logits are NaN or infinite"):
            explain(GOOD, model=model, tokenizer=tiny_tokenizer, methods="attention")


def test_the_docstring_is_true() -> None:
    module = explanation
    assert doctest.testmod(module, extraglobs={"explain": explain}, raise_on_error=True).attempted == 4


def test_importing_the_package_loads_no_model_library() -> None:
    code = "import sys, analysis; print([m for m in ('torch', 'transformers', 'captum') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert shown.strip() == "[]"
