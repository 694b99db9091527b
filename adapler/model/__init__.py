"""AdapLeR itself.

modeling holds the model; arguments and loading check what it is given. predictors has what scores the tokens,
contribution the thresholds; passes has the two ways through the layers, soft and hard. prediction and batching take
texts; flops counts.
"""
