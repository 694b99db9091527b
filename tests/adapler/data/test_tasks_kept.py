"""Held out rows, default lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import Dataset

from adapler.data.tasks import in_label_order, load_task
from adapler.data.tasks.schema import HoldOut, default_max_length, hold_out
from tests.adapler.data.folders import task_folder


def test_the_largest_remainders_get_what_is_left() -> None:
    """10 of 100: 1.6, 2.2 and 6.2 rows of three labels are 2, 2 and 6."""
    labels = [0] * 16 + [1] * 22 + [2] * 62
    held = np.array(labels)[hold_out(labels, HoldOut())]
    assert np.bincount(held).tolist() == [2, 2, 6]


def test_a_share_that_is_asked_for_has_no_bound() -> None:
    assert HoldOut(share=0.5).rows_of(50_000) == 25_000 and HoldOut().rows_of(50_000) == 2000


def test_default_length_of_pairs_counts_both_texts() -> None:
    rows = Dataset.from_dict({"text_a": [" ".join("w" * 9)] * 3, "text_b": [" ".join("w" * 40)] * 3})
    assert default_max_length("mine", rows, columns=("text_a", "text_b")) == 96  # 1.3 * 49 + 3 = 66.7


def test_rows_without_a_label_stay_without_one_in_another_order(tmp_path: Path) -> None:
    texts = [{"text": f"t{n}"} for n in range(6)]
    labelled = [{**row, "label": n % 2} for n, row in enumerate(texts)]
    folder = task_folder(tmp_path, {"train": texts, "validation": labelled}, {"labels": ["POS", "NEG"]})
    task = in_label_order(load_task(folder, labels=("NEG", "POS")), ["NEG", "POS"])
    assert task.dataset["train"]["label"][:] == [-1] * 6 and task.dataset["validation"]["label"][:2] == [1, 0]
