"""`python -m analysis.truth`: a run that was stopped continues, what its tables say."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapler.errors import ArgumentError
from analysis import truth
from tests.analysis.conftest import WORDS

METHODS = ["saliency", "decompx", "attention", "cp_carried", "random"]


@pytest.fixture
def options(tmp_path: Path, adapler_folder: Path) -> dict[str, Any]:
    draw, words = np.random.default_rng(0), WORDS
    texts = [[*draw.choice(words, size=6), "."] for _ in range(12)]
    human = [
        {"id": str(i), "tokens": text, "label": "NEG", "rationale": [[1, 0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]]}
        for i, text in enumerate(texts)
    ]
    sides = [{"text": " ".join(text)} for text in texts]
    edited = [{"id": str(i), "original": sides[i], "edited": sides[i + 6]} for i in range(6)]
    for name, rows in (("human", human), ("edited", edited)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "output": str(tmp_path / "out"),
        "human": str(tmp_path / "human.jsonl"),
        "edited": str(tmp_path / "edited.jsonl"),
        "model": str(adapler_folder),
        "methods": METHODS,
        "documents": 4,
    }


def test_a_stopped_run_continues(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--{name}={value}" for name, value in options.items() if name != "methods"] + ["--methods", *METHODS]
    assert truth.main(words) == 0
    folder, printed = Path(options["output"]), capsys.readouterr().out
    table = (folder / "table.md").read_text()
    assert table in printed and "| method | human | human_soft | edited |" in table
    values, means = pd.read_parquet(folder / "values.parquet"), pd.read_csv(folder / "means.csv")
    assert set(means.method) == {*METHODS, truth.CLASSIFIER}
    assert means[means.metric == "human"].n.tolist() == [4] * 5
    assert not (values[values.method == "cp_carried"].metric == "planted").any()
    parts = folder / "parts.jsonl"
    whole = parts.read_text()
    parts.write_text(whole[: int(len(whole) * 0.6)])  # in the middle of a line
    again = truth.run(truth.TruthOptions(**options))
    pd.testing.assert_frame_equal(again.round(4), values)
    assert sorted(parts.read_text().splitlines()) == sorted(whole.splitlines())
    with pytest.raises(ArgumentError, match="was written with other options"):
        truth.run(truth.TruthOptions(**options | {"seed": 1}))


def test_tables_by_hand() -> None:
    rows = [
        *(("1 original", one, "edited", value) for one, value in zip("abc", (0.2, 0.4, 0.6), strict=True)),
        *(("1 edited", one, "edited", value) for one, value in zip("abc", (0.4, 0.6, 0.8), strict=True)),
        *(("2", one, "human", value) for one, value in zip("abc", (0.1, 0.2, 0.3), strict=True)),
        *(("2", one, "random_all", value) for one, value in zip("abc", (0.1, 0.2, 0.3), strict=True)),
    ]
    values = pd.DataFrame(rows, columns=["document", "method", "metric", "value"])
    means = truth.summary(values).set_index(["metric", "method"])
    assert means["mean"]["edited"].tolist() == pytest.approx([0.3, 0.5, 0.7]) and means.n["edited", "a"] == 1
    found = truth.agreement(values, resamples=20).set_index(["truth", "other"]).correlation
    assert found["edited", "human"] == 1 and found["random_all", "human"] == -1  # there lower is better
    off = truth.paired(values).set_index(["metric", "method"])
    assert off.best["edited", "a"] == "c" and off.difference["edited", "a"] == pytest.approx(0.4)
    assert off.best["random_all", "b"] == "a" and off.difference["random_all", "b"] == pytest.approx(0.1)


def test_shapley_values_are_the_mean_over_all_orders() -> None:
    n, worth = 4, np.random.default_rng(0).normal(size=16)
    expected = np.zeros(n)
    for order in (every := list(permutations(range(n)))):
        there = 0
        for token in order:
            expected[token] += (worth[there | 1 << token] - worth[there]) / len(every)
            there |= 1 << token
    found = truth.shapley_values(worth)
    assert found == pytest.approx(expected) and found.sum() == pytest.approx(worth[-1] - worth[0])
    assert truth.all_subsets(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]


def test_every_method_keeps_as_much_in_its_own_order() -> None:
    scores = np.random.default_rng(1).normal(size=30) ** 3
    chances = truth.equal_chances(scores, 0.3)
    assert chances.mean() == pytest.approx(0.3) and (np.diff(chances[np.argsort(scores)]) >= 0).all()


def test_edited_words_of_both_texts() -> None:
    one, two = "not a good film".split(), "a very good film".split()
    assert truth.edited_words(one, two).tolist() == [True, False, False, False]
    assert truth.edited_words(two, one).tolist() == [False, True, False, False]
