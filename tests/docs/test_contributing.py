"""The recipes of CONTRIBUTING.md, followed to the letter."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from adapler import contribution
from adapler.policies import base as policies
from adapler.policies import training_class
from analysis.metrics import plausibility
from analysis.scores import attention, base, get_method
from docs.generate.docstrings import METHOD_FIELDS, METRIC_FIELDS, sections
from tests.adapler.policies import test_policies as generic
from tests.conftest import LAYERS
from tests.test_layering import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks() -> dict[str, str]:
    """The Python blocks by the file that their first line names."""
    found: dict[str, str] = {}
    for indent, code in re.findall(r"^( *)```python\n(.*?)^ *```$", TEXT, flags=re.MULTILINE | re.DOTALL):
        code = textwrap.dedent(code) if indent else code
        head, _, body = code.partition("\n")
        found[head.removeprefix("# ")] = body
    return found


@pytest.fixture
def new_module() -> Iterator[Any]:
    """Make a module of a block; what it registers is gone afterwards."""
    known: dict[str, Any] = dict(base._REGISTRY)
    made: set[str] = set()

    def make(name: str, code: str) -> ModuleType:
        module = ModuleType(name)
        sys.modules[name] = module
        made.add(name)
        exec(compile("from __future__ import annotations\n" + code, name, "exec", dont_inherit=True), vars(module))
        return module

    yield make
    for name in made:
        del sys.modules[name]
    base._REGISTRY.clear()
    base._REGISTRY.update(known)


def even(model: Any, batch: base.Batch) -> base.LayerScores:
    """Scores that are not the recipe's."""
    mask = batch.attention_mask
    return base.LayerScores(base.normalise(mask[:, None].expand(-1, LAYERS, -1).float(), mask))


def test_the_scoring_method_runs_and_its_test_passes(new_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks()
    exec(found["analysis/scores/attention.py"], dict(vars(attention)))
    method = get_method("state_max")
    assert set(METHOD_FIELDS) <= set(sections(method.function, METHOD_FIELDS))
    test = new_module("test_of_state_max", found["tests/analysis/scores/test_state_max.py"])
    test.test_state_max_is_the_largest_entry()
    monkeypatch.setitem(base._REGISTRY, "state_max", replace(method, function=even))
    with pytest.raises(AssertionError):  # the recipe's test can fail
        test.test_state_max_is_the_largest_entry()


def test_the_metric_runs_and_its_test_passes(new_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, row = blocks()["analysis/metrics/plausibility.py"], blocks()["METRICS of analysis/metrics/plausibility.py"]
    scope = dict(vars(plausibility))
    exec(code, scope)
    function = scope["reciprocal_rank"]
    monkeypatch.setattr(plausibility, "reciprocal_rank", function, raising=False)
    assert set(METRIC_FIELDS) <= set(sections(function, METRIC_FIELDS))
    (metric,) = eval(f"({row.strip()})", vars(plausibility))
    monkeypatch.setitem(plausibility.METRICS, metric.name, metric)
    unit = plausibility.Unit([False, True, True], [0.5, 0.3, 0.2], n_input=5, n_present=5, density=0.5)  # type: ignore[arg-type]
    assert plausibility.compute(["reciprocal_rank"], unit) == [0.5]
    test = new_module("test_of_reciprocal_rank", blocks()["tests/analysis/metrics/test_reciprocal_rank.py"])
    test.test_reciprocal_rank_by_hand()


def test_the_predictor_runs_and_its_test_passes(new_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contribution.PREDICTORS, "classes", dict(contribution.PREDICTORS.classes))
    code = blocks()["adapler/contribution.py"].replace("from __future__ import annotations\n", "")
    made = new_module("linear_of_contributing", code).LinearPredictor
    test = new_module("test_of_linear", blocks()["tests/adapler/model/predictors/test_linear.py"])
    test.test_linear()
    monkeypatch.setattr(made, "cost", staticmethod(lambda hidden_size, contribution_hidden_size: contribution.Cost(1)))
    with pytest.raises(AssertionError):  # the recipe's test can fail
        test.test_linear()


def test_the_removal_policy_runs_and_its_test_passes(new_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies.POLICIES, "classes", dict(policies.POLICIES.classes))
    code = blocks()["adapler/policies/peak_topk.py"].replace("from __future__ import annotations\n", "")
    assert code.count("\n") <= 30
    made = new_module("peak_topk_of_contributing", code).PeakTopK
    test = new_module("test_of_peak_topk", blocks()["tests/adapler/policies/test_peak_topk.py"])
    test.test_the_largest_entries_stay()
    for check in (
        generic.test_batch_mates_order_and_padding_change_nothing,
        generic.test_with_scale_0_it_is_the_backbone,
    ):
        check("peak_topk", "bert")
    generic.test_flops_are_pytorchs_own_count("peak_topk")
    kind = training_class("peak_topk")
    assert kind.point_name("peak_topk", kind.Settings(keep=[0.5])) == "peak_topk-keep-0.5"
    monkeypatch.setattr(made, "score", lambda self, view: -view.hidden.abs().amax(-1))
    with pytest.raises(AssertionError):  # the recipe's test can fail
        test.test_the_largest_entries_stay()


def test_the_backbone_recipe_fits_the_code() -> None:
    from adapler.backbones import families

    names = {**vars(families)}
    exec(blocks()["adapler/backbones/families.py: the class, and its entry in FAMILIES"], names)
    assert names["FAMILIES"].pop("data2vec-text").base == "data2vec_text"


def test_files_that_are_named_are_there() -> None:
    new = {"adapler/policies/peak_topk.py"}
    named = set(re.findall(r"(?<!tests/)\b((?:adapler|analysis|app)/[\w/]+\.py)", TEXT)) - new
    assert len(named) > 4
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
