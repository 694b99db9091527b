"""Models run for the page: one text traced, methods compared, time measured."""
