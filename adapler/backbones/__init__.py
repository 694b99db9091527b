"""Plain transformers classifiers: what AdapLeR is built on.

families has the kinds of encoder, attention works on rows without padding, decomposition computes what each token
contributes to a logit.
"""
