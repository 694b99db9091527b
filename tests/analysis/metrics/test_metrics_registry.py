from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis.metrics import plausibility as pl
from analysis.metrics.plausibility import METRICS, Unit, compute, get_metric, metric_names

PURE = [name for name, metric in METRICS.items() if metric.function is not None]


def unit(labels: Any, scores: Any, **options: Any) -> Unit:
    n = len(labels)
    defaults = {"n_input": n + 2, "n_present": n + 2, "density": 0.25, "size": 2.0}
    return Unit(np.array(labels, dtype=bool), np.array(scores, dtype=float), **(defaults | options))


def values(one: Unit) -> dict[str, float]:
    return dict(zip(PURE, compute(PURE, one), strict=True))


def test_every_metric_by_hand() -> None:
    # 8 content tokens; 1/n = 1/10, present 1/5, content: renormalised by .8, 1/8 -> .1 of the raw scores
    one = unit(
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0.3, 0.05, 0.0, 0.15, 0.09, 0.09, 0.06, 0.06],
        n_input=10,
        n_present=5,
        density=0.3,
    )
    result = values(one)
    assert set(result) == set(PURE)
    for variant, tp, fp in (("", 1, 1), ("_present", 1, 0), ("_content", 1, 1)):
        expected = {
            "tpr": tp / 3,
            "fpr": fp / 5,
            "j": tp / 3 - fp / 5,
            "precision": tp / (tp + fp),
            "f1": 2 * tp / (2 * tp + fp + 3 - tp),
        }
        found = {name: result[name + variant] for name in expected if not variant or name in ("tpr", "fpr", "j")}
        assert found == pytest.approx({name: expected[name] for name in found})
    # k = 3: one sure hit, one sure miss, then one of two ties with no hit; ceil(.3 · 8) = 3 as well
    assert result["f1_at_k"] == result["f1_at_density"] == result["token_f1"] == pytest.approx(1 / 3)
    # selected 0, 3 and one of the ties 4 and 5: [0, 1) against [0, 3) is 1/3, the others touch nothing
    assert result["iou_f1"] == 0
    # five best: 0, 3, 4, 5 and one of 6 and 7
    assert result["token_f1_at_5"] == pytest.approx(2 * 1 / (3 + 5))
    assert result["token_iou_at_5"] == pytest.approx(1 / 7)
    # hits at ranks 1, 7 and 8
    assert result["average_precision"] == pytest.approx((1 + 2 / 7 + 3 / 8) / 3)
    assert result["roc_auc"] == pytest.approx((5 + 0 + 0) / 15)
    # one rationale token before the first other; 5 others, so 5 and 10 % allow none of them, 20 % the one at rank 2
    assert result["tpr_at_fpr_5"] == result["tpr_at_fpr_10"] == result["tpr_at_fpr_20"] == pytest.approx(1 / 3)
    assert result["auprc"] == result["auprc_positive"] == pl.auprc(one.labels, one.scores)


def test_the_three_levels_differ_when_special_tokens_hold_the_mass() -> None:
    result = values(unit([1, 0, 0, 0], [0.05, 0.02, 0.02, 0.01], n_input=6, n_present=20))
    assert (result["tpr"], result["tpr_present"], result["tpr_content"]) == (0, 1, 1)
    assert math.isnan(result["precision"]) and result["f1"] == 0  # nothing is selected at 1/6


def test_signed_scores_have_no_selection_at_one_nth() -> None:
    one = unit([1, 0, 1, 0], [0.5, -0.2, 0.1, -0.4], signed=True, shares=np.array([1, 0, 0.6, 0.2]))
    result = values(one)
    undefined = {name for name, value in result.items() if math.isnan(value)}
    assert undefined == {n + v for n in ("fpr", "tpr", "j") for v in ("", "_present", "_content")} | {"precision", "f1"}
    assert result["average_precision"] == 1
    # only .5 and .1 are positive, so they alone are among the five best
    assert result["token_f1_at_5"] == 1
    assert values(unit([1, 0, 1, 0], [-0.1, -0.2, 0.1, -0.4], signed=True))["auprc_positive"] == pytest.approx(
        pl.auprc([1, 0, 1, 0], [0, 0, 0.1, 0])
    )


def test_negative_scores_that_are_not_signed_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="scores: must not be negative, the lowest is -0.2"):
        compute(["average_precision", "fpr"], unit([1, 0], [0.5, -0.2]))


def test_no_rationale_is_undefined_never_a_silent_number() -> None:
    result = values(unit([0, 0, 0], [0.5, 0.2, 0.1]))
    assert result.pop("sparseness") == pytest.approx(0.8 / 2.4)  # |0.5 - 0.2| + ... over n times the sum: no rationale
    # at 1/5 two of three irrelevant tokens are selected, renormalised at 1/3 one of them: that needs no rationale
    defined = {name: value for name, value in result.items() if not math.isnan(value)}
    assert defined == pytest.approx({"fpr": 2 / 3, "fpr_present": 2 / 3, "fpr_content": 1 / 3, "precision": 0})
    nothing_else = values(unit([1, 1], [0.5, 0.2]))
    assert {name for name, value in nothing_else.items() if math.isnan(value)} == {
        name for name in PURE if name.startswith(("fpr", "j", "tpr_at_fpr", "average_precision")) or name == "roc_auc"
    }
    assert all(math.isnan(value) for value in values(unit([], [])).values())


def test_perfect_scores_are_the_best_there_is() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0])
    one = unit(labels, [0.5, 0.5, 0, 0, 0, 0], density=1 / 3, shares=labels)
    for name, value in values(one).items():
        if name == "sparseness":  # its best value is 1 - 1/n, of one token
            continue
        assert value == pytest.approx(1 if METRICS[name].higher_is_better else 0), name


def test_a_hard_rationale_is_used_as_it_is() -> None:
    labels, hard = [1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 0]
    one = unit(labels, [0.0] * 6, hard=np.array(hard, dtype=bool))  # its scores say nothing
    result = values(one)
    assert result["token_f1"] == result["iou_f1"] == 1
    assert result["f1_at_density"] == pl.top_k_f1(labels, [0.0] * 6, 2) < 1
    nothing = values(unit(labels, [0.0] * 6, hard=np.zeros(6, dtype=bool)))
    assert nothing["token_f1"] == nothing["iou_f1"] == 0


def test_present_scores_are_for_the_present_level_only() -> None:
    one = unit([1, 0], [0.4, 0.1], n_input=4, n_present=4, present_scores=np.array([0.1, 0.4]))
    result = values(one)
    assert (result["tpr"], result["tpr_content"], result["tpr_present"], result["fpr_present"]) == (1, 1, 0, 1)


def test_every_metric_says_which_n_and_how() -> None:
    for metric in METRICS.values():
        assert metric.level and metric.name == get_metric(metric.name).name
        lines = (inspect.getdoc(metric.source) or "").splitlines()
        marks = [line.split(":")[0] for line in lines if line[:1].isupper() and ":" in line][1:]
        assert lines[0].endswith(".") and ":" in lines[0], metric.name
        assert marks == ["Formula", "Selection", "Range", "Misleads", "Reference"], metric.name
        assert len(lines[0]) < 120
    assert METRICS["fpr"].level == "score >= 1/n, n = tokens of the input"
    assert METRICS["fpr_present"].level == "score >= 1/n, n = tokens present at the layer"
    assert METRICS["token_f1"].uses_density and METRICS["comprehensiveness_at_density"].uses_density
    assert not METRICS["f1_at_k"].uses_density and not METRICS["aopc_sufficiency"].uses_density


def test_names_and_groups() -> None:
    names = metric_names()
    assert names[0] == "average_precision" and len(names) == len(set(names)) == len(METRICS)
    assert all(get_metric(name).name == name and get_metric(name).title for name in names)
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
    assert metric_names("eraser") == ("token_f1", "iou_f1")
    asking = {name for group in ("faithfulness", "soft", "normalised") for name in metric_names(group)}
    assert {n for n in names if METRICS[n].function is None} == asking
    assert not METRICS["fpr_present"].higher_is_better and not METRICS["aopc_sufficiency"].higher_is_better
    assert "recall" not in names  # it is tpr


def test_bad_input() -> None:
    with pytest.raises(ArgumentError, match="metric: got 'ap', allowed are average_precision, roc_auc, auprc"):
        get_metric("ap")
    with pytest.raises(ArgumentError, match="'loo_kendall' needs the model"):
        compute(["loo_kendall"], unit([1, 0], [0.5, 0.2]))
    with pytest.raises(ArgumentError, match="scores: 1 tokens, labels have 2"):
        unit([1, 0], [0.5])
    with pytest.raises(ArgumentError, match="scores: must be finite"):
        unit([1, 0], [0.5, math.nan])
