"""Tasks: files of rows, labels, held-out rows, samples, the hub, and where a name leads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler.data import (
    TASKS,
    HoldOut,
    balanced_sample,
    default_max_length,
    hold_out,
    in_label_order,
    load_task,
)
from adapler.eraser import balanced_indices, match_labels
from adapler.errors import ArgumentError, DataError
from tests.adapler.data.corpora import files_of, pack, row, write

LABELS = {"labels": ["negative", "positive"]}
Rows = list[dict[str, Any]]


def lines(rows: Rows) -> str:
    return "".join(json.dumps(r) + "\n" for r in rows)


def task_folder(folder: Path, splits: dict[str, Rows | str], meta: dict[str, Any] | None = LABELS) -> Path:
    files = {f"{split}.jsonl": rows if isinstance(rows, str) else lines(rows) for split, rows in splits.items()}
    return write(folder, files if meta is None else files | {"meta.json": json.dumps(meta)})


def texts(count: int, prefix: str = "t") -> Rows:
    return [{"text": f"{prefix} {n}", "label": n % 2} for n in range(count)]


# ---- Files


def test_a_folder_of_jsonl(tmp_path: Path) -> None:
    splits: dict[str, Rows | str] = {
        "train": "\n" + lines([{"text": "good", "label": "positive", "id": "a"}, {"text": "bad", "label": 0}]),
        "validation": [{"text": "so so", "label": 1, "tokens": ["ignored"], "id": None}],
        "test": [{"text": "fine", "label": 1, "id": 12}],
        "test_attacked": "not even JSON",
    }
    task = load_task(task_folder(tmp_path / "reviews", splits))
    assert (task.name, task.labels, task.columns) == ("reviews", ("negative", "positive"), ("text_a",))
    assert (task.metric, task.max_length, task.notes) == ("accuracy", 32, ())
    assert list(task.dataset["train"]) == [
        {"id": "a", "text_a": "good", "label": 1},
        {"id": "train-1", "text_a": "bad", "label": 0},
    ]
    assert task.dataset["validation"][0]["id"] == "validation-0" and task.dataset["test"][0]["id"] == "12"
    assert task.dataset["train"].features["label"].names == ["negative", "positive"]
    other = load_task(task_folder(tmp_path / "other", {**splits, "test": [{"text": "fine", "label": 0, "id": 12}]}))
    assert other.checksum != task.checksum


def test_pairs_and_meta(tmp_path: Path) -> None:
    rows = [{"text_a": f"a{n}", "text_b": f"b{n}", "label": n % 2} for n in range(4)]
    meta = LABELS | {"name": "pairs", "metric": "f1", "max_length": 40}
    task = load_task(task_folder(tmp_path, {"train": rows[:2], "validation": rows[2:]}, meta))
    assert (task.name, task.metric, task.max_length, task.columns) == ("pairs", "f1", 40, ("text_a", "text_b"))
    assert task.dataset["validation"][0] == {"id": "validation-0", "text_a": "a2", "text_b": "b2", "label": 0}


def tokens(count: int, **extra: Any) -> Rows:
    return [{"tokens": ["t", str(n)], "label": "ab"[n % 2], "rationale": [0, 1], **extra} for n in range(count)]


def test_annotated_documents_are_a_task(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "posts", {"train": tokens(20), "dev": tokens(4), "test": tokens(2)}, None)
    task = load_task(folder)
    assert (task.labels, task.columns, task.max_length) == (("a", "b"), ("words",), 512)
    assert task.is_split_into_words and task.dataset["validation"].num_rows == 4
    assert task.dataset["test"][1] == {"id": "test-1", "words": ["t", "1"], "label": 1}
    alone = load_task(folder / "train.jsonl")
    assert (alone.name, list(alone.dataset)) == ("train", ["train", "validation"])
    splits: dict[str, Rows | str] = {"train": tokens(4, query="why ?"), "validation": tokens(2, query="why ?")}
    assert load_task(task_folder(tmp_path / "same", splits, None)).columns == ("words",)
    splits["validation"] = [*tokens(1, query="why ?"), *tokens(1)]
    task = load_task(task_folder(tmp_path / "differ", splits, {"labels": ["a", "b"]}))
    assert task.columns == ("words", "query") and list(task.dataset["validation"]["query"]) == ["why ?", ""]


ROWS: Rows = [
    {"id": "a", "text": 'so "good", they say', "label": "POS"},
    {"id": "b", "text": "NA", "label": "NEG"},
    {"id": "c", "text": "caf\u00e9\u2028still", "label": "POS"},
    {"id": "d", "text": "two\nlines", "label": "NEG"},
]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("label", [lambda name: name, ["NEG", "POS"].index, {"NEG": "1 star", "POS": "2 stars"}.get])
def test_other_formats_are_the_same_task(tmp_path: Path, suffix: str, label: Callable[[str], Any]) -> None:
    rows = [{**row, "label": label(row["label"])} for row in (ROWS[:3] if suffix == "tsv" else ROWS)]
    tables = {"jsonl": lines(rows), "csv": pd.DataFrame(rows).to_csv(index=False)}
    tables["tsv"] = "\n".join("\t".join(map(str, fields)) for fields in (rows[0], *(row.values() for row in rows)))
    tasks = []
    for kind in ("jsonl", suffix):
        (tmp_path / kind).mkdir()
        for split in ("train", "dev"):
            path = tmp_path / kind / f"{split}.{kind}"
            if kind == "parquet":
                pd.DataFrame(rows).to_parquet(path)
            else:
                path.write_text(tables[kind], encoding="utf-8")
        tasks.append(load_task(tmp_path / kind))
    assert tasks[0].checksum == tasks[1].checksum and tasks[0].labels == tasks[1].labels


def test_a_split_alone(tmp_path: Path) -> None:
    """A folder with test rows only, and a file: all of its rows are the split that is asked for."""
    folder = task_folder(tmp_path / "only", {"test": ROWS[1:2]}, None)
    with pytest.raises(DataError, match="neither rows .no train.jsonl"):
        load_task(folder)
    for path in (folder, folder / "test.jsonl"):
        task = load_task(path, labels=("positive", "negative"), alone="test")
        assert list(task.dataset) == ["test"] and task.labels == ("positive", "negative")
        assert task.dataset["test"]["label"][:] == [1]
    with pytest.raises(DataError, match="labels NEG are not among the classifier's, toxic, fine"):
        load_task(folder, labels=("toxic", "fine"), alone="test")


def test_rows_without_labels(tmp_path: Path) -> None:
    bare = [{"text": f"t{n}"} for n in range(6)]
    folder = task_folder(tmp_path, {"train": bare, "validation": texts(6)}, {"labels": ["POS", "NEG"]})
    with pytest.raises(DataError, match=r"train\.jsonl:1: unknown label nothing, allowed are POS, NEG"):
        load_task(folder)
    task = in_label_order(load_task(folder, labels=("NEG", "POS")), ["NEG", "POS"])
    assert task.unlabelled == ("train",)
    assert task.dataset["train"]["label"][:] == [-1] * 6 and task.dataset["validation"]["label"][:2] == [1, 0]


# ---- Damaged files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", '{"text": "a", "label": 0}\n{"text"\n', r"train\.jsonl:2: not JSON"),
        ("train.jsonl", "", r"train\.jsonl: holds no rows"),
        ("train.jsonl", '{"text": "a"}', r"train\.jsonl:1: has no 'label'"),
        ("train.jsonl", '{"text": " ", "label": 0}', ":1: a text is empty"),
        (
            "train.jsonl",
            '{"texts": "a", "label": 0}',
            ":1: has none of 'text', 'text_a' and 'tokens'",
        ),
        ("train.jsonl", '{"text": "a", "label": true}', r":1: label\.int: Input should be a valid integer"),
        ("train.jsonl", '{"tokens": ["a", []], "label": 0}', r":1: tokens\.1: Input should be a valid string"),
        (
            "train.jsonl",
            lines([*texts(2), {"text": "a", "text_b": "b"}]),
            r":3: has id, text_a, text_b, the rows",
        ),
        ("train.jsonl", lines([{"id": 1, "text": "a", "label": 0}] * 2), r":2: id '1' appears twice"),
        (
            "train.jsonl",
            lines([*texts(2), {"text": "a", "label": 7}]),
            "or 0, 1, 2, ..., found 0, 1, 7",
        ),
        ("train.csv", "text,label\ngood,1\nbad\n", r"train\.csv, row 2: has other fields than the header"),
        ("train.csv", 'text,label\ngood,1\n"bad,0\n', r"train\.csv, row 1: cannot be read \(unexpected end of data"),
        ("train.parquet", "PAR1", r"train\.parquet: cannot be read"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_task(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("meta", "label", "message"),
    [
        ({"labels": ["1", "2"]}, 1, "label 1 is ambiguous: index 1 is .2., and there is a label called"),
        (LABELS, "neutral", "unknown label 'neutral', allowed are negative, positive"),
        (LABELS, 2, "unknown label 2, allowed are negative, positive"),
        ({"labels": ["a", "a"]}, 0, "meta.json: 'labels' must be different names"),
        ({"labels": "ab"}, 0, "meta.json: labels: Input should be a valid array"),
        ({"max_length": 2}, 0, "meta.json: max_length: Input should be greater than or equal to 8"),
        ({"metric": "f1", "name": "x"}, "a", "f1 is of the second of two 'labels', which must be named in order"),
    ],
)
def test_labels_and_meta_that_do_not_fit(tmp_path: Path, meta: dict[str, Any], label: Any, message: str) -> None:
    rows = [{"text": "a", "label": label}, {"text": "b", "label": "b" if label == "a" else label}]
    with pytest.raises(DataError, match=message):
        load_task(task_folder(tmp_path, {"train": rows, "validation": rows}, meta))


def test_neither_task_nor_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"sst3: neither a task \(sst2, mrpc, .*movies\) nor an existing path"):
        load_task("sst3")
    with pytest.raises(DataError, match="nor an ERASER corpus"):
        load_task(tmp_path)
    with pytest.raises(DataError, match="^data/eraser/movies: no such folder; `adapler data download` puts"):
        load_task("movies")
    write(task_folder(tmp_path / "two", {"train": texts(4)}), {"train.csv": "text,label"})
    with pytest.raises(DataError, match=r"train\.jsonl and train\.csv would be one split, train"):
        load_task(tmp_path / "two")


# ---- Labels


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["NEG", "POS"], ["positive", "negative"], [1, 0]),
        (["positive"], ["NEG", "POS"], [1]),
        (["No", "yes"], ["no", "yes"], [0, 1]),
        (["pos", "Pos"], ["Pos", "pos"], [1, 0]),  # the case is all that tells them apart
        (["1", "0"], ["NEG", "POS"], [1, 0]),
        (["1", "4"], ["1", "2", "3", "4"], [0, 3]),
        (["0", "1"], ["1", "2"], None),
        (["2"], ["NEG", "POS"], None),
        (["bad", "good"], ["LABEL_0", "LABEL_1"], [0, 1]),
        (["toxic", "fine"], ["NEG", "POS"], None),
        (["negative", "neutral"], ["NEG", "POS"], None),
        (["no", "yes"], ["not hateful", "yes"], None),
    ],
)
def test_match_labels(labels: list[str], names: list[str], expected: list[int] | None) -> None:
    assert match_labels(labels, names) == expected


def test_labels_in_a_classifiers_order(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": i % 3} for i in range(12)]
    meta = {"labels": ["Entailment", "neutral", "contradiction"]}
    task = load_task(task_folder(tmp_path, {"train": rows, "validation": rows[:6]}, meta))
    for names in (["contradiction", "ENTAILMENT", "neutral"], ["CON", "ENTAIL", "NEU"]):
        other = in_label_order(task, names)
        assert other.labels == ("contradiction", "Entailment", "neutral") and other.checksum == task.checksum
        for split, table in task.dataset.items():
            said = [task.labels[label] for label in table["label"]]
            assert [other.labels[label] for label in other.dataset[split]["label"]] == said
            assert other.dataset[split].features["label"].names == list(other.labels)
            assert other.dataset[split]["text_a"][:] == table["text_a"][:]
    assert in_label_order(task, ["LABEL_0", "LABEL_1", "LABEL_2"]) is task
    assert in_label_order(task, ["a", "b"]) is task, "their number is checked where the model is loaded"
    with pytest.raises(DataError, match="labels Entailment, neutral, contradiction are not the classifier's, a, b, c"):
        in_label_order(task, ["a", "b", "c"])
    pair = replace(task, labels=("no", "yes"), metric="f1")
    with pytest.raises(DataError, match="f1 is of label 1, 'yes'; the classifier's label 1 is 'no'"):
        in_label_order(pair, ["yes", "no"])


# ---- Held-out rows, lengths, samples


def test_validation_is_cut_from_train_when_missing(tmp_path: Path) -> None:
    folder = task_folder(tmp_path, {"train": texts(200), "test": texts(3), "validation_official": texts(5)})
    task = load_task(folder)
    train, validation = task.dataset["train"], task.dataset["validation"]
    assert (len(train), len(validation)) == (180, 20) and Counter(validation["label"]) == {0: 10, 1: 10}
    assert set(train["id"]) | set(validation["id"]) == {f"train-{n}" for n in range(200)}
    assert task.notes == ("validation: 20 of the 200 rows of train, stratified, seed 0",)
    assert load_task(folder).dataset["validation"]["id"][:] == validation["id"][:]
    assert len(load_task(folder, how=HoldOut(share=0.25, seed=1)).dataset["validation"]) == 50
    write(folder, {"validation.jsonl": lines(texts(4))})
    with pytest.raises(ArgumentError, match="--validation-share: .* has a validation split of its own"):
        load_task(folder, how=HoldOut(share=0.25))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=400), st.integers(0, 5))
def test_hold_out_is_a_stratified_partition(labels: list[int], seed: int) -> None:
    held = hold_out(labels, HoldOut(seed=seed))
    assert held.shape == (len(labels),) and held.sum() <= max(1, round(len(labels) / 10))
    for label, count in Counter(labels).items():
        taken = sum(labels[index] == label for index in np.flatnonzero(held))
        assert taken < count and taken <= count / 10 + 1.5
    assert (hold_out(labels, HoldOut(seed=seed)) == held).all()


def test_hold_out_by_hand() -> None:
    """10 of 100: 1.6, 2.2 and 6.2 rows of three labels are 2, 2 and 6. A share has no bound, the default has."""
    labels = [0] * 16 + [1] * 22 + [2] * 62
    assert np.bincount(np.array(labels)[hold_out(labels, HoldOut())]).tolist() == [2, 2, 6]
    labels = np.zeros(50_000, dtype=int)
    assert [hold_out(labels, how).sum() for how in (HoldOut(share=0.5), HoldOut())] == [25_000, 2000]


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [("sst2", 9, 64), ("qnli_dev", 9, 128), ("mine", 9, 32), ("mine", 100, 160), ("mine", 900, 512)],
)
def test_default_length(name: str, words: int, expected: int) -> None:
    rows = Dataset.from_dict({"text_a": ["w " * (words - 1) + "w"] * 3})
    assert default_max_length(name, rows, columns=("text_a",)) == expected


@pytest.mark.parametrize(
    ("counts", "n", "expected"),
    [
        ((10, 10, 10), 7, (3, 2, 2)),  # no multiple: the first label gives one more
        ((2, 10, 10), 12, (2, 5, 5)),  # too few rows: all of them, the rest is shared
        ((1, 2, 10), 9, (1, 2, 6)),
        ((10, 10), 1, (1, 0)),
        ((3, 4), 7, (3, 4)),
        ((3, 4), 100, (3, 4)),
    ],
)
def test_shares_of_a_balanced_sample(counts: tuple[int, ...], n: int, expected: tuple[int, ...]) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    found = Counter(labels[row] for row in balanced_indices(labels, n, seed=0))
    assert tuple(found[label] for label in range(len(counts))) == expected


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), n=st.integers(1, 70), seed=st.integers(0, 9))
def test_balanced_samples_are_nested(labels: list[int], n: int, seed: int) -> None:
    chosen = balanced_indices(labels, n, seed=seed)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(n, len(labels))
    assert set(chosen) <= set(balanced_indices(labels, n + 1, seed=seed))


def test_a_balanced_sample_keeps_the_order() -> None:
    dataset = Dataset.from_dict({"id": list("abcdefgh"), "label": [0, 0, 0, 0, 0, 1, 1, 1]})
    sample = balanced_sample(dataset, 4, seed=3)
    assert sorted(sample["label"]) == [0, 0, 1, 1] and list(sample["id"]) == sorted(sample["id"])
    with pytest.raises(ArgumentError, match="n: 0 is not at least 1"):
        balanced_indices([0, 1], 0, seed=0)


# ---- ERASER corpora and names


def test_an_eraser_corpus_is_a_task(tmp_path: Path) -> None:
    many = {f"d{n}": f"word {n}" for n in range(20)}
    splits = {"train": [row(d, "NEG" if n % 2 else "POS") for n, d in enumerate(many)], "test": [row("d0", "POS")]}
    files = files_of(splits, many)
    folder = write(tmp_path / "data" / "movies", files)
    task = load_task(folder)
    assert (task.columns, task.labels, task.max_length, task.metric) == (("words",), ("NEG", "POS"), 512, "accuracy")
    assert task.dataset["test"][0] == {"id": "d0", "words": ["word", "0"], "label": 1}
    assert {split: len(rows) for split, rows in task.dataset.items()} == {"train": 18, "validation": 2, "test": 1}
    assert task.notes[0] == "1 examples are in two splits, the first: train d0 and test d0 have the same id"
    for path, data_dir in [
        (pack(tmp_path / "x.tar.gz", files), None),
        (tmp_path / "data", None),
        ("movies", tmp_path / "data"),
        ("movies", folder),
    ]:
        assert load_task(path, data_dir=data_dir).checksum == task.checksum
    assert load_task(folder, how=HoldOut(seed=1)).checksum != task.checksum, "another validation split is other data"


def test_with_data_dir_a_name_is_looked_up_there_alone(tmp_path: Path) -> None:
    folder = task_folder(tmp_path / "sst2", {"train": texts(20)})
    (folder / "paper" / "docs").mkdir(parents=True)  # which does not make it a corpus
    assert load_task("sst2", data_dir=tmp_path).max_length == 64
    with pytest.raises(DataError, match="mrpc: no such folder; without --data-dir the task mrpc comes from the hub$"):
        load_task("mrpc", data_dir=tmp_path)
    with pytest.raises(ArgumentError, match=r"^--data-dir: only for a named task \(sst2, .*, not "):
        load_task(tmp_path / "sst2", data_dir=tmp_path)


@pytest.mark.slow
def test_every_development_task_loads(development_data: Callable[[str], Path]) -> None:
    for folder in filter(Path.is_dir, development_data("tasks").iterdir()):
        meta, task = json.loads((folder / "meta.json").read_text()), load_task(folder)
        assert task.labels == tuple(meta["labels"])
        assert len(task.dataset["test"]) == meta["split_sizes"]["test"]


# ---- The hub: its columns become ours; `load_dataset` is replaced, no network is touched


def table(texts: tuple[str, ...], names: list[str], count: int, mark: str = "") -> Dataset:
    columns: dict[str, list[Any]] = {text: [f"{mark}{text} {n}" for n in range(count)] for text in texts}
    columns["label"] = [n % len(names) for n in range(count)]
    features = Features({**dict.fromkeys(texts, Value("string")), "label": ClassLabel(names=names)})
    return Dataset.from_dict({**columns}, features=features)


def hub(monkeypatch: pytest.MonkeyPatch, tables: dict[str, Dataset]) -> list[Any]:
    calls: list[Any] = []

    def load(repository: str, config: str | None = None, **options: Any) -> DatasetDict:
        calls.append((repository, config, options))
        return DatasetDict(tables)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


@pytest.mark.parametrize(
    ("name", "texts", "names", "metric", "length"),
    [
        ("sst2", ("sentence",), ["negative", "positive"], "accuracy", 64),
        ("mrpc", ("sentence1", "sentence2"), ["not_equivalent", "equivalent"], "f1", 128),
        ("mnli", ("premise", "hypothesis"), ["entailment", "neutral", "contradiction"], "accuracy", 128),
    ],
)
def test_glue(
    monkeypatch: pytest.MonkeyPatch, name: str, texts: tuple[str, ...], names: list[str], metric: str, length: int
) -> None:
    dev = "validation_matched" if name == "mnli" else "validation"
    calls = hub(monkeypatch, {"train": table(texts, names, 60), dev: table(texts, names, 6, mark="dev ")})
    task = load_task(name)
    assert calls == [("nyu-mll/glue", name, {"revision": None})]
    assert (task.name, task.labels, task.metric, task.max_length) == (name, tuple(names), metric, length)
    assert {split: len(rows) for split, rows in task.dataset.items()} == {"train": 54, "validation": 6, "test": 6}
    row = {key: value for key, value in task.dataset["test"][1].items() if key != "text_b"}
    assert row == {"id": "test-1", "text_a": f"dev {texts[0]} 1", "label": 1}
    for split in ("train", "validation"):  # a row keeps its number in the hub's train, whichever split it is in now
        assert all(f"{texts[0]} {row['id'].removeprefix('train-')}" == row["text_a"] for row in task.dataset[split])


def test_hatexplain_takes_the_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = [[0, 0, 2], [0, 1, 2], [1, 1, 1]]
    split = Dataset.from_dict(
        {
            "id": ["p", "q", "r"],
            "annotators": [{"label": three} for three in votes],
            "post_tokens": [["a", "b"], ["c"], ["d"]],
        },
        features=Features(
            {"id": Value("string"), "annotators": {"label": List(Value("int64"))}, "post_tokens": List(Value("string"))}
        ),
    )
    calls = hub(monkeypatch, {"train": split, "validation": split, "test": split})
    task = load_task("hatexplain")
    assert calls == [("Hate-speech-CNERG/hatexplain", None, {"revision": "refs/convert/parquet"})]
    assert list(task.dataset["validation"]) == [
        {"id": "p", "text_a": "a b", "label": 0},
        {"id": "r", "text_a": "d", "label": 1},
    ]
    assert task.labels == ("hatespeech", "normal", "offensive")


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach\n 'nyu-mll/glue' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"task 'sst2': nyu-mll/glue cannot be loaded .*Couldn't reach 'nyu.*local"):
        load_task("sst2")
    assert set(TASKS) == set("sst2 mrpc imdb ag_news dbpedia14 qnli mnli hatexplain movies".split())
