"""The packaged MiniLM on reviews of the sample: what holds on tiny models holds on a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapler import AdapLeRForSequenceClassification
from adapler import minilm as encoder
from adapler.eraser import read_corpus
from adapler.modeling import reinitialise_head
from adapler.text import load_tokenizer

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[3] / "data" / "eraser" / "sample"


@pytest.fixture(scope="module")
def folder() -> Path:
    pytest.importorskip(encoder.PACKAGE)
    return encoder.packaged_minilm()


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    torch.manual_seed(0)
    model = AdapLeRForSequenceClassification.from_backbone(folder, labels=["NEG", "POS"])
    with torch.no_grad():
        for predictor in model.contribution_predictors:
            predictor.score.weight.normal_(std=0.5)
        model.eta.fill_(0.6)
    return model


@pytest.fixture(scope="module")
def batch(folder: Path) -> Any:
    reviews = [list(example.words) for example in read_corpus(SAMPLE).splits["val"][:6]]
    tokenizer = load_tokenizer(folder)
    return tokenizer(reviews, is_split_into_words=True, padding=True, truncation=True, return_tensors="pt")


@torch.inference_mode()
def test_no_removal_is_the_backbone(model: Any, batch: Any) -> None:
    expected = model.backbone(**batch).logits
    torch.testing.assert_close(model(**batch, removal="none").logits, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_batch_equals_its_rows_and_soft_keeps_what_hard_keeps(model: Any, batch: Any) -> None:
    together = model(**batch)
    assert 1 < float(together.lengths[:, -1].float().mean()) < 0.8 * batch["attention_mask"].sum(1).float().mean()
    for row in range(len(batch["input_ids"])):
        n = int(batch["attention_mask"][row].sum())
        alone = model(**{name: value[row : row + 1, :n] for name, value in batch.items()})
        assert torch.equal(alone.retention_mask[0], together.retention_mask[row, :, :n])
        torch.testing.assert_close(alone.logits[0], together.logits[row], atol=1e-5, rtol=1e-5)
    soft = model(**batch, removal="soft", slope=1e7)
    assert torch.equal(soft.retention_mask, together.retention_mask)
    torch.testing.assert_close(soft.logits, together.logits, atol=1e-4, rtol=1e-4)


def test_its_pooler_is_recognised_as_never_trained(folder: Path) -> None:
    model = AdapLeRForSequenceClassification.from_backbone(folder, num_labels=2)
    assert reinitialise_head(model.backbone, mode="auto")
    assert not reinitialise_head(model.backbone, mode="auto"), "a healthy pooler is left alone"
