"""Scoring methods that read gradients."""
