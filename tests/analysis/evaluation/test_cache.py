from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapler.errors import ArgumentError
from analysis import rationale_eval
from analysis.documents.alignment import align
from analysis.documents.units import WindowScores
from analysis.documents.windows import Window
from analysis.evaluation import faithfulness, plan, scoring
from analysis.evaluation.cache import ScoreCache, default_folder, entries, fingerprints
from analysis.evaluation.cache.entries import adapler_entry, method_entry
from analysis.evaluation.cache.fingerprints import (
    ROOT,
    code_fingerprint,
    facts_key,
    method_fingerprint,
    model_fingerprint,
    window_key,
)
from analysis.evaluation.settings import Settings
from analysis.output.report import RationaleReport
from analysis.scores import LayerScores, base, get_method, registry, scoring_method
from tests.analysis.conftest import GOOD, Document, tiny_bert

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

    @scoring_method("flat", paper="none")
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

    scoring_method("flat", paper="none")(make(1.0))
    for _ in range(2):
        assert run(methods=["flat"]).run_facts["computed"] in (16, 6)
    typed: dict[str, Any] = {"__name__": "__main__"}
    exec("def typed(model, batch): pass", typed)
    assert method_fingerprint(make(2.0)) is None
    assert method_fingerprint(typed["typed"]) is None
    assert method_fingerprint(test_keys) is not None


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our packages, to edit."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("adapler", "analysis"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


SALIENCY, CP = "analysis.scores.gradient.saliency", "analysis.scores.contribution"
ADAPLER, FAITHFUL = "adapler.model.modeling", "analysis.metrics.faithfulness"


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        # the code of a method, of what it calls, of the model, of a metric
        ("analysis/scores/gradient/saliency.py", "product_norm", "product_sum", {SALIENCY}),
        ("analysis/scores/shared/gradients.py", "abs()", "square()", {SALIENCY}),
        ("analysis/scores/base.py", "clamp_min", "clamp_max", {SALIENCY, CP}),
        ("adapler/model/contribution.py", "torch", "torch  # another word\ntorch = torch\nimport torch", {CP, ADAPLER}),
        ("adapler/backbones/attention.py", "import torch", "import torch\nX = 7", {ADAPLER}),
        ("analysis/metrics/faithfulness.py", "import math", "import math\nX = 7", {FAITHFUL}),
        # metrics, help texts, docstrings, comments, figures and the app change no score
        ("analysis/metrics/plausibility.py", "import numpy", "X = 7\nimport numpy", {FAITHFUL}),
        ("analysis/metrics/selection.py", "import numpy", "X = 7\nimport numpy", {FAITHFUL}),
        ("analysis/metrics/curves.py", "import numpy", "X = 7\nimport numpy", set()),
        ("adapler/cli/parser.py", "help=", "help='another text' or ", set()),
        ("analysis/command/options.py", "help=", "help='another text' or ", set()),
        ("analysis/figures/style.py", "import annotations", "import annotations\nX = 7", set()),
        ("analysis/scores/gradient/saliency.py", '"""', '"""Other words. ', set()),
        ("analysis/scores/gradient/saliency.py", "from __future__", "# a comment\n\nfrom __future__", set()),
    ],
)
def test_the_code_that_makes_a_value_is_in_its_key(
    tree: Path, file: str, old: str, new: str, changed: set[str]
) -> None:
    modules = (SALIENCY, CP, ADAPLER, FAITHFUL)

    def all_of_them() -> dict[str, str]:
        fingerprints._code_fingerprint.cache_clear()
        return {module: code_fingerprint(module, root=tree) for module in modules}

    before, path = all_of_them(), tree / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        after = all_of_them()
    finally:
        path.write_text(text, encoding="utf-8")
    assert {module for module in modules if before[module] != after[module]} == changed
    assert all_of_them() == before


def test_another_version_of_a_library_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    lime, saliency = "analysis.scores.perturbation.lime", SALIENCY
    before = {module: code_fingerprint(module) for module in (lime, saliency)}
    version = fingerprints._version
    for library, changed in (("torch", {lime, saliency}), ("transformers", {lime, saliency}), ("captum", {lime})):
        fingerprints._code_fingerprint.cache_clear()
        monkeypatch.setattr(fingerprints, "_version", lambda n, other=library: "99" if n == other else version(n))
        after = {module: code_fingerprint(module) for module in (lime, saliency)}
        assert {module for module in after if after[module] != before[module]} == changed, library
    fingerprints._code_fingerprint.cache_clear()


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
    "name", [name for name in registry.method_names() if get_method(name).reads != set(base.READS)]
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
    damage(tmp_path, "abc", (tmp_path / "pickled.npz").read_bytes())
    assert cache.load("abc") is None
    cache.hits = cache.misses = 0
    assert cache.load("abd") is None
    cache.save("abc", {"x": np.arange(3)})
    found = cache.load("abc")
    assert found is not None and found["x"].tolist() == [0, 1, 2] and (cache.hits, cache.misses) == (1, 1)


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


@pytest.mark.parametrize("name", ["logits", "lengths", "retention"])
def test_each_part_of_a_pass_of_adapler_has_to_fit(name: str) -> None:
    arrays = {"logits": np.zeros(2), "lengths": np.zeros(3), "retention": np.zeros((3, 5), dtype=bool)}
    entry = adapler_entry(3)
    assert entry.fits(arrays, 5)
    assert not entry.fits({other: value for other, value in arrays.items() if other != name}, 5)
    assert not entry.fits(arrays | {name: np.concatenate([arrays[name], arrays[name]])[None]}, 5)
    if name != "logits":  # of another model
        assert not entry.fits(arrays | {name: np.concatenate([arrays[name], arrays[name]])}, 5)
