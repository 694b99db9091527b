"""A trained model on whole data sets: outputs, scores, evaluation."""
