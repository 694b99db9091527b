"""Run by torchrun in test_distributed: one step over a global batch of 8; rank 0 writes the gradients."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.utils.data import SequentialSampler
from transformers import BertTokenizerFast, TrainerCallback

from adapler.training.trainer import StageTrainer
from tests.adapler.training.common import no_dropout, trainer
from tests.conftest import tiny_adapler


class Keep(TrainerCallback):
    def __init__(self, target: Path) -> None:
        self.target = target

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:  # type: ignore[no-untyped-def]
        if state.is_world_process_zero and not self.target.exists():
            core = getattr(model, "module", model)
            torch.save({name: p.grad for name, p in core.named_parameters() if p.grad is not None}, self.target)


def main() -> None:
    folder, tokenizer, per_device = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    StageTrainer._get_train_sampler = lambda self, *args: SequentialSampler(self.train_dataset)  # type: ignore
    one = trainer(
        folder / "out",
        BertTokenizerFast.from_pretrained(tokenizer),
        model=no_dropout(tiny_adapler(eta=0.5)),
        settings={"batch_size": per_device, "epochs": 3},
    )
    one.args.max_grad_norm = 1e9
    one.add_callback(Keep(folder / "gradients.pt"))
    one.train()


if __name__ == "__main__":
    main()
