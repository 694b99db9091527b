"""Methods of one's own, and what a batch must look like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from adapler.errors import ArgumentError
from analysis.scores import Batch, LayerScores, get_method, get_methods, registry, scoring_method
from analysis.scores.base import normalise
from tests.analysis.conftest import documents
from tests.analysis.scores.score_helpers import batch_for
from tests.conftest import LAYERS, tiny_classifier


def norms(model: Any, batch: Batch) -> Tensor:
    states = model(**batch.model_inputs(), output_hidden_states=True).hidden_states[:-1]
    return torch.stack([state.norm(dim=-1) for state in states], dim=1)


def test_a_plain_function_is_a_method() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    method = get_method(norms)
    assert method.key == "norms" and method.scope == "not stated" and get_method(method) is not None
    scores = method(model, batch).scores
    expected = norms(model, batch) * batch.attention_mask[:, None]
    torch.testing.assert_close(scores, (expected / expected.sum(-1, keepdim=True)).detach())
    assert not scores.requires_grad
    assert [one.key for one in get_methods(["saliency", norms, get_method("lime"), norms])] == [
        "saliency",
        "norms",
        "lime",
    ]


def test_a_function_of_ones_own_sees_the_model_without_dropout() -> None:
    """As a model is after training; afterwards it is as it was."""
    model, batch, method = tiny_classifier(), batch_for("bert"), get_method(norms)
    expected = method(model.eval(), batch).scores
    model.train()
    model.classifier.eval()
    before = [part.training for part in model.modules()]
    assert torch.equal(method(model, batch).scores, expected)
    assert [part.training for part in model.modules()] == before and sum(before) > 1


def test_a_registered_function_is_its_method() -> None:
    assert get_method(get_method("rollout").function) == get_method("rollout")


def shares(batch: Batch) -> Tensor:
    return normalise(torch.ones(4, 3, 12), batch.attention_mask)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model, batch: None, "'lambda': must return a Tensor or LayerScores, got NoneType"),
        (lambda model, batch: torch.ones(4, 12), r"the tensor must be \(batch 4, layers, tokens 12\), got \(4, 12\)"),
        (lambda model, batch: -torch.ones(4, 3, 12), "must not be negative, the lowest is -1; for scores with a sign"),
        (
            lambda model, batch: torch.ones(4, 1, 12),
            r"got \(4, 1, 12\); scores of the input only need .*layerwise=False",
        ),
        (lambda model, batch: torch.full((4, 3, 12), torch.nan), "NaN or infinite"),
        (
            lambda model, batch: LayerScores(torch.zeros(4, 3, 12), torch.ones(4, 12).bool()),
            r"present must be bool \(4, 3, 12\), got bool \(4, 12\)",
        ),
        (
            lambda model, batch: LayerScores(torch.zeros(4, 3, 12), torch.ones(4, 3, 12).int()),
            r"present must be bool \(4, 3, 12\), got int32",
        ),
        (
            lambda model, batch: LayerScores(torch.zeros(4, 3, 12), torch.ones(4, 3, 12).bool()),
            "padding is never present",
        ),
        (
            lambda model, batch: LayerScores(shares(batch), torch.zeros(4, 3, 12).bool()),
            "scores of tokens that are not present must be 0",
        ),
        (
            lambda model, batch: LayerScores(torch.zeros(4, 3, 12).numpy()),
            "LayerScores must hold a Tensor, got ndarray",
        ),
        ("not callable", "is not known"),
        (3, "got int, must be a name, a function"),
    ],
)
def test_what_a_function_gives_back_is_checked(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_method(make)(tiny_classifier(), batch_for("bert"))


def test_a_layer_that_says_nothing_selects_nothing() -> None:
    result = get_method(lambda model, batch: torch.zeros(4, 3, 12))(tiny_classifier(), batch_for("bert"))
    assert not result.scores.any()


def test_names_that_are_taken() -> None:
    def saliency(model: Any, batch: Batch) -> Tensor:
        raise NotImplementedError

    with pytest.raises(ArgumentError, match="the function 'saliency' is named like a registered method"):
        get_method(saliency)
    with pytest.raises(ArgumentError, match="two functions are named 'lambda'"):
        get_methods([lambda model, batch: None, lambda model, batch: 1])


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


@pytest.mark.usefixtures("own_registry")
def test_registering_again() -> None:
    def define(power: int, module: str, name: str) -> None:
        def mine(model: Any, batch: Batch) -> Tensor:
            return batch.attention_mask[:, None].expand(-1, LAYERS, -1) * power

        mine.__module__, mine.__qualname__ = module, name
        scoring_method("mine", paper="ours")(mine)

    define(1, "films", "mine")
    with pytest.warns(UserWarning, match="method 'mine' was registered before and is replaced"):
        define(2, "films", "mine")
    with pytest.raises(ArgumentError, match="method 'mine' is registered already, by films"):
        define(3, "books", "mine")
    with pytest.raises(ArgumentError, match="method 'mine' is registered already"):
        define(3, "__main__", "mine")
    registry._REGISTRY.pop("mine")
    define(4, "__main__", "mine")
    with pytest.warns(UserWarning, match="is replaced"):  # a notebook's cell, run again under another name
        define(5, "__main__", "other")


def test_needs_are_said_in_one_line() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    with pytest.raises(ArgumentError, match="'cp': needs an AdapLeR model, got BertForSequenceClassification"):
        get_method("cp")(model, batch)
    with pytest.raises(
        ArgumentError, match="'saliency': batch must be a Batch, got dict; make one with Batch.from_enc"
    ):
        get_method("saliency")(model, batch.model_inputs())  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'saliency': needs the gold labels, and the batch has none"):
        get_method("saliency(target=gold)")(model, replace(batch, labels=None, _memo={}))
    for name in ("occlusion", "lime", "integrated_gradients", "deeplift", "gradient_shap"):
        with pytest.raises(
            ArgumentError, match="replaced by the mask token, and there is none; choose the option 'pad'"
        ):
            get_method(name)(model, replace(batch, mask_token_id=None, _memo={}))


def test_plain_methods_refuse_the_reduced_model(reducer: Any, batch: Batch) -> None:
    with pytest.raises(ArgumentError, match="'saliency': needs the plain classifier; give it model.backbone"):
        get_method("saliency")(reducer, batch)


IDS, MASK = torch.tensor([[4, 6, 7, 1], [4, 6, 1, 5]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])},
            "of 'a' has padding before text; pad on the right",
        ),
        ({"attention_mask": torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0]])}, "of 'b' has padding before text"),
        ({"attention_mask": torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])}, "of 'b' is 0 everywhere"),
        ({"attention_mask": MASK * 2}, "must be 0 or 1"),
        ({"attention_mask": None}, "attention_mask must be a tensor, got NoneType"),
        ({"attention_mask": MASK[:, :3]}, r"attention_mask must be \(2, 4\)"),
        ({"input_ids": IDS.tolist()}, "input_ids must be a tensor, got list"),
        ({"input_ids": IDS[0]}, r"input_ids must be \(texts, tokens\), got \(4,\)"),
        ({"input_ids": IDS.float()}, "input_ids must be integers, got torch.float32"),
        ({"token_type_ids": MASK[:1]}, r"token_type_ids must be \(2, 4\)"),
        ({"special": MASK}, "special must be bool, got torch.int64"),
        ({"labels": torch.tensor([1])}, r"labels must be \(2,\)"),
        ({"labels": torch.tensor([0.0, 1.0])}, "labels must be integers"),
        ({"ids": ("a",)}, "1 ids for 2 rows"),
    ],
)
def test_batches_are_checked(change: dict[str, Any], message: str) -> None:
    Batch(("a", "b"), IDS, MASK)
    with pytest.raises(ArgumentError, match=message):
        Batch(**{"ids": ("a", "b"), "input_ids": IDS, "attention_mask": MASK, **change})


def test_a_batch_from_an_encoding(tiny_tokenizer: Any, classifier: Any) -> None:
    texts = [" ".join(document.words) for document in documents()]
    encoding = tiny_tokenizer(texts, padding=True, return_tensors="pt")
    batch = Batch.from_encoding(encoding, tiny_tokenizer, ids=["a", "b", "c", "d"], labels=[0, 1, 0, 1], seed=3)
    assert batch.special is not None and batch.mask_token_id == tiny_tokenizer.mask_token_id and batch.seed == 3
    assert batch.special[:, 0].all() and not batch.special[0, 1] and batch.labels is not None
    lists = Batch.from_encoding(tiny_tokenizer(texts, padding=True), tiny_tokenizer)
    one = Batch.from_encoding(tiny_tokenizer(texts[0]), tiny_tokenizer)
    scores = get_method("saliency")(classifier, batch).scores
    torch.testing.assert_close(get_method("saliency")(classifier, lists).scores, scores)
    alone = get_method("saliency")(classifier, one).scores[0]
    torch.testing.assert_close(alone, scores[0, :, : alone.shape[-1]], atol=1e-5, rtol=1e-4)
    assert get_method("occlusion")(classifier, batch).scores.any()
    with pytest.raises(ArgumentError, match="call the tokenizer with padding=True"):
        Batch.from_encoding(tiny_tokenizer(texts), tiny_tokenizer)
    with pytest.raises(ArgumentError, match="several texts need an attention_mask"):
        Batch.from_encoding({"input_ids": encoding["input_ids"]})
    with pytest.raises(ArgumentError, match="encoding: has no input_ids, it has words"):
        Batch.from_encoding({"words": []})
    tiny_tokenizer.padding_side = "left"
    try:
        with pytest.raises(ArgumentError, match="pad on the right"):
            Batch.from_encoding(tiny_tokenizer(texts, padding=True), tiny_tokenizer)
    finally:
        tiny_tokenizer.padding_side = "right"


def test_passes_of_a_batch_are_of_the_model_as_it_is(tiny_tokenizer: Any) -> None:
    """One batch over several models, each gone before the next is made, and over weights that are written into."""
    encoding = tiny_tokenizer(["good film ."], return_tensors="pt")
    batch, saliency = Batch.from_encoding(encoding, tiny_tokenizer), get_method("saliency")
    for seed in range(6):
        model = tiny_classifier(seed=seed)
        fresh = Batch.from_encoding(encoding, tiny_tokenizer)
        assert torch.equal(saliency(model, batch).scores, saliency(model, fresh).scores), seed
    before = saliency(model, batch).scores
    with torch.no_grad():
        model.classifier.weight.mul_(-1).add_(0.5)
    assert not torch.equal(saliency(model, batch).scores, before)
    with torch.inference_mode():
        unversioned = tiny_classifier()
    assert get_method("attention")(unversioned, batch).scores.shape[1] == LAYERS


def test_an_unknown_word_is_no_special_token(tiny_tokenizer: Any) -> None:
    batch = Batch.from_encoding(tiny_tokenizer(["good zzz [MASK]"], return_tensors="pt"), tiny_tokenizer)
    assert batch.special is not None and batch.special[0].tolist() == [True, False, False, False, True]
