"""At which layer a method's rationales are written: one that is named, or the best one of another split's report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adapler import AdapLeRForSequenceClassification
from adapler.errors import ArgumentError
from analysis import rationale_eval
from analysis.evaluation.rationale_files import best_layers
from analysis.results.report import ReportData
from tests.analysis.evaluation.test_evaluation import run


def test_nobody_chose_a_layer(adapler_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="rationale_layer: which layer's rationales of 'saliency'"):
        run(adapler_folder, corpus_folder, methods=["saliency"], rationales=tmp_path / "out")
    layers = best_layers(run(adapler_folder, corpus_folder, methods=["saliency", "random"]))
    assert set(layers) == {"saliency", "random"} and all(0 <= layer < 3 for layer in layers.values())


def test_two_names_that_differ_in_case_are_one_file_on_some_machines(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    def ones(model: Any, batch: Any) -> Any:
        return batch.attention_mask[:, None].float().expand(-1, 3, -1)  # (B, L, N)

    def Ones(model: Any, batch: Any) -> Any:
        return 2 * batch.attention_mask[:, None].float().expand(-1, 3, -1)

    with pytest.raises(ArgumentError, match="^rationales: 'ones' and 'Ones' would be written to one file"):
        run(adapler_folder, corpus_folder, methods=[ones, Ones], rationales=tmp_path / "out", rationale_layer=0)


def test_layers_are_chosen_by_the_report_of_another_split(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    corpus_folder = Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))
    shutil.copy(corpus_folder / "test.jsonl", corpus_folder / "val.jsonl")
    out, methods = tmp_path / "out", ["saliency", "random"]
    test = run(adapler_folder, corpus_folder, methods=methods)
    test.to_json(tmp_path / "test" / "report.json")
    with pytest.raises(ArgumentError, match="is a report of 'test', the split that is evaluated"):
        run(adapler_folder, corpus_folder, methods=methods, rationales=out, rationale_layers=tmp_path / "test")
    renamed = Path(shutil.copytree(corpus_folder, tmp_path / "renamed"))
    with pytest.raises(ArgumentError, match="is a report of 'test', the split that is evaluated"):
        run(adapler_folder, renamed, methods=methods, rationales=out, rationale_layers=tmp_path / "test")
    validation = run(adapler_folder, corpus_folder, methods=methods, split="val")
    validation.to_json(tmp_path / "val" / "report.json")
    run(adapler_folder, corpus_folder, methods=methods, rationales=out, rationale_layers=tmp_path / "val")
    for method, layer in best_layers(validation).items():
        one = tmp_path / f"{method}-{layer}"
        run(adapler_folder, corpus_folder, methods=[method], rationales=one, rationale_layer=layer)
        assert (one / f"{method}.jsonl").read_text() == (out / f"{method}.jsonl").read_text()
    with pytest.raises(ArgumentError, match="^rationale_layers: none for 'attention', they name saliency, random; "):
        run(adapler_folder, corpus_folder, methods=["attention"], rationales=out, rationale_layers=tmp_path / "val")
    with pytest.raises(ArgumentError, match="rationale_layers: saliency has 7, the model has 0 to 2"):
        run(adapler_folder, corpus_folder, methods=["saliency"], rationales=out, rationale_layers={"saliency": 7})


def test_layers_of_another_model_are_refused_and_other_settings_said(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus_folder = Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))
    shutil.copy(corpus_folder / "test.jsonl", corpus_folder / "val.jsonl")
    evaluated = {"data": corpus_folder, "methods": ["saliency"], "metrics": ["average_precision"], "progress": False}
    model = AdapLeRForSequenceClassification.from_pretrained(adapler_folder).backbone
    with torch.no_grad():
        model.classifier.bias.add_(1)
    model.save_pretrained(tmp_path / "plain")
    cases: dict[str, dict[str, Any]] = {"other": {"model": tmp_path / "plain"}, "sum": {"aggregation": "sum"}}
    for name, options in (cases | {"short": {"max_length": 24}}).items():
        rationale_eval.evaluate(**{"adapler": adapler_folder} | evaluated | options, split="val").to_json(
            tmp_path / name / "report.json"
        )
    writes = evaluated | {"adapler": adapler_folder, "rationales": tmp_path / "out"}
    with pytest.raises(ArgumentError, match="other is a report of the model .*plain, and its best layers say nothing"):
        rationale_eval.evaluate(**writes, rationale_layers=tmp_path / "other")
    capsys.readouterr()
    rationale_eval.evaluate(**writes, rationale_layers=tmp_path / "sum")
    assert capsys.readouterr().err.endswith("sum has aggregation sum, here none\n")
    rationale_eval.evaluate(**writes, rationale_layers=tmp_path / "short")
    assert capsys.readouterr().err.endswith("short has max_length 24, here 64\n")
    with pytest.raises(ArgumentError, match="^rationale_layers: none for 'attention'"):
        rationale_eval.evaluate(**writes | {"methods": ["attention"]}, rationale_layers=tmp_path / "sum")
    assert "note: " not in capsys.readouterr().err, "an error stands alone"


def test_another_rule_for_annotators_makes_no_other_split(adapler_folder: Path, tmp_path: Path) -> None:
    marks = [[1, 1, 0], [0, 1, 0]]
    rows = [{"tokens": ["a", "dull", "film"], "label": label, "rationale": marks} for label in ("NEG", "POS")]
    data = tmp_path / "films.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {"methods": ["random"], "metrics": ["average_precision"]}
    run(adapler_folder, data, annotators="union", **options).to_json(tmp_path / "union" / "report.json")
    with pytest.raises(ArgumentError, match="is a report of 'test', the split that is evaluated"):
        run(adapler_folder, data, rationales=tmp_path / "out", rationale_layers=tmp_path / "union", **options)


def test_a_report_that_was_made_in_another_working_directory(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus_folder = Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))
    shutil.copy(corpus_folder / "test.jsonl", corpus_folder / "val.jsonl")
    options: dict[str, Any] = {"adapler": adapler_folder, "data": corpus_folder, "methods": ["random"]}
    options |= {"metrics": ["average_precision"], "progress": False}
    monkeypatch.chdir(tmp_path)
    rationale_eval.evaluate(**options, split="val").to_json(tmp_path / "val" / "report.json")
    monkeypatch.chdir(adapler_folder.parent.parent)
    rationale_eval.evaluate(**options, rationales=tmp_path / "out", rationale_layers=tmp_path / "val")
    assert (tmp_path / "out" / "random.jsonl").is_file()
    report = ReportData.from_json(tmp_path / "val" / "report.json")
    del report.meta["checksums"]  # as of an older version: its name alone tells the model
    report.meta["adapler"] = f"others/{report.meta['adapler']}"
    report.to_json(tmp_path / "val" / "report.json")
    with pytest.raises(ArgumentError, match="is a report of the adapler others/"):
        rationale_eval.evaluate(**options, rationales=tmp_path / "out", rationale_layers=tmp_path / "val")


def test_models_in_folders_of_one_name_are_told_apart_by_their_weights(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    corpus_folder = Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))
    shutil.copy(corpus_folder / "test.jsonl", corpus_folder / "val.jsonl")
    model = AdapLeRForSequenceClassification.from_pretrained(adapler_folder)
    with torch.no_grad():
        model.eta.mul_(0.5)
    other = Path(shutil.copytree(adapler_folder, tmp_path / "elsewhere" / adapler_folder.name))
    model.save_pretrained(other)
    options: dict[str, Any] = {"data": corpus_folder, "methods": ["random"], "metrics": ["average_precision"]}
    options |= {"progress": False}
    rationale_eval.evaluate(**options, adapler=adapler_folder, split="val").to_json(tmp_path / "val" / "report.json")
    writes = options | {"rationales": tmp_path / "out", "rationale_layers": tmp_path / "val"}
    with pytest.raises(
        ArgumentError, match="a report of the adapler (.*), and .* nothing of \\1, whose weights are oth"
    ):
        rationale_eval.evaluate(**writes, adapler=other)
    moved = shutil.copytree(adapler_folder, tmp_path / "moved")
    rationale_eval.evaluate(**writes, adapler=moved)
    assert (tmp_path / "out" / "random.jsonl").is_file()


def test_two_choices_of_layers_are_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="^rationale_layers: got layers, but rationale_layer names one, too"):
        rationale_eval.evaluate(
            data=tmp_path / "nowhere", rationales=tmp_path, rationale_layer=1, rationale_layers=tmp_path / "nowhere"
        )
