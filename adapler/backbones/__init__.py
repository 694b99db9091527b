"""Plain transformers classifiers: their families, their weights, their attention, their gradients."""
