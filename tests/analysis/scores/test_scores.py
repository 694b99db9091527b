from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification

from adapler.errors import ArgumentError
from analysis.scores import (
    Batch,
    LayerScores,
    get_method,
    method_names,
    normalise,
    scoring_method,
)
from analysis.scores import registry as scores_registry
from analysis.scores.contribution import adapler_pass
from analysis.scores.shared.forward import attention_pass, classifier_logits, working_copy
from tests.analysis.conftest import batch_of, documents

NAMES = ("attention", "attention_received", "rollout", "saliency", "saliency_gold", "cp", "random")


def model_for(name: str, classifier: Any, reducer: Any) -> Any:
    return reducer if "adapler" in get_method(name).needs else classifier


def eager_heads(model: Any, batch: Batch) -> list[torch.Tensor]:
    """(B, H, N, N) a layer, straight from transformers, from a copy that is eager from birth."""
    config = type(model.config).from_dict(model.config.to_dict())
    config._attn_implementation = "eager"
    twin = type(model)(config).eval()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        return list(twin(**batch.model_inputs(), output_attentions=True).attentions)


def test_every_contract_name_is_registered() -> None:
    assert set(NAMES) <= set(method_names())


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_a_distribution_over_real_tokens(name: str, classifier: Any, reducer: Any, batch: Batch) -> None:
    result = get_method(name)(model_for(name, classifier, reducer), batch)
    assert result.scores.shape == (4, 3, batch.input_ids.shape[1]) and result.scores.dtype == torch.float32
    torch.testing.assert_close(result.scores.sum(-1), torch.ones(4, 3))
    assert not result.scores[(batch.attention_mask == 0)[:, None, :].expand_as(result.scores)].any()
    assert not result.scores.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_depend_on_batch_padding_or_order(
    name: str, classifier: Any, reducer: Any, tiny_tokenizer: Any
) -> None:
    method, model, every = get_method(name), model_for(name, classifier, reducer), documents()
    together = method(model, batch_of(tiny_tokenizer, every, labels=[0, 1, 1, 0])).scores
    turned = method(model, batch_of(tiny_tokenizer, every[::-1], labels=[0, 1, 1, 0])).scores.flip(0)
    torch.testing.assert_close(turned, together, atol=1e-5, rtol=0)
    for row, document in enumerate(every):
        alone = method(model, batch_of(tiny_tokenizer, [document], labels=[[0, 1, 1, 0][row]])).scores[0]
        torch.testing.assert_close(together[row, :, : alone.shape[-1]], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_left_as_found(name: str, classifier: Any, reducer: Any, batch: Batch) -> None:
    model = model_for(name, classifier, reducer)
    model.train()
    dropout = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)][0]
    dropout.eval()  # a mixture of modes must come back as a mixture
    first = next(model.parameters())
    first.requires_grad_(False)
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)

    def state() -> Any:
        return (
            [module.training for module in model.modules()],
            [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()],
            [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")],
            [p.clone() for p in model.parameters()],
            sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
        )

    before = state()
    get_method(name)(model, batch)
    after = state()
    assert before[0] == after[0] and before[2] == after[2] and before[4] == after[4]
    for (needed, grad), (needed_after, grad_after) in zip(before[1], after[1], strict=True):
        assert needed == needed_after
        assert grad is grad_after is None or torch.equal(grad, grad_after)
    assert all(torch.equal(p, q) for p, q in zip(before[3], after[3], strict=True))


def test_raw_attention_rows_and_columns(classifier: Any, batch: Batch) -> None:
    heads = eager_heads(classifier, batch)
    row = get_method("attention")(classifier, batch).scores
    received = get_method("attention_received")(classifier, batch).scores
    for document, n in enumerate(batch.attention_mask.sum(-1).tolist()):
        for layer in range(3):
            weights = heads[layer][document, :, :n, :n].mean(0)  # (n, n)
            torch.testing.assert_close(row[document, layer, :n], weights[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(received[document, layer, :n], weights.mean(0), atol=1e-5, rtol=0)


def test_rollout_equals_explicit_matrix_products(classifier: Any, batch: Batch) -> None:
    heads = eager_heads(classifier, batch)
    result = get_method("rollout")(classifier, batch).scores
    for document, n in enumerate(batch.attention_mask.sum(-1).tolist()):
        product = torch.eye(n)
        for layer in range(3):
            step = (heads[layer][document, :, :n, :n].mean(0) + torch.eye(n)) / 2
            product = step @ product  # A~^l ... A~^0
            torch.testing.assert_close(product.sum(-1), torch.ones(n))
            torch.testing.assert_close(result[document, layer, :n], product[0], atol=1e-5, rtol=0)


def test_saliency_equals_layer_by_layer_gradients(classifier: Any, batch: Batch) -> None:
    result = get_method("saliency_gold")(classifier, batch).scores
    captured: list[torch.Tensor] = []

    def keep(module: Any, arguments: Any, keywords: Any) -> None:
        hidden = arguments[0] if arguments else keywords["hidden_states"]
        hidden.retain_grad()
        captured.append(hidden)

    handles = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in classifier.bert.encoder.layer]
    logits = classifier(**batch.model_inputs()).logits
    logits[:, 0].sum().backward()  # every gold label of the fixture is 0
    for handle in handles:
        handle.remove()
    for layer, hidden in enumerate(captured):
        values = (hidden.grad * hidden).norm(dim=-1) * batch.attention_mask
        expected = values / values.sum(-1, keepdim=True)
        torch.testing.assert_close(result[:, layer], expected.detach(), atol=1e-5, rtol=1e-4)


def test_predicted_and_gold_saliency_differ_only_where_the_classes_do(classifier: Any, tiny_tokenizer: Any) -> None:
    batch = batch_of(tiny_tokenizer, documents(), labels=None)
    predicted = classifier_logits(classifier, batch).argmax(-1)
    flipped = predicted.clone()
    flipped[0] = 1 - flipped[0]
    gold = get_method("saliency_gold")(classifier, batch_of(tiny_tokenizer, documents(), labels=flipped.tolist()))
    free = get_method("saliency")(classifier, batch)
    torch.testing.assert_close(gold.scores[1:], free.scores[1:])
    assert (gold.scores[0] - free.scores[0]).abs().max() > 1e-3


def test_gold_saliency_needs_labels(classifier: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(ArgumentError, match="'saliency_gold': needs the gold labels"):
        get_method("saliency_gold")(classifier, batch_of(tiny_tokenizer, documents(), labels=None))


def test_cp_is_the_model_s_own_and_zero_once_dropped(reducer: Any, batch: Batch) -> None:
    result = get_method("cp")(reducer, batch)
    output = adapler_pass(reducer, batch)
    assert result.present is not None
    assert torch.equal(result.scores, output.contribution_scores)
    assert torch.equal(result.present[:, 0], batch.attention_mask.bool())
    assert torch.equal(result.present[:, 1:], output.retention_mask[:, :-1])
    assert not result.scores[~result.present].any() and (result.scores[result.present] > 0).all()
    assert (~result.present & batch.attention_mask.bool()[:, None]).any(), "the fixture must drop something"


def test_cp_at_another_budget(reducer: Any, tiny_tokenizer: Any) -> None:
    keep_all = batch_of(tiny_tokenizer, documents(), threshold_scale=0.0)
    present = get_method("cp")(reducer, keep_all).present
    assert present is not None
    assert torch.equal(present, keep_all.attention_mask.bool()[:, None].expand_as(present))


def test_random_is_seeded_by_document(classifier: Any, tiny_tokenizer: Any) -> None:
    def draw(seed: int) -> torch.Tensor:
        return get_method("random")(classifier, batch_of(tiny_tokenizer, documents(), seed=seed)).scores

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(1)[:, 0], draw(1)[:, 1])


def test_attention_methods_share_one_pass(classifier: Any, batch: Batch) -> None:
    calls = []
    handle = classifier.register_forward_hook(lambda *_: calls.append(1))
    for name in ("attention", "attention_received", "rollout"):
        get_method(name)(classifier, batch)
    classifier_logits(classifier, batch)
    handle.remove()
    assert len(calls) == 1


def test_empty_attentions_name_class_and_implementation(classifier: Any, batch: Batch) -> None:
    class Mute(BertForSequenceClassification):
        def forward(self, *args: Any, output_attentions: bool = False, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    mute = Mute(classifier.config).train()
    before = mute.config._attn_implementation
    with pytest.raises(ArgumentError, match=r"Mute returned no attention weights .*'eager'"):
        attention_pass(mute, batch)
    assert mute.training and mute.config._attn_implementation == before


def test_a_working_copy_shares_weights_and_nothing_else(classifier: Any, batch: Batch) -> None:
    classifier.train()
    before = classifier.config._attn_implementation
    twin = working_copy(classifier)
    assert all(one is other for one, other in zip(twin.parameters(), classifier.parameters(), strict=True))
    twin.set_attn_implementation("eager")
    twin(**batch.model_inputs(), output_hidden_states=True)
    assert not twin.training and classifier.training and classifier.config._attn_implementation == before
    with torch.no_grad():
        next(classifier.parameters()).add_(1.0)  # weights that change later are the copy's too
    plain, copied = classifier.eval()(**batch.model_inputs()).logits, twin(**batch.model_inputs()).logits
    torch.testing.assert_close(copied, plain)


def test_threads_can_explain_one_model(classifier: Any, tiny_tokenizer: Any) -> None:
    """Methods that want other settings of the same model, at one time: the scores are those of one after the other."""
    classifier.train()
    names = ["attention", "saliency", "value_zeroing", "attention_gradient", "deeplift", "layer_integrated_gradients"]
    methods = [get_method(name, **({"n_steps": 2} if "integrated" in name else {})) for name in names]

    def run(method: Any) -> torch.Tensor:
        chosen: torch.Tensor = method(classifier, batch_of(tiny_tokenizer, documents(), mask_token_id=3)).scores
        return chosen

    expected = [run(method) for method in methods] * 3
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(run, methods * 3))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert classifier.training


def test_normalise() -> None:
    mask = torch.tensor([[1, 1, 1, 0]])
    values = torch.tensor([[[1.0, 3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 7.0]]])
    expected = torch.tensor([[[0.25, 0.75, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])  # nothing said: nothing selected
    torch.testing.assert_close(normalise(values, mask), expected)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_registry, "_REGISTRY", dict(scores_registry._REGISTRY))


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: torch.zeros(4, n), r"scores must be \(batch 4, layers 3, tokens"),
        (lambda n: torch.zeros(4, 2, n), r"scores must be \(batch 4, layers 3, tokens"),
        (lambda n: torch.full((4, 3, n), torch.nan), "document one is NaN"),
        (lambda n: -torch.ones(4, 3, n), "must not be negative, the lowest is -1"),
        (lambda n: torch.ones(4, 3, n), "scores at padding must be 0"),
        (lambda n: torch.cat([torch.full((4, 3, 1), 0.5), torch.zeros(4, 3, n - 1)], -1), "must sum to 1"),
    ],
)
def test_a_method_of_one_s_own_is_checked(make: Any, message: str, classifier: Any, batch: Batch) -> None:
    @scoring_method("mine", paper="ours")
    def mine(model: Any, batch: Batch) -> LayerScores:
        return LayerScores(make(batch.input_ids.shape[1]))

    with pytest.raises(ArgumentError, match=f"method 'mine'.*{message}|{message}"):
        get_method("mine")(classifier, batch)


@pytest.mark.usefixtures("own_registry")
def test_registry_errors() -> None:
    with pytest.raises(ArgumentError, match="method 'limes' is not known; the registry has .*rollout"):
        get_method("limes")
    with pytest.raises(ArgumentError, match="'cp' is registered already"):
        scoring_method("cp", paper="")(lambda model, batch: None)
    with pytest.raises(ArgumentError, match=r"needs: got \['gpu'\]"):
        scoring_method("new", paper="", needs="gpu")
