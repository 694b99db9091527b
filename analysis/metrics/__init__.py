"""Metrics: pure functions of arrays, validated, undefined cases NaN.

plausibility   average precision, selection at 1/n, FPR, TPR, J
selection      precision, recall, F1, IOU of tokens; top k, ties in the mean
eraser         ERASER's AUPRC, ROC-AUC, IOU F1 and its whole scorer, `eraser_scores`
faithfulness   comprehensiveness, sufficiency, AOPC, leave-one-out
curves         interpolated precision at a grid of recalls
registry       all of them by name: METRICS, `compute`
"""
