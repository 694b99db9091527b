"""A trained model on whole data sets.

predict gives the logits and kept tokens of encoded rows; metrics turns logits into scores; evaluation compares modes;
pipeline is what transformers' `pipeline("text-classification")` makes.
"""
