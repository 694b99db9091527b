"""Metrics: pure functions of arrays, validated, undefined cases NaN."""
