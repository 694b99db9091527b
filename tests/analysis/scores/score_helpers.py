"""Fixed documents and models for the tests of the scoring methods."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from analysis.scores import Batch, ScoringMethod, get_method, method_names
from tests.conftest import CLASSIFIERS, padding_of, random_batch, tiny_adapler, tiny_classifier

LENGTHS = [9, 4, 12, 3]
FEW = {
    "integrated_gradients": {"n_steps": 6},
    "gradient_shap": {"n_samples": 4},
    "lime": {"n_samples": 24},
    "kernel_shap": {"n_samples": 24},
    "shapley_sampling": {"n_samples": 2},
    "smoothgrad": {"n_samples": 4},
    "vargrad": {"n_samples": 4},
}
NAMES = method_names()
every_family = pytest.mark.parametrize("family", sorted(CLASSIFIERS))


def method_of(name: str) -> ScoringMethod:
    return get_method(name, **FEW.get(name, {}))


def model_of(name: str, family: str) -> Any:
    if name in ("globenc", "alti") and family == "modernbert":
        pytest.skip(f"{name} is defined for norms after the residuals")
    return tiny_adapler(family) if "adapler" in get_method(name).needs else tiny_classifier(family)


def batch_for(family: str, rows: list[int] | None = None, *, seed: int = 0) -> Batch:
    """Rows of one fixed set of documents, padded to the longest of those asked for."""
    pad = padding_of(family)
    inputs = random_batch(LENGTHS, pad=pad)
    rows = list(range(len(LENGTHS))) if rows is None else rows
    width = max(LENGTHS[row] for row in rows)
    ids, mask = inputs["input_ids"][rows, :width], inputs["attention_mask"][rows, :width]
    special = torch.zeros_like(mask, dtype=torch.bool)
    special[:, 0] = True
    for place, row in enumerate(rows):
        special[place, LENGTHS[row] - 1] = True
    return Batch(
        ids=tuple(f"document {row}" for row in rows),
        input_ids=ids,
        attention_mask=mask,
        labels=torch.tensor([[0, 1, 2, 0][row] for row in rows]),
        special=special,
        mask_token_id=4,
        seed=seed,
    )


def eager_heads(model: Any, batch: Batch) -> list[Tensor]:
    """(B, H, N, N) a layer, straight from transformers, from a copy that is eager from birth."""
    config = type(model.config).from_dict(model.config.to_dict())
    config._attn_implementation = "eager"
    twin = type(model)(config).eval()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        return list(twin(**batch.model_inputs(), output_attentions=True).attentions)


def logits_of(model: Any, batch: Batch) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**batch.model_inputs()).logits
        return logits


class Bag(nn.Module):
    """logit_c = sum over real tokens of w_c . e_i: every attribution is known by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.out = nn.Embedding(20, 6), nn.Linear(6, 2, bias=False)

    class config:  # noqa: N801 - the attribute's name is transformers'
        num_hidden_layers, pad_token_id, num_labels = 1, 0, 2

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        vectors = self.words(input_ids) if inputs_embeds is None else inputs_embeds
        assert attention_mask is not None
        return SequenceClassifierOutput(logits=(self.out(vectors) * attention_mask[..., None]).sum(1))
