"""Today's code gives the numbers of the committed reference (tests/fixtures/reference.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.fixtures import reference

PASSES = np.load(reference.HERE / "passes.npz")
TRAINED = np.load(reference.HERE / "trained.npz")


@pytest.mark.parametrize(("family", "policy"), reference.cases())
def test_passes(family: str, policy: str) -> None:
    for key, value in reference.passes(family, policy).items():
        expected = PASSES[f"{family}/{policy}/{key}"]
        if key in ("kept", "lengths"):
            np.testing.assert_array_equal(value, expected, err_msg=key)
        else:
            np.testing.assert_allclose(value, expected, atol=1e-5, rtol=0, err_msg=key)


def compare_sample(*, limit: int | None) -> None:
    keys = ["document", "method", "layer", "metric"]
    expected = pd.read_parquet(reference.HERE / "sample.parquet").set_index(keys)["value"]
    values = reference.sample(limit=limit).set_index(keys)["value"]
    common = expected.index.intersection(values.index)
    assert len(common) == len(values) and set(expected.index.get_level_values("method")) == set(reference.METHODS)
    if limit is None:
        assert len(common) == len(expected)
    np.testing.assert_allclose(values[common], expected[common], atol=1e-5, rtol=0)


def test_some_documents_of_the_sample() -> None:
    compare_sample(limit=2)


@pytest.mark.slow
def test_all_documents_of_the_sample() -> None:
    compare_sample(limit=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", reference.TRAININGS)
def test_twenty_steps_of_training(name: str, tmp_path: Path) -> None:
    reference.tiny_task(tmp_path / "x")
    extra = ("--preset", "paper") if has_presets() else ()
    values = reference.trained(name, tmp_path / "x", extra=extra)
    expected = {key.removeprefix(f"{name}/"): TRAINED[key] for key in TRAINED if key.startswith(f"{name}/")}
    assert values.keys() == expected.keys()
    for key, value in values.items():
        if not key.endswith(("key.bias", "score.bias")):  # a softmax follows: gradients of rounding, scaled up by AdamW
            np.testing.assert_allclose(value, expected[key], atol=1e-5, rtol=1e-5, err_msg=key)


def has_presets() -> bool:
    from importlib.util import find_spec

    return find_spec("adapler.training.pipeline") is not None
