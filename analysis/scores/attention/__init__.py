"""Scoring methods that read attention weights, with or without the values they weigh."""
