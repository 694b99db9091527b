"""Functions of one's own as methods, options in a name, batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores import AtLeast, Batch, LayerScores, base, get_method, get_methods, scoring_method
from analysis.scores import __main__ as listing
from tests.analysis.conftest import batch_of, documents
from tests.analysis.scores.score_helpers import NAMES, batch_for
from tests.conftest import LAYERS, tiny_classifier


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))


def norms(model: Any, batch: Batch) -> Tensor:
    states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states[:-1]
    return torch.stack([state.norm(dim=-1) for state in states], dim=1)


def test_a_plain_function_is_a_method_and_sees_no_dropout() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    expected = norms(model, batch) * batch.attention_mask[:, None]
    model.train()
    scores = get_method(norms)(model, batch).scores
    torch.testing.assert_close(scores, (expected / expected.sum(-1, keepdim=True)).detach())
    assert model.training and not scores.requires_grad
    assert [one.key for one in get_methods(["saliency", norms, norms])] == ["saliency", "norms"]
    assert get_method(get_method("rollout").function) == get_method("rollout")


ROWS = np.arange(48.0).reshape(4, 12)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda model, batch: ROWS, ROWS[:, None]),
        (lambda model, batch: ROWS[:, None].tolist(), ROWS[:, None]),
        (lambda model, batch: torch.from_numpy(ROWS)[:, None].expand(-1, LAYERS, -1), np.stack([ROWS] * LAYERS, 1)),
        (lambda model, batch: [torch.from_numpy(row) for row in ROWS], ROWS[:, None]),
        (lambda model, batch: 1 + np.arange(batch.input_ids.shape[1]), np.tile(np.arange(12) + 1, (4, 1))[:, None]),
        (lambda model, batch: batch.attention_mask.bool(), np.ones((4, 1, 12))),
    ],
)
def test_every_shape_and_kind_of_numbers(function: Any, expected: Any) -> None:
    batch = batch_for("bert")
    found = get_method(function)(tiny_classifier(), batch)
    values = expected * batch.attention_mask[:, None].numpy()
    np.testing.assert_allclose(found.scores, values / values.sum(-1, keepdims=True), atol=1e-6)
    assert not found.signed
    signed = get_method(lambda model, batch: [-torch.as_tensor(one).double() for one in function(model, batch)])
    found = signed(tiny_classifier(), batch)
    assert found.signed
    np.testing.assert_allclose(found.scores, -values)


def test_one_text_alone_may_give_its_tokens_scores() -> None:
    one = batch_for("bert", [0])
    found = get_method(lambda model, batch: np.log1p(batch.input_ids[0].numpy()))(tiny_classifier(), one)
    assert found.scores.shape == (1, 1, 9)
    several = get_method(lambda model, batch: np.log1p(batch.input_ids[0].numpy()))(
        tiny_classifier(), batch_for("bert")
    )
    torch.testing.assert_close(several.scores[0, :, :9], found.scores[0])  # asked one text at a time
    assert not torch.allclose(several.scores[2, 0, :9], found.scores[0, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model, batch: None, "must return numbers of shape .* got NoneType"),
        (lambda model, batch: torch.ones(4, 3, 11), r"must return numbers .* got \(4, 3, 11\)"),
        (
            lambda model, batch: torch.ones(4, 2, 12),
            r"scores must be \(texts 4, layers 1 or 3, tokens 12\), got \(4, 2, 12",
        ),
        (lambda model, batch: torch.full((4, 3, 12), torch.nan), "document document 0 is NaN or infinite"),
        (lambda model, batch: ROWS + np.inf, "is NaN or infinite"),
        (lambda model, batch: LayerScores(-torch.ones(4, 3, 12) * batch.attention_mask[:, None]), "not be negative"),
        (lambda model, batch: LayerScores(torch.ones(4, 3, 12)), "scores at padding, .* must be 0"),
        (
            lambda model, batch: LayerScores(torch.zeros(4, 3, 12), torch.ones(4, 3, 12).int()),
            r"present must be bool \(4, 3, 12\), False at padding",
        ),
        ("not callable", "is not known"),
        (3, "got int, must be a name or a function"),
    ],
)
def test_wrong_results_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_method(make)(tiny_classifier(), batch_for("bert"))


def test_needs_are_said_in_one_line(reducer: Any) -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    for name, chosen, text in (
        ("cp", model, "'cp': needs an AdapLeR model, got BertForSequenceClassification"),
        ("saliency", reducer, "'saliency': needs the plain classifier; give it model.backbone"),
        ("saliency(target=gold)", model, "'saliency': needs the gold labels, and the batch has none"),
        ("lime", model, "replaced by the mask token, which the tokenizer lacks; choose the option 'pad'"),
    ):
        with pytest.raises(ArgumentError, match=text):
            get_method(name)(chosen, replace(batch, labels=None, mask_token_id=None, _memo={}))


@pytest.mark.usefixtures("own_registry")
def test_a_registered_method_with_options() -> None:
    def define(power: int, module: str) -> None:
        @scoring_method("mine", title="Mine")
        def mine(model: Any, batch: Batch, *, times: Annotated[int, AtLeast(1)] = 2) -> Tensor:
            return batch.attention_mask[:, None].expand(-1, LAYERS, -1) * power

        method = base._REGISTRY["mine"]
        mine.__module__ = module
        assert method.title == "Mine" and method.options == {"times": 2} and method.key == "mine"

    define(1, __name__)
    define(2, "books")
    with pytest.raises(ArgumentError, match="method 'mine' is registered already, by books"):
        define(3, "")
    with pytest.raises(ArgumentError, match="option 'head' needs a default"):
        scoring_method("headless")(lambda model, batch, *, head: None)
    with pytest.raises(ArgumentError, match=r"needs: got \['gpu'\]"):
        scoring_method("new", needs="gpu")
    with pytest.raises(ArgumentError, match="the function 'saliency' is named like a registered method"):

        def saliency(model: Any, batch: Batch) -> None: ...

        get_method(saliency)


def test_options_and_keys() -> None:
    plain = get_method("integrated_gradients")
    assert plain.key == "integrated_gradients" and plain.options["n_steps"] == 50
    asked = get_method("integrated_gradients", n_steps=20)
    assert asked.key == "integrated_gradients(n_steps=20)" and asked.name == "integrated_gradients"
    assert get_method("integrated_gradients( n_steps = 20 )") == asked == get_method(asked.key)
    two = get_method("integrated_gradients(reduction=l2, n_steps=3)")
    assert two.key == "integrated_gradients(n_steps=3, reduction='l2')" and get_method(two.key) == two
    assert get_method("lime(kernel_width=1)").options["kernel_width"] == 1.0
    assert get_method("lime(target=very negative, n_samples=9)").options["target"] == "very negative"
    assert get_method("saliency_gold").needs_labels and not get_method("saliency").needs_labels


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("limes", "method 'limes' is not known; the registry has .*rollout"),
        ("lime(samples=3)", "'lime': no option 'samples'; it has n_samples, kernel_width"),
        ("lime(n_samples=2.5)", r"n_samples got 2.5, must be a valid integer or 'auto' \(default 'auto'\)"),
        ("lime(n_samples=True)", "n_samples got True, must be a valid integer or 'auto'"),
        ("lime(reduction=l2)", "reduction got 'l2', must be 'signed', 'absolute' or 'positive'"),
        ("vargrad(noise=1e999)", "noise got inf, must be a finite number"),
        ("kernel_shap(n_samples=3)", "n_samples got 3, must be greater than or equal to 4 or 'auto'"),
        ("gradient_shap(noise=-1)", "must be greater than or equal to 0"),
        ("lime(3)", r"method 'lime\(3\)' must be NAME or NAME\(OPTION=VALUE"),
        ("lime(n_samples=open('x'))", "must be NAME or NAME"),
        ("lime()()", "must be NAME or NAME"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_method(spec)


def test_reductions_of_one_attribution() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    signed = get_method("integrated_gradients(n_steps=5)")(model, batch)
    assert signed.signed and (signed.scores < 0).any() and (signed.scores > 0).any()
    for reduction, values in (("absolute", signed.scores.abs()), ("positive", signed.scores.clamp_min(0))):
        result = get_method("integrated_gradients", n_steps=5, reduction=reduction)(model, batch)
        torch.testing.assert_close(result.scores, values / values.sum(-1, keepdim=True))


def test_the_listing_has_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["method", "title", "scope"] and [one.split()[0] for one in lines[1:]] == list(NAMES)
    line = next(line for line in lines if line.startswith("integrated_gradients"))
    assert "n_steps=50" in line and "at the input" in line and "https://arxiv.org/abs/1703.01365" in line


def test_batches(tiny_tokenizer: Any, classifier: Any) -> None:
    batch = batch_of(tiny_tokenizer, documents(), labels=[0, 1, 0, 1], seed=3)
    assert batch.special is not None and batch.special[:, 0].all() and not batch.special[0, 1]
    scores = get_method("saliency")(classifier, batch).scores
    alone = get_method("saliency")(classifier, batch_of(tiny_tokenizer, documents()[:1])).scores[0]
    torch.testing.assert_close(alone, scores[0, :, : alone.shape[-1]], atol=1e-5, rtol=1e-4)
    for single, row in zip(batch.singles(), range(4), strict=True):
        assert (
            single.ids == (batch.ids[row],) and single.attention_mask.all() and single.entropy(0) == batch.entropy(row)
        )
    ids, mask = batch.input_ids, batch.attention_mask
    for change, message in (
        ({"attention_mask": mask.flip(1)}, "must be ones and then zeros; pad on the right"),
        ({"attention_mask": mask * 0}, "must be ones and then zeros"),
        ({"attention_mask": mask[:, :3]}, "attention_mask must be"),
        ({"labels": ids[0]}, r"labels must be \(4,\)"),
        ({"ids": ("a",)}, "1 ids for 4 rows"),
    ):
        with pytest.raises(ArgumentError, match=message):
            replace(batch, **change)


def test_passes_of_a_batch_are_of_the_model_as_it_is(tiny_tokenizer: Any) -> None:
    """One batch over several models, each gone before the next is made, and over weights that are written into."""
    batch, saliency = batch_of(tiny_tokenizer, documents()[:1]), get_method("saliency")
    for seed in range(4):
        model = tiny_classifier(seed=seed)
        fresh = batch_of(tiny_tokenizer, documents()[:1])
        assert torch.equal(saliency(model, batch).scores, saliency(model, fresh).scores), seed
    before = saliency(model, batch).scores
    with torch.no_grad():
        model.classifier.weight.mul_(-1).add_(0.5)
    assert not torch.equal(saliency(model, batch).scores, before)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    for name in ("gradient_l1", "saliency_signed", "attention", "rollout"):
        get_method(name)(model, batch)
    assert len(calls) == 1, "one pass for gradients is known, one for attention is made"
