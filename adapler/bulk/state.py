"""What decides the bytes of an output, so that a run goes on only where it would write the same."""

from __future__ import annotations

from fnmatch import fnmatch
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adapler.bulk.job import Hello, Job
from adapler.bulk.reading import SHARD_CHARACTERS
from adapler.bulk.settings import PredictSettings
from adapler.files import sha256_of

__all__ = ["state_of"]

# `adapler run`, `evaluate` and `calibrate` write them beside a model. What run.json and calibration.json give,
# defaults, is in the state.
_NOT_OF_THE_MODEL = ("run.json", "calibration.json", "trainer_state.json", "evaluation*.json")


def state_of(job: Job, hello: Hello, settings: PredictSettings) -> dict[str, Any]:
    """All that decides the output's bytes, beside the rows themselves."""
    files = settings.files
    return {
        "model": _fingerprint(job.model),
        "removal": job.removal,
        "threshold_scale": job.threshold_scale,
        "max_length": job.encoding.max_length,
        "long_documents": job.encoding.long_documents,
        "stride": job.encoding.stride,
        "device": hello.device,
        "dtype": hello.dtype,
        "format": job.format,
        "output_columns": list(job.columns),
        "keep": list(files.keep),
        "columns": {"text": files.text_column, "pair": files.pair_column, "id": files.id_column},
        "types": job.types,
        "id_type": job.id_type,
        "shard_rows": settings.work.shard_rows,
        "shard_characters": SHARD_CHARACTERS,
        "versions": {name: version(name) for name in ("adapler", "torch", "transformers", "tokenizers", "pyarrow")},
    }


def _fingerprint(model: str) -> str:
    """sha256 over a model's configuration, weights and tokenizer: every file that its results come from."""
    folder = Path(model)
    if not folder.is_dir():
        from transformers.utils import cached_file

        folder = Path(str(cached_file(model, "config.json"))).parent
    parts = []
    for path in sorted(folder.iterdir()):
        known = path.suffix in (".json", ".safetensors", ".txt", ".model")
        if known and not any(fnmatch(path.name, name) for name in _NOT_OF_THE_MODEL):
            parts.append(f"{path.name} {sha256_of(path)}\n")
    return sha256("".join(parts).encode()).hexdigest()
