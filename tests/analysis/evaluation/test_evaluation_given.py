"""Scores from files, human rationales, faithfulness, protocols, rationales written and read back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapler.eraser import read_corpus
from adapler.errors import ArgumentError, DataError
from analysis import loading
from analysis.documents.alignment import align
from analysis.documents.batching import collate
from analysis.evaluation.given import read_given
from analysis.metrics import plausibility as pl
from analysis.scores import get_method
from tests.analysis.evaluation.test_evaluation import run, value


def test_a_perfect_human_and_its_ceiling(adapler_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    lines = (corpus_folder / "test.jsonl").read_text().splitlines()
    (tmp_path / "crowd.jsonl").write_text("\n".join(lines[:2]))  # neg_0 and neg_1 only
    result = run(
        adapler_folder,
        corpus_folder,
        methods=["random"],
        predictions=[tmp_path / "crowd.jsonl"],
        human=corpus_folder / "test.jsonl",
        metrics=["average_precision", "fpr", "tpr", "roc_auc"],
    )
    assert result.methods == ("random", "crowd", "human")
    assert result.meta["layerwise"] == {"random": True, "crowd": False, "human": False}
    for document in ("neg_0", "neg_1", "pos_0", "pos_long"):
        for metric, best in (("average_precision", 1), ("fpr", 0), ("tpr", 1), ("roc_auc", 1)):
            assert value(result, "human", 0, document, metric) == best, (document, metric)
    assert result.meta["missing"] == {"crowd": 4, "human": 0}
    rows = result.to_frame()
    assert set(rows[rows["method"] == "crowd"]["document"]) == {"neg_0", "neg_1"}
    with pytest.raises(ArgumentError, match="predictions: two sources are named 'human'"):
        run(
            adapler_folder,
            corpus_folder,
            predictions=[_named(tmp_path, lines, "human")],
            human=tmp_path / "crowd.jsonl",
        )
    with pytest.raises(ArgumentError, match="predictions: 'random' is the name of a method"):
        run(adapler_folder, corpus_folder, methods=["random"], predictions=[_named(tmp_path, lines, "random")])


def _named(folder: Path, lines: list[str], name: str) -> Path:
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder / f"{name}.jsonl"


def test_predictions_under_all_windows_keep_their_ranking(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    # "unforgettable" is two wordpieces; windows must not be normalised one by one
    words = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["pos_long"]
    scores = np.linspace(1, 2, len(words.words))
    soft = [{"docid": "pos_long", "soft_rationale_predictions": scores.tolist()}]
    (tmp_path / "mine.jsonl").write_text(json.dumps({"annotation_id": "pos_long", "rationales": soft}))
    for aggregation in ("max", "mean", "sum"):
        result = run(
            adapler_folder,
            corpus_folder,
            methods=[],
            predictions=[tmp_path / "mine.jsonl"],
            policy="all-windows",
            aggregation=aggregation,
        )
        expected = pl.average_precision(words.rationale(), scores)
        assert value(result, "mine", 0, "pos_long", "average_precision") == pytest.approx(expected)


def test_faithfulness(adapler_folder: Path, corpus_folder: Path, tiny_tokenizer: Any) -> None:
    names = ["average_precision", "comprehensiveness_20", "sufficiency_50", "aopc_comprehensiveness", "loo_kendall"]
    result = run(adapler_folder, corpus_folder, methods=["saliency", "random"], metrics=names, faithfulness_layers=[2])
    assert result.metrics == tuple(names)
    assert np.isnan(result.values[:, :2, :, 1:]).all()  # layers that were not asked for
    classifier = loading.load_models(None, adapler_folder)[0]
    example = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["neg_1"]
    (window,) = align(example, tiny_tokenizer, max_length=24).windows
    batch = collate([window], pad_token_id=5)
    scores = get_method("saliency")(classifier, batch).scores[0, 2].numpy()
    content = np.flatnonzero(~window.special)
    order = content[np.argsort(-scores[content], kind="stable")]

    def probability(kept: np.ndarray) -> Any:
        ids = torch.tensor([window.input_ids[np.sort(kept)].tolist()])
        return classifier(input_ids=ids).logits.softmax(-1)[0].detach().numpy()

    whole = probability(np.arange(len(window)))
    target = int(whole.argmax())
    k = math.ceil(0.2 * len(content))
    expected = whole[target] - probability(np.setdiff1d(np.arange(len(window)), order[:k]))[target]
    assert value(result, "saliency", 2, "neg_1", "comprehensiveness_20") == pytest.approx(expected, abs=1e-5)
    special = np.flatnonzero(window.special)
    expected = whole[target] - probability(np.union1d(special, order[: math.ceil(0.5 * len(content))]))[target]
    assert value(result, "saliency", 2, "neg_1", "sufficiency_50") == pytest.approx(expected, abs=1e-5)
    assert -1 <= value(result, "random", 2, "neg_1", "loo_kendall") <= 1


def test_faithfulness_alone_needs_no_rationale(adapler_folder: Path, corpus_folder: Path) -> None:
    names = ["aopc_comprehensiveness", "naopc_sufficiency"]
    alone = run(adapler_folder, corpus_folder, methods=["saliency"], metrics=names)
    assert alone.n_skipped == 0 and not np.isnan(alone.values[..., 0]).any()
    both = run(adapler_folder, corpus_folder, methods=["saliency"], metrics=[*names, "average_precision"])
    scored = [i for i, document in enumerate(both.documents) if document.skipped is None]
    assert 0 < len(scored) < len(both.documents), "a metric that compares with rationales skips some"
    assert np.array_equal(alone.values[:, :, scored], both.values[:, :, scored, :2], equal_nan=True)
    assert alone.meta["density"] == both.meta["density"], "of the documents that have a rationale"


def test_protocols_fix_and_options_override(adapler_folder: Path, corpus_folder: Path) -> None:
    short = {"methods": ["random"], "faithfulness_layers": [0]}
    eraser = run(adapler_folder, corpus_folder, protocol="eraser", **short)
    assert (eraser.meta["protocol"], eraser.meta["policy"], eraser.meta["aggregation"]) == (
        "eraser",
        "all-windows",
        "max",
    )
    assert "iou_f1" in eraser.metrics and "aopc_sufficiency" in eraser.metrics
    mine = run(
        adapler_folder, corpus_folder, protocol="eraser", policy="truncate", metrics=["ranking"], methods=["random"]
    )
    assert mine.meta["policy"] == "truncate" and mine.meta["aggregation"] == "max"
    assert mine.metrics[:2] == ("average_precision", "roc_auc")
    ferret = run(adapler_folder, corpus_folder, protocol="ferret", **short)
    assert "loo_kendall" in ferret.metrics and np.isfinite(ferret.values[0, 0, 0]).any()


def test_rationales_can_be_evaluated_again(adapler_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"policy": "all-windows", "aggregation": "max"}
    first = run(
        adapler_folder,
        corpus_folder,
        methods=["saliency", "cp"],
        rationales=tmp_path / "out",
        rationale_layer=2,
        **options,
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cp.jsonl", "saliency.jsonl"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "saliency.jsonl").read_text().splitlines()]
    assert [row["annotation_id"] for row in rows] == [d.id for d in first.documents]
    examples = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}
    for row, document in zip(rows, first.documents, strict=True):
        (rationale,) = row["rationales"]
        assert len(rationale["soft_rationale_predictions"]) == len(examples[row["annotation_id"]].words)
        assert rationale["docid"] == row["annotation_id"] and rationale["hard_rationale_predictions"]
        assert row["classification"] == document.prediction
        assert sum(row["classification_scores"].values()) == pytest.approx(1)
    again = run(adapler_folder, corpus_folder, methods=[], predictions=[tmp_path / "out" / "saliency.jsonl"], **options)
    np.testing.assert_allclose(again.values[0, 0, :, 0], first.values[0, 2, :, 0], atol=1e-9)
    for row in rows:  # the fields that ERASER's scorer reads
        for field in ("comprehensiveness_classification_scores", "sufficiency_classification_scores"):
            assert sum(row[field].values()) == pytest.approx(1) and set(row[field]) == {"NEG", "POS"}
        assert row["comprehensiveness_classification_scores"] != row["classification_scores"]


@pytest.mark.parametrize("form", ["dict", "frame", "file"])
def test_documents_that_are_not_drawn_decide_on_the_sign_too(
    form: str, adapler_folder: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    every = read_corpus(corpus_folder).splits["test"]
    scores = {one.id: np.full(len(one.words), 0.5) for one in every}
    scores[every[-1].id][0] = -1
    source: Any = scores
    if form == "frame":
        source = pd.DataFrame([{"document": k, "score": v} for k, values in scores.items() for v in values])
    elif form == "file":
        source = _written(tmp_path / "given.jsonl", scores)
    (given,) = read_given({"given": source} if form != "file" else source, None, every[:2])
    assert given.signed and set(given.predictions) == {every[0].id, every[1].id}
    scores[every[-1].id][0] = 1
    (given,) = read_given({"given": scores}, None, every[:2])
    assert not given.signed


def _written(path: Path, scores: dict[str, Any]) -> Path:
    rows = [
        {"annotation_id": k, "rationales": [{"docid": k, "soft_rationale_predictions": list(v)}]}
        for k, v in scores.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hard_file(path: Path, spans: dict[str, list[tuple[int, int]]]) -> Path:
    rows = [
        {
            "annotation_id": name,
            "rationales": [
                {"docid": name, "hard_rationale_predictions": [{"start_token": a, "end_token": b} for a, b in marked]}
            ],
        }
        for name, marked in spans.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_hard_rationale_is_judged_as_it_is(adapler_folder: Path, corpus_folder: Path, tmp_path: Path) -> None:
    marked = hard_file(tmp_path / "mine.jsonl", {"neg_0": [(1, 4)], "neg_1": [(4, 5)], "pos_0": []})
    result = run(
        adapler_folder,
        corpus_folder,
        methods=[],
        predictions=[marked],
        metrics=["token_f1", "fpr", "tpr", "j"],
        aggregation="max",
    )
    assert value(result, "mine", 0, "neg_0", "token_f1") == 1
    assert value(result, "mine", 0, "neg_1", "token_f1") == pytest.approx(2 / 3)  # one of two words, none wrong
    # nothing marked: nothing selected, not everything
    assert [value(result, "mine", 0, "pos_0", metric) for metric in ("token_f1", "fpr", "tpr", "j")] == [0, 0, 0, 0]
    assert result.meta["chance_by_method"]["mine"]["documents"] == 3


@pytest.mark.parametrize("aggregation", ["none", "max", "mean", "sum"])
def test_equal_words_stay_equal_in_windows_of_different_length(
    adapler_folder: Path, corpus_folder: Path, tmp_path: Path, aggregation: str
) -> None:
    example = {e.id: e for e in read_corpus(corpus_folder).splits["test"]}["pos_long"]
    spans = {"pos_long": [(0, 3), (9, 12), (20, 30), (40, 45)]}
    mask = np.zeros(len(example.words))
    for start, end in spans["pos_long"]:
        mask[start:end] = 0.3
    soft = [{"docid": "pos_long", "soft_rationale_predictions": (mask + 0.1).tolist()}]
    (tmp_path / "soft.jsonl").write_text(json.dumps({"annotation_id": "pos_long", "rationales": soft}))
    result = run(
        adapler_folder,
        corpus_folder,
        methods=[],
        policy="all-windows",
        aggregation=aggregation,
        max_length=17,
        predictions=[hard_file(tmp_path / "hard.jsonl", spans), tmp_path / "soft.jsonl"],
    )
    both = [value(result, name, 0, "pos_long", "average_precision") for name in ("hard", "soft")]
    assert both[0] == both[1]
    if aggregation != "none":
        assert both[0] == pytest.approx(pl.average_precision(example.rationale(), mask))


def test_scores_as_dicts_and_frames(corpus_folder: Path) -> None:
    examples = read_corpus(corpus_folder).splits["test"][:2]
    words = {e.id: np.arange(len(e.words)) / 10 for e in examples}
    layered = {name: np.stack([row, -row]) for name, row in words.items()}
    frame = pd.DataFrame(
        [
            (name, layer, i, x)
            for name, rows in layered.items()
            for layer, row in enumerate(rows)
            for i, x in enumerate(row)
        ],
        columns=["document", "layer", "word", "score"],
    )
    one, two, three = read_given({"plain": words, "layers": layered, "table": frame}, None, examples)
    assert (one.name, two.name, three.name) == ("plain", "layers", "table")
    assert one.layers is None and two.layers == three.layers == 2 and three.signed
    for name, rows in layered.items():
        np.testing.assert_array_equal(three.predictions[name].scores, rows)
    (alone,) = read_given(words, None, examples)
    assert alone.name == "given" and read_given(frame.assign(method="a"), None, examples)[0].name == "a"
    shuffled = {name: pd.Series(row).sample(frac=1, random_state=1) for name, row in words.items()}
    (series,) = read_given(("mine", shuffled), None, examples)
    assert series.name == "mine"
    for name, row in words.items():
        np.testing.assert_array_equal(series.predictions[name].scores, row)
    first = examples[0].id
    for wrong, message in (
        (5, "predictions: got a int, must be a path, a dict, a data frame, or a list of them"),
        ([("a", words, 3)], r"predictions: a tuple must be \(name, source\), got one of 3 values"),
        ([words, words], "two sources are named 'given', a method's name; {name: source} names them"),
    ):
        with pytest.raises(ArgumentError, match=message):
            read_given(wrong, None, examples)  # type: ignore[arg-type]
    for source, message in (
        ({first: pd.Series(words[first])[:-1]}, r"scores of shape \(7,\), must be \(8 words,\)"),
        ({first: pd.Series(words[first], index=range(1, 9))}, f"document {first}: a Series goes by its index, which"),
        ({first: [0.1]}, rf"given: document {first}: scores of shape \(1,\), must be \(8 words,\)"),
        ({first: [math.nan] * 8}, f"given: document {first}: scores must be finite, found nan"),
        ({first: [10**400] * 8}, f"given: document {first}: scores must be numbers"),
        ({"other": [0.1]}, "given: has none of the 2 documents"),
        (frame.drop(columns="score"), "given: the data frame has no column 'score'"),
        (frame[frame["word"] != 2], f"given: document {first}: no score for word 2 in layer 0"),
        (frame.replace({"word": {7: 10**12}}), f"document {first}: no score for word 7, and one for word {10**12}"),
        (frame.replace({"layer": {1: 10**12}}), f"document {first}: no score for layer 1, and one for layer {10**12}"),
    ):
        with pytest.raises(DataError, match=message):
            read_given(source, None, examples)


def test_marks_from_python_are_hard_rationales_as_in_a_file(corpus_folder: Path) -> None:
    examples = read_corpus(corpus_folder).splits["test"][:2]
    marks = {e.id: [0, 1] + [0] * (len(e.words) - 2) for e in examples}
    for source in (marks, {key: torch.tensor(row, dtype=torch.float32) for key, row in marks.items()}):
        (human,) = read_given((), source, examples)
        for example in examples:
            np.testing.assert_array_equal(human.hard(example.id), np.array(marks[example.id]) == 1)
    first = examples[0].id
    soft = [0.5, *marks[first][1:]]
    for scores in (soft, [0] * len(soft), np.stack([marks[first]] * 2)):
        (given,) = read_given({first: scores}, None, examples)
        assert given.hard(first) is None
    (given,) = read_given(marks | {"another": [0.5, 1]}, None, examples)  # not evaluated, and of the same source
    assert given.hard(first) is None
