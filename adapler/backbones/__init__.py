"""Plain transformers classifiers: what AdapLeR is built on.

sources and weights find a model and refuse a damaged one; checkpoints loads it; families knows each architecture.
attention and packing run its layers on what is left of a batch; saliency and targets take gradients of its logits.
"""
