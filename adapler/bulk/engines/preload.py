"""Imported by the process that the workers of `adapler predict` are forked from, and by nobody else.

It imports what each worker needs. Then it takes all that lives out of the collector's sight: a collector that runs in a
worker writes into every object that it looks at, and what is written is no longer shared (see `gc.freeze`).
"""

import gc

import adapler.bulk.engines.worker  # noqa: F401

gc.collect()
gc.freeze()
