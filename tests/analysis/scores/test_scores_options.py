"""Options, spec strings, the registry and its listing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapler.errors import ArgumentError, run_command
from adapler.registry import load_plugins
from analysis.scores import Batch, LayerScores, get_method, scoring_method
from analysis.scores import __main__ as listing
from analysis.scores import registry as scores_registry
from tests.analysis.scores.score_helpers import NAMES, batch_for, method_of
from tests.conftest import tiny_classifier

# the few samples of these tests make LIME and KernelSHAP say that they are unstable
pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")


def test_options_and_keys() -> None:
    plain = get_method("integrated_gradients")
    assert plain.key == "integrated_gradients" and plain.options["n_steps"] == 50
    asked = get_method("integrated_gradients", n_steps=20)
    assert asked.key == "integrated_gradients(n_steps=20)" and asked.name == "integrated_gradients"
    assert get_method("integrated_gradients( n_steps = 20 )") == asked == get_method(asked.key)
    assert get_method("integrated_gradients(n_steps=50)").key == "integrated_gradients"
    two = get_method("integrated_gradients(reduction=l2, n_steps=3)")
    assert two.key == "integrated_gradients(n_steps=3, reduction='l2')" and get_method(two.key) == two
    assert get_method("lime(kernel_width=1)").options["kernel_width"] == 1.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("limes", "method 'limes' is not known; the registry has .*rollout"),
        ("limes(n=1)", "method 'limes' is not known"),
        (
            "lime(samples=3)",
            "method 'lime': no option 'samples'; it has n_samples, kernel_width, replacement, reduction, target",
        ),
        ("rollout(x=1)", "method 'rollout': no option 'x'; it has none"),
        ("lime(n_samples=2.5)", r"n_samples got 2.5, must be a whole number or 'auto' \(default 'auto'\)"),
        ("lime(n_samples=True)", "n_samples got True, must be a whole number or 'auto'"),
        ("occlusion(window=True)", "window got True, must be a whole number"),
        ("lime(target=2.5)", "target got 2.5, must be a word or a whole number"),
        ("lime(reduction=l2)", "reduction got 'l2', allowed are signed, absolute, positive"),
        ("vargrad(noise=1e999)", "method 'vargrad': noise got inf, must be a finite number"),
        ("kernel_shap(n_samples=3)", "method 'kernel_shap': n_samples got 3, must be at least 4$"),
        ("lime(3)", r"method 'lime\(3\)' must be NAME or NAME\(OPTION=VALUE"),
        ("lime(n_samples=3", "must be NAME or NAME"),
        ("lime(n_samples=open('x'))", "must be NAME or NAME"),
        ("lime(**{'n_samples': 3})", "must be NAME or NAME"),
        ("lime()()", "must be NAME or NAME"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        get_method(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "lime(n_samples=1)",
        "lime(kernel_width=0)",
        "kernel_shap(n_samples=0)",
        "integrated_gradients(n_steps=0)",
        "layer_integrated_gradients(n_steps=0)",
        "gradient_shap(n_samples=0)",
        "gradient_shap(noise=-1)",
        "occlusion(window=0)",
        "shapley_sampling(n_samples=1)",
        "smoothgrad(n_samples=1)",
        "vargrad(noise=-1)",
    ],
)
def test_values_too_small(spec: str) -> None:
    with pytest.raises(ArgumentError, match="must be at least"):
        get_method(spec)  # before a model is loaded


@pytest.mark.parametrize("name", [name for name in NAMES if "target" in get_method(name).options])
def test_gold_labels_are_needed_and_checked(name: str) -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    method = method_of(name).with_options(target="gold")
    without = Batch(batch.ids, batch.input_ids, batch.attention_mask)
    with pytest.raises(ArgumentError, match="needs the gold labels"):
        method(model, without)
    wrong = replace(batch, labels=torch.tensor([0, 1, 2, 3]), _memo={})
    with pytest.raises(ArgumentError, match=r"must be among the model's 3, got \[0, 1, 2, 3\]|model's"):
        method(model, wrong)


def test_reductions_of_one_attribution() -> None:
    model, batch = tiny_classifier(), batch_for("bert")
    signed = get_method("integrated_gradients(n_steps=5)")(model, batch)
    assert signed.signed and (signed.scores < 0).any() and (signed.scores > 0).any()
    for reduction, values in (("absolute", signed.scores.abs()), ("positive", signed.scores.clamp_min(0))):
        result = get_method("integrated_gradients", n_steps=5, reduction=reduction)(model, batch)
        assert not result.signed
        torch.testing.assert_close(result.scores, values / values.sum(-1, keepdim=True))
    norms = get_method("integrated_gradients(n_steps=5, reduction=l2)")(model, batch)
    assert not norms.signed and not torch.allclose(norms.scores, values / values.sum(-1, keepdim=True), atol=1e-3)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_registry, "_REGISTRY", dict(scores_registry._REGISTRY))


@pytest.mark.usefixtures("own_registry")
def test_a_method_of_one_s_own_with_options() -> None:
    seen: list[int] = []

    @scoring_method("mine", paper="ours", layerwise=False, cost="none")
    def mine(model: Any, batch: Batch, *, power: int = 1) -> LayerScores:
        seen.append(power)
        values = batch.input_ids[:, None].float() ** power * batch.attention_mask[:, None]
        return LayerScores(values, signed=True, diagnostics={"power": torch.full((4, 1), float(power))})

    result = get_method("mine(power=2)")(None, batch_for("bert"))
    assert seen == [2] and result.scores.shape == (4, 1, 12) and (result.diagnostics["power"] == 2).all()

    @scoring_method("wide", paper="ours", layerwise=False)
    def wide(model: Any, batch: Batch) -> LayerScores:
        return LayerScores(torch.zeros(4, 3, 12), signed=True)

    with pytest.raises(ArgumentError, match=r"'wide': scores must be .*layers 1, tokens 12.*got .4, 3, 12"):
        get_method("wide")(None, batch_for("bert"))

    @scoring_method("odd", paper="ours", layerwise=False)
    def odd(model: Any, batch: Batch) -> LayerScores:
        return LayerScores(torch.zeros(4, 1, 12), signed=True, diagnostics={"gap": torch.zeros(4)})

    with pytest.raises(ArgumentError, match=r"'odd': diagnostic 'gap' must be \(4, 1\), got \(4,\)"):
        get_method("odd")(None, batch_for("bert"))

    @scoring_method("bare", paper="ours")
    def bare(model: Any, batch: Batch) -> Any:
        return [0.0]

    with pytest.raises(ArgumentError, match="'bare': must return a Tensor or LayerScores, got list"):
        get_method("bare")(None, batch_for("bert"))
    with pytest.raises(ArgumentError, match="option 'head' needs a default that is a number or a string"):

        @scoring_method("headless", paper="ours")
        def headless(model: Any, batch: Batch, *, head: int) -> LayerScores:
            raise NotImplementedError


def test_the_listing_has_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["method", "title", "scope"] and [line.split()[0] for line in lines[1:]] == list(
        NAMES
    )
    line = next(line for line in lines if line.startswith("integrated_gradients"))
    assert "n_steps=50" in line and "at the input" in line and "https://arxiv.org/abs/1703.01365" in line


def test_the_listing_has_the_methods_of_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = '@scoring_method("my_own", paper="none")\ndef my_own(model, batch): ...\n'
    (tmp_path / "my_own_scores.py").write_text(f"from analysis.scores import scoring_method\n{own}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(scores_registry, "_REGISTRY", dict(scores_registry._REGISTRY))
    try:
        for name, code in (("my_own_scores", 0), ("no_such_scores_of_mine", 2)):
            load_plugins.cache_clear()
            monkeypatch.setenv("ADAPLER_PLUGINS", name)
            assert run_command(listing.main, []) == code
    finally:
        load_plugins.cache_clear()
    found = capsys.readouterr()
    assert any(line.startswith("my_own ") for line in found.out.splitlines())
    assert (
        found.err.startswith("error: ADAPLER_PLUGINS: 'no_such_scores_of_mine' cannot be")
        and found.err.count("\n") == 1
    )
