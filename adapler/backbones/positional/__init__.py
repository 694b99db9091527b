"""Families whose layers need positions, and the attention that they share."""
