"""Arguments and states that any transformers model may meet: right, or refused in one line."""

from __future__ import annotations

import copy
import itertools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification, ArgumentError
from adapler.backbones import families
from adapler.backbones.families import Family, max_positions, view
from adapler.policies.adapler import contribution_loss, contribution_target, length_loss
from tests.adapler.backbones.test_backbones import FAMILIES, batch_for, flipped
from tests.conftest import LAYERS, padding_of, random_batch, tiny_adapler, tiny_classifier

MODES = ("none", "hard", "soft")


def recording(family: type[Family]) -> type[Family]:
    """A family whose layers ask for positions, as rotary and relative ones do."""

    class Recording(family):  # type: ignore[valid-type, misc]
        def layer(self, index: int, hidden: Tensor, *, positions: Tensor, **attention: Any) -> Tensor:
            assert positions.shape == hidden.shape[:2]
            self.encoder.seen.append(positions)
            return super().layer(index, hidden, positions=positions, **attention)  # type: ignore[no-any-return]

    return Recording


@pytest.mark.parametrize("family", ["bert", "roberta"])
@torch.no_grad()
def test_layers_get_the_original_positions_of_the_tokens_that_are_left(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(families.FAMILIES, family, recording(families.FAMILIES[family]))
    lengths, first = [9, 4, 20], 2 if family == "roberta" else 0
    model, batch = tiny_adapler(family), batch_for(family, [9, 4, 20])
    encoder = view(model.backbone).encoder
    for inputs, removal in itertools.product((batch, flipped(batch, lengths)), ("hard", "soft")):
        encoder.seen = []
        out = model(**inputs, removal=removal, slope=1e8 if removal == "soft" else None)
        starts = inputs["attention_mask"].argmax(1).tolist()
        for layer in range(LAYERS):
            columns = [
                column - start + first
                for row, start in zip(out.retention_mask[:, layer], starts, strict=True)
                for column in row.nonzero()[:, 0].tolist()
            ]
            assert encoder.seen[layer].tolist() == [columns]
        assert encoder.seen[-1].shape[1] < sum(lengths)  # tokens were physically removed


@pytest.mark.parametrize("removal", MODES)
@torch.no_grad()
def test_position_ids(removal: str) -> None:
    batch = batch_for("bert", [9, 4, 13])
    model = tiny_adapler()
    positions = torch.arange(13)[None]
    usual = model(**batch, removal=removal)
    assert torch.equal(model(**batch, position_ids=positions, removal=removal).logits, usual.logits)
    others = torch.randint(0, 40, (3, 13), generator=torch.Generator().manual_seed(3))
    moved = model(**batch, position_ids=others, removal=removal)
    assert (moved.logits - usual.logits).abs().max() > 1e-3
    if removal == "none":
        assert_close(moved.logits, tiny_classifier()(**batch, position_ids=others).logits, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tokens_hidden_in_the_middle_leave_the_positions_of_the_others() -> None:
    """As in transformers, for all families."""
    for family in FAMILIES:
        batch = batch_for(family, [9, 12])
        batch["attention_mask"][:, 3:5] = 0
        expected = tiny_classifier(family)(**batch).logits
        assert_close(tiny_adapler(family)(**batch, removal="none").logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tuples_on_request() -> None:
    model, batch = tiny_adapler(), random_batch([6, 4])
    out = model(**batch, labels=torch.tensor([0, 1]))
    as_tuple = model(**batch, labels=torch.tensor([0, 1]), return_dict=False)
    assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[0], out.loss) and torch.equal(as_tuple[1], out.logits)
    assert torch.equal(out[0], out.loss) and list(out) == ["loss", "logits", *list(model(**batch))[1:]]
    model.config.return_dict = False
    assert isinstance(model(**batch), tuple)
    assert torch.equal(model(**batch, return_dict=True).logits, out.logits)


@torch.no_grad()
def test_labels_of_other_kinds() -> None:
    model, batch = tiny_adapler(), random_batch([6, 4])
    logits = model(**batch).logits
    for labels in (torch.tensor([[2], [1]]), torch.tensor([2, 1], dtype=torch.int32)):
        assert model(**batch, labels=labels).loss == torch.nn.functional.cross_entropy(logits, torch.tensor([2, 1]))
    ignored = model(**batch, labels=torch.tensor([2, -100])).loss
    assert ignored == torch.nn.functional.cross_entropy(logits[:1], torch.tensor([2]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("removal", MODES)
@torch.no_grad()
def test_too_long_a_row_is_refused_and_too_much_padding_is_not(family: str, removal: str) -> None:
    model, pad = tiny_adapler(family), padding_of(family)
    longest = max_positions(model.backbone.config)
    batch = random_batch([longest, 3], pad=pad)
    wide = {name: torch.nn.functional.pad(x, (0, 7), value=pad * (name == "input_ids")) for name, x in batch.items()}
    assert_close(model(**wide, removal=removal).logits, model(**batch, removal=removal).logits, atol=1e-5, rtol=1e-5)
    with pytest.raises(ArgumentError, match=f"^input_ids: a row of more than {longest} tokens, the model's limit"):
        model(**random_batch([3, longest + 1], pad=pad), removal=removal)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_float64(family: str) -> None:
    single, batch = tiny_adapler(family), batch_for(family, [9, 4, 13])
    double = copy.deepcopy(single).double()
    for removal in MODES:
        exact, usual = double(**batch, removal=removal), single(**batch, removal=removal)
        assert exact.logits.dtype == torch.float64
        assert_close(exact.logits, usual.logits.double(), atol=1e-5, rtol=1e-5)
        assert torch.equal(exact.retention_mask, usual.retention_mask)
        if removal != "none":
            assert exact.contribution_scores.dtype == torch.float64
            total = exact.contribution_scores.sum(-1)
            assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)
    steep = double(**batch, removal="soft", slope=1e12)
    assert_close(steep.logits, double(**batch).logits, atol=1e-9, rtol=0)


def both_gradients(model: Any) -> list[Tensor]:
    """Of eta and the probe under one objective, then of everything else under the other, from one forward pass."""
    batch = random_batch([20, 13, 17, 3], seed=5)
    saliency = torch.rand(4, 20, generator=torch.Generator().manual_seed(0)) * batch["attention_mask"]
    probe = torch.ones(LAYERS, requires_grad=True)
    out = model(**batch, labels=torch.tensor([0, 1, 2, 0]), removal="soft", slope=50.0, probe=probe)
    first = torch.autograd.grad(out.loss + length_loss(out.lengths), [model.eta, probe], retain_graph=True)
    trained = [p for name, p in model.named_parameters() if p.requires_grad and name not in ("eta", "theta")]
    target = contribution_target(saliency, out.log_presence, model.theta)
    (out.loss + 0.1 * contribution_loss(out.log_scores, target)).backward(inputs=trained)
    return [*first, *(p.grad for p in trained if p.grad is not None)]


@pytest.mark.parametrize("family", ["bert", "mpnet"])
@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_checkpointing_changes_no_gradient(frozen: bool, reentrant: bool | None, family: str) -> None:
    results, computed = [], []
    for checkpointing in (False, True):
        model = tiny_adapler(family, spread=0.1).train()
        view(model.backbone).layers[0].intermediate.register_forward_hook(lambda *_: computed.append(0))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.backbone.requires_grad_(not frozen)
        if checkpointing:
            options = None if reentrant is None else {"use_reentrant": reentrant}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # transformers gave the method another name
                model.gradient_checkpointing_enable(options)
            assert all(layer.gradient_checkpointing for layer in view(model.backbone).layers)
        before = len(computed)
        results.append(both_gradients(model))
        assert (len(computed) - before > 1) is checkpointing, "a layer is computed again in the backward pass"
    assert len(results[0]) == len(results[1]) > 10
    for usual, checkpointed in zip(*results, strict=True):
        assert_close(checkpointed, usual, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_dynamic_int8_weights_leave_the_predictors_exact() -> None:
    model, batch = tiny_adapler(), random_batch([9, 4, 13])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that the function will move to another package
        quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    kinds = {type(module).__name__ for module in quantised.contribution_predictors.modules()}
    assert "ExactLinear" in kinds and "DynamicQuantizedLinear" not in kinds
    assert not isinstance(quantised.backbone.classifier, torch.nn.Linear)
    for removal in ("none", "hard"):
        out, exact = quantised(**batch, removal=removal), model(**batch, removal=removal)
        assert_close(out.logits, exact.logits, atol=0.3, rtol=0)
        assert float((out.logits - exact.logits).abs().max()) > 0
    # the embeddings are not quantised, so neither is anything that layer 0's predictor says
    assert torch.equal(out.contribution_scores[:, 0], exact.contribution_scores[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 1}, "^num_labels: 1 is not at least 2; AdapLeR needs a classifier"),
        ({"problem_type": "regression"}, "^problem_type: 'regression' is not supported; only 'single_label_"),
        ({"problem_type": "multi_label_classification"}, "^problem_type: 'multi_label_classification' is not supp"),
    ],
)
def test_regression_and_multi_label_heads_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AdapLeRForSequenceClassification(AdapLeRConfig(backbone_config=BertConfig(**options)))
    with pytest.raises(ArgumentError, match=message):
        AdapLeRForSequenceClassification(AdapLeRConfig(backbone_config=BertConfig(num_labels=3), **options))
    single = BertConfig(problem_type="single_label_classification", hidden_size=8, num_attention_heads=1, vocab_size=9)
    AdapLeRForSequenceClassification(
        AdapLeRConfig(backbone_config=single), backbone=BertForSequenceClassification(single)
    )


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"output_attentions": True}, "inputs_embeds, output_attentions"),
        ({"input_ids": None}, "input_ids"),
        ({"input_ids": torch.ones(2, 6)}, "input_ids"),
        ({"token_type_ids": torch.zeros(1, 6, dtype=torch.long)}, "token_type_ids"),
        ({"attention_mask": torch.ones(2, 5)}, "attention_mask"),
        ({"labels": torch.tensor([0.0, 1.0])}, "labels"),
        ({"fate": torch.zeros(2, 5)}, "fate"),
        ({"slope": 3.0}, "slope"),
        ({"probe": torch.ones(1), "removal": "soft"}, "probe"),
        ({"threshold_scale": -1.0}, "threshold_scale"),
        ({"removal": "some"}, "removal"),
    ],
)
def test_arguments_that_would_give_other_numbers_are_refused(arguments: dict[str, Any], name: str) -> None:
    batch = {"input_ids": torch.ones(2, 6, dtype=torch.long), "attention_mask": torch.ones(2, 6)}
    with pytest.raises(ArgumentError, match=f"^{name}"):
        tiny_adapler()(**{**batch, **arguments})
