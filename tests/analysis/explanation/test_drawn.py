"""What is drawn of one text."""

from __future__ import annotations

from typing import Any

from analysis import explain
from tests.analysis.conftest import BAD


def test_scores_of_words_are_not_summed_twice(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(
        BAD,
        model=classifier,
        tokenizer=tiny_tokenizer,
        methods=[],
        scores={"mine": [1.0, 2, 3, 4, 5, 6, 7, 8]},
        rationale=[3],
    )
    names = ["average_precision", "fpr", "tpr"]
    assert e.metrics(metrics=names, aggregation="sum").equals(e.metrics(metrics=names, aggregation="max"))


def test_words_of_the_rationale_are_bold(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"], rationale=[1, 3])
    bold = [label.get_fontweight() == "bold" for label in e.plot(layer=0).axes[-1].get_xticklabels()]
    assert bold == e.document().rationale.tolist() and any(bold) and not all(bold)


def test_a_tip_counts_in_the_tokens_that_are_there(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"])
    cp = e.methods["cp"]
    assert cp.n_present[-1] < e.n
    assert f"{cp.scores[-1, 0] * cp.n_present[-1]:.2f}/n" in e._repr_html_().rpartition("Layer 2")[2].split("|")[1]
