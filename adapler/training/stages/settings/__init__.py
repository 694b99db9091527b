"""All settings of each command; what several commands share is in `adapler.training.settings`.

From Python, a command is called with its settings:

    from adapler.training.stages.run import run
    from adapler.training.stages.settings import RunSettings, TaskSettings

    run(RunSettings(task=TaskSettings(task="sst2"), model="google-bert/bert-base-uncased", output=Path("runs/sst2")))
"""

from adapler.training.policies.settings import PolicySettings
from adapler.training.settings import Execution, Inference, Objectives, Settings, TaskSettings
from adapler.training.stages.settings.trained import (
    CalibrateSettings,
    CardSettings,
    EvaluateSettings,
    ExportSettings,
    TradeoffSettings,
)
from adapler.training.stages.settings.training import FinetuneSettings, RunSettings, SaliencySettings, TrainSettings
from adapler.training.target_settings import TargetSettings

__all__ = [
    "CalibrateSettings",
    "CardSettings",
    "EvaluateSettings",
    "Execution",
    "Inference",
    "ExportSettings",
    "FinetuneSettings",
    "Objectives",
    "PolicySettings",
    "RunSettings",
    "SaliencySettings",
    "Settings",
    "TargetSettings",
    "TaskSettings",
    "TradeoffSettings",
    "TrainSettings",
]
