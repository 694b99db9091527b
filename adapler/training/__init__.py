"""Training: `pipeline` has its four stages, finetune -> targets -> train -> evaluate.

config has the options of the commands; data loads and encodes a task, and computes what Contribution Predictors learn;
trainer trains one stage of any policy (their losses are in `adapler.policies`); records has what a run leaves.
"""
