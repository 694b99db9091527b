"""Shapley sampling, SmoothGrad and VarGrad against definitions, and the position as score."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from math import factorial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertForSequenceClassification

from analysis.scores import Batch, get_method
from analysis.scores.shared import inputs
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import content, presence, runs_packed, singles
from tests.analysis.scores.score_helpers import Bag, batch_for, logits_of
from tests.conftest import CLASSIFIERS, tiny_adapler, tiny_classifier

pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")


def test_shapley_values_of_a_linear_model_are_exact() -> None:
    model, batch = Bag(), batch_for("bert")
    batch = replace(batch, input_ids=batch.input_ids % 20, mask_token_id=4, _memo={})
    found = get_method("shapley_sampling", n_samples=2, target=1)(model, batch)
    vectors = model.words(batch.input_ids) - model.words(torch.tensor(4))
    expected = (vectors @ model.out.weight[1]) * content(batch)
    torch.testing.assert_close(found.scores[:, 0], expected.detach(), atol=1e-5, rtol=1e-4)
    assert (found.diagnostics["stability"] > 0.9).all()


@pytest.mark.parametrize("replacement", ["mask", "delete"])
def test_many_permutations_come_near_the_shapley_values(replacement: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert", [1])  # two content tokens
    batch = replace(batch, special=torch.tensor([[True, False, False, False]]), _memo={})  # three
    found = get_method("shapley_sampling", n_samples=100, replacement=replacement, target=0)(model, batch).scores[0, 0]

    def value(kept: tuple[int, ...]) -> Tensor:
        ids = batch.input_ids[0].tolist()
        if replacement == "delete":
            ids = [ids[0], *(ids[i] for i in kept)]
        else:
            ids = [ids[0], *(ids[i] if i in kept else 4 for i in range(1, 4))]
        with torch.no_grad():
            logits: Tensor = model(torch.tensor([ids])).logits
        return logits[0, 0]

    players = (1, 2, 3)
    for i in players:
        others = [j for j in players if j != i]
        exact = torch.zeros(())
        for size in range(3):
            for kept in combinations(others, size):
                weight = factorial(size) * factorial(2 - size) / factorial(3)
                exact += weight * (value(tuple(sorted((*kept, i)))) - value(kept))
        torch.testing.assert_close(found[i], exact, atol=0.1, rtol=0.1)
    torch.testing.assert_close(found.sum(), value(players) - value(()), atol=1e-4, rtol=0)


KEPT = torch.tensor([[1, 0, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]])


def values_of_shorter_texts(model: Any, single: Batch, positions: Tensor) -> Tensor:
    """(4,) the first logit of the tokens of KEPT, by the model's own pass, one text at a time."""
    values = []
    for row in KEPT:
        there = torch.ones(single.input_ids.shape[1], dtype=torch.bool)
        there[positions] = row.bool()
        with torch.no_grad():
            values.append(model(single.input_ids[:, there]).logits[0, 0])
    return torch.stack(values)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
def test_deleted_tokens_are_gone(family: str, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with deleted tokens has the value of the shorter text, beside longer ones, in one row or padded."""
    model = tiny_classifier(family)
    single = next(one for _, one in singles(batch_for(family, [0])))
    if not packed:
        monkeypatch.setattr(inputs, "runs_packed", lambda model: False)
    passes = Counter[str]()
    own = inputs.plain_pass
    monkeypatch.setattr(inputs, "plain_pass", lambda *args, **kwargs: passes.update(["packed"]) or own(*args, **kwargs))
    document = presence(working_copy(model), single, 0, "delete")
    found = document.value(KEPT)
    torch.testing.assert_close(found, values_of_shorter_texts(model, single, document.positions), atol=1e-5, rtol=0)
    assert passes["packed"] == packed


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
def test_deletion_leaves_the_model_as_it_was(family: str) -> None:
    model, batch = tiny_classifier(family), batch_for(family, [0, 1])
    before, weights = model.config.to_dict(), {name: w.clone() for name, w in model.state_dict().items()}
    implementation, logits = model.config._attn_implementation, logits_of(model, batch)
    found = get_method("shapley_sampling", n_samples=2, replacement="delete", target=0)(model, batch)
    assert model.config.to_dict() == before and model.config._attn_implementation == implementation
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert torch.equal(logits_of(model, batch), logits) and found.scores.isfinite().all()


def test_only_a_classifier_that_is_transformers_own_runs_packed() -> None:
    class Doubled(BertForSequenceClassification):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = 2 * output.logits
            return output

    plain, single = tiny_classifier(), next(one for _, one in singles(batch_for("bert", [0])))
    doubled = Doubled(plain.config).eval()
    hooked, replaced, other = tiny_classifier(), tiny_classifier(), tiny_classifier()
    hooked.classifier.register_forward_hook(lambda module, args, output: output + 1)
    replaced.forward = replaced.forward
    other.config.is_decoder = True
    assert runs_packed(plain)
    assert not any(map(runs_packed, (doubled, hooked, replaced, other, Bag(), tiny_adapler())))
    for model in (doubled, hooked):
        document = presence(working_copy(model), single, 0, "delete")
        expected = values_of_shorter_texts(model, single, document.positions)
        torch.testing.assert_close(document.value(KEPT), expected, atol=1e-5, rtol=0)


def test_segments_go_with_their_tokens() -> None:
    model, single = tiny_classifier(), next(one for _, one in singles(batch_for("bert", [0])))
    types = (torch.arange(9) > 4).long()[None]
    single = replace(single, token_type_ids=types, _memo={})
    document = presence(working_copy(model), single, 0, "delete")
    there = torch.ones(9, dtype=torch.bool)
    there[document.positions] = KEPT[0].bool()
    with torch.no_grad():
        alone = model(single.input_ids[:, there], token_type_ids=types[:, there]).logits[0, 0]
    torch.testing.assert_close(document.value(KEPT)[0], alone, atol=1e-5, rtol=0)


def test_smoothgrad_without_noise_is_the_gradient_and_a_steady_gradient_has_no_variance() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    still = get_method("smoothgrad", noise=0, n_samples=2)(model, batch).scores[:, 0]
    vectors = model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    logits = model(inputs_embeds=vectors, attention_mask=batch.attention_mask).logits
    (gradient,) = torch.autograd.grad(logits.max(-1).values.sum(), vectors)
    norms = gradient.norm(dim=-1) * batch.attention_mask
    torch.testing.assert_close(still, norms / norms.sum(-1, keepdim=True), atol=1e-5, rtol=1e-4)
    bag = replace(batch, input_ids=batch.input_ids % 20, _memo={})
    assert not get_method("vargrad", n_samples=4)(Bag(), bag).scores.any()


def moments(batch: Batch, n_samples: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the gradients at noisy inputs (n, D) of one document, with draws of its own."""
    model = tiny_classifier()
    vectors = model.get_input_embeddings()(batch.input_ids).detach()
    generator = torch.Generator().manual_seed(5)
    deviation = 0.1 * (vectors.max() - vectors.min())
    noisy = vectors + deviation * torch.randn(n_samples, *vectors.shape[1:], generator=generator)
    kind = model(batch.input_ids).logits.argmax()
    noisy.requires_grad_()
    (gradients,) = torch.autograd.grad(model(inputs_embeds=noisy).logits[:, kind].sum(), noisy)
    return gradients.mean(0), gradients.var(0)


def test_smoothgrad_and_vargrad_are_the_moments_of_the_gradients() -> None:
    batch = batch_for("bert", [0])
    mean, variance = (one.norm(dim=-1) for one in moments(batch, 1500))
    for name, expected in (("smoothgrad", mean), ("vargrad", variance)):
        found = get_method(name, n_samples=1000)(tiny_classifier(), batch).scores[0, 0]
        torch.testing.assert_close(found, expected / expected.sum(), atol=0.02, rtol=0.15)


def test_position_is_by_hand() -> None:
    scores = get_method("position")(tiny_classifier(), batch_for("bert", [1, 3])).scores[:, 0]
    torch.testing.assert_close(scores, torch.tensor([[4, 3, 2, 1], [3, 2, 1, 0]]) / torch.tensor([[10.0], [6.0]]))
