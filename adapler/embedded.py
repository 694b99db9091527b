"""The checkpoint and the sample corpus that come with the package: in a clone at their place, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PLACES = {  # in a clone, in the package that `pip install` makes (setup.py copies them there)
    "checkpoint": ("checkpoints/movies-minilm", "adapler/_embedded/movies-minilm"),
    "sample": ("data/eraser/sample", "adapler/_embedded/sample"),
}


def embedded(name: str) -> Path:
    """The folder of the embedded "checkpoint" or of the "sample" corpus."""
    clone, package = _PLACES[name]
    return _ROOT / clone if (_ROOT / clone).is_dir() else _ROOT / package


CHECKPOINT, SAMPLE = embedded("checkpoint"), embedded("sample")
