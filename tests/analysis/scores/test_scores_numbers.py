"""Precision, stability, scope and documentation of the scoring methods."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr

from adapler.errors import ArgumentError
from analysis.scores import SCOPES, UnstableScoresWarning, get_method, method_names, scoring_method
from analysis.scores.registry import SECTIONS
from analysis.scores.shared.surrogates import samples_for
from tests.analysis.scores.score_helpers import batch_for, every_family, model_of
from tests.conftest import LAYERS, tiny_classifier

MIXING = ["attention", "attention_received", "rollout", "globenc", "value_zeroing"]


@every_family
@pytest.mark.parametrize("name", ["rollout", "globenc", "value_zeroing", "attention_received"])
def test_what_follows_the_model_s_pass_is_in_float32(name: str, family: str) -> None:
    """The same pass in float32 under autocast to bfloat16 for the method's own sums only: no bit is lost."""
    model, batch = model_of(name, family), batch_for(family)
    expected = get_method(name)(model, batch).scores
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = get_method(name)(model, batch_for(family)).scores
    real = batch.attention_mask[:, None].expand(-1, LAYERS, -1).bool()
    seen = [low[row, layer][real[row, layer]] for row in range(4) for layer in range(LAYERS)]
    seen = [scores[scores > 0].tolist() for scores in seen]  # 0 beyond a sliding window
    ties, sizes = [len(set(scores)) for scores in seen], [len(scores) for scores in seen]
    assert ties == sizes  # bfloat16 sums would make many scores equal
    for row in (0, 2):
        for layer in range(LAYERS):
            keep = real[row, layer]
            assert spearmanr(low[row, layer][keep], expected[row, layer][keep]).statistic > 0.8


def test_value_zeroing_of_a_small_difference_in_bfloat16() -> None:
    """[CLS] hardly looks at anything: its distances are far below bfloat16's step, and still those of float32."""
    model, batch = tiny_classifier(), batch_for("bert")
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.weight.mul_(0.02)
    expected = get_method("value_zeroing")(model, batch).scores
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = get_method("value_zeroing")(model, batch_for("bert")).scores
    torch.testing.assert_close(low, expected, atol=0.03, rtol=0.15)


@pytest.mark.parametrize("name", [*MIXING, "attention_gradient", "saliency"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_precision(name: str, dtype: torch.dtype) -> None:
    expected = get_method(name)(tiny_classifier(), batch_for("bert")).scores
    found = get_method(name)(tiny_classifier().to(dtype), batch_for("bert")).scores
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5 if dtype == torch.float64 else 0.03, rtol=0)


def test_the_number_of_samples_grows_with_the_text() -> None:
    assert [samples_for("auto", n) for n in (2, 8, 128, 510)] == [128, 2064, 2304, 3068]
    assert samples_for(77, 510) == 77
    with pytest.raises(ArgumentError, match="n_samples got 'many', must be a whole number or 'auto'"):
        get_method("lime(n_samples=many)")


@pytest.mark.parametrize("name", ["lime", "kernel_shap"])
def test_a_stable_ranking_says_so_and_an_unstable_one_warns(name: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert", [2])  # ten content tokens
    stable = get_method(name)(model, batch)
    assert stable.diagnostics["stability"].shape == (1, 1) and float(stable.diagnostics["stability"]) > 0.8
    with pytest.warns(
        UnstableScoresWarning, match=f"{name}: the two halves of the samples .* ask for more with n_samples"
    ):
        noisy = get_method(name, n_samples=8)(model, batch)
    assert float(noisy.diagnostics["stability"]) < 0.5
    # the same as two seeds would say
    again = get_method(name)(model, replace(batch, seed=7, _memo={}))
    inside = ~batch.special[0]  # type: ignore[index]
    assert spearmanr(stable.scores[0, 0][inside], again.scores[0, 0][inside]).statistic > 0.8


@pytest.mark.parametrize("name", method_names())
def test_every_method_says_what_its_layers_mean(name: str) -> None:
    method = get_method(name)
    assert method.scope in SCOPES and method.layerwise == (method.scope != "at the input")


@pytest.mark.parametrize("name", method_names())
def test_every_docstring_has_the_parts_of_a_page(name: str) -> None:
    description = get_method(name).description
    assert list(description) == ["Summary", *SECTIONS] and all(description.values())
    assert "\n" not in description["Summary"] and description["Layer"].startswith(get_method(name).scope)
    paper = get_method(name).paper
    assert paper in description["Reference"] and (paper == "none" or re.match(r"https://\S+$", paper))


def test_scopes_are_checked() -> None:
    with pytest.raises(ArgumentError, match="scope: got 'somewhere', allowed are in the layer, from the layer"):
        scoring_method("x", paper="", scope="somewhere")
    with pytest.raises(ArgumentError, match="scope: got 'in the layer', a method that scores the input only has"):
        scoring_method("x", paper="", scope="in the layer", layerwise=False)


@every_family
def test_the_local_map_is_one_layer_s(family: str) -> None:
    """Other layers' weights change the accumulated map of a layer below them, and leave its ranking in place."""
    model, batch = tiny_classifier(family), batch_for(family)
    local = get_method("attention_gradient_local")(model, batch).scores
    whole = get_method("attention_gradient")(model, batch).scores
    torch.testing.assert_close(local[:, -1], whole[:, -1], atol=1e-5, rtol=1e-3)
    assert not torch.allclose(local[:, 0], whole[:, 0], atol=1e-2)
