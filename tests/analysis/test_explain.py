"""`analysis.explain`: one text gives the numbers that an evaluation gives, whatever the model and the text are."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification, BertModel

from adapler.contribution import threshold
from adapler.errors import AdapLeRError, ArgumentError
from analysis import explain, rationale_eval
from analysis.corpus import load_corpus
from analysis.loading import DEFAULT_ADAPLER
from analysis.scores import method_names
from tests.analysis.conftest import BAD, GOOD, tiny_bert
from tests.conftest import tiny_classifier

ROOT = Path(__file__).parents[2]
METRICS = ("average_precision", "fpr", "tpr", "j", "fpr_present", "j_present", "fpr_content", "roc_auc", "f1_at_k")
FEW = {"lime": "lime(n_samples=20)", "kernel_shap": "kernel_shap(n_samples=20)"}


def agrees(report: Any, corpus: Any, *, model: Any, methods: list[str], **options: Any) -> int:
    """How many values of a report `explain` was compared with; they are all equal."""
    frame = report.to_frame().set_index(["document", "method", "layer", "metric"])["value"]
    compared = 0
    for example in corpus.splits["test"]:
        if example.id not in frame.index.get_level_values(0):
            continue
        e = explain(list(example.words), model=model, methods=methods, gold=example.label, name=example.id, **options)
        rows = e.metrics(example.rationale(), metrics=METRICS).set_index(["method", "layer"])
        mine = {(m, layer, k): v for (m, layer), row in rows[list(METRICS)].iterrows() for k, v in row.items()}
        theirs = frame[example.id].to_dict()
        assert {key for key, value in mine.items() if not np.isnan(value)} == set(theirs)
        for key, value in theirs.items():
            assert mine[key] == pytest.approx(value, abs=1e-12), (example.id, key)
        compared += len(theirs)
    return compared


@pytest.mark.filterwarnings("ignore::analysis.scores.perturbation.UnstableScoresWarning")
def test_every_method_gives_the_numbers_of_an_evaluation(adapler_folder: Path, corpus_folder: Path) -> None:
    corpus = load_corpus(corpus_folder)
    methods = [FEW.get(name, name) for name in method_names()]
    report = rationale_eval.evaluate(
        adapler=adapler_folder, data=corpus, methods=methods, metrics=METRICS, max_length=24, progress=False
    )
    assert agrees(report, corpus, model=adapler_folder, methods=methods, max_length=24) > 500


def test_a_plain_classifier_too(adapler_folder: Path, corpus_folder: Path) -> None:
    plain, corpus = adapler_folder.parent / "plain", load_corpus(corpus_folder)
    methods = ["saliency", "attention", "random"]
    report = rationale_eval.evaluate(model=plain, data=corpus, methods=methods, metrics=METRICS, progress=False)
    assert agrees(report, corpus, model=plain, methods=methods) > 100


def test_the_embedded_model_too() -> None:
    corpus = load_corpus(ROOT / "data" / "eraser" / "sample")
    corpus.splits["test"] = corpus.splits["test"][:3]
    methods = ["cp", "saliency", "attention", "rollout", "random"]
    report = rationale_eval.evaluate(
        adapler=DEFAULT_ADAPLER, data=corpus, methods=methods, metrics=METRICS, progress=False
    )
    assert agrees(report, corpus, model=None, methods=methods) == 3 * len(methods) * 6 * len(METRICS)


def test_thresholds_and_kept_are_the_model_s_own(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"], threshold_scale=1.2)
    ids = torch.tensor([e.window.input_ids.tolist()])
    with torch.no_grad():
        out = reducer(ids, torch.ones_like(ids), token_type_ids=torch.zeros_like(ids), threshold_scale=1.2)
        full = reducer(ids, torch.ones_like(ids), token_type_ids=torch.zeros_like(ids), removal="none")
    assert e.kept.tolist() == out.retention_mask[0].tolist() and not e.kept.all()
    np.testing.assert_allclose(e.scores["cp"], out.contribution_scores[0].numpy(), atol=1e-7)
    assert e.present is not None and e.present[0].all() and (e.present[1:] == e.kept[:-1]).all()
    present = torch.tensor(e.present.sum(1))
    np.testing.assert_allclose(e.thresholds, threshold(reducer.eta.detach(), present, scale=1.2).numpy(), rtol=1e-6)
    np.testing.assert_allclose(e.probabilities, out.logits[0].softmax(-1).numpy(), atol=1e-6)
    np.testing.assert_allclose(e.full_probabilities, full.logits[0].softmax(-1).numpy(), atol=1e-6)
    dropped = e.present & ~e.kept
    scores = e.scores["cp"]
    assert (scores[dropped] < np.broadcast_to(e.thresholds[:, None], scores.shape)[dropped]).all()
    everything = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"], threshold_scale=0)
    assert everything.kept is not None and everything.kept.all()


def test_the_frame_says_the_same(reducer: Any, tiny_tokenizer: Any) -> None:
    methods = ["cp", "attention", "integrated_gradients(n_steps=4)"]
    e = explain(" ".join(BAD), model=reducer, tokenizer=tiny_tokenizer, methods=methods)
    frame = e.to_frame()
    columns = ["position", "method", "layer", "token", "word", "score", "threshold", "kept"]
    assert list(frame.columns) == columns and len(frame) == (3 + 3 + 1) * e.n
    for name in methods:
        rows = frame[frame["method"] == name]
        np.testing.assert_array_equal(rows["score"].to_numpy().reshape(-1, e.n), e.scores[name])
        assert rows["position"].tolist() == list(range(e.n)) * len(e.scores[name])
    cp, attention, gradients = (frame[frame["method"] == name] for name in methods)
    assert cp["kept"].astype(bool).to_numpy().reshape(3, -1).tolist() == e.kept.tolist()
    assert cp["threshold"].to_numpy().reshape(3, -1)[:, 0].tolist() == e.thresholds.tolist()
    assert attention["kept"].tolist() == cp["kept"].tolist() and attention["threshold"].isna().all()
    assert gradients["kept"].isna().all() and gradients["threshold"].isna().all()
    pieces = cp[cp["layer"] == 0]
    assert pieces["token"].tolist()[3:7] == ["and", "ted", "##ious", "film"]
    assert pieces["word"].tolist()[3:7] == ["and", "tedious", "tedious", "film"]
    assert pieces["word"].isna().tolist() == [True, *[False] * (e.n - 2), True]


def test_a_model_without_removal_has_no_cp(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer)
    assert list(e.methods) == ["saliency", "attention", "rollout"]
    assert (e.kept, e.present, e.thresholds, e.model) == (None, None, None, "BertForSequenceClassification")
    assert e.prediction == e.full_prediction and e.to_frame()["kept"].isna().all()
    with pytest.raises(ArgumentError, match="methods: 'cp' needs an AdapLeR model"):
        explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="cp")


@pytest.mark.parametrize("family", ["roberta", "electra", "distilbert"])
def test_other_families(family: str, tiny_tokenizer: Any) -> None:
    methods = ["saliency", "attention", "occlusion"]
    e = explain(GOOD, model=tiny_classifier(family), tokenizer=tiny_tokenizer, methods=methods)
    assert len(e.labels) == 3 and len(e.scores["saliency"]) == 3


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
        ("label_1", [0, 1, 0], "LABEL_1"),
        (2, [0, 0, 1], "LABEL_2"),
        ("gold", [1, 0, 0], "LABEL_0"),
        ("contrast:1", None, "LABEL_1 minus "),
    ],
)
def test_targets(target: str | int, weights: list[float] | None, described: str, tiny_tokenizer: Any) -> None:
    model = tiny_classifier("bert")
    e = explain(GOOD, model=model, tokenizer=tiny_tokenizer, methods=["saliency", "occlusion"], target=target, gold=0)
    ids = torch.tensor([e.window.input_ids.tolist()])
    if weights is None:  # the strongest other class
        logits = model(ids).logits[0].tolist()
        weights = [0.0, 1.0, 0.0]
        weights[0 if logits[0] > logits[2] else 2] = -1.0
    np.testing.assert_allclose(e.scores["saliency"], saliency_by_hand(model, ids, weights), atol=1e-5)
    assert len({method.target for method in e.methods.values()}) == 1
    assert str(e.methods["saliency"].target).startswith(described)


def test_a_target_of_one_method_stays(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(
        GOOD, model=classifier, tokenizer=tiny_tokenizer, methods=["saliency(target=POS)", "saliency"], target="NEG"
    )
    assert [method.target for method in e.methods.values()] == ["POS", "NEG"]
    with pytest.raises(ArgumentError, match="target: 'neutral' is no class of this model"):
        explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods="saliency", target="neutral")


def test_a_function_is_a_method(classifier: Any, tiny_tokenizer: Any) -> None:
    def length(model: Any, batch: Any) -> torch.Tensor:
        return (batch.input_ids[:, None, :] * batch.attention_mask[:, None, :]).float().expand(-1, 3, -1)

    e = explain(GOOD, model=classifier, tokenizer=tiny_tokenizer, methods=[length, "attention"])
    ids = e.window.input_ids
    np.testing.assert_allclose(e.scores["length"], [ids / ids.sum()] * 3, rtol=1e-6)
    assert e.methods["length"].scope == "not stated" and e.methods["attention"].scope == "in the layer"


def test_a_long_text_is_cut_and_the_note_says_so(reducer: Any, tiny_tokenizer: Any) -> None:
    short = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods="cp")
    assert short.note == ""
    for text in (["rain"] * 100, "rain " * 100):
        e = explain(text, model=reducer, tokenizer=tiny_tokenizer, methods="cp")
        left_out = "64 wordpieces of it, 38 of its 100 words are left out"
        assert e.n == 64 and left_out in e.note and left_out in repr(e) and left_out in e._repr_html_()
    with pytest.raises(ArgumentError, match="max_length: got 65"):
        explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods="cp", max_length=65)


def test_a_prediction_that_removal_changes_is_said(reducer: Any, tiny_tokenizer: Any) -> None:
    texts = [[word] * k for word in ("dull", "superb", "rain", "plot", "日") for k in (3, 6, 9)]
    found = [explain(t, model=reducer, tokenizer=tiny_tokenizer, methods="cp", threshold_scale=1.5) for t in texts]
    changed = [e for e in found if e.prediction != e.full_prediction]
    assert changed, "no text of this test changes its class"
    for e in found:
        assert (f"from {e.full_prediction} to {e.prediction}" in e.note) == (e in changed)


def test_unknown_tokens_are_said(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain("dull xylophone zebra .", model=classifier, tokenizer=tiny_tokenizer, methods="attention")
    assert "2 of the tokens unknown to the tokenizer ([UNK])" in e.note


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        ("multi_label_classification", 3, lambda logits: 1 / (1 + np.exp(-logits))),
        ("single_label_classification", 3, lambda logits: np.exp(logits) / np.exp(logits).sum()),
        (None, 1, lambda logits: 1 / (1 + np.exp(-logits))),
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
    np.testing.assert_allclose(e.probabilities, expected(logits), rtol=1e-5)
    model.config.problem_type = "regression"
    assert explain(GOOD, model=model, tokenizer=tiny_tokenizer, methods="saliency").probabilities is None


def test_the_model_is_left_as_found(classifier: Any, tiny_tokenizer: Any) -> None:
    classifier.train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    explain(GOOD, model=classifier, tokenizer=tiny_tokenizer)
    assert classifier.training and all(p.grad is None for p in classifier.parameters())
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_inference_mode_is_left_for_what_needs_gradients(classifier: Any, tiny_tokenizer: Any) -> None:
    options = {"model": classifier, "tokenizer": tiny_tokenizer, "methods": "saliency"}
    expected = explain(GOOD, **options).scores["saliency"]
    with torch.inference_mode():
        np.testing.assert_array_equal(explain(GOOD, **options).scores["saliency"], expected)
        assert torch.is_inference_mode_enabled()


def test_methods_share_the_model_s_passes(reducer: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    whole = BertForSequenceClassification.forward
    monkeypatch.setattr(
        BertForSequenceClassification, "forward", lambda *a, **k: (calls.append("plain"), whole(*a, **k))[1]
    )
    explain(
        GOOD,
        model=reducer,
        tokenizer=tiny_tokenizer,
        methods=["cp", "saliency", "gradient_l1", "attention", "rollout"],
    )
    assert calls == ["plain"] * 2, "one pass for the gradients, one for the attention weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "  "}, "text: is empty"),
        ({"text": []}, "text: has no words"),
        ({"text": ["so", " "]}, "text: word 1 is empty"),
        ({"text": ("a", "b", "c")}, r"text: a tuple must be a pair \(text, query\), got 3 values"),
        ({"text": 3}, "text: got int"),
        ({"methods": []}, "methods: got none, and no scores either"),
        ({"methods": ["attention", "attention"]}, "methods: 'attention' is named twice"),
        ({"methods": ["nothing"]}, "method 'nothing' is not known"),
        ({"gold": "neutral"}, r"gold: got 'neutral', the model's classes are NEG \(0\), POS \(1\)"),
        ({"gold": 2}, "gold: got 2, the model's classes are"),
        ({"threshold_scale": -1}, "threshold_scale: got -1"),
        ({"threshold_scale": "1"}, "threshold_scale: got '1', must be a number of at least 0"),
        ({"max_length": 5.0}, "max_length: got 5.0, must be a whole number of at least 1"),
        ({"seed": -1}, "seed: got -1, must be a whole number of at least 0"),
        ({"seed": None}, "seed: got None, must be a whole number"),
        ({"name": None}, "name: got None, must be a text"),
        ({"device": None}, "device: got None, must be a text"),
        ({"scores": "x"}, "scores: got a str, must be a dictionary"),
        ({"rationale": [0, 1]}, "rationale: got .* must be 0 or 1 for each of the 1 words"),
        ({"model": "no/such/folder"}, "no/such/folder: no such model folder"),
        ({"model": 3}, "model: got a int, must be a model, a folder or a hub name"),
        ({"scores": {"attention": [1]}, "methods": "attention"}, "scores: 'attention' is the name of a method"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, classifier: Any, tiny_tokenizer: Any) -> None:
    options = {"text": "dull", "model": classifier, "tokenizer": tiny_tokenizer, "methods": "attention"} | arguments
    with pytest.raises(AdapLeRError, match=message) as raised:
        explain(options.pop("text"), **options)
    assert "\n" not in str(raised.value)


def test_an_encoder_is_no_classifier(classifier: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="model: BertModel is no classifier"):
        explain("dull", model=BertModel(classifier.config), tokenizer=tiny_tokenizer)
    with pytest.raises(ArgumentError, match="does not say where it came from; pass tokenizer="):
        explain("dull", model=classifier)


def test_the_docstring_is_true() -> None:
    module = importlib.import_module("analysis.explain")
    assert doctest.testmod(module, extraglobs={"explain": explain}, raise_on_error=True).attempted == 3


def test_importing_the_package_loads_no_model_library() -> None:
    code = "import sys, analysis; print([m for m in ('torch', 'transformers', 'captum') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert shown.strip() == "[]"
