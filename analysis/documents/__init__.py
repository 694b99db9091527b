"""Documents as a model sees them: corpora, windows, word and wordpiece alignment, units of judgement."""
