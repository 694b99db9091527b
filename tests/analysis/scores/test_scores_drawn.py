"""Methods that draw: how often, how far, and from what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValueSampling
from sklearn.linear_model import LinearRegression, Ridge

from analysis.scores import get_method
from analysis.scores.perturbation import lime
from analysis.scores.shared import noise
from analysis.scores.shared.forward import working_copy
from analysis.scores.shared.inputs import presence, seeded, singles
from analysis.scores.shared.surrogates import Halves
from tests.analysis.scores.score_helpers import Bag, batch_for
from tests.conftest import tiny_classifier

pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")


def test_an_odd_number_of_permutations_has_two_unlike_halves() -> None:
    model, batch = tiny_classifier(), batch_for("bert", [0])
    ((_, single),) = singles(batch)
    document = presence(working_copy(model), single, 0, "mask")
    whole = torch.ones(1, len(document.positions))
    with seeded(batch, 0):
        first, second = (
            ShapleyValueSampling(document.value).attribute(
                whole, n_samples=n, perturbations_per_eval=document.per_pass
            )[0]
            for n in (2, 1)
        )
    found = get_method("shapley_sampling", n_samples=3, target=0)(model, batch).scores[0, 0, document.positions]
    torch.testing.assert_close(found, ((2 * first + second) / 3).float(), atol=1e-6, rtol=0)


def test_both_halves_of_a_regression_have_the_whole_and_the_empty_text() -> None:
    weights: list[np.ndarray] = []

    class Spy(LinearRegression):  # type: ignore[misc]
        def fit(self, there: Any, values: Any, sample_weight: Any = None) -> Any:
            weights.append(sample_weight)
            return super().fit(there, values, sample_weight=sample_weight)

    there = torch.tensor([[1, 1], [0, 0], [1, 0], [0, 1], [1, 0], [0, 1]], dtype=torch.float32)
    closeness = torch.tensor([1e6, 1e6, 1, 1, 1, 1])
    Halves(Spy).fit([(there, there.sum(1), closeness)])  # type: ignore[arg-type]
    assert [len(one) for one in weights] == [6, 4, 4] and [int((one > 1e5).sum()) for one in weights] == [2, 2, 2]


def test_noise_is_a_share_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    own = noise.NoiseTunnel.attribute
    monkeypatch.setattr(
        noise.NoiseTunnel,
        "attribute",
        lambda self, *args, **more: seen.append(more["stdevs"]) or own(self, *args, **more),
    )
    model, batch = tiny_classifier(), batch_for("bert", [0])
    get_method("smoothgrad", n_samples=2, noise=0.25)(model, batch)
    vectors = model.get_input_embeddings()(batch.input_ids).detach()
    assert seen == [pytest.approx(0.25 * float(vectors.max() - vectors.min()))]


def test_gradient_shap_of_a_linear_model() -> None:
    """Of a linear model: w . (x - b), b the zero vector or the mask token in half of the samples each."""
    model, batch = Bag(), batch_for("bert", [0])
    batch = replace(batch, input_ids=batch.input_ids % 20, mask_token_id=3, _memo={})
    found = get_method("gradient_shap(n_samples=4000, noise=0, target=1)")(model, batch).scores[0, 0, 1:-1]
    worth = (model.words.weight @ model.out.weight[1]).detach()
    torch.testing.assert_close(found, worth[batch.input_ids[0, 1:-1]] - worth[3] / 2, atol=0.03, rtol=0)
    noisy = get_method("gradient_shap(n_samples=20, noise=1, target=1)")(model, batch).scores
    still = get_method("gradient_shap(n_samples=20, noise=0, target=1)")(model, batch).scores
    assert not torch.allclose(noisy, still, atol=1e-3)


def test_lime_fits_with_its_default_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    alphas: list[float] = []
    monkeypatch.setattr(lime, "Ridge", lambda alpha: alphas.append(alpha) or Ridge(alpha=alpha))
    get_method("lime", n_samples=8)(tiny_classifier(), batch_for("bert", [0]))
    assert set(alphas) == {1.0}
