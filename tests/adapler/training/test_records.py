"""What a run writes down."""

from __future__ import annotations

import json
import math
from pathlib import Path

from adapler.training.records import write_record


def test_records_are_strict_json(tmp_path: Path) -> None:
    write_record(tmp_path / "run.json", {"objectives": {"gradient_slope": math.inf}, "losses": [1.5, math.nan]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads((tmp_path / "run.json").read_text(), parse_constant=refuse)
    assert record == {"objectives": {"gradient_slope": "inf"}, "losses": [1.5, "nan"]}
    assert float(record["objectives"]["gradient_slope"]) == math.inf
