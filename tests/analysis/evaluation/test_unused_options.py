"""An option that nothing would look at is refused, and not passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis import rationale_eval
from analysis.evaluation.rationale_files import best_layers
from tests.analysis.sample_report import make_report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold_scale": 0.5}, "threshold_scale: got 0.5, but there is no AdapLeR model"),
        ({"rationale_layer": 1}, "rationale_layer: got 1, but no rationales are written"),
        ({"rationale_layers": {"random": 1}}, "rationale_layers: got layers, but no rationales are written"),
        (
            {"rationale_layers": {"random": 1}, "rationale_layer": 1, "rationales": "out"},
            "rationale_layers: got layers, but rationale_layer names one, too",
        ),
        ({"density": 0.3}, "density: got 0.3, but no metric and no rationale is of that size"),
        (
            {"density": 0.3, "metrics": ["token_f1_at_mean", "token_iou_at_mean"]},
            "density: got 0.3, but no metric and no rationale is of that size",
        ),
        (
            {"density": 0.3, "protocol": "eraser", "policy": "truncate", "metrics": ["auprc"]},
            "density: got 0.3, but no metric and no rationale is of that size",
        ),
        (
            {"faithfulness_layers": [0, 2]},
            "faithfulness_layers: got 0, 2, but no metric of faithfulness is asked for",
        ),
        (
            {"faithfulness_layers": [], "metrics": ["aopc_sufficiency"]},
            "faithfulness_layers: got none, at least one is needed",
        ),
        (
            {"faithfulness_variant": "mask"},
            "faithfulness_variant: got mask, but no metric of faithfulness is asked for",
        ),
        ({"methods": [], "rationales": "out", "rationale_layer": 0}, "rationales: are written of methods that a model"),
    ],
)
def test_what_nothing_looks_at_is_refused(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    if "rationales" in options:
        options = options | {"rationales": tmp_path / "out"}
    everything: dict[str, Any] = {
        "model": adapler_folder.parent / "plain",
        "data": corpus_folder,
        "methods": ["random"],
        "metrics": ["average_precision"],
        "predictions": {"given": {"neg_0": np.arange(8.0)}},
        "progress": False,
    }
    with pytest.raises(ArgumentError, match=f"^{message}"):
        rationale_eval.evaluate(**(everything | options))
    assert not (tmp_path / "out").exists()


def test_a_method_without_a_value_has_no_best_layer() -> None:
    report = make_report()
    report.values[0] = np.nan
    assert set(best_layers(report)) == set(report.methods[1:])


def test_a_given_density_leaves_the_note_on_a_measured_size(corpus_folder: Path) -> None:
    def notes(*metrics: str, **options: Any) -> list[str]:
        given: dict[str, Any] = {"predictions": {"given": {"neg_0": np.arange(8.0)}}, "methods": [], "progress": False}
        report = rationale_eval.evaluate(data=corpus_folder, metrics=metrics, **given, **options)
        return [note for note in report.meta["notes"] if "evaluated split itself" in note]

    assert len(notes("token_f1_at_mean")) == len(notes("f1_at_density")) == 1
    assert len(notes("token_f1_at_mean", "f1_at_density", density=0.3)) == 1
    assert notes("f1_at_density", density=0.3) == []


def test_what_something_looks_at_is_not(adapler_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": corpus_folder, "methods": ["random"], "max_length": 24, "progress": False}
    scaled = rationale_eval.evaluate(adapler=adapler_folder, threshold_scale=0.5, **options)
    assert scaled.meta["threshold_scale"] == 0.5
    sized = rationale_eval.evaluate(adapler=adapler_folder, density=0.3, metrics=["f1_at_density"], **options)
    assert sized.meta["selection"]["source"] == "given"
    folder = tmp_path / "out"
    rationale_eval.evaluate(adapler=adapler_folder, density=0.3, rationales=folder, rationale_layer=1, **options)
    assert [path.name for path in folder.iterdir()] == ["random.jsonl"]


def test_written_rationales_of_the_size_of_the_evaluated_split_are_noted(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"adapler": adapler_folder, "data": corpus_folder, "methods": ["random"]}
    options |= {"metrics": ["average_precision"], "progress": False, "rationale_layer": 1}
    for density, times in ((None, 1), (0.3, 0)):
        report = rationale_eval.evaluate(**options, rationales=tmp_path / "out", density=density)
        assert sum("evaluated split itself" in note for note in report.meta["notes"]) == times
