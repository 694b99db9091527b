"""Contribution Predictors, by name: what scores the tokens of a packed row before each layer.

row is what a predictor may see beside the tokens' states; registry holds the predictors and what each costs.
mlp is the paper's, contextual ours. `config.predictor` names the one of a model.
"""

from adapler.model.predictors.contextual import ContextualPredictor
from adapler.model.predictors.mlp import ContributionPredictor, ExactLinear
from adapler.model.predictors.registry import Cost, Predictor, predictor, predictor_class, predictor_names
from adapler.model.predictors.row import PackedRow

__all__ = [
    "ContextualPredictor",
    "ContributionPredictor",
    "Cost",
    "ExactLinear",
    "PackedRow",
    "Predictor",
    "predictor",
    "predictor_class",
    "predictor_names",
]
