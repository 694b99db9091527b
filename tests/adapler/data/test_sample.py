"""The embedded corpus is what its README says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adapler.data import corpus_statistics, find_leaks, read_corpus

SAMPLE = Path(__file__).parents[3] / "data" / "eraser" / "sample"


def test_sizes_lengths_and_density() -> None:
    statistics = {row["split"]: row for row in corpus_statistics(read_corpus(SAMPLE))}
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for row in statistics.values():
        assert 90 <= row["words_min"] and row["words_max"] <= 250
        assert 0.1 <= row["density_mean"] <= 0.2
        assert f"{row['density_mean'] * 100:.1f} %" in readme, "README tells another density"
        assert len(set(row["labels"].values())) == 1, "not balanced"
    assert [statistics[split]["documents"] for split in ("train", "val", "test")] == [90, 36, 44]


def test_every_evidence_is_its_text() -> None:
    """The words that the offsets name are the text beside them, and lie in the sentences that are named."""
    found = 0
    for split in ("train", "val", "test"):
        for line in (SAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            for evidence in (evidence for group in json.loads(line)["evidences"] for evidence in group):
                lines = (SAMPLE / "docs" / evidence["docid"]).read_text(encoding="utf-8").split("\n")
                words = " ".join(lines).split()
                assert " ".join(words[evidence["start_token"] : evidence["end_token"]]) == evidence["text"]
                assert evidence["text"] in "\n".join(lines[evidence["start_sentence"] : evidence["end_sentence"]])
                found += 1
    assert found > 600


@pytest.mark.parametrize("with_punctuation", [True, False])
def test_no_two_documents_share_a_run_of_eight_words(with_punctuation: bool) -> None:
    corpus = read_corpus(SAMPLE)
    assert find_leaks(corpus) == []
    owner: dict[tuple[str, ...], str] = {}
    for examples in corpus.splits.values():
        for example in examples:
            words = [word for word in example.words if with_punctuation or re.search(r"\w", word)]
            for start in range(len(words) - 7):
                run = tuple(words[start : start + 8])
                assert owner.setdefault(run, example.id) == example.id, f"{example.id}: {' '.join(run)}"
