"""Options and printed lines of `python -m analysis.rationale_eval`."""
