"""Scores on disk: what they depend on, and that a second run asks no model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis import faithfulness, rationale_eval, scoring
from analysis.corpus import align
from analysis.scores import get_method
from analysis.scoring import ScoreFile, Settings, file_name, model_hash, window_key
from tests.analysis.conftest import GOOD, Document
from tests.analysis.test_evaluate import films, run, same

FACTS = {"of": "model", "method": "saliency"}


def test_a_file_keeps_what_was_put_and_a_damaged_one_is_computed_again(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path, "saliency-test", FACTS)
    arrays = {"scores": np.arange(6, dtype=np.float32).reshape(2, 3), "signed": np.array(False)}
    assert file.get("a") is None
    file.put("a", arrays)
    file.save()
    again = ScoreFile(tmp_path, "saliency-test", FACTS)
    found = again.get("a")
    assert found is not None and found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    again.put("b", arrays)
    again.save()
    assert ScoreFile(tmp_path, "saliency-test", FACTS).get("a") is not None, "a sample and the whole split share a file"
    assert ScoreFile(tmp_path, "saliency-test", FACTS | {"of": "another"}).get("a") is None
    assert file.path is not None
    file.path.write_bytes(file.path.read_bytes()[:-40])
    assert ScoreFile(tmp_path, "saliency-test", FACTS).get("a") is None
    assert file_name("lime(n_samples=100)") == "lime-n_samples=100"


def test_a_window_s_key(tiny_tokenizer: Any) -> None:
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    other = replace(window, input_ids=window.input_ids + 1)
    joined = replace(window, words=np.where(window.words == 1, -1, window.words))
    typed = replace(window, token_type_ids=np.zeros(len(window), dtype=np.int64))
    keys = [window_key(one) for one in (window, other, joined, typed)] + [window_key(window, seed=1)]
    assert len(set(keys)) == 5 and window_key(window) == window_key(replace(window, id="another"))


def test_a_model_s_hash(classifier: Any) -> None:
    before = model_hash(classifier)
    with torch.no_grad():
        classifier.bert.pooler.dense.bias[0] += 1
    assert before != model_hash(classifier) != None  # noqa: E711
    handle = classifier.bert.register_forward_hook(lambda *_: None)
    assert model_hash(classifier) is None, "what a hook does cannot be known"
    handle.remove()
    assert model_hash(classifier) is not None
    classifier.classifier = type("Mine", (torch.nn.Linear,), {})(16, 2)
    assert model_hash(classifier) is None


@pytest.mark.parametrize(
    "change",
    [
        {"threshold_scale": 0.5},
        {"seed": 3},
        {"dtype": "bfloat16"},
    ],
)
def test_what_a_score_depends_on(
    change: dict[str, Any], adapler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, options = films(tmp_path / "films"), {"methods": ["saliency", "cp", "random"], "cache": tmp_path / "cache"}
    first = run(adapler_folder, data, **options)
    assert first.run_facts["from_cache"] == 0 and first.run_facts["computed"] == 6 * 5
    asked: list[str] = []
    put = ScoreFile.put
    monkeypatch.setattr(
        ScoreFile, "put", lambda self, *args: asked.append(self.path.name.split("-")[0]) or put(self, *args)
    )
    again = run(adapler_folder, data, **options)
    assert not asked and again.run_facts["from_cache"] == 30
    same(again, first, atol=0)
    fewer = run(adapler_folder, data, limit=2, **options)
    assert not asked and len(fewer.meta["documents"]) == 2
    run(adapler_folder, data, **options, **change)
    expected = {"threshold_scale": {"cp", "adapler"}, "seed": {"random"}}
    assert set(asked) == expected.get(next(iter(change)), {"saliency", "cp", "random", "classifier", "adapler"})
    monkeypatch.setattr(scoring, "code_hash", lambda: "other code")
    asked.clear()
    run(adapler_folder, data, **options)
    assert len(set(asked)) == 5


def test_faithfulness_is_kept_too(adapler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = films(tmp_path / "films")
    options: dict[str, Any] = {"methods": ["saliency"], "metrics": ["aopc_comprehensiveness"], "cache": tmp_path / "c"}
    first = run(adapler_folder, data, **options)
    monkeypatch.setattr(faithfulness, "version_logits", lambda *_, **__: pytest.fail("the model is asked again"))
    same(run(adapler_folder, data, **options), first, atol=0)


def test_a_method_of_one_s_own_is_not_kept(adapler_folder: Path, tmp_path: Path) -> None:
    calls = []

    def mine(model: Any, batch: Any) -> Any:
        calls.append(1)
        return batch.attention_mask.float()

    data, options = films(tmp_path / "films"), {"methods": [mine], "metrics": ["roc_auc"], "cache": tmp_path / "cache"}
    run(adapler_folder, data, **options)
    once = len(calls)
    run(adapler_folder, data, **options)
    assert len(calls) == 2 * once


def test_a_run_that_is_stopped_keeps_what_it_has(
    adapler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, options = films(tmp_path / "films"), {"methods": ["saliency"], "cache": tmp_path / "cache"}
    monkeypatch.setattr(rationale_eval, "CHUNK_TOKENS", 25)
    put, calls = ScoreFile.put, []

    def stopped(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return put(*args)

    monkeypatch.setattr(ScoreFile, "put", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(adapler_folder, data, **options)
    monkeypatch.setattr(ScoreFile, "put", put)
    resumed = run(adapler_folder, data, **options)
    assert resumed.run_facts["from_cache"] > 0
    same(resumed, run(adapler_folder, data, methods=["saliency"]), atol=0)


def test_a_scorer_of_one_window(reducer: Any, tiny_tokenizer: Any) -> None:
    """As `explain` uses it: no files, no corpus."""
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    method = get_method("saliency")
    scorer = scoring.Scorer(reducer.backbone, reducer, tiny_tokenizer, Settings(), {method.key: method})
    (found,) = scorer.score([window])
    assert found.scores["saliency"].scores.shape == (3, len(window)) and found.retention is not None
