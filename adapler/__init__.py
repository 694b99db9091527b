"""AdapLeR: transformers classifiers that drop tokens layer by layer (Modarressi et al., ACL 2022).

1. A row of a task, a document or a text becomes token ids: text, data, eraser.
2. A backbone embeds them, and its layers run one by one: backbones.
3. Before each layer a Contribution Predictor, or another policy, scores the tokens left: contribution, policies.
4. Tokens below eta / n are dropped (inference) or masked softly (training): contribution, passes.
5. The tokens left of a batch are one packed row without padding: backbones.attention.
6. The backbone's own head classifies [CLS]; the whole model is modeling, its FLOPs flops.
7. Texts go through in batches of similar length: inference.
8. A training set gets targets of a fine-tuned classifier (backbones.decomposition); two losses, each for its own
   parameters, train the model: training.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapler.errors import AdapLeRError, ArgumentError, CheckpointError, DataError, TrainingError

if TYPE_CHECKING:
    from adapler.modeling import AdapLeRConfig, AdapLeRForSequenceClassification
    from adapler.passes import AdapLeROutput

__version__ = "0.1.0"
__all__ = [
    "AdapLeRConfig",
    "AdapLeRError",
    "AdapLeRForSequenceClassification",
    "AdapLeROutput",
    "ArgumentError",
    "CheckpointError",
    "DataError",
    "TrainingError",
    "__version__",
]

_HOMES = {
    "AdapLeRConfig": "adapler.modeling",
    "AdapLeRForSequenceClassification": "adapler.modeling",
    "AdapLeROutput": "adapler.passes",
}


def __getattr__(name: str) -> Any:
    """The model's classes, imported on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _is_the_command() -> bool:
    """Whether Python was started as `adapler ...` or `python -m adapler ...`."""
    words = sys.orig_argv
    started = sys.argv[0] == "-m" and ("-m", "adapler") in zip(words, words[1:], strict=False)  # not a script's own -m
    return started or Path(sys.argv[0]).stem == "adapler"


# transformers' Auto classes and `pipeline` know AdapLeR after `import adapler`, which loads torch and transformers. The
# command does without, so that `adapler --help` answers at once; it imports the model when it needs it.
if not _is_the_command():
    import_module("adapler.modeling")
