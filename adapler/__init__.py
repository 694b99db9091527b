"""AdapLeR: transformers classifiers that drop tokens layer by layer (Modarressi et al., ACL 2022).

What happens to an input, in which file:

1. A row of a task (data/tasks), a document (data/eraser) or a text becomes token ids: data/encoding.
2. A backbone embeds them, and its layers run one by one: backbones/families.
3. Before each layer a Contribution Predictor, or another policy, scores the tokens left: model/predictors, policies.
4. Tokens below eta / n are dropped (inference) or masked softly (training): model/contribution, model/passes.
5. What is left of a batch is one packed row without padding: backbones/packing, backbones/attention.
6. The backbone's own head classifies [CLS]; the whole model is model/modeling, its FLOPs model/flops.
7. A split goes through in batches by length: model/prediction, inference/predict, inference/evaluation; a file: bulk.
8. A training set gets targets of a fine-tuned classifier: backbones/attribution, training/stages/saliency, targets.
9. Two losses, each for its own parameters, train the model: training/losses, training/trainer, training/selection.
10. Settings, declared once, are options and recipes too: training/settings, training/recipes, cli/parser.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapler.errors import AdapLeRError, ArgumentError, CheckpointError, DataError, TrainingError

if TYPE_CHECKING:
    from adapler.model.configuration import AdapLeRConfig
    from adapler.model.modeling import AdapLeRForSequenceClassification
    from adapler.model.outputs import AdapLeROutput

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
    "AdapLeRConfig": "adapler.model.configuration",
    "AdapLeRForSequenceClassification": "adapler.model.modeling",
    "AdapLeROutput": "adapler.model.outputs",
}


def __getattr__(name: str) -> Any:
    """The model's classes, imported when they are asked for."""
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
    import_module("adapler.pipeline")
