"""Targets of movie reviews, some of them mixed with what people marked; then `adapler train --targets OUTPUT`.

    python -m benchmarks.movie_marks --targets runs/movies/decomposition-1600 --tokenizer runs/movies/classifier \\
        --data data/eraser/movies --marked 200 --seed 42 --output runs/movies/marks-200

The targets are those of each review's last wordpieces (`--train-documents last`). The reviews that are mixed are those
that `--limit MARKED` would sample with this seed: they are part of a training with any larger limit and the same seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import datasets
import numpy as np
from transformers import AutoTokenizer

from adapler.eraser import EraserExample, balanced_indices
from adapler.training.data import load_targets
from analysis.corpus import load_corpus

MIX = 0.5  # the marks' part of a mixed target


def shares(review: EraserExample, tokenizer: object, length: int) -> np.ndarray:
    """(n,) of the review's last wordpieces, special tokens around them: the marked ones share 1 evenly."""
    found = tokenizer(list(review.words), is_split_into_words=True, add_special_tokens=False)  # type: ignore[operator]
    marks = np.asarray(review.rationale(), dtype=float)[found.word_ids()][-(length - 2) :]
    marks = np.pad(marks, 1)  # (n,)
    if len(marks) != length:
        raise ValueError(f"{review.id}: {len(marks)} wordpieces, its targets have {length}")
    return np.asarray(marks / max(marks.sum(), 1))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("targets", "tokenizer", "data", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--marked", type=int, required=True)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args(argv)
    made, tokenizer = load_targets(options.targets), AutoTokenizer.from_pretrained(options.tokenizer)
    reviews = load_corpus(options.data, split="train").splits["train"]
    values, place, mixed = made["targets"][:], {name: k for k, name in enumerate(made["id"][:])}, 0
    for index in balanced_indices([one.label for one in reviews], options.marked, seed=options.seed):
        review = reviews[index]
        own = np.array(values[place[review.id]])  # (L, n)
        human = shares(review, tokenizer, own.shape[1])  # (n,)
        if human.any():  # of a review whose marks are all before its last wordpieces the targets stay
            values[place[review.id]] = ((1 - MIX) * own + MIX * human).tolist()
            mixed += 1
    columns = {"id": made["id"][:], "made_of": made["made_of"][:], "targets": values}
    datasets.Dataset.from_dict(columns, features=made.features).save_to_disk(options.output)
    print(f"{mixed} of {len(made)} targets mixed with marks; {options.output}")


if __name__ == "__main__":
    main()
