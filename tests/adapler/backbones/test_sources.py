"""Names of models: one look at the hub, the cache where that is enough, and one line for what is nowhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoModelForSequenceClassification

from adapler import AdapLeRForSequenceClassification, ArgumentError, CheckpointError
from adapler.backbones import sources
from adapler.backbones.checkpoints import load_classifier
from adapler.backbones.sources import find_model, read_config
from tests.adapler.backbones.folders import one_line
from tests.conftest import tiny_adapler

COMMIT = "c" * 40


class Hub:
    """Stands in for the hub's metadata request and keeps what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.calls = answer, []

    def __call__(self, url: str, *, token: Any = None) -> Any:
        self.calls.append((url, token))
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(commit_hash=self.answer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """make(answer) installs a Hub; nothing else can reach the network."""

    def make(answer: Any, *, offline: bool = False) -> Hub:
        stand_in = Hub(answer)
        monkeypatch.setattr(sources, "get_hf_file_metadata", stand_in)
        monkeypatch.setattr(sources, "is_offline_mode", lambda: offline)
        return stand_in

    monkeypatch.chdir(tmp_path)
    return make


def http_error(kind: Any) -> Exception:
    """An error of the hub's, without the HTTP response that its constructor wants."""
    error: Exception = kind.__new__(kind)
    return error


def cached(folder: Path, *, name: str = "owner/model", revision: str = "main", subfolder: str = "") -> Path:
    """A hub cache that holds what a folder holds."""
    repository = folder / ("models--" + name.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT, encoding="utf-8")
    target = repository / "snapshots" / COMMIT / subfolder
    target.parent.mkdir(parents=True, exist_ok=True)
    tiny_adapler().save_pretrained(target)
    return folder


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            http_error(RepositoryNotFoundError),
            r"^owner/model: neither a folder here nor a model on the hub \(for a priv",
        ),
        (http_error(GatedRepoError), "^owner/model: on the hub, but only for accounts that were let in; pass token=$"),
        (http_error(RevisionNotFoundError), "^owner/model: has no revision 'v2' on the hub$"),
        (http_error(RemoteEntryNotFoundError), "^owner/model: has no config.json on the hub, so it is not a model$"),
        (OSError("no route"), r"^owner/model: neither a folder here nor in the local cache, and the hub cannot be rea"),
        (RuntimeError("timed out"), r"cannot be reached \(RuntimeError: timed out\)$"),
    ],
)
def test_a_name_that_is_nowhere_is_asked_for_once(answer: Exception, message: str, hub: Any, tmp_path: Path) -> None:
    for loader in (read_config, load_classifier, AdapLeRForSequenceClassification.from_pretrained):
        stand_in = hub(answer)
        with pytest.raises(CheckpointError, match=message):
            loader("owner/model", revision="v2", token="secret", cache_dir=tmp_path)
        assert stand_in.calls == [("https://huggingface.co/owner/model/resolve/v2/config.json", "secret")]


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_offline_nothing_is_asked(how: str, hub: Any, tmp_path: Path) -> None:
    stand_in = hub(OSError("must not be asked"), offline=how == "environment")
    options: dict[str, Any] = {"cache_dir": tmp_path, "local_files_only": how == "argument"}
    why = "HF_HUB_OFFLINE" if how == "environment" else "local_files_only"
    with one_line(f"owner/model: neither a folder here nor in the local cache, and no hub is asked: {why} is set"):
        read_config("owner/model", **options)
    assert read_config("owner/model", **{**options, "cache_dir": cached(tmp_path / "hub")}).model_type == "adapler"
    assert stand_in.calls == []


def test_a_cached_model_needs_no_hub(hub: Any, tmp_path: Path) -> None:
    stand_in = hub(OSError("no route"))
    model = AdapLeRForSequenceClassification.from_pretrained("owner/model", cache_dir=cached(tmp_path / "hub"))
    assert torch.equal(model.eta, tiny_adapler().eta) and len(stand_in.calls) == 1


def test_hub_arguments_reach_configuration_and_weights(hub: Any, tmp_path: Path) -> None:
    """B8: a subfolder and a revision other than main."""
    folder = cached(tmp_path / "hub", revision="v2", subfolder="inner")
    stand_in = hub(COMMIT)
    options: dict[str, Any] = {"subfolder": "inner", "revision": "v2", "token": "secret", "cache_dir": folder}
    assert find_model("owner/model", **options) == {**options, "revision": COMMIT}
    assert stand_in.calls == [("https://huggingface.co/owner/model/resolve/v2/inner/config.json", "secret")]
    hub(OSError("no route"))
    model = AdapLeRForSequenceClassification.from_pretrained("owner/model", **options)
    assert torch.equal(model.eta, tiny_adapler().eta)
    with one_line("already is an AdapLeR model"):
        AdapLeRForSequenceClassification.from_backbone("owner/model", **options)


def test_subfolders_of_a_folder(tiny_classifier_folder: Path, hub: Any, tmp_path: Path) -> None:
    stand_in = hub(OSError("must not be asked"))
    shutil.copytree(tiny_classifier_folder, tmp_path / "outer" / "inner")
    tiny_adapler().save_pretrained(tmp_path / "outer" / "reduced")
    model = AdapLeRForSequenceClassification.from_backbone(tmp_path / "outer", subfolder="inner")
    assert model.config.id2label == {0: "NEG", 1: "POS"}
    AdapLeRForSequenceClassification.from_pretrained(tmp_path / "outer", subfolder="reduced")
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "outer", subfolder="reduced")
    with one_line("outer/nothing: no config.json in this folder"):
        AdapLeRForSequenceClassification.from_pretrained(tmp_path / "outer", subfolder="nothing")
    assert stand_in.calls == []


def test_names_that_the_hub_does_not_allow(hub: Any) -> None:
    stand_in = hub(OSError("must not be asked"))
    with one_line("no such--name: neither a folder here nor a name that the hub allows"):
        read_config("no such--name")
    assert stand_in.calls == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "wide"}, "cannot read its config.json: .*'hidden_size' expected int, got str"),
        ({"dtype": "float99"}, "cannot read its config.json: dtype: 'float99' is not the name of a torch dtype"),
        ({"architectures": 5}, "cannot read its config.json: architectures: 5 is not a list of names"),
        ({"id2label": "NEG"}, "cannot read its config.json: id2label: 'NEG' is not a mapping"),
        ({"id2label": {"0": ["NEG"]}}, r"cannot read its config.json: id2label: label 0 is \['NEG'\], no name"),
        ({"model_type": ["bert"]}, r"cannot read its config.json: model_type: \['bert'\] is not known to transformers"),
        ({"num_hidden_layers": -1}, "its config.json: num_hidden_layers: -1 is not a whole number of at least 1"),
        ({"num_attention_heads": 3}, "its config.json: num_attention_heads: 3 does not divide hidden_size, 16"),
        ({"hidden_dropout_prob": 1.5}, r"its config.json: hidden_dropout_prob: 1.5 is not in \[0, 1\]"),
        ({"layer_norm_eps": float("nan")}, "its config.json: layer_norm_eps: nan is not a finite number"),
        ({"pad_token_id": 999}, "its config.json: pad_token_id: 999 is not an id of the vocabulary"),
        (
            {"id2label": {"0": "x", "2": "y"}},
            "its config.json: id2label: has names for the labels 0, 2; the classifier's are 0 to 1$",
        ),
        ({"id2label": {"0": "x", "1": "x"}}, "its config.json: id2label: labels 0 and 1 are both called 'x'$"),
        ({"num_labels": 1, "id2label": {"0": "x"}, "label2id": {"x": 0}}, "its config.json: num_labels: 1 is not at"),
        ({"problem_type": "regression"}, "its config.json: problem_type: 'regression' is not supported"),
        ({"problem_type": "multi_label_classification"}, "its config.json: problem_type: 'multi_label_classification'"),
    ],
)
def test_the_message_names_file_and_field(
    change: dict[str, Any], message: str, tiny_classifier_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_classifier_folder, tmp_path / "copy"))
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**fields, **change}), encoding="utf-8")
    with one_line(f"copy: {message}"):
        load_classifier(folder)


def test_from_backbone_refuses_what_it_does_not_know(tiny_classifier_folder: Path) -> None:
    with pytest.raises(ArgumentError, match="^num_label: not an argument of from_backbone"):
        AdapLeRForSequenceClassification.from_backbone(tiny_classifier_folder, num_label=3)
