"""The end of a training: its folder becomes a finished one, whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from adapler.files import replacing
from adapler.training.records import CARD, RECORD, write_record
from adapler.training.resume import EPOCHS, STAGE
from adapler.training.schedule import CONTROLLER_STATE

# What only the next step of a training needs: not the weights.
STATES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "scaler.pt", "training_args.bin", STAGE, CONTROLLER_STATE)
# Those of another model do not stay beside the new one.
REPLACED = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "run.json"),
    "evaluation*.json",
)


def finish_stage(
    model: Any, tokenizer: Any, output: Path, *, record: Mapping[str, Any], keep_epochs: bool, keep_states: bool = False
) -> None:
    """Put model, tokenizer and run.json in the place of `output`, all at once, so no two models are ever mixed.

    Args:
        model, tokenizer: with `save_pretrained`.
        output: the folder. What else it holds stays, but for the files of a model that was there before.
        record: for run.json.
        keep_epochs: whether the checkpoints stay.
        keep_states: whether the optimiser's and the random generators' states in them stay too.
    """
    output = output.resolve()  # of a link, what it leads to is replaced
    if (output / CARD).exists():
        print(f"note: {output / CARD} stays, and may be of a model that was there before", file=sys.stderr)
    with replacing(output) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        for path in sorted(output.rglob("*")):
            name = path.relative_to(output)
            of_epochs = name.parts[0] == EPOCHS
            if path.is_dir() and not path.is_symlink() or (partial / name).exists():
                continue
            if of_epochs and not keep_epochs:
                continue
            if of_epochs and not keep_states and any(fnmatch(path.name, pattern) for pattern in STATES):
                continue
            if len(name.parts) == 1 and any(fnmatch(path.name, pattern) for pattern in REPLACED):
                continue
            _link(path, partial / name)
        write_record(partial / RECORD, record)  # last: a folder with it is whole


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, without a copy where the file system can do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
