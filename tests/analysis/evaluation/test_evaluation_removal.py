"""A report of a model with another removal policy: its own scores stand where `cp` would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapler import AdapLeRForSequenceClassification, ArgumentError
from analysis import rationale_eval


@pytest.fixture
def power_folder(tmp_path: Path, tiny_classifier_folder: Path, tiny_tokenizer: Any) -> Path:
    model = AdapLeRForSequenceClassification.from_backbone(
        tiny_classifier_folder, policy="power", policy_options={"lengths": [9, 5, 5]}
    )
    model.save_pretrained(tmp_path / "power")
    tiny_tokenizer.save_pretrained(tmp_path / "power")
    return tmp_path / "power"


def test_a_report_of_another_policy(power_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    report = rationale_eval.evaluate(adapler=power_folder, data=corpus_folder, max_length=24, progress=False)
    assert "policy" in report.methods and "cp" not in report.methods
    values = report.to_frame().query("method == 'policy' and metric == 'average_precision'")["value"]
    assert np.isfinite(values).any()
    assert all(row.lengths is not None and row.lengths[1] <= 9 for row in report.documents)
    report.save(tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()
    with pytest.raises(ArgumentError, match=r"'cp': this model's policy is 'power'"):
        rationale_eval.evaluate(adapler=power_folder, data=corpus_folder, max_length=24, progress=False, methods=["cp"])
