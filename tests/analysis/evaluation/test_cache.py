"""A second evaluation finds the scores of the first, and nothing damaged or foreign."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapler.errors import ArgumentError
from analysis import rationale_eval
from analysis.evaluation import plan
from analysis.evaluation.cache import ScoreCache, default_folder, fingerprints
from analysis.evaluation.cache.entries import method_entry
from analysis.evaluation.cache.fingerprints import method_fingerprint
from analysis.output.report import RationaleReport
from analysis.scores import LayerScores, get_method, registry, scoring_method
from tests.analysis.conftest import tiny_bert

# the few samples of these tests make LIME and KernelSHAP say that they are unstable
pytestmark = pytest.mark.filterwarnings("ignore::analysis.scores.UnstableScoresWarning")


METHODS = ["attention", "saliency", "cp", "random"]
ALL = 31  # values of six documents, of which two have the same words: five windows, and six of `random`, by name


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


def close(one: RationaleReport, other: RationaleReport) -> None:
    """The same numbers up to the rounding of a batch with other windows."""
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)
    np.testing.assert_allclose(one.correlations, other.correlations, atol=1e-5)
    assert one.documents == other.documents


def test_a_second_run_runs_no_model(run: Any, no_model: Any) -> None:
    first = run()
    assert first.run_facts["from_cache"] == 5 and first.run_facts["computed"] == ALL
    no_model()
    second = run()
    equal(first, second)
    assert second.run_facts == {"from_cache": 36, "computed": 0}
    other = run(metrics=["roc_auc", "token_f1"], aggregation="max", examples=1)  # other metrics, the same scores
    assert other.metrics == ("roc_auc", "token_f1") and other.run_facts["computed"] == 0
    run(methods=["saliency", "random"])
    with pytest.raises(RuntimeError, match="a model ran"):
        run(cache=None)


def test_without_a_cache_nothing_is_written(run: Any, tmp_path: Path) -> None:
    plain = run(cache=None)
    assert not (tmp_path / "cache").exists()
    close(plain, run())
    close(plain, run())


@pytest.mark.parametrize(
    ("change", "computed"),
    [
        ({"seed": 1}, 6),  # the random scores only
        ({"max_length": 20}, 6),  # one window is longer than that
        ({"dtype": "bfloat16"}, ALL),
        ({"methods": ["saliency_gold"]}, 5),
        ({"policy": "all-windows"}, 12),  # two windows of the long document
        ({"policy": "rationale-windows"}, 6),
        ({"split": "val"}, 0),  # the same documents but one
        ({"limit": 4}, 0),
    ],
)
def test_what_changes_a_value_is_computed_again(
    run: Any, corpus_folder: Path, change: dict[str, Any], computed: int
) -> None:
    run()
    (corpus_folder / "val.jsonl").write_text((corpus_folder / "test.jsonl").read_text().partition("\n")[2])
    assert run(**change).run_facts["computed"] == computed


def test_more_documents_reuse_the_ones_there(run: Any) -> None:
    run(limit=3)
    assert run(limit=4).run_facts == {"from_cache": 18, "computed": 6}


def test_threshold_scale_concerns_adapler_only(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    other = run(threshold_scale=0.5)
    assert other.run_facts == {"from_cache": 26, "computed": 2 * 5}  # cp and the AdapLeR model itself


def test_other_weights_or_another_document_are_computed_again(
    run: Any, reducer: Any, tiny_tokenizer: Any, corpus_folder: Path
) -> None:
    run()
    assert run(adapler=reducer, tokenizer=tiny_tokenizer).run_facts["computed"] == 0  # the same as an object
    with torch.no_grad():
        reducer.backbone.classifier.bias += 0.1
    assert run(adapler=reducer, tokenizer=tiny_tokenizer).run_facts["computed"] == ALL
    file = corpus_folder / "docs" / "neg_0"
    file.write_text(file.read_text().replace("dull", "rain"))
    assert run().run_facts["computed"] == 6  # its window only


def test_a_killed_run_goes_on(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole chunks are kept: a resumed run computes in the same batches, and its report is the same to the bit."""
    whole = run(cache=tmp_path / "other")
    saved: list[int] = []
    save = ScoreCache.save_many

    def killed(self: Any, entries: Any) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(self, entries)
        saved.append(len(entries))

    monkeypatch.setattr(ScoreCache, "save_many", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(ScoreCache, "save_many", save)
    resumed = run()
    assert 0 < sum(saved) < ALL and resumed.run_facts["computed"] == ALL - sum(saved)
    equal(whole, resumed)


def rows(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "scores.sqlite")) as connection:
        return [key for (key,) in connection.execute("SELECT key FROM entries ORDER BY key")]


def damage(folder: Path, key: str, content: bytes) -> None:
    with closing(sqlite3.connect(folder / "scores.sqlite")) as connection, connection:
        connection.execute("UPDATE entries SET arrays = ? WHERE key = ?", (content, key))


def test_damaged_entries_are_computed_again(run: Any, tmp_path: Path) -> None:
    whole, folder = run(cache=None), tmp_path / "cache"
    run()
    keys = rows(folder)
    assert len(keys) == ALL
    for place, content in enumerate((b"", b"not an archive", b"PK\x03\x04 cut short")):
        damage(folder, keys[place], content)
    with closing(sqlite3.connect(folder / "scores.sqlite")) as connection, connection:
        connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys[3::7]])
    mended = run()
    assert mended.run_facts["computed"] == 3 + len(keys[3::7])
    close(whole, mended)
    assert run().run_facts["computed"] == 0  # and the damaged entries were replaced


def test_no_flipped_bit_of_an_entry_gives_other_arrays_or_an_error(tmp_path: Path) -> None:
    """An archive's own checksums cover its arrays, not the list of them: without `present` all tokens would be."""
    cache = ScoreCache(tmp_path)
    cache.save("abc", {"scores": np.zeros((1, 2), dtype=np.float32), "present": np.ones((1, 2), dtype=bool)})
    with closing(sqlite3.connect(tmp_path / "scores.sqlite")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        ((whole,),) = connection.execute("SELECT arrays FROM entries")
        for place in range(len(whole)):
            flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
            connection.execute("UPDATE entries SET arrays = ?", (flipped,))
            connection.commit()
            assert cache.load("abc") is None


def test_entries_that_do_not_fit_are_computed_again(run: Any, tmp_path: Path) -> None:
    """An archive that can be read, under the right key, with arrays of another window's shape."""
    whole, folder = run(cache=None), tmp_path / "cache"
    run()
    cache = ScoreCache(folder)
    for key in rows(folder):
        arrays = cache.load(key)
        assert arrays is not None
        longest = max(arrays, key=lambda name: arrays[name].ndim)
        cut = arrays[longest][..., :-1] if arrays[longest].ndim == 2 else arrays[longest][None]
        cache.save(key, arrays | {longest: cut})
    again = run()
    assert again.run_facts["computed"] == ALL
    close(whole, again)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"scores": np.zeros((3, 5))},
        {"scores": np.zeros((2, 5)), "signed": np.array(False)},
        {"scores": np.zeros((3, 4)), "signed": np.array(False)},
        {"scores": np.zeros((3, 5)), "signed": np.zeros(2, dtype=bool)},
        {"scores": np.zeros((3, 5)), "signed": np.array(False), "present": np.zeros((3, 6), dtype=bool)},
        {"scores": np.zeros((3, 5)), "signed": np.array(False), "diagnostic:gap": np.zeros(2)},
    ],
)
def test_what_fits(arrays: dict[str, np.ndarray]) -> None:
    entry = method_entry(get_method("saliency"), 3)
    assert not entry.fits(arrays, 5)
    assert entry.fits({"scores": np.zeros((3, 5)), "signed": np.array(False), "diagnostic:gap": np.zeros(3)}, 5)


def test_a_damaged_file_is_begun_anew(run: Any, tmp_path: Path) -> None:
    whole = run()
    (tmp_path / "cache" / "scores.sqlite").write_bytes(b"this is no database" * 100)
    again = run()
    assert again.run_facts["computed"] == ALL
    equal(whole, again)
    assert run().run_facts["computed"] == 0


def test_faithfulness_is_cached_too(run: Any, no_model: Any, tmp_path: Path) -> None:
    first = run(metrics=["aopc_comprehensiveness", "loo_kendall"], faithfulness_layers=[0])
    no_model()
    second = run(metrics=["aopc_comprehensiveness", "loo_kendall"], faithfulness_layers=[0])
    equal(first, second)
    with pytest.raises(RuntimeError, match="a model ran"):
        run(metrics=["aopc_comprehensiveness"], faithfulness_layers=[1])


def test_a_registered_method_of_one_s_own_is_kept(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @scoring_method("flat")
    def flat(model: Any, batch: Any, *, height: float = 1.0) -> LayerScores:
        mask = batch.attention_mask[:, None].float().expand(-1, model.config.num_hidden_layers, -1)
        return LayerScores(mask / mask.sum(-1, keepdim=True))

    assert run(methods=["flat"]).run_facts == {"from_cache": 2, "computed": 16}
    assert run(methods=["flat"]).run_facts["computed"] == 0
    assert run(methods=["flat(height=2.0)"]).run_facts["computed"] == 6
    assert run(methods=["flat"], seed=3).run_facts["computed"] == 6  # it does not say that it reads no seed
    monkeypatch.setattr(fingerprints, "method_fingerprint", lambda function: "edited")
    monkeypatch.setattr("analysis.evaluation.cache.entries.method_fingerprint", lambda function: "edited")
    assert run(methods=["flat"]).run_facts["computed"] == 6


def test_a_method_whose_code_no_file_tells_is_never_kept(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def make(power: float) -> Callable[..., LayerScores]:
        def flat(model: Any, batch: Any) -> LayerScores:
            values = batch.attention_mask[:, None].float().expand(-1, model.config.num_hidden_layers, -1) * power
            return LayerScores(values, signed=True)

        return flat

    scoring_method("flat")(make(1.0))
    for _ in range(2):
        assert run(methods=["flat"]).run_facts["computed"] in (16, 6)
    typed: dict[str, Any] = {"__name__": "__main__"}
    exec("def typed(model, batch): pass", typed)
    assert method_fingerprint(make(2.0)) is None
    assert method_fingerprint(typed["typed"]) is None
    assert method_fingerprint(equal) is not None


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
    cache.save("abc", {"x": np.zeros(1)})
    np.savez(tmp_path / "pickled.npz", x=np.array([{"an": "object"}], dtype=object))
    pickled = (tmp_path / "pickled.npz").read_bytes()
    damage(tmp_path, "abc", hashlib.sha256(pickled).digest() + pickled)
    assert cache.load("abc") is None
    cache.hits = cache.misses = 0
    assert cache.load("abd") is None
    cache.save("abc", {"x": np.arange(3)})
    found = cache.load("abc")
    assert found is not None and found["x"].tolist() == [0, 1, 2] and (cache.hits, cache.misses) == (1, 1)
