"""Experiments on the method itself, each a command that writes a table."""
