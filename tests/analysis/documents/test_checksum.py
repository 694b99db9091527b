"""What a corpus is told apart by."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.documents.corpora import read_json_lines


def test_another_query_is_another_corpus(tmp_path: Path) -> None:
    sums = set()
    for query in ("good ?", "dull ?"):
        row = {"id": "a", "tokens": ["so", "dull"], "label": "NEG", "rationale": [0, 1], "query": query}
        (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
        sums.add(read_json_lines(tmp_path, split="test").checksum)
    assert len(sums) == 2, "the model reads the query"
