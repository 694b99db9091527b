"""Public name of `adapler.model.contribution`: predictors, thresholds, soft and hard removal."""

from adapler.model.contribution import ContributionPredictor, retention, soft_removal, threshold

__all__ = ["ContributionPredictor", "retention", "soft_removal", "threshold"]
