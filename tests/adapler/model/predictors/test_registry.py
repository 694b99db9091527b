"""Predictors by name: in configurations, in folders, and of one's own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import initialization as init

from adapler import AdapLeRConfig, AdapLeRForSequenceClassification, ArgumentError, CheckpointError, contribution
from adapler.contribution import Cost, ExactLinear, PackedRow, Predictor, predictor, predictor_class
from adapler.flops import policy_flops
from tests.conftest import random_batch, tiny_adapler, tiny_classifier


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Predictor]]:
    monkeypatch.setattr(contribution.PREDICTORS, "classes", dict(contribution.PREDICTORS.classes))

    @predictor("linear")
    class Linear(Predictor):
        def __init__(self, hidden_size: int, *, contribution_hidden_size: int = 32, activation: str = "gelu") -> None:
            super().__init__(hidden_size)
            self.score = ExactLinear(hidden_size, 1)
            self.reset_parameters()

        def reset_parameters(self) -> None:
            init.zeros_(self.score.weight)
            init.zeros_(self.score.bias)

        def forward(self, hidden: Tensor, row: PackedRow) -> Tensor:
            return self.score(hidden).squeeze(-1)

        @staticmethod
        def cost(hidden_size: int, contribution_hidden_size: int) -> Cost:
            return Cost(token=2 * hidden_size)

    yield Linear


def test_ones_own_is_built_saved_loaded_and_counted(
    registered: type[Predictor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_classifier().save_pretrained(tmp_path / "classifier")
    model = AdapLeRForSequenceClassification.from_backbone(tmp_path / "classifier", predictor="linear")
    assert all(type(one) is registered for one in model.contribution_predictors) and registered.name == "linear"
    nn.init.normal_(model.contribution_predictors[1].score.weight)
    model.save_pretrained(tmp_path / "model")
    again = AdapLeRForSequenceClassification.from_pretrained(tmp_path / "model")
    batch = random_batch([9, 4])
    assert torch.equal(again(**batch).contribution_scores, model(**batch).contribution_scores)
    assert policy_flops(model.config, torch.tensor([3, 5, 4])).tolist() == [3 * 32, 5 * 32, 4 * 32]
    monkeypatch.setattr(contribution.PREDICTORS, "classes", {"mlp": predictor_class("mlp")})
    with pytest.raises(CheckpointError, match=r"model: .*predictor: 'linear' is not one of mlp; ADAPLER_PLUGINS"):
        AdapLeRForSequenceClassification.from_pretrained(tmp_path / "model")


def test_a_name_belongs_to_one_class(registered: type[Predictor]) -> None:
    assert predictor("linear")(registered) is registered  # a cell that runs twice
    with pytest.raises(ArgumentError, match=r"^predictor: 'mlp' is adapler\S+\.ContributionPredictor already$"):
        predictor("mlp")(registered)


def test_an_unknown_name() -> None:
    with pytest.raises(ArgumentError, match="^predictor: 'mpl' is not one of contextual, mlp; "):
        AdapLeRConfig(backbone_config=tiny_classifier().config, predictor="mpl")


def test_a_folder_from_before_there_were_names(tmp_path: Path) -> None:
    model = tiny_adapler()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("predictor") == "mlp"
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = AdapLeRForSequenceClassification.from_pretrained(tmp_path)
    batch = random_batch([9, 4])
    assert again.config.predictor == "mlp" and torch.equal(again(**batch).logits, model(**batch).logits)


def test_a_contextual_model_is_saved_loaded_and_computes_in_other_formats(tmp_path: Path) -> None:
    model, batch = tiny_adapler(predictor="contextual"), random_batch([9, 4])
    model.save_pretrained(tmp_path)
    again = AdapLeRForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.predictor == "contextual"
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    half = AdapLeRForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in half.contribution_predictors.parameters()} == {torch.float32}
    assert half(**batch).contribution_scores.dtype == torch.float32
    for name in ("float32", "bfloat16"):
        scores = model.for_inference(dtype=name)(**batch).contribution_scores
        assert (scores - model(**batch).contribution_scores).abs().max() < 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that the function will move to another package
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    kinds = {type(module).__name__ for module in quantised.contribution_predictors.modules()}
    assert "ExactLinear" in kinds and "Linear" not in kinds


def test_cost_of_the_contextual_predictor_by_hand() -> None:
    """D = 5, H = 3: token 2 (5*3 + 4*3*3 + 3) = 108, sequence 2 * 5*3 = 30."""
    assert predictor_class("contextual").cost(5, 3) == (108, 30)
