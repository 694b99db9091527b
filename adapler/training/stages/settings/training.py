"""The settings of the commands that train: finetune, saliency, train, and run, which is all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from adapler.errors import ArgumentError
from adapler.training.policies.settings import ADAPLER, PolicySettings
from adapler.training.settings import (
    Execution,
    Objectives,
    Settings,
    TaskSettings,
    check_choices,
    check_numbers,
    option_name,
)
from adapler.training.stages.settings.shared import NewHead, Resumable, Rounded, one_of
from adapler.training.target_settings import TargetSettings

Start = Literal["pretrained", "finetuned"]
# Of RunSettings: what a classifier that is fine-tuned already has no use for.
OF_FINETUNING = ("finetune_epochs", "finetune_learning_rate", "finetune_packed", "saliency_epochs", "half")


def _check_folders(option: str, values: Sequence[float | None]) -> None:
    """Raises ArgumentError for two models of a run that would go into one folder, which is called after the value."""
    names = ["" if value is None else f"{value:g}" for value in values]
    if len(set(names)) < len(names):
        raise ArgumentError(f"{option}: a value is given twice, to six digits; each has a folder of its own")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(NewHead, Rounded, Resumable):
    """`adapler finetune`."""

    model: str
    """where fine-tuning starts: hub name or folder of a pre-trained encoder, or of a classifier"""

    output: Path
    """folder of the fine-tuned model"""

    packed: bool = False
    """compute a batch's rows end to end, without padding, as token removal does. MPNet's biases by relative position
    then stay as they are"""

    task: TaskSettings
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, kw_only=True)
class SaliencySettings:
    """`adapler saliency`."""

    finetuned: Path | None = None
    """what `adapler finetune` wrote"""

    model: str | None = None
    """instead, a classifier fine-tuned elsewhere: hub name or folder"""

    output: Path
    """folder of the saliency targets"""

    epochs: int = 3
    """how many of the best fine-tuning epochs to average"""

    task: TaskSettings
    targets: TargetSettings = field(default_factory=TargetSettings)
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        one_of(self, "finetuned", "model")
        check_numbers(self, ("epochs",), low=1)
        self.check_given(["epochs"] if self.epochs != type(self).epochs else [])

    def check_given(self, names: Iterable[str]) -> None:
        """Refuse what is not read beside --model, see `RunSettings.check_given`."""
        if self.model is not None and "epochs" in names:
            raise ArgumentError("--epochs: of the fine-tuning in --finetuned; --model is one classifier")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(NewHead, Resumable):
    """`adapler train`."""

    finetuned: Path | None = None
    """what `adapler finetune` wrote: the start, and the reference score"""

    model: str | None = None
    """where training starts instead: the pre-trained encoder, as in the paper, a classifier fine-tuned elsewhere, or an
    AdapLeR model, which is trained further (hub name or folder)"""

    reference_score: float | None = None
    """validation score of the fine-tuned classifier, between 0 and 1 (default: the best one in --finetuned, measured
    anew where it was of other rows or other parts of them; or that of the classifier in --model, measured)"""

    saliency: Path
    """what `adapler saliency` wrote"""

    output: Path
    """folder of the trained model"""

    keep_epochs: bool = False
    """keep every epoch's checkpoint"""

    task: TaskSettings
    settings: Settings = field(default_factory=Settings)
    objectives: Objectives = field(default_factory=Objectives)

    def __post_init__(self) -> None:
        if self.model is None and self.finetuned is None:
            raise ArgumentError("--model: needed when --finetuned is not given")
        if self.reference_score is not None and not 0 <= self.reference_score <= 1:
            raise ArgumentError(f"--reference-score: {self.reference_score} is not between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class RunSettings(NewHead, Rounded):
    """`adapler run`: all stages. Several `objectives` give a trade-off."""

    model: str | None = None
    """pre-trained encoder: hub name or folder"""

    classifier: str | None = None
    """instead, a classifier fine-tuned already: hub name or folder"""

    output: Path
    """run folder; a run that was stopped goes on there"""

    start: Start | None = None
    """which weights the backbone has when the training of what drops tokens starts (default: pretrained, as in the
    paper; with another --policy, finetuned)"""

    finetune_epochs: int | None = None
    """epochs of fine-tuning (default: --epochs, or --max-steps)"""

    finetune_learning_rate: float | None = None
    """learning rate of fine-tuning (default: --learning-rate)"""

    finetune_packed: bool = False
    """fine-tune on packed rows, as `adapler finetune --packed` does"""

    saliency_epochs: int = 3
    """how many of the best fine-tuning epochs to average"""

    task: TaskSettings
    targets: TargetSettings = field(default_factory=TargetSettings)
    settings: Settings = field(default_factory=Settings)
    objectives: tuple[Objectives, ...] = field(default_factory=lambda: (Objectives(),))
    policies: tuple[PolicySettings, ...] = field(default_factory=lambda: (PolicySettings(),))

    def __post_init__(self) -> None:
        one_of(self, "model", "classifier")
        self._check_policies()
        self.check_given(self._changed())
        self._check_classifier()
        check_numbers(self, ("finetune_epochs", "saliency_epochs"), low=1)
        check_numbers(self, ("finetune_learning_rate",), low=0, strict=True)
        check_choices(self, start=Start)
        if not self.objectives:
            raise ArgumentError("--phi: no value is given")
        phis = {objectives.phi for objectives in self.objectives}
        targets = {objectives.target_speedup for objectives in self.objectives}
        if len(phis) > 1 and targets != {None}:
            raise ArgumentError("--phi: one value only with --target-speedup, which starts from it and changes it")
        budget = "phi" if targets == {None} else "target_speedup"
        _check_folders(option_name(budget), [getattr(one, budget) for one in self.objectives])

    def check_given(self, names: Iterable[str]) -> None:
        """Refuse what this run would not read.

        Args:
            names: of settings that somebody gave, those whose value is the default too.

        Raises:
            ArgumentError: for the first of them that is not read.
        """
        of_adapler = {one.name for cls in (Objectives, TargetSettings) for one in fields(cls)} - {"max_drop"}
        of_policies = {one.name for one in fields(PolicySettings)} - {"policy"}
        for name in names:
            if self.classifier is not None and name in OF_FINETUNING:
                raise ArgumentError(f"{option_name(name)}: not with --classifier, which is fine-tuned already")
            if self.other_policy and name in {*of_adapler, "saliency_epochs"}:
                raise ArgumentError(f"{option_name(name)}: only with --policy {ADAPLER}")
            if not self.other_policy and name in of_policies:
                raise ArgumentError(f"{option_name(name)}: not of --policy {ADAPLER}, whose budget is --phi")

    def _changed(self) -> list[str]:
        """Names of the settings, and of those in groups, that are not their defaults."""
        groups: tuple[Any, ...] = (self, self.targets, *self.objectives[:1], self.policies[0])
        return [one.name for group in groups for one in fields(group) if getattr(group, one.name) != one.default]

    def _check_classifier(self) -> None:
        """Raises ArgumentError for a start that a fine-tuned classifier does not have."""
        if self.classifier is not None and self.reinit_head == "yes":
            raise ArgumentError("--reinit-head: yes, but --classifier keeps its head")
        frozen = any(one.freeze_backbone for one in self.objectives)
        if self.start == "pretrained" and (frozen or self.classifier is not None):
            name = "--freeze-backbone" if frozen else "--classifier"
            raise ArgumentError(f"--start: pretrained, but {name} starts from the fine-tuned classifier")

    def _check_policies(self) -> None:
        names = {one.policy for one in self.policies}
        if len(names) != 1:
            raise ArgumentError(f"--policy: one at a time, {', '.join(sorted(names)) or 'none'} given")
        budget = "policy_weight" if self.policies[0].keep is None else "keep"
        _check_folders(option_name(budget), [getattr(one, budget) for one in self.policies])
        if not self.other_policy:
            return
        if len(self.objectives) > 1:
            budget = "phi" if self.objectives[0].target_speedup is None else "target_speedup"
            raise ArgumentError(f"{option_name(budget)}: several values only with --policy {ADAPLER}")
        if self.classifier is None and self.finetune_epochs is None:
            return
        # Nothing is left of fine-tuning that --epochs or --max-steps could say.
        done = "which --finetune-epochs says" if self.classifier is None else "and --classifier is fine-tuned already"
        if self.settings.epochs != Settings.epochs:
            raise ArgumentError(f"--epochs: of fine-tuning, {done}; give --policy-epochs")
        if self.settings.max_steps is not None and self.policies[0].policy_epochs is not None:
            raise ArgumentError(f"--max-steps: of fine-tuning, {done}, and of stages, which --policy-epochs says")

    @property
    def other_policy(self) -> bool:
        """Whether it is about another policy than AdapLeR's."""
        return self.policies[0].policy != ADAPLER

    @property
    def starts_from(self) -> Start:
        """`start`, or its default."""
        return self.start or ("finetuned" if self.other_policy else "pretrained")

    def finetuning(self) -> Settings:
        """The settings of fine-tuning."""
        changes = {"epochs": self.finetune_epochs, "learning_rate": self.finetune_learning_rate}
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        if self.finetune_epochs is not None:
            given["max_steps"] = None  # which would take their place
        return replace(self.settings, **given)
