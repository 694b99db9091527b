"""Faithfulness: what its cached numbers depend on, and what is taken away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis.documents.alignment import align
from analysis.documents.units import WindowScores
from analysis.evaluation import faithfulness, scoring
from analysis.evaluation.cache import ScoreCache
from analysis.evaluation.settings import Settings
from analysis.metrics.faithfulness import faithfulness_rows, leave_one_out, loo_kendall
from analysis.scores import get_method
from tests.analysis.conftest import BAD, GOOD, Document

CHANGES: dict[str, dict[str, Any]] = {
    "metrics": {"metrics": ("aopc_sufficiency",)},
    "layers": {"faithfulness_layers": (1,)},
    "aggregation": {"aggregation": "max"},
    "seed": {"seed": 1},
    "variant": {"faithfulness_variant": "mask"},
    "bins": {"protocol": "ferret"},
    "dtype": {"dtype": "bfloat16"},
    "density": {"density_": 0.3},
    "target": {"target": 1},
    "mask": {"mask": 7},
    "words": {"join": True},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_faithfulness_depends_on_is_in_its_key(
    name: str, reducer: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    (whole,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows
    joined = replace(whole, words=np.where(whole.special, -1, np.minimum(whole.words, 4)))
    scores = np.full((3, len(whole)), 1 / len(whole), dtype=np.float32)

    def key(
        *, target: int = 0, join: bool = False, mask: int = 28, density_: float | None = None, **settings: Any
    ) -> str | None:
        judge = faithfulness.Perturbation(
            model=reducer.backbone,
            tokenizer=SimpleNamespace(pad_token_id=5, mask_token_id=mask),
            settings=Settings(**({"metrics": ("aopc_comprehensiveness",)} | settings)),
            cache=ScoreCache(tmp_path),
            fingerprint="model",
            density=density_,
        )
        return judge._key(joined if join else whole, target, WindowScores(scores))

    assert key() == key() != key(**CHANGES[name])


def test_the_mask_token_is_in_the_key_of_scores(reducer: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    (window,) = align(Document("d", GOOD, [1]), tiny_tokenizer).windows

    def keys(mask: int) -> list[str | None]:
        tokenizer: Any = SimpleNamespace(pad_token_id=5, mask_token_id=mask)
        scorer = scoring.Scorer(
            model=reducer.backbone, adapler=None, tokenizer=tokenizer, methods=[get_method("occlusion")],
            settings=Settings(), cache=ScoreCache(tmp_path),
        )  # fmt: skip
        return [scorer.key("occlusion", window, 0)]

    assert keys(28) == keys(28) != keys(27), "occlusion puts the mask token in"


def test_leave_one_out_takes_away_as_the_variant_says(classifier: Any, tiny_tokenizer: Any) -> None:
    (window,) = align(Document("d", BAD, [1]), tiny_tokenizer).windows
    scores = np.random.default_rng(0).random((1, len(window)))
    settings = Settings(metrics=("loo_kendall",), faithfulness_variant="mask")
    judge = faithfulness.Perturbation(
        model=classifier, tokenizer=tiny_tokenizer, settings=settings, cache=ScoreCache(None), fingerprint=None
    )
    content = ~window.special
    drops = leave_one_out(
        judge._predictor(window),
        window.input_ids,
        content,
        target=0,
        variant="mask",
        mask_id=tiny_tokenizer.mask_token_id,
    )
    found = judge.values(window, 0, {"mine": WindowScores(scores, signed=True)})["mine"]
    assert found[0, 0] == pytest.approx(loo_kendall(drops, scores[0, content]))
    deleted = leave_one_out(judge._predictor(window), window.input_ids, content, target=0)
    assert loo_kendall(deleted, scores[0, content]) != pytest.approx(found[0, 0])


def test_limits_are_of_the_tokens_that_may_be_taken(classifier: Any, tiny_tokenizer: Any) -> None:
    from analysis.metrics.faithfulness import aopc_bounds

    (window,) = align(Document("d", BAD, [1]), tiny_tokenizer).windows
    scores = np.zeros((1, len(window)))
    scores[0, 2:4] = 0.6, 0.4
    settings = Settings(protocol="ferret", metrics=("aopc_comprehensiveness", "naopc_comprehensiveness"))
    judge = faithfulness.Perturbation(
        model=classifier, tokenizer=tiny_tokenizer, settings=settings, cache=ScoreCache(None), fingerprint=None
    )
    plain, normalised = judge.values(window, 0, {"mine": WindowScores(scores)})["mine"][0]
    low, high = aopc_bounds(
        judge._predictor(window), window.input_ids, ~window.special, kind="comprehensiveness", target=0,
        settings=judge.how, usable=2,
    )  # fmt: skip
    assert normalised == pytest.approx((plain - low) / (high - low)), "two tokens may be taken"


def test_words_of_one_score_go_whole(classifier: Any, tiny_tokenizer: Any) -> None:
    """Where wordpieces have their word's score, a random order of them would cut words in two."""
    (window,) = align(Document("d", BAD, [1]), tiny_tokenizer).windows
    settings = Settings(metrics=("aopc_comprehensiveness",), aggregation="max")
    judge = faithfulness.Perturbation(
        model=classifier, tokenizer=tiny_tokenizer, settings=settings, cache=ScoreCache(None), fingerprint=None
    )
    content = ~window.special
    found = judge.values(window, 0, {"mine": WindowScores(np.full((1, len(window)), 0.1))})["mine"][0, 0]
    whole, cut = (
        faithfulness_rows(
            judge._predictor(window), window.input_ids, content, np.full((1, content.sum()), 0.1), target=0,
            settings=judge.how, words=words,
        )[0]["aopc_comprehensiveness"]
        for words in (window.words[content], None)
    )  # fmt: skip
    assert found == pytest.approx(whole) != pytest.approx(cut)


@pytest.mark.parametrize(
    ("length", "expected"), [(7, [0, 0, 0, 0, 0, 1, 1]), (5, [0, 0, 0, 1, 1]), (4, [0, 0, 1, 1])]
)  # fmt: skip
def test_what_is_left_of_a_document_stays_the_first_segment(length: int, expected: list[int]) -> None:
    """[CLS], three tokens, [SEP], a query, [SEP]: with all tokens, one of them, and none."""
    types, content = np.array([0, 0, 0, 0, 0, 1, 1]), np.array([False, True, True, True, False, False, False])
    assert faithfulness.version_types(types, content, length=length).tolist() == expected
    assert faithfulness.version_types(types[:2], np.zeros(2, dtype=bool), length=2).tolist() == [0, 0]
