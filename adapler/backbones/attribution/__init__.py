"""What each token is worth to a classifier: what training targets are made of, and the analysis uses too.

saliency is the paper's. twin makes a copy that gradients can be read from; detached decomposes the output with the
non-linear parts held constant; attention multiplies attention by its gradient. relevance puts them under one name.
modes keeps a model in evaluation mode meanwhile, for several threads at one time.
"""
