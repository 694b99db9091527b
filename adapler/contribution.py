"""Public name of `adapler.model.predictors` and `contribution`: predictors, thresholds, soft and hard removal."""

from adapler.model.contribution import retention, soft_removal, threshold
from adapler.model.predictors import ContributionPredictor, PackedRow, Predictor, predictor

__all__ = ["ContributionPredictor", "PackedRow", "Predictor", "predictor", "retention", "soft_removal", "threshold"]
