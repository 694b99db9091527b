"""A model as ONNX: the same numbers as PyTorch's for other lengths than the example's, in both graphs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import adapler.export as module
from adapler import AdapLeRForSequenceClassification, ArgumentError, CheckpointError
from adapler.backbones.families import family_of, view
from adapler.calibration import CALIBRATION, read_calibration
from adapler.cli import main
from adapler.eraser import read_corpus
from adapler.export import ONE, PACKED, compare, export_onnx, run_graph
from adapler.inference import weights_checksum
from tests.adapler.curves import calibration
from tests.conftest import VOCABULARY, tiny_adapler
from tests.test_layering import ROOT

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CHECKPOINT = ROOT / "checkpoints" / "movies-minilm"
EVERYTHING_BUT_CLS = 1e6
SCALES = (0.0, 1.0, EVERYTHING_BUT_CLS)


def dropping(family: str = "bert", **options: Any) -> Any:
    """A tiny model that drops some tokens before each layer."""
    return tiny_adapler(family, **{"spread": 0.1, **options})


def drawn(lengths: list[int], *, seed: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def shallow(family: str = "bert", *, layers: int = 1, **options: Any) -> Any:
    """A model of fewer layers, whose graph is made in less time."""
    model = dropping(family, **options)
    encoder, name = view(model.backbone).encoder, family_of(model.backbone.config).layers_path
    encoder.set_submodule(name, view(model.backbone).layers[:layers])
    model.contribution_predictors = model.contribution_predictors[:layers]
    model.eta = torch.nn.Parameter(model.eta[:layers].detach().clone())
    model.num_layers = layers
    return model


def around() -> Any:
    """Two layers with predictors that see the text around: in the second one some neighbours have been dropped."""
    return shallow(layers=2, predictor="contextual", eta=0.6)


def session_of(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """A tiny BERT with AdapLeR in a folder."""
    folder = tmp_path_factory.mktemp("models") / "model"
    dropping().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    (folder / "run.json").write_text(
        json.dumps({"command": "train", "encoding": {"max_length": 30, "long_documents": "truncate", "stride": 0}})
    )
    return folder


@pytest.fixture(scope="module")
def exported(saved: Path) -> Path:
    folder = saved.parent / "onnx"
    assert main(["export", "--onnx", "--model", str(saved), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def of_around(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both graphs of `around`."""
    folder = tmp_path_factory.mktemp("around")
    for name in (ONE, PACKED):
        module._write_graph(around(), folder / name, packed=name == PACKED)
    return folder


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [ONE, PACKED])
def test_other_lengths_than_the_examples(exported: Path, name: str, scale: float) -> None:
    """Also a text of [CLS] alone, of the longest length, and texts of which nothing else is left."""
    model, texts = dropping(), drawn([1, 2, 3, 11, 40, 25, 2])
    types = [[k % 2 for k in range(len(ids))] for ids in texts]
    session = session_of(exported / name)
    difference, on_threshold = compare(model, session, texts, types=types, scale=scale, where=name)
    assert difference < 1e-5 and on_threshold == 0
    _, lengths = run_graph(session, texts, types=types, scale=scale)
    if scale == 0:
        assert (lengths == np.array([[len(ids)] * 3 for ids in texts])).all()
    elif scale == EVERYTHING_BUT_CLS:
        assert (lengths == 1).all()
    else:
        assert 40 > lengths[4, 0] > lengths[4, 1] > lengths[4, 2] > 1, "some tokens are dropped in each layer"


def test_a_batch_of_one_and_a_batch_of_many_say_which_tokens_stay(exported: Path) -> None:
    model, (text,) = dropping(), drawn([20])
    ids = np.array([text])
    feed = {"input_ids": ids, "token_type_ids": 0 * ids, "threshold_scale": np.array(1.0, dtype=np.float32)}
    _, _, retention = session_of(exported / ONE).run(None, feed)
    with torch.no_grad():
        out = model(torch.tensor([text]), removal="hard")
    assert (retention == out.retention_mask.numpy()).all()
    packed = session_of(exported / PACKED)
    alone, _ = run_graph(packed, [text])
    together, _ = run_graph(packed, [*drawn([5, 33], seed=2), text])
    np.testing.assert_allclose(together[2], alone[0], atol=1e-6)


def test_the_folder_says_how_to_run_it(exported: Path) -> None:
    about = json.loads((exported / "adapler.json").read_text())
    assert about["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"] and about["max_length"] == 40
    assert (
        about["encoding"] == {"max_length": 30, "long_documents": "truncate", "stride": 0}
        and about["precision"] == "float32"
    )
    for name, graph in about["graphs"].items():
        session = session_of(exported / name)
        assert [one.name for one in session.get_inputs()] == graph["inputs"]
        assert [one.name for one in session.get_outputs()] == graph["outputs"]
    assert {"tokenizer.json", "run.json"} <= {path.name for path in exported.iterdir()}


@pytest.mark.parametrize("name", [ONE, PACKED])
def test_nothing_is_added_to_one_place_by_several_threads(name: str, exported: Path, of_around: Path) -> None:
    """onnxruntime's ScatterND with a reduction loses some of it, now and then: a graph with one gave other logits."""
    for path in (exported / name, of_around / name):
        graph = onnx.load(path)
        nodes = [*graph.graph.node, *(node for function in graph.functions for node in function.node)]
        reductions = {(n.op_type, a.s) for n in nodes for a in n.attribute if a.name == "reduction"}
        assert {kind for _, kind in reductions} <= {b"none"}, reductions


def further(case: str) -> Any:
    """A case of a test that makes a graph for each: one of them is enough for the fast part."""
    return pytest.param(case, marks=pytest.mark.slow)


@pytest.mark.parametrize("family", [further("roberta"), further("electra"), "distilbert"])
def test_every_family(family: str, tmp_path: Path) -> None:
    model, path = shallow(family), tmp_path / PACKED
    module._write_graph(model, path, packed=True)
    session = session_of(path)
    for scale in SCALES:
        assert compare(model, session, drawn([2, 19, 38]), scale=scale, where=family)[0] < 1e-5


@pytest.mark.parametrize("family", ["mpnet", "modernbert"])
def test_a_backbone_that_no_graph_is_of_is_refused(family: str, tmp_path: Path) -> None:
    message = f"^--onnx: the backbone of this model is '{family}'; graphs are of bert, roberta, "
    with pytest.raises(ArgumentError, match=message):
        export_onnx(shallow(family), tmp_path / "out", tokenizer=None, record=tmp_path / "run.json")


@pytest.mark.parametrize("name", [ONE, PACKED])
def test_a_predictor_that_sees_the_text_around(name: str, of_around: Path, tmp_path: Path) -> None:
    """Its matrices stay exact in int8."""
    model, path = around(), tmp_path / name
    path.write_bytes((of_around / name).read_bytes())
    session, texts = session_of(path), drawn([1, 2, 3, 19, 38])
    for scale in SCALES:
        assert compare(model, session, texts, scale=scale, where=name)[0] < 1e-5
    _, lengths = run_graph(session, texts, types=None, scale=1.0)
    assert 38 > lengths[-1, 0] > lengths[-1, 1] > 1
    del session
    module._quantise(path)
    weights = {one.name: one.data_type for one in onnx.load(path).graph.initializer}
    predictors = [kind for name, kind in weights.items() if "predictors" in name]
    assert len(predictors) >= 8 and set(predictors) == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("name", [further(ONE), PACKED])
def test_a_layer_that_drops_nothing(name: str, tmp_path: Path) -> None:
    model, path, texts = shallow(layers=2, eta=0.6), tmp_path / name, drawn([1, 2, 19, 38])
    model.config.policy_options = {"first_layer": 1}
    module._write_graph(model, path, packed=name == PACKED)
    session = session_of(path)
    for scale in SCALES:
        assert compare(model, session, texts, scale=scale, where=name)[0] < 1e-5
        _, lengths = run_graph(session, texts, types=None, scale=scale)
        assert lengths[:, 0].tolist() == [1, 2, 19, 38]
    assert lengths[:, 1].tolist() == [1, 1, 1, 1], "of the last scale"


def test_int8_is_near_and_leaves_the_predictors_alone(exported: Path, tmp_path: Path) -> None:
    exact = session_of(exported / ONE)
    path = tmp_path / ONE
    path.write_bytes((exported / ONE).read_bytes())
    module._quantise(path)
    assert [one.name for one in tmp_path.iterdir()] == [ONE]
    texts = drawn([6, 30])
    logits, _ = run_graph(exact, texts, scale=0.0)
    rounded, _ = run_graph(session_of(path), texts, scale=0.0)
    assert 0 < abs(logits - rounded).max() < 0.2 * abs(logits).max()
    weights = {one.name: one.data_type for one in onnx.load(path).graph.initializer}
    int8 = [name for name, kind in weights.items() if name.endswith("_quantized")]
    assert len(int8) == 6 * 3, "query, key, value, output and two of the feed-forward in each of three layers"
    predictors = [kind for name, kind in weights.items() if "predictors" in name]
    assert len(predictors) >= 6 and set(predictors) == {onnx.TensorProto.FLOAT}


def test_a_graph_that_is_not_the_model_is_refused(exported: Path) -> None:
    session, texts = session_of(exported / ONE), drawn([30])
    other = dropping(seed=1)
    with pytest.raises(CheckpointError, match=f"^{ONE}: logits differ from PyTorch's by"):
        compare(other, session, texts, scale=0.0, where=ONE)
    with pytest.raises(CheckpointError, match=r"tokens enter layer \d of a text of 30, PyTorch keeps"):
        compare(other, session, texts, where=ONE)


def test_a_score_on_its_threshold_may_fall_either_way() -> None:
    """A graph that keeps one token less, of a model whose predictors give every token the same score."""
    model, (text,) = dropping(eta=1.0), drawn([10])
    with torch.no_grad():
        for predictor in model.contribution_predictors:
            predictor.score.weight.zero_()
        out = model(torch.tensor([text]), removal="hard")
    inputs = [SimpleNamespace(name=name) for name in ("input_ids", "threshold_scale")]
    graph = SimpleNamespace(get_inputs=lambda: inputs, run=lambda *_: (out.logits.numpy() + 1, np.array([[9, 9, 9]])))
    found = compare(model, graph, [text], where="a stand-in")
    assert found == (0.0, 1)


def test_errors(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_tokenizer: Any) -> None:
    command = ["export", "--model", str(saved), "--output", str(tmp_path / "out")]
    with pytest.raises(ArgumentError, match="^--int8: only with --onnx$"):
        main([*command, "--int8"])
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ArgumentError, match=r"^--onnx: onnxruntime is not installed; pip install 'adapler\[onnx\]'"):
        export_onnx(dropping(), tmp_path / "out", tokenizer=tiny_tokenizer, record=tmp_path / "run.json")
    assert not (tmp_path / "out").exists()


def test_the_example_of_the_documentation(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs neither torch nor this package, and says what `predict` says."""
    page = (ROOT / "docs" / "how-to" / "onnx.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert "torch" not in code and "import adapler" not in code
    (tmp_path / "movies-onnx").symlink_to(exported, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    expected = dropping().predict(names["texts"], tokenizer=AutoTokenizer.from_pretrained(exported))
    assert names["labels"] == [one.label for one in expected]
    assert [tuple(row) for row in names["lengths"]] == [one.lengths for one in expected]


def test_a_calibration_goes_along(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which threshold_scale gives which speedup, also to whoever runs the graph."""
    monkeypatch.setattr(module, "_write_graph", lambda adapler, path, packed: path.touch())
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: None)
    monkeypatch.setattr(module, "compare", lambda *_, **__: (0.0, 0))
    model = AdapLeRForSequenceClassification.from_pretrained(saved)
    model.calibration = calibration(model_checksum=weights_checksum(model))
    export_onnx(model, tmp_path / "out", tokenizer=AutoTokenizer.from_pretrained(saved), record=saved / "run.json")
    assert read_calibration(tmp_path / "out" / CALIBRATION) == model.calibration
    monkeypatch.setattr(module, "_quantise", lambda path: None)
    monkeypatch.setattr(module, "run_graph", lambda *_, **__: (np.zeros(1), None))
    options = {"tokenizer": AutoTokenizer.from_pretrained(saved), "record": saved / "run.json"}
    export_onnx(model, tmp_path / "rounded", int8=True, **options)
    assert not (tmp_path / "rounded" / CALIBRATION).exists(), "its scores are those of other weights"
    command = ["export", "--onnx", "--model", str(saved), "--output", str(tmp_path / "scaled")]
    assert main([*command, "--threshold-scale", "0.5"]) == 0
    assert json.loads((tmp_path / "scaled" / "run.json").read_text())["threshold_scale"] == 0.5


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "onnx"
    assert main(["export", "--onnx", "--model", str(CHECKPOINT), "--output", str(folder)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_embedded_model_keeps_the_same_tokens_of_real_documents(scale: float, embedded: Path) -> None:
    model = AdapLeRForSequenceClassification.from_pretrained(CHECKPOINT)
    tokenizer, session = AutoTokenizer.from_pretrained(CHECKPOINT), session_of(embedded / ONE)
    texts = [" ".join(document.words) for document in read_corpus(ROOT / "data" / "eraser" / "sample").splits["test"]]
    for ids in tokenizer(texts, truncation=True, max_length=512)["input_ids"]:
        feed = {"input_ids": np.array([ids]), "token_type_ids": np.zeros((1, len(ids)), dtype=np.int64)}
        logits, _, retention = session.run(None, {**feed, "threshold_scale": np.array(scale, dtype=np.float32)})
        with torch.no_grad():
            out = model(torch.tensor([ids]), removal="hard", threshold_scale=scale)
        np.testing.assert_allclose(logits, out.logits.numpy(), atol=1e-4)
        assert (retention == out.retention_mask.numpy()).all() and out.lengths[0, -1] < 0.8 * len(ids)


def test_the_largest_difference_of_all_scales_is_said(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_write_graph", lambda adapler, path, packed: path.touch())
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: None)
    found = {0.0: 1e-6, 1.0: 5e-5, 1e6: 2e-6}
    monkeypatch.setattr(module, "compare", lambda *_, scale, **__: (found[scale], 0))
    model, tokenizer = AdapLeRForSequenceClassification.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    made = module.export_onnx(model, tmp_path / "out", tokenizer=tokenizer, record=saved / "run.json")
    assert {difference for _, difference in made.values()} == {5e-5}
