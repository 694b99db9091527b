from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from adapler import precision
from adapler.backbones import view
from adapler.errors import ArgumentError, CheckpointError, DataError
from app.sources import loading


def test_arguments(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    folder = str(tmp_path)
    given = ["--checkpoints", folder, "--reports", folder, "--data", folder, "--data", folder, "--tradeoff", folder]
    got = loading.read_arguments(given)
    assert got == loading.Arguments((tmp_path,), (tmp_path,), (tmp_path, tmp_path), (tmp_path,))
    assert loading.read_arguments([]) == loading.Arguments()
    with pytest.raises(ArgumentError, match="--check x; allowed after -- are --checkpoints DIR"):
        loading.read_arguments(["--check", "x"])
    with pytest.raises(ArgumentError, match="--data: .*nowhere: no such file or folder"):
        loading.read_arguments(["--data", str(tmp_path / "nowhere")])
    for option in ("--checkpoints", "--reports", "--data", "--tradeoff"):
        with pytest.raises(ArgumentError, match=f"argument {option}: got an empty name; allowed after -- are "):
            loading.read_arguments([option, ""])
    assert loading.command(loading.Arguments()) == "streamlit run app/main.py"
    inside = loading.Arguments((loading.CHECKPOINTS,), data=(tmp_path,))
    said = "streamlit run app/main.py -- --checkpoints checkpoints --data DIR_OR_TAR"
    assert loading.command(inside) == said, "no folder outside the repository is named"
    (tmp_path / "rows.jsonl").write_text('{"tokens": ["a"], "label": "POS"}')
    with pytest.raises(ArgumentError, match="--data: .*rows.jsonl: not a corpus in ERASER layout: a folder with docs/"):
        loading.read_arguments(["--data", str(tmp_path / "rows.jsonl")])


def test_the_beginning_is_read_of_a_tokenizer_that_is_stored_to_cut_on_the_left(
    app_checkpoints: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(app_checkpoints / "tiny", tmp_path / "tiny")
    stored = folder / "tokenizer_config.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"truncation_side": "left"}))
    assert loading.read_checkpoint(folder).tokenizer.truncation_side == "right"


def test_menu_lists_adapler_models_only(app_checkpoints: Path, tmp_path: Path) -> None:
    assert list(loading.list_checkpoints([app_checkpoints])) == ["damaged", "tiny"]
    assert loading.list_checkpoints([app_checkpoints / "tiny"]) == {"tiny": app_checkpoints / "tiny"}
    (tmp_path / "movies-minilm").mkdir()
    (tmp_path / "movies-minilm" / "config.json").write_text("{ not json")
    names = list(loading.list_checkpoints([app_checkpoints, tmp_path]))
    assert names == ["movies-minilm", "damaged", "tiny"], "the default comes first, an unreadable one is listed"
    assert loading.list_checkpoints([tmp_path / "nowhere"]) == {}
    (tmp_path / "movies-minilm" / "config.json").write_text("[" * 200_000)
    assert list(loading.list_checkpoints([tmp_path])) == ["movies-minilm"], "brackets too deep for Python"
    with pytest.raises(CheckpointError, match="^movies-minilm: "):
        loading.find_checkpoint(loading.list_checkpoints([tmp_path]), "movies-minilm")


def test_a_half_written_folder_of_a_killed_process_is_no_checkpoint(app_checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(app_checkpoints / "tiny", tmp_path / "run" / "phi-1")
    for left in (".run.0123456789abcdef", "run/.phi-1.0123456789abcdef.old"):
        shutil.copytree(app_checkpoints / "tiny", tmp_path / left)
    assert loading.list_checkpoints([tmp_path]) == {"run/phi-1": tmp_path / "run" / "phi-1"}
    hidden = tmp_path / ".run.0123456789abcdef"
    assert list(loading.list_checkpoints([hidden])) == [hidden.name], "one that is named is meant"


def test_equal_names_in_two_folders_are_told_apart(app_checkpoints: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(app_checkpoints, tmp_path / "other"))
    found = loading.list_checkpoints([app_checkpoints, other])
    assert list(found) == ["damaged", "tiny", "damaged (2)", "tiny (2)"], "no path of the server is in a menu"


def test_a_folder_that_is_named_twice_is_listed_once(app_checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "again").symlink_to(app_checkpoints)
    found = loading.list_checkpoints([app_checkpoints, app_checkpoints / "tiny", tmp_path / "again"])
    assert list(found) == ["damaged", "tiny"]


def test_relative_folders_are_those_of_the_server_s_own_directory(
    app_checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job has another one, and messages may hold either form of a path."""
    monkeypatch.chdir(app_checkpoints.parent)
    arguments = loading.read_arguments(["--checkpoints", app_checkpoints.name])
    assert arguments.checkpoints == (app_checkpoints.resolve(),)
    with pytest.raises(ArgumentError, match="^--checkpoints: nothing: no such file or folder$"):
        loading.read_arguments(["--checkpoints", "/srv/secret/nothing"])


def test_messages_have_no_paths(app_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = app_checkpoints / "tiny"
    assert loading.without_path(f"{folder}/config.json: bad", folder, "tiny") == "tiny/config.json: bad"
    monkeypatch.chdir(folder)
    said = loading.without_path(f"{folder.resolve()}/model.safetensors: bad.", Path(), "tiny")
    assert said == "tiny/model.safetensors: bad.", "a dot is no name of a folder"


def test_a_corpus_that_is_written_anew_is_read_anew(app_corpus: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(app_corpus, tmp_path / "films"))
    before = loading.find_corpus({"films": folder}, "films")
    assert loading.find_corpus({"films": folder}, "films") is before
    split = folder / "test.jsonl"
    split.write_text("".join(split.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    assert len(loading.find_corpus({"films": folder}, "films").splits["test"]) == 2 < len(before.splits["test"])


def test_a_checkpoint_s_checksum_is_known_once_its_tokenizer_is_there(app_checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(app_checkpoints / "tiny", tmp_path / "tiny"))
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in folder.glob("*token*"):
        path.rename(aside / path.name)
    assert loading.adapler_checksum(folder) is None, "while it is being copied"
    for path in aside.iterdir():
        path.rename(folder / path.name)
    assert loading.adapler_checksum(folder) == loading.adapler_checksum(app_checkpoints / "tiny")


def test_checkpoint_is_loaded_once_until_it_is_written_anew(app_checkpoints: Path) -> None:
    first = loading.load_checkpoint(app_checkpoints / "tiny")
    assert loading.load_checkpoint(app_checkpoints / "tiny") is first
    assert not first.model.training
    keys = {first.key}
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        times = (app_checkpoints / "tiny" / name).stat()
        os.utime(app_checkpoints / "tiny" / name, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000_000))
        keys.add(loading.load_checkpoint(app_checkpoints / "tiny").key)
    assert len(keys) == 5


def test_a_checkpoint_in_another_format(app_checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    menu = loading.list_checkpoints([app_checkpoints])
    exact, fast = (loading.find_checkpoint(menu, "tiny", dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert exact is loading.find_checkpoint(menu, "tiny") and exact.exact is exact.model
    assert loading.find_checkpoint(menu, "tiny", dtype="bfloat16") is fast
    assert (exact.dtype, fast.dtype) == ("float32", "bfloat16") and fast.key != exact.key
    assert fast.exact is exact.model and fast.lock is exact.lock
    layer = next(view(fast.model.backbone).layers.parameters())
    assert layer.dtype == torch.bfloat16
    for has, expected in ((True, fast), (False, exact)):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, has=has: has)
        assert loading.find_checkpoint(menu, "tiny", dtype="auto") is expected
    loading._load_checkpoint.clear()  # as after three others
    again, faster = (loading.find_checkpoint(menu, "tiny", dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert again is not exact and faster.exact is again.model and faster.lock is again.lock


def test_damaged_checkpoint(app_checkpoints: Path) -> None:
    with pytest.raises(CheckpointError, match="^damaged") as caught:
        loading.find_checkpoint(loading.list_checkpoints([app_checkpoints]), "damaged")
    assert str(app_checkpoints) not in str(caught.value)


def test_a_tokenizer_of_another_model(app_checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(app_checkpoints / "tiny", tmp_path / "mixed")
    content = json.loads((tmp_path / "mixed" / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["film"] = 5000
    (tmp_path / "mixed" / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        CheckpointError, match="^mixed: its tokenizer gives ids up to 5000, but the model has"
    ) as caught:
        loading.find_checkpoint(loading.list_checkpoints([tmp_path]), "mixed")
    assert str(tmp_path) not in str(caught.value)


def test_corpora(app_corpus: Path, tmp_path: Path) -> None:
    found = loading.list_corpora([app_corpus, app_corpus, loading.CORPORA["Sample: invented films"]])
    assert list(found)[:2] == [app_corpus.name, "Sample: invented films"], "each once, the sample by its title"
    assert "test" in loading.find_corpus(found, app_corpus.name).splits
    (tmp_path / "docs").mkdir()
    with pytest.raises(DataError, match="^mine") as caught:
        loading.find_corpus({"mine": tmp_path}, "mine")
    assert str(tmp_path) not in str(caught.value)
