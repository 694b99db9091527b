"""Facts of the real ERASER movies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapler.data import corpus_statistics, find_leaks, install_archive, read_corpus


@pytest.mark.slow
def test_real_movies(development_data: Callable[[str], Path], tmp_path: Path) -> None:
    archive = development_data("eraser/movies.tar.gz")
    corpus = read_corpus(archive)
    assert {split: len(examples) for split, examples in corpus.splits.items()} == {
        "train": 1600,
        "val": 200,
        "test": 199,
    }
    assert corpus.labels == ("NEG", "POS")
    bare = [example.id for examples in corpus.splits.values() for example in examples if not example.spans]
    assert bare == ["posR_161.txt"]
    density = {row["split"]: row["density_mean"] for row in corpus_statistics(corpus)}
    assert density["test"] == pytest.approx(0.314, abs=5e-4)
    assert density["val"] == pytest.approx(0.072, abs=5e-4)
    test = corpus.splits["test"]
    assert sum(len(example.words) > 510 for example in test) == 164
    beyond = np.array([example.rationale()[510:].sum() for example in test])
    marked = np.array([example.rationale().sum() for example in test])
    # Rationale that a window of 512 tokens cannot see, at best: the mean share of a document, and of all words.
    assert (beyond / marked).mean() == pytest.approx(0.404, abs=5e-4)
    assert beyond.sum() / marked.sum() == pytest.approx(0.475, abs=5e-4)
    assert find_leaks(corpus) == []
    assert read_corpus(install_archive(archive, tmp_path)).checksum == corpus.checksum
