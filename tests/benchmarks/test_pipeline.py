"""The whole command on a tiny task: plan, runs, records, tables; killed and started again."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adapler import AdapLeRForSequenceClassification
from adapler.errors import AdapLeRError, ArgumentError, DataError
from adapler.inference.evaluation import evaluate_rows
from adapler.training.records import read_json, write_record
from benchmarks.tradeoff import measure
from benchmarks.tradeoff.__main__ import main
from benchmarks.tradeoff.data import coverage, data_of
from benchmarks.tradeoff.records import predictions
from benchmarks.tradeoff.systems import system_of
from benchmarks.tradeoff.work import locked
from tests.benchmarks.stand_ins import some_records, write
from tests.test_layering import ROOT


def test_from_nothing_to_the_table(
    place: list[str], calls: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, systems = tmp_path / "out", ["--systems", "finetuned", "adapler", "adapler-post-hoc"]
    assert main([*place, *systems, "--seeds", "1", "2", "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] + line.split()[4:6] for line in lines[1:-1]] == [
        [a, b, c, d]
        for d in ("1", "2")
        for a, b, c in (
            ("sst2", "24", "finetuned"),
            ("sst2", "24", "adapler-post-hoc"),
            ("sst2", "24", "adapler"),
        )
    ]
    assert lines[-1].startswith("6 runs, ") and calls == [] and not output.exists()

    assert main([*place, *systems]) == 0
    text = capsys.readouterr().out
    assert "runs left" in text and "3 of 3 runs done" in text
    table = pd.read_csv(output / "table.csv").set_index("system")
    assert list(table.index) == ["finetuned", "adapler", "adapler-post-hoc"]
    assert (table["coverage"] == "complete").all() and (table["test_examples"] == 14).all()
    assert table.loc["finetuned", "speedup"] == 1.0 and table.loc["finetuned", "speedup_padded"] > 1.5
    assert table.loc["finetuned", "epochs"] == 1 and table.loc["adapler", "epochs"] == 3
    assert len(predictions(output, "sst2").columns) >= 2 + 4

    # The same numbers as the library's own evaluation of the same model on the same rows.
    record = read_json(output / "records" / "tiny" / "sst2" / "adapler-0.1-seed-42.json")
    other = read_json(output / "records" / "tiny" / "sst2" / "finetuned-seed-42.json")
    assert record["classifier_checksum"] == other["model_checksum"] != record["model_checksum"]
    assert record["encoder_checksum"] == other["encoder_checksum"] is not None
    folder = tmp_path / "runs" / "tiny" / "sst2" / "seed-42" / "phi-0.1"
    own = json.loads((folder / "evaluation-test.json").read_text())["hard"][0]
    test = record["test"][0]
    assert (test["scale"], test["score"]) == (1.0, own["score"])
    assert test["speedup"] == pytest.approx(own["speedup"])
    assert test["speedup_executed"] == pytest.approx(own["speedup_executed"])
    assert record["recipe"]["epochs"] == 2 and record["changes"] == {} and record["epoch_flops"] > 0

    # Finished points are skipped without their weights, and the report is made again from records alone.
    shutil.rmtree(tmp_path / "runs")
    made = len(calls)
    before = (output / "table.csv").read_bytes()
    assert main([*place, *systems]) == 0 and main(["--report", "--output", str(output)]) == 0
    assert len(calls) == made and (output / "table.csv").read_bytes() == before
    assert "0 runs" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="--limit: 8 is asked for, .*seed-42.json is of None; use another --output"):
        main([*place, *systems, "--limit", "8"])

    # A new budget is one new point.
    recipe = tmp_path / "configs" / "sst2" / "adapler-post-hoc.yaml"
    recipe.write_text(recipe.read_text().replace("phi: 1.0e-2", "phi: [1.0e-2, 0.5]"), encoding="utf-8")
    assert main([*place, *systems]) == 0
    (run,) = [words for words in calls[made:] if words[:2] == ["adapler", "run"]]
    assert run[run.index("--phi") + 1] == "0.5" and "0.01" not in run
    assert (output / "records" / "tiny" / "sst2" / "adapler-post-hoc-0.5-seed-42.json").is_file()


def test_killed_between_measurement_and_record(
    place: list[str], calls: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is taken in by the next call, and test is not read again."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    words = [*place, "--systems", "finetuned", "--seeds", "3"]
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.tradeoff.work.collect", killed)
        with pytest.raises(KeyboardInterrupt):
            main(words)
    made = len(calls)
    assert made == 2 and not (tmp_path / "out").exists()
    (point,) = (tmp_path / "runs").rglob("*.point.json")
    kept = point.read_text(encoding="utf-8")
    write_record(point, read_json(point) | {"data_checksum": "of other rows"})
    with pytest.raises(ArgumentError, match=r"^--data: .*sst2 holds other rows than .*finetuned-seed-3.json is of"):
        main(words)
    assert point.is_file() and not (tmp_path / "out").exists()
    point.write_text(kept, encoding="utf-8")
    assert main(words) == 0 and len(calls) == made
    assert (tmp_path / "out" / "records" / "tiny" / "sst2" / "finetuned-seed-3.json").is_file()
    assert list((tmp_path / "runs").rglob("*.point.json")) == []


def test_a_run_that_fails_ends_no_other_and_a_variant_shares_the_classifier(
    place: list[str], calls: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "configs" / "sst2" / "adapler.yaml"
    recipe.write_text(recipe.read_text().replace("finetune_epochs: 1", "finetune_epochs: 3"), encoding="utf-8")
    options = ["--systems", "adapler", "adapler-wide", "--limit", "16", "--delete-weights"]
    assert main([*place, *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("failed: sst2, adapler-0.001-seed-42: ") and "adapler.log" in error
    assert error.count("epochs") == 2 and "; adapler-0.1-seed-42: " in error  # both points were tried
    run = tmp_path / "runs" / "tiny" / "sst2" / "seed-42"
    assert (run / "adapler-wide" / "finetuned").resolve() == (run / "finetuned").resolve()
    assert len([words for words in calls if words[:2] == ["adapler", "finetune"]]) == 1
    assert (run / "finetuned" / "model.safetensors").is_file()
    assert not (run / "adapler-wide" / "phi-0.001").exists()
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("system")
    assert list(table.index) == ["finetuned", "adapler-wide"] and (table["coverage"] == "subset").all()


def test_options_that_learn_the_same_have_targets_made_once(
    place: list[str], calls: list[list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "configs" / "sst2"
    wide = (folder / "adapler-wide.yaml").read_text()
    (folder / "adapler-narrow.yaml").write_text(wide.replace("hidden_size: 8", "hidden_size: 4"))
    (folder / "adapler-zoom.yaml").write_text(f"{wide}target_logit: predicted\n")
    assert main([*place, "--systems", "adapler-narrow", "adapler-wide", "adapler-zoom"]) == 0
    run = tmp_path / "runs" / "tiny" / "sst2" / "seed-42"
    narrow, wide_one, zoom = (run / f"adapler-{name}" / "saliency" for name in ("narrow", "wide", "zoom"))
    assert wide_one.is_symlink() and wide_one.resolve() == narrow.resolve() and not zoom.is_symlink()
    costs = [
        read_json(tmp_path / "out" / "records" / "tiny" / "sst2" / f"adapler-{name}-0.001-seed-42.json")["cost"]
        for name in ("narrow", "wide")
    ]
    seconds = read_json(narrow / "run.json")["seconds"] + read_json(run / "finetuned" / "run.json")["seconds"]
    for cost in costs:
        assert cost["minutes"] - cost["own_minutes"] == pytest.approx(seconds / 60)


def test_a_point_is_read_as_the_library_reads_it(place: list[str], calls: list[list[str]], tmp_path: Path) -> None:
    """Scales of validation, and the predictions that are kept, against evaluate_rows."""
    assert main([*place, "--systems", "adapler-post-hoc"]) == 0
    record = read_json(tmp_path / "out" / "records" / "tiny" / "sst2" / "adapler-post-hoc-0.01-seed-42.json")
    run = tmp_path / "runs" / "tiny" / "sst2" / "seed-42"
    job = read_json(run / "points" / "adapler-post-hoc.job.json")
    prepared = measure.prepare_run(job, system_of("adapler-post-hoc"))
    model = AdapLeRForSequenceClassification.from_pretrained(run / "phi-0.01-post-hoc").eval()
    for split, rows in (("validation", record["validation"]), ("test", record["test"])):
        own = evaluate_rows(
            model,
            prepared.encoded[split],
            pad_token_id=prepared.tokenizer.pad_token_id,
            threshold_scales=[row["scale"] for row in rows],
        )
        for row, expected in zip(rows, own["hard"], strict=True):
            assert row["score"] == expected["score"]
            assert row["speedup"] == pytest.approx(expected["speedup"])
    assert len({row["speedup"] for row in record["validation"]}) > 2, "the scales drop the same tokens"
    kept = predictions(tmp_path / "out", "sst2")
    column = kept["tiny/adapler-post-hoc-0.01-seed-42@1"]
    assert (column == kept["label"]).mean() == pytest.approx(record["test"][0]["score"])


def test_further_seeds_for_short_runs_only(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*place, "--systems", "finetuned", "adapler", "--seeds", "1", "2", "--plan", "--further-seeds-below"]
    assert main([*words, "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 runs")
    assert main([*words, "1e9"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("4 runs")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "x"], "--tasks: 'x' is not one of sst2, mrpc"),
        (["--systems", "x"], "--systems: 'x' is not one of finetuned"),
        (["--jobs", "0"], "--jobs: 0 is not at least 1"),
        (["--data", "x=y"], "--data: 'x=y' is not TASK=PATH"),
        (["--max-drop", "2"], "--max-drop: 2.0 is not a number from 0 to 1"),
        (["--backbone-name", "a/b"], "--backbone-name: 'a/b' is no name of a folder"),
        (["--backbone-name", ".."], "--backbone-name: '..' is no name of a folder"),
        (["--seeds", "1", "-1"], "--seeds: -1 is not between 0 and 4294967295"),
        (["--output", __file__], "--output: .* cannot be a folder, .* is a file"),
        (["--tasks", "mrpc"], "data: no mrpc, and not one folder mrpc_*"),
        (["--systems", "power"], "power.yaml: no recipe for power on sst2"),
    ],
)
def test_bad_input_is_one_line(place: list[str], words: list[str], message: str) -> None:
    with pytest.raises(AdapLeRError, match=message):
        main([*place, *words, "--plan"])


def test_a_folder_of_runs_that_is_a_file_is_one_line(place: list[str]) -> None:
    with pytest.raises(ArgumentError, match=r"^--runs: .* cannot be a folder to write in \(File exists\)"):
        main([*place, "--systems", "finetuned", "--runs", __file__])


def test_what_was_run_on_other_rows_or_with_another_drop_needs_an_output_of_its_own(
    place: list[str], tmp_path: Path
) -> None:
    """A subset's training rows may have the whole task's test, which the predictions are checked by."""
    write(tmp_path / "out", [one | {"data_checksum": "of other rows"} for one in some_records()])
    with pytest.raises(ArgumentError, match=r"^--data: .*sst2 holds other rows than .*seed-1.json is of; use another"):
        main([*place, "--systems", "adapler", "--plan"])
    with pytest.raises(ArgumentError, match=r"^--max-drop: 0.05 is asked for, .*seed-1.json is of 0.01"):
        main(["--report", "--output", str(tmp_path / "out"), "--max-drop", "0.05"])
    assert not (tmp_path / "out" / "table.csv").exists()


def test_where_a_task_lies(tmp_path: Path) -> None:
    for name in ("mnli_dev", "movies.tar.gz", "imdb_a", "imdb_b"):
        (tmp_path / name).mkdir()
    assert data_of("mnli", root=tmp_path, given={}) == str(tmp_path / "mnli_dev")
    assert data_of("movies", root=tmp_path, given={}) == str(tmp_path / "movies.tar.gz")
    assert data_of("sst2", root=None, given={}) == "sst2"
    assert data_of("sst2", root=tmp_path, given={"sst2": "x"}) == "x"
    with pytest.raises(DataError, match="not one folder imdb_.*, but imdb_a, imdb_b"):
        data_of("imdb", root=tmp_path, given={})
    assert coverage("movies", str(tmp_path), {"train": 1600, "test": 199}, limit=None) == "complete"
    assert coverage("movies", str(tmp_path), {"train": 1600, "test": 199}, limit=100) == "subset"
    assert coverage("sst2", str(tmp_path), {"train": 9, "test": 9}, limit=None) == "as given"
    assert coverage("sst2", "sst2", {"train": 9, "test": 9}, limit=None) == "complete"


def test_the_runs_folder_is_locked_as_long_as_a_run_lives(tmp_path: Path) -> None:
    """Also when the benchmark that started it is gone."""
    with locked(tmp_path) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
        with pytest.raises(ArgumentError, match="is in use by another benchmark"), locked(tmp_path):
            pass
    with pytest.raises(ArgumentError, match="or by a run that one left"), locked(tmp_path):
        pass
    child.communicate(b"\n")
    with locked(tmp_path) as lock:
        assert fcntl.fcntl(lock, fcntl.F_GETFD) is not None


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_children_are_ended_with_their_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"""
import signal, sys, threading
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.tradeoff.work import Children, locked
with locked(Path({str(tmp_path)!r})) as lock:
    children = Children(lock)
    words = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    thread = threading.Thread(target=lambda: print(children.call(words, log=Path({str(log)!r}))))
    thread.start()
    input()
    children.stop()
    thread.join()
    print(children.call(words, log=Path({str(log)!r})))
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_until(lambda: log.is_file() and b"\nup" in log.read_bytes())
    out, _ = parent.communicate(b"\n", timeout=60)
    assert out.split() == [b"-15", b"-15"] and parent.returncode == 0  # the second one was not started
