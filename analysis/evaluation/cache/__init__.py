"""Values on disk, so that a second look at the same model and the same text runs no model.

store.py         where arrays are kept under a key
fingerprints.py  what a value depends on: source code, libraries, models, texts
entries.py       the values of one window that are kept, and how each is computed
"""

from analysis.evaluation.cache.store import VARIABLE, Arrays, ScoreCache, default_folder

__all__ = ["VARIABLE", "Arrays", "ScoreCache", "default_folder"]
