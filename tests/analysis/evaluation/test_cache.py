from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapler.errors import ArgumentError
from analysis import rationale_eval
from analysis.documents.alignment import align
from analysis.evaluation import cache as caching
from analysis.evaluation import plan, scoring
from analysis.evaluation.cache import ScoreCache, chunk_key, default_folder, model_fingerprint
from analysis.output.report import RationaleReport
from analysis.scores import LayerScores, base, scoring_method
from tests.analysis.conftest import GOOD, Document, tiny_bert

METHODS = ["attention", "saliency", "cp", "random"]


@pytest.fixture
def run(adapler_folder: Path, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(plan, "CHUNK_TOKENS", 30)  # several chunks

    def evaluate(**options: Any) -> RationaleReport:
        defaults: dict[str, Any] = {"methods": METHODS, "max_length": 24, "cache": tmp_path / "cache"}
        defaults |= {"adapler": adapler_folder, "data": corpus_folder, "progress": False}
        return rationale_eval.evaluate(**(defaults | options))

    return evaluate


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From the call on, every forward pass of a model is an error."""

    def forbid() -> None:
        def forward(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("a model ran")

        for model in (tiny_bert(), rationale_eval.loading.AdapLeRForSequenceClassification):
            cls = model if isinstance(model, type) else type(model)
            monkeypatch.setattr(cls, "forward", forward)

    return forbid


def equal(one: RationaleReport, other: RationaleReport) -> None:
    np.testing.assert_array_equal(one.values, other.values)
    assert one.documents == other.documents
    np.testing.assert_array_equal(one.correlations, other.correlations)
    for mine, theirs in zip(one.examples, other.examples, strict=True):
        np.testing.assert_array_equal(mine.retention, theirs.retention)
        for method in one.methods:
            np.testing.assert_array_equal(mine.scores[method], theirs.scores[method])


def test_a_second_run_runs_no_model(run: Any, no_model: Any) -> None:
    first = run()
    assert first.meta["cache"]["from_cache"] == 0 and first.meta["cache"]["computed"] == 6 * (len(METHODS) + 2)
    no_model()
    second = run()
    equal(first, second)
    assert second.meta["cache"] == {"from_cache": 36, "computed": 0}
    other = run(metrics=["roc_auc", "token_f1"], aggregation="max", examples=1)  # other metrics, the same scores
    assert other.metrics == ("roc_auc", "token_f1") and other.meta["cache"]["computed"] == 0
    run(methods=["saliency", "random"])
    with pytest.raises(RuntimeError, match="a model ran"):
        run(cache=None)


def test_without_a_cache_nothing_is_written(run: Any, tmp_path: Path) -> None:
    plain = run(cache=None)
    assert not (tmp_path / "cache").exists()
    equal(plain, run())  # and the numbers are the same bits
    equal(plain, run())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"max_length": 20},
        {"dtype": "bfloat16"},
        {"methods": ["saliency_gold"]},
        {"policy": "all-windows"},
        {"split": "val"},
    ],
)
def test_what_changes_scores_is_computed_again(
    run: Any, corpus_folder: Path, no_model: Any, change: dict[str, Any]
) -> None:
    run()
    (corpus_folder / "val.jsonl").write_text((corpus_folder / "test.jsonl").read_text().partition("\n")[2])
    no_model()
    with pytest.raises(RuntimeError, match="a model ran"):
        run(**change)


def test_threshold_scale_concerns_adapler_only(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    other = run(threshold_scale=0.5)
    assert other.meta["cache"] == {"from_cache": 6 * 4, "computed": 6 * 2}  # cp and the AdapLeR model itself


def test_other_weights_or_another_document_are_computed_again(
    run: Any, reducer: Any, tiny_tokenizer: Any, corpus_folder: Path
) -> None:
    run()
    assert run(adapler=reducer, tokenizer=tiny_tokenizer).meta["cache"]["computed"] == 0  # the same as an object
    with torch.no_grad():
        reducer.backbone.classifier.bias += 0.1
    assert run(adapler=reducer, tokenizer=tiny_tokenizer).meta["cache"]["from_cache"] == 0
    file = corpus_folder / "docs" / "neg_0"
    file.write_text(file.read_text().replace("dull", "rain"))
    assert 0 < run().meta["cache"]["computed"] < 36  # its chunk only


def test_a_killed_run_goes_on(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(cache=None)
    calls = []
    compute = scoring.Scorer._compute

    def killed(self: Any, names: Any, windows: Any, *rest: Any) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append([window.id for window in windows])
        return compute(self, names, windows, *rest)

    monkeypatch.setattr(scoring.Scorer, "_compute", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(scoring.Scorer, "_compute", compute)
    resumed = run()
    done = sum(len(ids) for ids in calls)
    assert 0 < done < 6
    assert resumed.meta["cache"] == {"from_cache": 6 * done, "computed": 6 * (6 - done)}
    equal(whole, resumed)


def test_results_do_not_depend_on_what_is_cached(run: Any, tmp_path: Path) -> None:
    whole = run(cache=None)
    run()
    files = sorted((tmp_path / "cache").rglob("*.npz"))
    for file in files[::3]:
        file.unlink()
    files[1].write_bytes(files[1].read_bytes()[:50])  # cut short
    files[2].write_bytes(b"")
    files[4].write_text("not an archive")
    mended = run()
    assert 0 < mended.meta["cache"]["computed"] < 36
    equal(whole, mended)
    assert run().meta["cache"]["computed"] == 0  # and the damaged files were replaced


def test_faithfulness_is_cached_too(run: Any, no_model: Any, tmp_path: Path) -> None:
    first = run(metrics=["aopc_comprehensiveness", "loo_kendall"], faithfulness_layers=[0])
    no_model()
    second = run(metrics=["aopc_comprehensiveness", "loo_kendall"], faithfulness_layers=[0])
    equal(first, second)
    with pytest.raises(RuntimeError, match="a model ran"):
        run(metrics=["aopc_comprehensiveness"], faithfulness_layers=[1])


def test_an_edited_method_is_computed_again(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))

    @scoring_method("flat", paper="none")
    def flat(model: Any, batch: Any, *, height: float = 1.0) -> LayerScores:
        mask = batch.attention_mask[:, None].float().expand(-1, model.config.num_hidden_layers, -1)
        return LayerScores(mask / mask.sum(-1, keepdim=True))

    assert run(methods=["flat"]).meta["cache"] == {"from_cache": 0, "computed": 18}
    assert run(methods=["flat"]).meta["cache"]["computed"] == 0
    assert run(methods=["flat(height=2.0)"]).meta["cache"]["computed"] == 6
    monkeypatch.setattr(caching.inspect, "getsource", lambda module: "edited")
    assert run(methods=["flat"]).meta["cache"]["computed"] == 6


def test_keys(tiny_tokenizer: Any) -> None:
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    (renamed,) = align(Document("e", GOOD, [1]), tiny_tokenizer).windows
    (relabelled,) = align(Document("d", GOOD, [2]), tiny_tokenizer).windows
    (other,) = align(Document("d", [*GOOD[:-1], "rain"], [1]), tiny_tokenizer).windows
    key = chunk_key({"a": 1}, [window], [0])
    assert key == chunk_key({"a": 1}, [relabelled], [0])  # a rationale is not what scores depend on
    different = {
        chunk_key({"a": 2}, [window], [0]),
        chunk_key({"a": 1}, [window], [1]),
        chunk_key({"a": 1}, [renamed], [0]),
        chunk_key({"a": 1}, [other], [0]),
        chunk_key({"a": 1}, [window, window], [0, 0]),
    }
    assert len(different | {key}) == 6


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


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPLER_CACHE", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    monkeypatch.delenv("ADAPLER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "adapler" / "scores"
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="cache: .*file cannot be a folder"):
        ScoreCache(tmp_path / "file")
    nothing = ScoreCache(None)
    nothing.save("ab", {"x": np.zeros(1)})
    assert nothing.load("ab") is None and nothing.misses == 1


def test_no_pickle_is_ever_read(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    (tmp_path / "ab").mkdir()
    np.savez(tmp_path / "ab" / "abc.npz", x=np.array([{"an": "object"}], dtype=object))
    assert cache.load("abc") is None
    cache.save("abc", {"x": np.arange(3)})
    found = cache.load("abc")
    assert found is not None and found["x"].tolist() == [0, 1, 2] and (cache.hits, cache.misses) == (1, 1)
