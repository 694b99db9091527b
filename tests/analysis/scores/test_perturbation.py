"""Occlusion, LIME, KernelSHAP and Shapley sampling against values worked out the slow way."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from analysis.scores import Batch, UnstableScoresWarning, get_method
from analysis.scores.inputs import content
from analysis.scores.perturbation import samples_for
from tests.analysis.scores.score_helpers import LENGTHS, Bag, batch_for, every_family, logits_of
from tests.conftest import tiny_classifier

# the few samples of these tests make LIME and KernelSHAP say that they are unstable
pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")


@pytest.mark.parametrize(
    ("spec", "tolerance"),
    [
        ("occlusion", 1e-5),
        ("integrated_gradients(n_steps=3)", 1e-5),
        ("deeplift", 1e-5),
        ("kernel_shap(n_samples=120)", 1e-3),
        ("lime(n_samples=4000, kernel_width=10)", 2e-2),
    ],
)
def test_a_linear_model_is_explained_exactly(spec: str, tolerance: float) -> None:
    model = Bag()
    batch = Batch(
        ids=("a", "b"),
        input_ids=torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 11, 2, 0, 0]]),
        attention_mask=torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]),
        special=torch.tensor([[True, False, False, False, False, True], [True, False, False, True, False, False]]),
        mask_token_id=3,
    )
    target = logits_of(model, batch).argmax(-1)
    given = model.out(model.words.weight - model.words.weight[3]).detach()  # (V, C): word against the mask token
    expected = given[batch.input_ids].gather(-1, target[:, None, None].expand(2, 6, 1))[..., 0] * content(batch)
    scores = get_method(spec)(model, batch).scores[:, 0]
    torch.testing.assert_close(scores, expected, atol=tolerance, rtol=tolerance)


@every_family
def test_occlusion_equals_one_run_a_token(family: str) -> None:
    model, batch = tiny_classifier(family), batch_for(family)
    result = get_method("occlusion")(model, batch).scores[:, 0]
    pair = get_method("occlusion(window=2)")(model, batch).scores[:, 0]
    logits, inside = logits_of(model, batch), content(batch)
    for row, n in enumerate(LENGTHS):
        target, positions = int(logits[row].argmax()), inside[row].nonzero()[:, 0].tolist()

        def lost(out: list[int], row: int = row, n: int = n, target: int = target) -> float:
            ids = batch.input_ids[row : row + 1, :n].clone()
            ids[0, out] = 4
            changed = logits_of(model, Batch(("x",), ids, torch.ones_like(ids)))
            return float(logits[row, target] - changed[0, target])

        for place in positions:
            assert float(result[row, place]) == pytest.approx(lost([place]), abs=1e-5)
        windows = [positions[i : i + 2] for i in range(max(1, len(positions) - 1))]
        for place in positions:
            mine = [lost(window) for window in windows if place in window]
            assert float(pair[row, place]) == pytest.approx(sum(mine) / len(mine), abs=1e-5)


def test_kernel_shap_approaches_the_shapley_values() -> None:
    model = tiny_classifier()
    batch = batch_for("bert", [1])  # four tokens, two of them content
    single = batch_for("bert", [0])  # nine tokens, seven of them content
    for chosen, samples in ((batch, 50), (single, 1500)):
        target = int(logits_of(model, chosen).argmax())
        positions = content(chosen)[0].nonzero()[:, 0].tolist()
        subsets = [subset for size in range(len(positions) + 1) for subset in itertools.combinations(positions, size)]
        ids = chosen.input_ids.repeat(len(subsets), 1)
        for row, subset in enumerate(subsets):
            ids[row, [place for place in positions if place not in subset]] = 4
        values = logits_of(model, Batch(tuple(map(str, subsets)), ids, torch.ones_like(ids)))[:, target].tolist()
        worth = dict(zip(subsets, values, strict=True))
        n = len(positions)
        shapley = {
            place: sum(
                (worth[tuple(sorted((*subset, place)))] - worth[subset])
                * math.factorial(len(subset))
                * math.factorial(n - len(subset) - 1)
                / math.factorial(n)
                for subset in subsets
                if place not in subset
            )
            for place in positions
        }
        scores = get_method("kernel_shap", n_samples=samples)(model, chosen).scores[0, 0]
        spread = max(shapley.values()) - min(shapley.values())
        for place, value in shapley.items():
            assert float(scores[place]) == pytest.approx(value, abs=0.1 * spread)
        assert float(scores.sum()) == pytest.approx(worth[tuple(positions)] - worth[()], rel=1e-3)


def test_the_padding_token_is_the_tokenizers() -> None:
    """A configuration may say 0, transformers' own default, of a tokenizer whose padding token is another one."""
    model, batch = tiny_classifier(), replace(batch_for("bert", [1]), pad_token_id=7)
    assert model.config.pad_token_id == 0
    result = get_method("occlusion(replacement=pad)")(model, batch).scores[0, 0]
    whole = logits_of(model, batch)[0]
    for place in content(batch)[0].nonzero()[:, 0].tolist():
        ids = batch.input_ids.clone()
        ids[0, place] = 7
        lost = whole.max() - logits_of(model, replace(batch, input_ids=ids, _memo={}))[0, whole.argmax()]
        assert float(result[place]) == pytest.approx(float(lost), abs=1e-5)
    configured = get_method("occlusion(replacement=pad)")(model, batch_for("bert", [1])).scores[0, 0]
    assert not torch.allclose(configured, result)


def test_shapley_values_of_a_linear_model_are_exact() -> None:
    model, batch = Bag(), batch_for("bert")
    batch = replace(batch, input_ids=batch.input_ids % 20, mask_token_id=4, _memo={})
    found = get_method("shapley_sampling", n_samples=2, target=1)(model, batch)
    vectors = model.words(batch.input_ids) - model.words(torch.tensor(4))
    expected = (vectors @ model.out.weight[1]) * content(batch)
    torch.testing.assert_close(found.scores[:, 0], expected.detach(), atol=1e-5, rtol=1e-4)
    assert (found.diagnostics["stability"] > 0.9).all()


def test_a_stable_ranking_says_so_and_an_unstable_one_warns() -> None:
    assert [samples_for("auto", n) for n in (2, 8, 128, 510)] == [128, 2064, 2304, 3068]
    model, batch = tiny_classifier(), batch_for("bert", [0])  # seven content tokens
    assert float(get_method("kernel_shap")(model, batch).diagnostics["stability"]) > 0.8
    with pytest.warns(UnstableScoresWarning, match="lime: the two halves .* ask for more with n_samples"):
        assert float(get_method("lime", n_samples=8)(model, batch_for("bert", [2])).diagnostics["stability"]) < 0.5
