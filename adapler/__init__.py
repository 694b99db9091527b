"""AdapLeR: transformers classifiers that drop tokens layer by layer (Modarressi et al., ACL 2022)."""

from adapler.errors import AdapLeRError, ArgumentError, CheckpointError, DataError, TrainingError
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
