"""Classifiers without an encoder: `python -m benchmarks.no_encoder --data DIR --encoder DIR`.

* tfidf: words and pairs of words, TF-IDF, logistic regression.
* static: every wordpiece alone through the encoder ("[CLS] piece [SEP]", mean of its states), PCA to 256, weighted by
  its rank as in a Zipf distribution; a text is the mean of its wordpieces, and a logistic regression reads it. (The
  recipe of Model2Vec: https://github.com/MinishLab/model2vec.)

C of the regression is chosen on validation among .1, 1 and 10 (static: 1, 10, 100). Records are those of `sweep`, with
milliseconds of a text on one thread. A pair is its two texts, for tfidf with their words apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import hstack
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer

from benchmarks.sweep import TASKS, Task, read_splits, score, write, write_predictions

Encode = Callable[[pd.DataFrame], Any]  # rows -> (rows, features)
MORE = {"imdb_full": Task("imdb_full", 1), "news20": Task("news20", 1)}


def columns_of(rows: pd.DataFrame) -> list[str]:
    """The columns with texts."""
    return [name for name in ("text", "text_a", "text_b") if name in rows]


def tfidf(train: pd.DataFrame) -> Encode:
    """Fitted on the training rows; a vectorizer for each column."""
    made = {
        name: TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=200_000).fit(train[name])
        for name in columns_of(train)
    }
    return lambda rows: hstack([vectorizer.transform(rows[name]) for name, vectorizer in made.items()]).tocsr()


def static_table(encoder: str, *, size: int = 256) -> NDArray[np.float32]:
    """(V, size) a vector for each wordpiece."""
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    cls, sep, pieces = tokenizer.cls_token_id, tokenizer.sep_token_id, torch.arange(len(tokenizer))
    ids = torch.stack([torch.full_like(pieces, cls), pieces, torch.full_like(pieces, sep)], dim=1)  # (V, 3)
    with torch.no_grad():
        states = torch.cat([model(input_ids=part).last_hidden_state.mean(1) for part in ids.split(1024)])
    table = PCA(size, random_state=0).fit_transform(states.numpy())
    rank = np.arange(len(table), dtype=np.float64)
    weighted: NDArray[np.float32] = (table * np.log(1 + rank)[:, None]).astype(np.float32)
    return weighted


def static(encoder: str, table: NDArray[np.float32]) -> Encode:
    """Mean vector of a text's wordpieces, columns side by side."""
    tokenizer = AutoTokenizer.from_pretrained(encoder, model_max_length=10**6)

    def one(text: list[int]) -> NDArray[np.float32]:
        mean = table[text].mean(0) if text else np.zeros(table.shape[1], dtype=np.float32)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9))

    def encode(rows: pd.DataFrame) -> Any:
        sides = []
        for name in columns_of(rows):
            ids = tokenizer(rows[name].tolist(), add_special_tokens=False)["input_ids"]
            sides.append(np.stack([one(text) for text in ids]))
        if len(sides) == 2:
            sides += [np.abs(sides[0] - sides[1]), sides[0] * sides[1]]
        return np.hstack(sides)

    return encode


def fitted(system: str, task: Task, splits: dict[str, pd.DataFrame], encode: Encode) -> tuple[dict[str, Any], Any]:
    """Scores, times and test predictions of a regression on the encoded rows."""
    started = time.perf_counter()
    features = {split: encode(splits[split]) for split in ("train", "validation")}
    found = []
    for strength in (0.1, 1.0, 10.0) if system == "tfidf" else (1.0, 10.0, 100.0):
        model = LogisticRegression(C=strength, max_iter=300).fit(features["train"], splits["train"]["label"])
        found.append(
            (score(model.predict(features["validation"]), splits["validation"]["label"], task.metric), strength, model)
        )
    best, strength, model = max(found, key=lambda one: one[0])
    trained = time.perf_counter() - started
    started = time.perf_counter()
    predicted = model.predict(encode(splits["test"]))
    spent = time.perf_counter() - started
    return {
        **{"budget": strength, "validation": best, "test": score(predicted, splits["test"]["label"], task.metric)},
        **{"milliseconds": 1000 * spent / len(splits["test"]), "minutes": {"training": trained / 60}},
        **{"rows": {name: len(rows) for name, rows in splits.items()}, "metric": task.metric},
    }, predicted


def main(argv: Sequence[str] | None = None) -> int:
    """All tasks whose folder is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tasks")
    parser.add_argument("--encoder", required=True, help="pre-trained encoder, a folder")
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, *MORE])
    parser.add_argument("--parts", type=Path, help="folder of the parts that `sweep` trains on (RUNS/data)")
    parser.add_argument("--output", type=Path, default=Path("results/tradeoff/trained"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    started = time.perf_counter()
    table = static_table(args.encoder)
    print(f"static table: {table.shape}, {time.perf_counter() - started:.0f} s", flush=True)
    for name in args.tasks:
        task = {**TASKS, **MORE}[name]
        studies = {"": read_splits(args.data / task.data)}
        if args.parts and (args.parts / name).is_dir():
            files = {split: args.parts / name / f"{split}.jsonl" for split in ("train", "validation")}
            parts = {split: pd.read_json(path, lines=True) for split, path in files.items()}
            studies["-part"] = {**parts, "test": studies[""]["test"]}
        for part, splits in studies.items():
            for system in ("tfidf", "static"):
                encode = tfidf(splits["train"]) if system == "tfidf" else static(args.encoder, table)
                record, predicted = fitted(system, task, splits, encode)
                known = {"task": name, "system": f"{system}{part}", "seed": 0, **record}
                write_predictions(args.output / f"{name}.parquet", splits["test"]["label"], known["system"], predicted)
                write(args.output / name / f"{known['system']}.json", known)
                print(f"{name} {known['system']}: {known['test']:.4f}, {known['milliseconds']:.3f} ms", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
