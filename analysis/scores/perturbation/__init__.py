"""Scoring methods that take tokens away and ask the model again."""
