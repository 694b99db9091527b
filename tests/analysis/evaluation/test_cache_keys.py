"""What a cached value depends on is in its key: code, libraries, model, inputs, settings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.documents.alignment import align
from analysis.documents.units import WindowScores
from analysis.documents.windows import SPECIAL, Window
from analysis.evaluation import faithfulness, scoring
from analysis.evaluation.cache import ScoreCache, entries, fingerprints
from analysis.evaluation.cache.entries import adapler_entry
from analysis.evaluation.cache.fingerprints import (
    ROOT,
    code_fingerprint,
    facts_key,
    model_fingerprint,
    window_key,
)
from analysis.evaluation.settings import Settings
from analysis.scores import get_method, registry
from tests.analysis.conftest import GOOD, Document, tiny_bert

# the few samples of these tests make LIME and KernelSHAP say that they are unstable
pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our packages, to edit."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("adapler", "analysis"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


SALIENCY, CP = "analysis.scores.gradient", "analysis.scores.contribution"
ADAPLER, FAITHFUL = "adapler.model.modeling", "analysis.metrics.faithfulness"


def keys_of(tree: Path) -> dict[str, str]:
    """The fingerprints of four modules, of the files as they are."""
    fingerprints._code_fingerprint.cache_clear()
    return {module: code_fingerprint(module, root=tree) for module in (SALIENCY, CP, ADAPLER, FAITHFUL)}


@pytest.fixture(scope="module")
def unedited(tree: Path) -> dict[str, str]:
    return keys_of(tree)


def test_the_key_is_of_what_the_files_hold(tree: Path, unedited: dict[str, str]) -> None:
    assert keys_of(tree) == unedited


def test_keys(tiny_tokenizer: Any) -> None:
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    (renamed,) = align(Document("e", GOOD, [1]), tiny_tokenizer).windows
    (relabelled,) = align(Document("d", GOOD, [2]), tiny_tokenizer).windows
    (other,) = align(Document("d", [*GOOD[:-1], "rain"], [1]), tiny_tokenizer).windows
    words = window.words.copy()
    words[3] = -1  # a token of the text that is special now
    special = replace(window, words=words)
    types = np.zeros(len(window), dtype=np.int64)
    typed, second = replace(window, token_type_ids=types), replace(window, token_type_ids=types + (types.cumsum() >= 0))
    untyped: Window = replace(window, token_type_ids=None)
    key = window_key("a", untyped)
    assert key == window_key("a", replace(relabelled, token_type_ids=None))  # no score depends on a rationale
    assert key == window_key("a", replace(renamed, token_type_ids=None))  # or on a name, unless it is drawn
    different = {
        window_key("b", untyped),
        window_key("a", untyped, label=0),
        window_key("a", untyped, label=1),
        window_key("a", untyped, seed=0),
        window_key("a", untyped, seed=1),
        window_key("a", replace(renamed, token_type_ids=None), seed=0),
        window_key("a", replace(other, token_type_ids=None)),
        window_key("a", replace(special, token_type_ids=None)),
        window_key("a", typed),
        window_key("a", second),
    }
    assert len(different | {key}) == 11
    assert facts_key({"a": 1}) == facts_key({"a": 1}) != facts_key({"a": 2})


def test_what_a_value_depends_on_is_in_its_key(reducer: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    names = ["saliency", "saliency_gold", "random", "cp", "lime(n_samples=9)", "lime(n_samples=9, target=gold)"]

    def keys(label: int = 0, model: Any = None, **settings: Any) -> dict[str, str | None]:
        scorer = scoring.Scorer(
            model=reducer.backbone if model is None else model,
            adapler=reducer,
            tokenizer=tiny_tokenizer,
            methods=[get_method(name) for name in names],
            settings=Settings(**settings),
            cache=ScoreCache(tmp_path),
        )
        return {name: scorer.key(name, window, label) for name in scorer.entries}

    first = keys()
    gold, short = "lime(n_samples=9, target='gold')", "lime(n_samples=9)"
    assert set(first) == {"saliency", "saliency_gold", "random", "cp", short, gold, "classifier", "adapler"}

    def changed(**change: Any) -> set[str]:
        return {name for name, key in keys(**change).items() if key != first[name]}

    assert changed() == set()
    assert changed(label=1) == {"saliency_gold", gold}
    assert changed(seed=1) == {"random", short, gold}
    assert changed(threshold_scale=0.5) == {"cp", "adapler"}
    assert changed(dtype="bfloat16") == set(first)
    with torch.no_grad():
        other = tiny_bert()
        next(other.parameters())[0, 0] += 1e-3
    assert changed(model=other) == set(first) - {"cp", "adapler"}


@pytest.mark.parametrize(
    "name", [name for name in registry.method_names() if get_method(name).reads != set(registry.READS)]
)
def test_methods_read_what_they_say_they_read(name: str, batch: Any, reducer: Any) -> None:
    """Another seed, another label, another scale: the same bits, unless the method reads it."""
    few = {"lime": 8, "kernel_shap": 8, "gradient_shap": 2}
    steps = {"n_samples": few[name]} if name in few else {"n_steps": 2} if "integrated" in name else {}
    method = get_method(name, **steps)
    model = reducer if "adapler" in method.needs else reducer.backbone
    first = method(model, batch).scores
    other = {"labels": 1 - batch.labels, "seed": batch.seed + 1, "threshold_scale": 0.25}
    for field, value in other.items():
        second = method(model, replace(batch, **{field: value}, _memo={})).scores
        assert torch.equal(first, second) == (not method.depends_on(field)), field


def test_model_fingerprint() -> None:
    model = tiny_bert()
    first = model_fingerprint(model)
    model.set_attn_implementation("eager")
    model.train()
    assert model_fingerprint(model) == first == model_fingerprint(tiny_bert())
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    assert model_fingerprint(model) != first
    assert model_fingerprint(tiny_bert().bfloat16()) != first
    other = tiny_bert()
    other.config.layer_norm_eps = 1e-3  # of the computation, not of the weights
    assert model_fingerprint(other) != first


def test_the_code_is_in_every_key(
    reducer: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that lost the code's fingerprint would give old numbers to new code."""
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    method = get_method("saliency")
    scores = np.full((3, len(window)), 1 / len(window), dtype=np.float32)

    def keys() -> dict[str, str | None]:
        settings, cache = Settings(metrics=("aopc_comprehensiveness",)), ScoreCache(tmp_path)
        models: dict[str, Any] = {"model": reducer.backbone, "tokenizer": tiny_tokenizer, "settings": settings}
        scorer = scoring.Scorer(adapler=reducer, methods=[method], cache=cache, **models)
        judge = faithfulness.Perturbation(cache=cache, fingerprint="model", **models)
        found = {name: scorer.key(name, window, 0) for name in scorer.entries}
        return found | {"faithfulness": judge._key(window, 0, WindowScores(scores, None, False))}

    first = keys()
    assert set(first) == {"saliency", "classifier", "adapler", "faithfulness"} and None not in first.values()
    for module in (entries, faithfulness):
        monkeypatch.setattr(module, "code_fingerprint", lambda *modules, **options: "other code")
    assert {name for name, key in keys().items() if key != first[name]} == set(first)


def test_scores_of_words_are_not_taken_for_those_of_wordpieces(
    reducer: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """The same numbers, summed over a word's pieces or each the whole word's already, order other words first."""
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    words = np.where(window.special, SPECIAL, np.minimum(np.arange(len(window)), 4))  # the last word is of many pieces
    window = replace(window, words=words)
    scores = np.linspace(2, 1, len(window), dtype=np.float32)[None].repeat(3, axis=0)
    settings = Settings(metrics=("aopc_comprehensiveness",), aggregation="sum")

    def values(cache: Path | None, *, of_words: bool) -> np.ndarray:
        judge = faithfulness.Perturbation(
            model=reducer.backbone,
            tokenizer=tiny_tokenizer,
            settings=settings,
            cache=ScoreCache(cache),
            fingerprint="model",
        )
        return judge.values(window, 0, {"mine": WindowScores(scores, of_words=of_words)})["mine"]

    alone = [values(None, of_words=one) for one in (False, True)]
    assert not np.array_equal(*alone)
    assert all(np.array_equal(values(tmp_path, of_words=one), alone[one]) for one in (False, True))


@pytest.mark.parametrize("name", ["logits", "lengths", "retention"])
def test_each_part_of_a_pass_of_adapler_has_to_fit(name: str) -> None:
    arrays = {"logits": np.zeros(2), "lengths": np.zeros(3), "retention": np.zeros((3, 5), dtype=bool)}
    entry = adapler_entry(3)
    assert entry.fits(arrays, 5)
    assert not entry.fits({other: value for other, value in arrays.items() if other != name}, 5)
    assert not entry.fits(arrays | {name: np.concatenate([arrays[name], arrays[name]])[None]}, 5)
    if name != "logits":  # of another model
        assert not entry.fits(arrays | {name: np.concatenate([arrays[name], arrays[name]])}, 5)
