"""What makes Contribution Predictors rank rationales: what they see, and their training target, one pair at a time.

    python -m analysis.studies.contribution_targets --data data/eraser/movies --output results/contribution-targets

Predictors alone, on the frozen states of a fine-tuned classifier and without any removal, so that nothing but predictor
and target differs: each layer's predictor is trained by KL(target || scores) on the training split, and its average
precision is measured on another split (validation, unless asked otherwise), beside saliency itself and beside
predictors that were trained on the human rationales, which shows what predictors of this size can rank at best.

documents has states and targets of every document, learning trains the predictors, comparison measures and tests them.
"""
