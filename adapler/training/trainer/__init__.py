"""The trainer of AdapLeR, from leaf to whole.

parameters has the groups of parameters, each with a rate and a norm of its own; guards stops a training that broke.
distillation has the teacher, where there is one. step has the losses of a batch and the gradients of the thresholds;
base evaluates in the number format of inference, and evaluation has the metrics of an epoch. checkpoints saves and
loads what training goes on from; trainer puts them together.
"""

from adapler.training.trainer.base import StageTrainer
from adapler.training.trainer.guards import StopWhenNotFinite, true_everywhere
from adapler.training.trainer.trainer import AdapLeRTrainer

__all__ = ["AdapLeRTrainer", "StageTrainer", "StopWhenNotFinite", "true_everywhere"]
